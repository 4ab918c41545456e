"""Checks that the tables of the primary store agree with each other.

SQLite checks the structure of its file, but not what the rows say.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag.library.dedup import identifiers, record_hash
from rag.library.schema import PAPER_COLUMNS, from_blob, json_keys, paper_from_row
from rag.records import Paper
from rag.text.sentences import split_sentences
from rag.text.terms import index_text

Query = Callable[..., list[tuple[Any, ...]]]
# Papers by row number, each with the hash stored when it was written.
_Papers = dict[int, tuple[Paper, str]]
_Spans = list[tuple[int, int]]
_BATCH = 500
# Tolerance for the length of a stored unit vector; half precision is off by less than 0.001.
_MAX_LENGTH_ERROR = 0.01
_INVALID_SPANS = [(-1, -1)]


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Disagreements between the tables.

    `altered_papers`: ids of papers whose record has changed since it was written. `bad_embeddings`:
    row numbers of papers whose passages, sentences or vectors are missing or wrong.
    `bad_full_text`: row numbers of papers whose entry in the full-text index is missing or wrong.
    `bad_metadata`: the library's digest is wrong or an identifier is missing.
    """

    altered_papers: tuple[str, ...]
    bad_embeddings: tuple[int, ...]
    bad_full_text: tuple[int, ...]
    bad_metadata: bool


def check_integrity(query: Query) -> IntegrityReport:
    """Read every table once, in batches. `query` runs SQL within one snapshot of the library."""
    altered: list[str] = []
    bad_embeddings: list[int] = []
    bad_full_text: list[int] = []
    missing_identifier = False
    digest = 0
    vector_bytes = _vector_bytes(query)
    stored_identifiers = {name for (name,) in query("SELECT name FROM identifier")}
    for papers in _paper_batches(query):
        index_entries = _index_entries(query, papers)
        bad_embeddings += _find_bad_embeddings(query, papers, vector_bytes)
        for key, (paper, content_hash) in papers.items():
            digest += int(content_hash or "0", 16)
            if not stored_identifiers.issuperset(identifiers(paper).values()):
                missing_identifier = True
            if record_hash(paper) != content_hash:
                altered.append(paper.id)
            if index_entries.get(key) != (index_text(paper.title), index_text(paper.abstract)):
                bad_full_text.append(key)
    bad_full_text += _deleted_papers_in_index(query)
    stored_digest = query("SELECT value FROM meta WHERE name = 'digest'")
    bad_metadata = missing_identifier or stored_digest != [(str(digest % 2**128),)]
    return IntegrityReport(
        tuple(altered), tuple(bad_embeddings), tuple(bad_full_text), bad_metadata
    )


def _paper_batches(query: Query) -> Iterator[_Papers]:
    last_key = -1
    sql = (
        f"SELECT {PAPER_COLUMNS}, content_hash FROM paper WHERE key > ? ORDER BY key LIMIT {_BATCH}"
    )
    while rows := query(sql, (last_key,)):
        yield {row[0]: (paper_from_row(row[:-1]), row[-1]) for row in rows}
        last_key = rows[-1][0]


def _index_entries(query: Query, papers: _Papers) -> dict[int, tuple[str, str]]:
    """Return the indexed title and abstract of each paper."""
    sql = (
        "SELECT rowid, title, abstract FROM full_text "
        "WHERE rowid IN (SELECT value FROM json_each(?))"
    )
    return {key: (title, abstract) for key, title, abstract in query(sql, (json_keys(papers),))}


def _deleted_papers_in_index(query: Query) -> list[int]:
    rows = query("SELECT rowid FROM full_text WHERE rowid NOT IN (SELECT key FROM paper)")
    return [key for (key,) in rows]


def _vector_bytes(query: Query) -> int:
    """Return the most common size of a passage's vector."""
    rows = query("SELECT length(vector) FROM passage GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    return int(rows[0][0]) if rows else 0


def _find_bad_embeddings(query: Query, papers: _Papers, vector_bytes: int) -> list[int]:
    """Return the papers whose passages, sentences or vectors are missing or wrong."""
    keys = (json_keys(papers),)
    bad: set[int] = set()
    passages: dict[int, _Spans] = defaultdict(list)
    sql = (
        'SELECT paper, start, "end", vector FROM passage '
        "WHERE paper IN (SELECT value FROM json_each(?))"
    )
    for key, start, end, vector in query(sql, keys):
        passages[key].append((start, end))
        if not _are_unit_vectors(vector, 1, vector_bytes):
            bad.add(key)
    sentences: dict[int, _Spans] = {}
    sql = (
        "SELECT paper, spans, vectors FROM sentences "
        "WHERE paper IN (SELECT value FROM json_each(?))"
    )
    for key, spans, vectors in query(sql, keys):
        sentences[key] = _parse_spans(spans)
        if not _are_unit_vectors(vectors, len(sentences[key]), vector_bytes):
            bad.add(key)
    for key, (paper, _) in papers.items():
        if not _are_valid_spans(passages.get(key), sentences.get(key), paper.abstract):
            bad.add(key)
    return [key for key in papers if key in bad]


def _parse_spans(text: str) -> _Spans:
    try:
        return [(int(start), int(end)) for start, end in json.loads(text)]
    except (ValueError, TypeError):
        return _INVALID_SPANS


def _are_unit_vectors(blob: bytes, count: int, vector_bytes: int) -> bool:
    if len(blob) != count * vector_bytes:
        return False
    if count == 0:
        return True
    lengths = np.linalg.norm(from_blob(blob, count), axis=-1)
    return bool(np.all(np.abs(lengths - 1) < _MAX_LENGTH_ERROR))


def _are_valid_spans(passages: _Spans | None, sentences: _Spans | None, abstract: str) -> bool:
    """Return whether no span is missing and all are within the abstract."""
    if not passages or sentences is None or (not sentences and split_sentences(abstract)):
        return False
    return all(0 <= start <= end <= len(abstract) for start, end in [*passages, *sentences])
