"""Sample papers: real titles, and summaries written for this project."""

import json
import os
import re
from pathlib import Path

import pytest
from fakes import HashEmbedder

from rag import Assistant
from rag.ingest.sample import sample_file

SHARED = Path(os.environ.get("FOOTNOTE_SHARED") or Path(__file__).parent.parent.parent / "shared")
ROWS = [json.loads(line) for line in sample_file().read_text(encoding="utf-8").splitlines()]


def test_sample_has_unique_titles_and_no_other_metadata():
    assert len(ROWS) >= 150
    assert len({row["title"] for row in ROWS}) == len(ROWS)
    assert all(set(row) == {"title", "abstract"} for row in ROWS)


def test_summaries_have_the_length_of_abstracts():
    lengths = [len(row["abstract"].split()) for row in ROWS]
    assert 70 <= min(lengths) <= max(lengths) <= 130


def word_runs(text, length=8):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[n : n + length]) for n in range(len(words) - length + 1)}


def test_summaries_copy_no_abstract():
    pages = sorted((SHARED / "seeds").glob("*.txt"))
    if not pages:
        pytest.skip("the listing pages with the original abstracts are not on this machine")
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    abstracts = set().union(*(word_runs(line) for line in lines if len(line) > 300))
    titles = {line.strip().removeprefix("Subscribe") for line in lines}
    for row in ROWS:
        assert not word_runs(row["abstract"]) & abstracts, row["title"]
        assert row["title"] in titles


def test_sample_library_contains_only_the_sample(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))
    monkeypatch.setattr("rag.assistant.load_embedder", lambda name: HashEmbedder())
    other_paper = tmp_path / "other.jsonl"
    other_paper.write_text(
        json.dumps({"title": "Otters at Night", "abstract": "Otters hold hands while they sleep."})
    )
    Assistant.sample().add(other_paper)
    assert {paper.title for paper in Assistant.sample().papers()} == {row["title"] for row in ROWS}
