"""Weights of the reader; `README.md` is its model card."""
