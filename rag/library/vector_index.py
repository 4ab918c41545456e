"""Chroma as the index of passage vectors, derived from the library and rebuildable at any time.

This is the only module that knows Chroma. The library records which passages Chroma still lacks or
has to remove, so the next `sync` completes whatever a kill interrupted. A number in the library's
metadata, the generation, tells other processes that the index they have open is stale.
"""

import contextlib
import itertools
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from rag.errors import LibraryError
from rag.models.vectors import Vectors

if TYPE_CHECKING:
    from rag.library.library import Library
    from rag.library.transaction import Transaction

# Chroma has no public types.
_Collection = Any
# ef_search: number of candidates that HNSW keeps during a search; with 200 it finds what an exact
# search finds.
_CONFIGURATION: Any = {"hnsw": {"space": "cosine", "ef_search": 200}}
# Chroma accepts at most 5,461 rows per call.
_BATCH = 5_000
_LOCK_POLL_SECONDS = 0.002
# HNSW keeps deleted nodes as tombstones; recall falls as their share of all nodes grows.
_MAX_TOMBSTONE_SHARE = 0.2
# `compare` searches for at least this many passages, if there are as many.
_MIN_SAMPLE = 200
# Two vectors with at least this cosine similarity are the same, up to rounding.
_MIN_SAME_SIMILARITY = 0.999
# Names in the library's metadata.
_GENERATION = "generation"
_FOLDER = "index_folder"
_TOMBSTONES = "index_dead"
_DEFAULT_FOLDER = "chroma"
_FOLDER_PATTERN = re.compile(r"chroma(-\d+)?")


@dataclass(frozen=True, slots=True)
class IndexDifference:
    """Numbers of passages for which Chroma and the library disagree.

    `missing` from Chroma, `surplus` in Chroma, `altered`: with another vector, `unreachable`: not
    found by a search for their own vector (only a sample is searched for).
    """

    missing: int = 0
    surplus: int = 0
    altered: int = 0
    unreachable: int = 0


@dataclass(slots=True)
class _ChromaSession:
    """Open Chroma of one library folder, shared by all its users in this process.

    Chroma keeps one state per folder and process. It locks nothing between processes, and even a
    search may write, because it applies what others left in Chroma's log. Therefore only one thread
    of one process may use Chroma at a time.
    """

    process_lock: FileLock
    thread_lock: threading.RLock = field(default_factory=threading.RLock)
    client: Any = None
    collection: _Collection = None
    identity: tuple[str, str] = ("", "")
    generation: int = 0


_SESSIONS: dict[Path, _ChromaSession] = {}


