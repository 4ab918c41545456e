"""Chroma as an index of passages, derived from the library and rebuildable from it at any time.

This is the only module that knows Chroma. The library notes which passages Chroma lacks (`pending`) or holds
too many (`removed`), so whatever a kill interrupted is made up by the next `sync`. A number in the library,
the generation, tells readers in other processes that what they have open is stale.
"""

import contextlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rag.errors import LibraryError
from rag.library import Library
from rag.library.schema import Vectors

_FOLDER = "chroma"
# ef_search: how many candidates the graph keeps while it searches; 200 finds what an exact search finds.
_SETTINGS = {"hnsw": {"space": "cosine", "ef_search": 200}}
# Chroma takes at most 5,461 rows at once.
_MOST_AT_ONCE = 5_000
_GENERATION = "generation"


class PassageIndex:
    """Nearest passages by cosine similarity. Safe to use from several threads."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._folder = library.folder / _FOLDER
        self._lock = threading.RLock()
        self._client: Any = None
        self._collection: Any = None
        self._opened_at = ""

    def search(self, vector: Vectors, k: int, allowed: Sequence[int] | None = None) -> dict[int, float]:
        """Cosine similarity of the `k` passages nearest to a vector, (dimension,), by row number.

        `allowed` limits the search to these row numbers.
        """
        if allowed is not None and not allowed:
            return {}
        with self._lock, self._chroma_errors():
            collection = self._fresh_collection()
            ids = {} if allowed is None else {"ids": [str(key) for key in allowed]}
            found = collection.query(query_embeddings=[vector], n_results=k, include=["distances"], **ids)
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return {int(key): 1.0 - float(distance) for key, distance in pairs}

    def sync(self) -> int:
        """Bring Chroma up to date with the library; gives how many passages it had to add or take out."""
        changed = 0
        while not self._library.is_indexed():
            with self._library.writing() as writer:
                rows, vectors = self._library.pending(_MOST_AT_ONCE)
                removed = self._library.removed()
                with self._lock, self._chroma_errors():
                    self._apply(rows, vectors, removed)
                writer.mark_indexed([row[0] for row in rows], removed)
                self._opened_at = str(int(self._library.meta(_GENERATION) or 0) + 1)
                writer.set_meta(_GENERATION, self._opened_at)
                changed += len(rows) + len(removed)
        return changed

    def rebuild(self) -> int:
        """Make Chroma anew from the library, without embedding anything again; gives the number of passages."""
        with self._library.writing() as writer:
            self._close()
            shutil.rmtree(self._folder, ignore_errors=True)
            writer.mark_all_pending()
        return self.sync()

    def keys(self) -> set[int]:
        """Row numbers of all passages that Chroma holds."""
        with self._lock, self._chroma_errors():
            return {int(key) for key in self._fresh_collection().get(include=[])["ids"]}

    def _apply(self, rows: list[tuple[int, str, int, int]], vectors: Vectors, removed: list[int]) -> None:
        collection = self._fresh_collection()
        for start in range(0, len(removed), _MOST_AT_ONCE):
            collection.delete(ids=[str(key) for key in removed[start : start + _MOST_AT_ONCE]])
        if rows:
            collection.upsert(
                ids=[str(key) for key, *_ in rows],
                embeddings=np.ascontiguousarray(vectors),
                metadatas=[{"paper_id": paper, "start": start, "end": end} for _, paper, start, end in rows],
            )

    def _fresh_collection(self) -> Any:  # noqa: ANN401 - Chroma's types are its own affair
        """The collection as of the library's last change, opened again when another process made that."""
        generation = self._library.meta(_GENERATION)
        if self._collection is not None and generation != self._opened_at:
            self._close()
        if self._collection is None:
            self._open()
            self._opened_at = generation
        return self._collection

    def _open(self) -> None:
        import chromadb
        from chromadb.config import Settings

        # Vectors of two models never meet in one collection, whatever a kill interrupted.
        name = f"passages-{self._library.meta('embedder_fingerprint') or 'none'}"
        self._client = chromadb.PersistentClient(str(self._folder), Settings(anonymized_telemetry=False))
        self._collection = self._client.get_or_create_collection(name, embedding_function=None, configuration=_SETTINGS)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._collection = None

    @contextlib.contextmanager
    def _chroma_errors(self) -> Iterator[None]:
        """Chroma raises what it likes; whatever it is, the truth is whole and the way out is the same."""
        try:
            yield
        except LibraryError:
            raise
        except Exception as error:
            self._close()
            raise LibraryError(
                f"the search index in {self._folder} does not answer ({error}); to make it anew: "
                f"footnote reindex --library {self._library.folder}"
            ) from error
