"""Import of papers: parsing source files, chunking abstracts, and adding both to a library.

Storage, and the decision which records are one paper, belong in `rag.library`.
"""