class VectorIndex:
    """Nearest passages by cosine similarity. Safe to use from several threads and processes."""

    def __init__(self, library: "Library") -> None:
        self._library = library
        folder = library.folder.resolve()
        lock = FileLock(folder / "index.lock", mode=0o600, thread_local=False)
        self._session = _SESSIONS.setdefault(folder, _ChromaSession(lock))

    def search(self, vector: Vectors, k: int) -> dict[int, float]:
        """Map the row numbers of the `k` passages nearest to a vector to their similarity.

        The vector is (dimension,).
        """
        with self._exclusive_access():
            result = self._current_collection().query(
                query_embeddings=[vector], n_results=k, include=["distances"]
            )
        pairs = zip(result["ids"][0], result["distances"][0], strict=True)
        return {int(key): 1.0 - float(distance) for key, distance in pairs}

    def keys(self) -> set[int]:
        """Return the row numbers of all passages in Chroma."""
        with self._exclusive_access():
            return set(map(int, self._current_collection().get(include=[])["ids"]))

    def close(self) -> None:
        """Close Chroma's files; the next search opens them again."""
        with self._session.thread_lock:
            if self._session.client is not None:
                self._session.client.close()
            self._session.client = self._session.collection = None

    # --- updating ----------------------------------------------------------------------------

    def sync(self) -> int:
        """Apply the library's changes to Chroma; return the number of passages added or removed."""
        changes = 0
        while not self._library.is_indexed():
            if self._has_too_many_tombstones():
                return self.rebuild()
            # Chroma stays locked until the transaction has ended: no search may see the changes
            # before the library's metadata announces them.
            with contextlib.ExitStack() as chroma, self._library.transaction() as transaction:
                chroma.enter_context(self._exclusive_access())
                collection = self._current_collection()
                added, removed = self._apply_pending(transaction, collection)
                for orphan in self._orphaned_collections(collection):
                    self._session.client.delete_collection(orphan.name)
                self._session.generation = self._counter(_GENERATION) + 1
                transaction.set_meta(_GENERATION, str(self._session.generation))
                transaction.set_meta(_TOMBSTONES, str(self._counter(_TOMBSTONES) + removed))
            changes += added + removed
        return changes

    def rebuild(self) -> int:
        """Rebuild Chroma from the library's vectors; return the number of passages.

        Readers keep the old index until the new one is complete.
        """
        with contextlib.ExitStack() as chroma, self._library.transaction() as transaction:
            # Use a new folder: other processes may have the old one open, and a damaged one
            # cannot be opened again.
            generation = self._counter(_GENERATION) + 1
            folder = self._library.folder / f"{_DEFAULT_FOLDER}-{generation}"
            shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
            old_folders = self._index_folders()
            transaction.mark_all_pending()
            added = self._build(transaction, folder)
            chroma.enter_context(self._exclusive_access())
            self.close()
            transaction.set_meta(_FOLDER, folder.name)
            transaction.set_meta(_GENERATION, str(generation))
            transaction.set_meta(_TOMBSTONES, "0")
        with self._exclusive_access():
            for old_folder in old_folders:  # but not one that was started since
                shutil.rmtree(old_folder, ignore_errors=True)
        return added

    def _build(self, transaction: "Transaction", folder: Path) -> int:
        """Add every passage to a new Chroma folder that no other process knows of yet."""
        added = 0
        fingerprint = self._library.meta("embedder_fingerprint")
        with self._chroma_errors():
            client, collection = _open_chroma(folder, fingerprint, must_exist=False)
            with contextlib.closing(client):
                while not self._library.is_indexed():
                    added += sum(self._apply_pending(transaction, collection))
        return added

    def _apply_pending(
        self, transaction: "Transaction", collection: _Collection
    ) -> tuple[int, int]:
        """Apply and record one batch of changes; return how many passages it added and removed."""
        passages, vectors = self._library.pending_passages(_BATCH)
        removed = self._library.removed_passages()
        _update_collection(collection, passages, vectors, removed)
        transaction.mark_indexed([key for key, *_ in passages], removed)
        return len(passages), len(removed)

    def _has_too_many_tombstones(self) -> bool:
        """Return whether the pending removals would leave too many deleted nodes in HNSW."""
        removed = len(self._library.removed_passages())
        tombstones = self._counter(_TOMBSTONES) + removed
        nodes = tombstones + len(self._library.passage_keys())
        return removed > 0 and tombstones > _MAX_TOMBSTONE_SHARE * nodes

    def _orphaned_collections(self, current: _Collection) -> list[_Collection]:
        """Return collections with another model's vectors, which a killed process left behind."""
        collections = self._session.client.list_collections()
        return [collection for collection in collections if collection.name != current.name]

    def _counter(self, name: str) -> int:
        return int(self._library.meta(name) or 0)

    def _index_folders(self) -> list[Path]:
        folders = []
        for path in self._library.folder.iterdir():
            if _FOLDER_PATTERN.fullmatch(path.name):
                folders.append(path)
        return folders

    # --- comparing ---------------------------------------------------------------------------

    def compare(self) -> IndexDifference:
        """Compare every passage in Chroma with the library, and search for a sample of them."""
        stored = set(self._library.passage_keys())
        if stored and not self._folder(self._library.index_metadata()).exists():
            return IndexDifference(missing=len(stored))
        indexed = self.keys()
        shared = sorted(stored & indexed)
        with self._exclusive_access():
            orphans = self._orphaned_collections(self._current_collection())
            orphaned_passages = sum(collection.count() for collection in orphans)
        return IndexDifference(
            missing=len(stored - indexed),
            surplus=len(indexed - stored) + orphaned_passages,
            altered=sum(map(self._count_altered, _batches(shared))),
            unreachable=sum(map(self._is_unreachable, _sample(shared))),
        )

    def _count_altered(self, keys: Sequence[int]) -> int:
        vectors = self._library.passage_vectors(keys)
        with self._exclusive_access():
            return len(keys) - len(_find_unchanged(self._current_collection(), keys, vectors))

    def _is_unreachable(self, key: int) -> bool:
        """Return whether a search for a passage's own vector finds nothing that similar."""
        vector = self._library.passage_vectors([key])[0]
        similarities = self.search(vector, 1).values()
        return max(similarities, default=0.0) < _MIN_SAME_SIMILARITY

    # --- opening -----------------------------------------------------------------------------

    def _folder(self, metadata: Mapping[str, str]) -> Path:
        return self._library.folder / (metadata.get(_FOLDER) or _DEFAULT_FOLDER)

    def _current_collection(self) -> _Collection:
        """Return the collection, opened again if another process has changed it."""
        metadata = self._library.index_metadata()
        fingerprint = metadata.get("embedder_fingerprint", "")
        generation = int(metadata.get(_GENERATION) or 0)
        # Another library may have been created in the same folder, and a library that was empty
        # when it was first searched had no embedding model.
        identity = metadata.get("identity", ""), fingerprint
        session = self._session
        if identity != session.identity or generation > session.generation:
            self.close()
        if session.collection is None:
            session.client, session.collection = _open_chroma(
                self._folder(metadata), fingerprint, must_exist="begun" in metadata
            )
            session.identity, session.generation = identity, generation
        return session.collection

    @contextlib.contextmanager
    def _exclusive_access(self) -> Iterator[None]:
        """Keep all other threads and processes from using Chroma."""
        lock = self._session.process_lock
        with (
            self._session.thread_lock,
            self._chroma_errors(),
            lock.acquire(poll_interval=_LOCK_POLL_SECONDS),
        ):
            yield

    @contextlib.contextmanager
    def _chroma_errors(self) -> Iterator[None]:
        """Turn whatever Chroma raises into `LibraryError`: a rebuild always helps."""
        try:
            yield
        except LibraryError:
            raise
        except Exception as error:
            self.close()
            folder = self._folder(self._library.index_metadata())
            raise LibraryError(
                f"cannot use the vector index in {folder}: {error}; rebuild it with: "
                f"footnote reindex --library {self._library.folder}"
            ) from error


