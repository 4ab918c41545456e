"""Primary store: papers, passages, sentences, vectors and full text in one SQLite file.

Chroma is derived from it (see `rag.library.vector_index`). Rows change only inside
`Library.transaction()`, under a lock that the operating system releases when a process dies.
Readers never wait (WAL mode).
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
from rag.library.full_text import BM25Scorer
from rag.library.integrity import IntegrityReport, check_integrity
from rag.library.schema import (
    DATABASE,
    FULL_TEXT,
    PAPER_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    from_blob,
    json_keys,
    make_passage,
    paper_from_row,
)
from rag.library.transaction import StoredPaper, Transaction
from rag.models.vectors import Vectors
from rag.records import Paper, Passage, Sentence
from rag.text.cleaning import title_key
from rag.text.identifiers import parse_arxiv_id, parse_doi, parse_pmid

_LOCK_FILE = "write.lock"
_LOCK_POLL_SECONDS = 0.2
_BUSY_TIMEOUT_SECONDS = 30
_CHECKPOINT_TIMEOUT_SECONDS = 1
_BATCH = 500
# FTS5 scores this many papers for one query, at about a microsecond each.
_MAX_MATCHES = 2_500
_MAX_SUGGESTIONS = 6
# Row of `full_text_data` in which FTS5 keeps the number of rows and of terms in each column.
_FTS5_AVERAGES_ROW = 1


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Counts for one state of the library, which `digest` identifies."""

    digest: str = ""
    papers: int = 0
    document_frequencies: dict[str, int] = field(default_factory=dict)


