"""Turn a question into ranked papers: query analysis, typo correction, retrieval.

Choosing sentences from those papers belongs in `rag.answering`.
"""
