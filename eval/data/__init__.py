"""Data of the evaluation: curated questions, prompt injections and the baseline of the gate.

No code, and no public collections: those are looked up in `FOOTNOTE_DATA`.
"""
