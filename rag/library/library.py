"""The library: one SQLite file is the truth about papers, passages, sentences, vectors and full text.

Chroma is derived from it (see `rag.library.vector_index`). Rows change only inside `Library.transaction()`: one transaction,
under a lock that the operating system takes back from a dead process. Readers never wait (WAL mode).
"""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rag.errors import LibraryError, LibraryNotFound, PaperNotFound
from rag.library.filters import Condition
from rag.library.full_text import Scorer
from rag.library.integrity import IntegrityReport, check_integrity
from rag.library.schema import (
    DATABASE,
    FULL_TEXT,
    PAPER_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    from_blob,
    json_keys,
    paper_of,
    passage_of,
)
from rag.library.transaction import StoredPaper, Transaction
from rag.models.vectors import Vectors
from rag.records import Paper, Passage, Sentence
from rag.text.cleaning import title_key
from rag.text.identifiers import parse_arxiv_id, parse_doi, parse_pmid

_LOCK_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 30
_SETTLE_MILLISECONDS = 1_000
_AT_ONCE = 500
# So many papers are scored by FTS5 for one question, about a microsecond each.
_MOST_MATCHES = 2_500
# Where FTS5 keeps how many rows there are, and how many words in each column.
_AVERAGES = 1


@dataclass(frozen=True, slots=True)
class _Known:
    """Counts of one state of the library, which goes by its digest: papers, and in how many of them a term is."""

    digest: str = ""
    papers: int = 0
    frequencies: dict[str, int] = field(default_factory=dict)


