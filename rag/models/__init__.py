"""Find, load and run embedding, language and NLI models by name.

Prompts, and the choice of the model that answers, belong in `rag.answering`.
"""
