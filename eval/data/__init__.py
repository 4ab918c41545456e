"""Data that the evaluation ships: curated questions, injections, the baseline of the gate."""