class _Own:
    """A thread's connection, which ends with the thread, or with the library, whichever thread lets go of that.

    sqlite3's object refers to itself by its cache of statements: left alone it stays open, and its memory held, until
    Python looks for cycles, which a large process seldom does.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Library:
    """A folder with the truth (`library.sqlite`) and what is derived from it (`chroma/`).

    Safe to use from several threads and processes; a forked process opens its own.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open the library in `folder`; make it when it is not there and `create` allows."""
        self.folder = folder
        self._local = threading.local()
        self._counted = _Known()
        self._thread_lock = threading.RLock()
        self._file_lock = FileLock(folder / "write.lock", thread_local=False)
        if not self._is_made():
            if not create:
                raise LibraryNotFound(str(folder))
            self._create()
        self._check_version()

    def _is_made(self) -> bool:
        """Whether the tables are there; a process killed while making a library leaves a file without any."""
        if not (self.folder / DATABASE).exists():
            return False
        try:
            made = (
                self._connection()
                .execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'")
                .fetchone()
            )
        except sqlite3.Error as error:
            raise LibraryError(
                f"{self.folder / DATABASE} cannot be opened as a library: {error}"
            ) from error
        return made is not None

    def _create(self) -> None:
        try:
            # What is not there is made for its owner only; SQLite gives the files beside its own the same permissions.
            for folder in (*reversed(self.folder.parents), self.folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            for file in (DATABASE, "write.lock"):
                (self.folder / file).touch(mode=0o600)
            with self._locked(None):
                if not self._is_made():
                    connection = self._connection()
                    connection.execute("PRAGMA journal_mode = WAL")
                    notes = (
                        f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'), ('digest', '0'), "
                    )
                    notes += "('identity', hex(randomblob(8)));"
                    connection.executescript(
                        f"BEGIN IMMEDIATE; {SCHEMA} {'; '.join(FULL_TEXT)}; {notes} COMMIT;"
                    )
        except (OSError, sqlite3.Error) as error:
            raise LibraryError(f"cannot make a library in {self.folder}: {error}") from error

    def _check_version(self) -> None:
        version = self.meta("schema")
        if version != str(SCHEMA_VERSION):
            raise LibraryError(
                f"the library {self.folder} has schema {version}, this version of Footnote reads {SCHEMA_VERSION}; "
                "export it with the version that made it (footnote export --format jsonl) and add it to a new library"
            )

    def _connection(self) -> sqlite3.Connection:
        """One connection for each thread, for SQLite's transactions belong to the connection."""
        own: _Own | None = getattr(self._local, "own", None)
        if own is None:
            connection = sqlite3.connect(
                self.folder / DATABASE,
                isolation_level=None,
                timeout=_PATIENCE_SECONDS,
                check_same_thread=False,
            )
            connection.create_function(
                "file_name", 1, lambda path: Path(path).name, deterministic=True
            )
            connection.create_function("fold", 1, title_key, deterministic=True)
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            own = self._local.own = _Own(connection)
        return own.connection

    def close(self) -> None:
        """Close this thread's connection."""
        if own := getattr(self._local, "own", None):
            own.connection.close()
            self._local.own = None

    # --- writing ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, on_wait: Callable[[], None] | None = None) -> Iterator[Transaction]:
        """One transaction, all or nothing; `on_wait` is called once when another writer is at work.

        Raises `LibraryError` when the disk is full, the folder read-only, or the file damaged.
        """
        with self._locked(on_wait):
            connection = self._connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield Transaction(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise self._unwritable(error) from error
                raise

    def checkpoint(self) -> None:
        """Bring what was committed from SQLite's log into the file itself; a reader may hold that up till later.

        Of a log that is damaged SQLite drops the rest without a word.
        """
        connection = self._connection()
        with contextlib.suppress(sqlite3.Error):
            connection.execute(f"PRAGMA busy_timeout = {_SETTLE_MILLISECONDS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {1_000 * _PATIENCE_SECONDS}")

    @contextlib.contextmanager
    def _locked(self, on_wait: Callable[[], None] | None) -> Iterator[None]:
        with self._thread_lock:
            self._acquire(on_wait)
            try:
                yield
            finally:
                self._file_lock.release()

    def _acquire(self, on_wait: Callable[[], None] | None) -> None:
        try:
            try:
                self._file_lock.acquire(timeout=0)
            except Timeout:
                if on_wait:
                    on_wait()
                self._file_lock.acquire(poll_interval=_LOCK_POLL_SECONDS)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> LibraryError:
        return LibraryError(f"cannot write to the library {self.folder}: {error}")

    @property
    def has_writer(self) -> bool:
        """Whether someone, here or in another process, is writing at this moment; also where we never could."""
        try:
            with FileLock(self._file_lock.lock_file, timeout=0, is_singleton=False):
                return False
        except OSError:  # a timeout is one, too
            return True

    # --- reading ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that this thread reads inside is of one moment, whatever others write meanwhile."""
        connection = self._connection()
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")  # nothing was written; this only ends the reading

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"the library {self.folder} cannot be read: {error}; restore a copy of that folder"
        )

    def meta(self, name: str) -> str:
        """A value of the library's own notes (`schema`, `digest`, `embedder`, …); empty when there is none."""
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else ""

    @property
    def digest(self) -> str:
        """Digest of what all papers say, whatever the order in which they came."""
        return f"{int(self.meta('digest')):032x}"[:16]

    def __len__(self) -> int:
        return self._known().papers

    def _known(self) -> "_Known":
        """What SQLite counts anew each time, which takes long in a large library; kept until the library changes."""
        digest = self.meta("digest")
        if self._counted.digest != digest:
            papers = int(self._rows("SELECT count(*) FROM paper")[0][0])
            self._counted = _Known(digest, papers)
        return self._counted

    def counts(self) -> dict[str, int]:
        """Rows of each kind."""
        queries = {
            "papers": "SELECT count(*) FROM paper",
            "without_abstract": "SELECT count(*) FROM paper WHERE abstract = ''",
            "passages": "SELECT count(*) FROM passage",
            "full_text": "SELECT count(*) FROM full_text",
        }
        return {name: int(self._rows(query)[0][0]) for name, query in queries.items()}

    def papers(
        self, condition: Condition | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Paper]:
        """Papers in the order in which they were added; those of `_AT_ONCE` at a time are held."""
        keys = self.keys(condition)[start:stop]
        for first in range(0, len(keys), _AT_ONCE):
            some = self.papers_by_key(keys[first : first + _AT_ONCE])
            yield from (some[key] for key in keys[first : first + _AT_ONCE] if key in some)

    def papers_by_key(self, keys: Iterable[int]) -> dict[int, Paper]:
        query = f"SELECT {PAPER_COLUMNS} FROM paper WHERE key IN (SELECT value FROM json_each(?))"
        return {row[0]: paper_of(row) for row in self._rows(query, (json_keys(keys),))}

    def find(self, name: str) -> StoredPaper:
        """The paper that goes by an id, the unambiguous start of one, a DOI, an arXiv id or a PubMed id."""
        wanted = (
            name.strip().encode("utf-8", "replace").decode()
        )  # half a surrogate pair is in no name
        names = [
            f"doi:{parse_doi(wanted)}",
            f"arxiv:{parse_arxiv_id(wanted)}",
            f"pmid:{parse_pmid(wanted)}",
        ]
        by_id = "SELECT key FROM paper WHERE id = ? OR key IN (SELECT paper FROM identifier WHERE name IN (?, ?, ?))"
        keys = [row[0] for row in self._rows(by_id, (wanted.lower(), *names))]
        near: list[tuple[Any, ...]] = []
        if not keys and wanted:
            by_start = "SELECT key, id FROM paper WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT 6"
            near = self._rows(by_start, (len(wanted), wanted.lower()))
            keys = [near[0][0]] if len(near) == 1 else []
        if not keys:
            raise PaperNotFound(name, tuple(row[1] for row in near))
        return StoredPaper(keys[0], self.papers_by_key(keys[:1])[keys[0]])

    def keys(self, condition: Condition | None = None) -> list[int]:
        """Row numbers of the papers, all or those that a filter lets through, in the order they were added."""
        where, values = (condition.sql, condition.values) if condition else ("1", ())
        query = f"SELECT key FROM paper WHERE {where} ORDER BY key"
        return [row[0] for row in self._rows(query, values)]

    def known_records(self, digests: Iterable[str]) -> set[str]:
        """Those of some records' digests that a paper was made of before."""
        query = "SELECT record_hash FROM provenance WHERE record_hash IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._rows(query, (json.dumps(list(digests)),))}

    def search_full_text(
        self, terms: Sequence[str], k: int, allowed: Iterable[int] | None = None
    ) -> list[int]:
        """Row numbers of the `k` papers that hold most of the rarest of the terms, best first by BM25.

        `allowed` limits the search to these row numbers.
        """
        rare = self._rare(terms)
        if not rare:
            return []
        # The plus keeps SQLite from looking every allowed row up in the full text, one by one.
        among = "" if allowed is None else "AND +rowid IN (SELECT value FROM json_each(?))"
        values = () if allowed is None else (json_keys(allowed),)
        match = " OR ".join(f'"{term}"' for term in rare)
        query = f"SELECT rowid FROM full_text WHERE full_text MATCH ? {among} ORDER BY rank LIMIT ?"
        return [row[0] for row in self._rows(query, (match, *values, k))]

    def _rare(self, terms: Iterable[str]) -> list[str]:
        """The rarest terms, as many as stand in `_MOST_MATCHES` papers together; always the very rarest."""
        frequencies = self.document_frequencies(terms)
        kept: list[str] = []
        matches = 0
        for term in sorted(frequencies, key=lambda term: frequencies[term]):
            matches += frequencies[term]
            if kept and matches > _MOST_MATCHES:
                break
            kept.append(term)
        return kept

    def score_full_text(self, terms: Iterable[str], keys: Iterable[int]) -> dict[int, float]:
        """BM25 scores (higher is better) of these papers, by all of the terms."""
        record = self._rows("SELECT block FROM full_text_data WHERE id = ?", (_AVERAGES,))
        scorer = Scorer.of(self.document_frequencies(terms), record[0][0] if record else b"")
        query = "SELECT rowid, title, abstract FROM full_text WHERE rowid IN (SELECT value FROM json_each(?))"
        return {
            key: scorer.score(f"{title} {abstract}")
            for key, title, abstract in self._rows(query, (json_keys(keys),))
        }

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """In how many papers each term occurs; a term that occurs nowhere has none."""
        known = self._known().frequencies
        for term in terms:
            if term not in known:
                rows = self._rows("SELECT doc FROM full_text_terms WHERE term = ?", (term,))
                known[term] = int(rows[0][0]) if rows else 0
        return {term: known[term] for term in terms if known[term]}

    def passages(self, keys: Iterable[int]) -> tuple[list[tuple[int, Passage]], Vectors]:
        """The passages of these papers, each with its paper's row number, and their vectors, (passages, dimension)."""
        query = (
            'SELECT passage.paper, id, start, "end", vector FROM passage JOIN paper ON paper.key = passage.paper '
            "WHERE passage.paper IN (SELECT value FROM json_each(?)) ORDER BY passage.key"
        )
        rows = self._rows(query, (json_keys(keys),))
        vectors = from_blob(b"".join(row[4] for row in rows), len(rows))
        return [(row[0], passage_of(*row[1:4])) for row in rows], vectors

    def vectors_of_passages(self, passage_keys: Sequence[int]) -> Vectors:
        """The vectors of these passages, (passages, dimension), in that order."""
        query = "SELECT key, vector FROM passage WHERE key IN (SELECT value FROM json_each(?))"
        found = dict(self._rows(query, (json_keys(passage_keys),)))
        return from_blob(b"".join(found[key] for key in passage_keys), len(passage_keys))

    def sentences_of(self, keys: Iterable[int]) -> dict[int, tuple[list[Sentence], Vectors]]:
        """For each paper, its sentences and their vectors, (sentences, dimension)."""
        query = (
            "SELECT paper, id, abstract, spans, vectors FROM sentences JOIN paper ON paper.key = sentences.paper "
            "WHERE paper IN (SELECT value FROM json_each(?))"
        )
        found = {}
        for key, paper_id, abstract, spans, vectors in self._rows(query, (json_keys(keys),)):
            sentences = [
                Sentence(paper_id, start, end, abstract[start:end])
                for start, end in json.loads(spans)
            ]
            found[key] = (sentences, from_blob(vectors, len(sentences)))
        return found

    def sentence_vectors(self, keys: Iterable[int]) -> tuple[list[int], Vectors]:
        """For each sentence of these papers the paper's row number, and the vectors, (sentences, dimension)."""
        query = (
            "SELECT paper, json_array_length(spans), vectors FROM sentences "
            "WHERE paper IN (SELECT value FROM json_each(?))"
        )
        rows = self._rows(query, (json_keys(keys),))
        owners = [key for key, count, _ in rows for _ in range(count)]
        return owners, from_blob(b"".join(row[2] for row in rows), len(owners))

    # --- what the index needs --------------------------------------------------------------------------

    def is_indexed(self) -> bool:
        """Whether Chroma was told of every change."""
        query = "SELECT EXISTS (SELECT 1 FROM passage WHERE indexed = 0) OR EXISTS (SELECT 1 FROM removed_passage)"
        return not self._rows(query)[0][0]

    def index_metadata(self) -> dict[str, str]:
        """The library's notes as they are at this moment, also inside `reading`; `begun` is there once Chroma was told.

        Whoever searches Chroma has to know of every change to it, whatever moment of the papers is being read.
        """
        begun = "SELECT 'begun', '1' WHERE EXISTS (SELECT 1 FROM passage WHERE indexed = 1)"
        query = f"SELECT name, value FROM meta UNION ALL {begun}"
        try:
            with contextlib.closing(
                sqlite3.connect(self.folder / DATABASE, timeout=_PATIENCE_SECONDS)
            ) as connection:
                return dict(connection.execute(query).fetchall())
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def pending(self, limit: int) -> tuple[list[tuple[int, str, int, int]], Vectors]:
        """Passages that Chroma lacks: (row number, paper id, start, end) and their vectors."""
        query = (
            'SELECT passage.key, id, start, "end", vector FROM passage JOIN paper ON paper.key = passage.paper '
            "WHERE indexed = 0 ORDER BY passage.key LIMIT ?"
        )
        rows = self._rows(query, (limit,))
        return [row[:4] for row in rows], from_blob(b"".join(row[4] for row in rows), len(rows))

    def removed(self) -> list[int]:
        """Row numbers of passages that Chroma may still hold and must not."""
        return [row[0] for row in self._rows("SELECT key FROM removed_passage")]

    def passage_owners(self, passage_keys: Iterable[int]) -> dict[int, int]:
        """The paper's row number for each passage's."""
        query = "SELECT key, paper FROM passage WHERE key IN (SELECT value FROM json_each(?))"
        return dict(self._rows(query, (json_keys(passage_keys),)))

    def passage_keys(self, papers: Iterable[int] | None = None) -> list[int]:
        """Row numbers of all passages, or of those of some papers."""
        if papers is None:
            return [row[0] for row in self._rows("SELECT key FROM passage")]
        query = "SELECT key FROM passage WHERE paper IN (SELECT value FROM json_each(?))"
        return [row[0] for row in self._rows(query, (json_keys(papers),))]

    def integrity(self) -> str:
        """What SQLite finds wrong with the form of the file; empty when nothing is."""
        try:
            found = self._connection().execute("PRAGMA integrity_check(3)").fetchall()
            loose = self._connection().execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.Error as error:
            return str(error)
        faults = [] if found == [("ok",)] else [str(row[0]) for row in found]
        return "; ".join(faults + ["rows without their paper"] * bool(loose))

    def faults(self) -> IntegrityReport:
        """Where what stands in the file does not agree with itself. Reads all of it."""
        with self.snapshot():
            return check_integrity(self._rows)

    def full_text_fault(self) -> str:
        """Why the index of words is not that of the words it was made from; empty when it is."""
        try:
            with self.transaction() as transaction:
                transaction.check_full_text()
        except LibraryError as error:
            return str(error)
        return ""

    def size(self) -> int:
        """Bytes on disk, what is derived included."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
