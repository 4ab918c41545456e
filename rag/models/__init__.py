"""Find, load and run embedding and language models by name.

Prompts, and the choice of the model that answers, belong in `rag.answering`.
"""