def _batches(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]


def _sample(keys: Sequence[int]) -> Sequence[int]:
    return keys[:: max(1, len(keys) // _MIN_SAMPLE)]


def _open_chroma(folder: Path, fingerprint: str, *, must_exist: bool) -> tuple[Any, _Collection]:
    """Open Chroma's client and collection, creating them unless they `must_exist`."""
    import chromadb
    from chromadb.config import Settings

    if must_exist and not folder.exists():
        raise FileNotFoundError("it is missing")
    # Chroma makes its own files readable to everyone.
    folder.mkdir(mode=0o700, exist_ok=True)
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    # One collection per model, so that vectors of two models never mix, whatever a kill interrupts.
    name = f"passages-{fingerprint or 'none'}"
    if must_exist:
        collection = client.get_collection(name, embedding_function=None)
    else:
        collection = client.get_or_create_collection(
            name, embedding_function=None, configuration=_CONFIGURATION
        )
    # On every upsert Chroma creates the embedding functions that the schema names, with the
    # arguments in it. The library, and so the schema, may come from an untrusted person.
    collection._model.serialized_schema = None
    return client, collection


def _update_collection(
    collection: _Collection,
    passages: Sequence[tuple[int, str, int, int]],
    vectors: Vectors,
    removed: Sequence[int],
) -> None:
    for batch in _batches(removed):
        collection.delete(ids=list(map(str, batch)))
    # A killed process may have added some of the passages. Adding them twice would make some
    # unreachable for searches.
    unchanged = _find_unchanged(collection, [key for key, *_ in passages], vectors)
    rows, ids, metadatas = [], [], []
    for row, (key, paper_id, start, end) in enumerate(passages):
        if key not in unchanged:
            rows.append(row)
            ids.append(str(key))
            metadatas.append({"paper_id": paper_id, "start": start, "end": end})
    if rows:
        embeddings = np.ascontiguousarray(vectors[rows])
        collection.upsert(ids=ids, embeddings=embeddings, metadatas=metadatas)


def _find_unchanged(collection: _Collection, keys: Sequence[int], vectors: Vectors) -> set[int]:
    """Return the keys that the collection holds with these vectors, (keys, dimension)."""
    if not keys:
        return set()
    result = collection.get(ids=list(map(str, keys)), include=["embeddings"])
    indexed_keys = list(map(int, result["ids"]))
    indexed_vectors = np.asarray(result["embeddings"], np.float32)
    row_by_key = dict(zip(keys, range(len(keys)), strict=True))
    expected_vectors = vectors[list(map(row_by_key.__getitem__, indexed_keys))]
    if expected_vectors.shape != indexed_vectors.shape:
        return set()
    similarities = np.einsum("ij,ij->i", expected_vectors, indexed_vectors)
    return set(itertools.compress(indexed_keys, similarities > _MIN_SAME_SIMILARITY))
