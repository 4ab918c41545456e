"""Checks whether a generated sentence is supported by the quotations it cites, and nothing else."""
