"""Import of papers: parsing source files, chunking abstracts, embedding and adding them.

Storage, and the rules for when two records are the same paper, belong in `rag.library`.
"""
