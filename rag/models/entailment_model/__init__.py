"""Weights of the entailment model; `README.md` is its model card."""
