"""Turn retrieved papers into an answer: evidence, generation, conversations, the pipeline.

Retrieval and verification have their own packages; rendering an answer belongs in `rag.output`.
"""
