"""Check whether a generated sentence is supported by the quotations it cites.

Generating sentences, and replacing unsupported ones, belongs in `rag.answering`.
"""
