"""Source files: a module per format, `registry`, which lists them, and `source`, which opens files.

Parsers only yield raw records. Rules for valid papers belong in `common.raw_record`.
"""
