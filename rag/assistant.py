"""The assistant: one library, and everything that can be asked of it."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.add import BATCH, Adder, Record, embed_papers
from rag.config import cache_folder, load_settings, user_path
from rag.errors import EmbedderMismatch, SourceError, UsageError
from rag.index import PassageIndex
from rag.library import Library, parse_filters
from rag.models import Embedder, load_embedder
from rag.read import read, weigh
from rag.records import AddReport, Answer, Evidence, Filters, Hit, Paper, Rejection, Trace
from rag.retrieve import Retriever
from rag.sample import sample_file
from rag.sources import expand, open_source
from rag.text.clean import path_text
from rag.write import answer

if TYPE_CHECKING:
    from rag.llama import FootnoteQueryEngine, FootnoteRetriever

# Longer questions are pasted papers; they would only be cut off by the model.
LONGEST_QUESTION = 2_000
# Readers take files in pieces of this many bytes.
_READ_AHEAD = 256 * 1024

Progress = Callable[[int, int, int], None]


class Assistant:
    """Ask one library. Open it with `Assistant.open`; it is safe to use from several threads."""

    def __init__(self, library: Library, embedder: str | Embedder = "") -> None:
        """Serve a library with an embedding model, given by name or loaded; by default the library's own."""
        self.library = library
        self._index = PassageIndex(library)
        self._embedder = None if isinstance(embedder, str) else embedder
        self._embedder_asked = embedder if isinstance(embedder, str) else embedder.name
        self._default = load_settings().embedder
        self._loading = threading.Lock()
        self._adder = Adder(library, self._index, self._load_embedder)
        self._retriever = Retriever(library, self._index, self._load_embedder)

    @classmethod
    def open(
        cls, library: str | os.PathLike[str] | None = None, *, embedder: str = "", create: bool = True
    ) -> "Assistant":
        """Open the library in a folder, by default the user's own; make it when it is not there and `create` allows.

        Raises `LibraryError`, and `EmbedderMismatch` when the library was made with another embedding model.
        """
        folder = user_path(library) if library is not None else load_settings().library_folder
        opened = Library(folder, create=create)
        made_with = opened.meta("embedder")
        if embedder and made_with and embedder != made_with:
            raise EmbedderMismatch(made_with, embedder)
        return cls(opened, embedder)

    @classmethod
    def sample(cls) -> "Assistant":
        """The sample library, made in the user's cache when it is asked for the first time."""
        assistant = cls.open(cache_folder() / "sample-library")
        assistant.add(sample_file())
        return assistant

    def _catch_up(self) -> None:
        """Make up what a killed process left undone; one that is still at work does so itself."""
        if not self.library.is_indexed() and not self.library.has_writer:
            self._index.sync()

    def _load_embedder(self) -> Embedder:
        """The library's own model; loaded again when another process embedded the library anew."""
        with self._loading:
            known = self.library.meta("embedder_fingerprint")
            if self._embedder is None or (known and known != self._embedder.fingerprint and not self._embedder_asked):
                self._embedder = load_embedder(self._embedder_asked or self.library.meta("embedder") or self._default)
            if known and known != self._embedder.fingerprint:
                raise EmbedderMismatch(self.library.meta("embedder"), self._embedder.name)
            return self._embedder

    # --- papers --------------------------------------------------------------------------------------------

    def add(
        self,
        *paths: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002 - the word users know, also on the command line
        on_progress: Progress | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> AddReport:
        """Add the papers of files, folders and patterns such as `papers/*.bib`.

        `format` overrides what is found from the content. `on_progress` gets bytes done, bytes in all, and records
        done after each batch; `on_wait` is called once if another process is writing. Nothing raises but a library
        that cannot be written: files and records that cannot be read are in the report.
        """
        files = expand(os.fspath(path) for path in paths)
        total = sum(file.stat().st_size for file in files if isinstance(file, Path) and file.is_file())

        def report_progress(done: int, records: int) -> None:
            if on_progress:
                on_progress(done, total, records)

        report_progress(0, 0)
        report = self._adder.add(_records(files, format), report_progress, on_wait)
        report_progress(total, report.read)
        return report

    def papers(self, **filters: str) -> Iterator[Paper]:
        """The papers in the order they were added; filters as in `search`."""
        return self.library.papers(parse_filters(_filters(filters)))

    def paper(self, name: str) -> Paper:
        """The paper with that id, unambiguous start of an id, DOI, arXiv id or PubMed id, or `PaperNotFound`."""
        return self.library.find(name).paper

    def remove(self, *names: str) -> list[Paper]:
        """Remove papers, all or none; names as in `paper`."""
        with self.library.writing() as writer:
            found = {stored.key: stored.paper for stored in map(self.library.find, names)}
            writer.remove(found)
        self._index.sync()
        return list(found.values())

    # --- questions -----------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **filters: str) -> list[Hit]:
        """The `k` papers nearest to a query, best first.

        Filters: `year` (`2023`, `>=2023`, `2019-2022`), `venue`, `author`, `source` (parts of names),
        `added_since` (`2026-01-31`).
        """
        with self._reading():
            return list(self._retriever.retrieve(_checked(query), k, _filters(filters)).hits)

    def ask(self, question: str, *, sentences: int | None = None, **filters: str) -> Answer:
        """Answer from the library, each sentence with its footnote; filters as in `search`.

        At most so many `sentences`: 3 by default, 5 when the question asks for several papers.
        """
        asked, wanted = _checked(question), _filters(filters)
        clock = _Clock()
        with self._reading():
            retrieval = self._retriever.retrieve(asked, filters=wanted)
            clock.lap("retrieve")
            reading = read(retrieval, self.library, sentences)
            clock.lap("read")
            trace = Trace(
                embedder=self._load_embedder().name,
                language_model="none",
                style="quote",
                prompt_digest="",
                library_digest=self.library.digest,
                signals={name: getattr(reading.signals, name) for name in reading.signals.__slots__},
                seconds=clock.laps,
            )
        return answer(retrieval, reading, bool(wanted), trace)

    def evidence(self, question: str, k: int = 16, **filters: str) -> list[Evidence]:
        """The `k` sentences that bear most on a question, best first, whether or not they answer it."""
        with self._reading():
            retrieval = self._retriever.retrieve(_checked(question), filters=_filters(filters))
            return weigh(retrieval, self.library)[:k]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One moment of the library, which Chroma knows at least as well: what a kill left undone is made up first."""
        self._load_embedder()
        self._catch_up()
        with self.library.reading():
            yield

    def stream(self, question: str, **options: Any) -> Iterator[str | Answer]:  # noqa: ANN401 - as `ask` takes them
        """The answer's text piece by piece, and at the end the `Answer`; options as in `ask`."""
        whole = self.ask(question, **options)
        if whole.abstained:
            yield whole.text
        else:
            for number, claim in enumerate(whole.claims):
                marks = "".join(f" [{citation}]" for citation in claim.citations)
                yield (" " if number else "") + f"“{claim.text}”{marks}"
        yield whole

    # --- the index -----------------------------------------------------------------------------------------

    def reindex(self, embedder: str = "", on_progress: Progress | None = None) -> int:
        """Make Chroma anew from the truth; with an embedder, embed every paper again first. Gives the passages.

        A kill leaves the library as it was, or with the new vectors; never a mixture.
        """
        if embedder:
            self._embed_again(load_embedder(embedder), on_progress)
        return self._index.rebuild()

    def _embed_again(self, model: Embedder, on_progress: Progress | None) -> None:
        with self.library.writing() as writer:
            writer.set_embedder(model.name, model.fingerprint)
            keys = self.library.keys()
            for start in range(0, len(keys), BATCH):
                embed_papers(writer, model, self.library.papers_by_key(keys[start : start + BATCH]))
                if on_progress:
                    done = min(len(keys), start + BATCH)
                    on_progress(done, len(keys), done)
        self._embedder, self._embedder_asked = model, model.name

    # --- llama-index ---------------------------------------------------------------------------------------

    def as_retriever(self, k: int = 10, **filters: str) -> "FootnoteRetriever":
        """The retriever as a llama-index `BaseRetriever`."""
        from rag.llama import FootnoteRetriever

        return FootnoteRetriever(lambda question: self.search(question, k, **filters))

    def as_query_engine(self, **options: Any) -> "FootnoteQueryEngine":  # noqa: ANN401 - as `ask` takes them
        """The assistant as a llama-index query engine; options as in `ask`."""
        from rag.llama import FootnoteQueryEngine

        return FootnoteQueryEngine(ask=lambda question: self.ask(question, **options))


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = now - self._last
        self._last = now


def _filters(named: dict[str, str]) -> Filters:
    try:
        return Filters(**{name: str(value) for name, value in named.items() if value is not None})
    except TypeError:
        unknown = sorted(set(named) - set(Filters.__slots__))
        raise UsageError(
            f"no filter is called {', '.join(unknown)}; there are: {', '.join(Filters.__slots__)}"
        ) from None


def _checked(question: str) -> str:
    text = question.strip()
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError("the question holds bytes that are no text")
    if not text:
        raise UsageError("the question is empty")
    if len(text) > LONGEST_QUESTION:
        raise UsageError(f"the question has {len(text):,} characters; at most {LONGEST_QUESTION:,} are read")
    return text


def _records(files: list[Path | SourceError], format_: str | None) -> Iterator[Record]:
    """The records of all files; what cannot be opened becomes a rejection of the file."""
    before = 0
    for file in files:
        if isinstance(file, SourceError):
            yield Record(file.source, 0, Rejection(file.source, 0, file.why), before)
            continue
        try:
            with open_source(file, format_) as source:
                text = 0
                for number, outcome in source:
                    if isinstance(outcome, Paper):
                        text += len(outcome.title) + len(outcome.abstract)
                    # A small file is read at once: the text that came of it tells better how far its records are.
                    done = max(source.position - _READ_AHEAD, min(source.position, text))
                    yield Record(path_text(file.resolve()), number, outcome, before + done)
                before += source.size
        except SourceError as error:
            yield Record(error.source, 0, Rejection(error.source, 0, error.why), before)
