"""The sample library: true titles of papers on machine learning, each with a digest in our own words."""

from pathlib import Path


def sample_file() -> Path:
    """The sample papers as JSON Lines: `title` and `abstract`; authors and years are unknown and left out."""
    return Path(__file__).parent / "papers.jsonl"
