"""Command line `footnote`: parse options, call the assistant, print. No logic of its own.

Modules that need models or databases are imported inside the commands, so that `--help` is fast.
"""
