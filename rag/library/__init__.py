"""Storage: the papers in SQLite (primary store) and the vector index derived from them.

Parsing of source files and ranking of search results live elsewhere.
"""
