"""Source files: one module per format, `registry` that lists them, `source` that opens files.

Parsers yield raw records; what makes a valid paper is decided in `common.raw_record` alone.
"""
