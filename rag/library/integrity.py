"""Whether the truth agrees with itself: SQLite vouches for the form of its file, not for what stands in it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.library.dedup import identifiers, record_hash
from rag.library.schema import PAPER_COLUMNS, from_blob, json_keys, paper_of
from rag.records import Paper
from rag.text.sentences import split_sentences
from rag.text.terms import index_text

Rows = Callable[..., list[tuple[Any, ...]]]
_AT_ONCE = 500
# How far the length of a stored vector may be from 1: half precision is off by less than a thousandth.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What does not agree. `texts` are ids of papers that no longer say what they said when they were written.

    `vectors` and `full_text` are row numbers of papers whose passages, sentences or words are missing or wrong;
    `notes`: the digest or an identifier is.
    """

    texts: tuple[str, ...]
    vectors: tuple[int, ...]
    full_text: tuple[int, ...]
    notes: bool


def check_integrity(rows: Rows) -> IntegrityReport:
    """Read everything once, some hundred papers at a time. `rows` runs a query inside one reading."""
    texts: list[str] = []
    vectors: list[int] = []
    full_text: list[int] = []
    notes, digest, size = False, 0, _vector_bytes(rows)
    names = {name for (name,) in rows("SELECT name FROM identifier")}
    for papers in _papers(rows):
        words = _words(rows, papers)
        sound = _with_sound_vectors(rows, papers, size)
        for key, (paper, content_hash) in papers.items():
            digest += int(content_hash or "0", 16)
            notes = notes or not names.issuperset(identifiers(paper).values())
            if record_hash(paper) != content_hash:
                texts.append(paper.id)
            if words.get(key) != (index_text(paper.title), index_text(paper.abstract)):
                full_text.append(key)
            if key not in sound:
                vectors.append(key)
    surplus = rows("SELECT rowid FROM full_text WHERE rowid NOT IN (SELECT key FROM paper)")
    full_text += [row[0] for row in surplus]
    noted = rows("SELECT value FROM meta WHERE name = 'digest'")
    notes = notes or noted != [(str(digest % 2**128),)]
    return IntegrityReport(tuple(texts), tuple(vectors), tuple(full_text), notes)


def _papers(rows: Rows) -> Iterator[dict[int, tuple[Paper, str]]]:
    last = -1
    query = f"SELECT {PAPER_COLUMNS}, content_hash FROM paper WHERE key > ? ORDER BY key LIMIT {_AT_ONCE}"
    while found := rows(query, (last,)):
        yield {row[0]: (paper_of(row[:-1]), row[-1]) for row in found}
        last = found[-1][0]


def _words(rows: Rows, papers: dict[int, tuple[Paper, str]]) -> dict[int, tuple[str, str]]:
    query = "SELECT rowid, title, abstract FROM full_text WHERE rowid IN (SELECT value FROM json_each(?))"
    return {key: (title, abstract) for key, title, abstract in rows(query, (json_keys(papers),))}


def _vector_bytes(rows: Rows) -> int:
    """The size of a vector: that of most passages."""
    found = rows("SELECT length(vector) FROM passage GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    return int(found[0][0]) if found else 0


def _with_sound_vectors(rows: Rows, papers: dict[int, tuple[Paper, str]], size: int) -> set[int]:
    """Those of the papers whose passages and sentences lie in the abstract and have unit vectors of that size."""
    keys = (json_keys(papers),)
    query = 'SELECT paper, start, "end", vector FROM passage WHERE paper IN (SELECT value FROM json_each(?))'
    passages: dict[int, list[tuple[int, int]]] = {}
    bad: set[int] = set()
    for key, start, end, vector in rows(query, keys):
        passages.setdefault(key, []).append((start, end))
        bad |= set() if _are_unit(vector, 1, size) else {key}
    query = "SELECT paper, spans, vectors FROM sentences WHERE paper IN (SELECT value FROM json_each(?))"
    sentences: dict[int, list[tuple[int, int]]] = {}
    for key, spans, vectors in rows(query, keys):
        sentences[key] = _spans(spans)
        bad |= set() if _are_unit(vectors, len(sentences[key]), size) else {key}
    return {
        key
        for key, (paper, _) in papers.items()
        if key not in bad and _are_within(passages.get(key), sentences.get(key), paper.abstract)
    }


def _spans(text: str) -> list[tuple[int, int]]:
    try:
        return [(int(start), int(end)) for start, end in json.loads(text)]
    except (ValueError, TypeError):
        return [(-1, -1)]


def _are_unit(vectors: bytes, count: int, size: int) -> bool:
    if len(vectors) != count * size:
        return False
    lengths = np.linalg.norm(from_blob(vectors, count), axis=-1) if count else np.ones(0)
    return bool(np.all(np.abs(lengths - 1) < _TOLERANCE))


def _are_within(
    passages: list[tuple[int, int]] | None, sentences: list[tuple[int, int]] | None, abstract: str
) -> bool:
    """Whether there are passages, and sentences where there is text, all of them in the abstract."""
    if not passages or sentences is None or (not sentences and split_sentences(abstract)):
        return False
    return all(0 <= start <= end <= len(abstract) for start, end in [*passages, *sentences])