class _ThreadConnection:
    """A thread's connection, closed when the thread ends or when nobody uses the library.

    An sqlite3 connection is part of a reference cycle (through its statement cache). Left alone, it
    would stay open until the garbage collector runs, which can take long in a large process.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Library:
    """Folder with the primary store (`library.sqlite`) and the index derived from it (`chroma/`).

    Safe to use from several threads and processes. A forked process has to open its own.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open the library in `folder`, creating it if `create` allows.

        Raises `LibraryNotFound`, or `LibraryError` when the file is damaged, cannot be created, or
        comes from another version.
        """
        self.folder = folder
        self._local = threading.local()
        self._cached_statistics = _Statistics()
        self._thread_lock = threading.RLock()
        self._file_lock = FileLock(folder / _LOCK_FILE, thread_local=False)
        if not self._exists():
            if not create:
                raise LibraryNotFound(str(folder))
            self._create()
        self._check_version()

    def _exists(self) -> bool:
        """Return whether the tables exist; a process killed in `_create` leaves an empty file."""
        path = self.folder / DATABASE
        if not path.exists():
            return False
        sql = "SELECT 1 FROM sqlite_master WHERE name = 'meta'"
        try:
            return self._connection().execute(sql).fetchone() is not None
        except sqlite3.Error as error:
            raise LibraryError(f"cannot open {path} as a library: {error}") from error

    def _create(self) -> None:
        try:
            # Only the owner may read a new library. SQLite gives its log the same permissions.
            for folder in (*reversed(self.folder.parents), self.folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            for name in (DATABASE, _LOCK_FILE):
                (self.folder / name).touch(mode=0o600)
            with self._locked(None):
                if not self._exists():
                    self._create_tables()
        except (OSError, sqlite3.Error) as error:
            raise LibraryError(f"cannot create a library in {self.folder}: {error}") from error

    def _create_tables(self) -> None:
        connection = self._connection()
        connection.execute("PRAGMA journal_mode = WAL")
        metadata = (
            f"INSERT INTO meta VALUES ('schema', '{SCHEMA_VERSION}'), ('digest', '0'), "
            "('identity', hex(randomblob(8)));"
        )
        connection.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} {'; '.join(FULL_TEXT)}; {metadata} COMMIT;"
        )

    def _check_version(self) -> None:
        version = self.meta("schema")
        if version != str(SCHEMA_VERSION):
            raise LibraryError(
                f"the library {self.folder} has schema {version}, but this version of Footnote "
                f"reads schema {SCHEMA_VERSION}; export it with the version that created it "
                "(footnote export --format jsonl) and add the file to a new library"
            )

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection, because a transaction belongs to a connection."""
        current: _ThreadConnection | None = getattr(self._local, "current", None)
        if current is None:
            current = self._local.current = _ThreadConnection(self._connect())
        return current.connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.folder / DATABASE,
            isolation_level=None,
            timeout=_BUSY_TIMEOUT_SECONDS,
            check_same_thread=False,
        )
        connection.create_function("file_name", 1, _file_name, deterministic=True)
        connection.create_function("fold", 1, title_key, deterministic=True)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def close(self) -> None:
        """Close this thread's connection."""
        current = getattr(self._local, "current", None)
        if current is not None:
            current.connection.close()
            self._local.current = None

    # --- writing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, on_wait: Callable[[], None] | None = None) -> Iterator[Transaction]:
        """Open a transaction: all of its changes are committed, or none after an exception.

        `on_wait` is called once if another writer has to finish first. Raises `LibraryError` when
        the disk is full, the folder is read-only, or the file is damaged.
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
                    raise self._write_error(error) from error
                raise

    def checkpoint(self) -> None:
        """Move committed changes from SQLite's log into the database file.

        SQLite silently drops the rest of a damaged log, so the log is kept short. A reader may
        delay this; the next checkpoint then does the work.
        """
        connection = self._connection()
        with contextlib.suppress(sqlite3.Error):
            connection.execute(f"PRAGMA busy_timeout = {1_000 * _CHECKPOINT_TIMEOUT_SECONDS}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {1_000 * _BUSY_TIMEOUT_SECONDS}")

    @contextlib.contextmanager
    def _locked(self, on_wait: Callable[[], None] | None) -> Iterator[None]:
        with self._thread_lock:
            self._acquire_file_lock(on_wait)
            try:
                yield
            finally:
                self._file_lock.release()

    def _acquire_file_lock(self, on_wait: Callable[[], None] | None) -> None:
        try:
            try:
                self._file_lock.acquire(timeout=0)
            except Timeout:
                if on_wait:
                    on_wait()
                self._file_lock.acquire(poll_interval=_LOCK_POLL_SECONDS)
        except OSError as error:
            raise self._write_error(error) from error

    @property
    def has_writer(self) -> bool:
        """True while a thread or process is writing, and for a library that cannot be written."""
        try:
            with FileLock(self._file_lock.lock_file, timeout=0, is_singleton=False):
                return False
        except OSError:  # includes Timeout
            return True

    def _write_error(self, error: Exception) -> LibraryError:
        return LibraryError(f"cannot write to the library {self.folder}: {error}")

    def _read_error(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"cannot read the library {self.folder}: {error}; restore that folder from a backup"
        )

    # --- reading papers ----------------------------------------------------------------------

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads of this thread inside see one state of the library."""
        connection = self._connection()
        if connection.in_transaction:
            yield
            return
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")  # ends the read transaction; nothing was written

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise self._read_error(error) from error

    def _query_column(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        return [row[0] for row in self._query(sql, values)]

    def meta(self, name: str) -> str:
        """Return a metadata value (`schema`, `digest`, `embedder`, …); empty if not set."""
        values = self._query_column("SELECT value FROM meta WHERE name = ?", (name,))
        return str(values[0]) if values else ""

    @property
    def digest(self) -> str:
        """Digest of all papers' records, independent of the order in which they were added."""
        return f"{int(self.meta('digest')):032x}"[:16]

    def __len__(self) -> int:
        return self._statistics().papers

    def _statistics(self) -> _Statistics:
        """Return the cached counts, which are too slow to compute for every question."""
        digest = self.meta("digest")
        if self._cached_statistics.digest != digest:
            papers = int(self._query_column("SELECT count(*) FROM paper")[0])
            self._cached_statistics = _Statistics(digest, papers)
        return self._cached_statistics

    def counts(self) -> dict[str, int]:
        """Count the rows of each kind."""
        queries = {
            "papers": "SELECT count(*) FROM paper",
            "without_abstract": "SELECT count(*) FROM paper WHERE abstract = ''",
            "passages": "SELECT count(*) FROM passage",
            "full_text": "SELECT count(*) FROM full_text",
        }
        return {name: int(self._query_column(sql)[0]) for name, sql in queries.items()}

    def papers(
        self, condition: Condition | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[Paper]:
        """Yield the papers in the order they were added, loading a few hundred at a time."""
        keys = self.paper_keys(condition)[start:stop]
        for first in range(0, len(keys), _BATCH):
            batch = keys[first : first + _BATCH]
            papers = self.papers_by_key(batch)
            for key in batch:
                if key in papers:
                    yield papers[key]

    def papers_by_key(self, keys: Iterable[int]) -> dict[int, Paper]:
        """Return the papers in these rows."""
        sql = f"SELECT {PAPER_COLUMNS} FROM paper WHERE key IN (SELECT value FROM json_each(?))"
        return {row[0]: paper_from_row(row) for row in self._query(sql, (json_keys(keys),))}

    def find(self, name: str) -> StoredPaper:
        """Return the paper with an id, the unambiguous start of an id, a DOI, arXiv or PubMed id.

        Raises `PaperNotFound`, with suggestions for an ambiguous start.
        """
        # SQLite cannot bind lone surrogates.
        text = name.strip().encode("utf-8", "replace").decode()
        doi, arxiv_id, pmid = parse_doi(text), parse_arxiv_id(text), parse_pmid(text)
        sql = (
            "SELECT key FROM paper WHERE id = ? "
            "OR key IN (SELECT paper FROM identifier WHERE name IN (?, ?, ?))"
        )
        values = (text.lower(), f"doi:{doi}", f"arxiv:{arxiv_id}", f"pmid:{pmid}")
        keys = self._query_column(sql, values)
        suggestions: dict[str, int] = {}
        if not keys and text:
            suggestions = self._ids_starting_with(text.lower())
            keys = list(suggestions.values()) if len(suggestions) == 1 else []
        if not keys:
            raise PaperNotFound(name, tuple(suggestions))
        return StoredPaper(keys[0], self.papers_by_key(keys[:1])[keys[0]])

    def _ids_starting_with(self, start: str) -> dict[str, int]:
        sql = "SELECT id, key FROM paper WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT ?"
        return dict(self._query(sql, (len(start), start, _MAX_SUGGESTIONS)))

    def paper_keys(self, condition: Condition | None = None) -> list[int]:
        """Return row numbers of all papers, or of those that match, oldest first."""
        if condition is None:
            return self._query_column("SELECT key FROM paper ORDER BY key")
        sql = f"SELECT key FROM paper WHERE {condition.sql} ORDER BY key"
        return self._query_column(sql, condition.values)

    def imported_records(self, digests: Iterable[str]) -> set[str]:
        """Return which of these digests belong to records that have been imported before."""
        sql = (
            "SELECT record_hash FROM provenance "
            "WHERE record_hash IN (SELECT value FROM json_each(?))"
        )
        return set(self._query_column(sql, (json.dumps(list(digests)),)))

    def author_names(self) -> list[str]:
        """Return the names of all authors, as the records spell them."""
        valid = "CASE WHEN json_valid(authors) THEN authors ELSE '[]' END"
        sql = f"SELECT DISTINCT value FROM paper, json_each({valid})"
        return list(map(str, self._query_column(sql)))

    def venues(self) -> dict[str, int]:
        """Return the venues of all papers with their numbers of papers."""
        return dict(
            self._query("SELECT venue, count(*) FROM paper WHERE venue != '' GROUP BY venue")
        )

    # --- full text ---------------------------------------------------------------------------

    def search_full_text(
        self, terms: Sequence[str], k: int, allowed: Iterable[int] | None = None
    ) -> list[int]:
        """Return row numbers of the `k` best papers by BM25 over the rarest terms, best first.

        `allowed` limits the search to these row numbers.
        """
        rarest = self._rarest_terms(terms)
        if not rarest:
            return []
        # The plus keeps SQLite from looking up every allowed row in the index, one by one.
        restriction = "" if allowed is None else "AND +rowid IN (SELECT value FROM json_each(?))"
        values = () if allowed is None else (json_keys(allowed),)
        match = " OR ".join(f'"{term}"' for term in rarest)
        sql = (
            f"SELECT rowid FROM full_text WHERE full_text MATCH ? {restriction} "
            "ORDER BY rank LIMIT ?"
        )
        return self._query_column(sql, (match, *values, k))

    def match_full_text(self, terms: Iterable[str], column: str = "") -> set[int]:
        """Return row numbers of the papers that contain every term, in any order.

        `column` limits the search to `title` or `abstract`.
        """
        match = " AND ".join(f'"{term}"' for term in terms)
        match = f"{{{column}}} : ({match})" if column else match
        sql = "SELECT rowid FROM full_text WHERE full_text MATCH ?"
        return set(self._query_column(sql, (match,))) if match else set()

    def _rarest_terms(self, terms: Iterable[str]) -> list[str]:
        """Return the rarest terms with at most `_MAX_MATCHES` matches in total, at least one."""
        frequencies = self.document_frequencies(terms)
        rarest: list[str] = []
        matches = 0
        for term in sorted(frequencies, key=frequencies.__getitem__):
            matches += frequencies[term]
            if rarest and matches > _MAX_MATCHES:
                break
            rarest.append(term)
        return rarest

    def score_full_text(self, terms: Iterable[str], keys: Iterable[int]) -> dict[int, float]:
        """Return the BM25 scores of these papers over all terms."""
        sql = "SELECT block FROM full_text_data WHERE id = ?"
        blocks = self._query_column(sql, (_FTS5_AVERAGES_ROW,))
        frequencies = self.document_frequencies(terms)
        scorer = BM25Scorer.from_statistics(frequencies, blocks[0] if blocks else b"")
        sql = (
            "SELECT rowid, title, abstract FROM full_text "
            "WHERE rowid IN (SELECT value FROM json_each(?))"
        )
        scores = {}
        for key, title, abstract in self._query(sql, (json_keys(keys),)):
            scores[key] = scorer.score(f"{title} {abstract}")
        return scores

    def document_frequencies(self, terms: Iterable[str]) -> dict[str, int]:
        """Return the number of papers that contain each term; terms in no paper are left out."""
        cached = self._statistics().document_frequencies
        frequencies = {}
        for term in terms:
            if term not in cached:
                sql = "SELECT doc FROM full_text_terms WHERE term = ?"
                counts = self._query_column(sql, (term,))
                cached[term] = int(counts[0]) if counts else 0
            if cached[term]:
                frequencies[term] = cached[term]
        return frequencies

    # --- passages and sentences --------------------------------------------------------------

    def passages(self, keys: Iterable[int]) -> tuple[list[tuple[int, Passage]], Vectors]:
        """Return the passages of these papers, each with its paper's row number.

        The vectors are (passages, dimension).
        """
        sql = (
            'SELECT passage.paper, id, start, "end", vector '
            "FROM passage JOIN paper ON paper.key = passage.paper "
            "WHERE passage.paper IN (SELECT value FROM json_each(?)) ORDER BY passage.key"
        )
        passages, blobs = [], []
        for key, paper_id, start, end, blob in self._query(sql, (json_keys(keys),)):
            passages.append((key, make_passage(paper_id, start, end)))
            blobs.append(blob)
        return passages, from_blob(b"".join(blobs), len(blobs))

    def passage_vectors(self, passage_keys: Sequence[int]) -> Vectors:
        """Return the vectors of these passages in that order, (passages, dimension)."""
        sql = "SELECT key, vector FROM passage WHERE key IN (SELECT value FROM json_each(?))"
        blobs = dict(self._query(sql, (json_keys(passage_keys),)))
        return from_blob(b"".join(map(blobs.__getitem__, passage_keys)), len(passage_keys))

    def passage_keys(self, paper_keys: Iterable[int] | None = None) -> list[int]:
        """Return row numbers of all passages, or of those of some papers."""
        if paper_keys is None:
            return self._query_column("SELECT key FROM passage")
        sql = "SELECT key FROM passage WHERE paper IN (SELECT value FROM json_each(?))"
        return self._query_column(sql, (json_keys(paper_keys),))

    def passage_papers(self, passage_keys: Iterable[int]) -> dict[int, int]:
        """Map the row number of each passage to that of its paper."""
        sql = "SELECT key, paper FROM passage WHERE key IN (SELECT value FROM json_each(?))"
        return dict(self._query(sql, (json_keys(passage_keys),)))

    def sentences(self, keys: Iterable[int]) -> dict[int, tuple[list[Sentence], Vectors]]:
        """Return the sentences of each paper, and their vectors, (sentences, dimension)."""
        sql = (
            "SELECT paper, id, abstract, spans, vectors "
            "FROM sentences JOIN paper ON paper.key = sentences.paper "
            "WHERE paper IN (SELECT value FROM json_each(?))"
        )
        sentences_by_key = {}
        for key, paper_id, abstract, spans, blob in self._query(sql, (json_keys(keys),)):
            sentences = []
            for start, end in json.loads(spans):
                sentences.append(Sentence(paper_id, start, end, abstract[start:end]))
            sentences_by_key[key] = (sentences, from_blob(blob, len(sentences)))
        return sentences_by_key

    def sentence_vectors(self, keys: Iterable[int]) -> tuple[list[int], Vectors]:
        """Return the vectors of all sentences of these papers, (sentences, dimension).

        The list holds the row number of each sentence's paper.
        """
        sql = (
            "SELECT paper, json_array_length(spans), vectors FROM sentences "
            "WHERE paper IN (SELECT value FROM json_each(?))"
        )
        paper_keys: list[int] = []
        blobs = []
        for key, count, blob in self._query(sql, (json_keys(keys),)):
            paper_keys += [key] * count
            blobs.append(blob)
        return paper_keys, from_blob(b"".join(blobs), len(paper_keys))

    # --- state of the vector index -----------------------------------------------------------

    def is_indexed(self) -> bool:
        """Return whether the vector index has received every change."""
        sql = (
            "SELECT EXISTS (SELECT 1 FROM passage WHERE indexed = 0) "
            "OR EXISTS (SELECT 1 FROM removed_passage)"
        )
        return not self._query_column(sql)[0]

    def index_metadata(self) -> dict[str, str]:
        """Return the latest committed metadata, even inside `snapshot`.

        A search needs the latest state of the vector index, whatever snapshot of the papers it
        reads. `begun` is set once the index has received a passage.
        """
        sql = (
            "SELECT name, value FROM meta UNION ALL "
            "SELECT 'begun', '1' WHERE EXISTS (SELECT 1 FROM passage WHERE indexed = 1)"
        )
        try:
            connection = sqlite3.connect(self.folder / DATABASE, timeout=_BUSY_TIMEOUT_SECONDS)
            with contextlib.closing(connection):
                return dict(connection.execute(sql).fetchall())
        except sqlite3.Error as error:
            raise self._read_error(error) from error

    def pending_passages(self, limit: int) -> tuple[list[tuple[int, str, int, int]], Vectors]:
        """Return up to `limit` passages that the vector index lacks, and their vectors.

        A passage is (row number, paper id, start, end); the vectors are (passages, dimension).
        """
        sql = (
            'SELECT passage.key, id, start, "end", vector '
            "FROM passage JOIN paper ON paper.key = passage.paper "
            "WHERE indexed = 0 ORDER BY passage.key LIMIT ?"
        )
        passages, blobs = [], []
        for key, paper_id, start, end, blob in self._query(sql, (limit,)):
            passages.append((key, paper_id, start, end))
            blobs.append(blob)
        return passages, from_blob(b"".join(blobs), len(blobs))

    def removed_passages(self) -> list[int]:
        """Return row numbers of removed passages that the vector index may still hold."""
        return self._query_column("SELECT key FROM removed_passage")

    # --- integrity ---------------------------------------------------------------------------

    def check_database(self) -> str:
        """Return the structural errors that SQLite finds in the file; empty if there are none."""
        connection = self._connection()
        try:
            messages = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
            orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
        except sqlite3.Error as error:
            return str(error)
        problems = [] if messages == ["ok"] else list(map(str, messages))
        if orphans:
            problems.append("rows that refer to a missing paper")
        return "; ".join(problems)

    def check_integrity(self) -> IntegrityReport:
        """Check that the tables agree with each other. Reads everything."""
        with self.snapshot():
            return check_integrity(self._query)

    def check_full_text(self) -> str:
        """Return the error that SQLite finds in the full-text index; empty if there is none."""
        try:
            with self.transaction() as transaction:
                transaction.check_full_text()
        except LibraryError as error:
            return str(error)
        return ""

    def size(self) -> int:
        """Return the number of bytes on disk, including the vector index."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def _file_name(path: str) -> str:
    return Path(path).name
