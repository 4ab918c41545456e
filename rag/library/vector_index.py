"""Chroma as an index of passages, derived from the library and rebuildable from it at any time.

This is the only module that knows Chroma. The library notes which passages Chroma lacks (`pending`) or holds
too many (`removed`), so whatever a kill interrupted is made up by the next `sync`. A number in the library,
the generation, tells readers in other processes that what they have open is stale.
"""

import contextlib
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from rag.errors import LibraryError
from rag.library.library import Library
from rag.library.transaction import Transaction
from rag.models.vectors import Vectors

# ef_search: how many candidates the graph keeps while it searches; 200 finds what an exact search finds.
_SETTINGS: Any = {"hnsw": {"space": "cosine", "ef_search": 200}}
# Chroma takes at most 5,461 rows at once.
_MOST_AT_ONCE = 5_000
# How often somebody who waits for another process's turn at Chroma looks whether it has ended.
_POLL_SECONDS = 0.002
# Of what is removed the graph keeps the dead, and the more of them, the more of the living it loses: a share of all.
_MOST_DEAD = 0.2
# So many passages are searched for when Chroma is compared with the library.
_SEARCHED = 200
# Cosine similarity of a vector with itself, but for rounding.
_SAME = 0.999
# Names in the library's notes: the state that Chroma was brought to, and the folder it lies in.
_GENERATION = "generation"
_FOLDER = "index_folder"
_DEAD = "index_dead"
_OWN_FOLDER = re.compile(r"chroma(-\d+)?")


@dataclass(frozen=True, slots=True)
class Difference:
    """How Chroma differs from the library: passages it lacks, holds too many, has other vectors of, or cannot find."""

    missing: int
    surplus: int
    other: int
    lost: int


@dataclass(slots=True)
class _Opened:
    """Chroma as this process has it open. It keeps one state for a folder and process, and so do we.

    Between processes it locks nothing, and whoever searches may write, too: it brings in what others left in its log.
    So at any moment one thread of one process has its `turn`.
    """

    turn: FileLock
    lock: threading.RLock = field(default_factory=threading.RLock)
    client: Any = None
    collection: Any = None
    identity: tuple[str, str] = ("", "")
    generation: str = ""


_OPENED: dict[Path, _Opened] = {}


