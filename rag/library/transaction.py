"""Changes to the primary store, and the look-ups that an import needs, in one transaction."""

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
    paper_from_row,
    paper_row,
    to_blob,
)
from rag.models.vectors import Vectors
from rag.records import Paper
from rag.text.cleaning import title_key
from rag.text.terms import index_text

Spans = Sequence[tuple[int, int]]
_INSERT_FULL_TEXT = "INSERT INTO full_text (rowid, title, abstract) VALUES (?, ?, ?)"
_DIGEST_MODULUS = 2**128


@dataclass(frozen=True, slots=True)
class StoredPaper:
    """Paper with its row number, `key`, which other tables and the vector index refer to."""

    key: int
    paper: Paper


class Transaction:
    """Open transaction on a library, from `Library.transaction()`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # --- writing -----------------------------------------------------------------------------

    def set_meta(self, name: str, value: str) -> None:
        """Set one of the library's metadata values."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def check_embedder(self, name: str, fingerprint: str) -> None:
        """Record the embedding model of the first vectors.

        Raises `EmbedderMismatch` when the library already has vectors from another model.
        """
        stored_fingerprint = self._meta("embedder_fingerprint")
        if stored_fingerprint is None:
            self.set_embedder(name, fingerprint)
        elif stored_fingerprint != fingerprint:
            raise EmbedderMismatch(self._meta("embedder") or "", name)

    def set_embedder(self, name: str, fingerprint: str) -> None:
        """Record the embedding model of all vectors."""
        self.set_meta("embedder", name)
        self.set_meta("embedder_fingerprint", fingerprint)

    def insert(self, paper: Paper, now: str) -> StoredPaper:
        """Add a paper and give it an id. `now` is an ISO date and time."""
        paper = replace(paper, id=new_id(paper, self._id_is_taken))
        row = (*paper_row(paper), "", now)
        placeholders = ", ".join("?" * len(row))
        sql = (
            f"INSERT INTO paper ({WRITTEN_COLUMNS}, content_hash, added_at) VALUES ({placeholders})"
        )
        key = int(self._connection.execute(sql, row).lastrowid or 0)
        self._update_derived_tables(key, paper, "IGNORE")
        return StoredPaper(key, paper)

    def update(self, key: int, paper: Paper, *, edited: bool = False) -> None:
        """Replace a paper's record; its vectors stay until `put_vectors`.

        An identifier that belongs to another paper stays there, unless the source that this paper
        came from was `edited`.
        """
        assignments = ", ".join(f"{column} = ?" for column in WRITTEN_COLUMNS.split(", "))
        sql = f"UPDATE paper SET {assignments} WHERE key = ?"
        self._connection.execute(sql, (*paper_row(paper), key))
        self._update_derived_tables(key, paper, "REPLACE" if edited else "IGNORE")

    def put_vectors(
        self,
        key: int,
        passages: Spans,
        passage_vectors: Vectors,
        sentences: Spans,
        sentence_vectors: Vectors,
    ) -> None:
        """Replace a paper's passages and sentences: their spans, and a unit vector for each."""
        self._connection.execute("DELETE FROM passage WHERE paper = ?", (key,))
        insert = 'INSERT INTO passage (paper, start, "end", vector) VALUES (?, ?, ?, ?)'
        for (start, end), vector in zip(passages, passage_vectors, strict=True):
            self._connection.execute(insert, (key, start, end, to_blob(vector)))
        row = (key, json.dumps(sentences), to_blob(sentence_vectors))
        self._connection.execute("INSERT OR REPLACE INTO sentences VALUES (?, ?, ?)", row)

    def add_provenance(self, key: int, digest: str, source: str, record: int) -> None:
        """Store that this record of a source describes the paper, unless that is stored already."""
        row = (digest, source, key, record)
        self._connection.execute("INSERT OR IGNORE INTO provenance VALUES (?, ?, ?, ?)", row)

    def remove_provenance(self, key: int, source: str, digests: Iterable[str]) -> None:
        """Forget these records of a source as descriptions of the paper."""
        sql = "DELETE FROM provenance WHERE record_hash = ? AND source = ? AND paper = ?"
        self._connection.executemany(sql, [(digest, source, key) for digest in digests])

    def absorb(self, key: int, duplicate: int) -> None:
        """Move a duplicate's identifiers and provenance to this paper; remove the duplicate."""
        self._connection.execute(
            "UPDATE identifier SET paper = ? WHERE paper = ?", (key, duplicate)
        )
        self._connection.execute(
            "UPDATE OR IGNORE provenance SET paper = ? WHERE paper = ?", (key, duplicate)
        )
        self.remove([duplicate])

    def remove(self, keys: Iterable[int]) -> None:
        """Remove papers and everything that refers to them."""
        for key in keys:
            self._replace_content_hash(key, "")
            self._connection.execute("DELETE FROM full_text WHERE rowid = ?", (key,))
            self._connection.execute("DELETE FROM passage WHERE paper = ?", (key,))
            self._connection.execute("DELETE FROM paper WHERE key = ?", (key,))

    def mark_indexed(self, added: Iterable[int], removed: Iterable[int]) -> None:
        """Record which passages the vector index now holds, and which it no longer holds."""
        update = "UPDATE passage SET indexed = 1 WHERE key IN (SELECT value FROM json_each(?))"
        self._connection.execute(update, (json_keys(added),))
        delete = "DELETE FROM removed_passage WHERE key IN (SELECT value FROM json_each(?))"
        self._connection.execute(delete, (json_keys(removed),))

    def mark_all_pending(self) -> None:
        """Record that the vector index is empty."""
        self._connection.execute("UPDATE passage SET indexed = 0")
        self._connection.execute("DELETE FROM removed_passage")

    # --- repairing ---------------------------------------------------------------------------

    def check_full_text(self) -> None:
        """Raise `sqlite3.DatabaseError` if the full-text index does not match its own content."""
        self._connection.execute(
            "INSERT INTO full_text (full_text, rank) VALUES ('integrity-check', 1)"
        )

    def rebuild_full_text(self) -> None:
        """Rebuild the full-text index from the papers."""
        for table in ("full_text_terms", "full_text"):
            self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in FULL_TEXT:
            self._connection.execute(statement)
        papers = self._connection.execute("SELECT key, title, abstract FROM paper ORDER BY key")
        for key, title, abstract in papers:
            row = (key, index_text(title), index_text(abstract))
            self._connection.execute(_INSERT_FULL_TEXT, row)

    def rebuild_metadata(self) -> None:
        """Recompute the library's digest and add missing identifiers."""
        digest = 0
        sql = f"SELECT {PAPER_COLUMNS}, content_hash FROM paper"
        for *columns, content_hash in self._connection.execute(sql):
            digest += int(content_hash or "0", 16)
            self._insert_identifiers(columns[0], paper_from_row(tuple(columns)), "IGNORE")
        self.set_meta("digest", str(digest % _DIGEST_MODULUS))

    # --- reading -----------------------------------------------------------------------------

    def get(self, key: int) -> StoredPaper:
        """Return the paper in a row."""
        sql = f"SELECT {PAPER_COLUMNS} FROM paper WHERE key = ?"
        return StoredPaper(key, paper_from_row(self._connection.execute(sql, (key,)).fetchone()))

    def find_record(self, digest: str, source: str | None = None) -> int | None:
        """Return the row number of the paper that an identical record became part of.

        `source` limits the look-up to records of that source.
        """
        if source is None:
            return self._find_key("SELECT paper FROM provenance WHERE record_hash = ?", digest)
        sql = "SELECT paper FROM provenance WHERE record_hash = ? AND source = ?"
        return self._find_key(sql, digest, source)

    def find_identifier(self, name: str) -> int | None:
        """Return the row number of the paper with an identifier such as `doi:10.1000/x`."""
        return self._find_key("SELECT paper FROM identifier WHERE name = ?", name)

    def find_title(self, title: str) -> list[StoredPaper]:
        """Return papers with this title, oldest first; ignores case, accents and punctuation."""
        sql = f"SELECT {PAPER_COLUMNS} FROM paper WHERE title_key = ? ORDER BY key"
        rows = self._connection.execute(sql, (title_key(title),))
        return [StoredPaper(row[0], paper_from_row(row)) for row in rows]

    def record_digests(self, key: int, source: str) -> list[str]:
        """Return the digests of a source's records that describe the paper."""
        sql = "SELECT record_hash FROM provenance WHERE paper = ? AND source = ?"
        return [digest for (digest,) in self._connection.execute(sql, (key, source))]

    def _meta(self, name: str) -> str | None:
        sql = "SELECT value FROM meta WHERE name = ?"
        row = self._connection.execute(sql, (name,)).fetchone()
        return str(row[0]) if row else None

    def _find_key(self, sql: str, *values: str) -> int | None:
        row = self._connection.execute(sql, values).fetchone()
        return int(row[0]) if row else None

    def _id_is_taken(self, paper_id: str) -> bool:
        return self._find_key("SELECT key FROM paper WHERE id = ?", paper_id) is not None

    # --- tables derived from a paper's record ------------------------------------------------

    def _update_derived_tables(self, key: int, paper: Paper, on_conflict: str) -> None:
        self._replace_content_hash(key, record_hash(paper))
        names = self._connection.execute("SELECT name FROM identifier WHERE paper = ?", (key,))
        for name in outdated_identifiers([row[0] for row in names], paper):
            self._connection.execute("DELETE FROM identifier WHERE name = ?", (name,))
        self._insert_identifiers(key, paper, on_conflict)
        self._connection.execute("DELETE FROM full_text WHERE rowid = ?", (key,))
        row = (key, index_text(paper.title), index_text(paper.abstract))
        self._connection.execute(_INSERT_FULL_TEXT, row)

    def _insert_identifiers(self, key: int, paper: Paper, on_conflict: str) -> None:
        for name in identifiers(paper).values():
            sql = f"INSERT OR {on_conflict} INTO identifier VALUES (?, ?)"
            self._connection.execute(sql, (name, key))

    def _replace_content_hash(self, key: int, content_hash: str) -> None:
        """Replace a paper's hash, also in the library's digest: the sum of all papers' hashes."""
        sql = "SELECT content_hash FROM paper WHERE key = ?"
        (previous_hash,) = self._connection.execute(sql, (key,)).fetchone()
        digest = int(self._meta("digest") or "0")
        digest += int(content_hash or "0", 16) - int(previous_hash or "0", 16)
        self.set_meta("digest", str(digest % _DIGEST_MODULUS))
        sql = "UPDATE paper SET content_hash = ? WHERE key = ?"
        self._connection.execute(sql, (content_hash, key))
