"""Models: from a name to an embedder or a language model that runs.

Prompts, and the decision which model answers, belong in `rag.answering`.
"""
