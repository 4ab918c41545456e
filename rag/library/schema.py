"""Tables of the primary store, and the conversion of papers and vectors to rows and back."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from rag.models.vectors import Vectors
from rag.records import Paper, Passage
from rag.text.cleaning import title_key

SCHEMA_VERSION = 1
DATABASE = "library.sqlite"
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE paper (
    key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL, title_key TEXT NOT NULL, abstract TEXT NOT NULL, authors TEXT NOT NULL,
    year INTEGER, venue TEXT NOT NULL, url TEXT NOT NULL,
    doi TEXT NOT NULL, arxiv_id TEXT NOT NULL, pmid TEXT NOT NULL, source TEXT NOT NULL,
    retracted INTEGER NOT NULL, content_hash TEXT NOT NULL, added_at TEXT NOT NULL
);
CREATE INDEX paper_title_key ON paper (title_key);
CREATE TABLE identifier (
    name TEXT PRIMARY KEY, paper INTEGER NOT NULL REFERENCES paper (key) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX identifier_paper ON identifier (paper);
CREATE TABLE provenance (
    record_hash TEXT NOT NULL, source TEXT NOT NULL,
    paper INTEGER NOT NULL REFERENCES paper (key) ON DELETE CASCADE, record INTEGER NOT NULL,
    PRIMARY KEY (record_hash, source, paper)
) WITHOUT ROWID;
CREATE INDEX provenance_paper ON provenance (paper);
CREATE TABLE passage (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    paper INTEGER NOT NULL REFERENCES paper (key) ON DELETE CASCADE,
    start INTEGER NOT NULL, "end" INTEGER NOT NULL,
    vector BLOB NOT NULL, indexed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX passage_paper ON passage (paper);
CREATE INDEX passage_pending ON passage (key) WHERE indexed = 0;
CREATE TABLE sentences (
    paper INTEGER PRIMARY KEY REFERENCES paper (key) ON DELETE CASCADE,
    spans TEXT NOT NULL, vectors BLOB NOT NULL
);
CREATE TABLE removed_passage (key INTEGER PRIMARY KEY);
CREATE TRIGGER passage_removed AFTER DELETE ON passage BEGIN
    INSERT OR IGNORE INTO removed_passage VALUES (old.key);
END;
"""
FULL_TEXT = (
    "CREATE VIRTUAL TABLE full_text USING fts5 "
    '(title, abstract, tokenize = "unicode61 remove_diacritics 0")',
    "CREATE VIRTUAL TABLE full_text_terms USING fts5vocab (full_text, row)",
)
# Columns that `paper_from_row` reads.
PAPER_COLUMNS = (
    "key, id, title, abstract, authors, year, venue, url, doi, arxiv_id, pmid, source, retracted"
)
# Columns that `paper_row` fills.
WRITTEN_COLUMNS = (
    "id, title, title_key, abstract, authors, year, venue, url, "
    "doi, arxiv_id, pmid, source, retracted"
)


def paper_row(paper: Paper) -> tuple[Any, ...]:
    """Return a paper as the values of `WRITTEN_COLUMNS`."""
    return (
        paper.id,
        paper.title,
        title_key(paper.title),
        paper.abstract,
        json.dumps(paper.authors, ensure_ascii=False),
        paper.year,
        paper.venue,
        paper.url,
        paper.doi,
        paper.arxiv_id,
        paper.pmid,
        paper.source,
        int(paper.retracted),
    )


def paper_from_row(row: tuple[Any, ...]) -> Paper:
    """Return the paper in a row of `PAPER_COLUMNS`."""
    columns = dict(zip(PAPER_COLUMNS.split(", "), row, strict=True))
    del columns["key"]
    columns["authors"] = _parse_authors(columns["authors"])
    columns["retracted"] = bool(columns["retracted"])
    return Paper(**columns)


def _parse_authors(text: str) -> tuple[str, ...]:
    """Parse the authors; return damaged JSON as it is, which `footnote doctor` then reports."""
    try:
        return tuple(map(str, json.loads(text)))
    except (ValueError, TypeError):
        return (text,)


def make_passage(paper_id: str, start: int, end: int) -> Passage:
    """Return the passage at a span of a paper's abstract; paper and span determine its id."""
    return Passage(f"{paper_id}:{start}-{end}", paper_id, start, end)


def to_blob(vectors: Vectors) -> bytes:
    """Encode vectors in half precision, which halves their size and changed no measured ranking."""
    return vectors.astype(np.float16).tobytes()


def from_blob(blob: bytes, count: int) -> Vectors:
    """Return the `count` vectors in a blob, (count, dimension)."""
    return np.frombuffer(blob, np.float16).reshape(count, -1 if count else 0).astype(np.float32)


def json_keys(keys: Iterable[int]) -> str:
    """Encode row numbers as one bound value, as SQLite binds at most 32,766 values."""
    return json.dumps(list(map(int, keys)))
