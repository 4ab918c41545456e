"""Stand-alone benchmarks: one module each, run as `python -m eval.benchmarks.NAME`.

`common`, `collections` and `tables` hold what several of them share. Whatever fits a model belongs
in `eval.training`.
"""
