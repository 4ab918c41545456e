"""Everything between retrieved papers and the answer: evidence, generation, conversation, pipeline.

Retrieval and verification have packages of their own; rendering an answer belongs in `rag.output`.
"""
