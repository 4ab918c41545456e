"""Measuring: benchmarks of retrieval, reading, abstention and start-up.

Each runs as `python -m eval.NAME` and prints its table. It knows only the public names of `rag`.
"""
