"""Scripts that fit the models and coefficients that `rag` ships.

Measuring the fitted models belongs in `eval.benchmarks`.
"""
