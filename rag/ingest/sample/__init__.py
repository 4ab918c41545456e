"""Sample papers: real titles of papers on machine learning, with summaries written for Footnote."""

from pathlib import Path


def sample_file() -> Path:
    """Return the path of the sample papers, JSON Lines with `title` and `abstract` only."""
    return Path(__file__).parent / "papers.jsonl"
