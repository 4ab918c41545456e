"""Adapters between Footnote and other libraries, each imported only when it is used.

Formats of files belong to `rag.ingest.sources` and `rag.output`.
"""
