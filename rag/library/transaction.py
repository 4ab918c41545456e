"""The changes that can be made to the truth, inside one transaction."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag.errors import EmbedderMismatch
from rag.library.dedup import identifiers, new_id, outdated_identifiers, record_hash
from rag.library.schema import (
    FULL_TEXT,
    PAPER_COLUMNS,
    WRITTEN_COLUMNS,
    json_keys,
    paper_of,
    paper_row,
    to_blob,
)
from rag.models.vectors import Vectors
from rag.records import Paper
from rag.text.cleaning import title_key
from rag.text.terms import index_text

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class StoredPaper:
    """A paper with its row number, which the other tables and the index go by."""

    key: int
    paper: Paper


class Transaction:
    """Made by `Library.transaction()`; valid until that transaction ends."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- changes -------------------------------------------------------------------------------------------

    def set_meta(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def check_embedder(self, name: str, fingerprint: str) -> None:
        """Note the embedding model with the first vectors; raise `EmbedderMismatch` for another one later."""
        known = self._connection.execute(
            "SELECT value FROM meta WHERE name = 'embedder_fingerprint'"
        ).fetchone()
        if known is None:
            self.set_embedder(name, fingerprint)
        elif known[0] != fingerprint:
            made_with = self._connection.execute(
                "SELECT value FROM meta WHERE name = 'embedder'"
            ).fetchone()[0]
            raise EmbedderMismatch(made_with, name)

    def set_embedder(self, name: str, fingerprint: str) -> None:
        """Note the embedding model that all vectors come from."""
        self.set_meta("embedder", name)
        self.set_meta("embedder_fingerprint", fingerprint)

    def insert(self, paper: Paper, now: str) -> StoredPaper:
        """Add a paper and give it its id; `now` is an ISO date and time."""
        paper = replace(paper, id=new_id(paper, self._id_taken))
        row = (*paper_row(paper), "", now)
        query = f"INSERT INTO paper ({WRITTEN_COLUMNS}, content_hash, added_at) VALUES ({', '.join('?' * len(row))})"
        key = int(self._connection.execute(query, row).lastrowid or 0)
        self._text_and_identity_changed(key, paper, "IGNORE")
        return StoredPaper(key, paper)

    def update(self, key: int, paper: Paper, *, edited: bool = False) -> None:
        """Replace what is known about a paper; its vectors stay until `put_vectors`.

        An identifier that another paper has stays with that, unless the paper's own source was `edited`.
        """
        assignments = ", ".join(f"{column} = ?" for column in WRITTEN_COLUMNS.split(", "))
        self._connection.execute(
            f"UPDATE paper SET {assignments} WHERE key = ?", (*paper_row(paper), key)
        )
        self._text_and_identity_changed(key, paper, "REPLACE" if edited else "IGNORE")

    def put_vectors(
        self, key: int, passages: Spans, vectors: Vectors, sentences: Spans, of_sentences: Vectors
    ) -> None:
        """Replace a paper's passages and sentences: spans, and unit vectors (one row for each span)."""
        self._connection.execute("DELETE FROM passage WHERE paper = ?", (key,))
        rows = [
            (key, *span, to_blob(vector)) for span, vector in zip(passages, vectors, strict=True)
        ]
        query = 'INSERT INTO passage (paper, start, "end", vector) VALUES (?, ?, ?, ?)'
        self._connection.executemany(query, rows)
        row = (key, json.dumps(sentences), to_blob(of_sentences))
        self._connection.execute("INSERT OR REPLACE INTO sentences VALUES (?, ?, ?)", row)

    def note_provenance(self, key: int, digest: str, source: str, record: int) -> None:
        """Note which record of which source said this of the paper; said again, nothing changes."""
        row = (digest, source, key, record)
        self._connection.execute("INSERT OR IGNORE INTO provenance VALUES (?, ?, ?, ?)", row)

    def forget_provenance(self, key: int, source: str, digests: Iterable[str]) -> None:
        """Drop the notes of some of what one source said earlier about a paper."""
        query = "DELETE FROM provenance WHERE record_hash = ? AND source = ? AND paper = ?"
        self._connection.executemany(query, [(digest, source, key) for digest in digests])

    def absorb(self, key: int, other: int) -> None:
        """Hand the identifiers and provenance of another paper to this one, and remove the other."""
        self._connection.execute("UPDATE identifier SET paper = ? WHERE paper = ?", (key, other))
        self._connection.execute(
            "UPDATE OR IGNORE provenance SET paper = ? WHERE paper = ?", (key, other)
        )
        self.remove([other])

    def remove(self, keys: Iterable[int]) -> None:
        """Remove papers and all that hangs on them."""
        for key in keys:
            self._change_digest(key, "")
            self._connection.execute("DELETE FROM full_text WHERE rowid = ?", (key,))
            self._connection.execute("DELETE FROM passage WHERE paper = ?", (key,))
            self._connection.execute("DELETE FROM paper WHERE key = ?", (key,))

    def mark_indexed(self, passages: Iterable[int], removed: Iterable[int]) -> None:
        """Note that Chroma holds these passages, and no longer those."""
        update = "UPDATE passage SET indexed = 1 WHERE key IN (SELECT value FROM json_each(?))"
        self._connection.execute(update, (json_keys(passages),))
        delete = "DELETE FROM removed_passage WHERE key IN (SELECT value FROM json_each(?))"
        self._connection.execute(delete, (json_keys(removed),))

    def mark_all_pending(self) -> None:
        """Note that Chroma holds nothing."""
        self._connection.execute("UPDATE passage SET indexed = 0")
        self._connection.execute("DELETE FROM removed_passage")

    # --- mending -------------------------------------------------------------------------------------------

    def check_full_text(self) -> None:
        """Raise `sqlite3.DatabaseError` when the index of words is not that of the words it was made from."""
        self._connection.execute(
            "INSERT INTO full_text (full_text, rank) VALUES ('integrity-check', 1)"
        )

    def rebuild_full_text(self) -> None:
        """Make the full text anew from the papers."""
        for table in ("full_text_terms", "full_text"):
            self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in FULL_TEXT:
            self._connection.execute(statement)
        papers = self._connection.execute("SELECT key, title, abstract FROM paper ORDER BY key")
        rows = ((key, index_text(title), index_text(abstract)) for key, title, abstract in papers)
        self._connection.executemany(
            "INSERT INTO full_text (rowid, title, abstract) VALUES (?, ?, ?)", rows
        )

    def rebuild_metadata(self) -> None:
        """Make the library's digest and the identifiers anew from the papers."""
        digest = 0
        for *row, content_hash in self._connection.execute(
            f"SELECT {PAPER_COLUMNS}, content_hash FROM paper"
        ):
            digest += int(content_hash or "0", 16)
            own = [(name, row[0]) for name in identifiers(paper_of(tuple(row))).values()]
            self._connection.executemany("INSERT OR IGNORE INTO identifier VALUES (?, ?)", own)
        self.set_meta("digest", str(digest % 2**128))

    # --- what is already known -----------------------------------------------------------------------------

    def stored(self, key: int) -> StoredPaper:
        query = f"SELECT {PAPER_COLUMNS} FROM paper WHERE key = ?"
        return StoredPaper(key, paper_of(self._connection.execute(query, (key,)).fetchone()))

    def key_of_record(self, digest: str, source: str | None = None) -> int | None:
        """The paper that an identical record, of one source or of any, already became part of."""
        if source is None:
            return self._key("SELECT paper FROM provenance WHERE record_hash = ?", digest)
        return self._key(
            "SELECT paper FROM provenance WHERE record_hash = ? AND source = ?", digest, source
        )

    def digests_of(self, key: int, source: str) -> list[str]:
        """Digests of what one source said of a paper."""
        query = "SELECT record_hash FROM provenance WHERE paper = ? AND source = ?"
        return [row[0] for row in self._connection.execute(query, (key, source))]

    def key_of_identifier(self, name: str) -> int | None:
        return self._key("SELECT paper FROM identifier WHERE name = ?", name)

    def with_title(self, title: str) -> list[StoredPaper]:
        """Papers whose titles are the same but for case, accents and punctuation, oldest first."""
        query = f"SELECT {PAPER_COLUMNS} FROM paper WHERE title_key = ? ORDER BY key"
        return [
            StoredPaper(row[0], paper_of(row))
            for row in self._connection.execute(query, (title_key(title),))
        ]

    def _key(self, query: str, *values: str) -> int | None:
        row = self._connection.execute(query, values).fetchone()
        return int(row[0]) if row else None

    def _id_taken(self, name: str) -> bool:
        return (
            self._connection.execute("SELECT 1 FROM paper WHERE id = ?", (name,)).fetchone()
            is not None
        )

    def _text_and_identity_changed(self, key: int, paper: Paper, conflict: str) -> None:
        self._change_digest(key, record_hash(paper))
        query = "SELECT name FROM identifier WHERE paper = ?"
        names = [row[0] for row in self._connection.execute(query, (key,))]
        gone = [(name,) for name in outdated_identifiers(names, paper)]
        self._connection.executemany("DELETE FROM identifier WHERE name = ?", gone)
        own = [(name, key) for name in identifiers(paper).values()]
        self._connection.executemany(f"INSERT OR {conflict} INTO identifier VALUES (?, ?)", own)
        self._connection.execute("DELETE FROM full_text WHERE rowid = ?", (key,))
        row = (key, index_text(paper.title), index_text(paper.abstract))
        self._connection.execute(
            "INSERT INTO full_text (rowid, title, abstract) VALUES (?, ?, ?)", row
        )

    def _change_digest(self, key: int, new_hash: str) -> None:
        """Take the paper's old hash out of the library's digest and put the new one in: a sum does not mind order."""
        row = self._connection.execute(
            "SELECT content_hash FROM paper WHERE key = ?", (key,)
        ).fetchone()
        digest = int(
            self._connection.execute("SELECT value FROM meta WHERE name = 'digest'").fetchone()[0]
        )
        digest += int(new_hash or "0", 16) - int(row[0] or "0", 16)
        self.set_meta("digest", str(digest % 2**128))
        self._connection.execute("UPDATE paper SET content_hash = ? WHERE key = ?", (new_hash, key))