class VectorIndex:
    """Nearest passages by cosine similarity. Safe to use from several threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        folder = library.folder.resolve()
        self._opened = _OPENED.setdefault(
            folder, _Opened(FileLock(folder / "index.lock", mode=0o600, thread_local=False))
        )

    @property
    def _folder(self) -> Path:
        return self._library.folder / (self._library.index_metadata().get(_FOLDER) or "chroma")

    def search(self, vector: Vectors, k: int) -> dict[int, float]:
        """Cosine similarity of the `k` passages nearest to a vector, (dimension,), by row number."""
        with self._turn():
            found = self._fresh_collection().query(
                query_embeddings=[vector], n_results=k, include=["distances"]
            )
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return {int(key): 1.0 - float(distance) for key, distance in pairs}

    def sync(self) -> int:
        """Bring Chroma up to date with the library; gives how many passages were put in or taken out."""
        changed = 0
        while not self._library.is_indexed():
            if self._is_of_the_dead():
                return self.rebuild()
            # The turn ends after the transaction: nobody is to search before the notes say what has changed.
            with contextlib.ExitStack() as turn, self._library.transaction() as transaction:
                turn.enter_context(self._turn())
                added, removed = self._bring(transaction, self._fresh_collection())
                self._drop_others()
                self._opened.generation = str(int(self._library.meta(_GENERATION) or 0) + 1)
                transaction.set_meta(_GENERATION, self._opened.generation)
                transaction.set_meta(_DEAD, str(int(self._library.meta(_DEAD) or 0) + removed))
            changed += added + removed
        return changed

    def _is_of_the_dead(self) -> bool:
        """Whether too many of those that the graph would hold are removed ones."""
        removed = len(self._library.removed())
        dead = int(self._library.meta(_DEAD) or 0) + removed
        return removed > 0 and dead > _MOST_DEAD * (dead + len(self._library.passage_keys()))

    def rebuild(self) -> int:
        """Make Chroma anew from the library, without embedding anything again; gives the number of passages.

        All of it or nothing: until it is whole, readers have the old one.
        """
        with contextlib.ExitStack() as turn, self._library.transaction() as transaction:
            # A new folder: other processes may have the old one open, and a damaged one cannot be opened again.
            number = int(self._library.meta(_GENERATION) or 0) + 1
            folder = self._library.folder / f"chroma-{number}"
            shutil.rmtree(folder, ignore_errors=True)  # a killed process may have begun one
            old = [one for one in self._library.folder.iterdir() if _OWN_FOLDER.fullmatch(one.name)]
            transaction.mark_all_pending()
            added = self._fill(transaction, folder)
            turn.enter_context(self._turn())
            self.close()
            for name, value in ((_FOLDER, folder.name), (_GENERATION, str(number)), (_DEAD, "0")):
                transaction.set_meta(name, value)
        with self._turn():
            for one in old:  # and not one that another process may have begun since
                shutil.rmtree(one, ignore_errors=True)
        return added

    def _fill(self, transaction: Transaction, folder: Path) -> int:
        """Put every passage into a Chroma that nobody else knows of yet; gives how many there are."""
        added = 0
        with self._chroma_errors():
            client, collection = _open(
                folder, self._library.meta("embedder_fingerprint"), begun=False
            )
            with contextlib.closing(client):
                while not self._library.is_indexed():
                    added += sum(self._bring(transaction, collection))
        return added

    def _bring(self, transaction: Transaction, collection: Any) -> tuple[int, int]:  # noqa: ANN401 - Chroma's types are its own affair
        """Bring some of what is pending into a collection, and note that; gives passages added and taken out."""
        rows, vectors = self._library.pending(_MOST_AT_ONCE)
        removed = self._library.removed()
        _apply(collection, rows, vectors, removed)
        transaction.mark_indexed([row[0] for row in rows], removed)
        return len(rows), len(removed)

    def _drop_others(self) -> None:
        """Drop the vectors of another model, which a killed process may have left."""
        for one in self._opened.client.list_collections():
            if one.name != self._opened.collection.name:
                self._opened.client.delete_collection(one.name)

    def keys(self) -> set[int]:
        """Row numbers of all passages that Chroma holds."""
        with self._turn():
            return {int(key) for key in self._fresh_collection().get(include=[])["ids"]}

    def compare(self) -> Difference:
        """Hold every passage in Chroma against the library, and search for some of them."""
        truth = set(self._library.passage_keys())
        if truth and not self._folder.exists():
            return Difference(len(truth), 0, 0, 0)
        held = self.keys()
        both = sorted(truth & held)
        other = sum(
            self._others(both[start : start + _MOST_AT_ONCE])
            for start in range(0, len(both), _MOST_AT_ONCE)
        )
        lost = sum(self._is_lost(key) for key in both[:: max(1, len(both) // _SEARCHED)])
        return Difference(len(truth - held), len(held - truth) + self._stray(), other, lost)

    def _stray(self) -> int:
        """How many passages lie in collections that nobody searches."""
        with self._turn():
            name = self._fresh_collection().name
            return sum(
                one.count() for one in self._opened.client.list_collections() if one.name != name
            )

    def _others(self, keys: list[int]) -> int:
        """How many of Chroma's vectors of these passages are not those of the library."""
        with self._turn():
            return len(keys) - len(
                _same(self._fresh_collection(), keys, self._library.vectors_of_passages(keys))
            )

    def _is_lost(self, key: int) -> bool:
        """Whether a search for a passage's own vector finds nothing that near."""
        found = self.search(self._library.vectors_of_passages([key])[0], 1)
        return max(found.values(), default=0.0) < _SAME

    def _fresh_collection(self) -> Any:  # noqa: ANN401 - Chroma's types are its own affair
        """The collection as of the library's last change, opened again when another process made that."""
        # A library that was deleted and made anew in the same folder is another one; and one that was asked while it
        # was empty had no embedding model.
        notes = self._library.index_metadata()
        fingerprint, generation = notes.get("embedder_fingerprint", ""), notes.get(_GENERATION, "")
        identity = notes.get("identity", ""), fingerprint
        if identity != self._opened.identity or int(generation or 0) > int(
            self._opened.generation or 0
        ):
            self.close()
        if self._opened.collection is None:
            folder = self._library.folder / (notes.get(_FOLDER) or "chroma")
            self._opened.client, self._opened.collection = _open(
                folder, fingerprint, begun="begun" in notes
            )
            self._opened.identity, self._opened.generation = identity, generation
        return self._opened.collection

    def close(self) -> None:
        """Let go of Chroma's files; the next search opens them again."""
        with self._opened.lock:
            if self._opened.client is not None:
                self._opened.client.close()
            self._opened.client = self._opened.collection = None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Nobody else is at Chroma, in this process or another."""
        with (
            self._opened.lock,
            self._chroma_errors(),
            self._opened.turn.acquire(poll_interval=_POLL_SECONDS),
        ):
            yield

    @contextlib.contextmanager
    def _chroma_errors(self) -> Iterator[None]:
        """Chroma raises what it likes; whatever it is, the truth is whole and the way out is the same."""
        try:
            yield
        except LibraryError:
            raise
        except Exception as error:
            self.close()
            raise LibraryError(
                f"the search index in {self._folder} does not answer ({error}); to make it anew: "
                f"footnote reindex --library {self._library.folder}"
            ) from error


def _open(folder: Path, fingerprint: str, *, begun: bool) -> tuple[Any, Any]:
    """Client and collection; one that was `begun` is not made anew in silence when it is gone."""
    import chromadb
    from chromadb.config import Settings

    if begun and not folder.exists():
        raise FileNotFoundError("it is gone")
    folder.mkdir(
        mode=0o700, exist_ok=True
    )  # Chroma's own files can be read by everybody who gets there
    client = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    # Vectors of two models never meet in one collection, whatever a kill interrupted.
    name = f"passages-{fingerprint or 'none'}"
    if begun:
        collection = client.get_collection(name, embedding_function=None)
    else:
        collection = client.get_or_create_collection(
            name, embedding_function=None, configuration=_SETTINGS
        )
    # With every upsert Chroma makes the embedding functions that the schema names, with the arguments given there, and
    # a schema may come with a library from somebody else.
    collection._model.serialized_schema = None
    return client, collection


def _apply(
    collection: Any, rows: list[tuple[int, str, int, int]], vectors: Vectors, removed: list[int]
) -> None:  # noqa: ANN401
    for start in range(0, len(removed), _MOST_AT_ONCE):
        collection.delete(ids=[str(key) for key in removed[start : start + _MOST_AT_ONCE]])
    # What a killed process put in is left alone: of passages that are put in twice, searches miss some.
    there = _same(collection, [key for key, *_ in rows], vectors) if rows else set()
    missing = [number for number, (key, *_) in enumerate(rows) if key not in there]
    if missing:
        collection.upsert(
            ids=[str(rows[number][0]) for number in missing],
            embeddings=np.ascontiguousarray(vectors[missing]),
            metadatas=[
                dict(zip(("paper_id", "start", "end"), rows[number][1:], strict=True))
                for number in missing
            ],
        )


def _same(collection: Any, keys: list[int], vectors: Vectors) -> set[int]:  # noqa: ANN401
    """Those of some passages that Chroma holds with these vectors, (passages, dimension)."""
    found = collection.get(ids=[str(key) for key in keys], include=["embeddings"])
    theirs = np.asarray(found["embeddings"], np.float32)
    held, rows = [int(key) for key in found["ids"]], {key: row for row, key in enumerate(keys)}
    ours = vectors[[rows[key] for key in held]]
    if ours.shape != theirs.shape:
        return set()
    same = np.einsum("ij,ij->i", ours, theirs) > _SAME
    return {key for key, is_same in zip(held, same, strict=True) if is_same}
