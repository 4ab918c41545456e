"""Scripts that fit the models and coefficients in `rag`; `eval.benchmarks` measures them."""
