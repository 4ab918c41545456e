"""Evaluation of answers: questions, systems, metrics, runs, comparisons and reports.

Benchmarks of single parts, which are scripts of their own, belong in `eval.benchmarks`.
"""
