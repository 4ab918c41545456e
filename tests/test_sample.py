"""The sample library: real titles, our own words."""

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


def test_there_are_enough_papers_with_titles_and_digests_only():
    assert len(ROWS) >= 150
    assert len({row["title"] for row in ROWS}) == len(ROWS)
    assert all(set(row) == {"title", "abstract"} for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row["title"][:40] for row in ROWS])
def test_a_digest_has_the_length_of_one(row):
    assert 70 <= len(row["abstract"].split()) <= 130


def runs(text, length=8):
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[n : n + length]) for n in range(len(words) - length + 1)}


def test_no_sentence_of_an_abstract_was_copied():
    pages = sorted((SHARED / "seeds").glob("*.txt"))
    if not pages:
        pytest.skip("the listing pages that the titles come from are not on this machine")
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    abstracts = set().union(*(runs(line) for line in lines if len(line) > 300))
    titles = {line.strip().removeprefix("Subscribe") for line in lines}
    for row in ROWS:
        assert not runs(row["abstract"]) & abstracts, row["title"]
        assert row["title"] in titles


def test_the_sample_library_holds_the_sample_papers_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path))
    monkeypatch.setattr("rag.assistant.load_embedder", lambda name: HashEmbedder())
    stranger = tmp_path / "stranger.jsonl"
    stranger.write_text(
        json.dumps({"title": "Otters at Night", "abstract": "Otters hold hands while they sleep."})
    )
    Assistant.sample().add(stranger)
    assert {paper.title for paper in Assistant.sample().papers()} == {row["title"] for row in ROWS}
