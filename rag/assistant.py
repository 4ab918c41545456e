"""The assistant: one library, and everything that can be asked of it."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.answering.answer_models import AnswerModels
from rag.answering.conversation import Conversation
from rag.answering.evidence import EvidenceWeights
from rag.answering.generation import claim_text
from rag.answering.pipeline import AnswerPipeline, AnswerRequest, PreparedAnswer
from rag.config import cache_folder, load_settings, user_path
from rag.errors import EmbedderMismatch, SourceError
from rag.ingest.importer import BATCH, Importer, Record, embed_papers
from rag.ingest.sample import sample_file
from rag.ingest.sources import expand, open_source
from rag.library import Library, parse_filters
from rag.library.filters import merge_filters
from rag.library.vector_index import VectorIndex
from rag.models import Embedder, load_embedder
from rag.models.language_model import LanguageModel
from rag.records import AddReport, Answer, Claim, Evidence, Filters, Hit, Paper, Rejection
from rag.retrieval.query_analysis import checked_question
from rag.retrieval.retriever import Retriever
from rag.text.cleaning import printable_path

if TYPE_CHECKING:
    from rag.integrations.llama_index import (
        AnyLLM,
        FootnoteLLM,
        FootnoteQueryEngine,
        FootnoteRetriever,
    )

# Readers take files in pieces of this many bytes.
_READ_AHEAD = 256 * 1024

Progress = Callable[[int, int, int], None]


class Assistant:
    """Ask one library. Open it with `Assistant.open`; it is safe to use from several threads."""

    def __init__(
        self,
        library: Library,
        embedder: str | Embedder = "",
        language_model: "str | LanguageModel | AnyLLM" = "",
        weights: EvidenceWeights | None = None,
    ) -> None:
        """Serve a library with an embedding model and a language model, given by name or loaded.

        By default they are the library's own and the one of the settings. `weights` choose the sentences; others than
        the fitted ones are for experiments.
        """
        settings = load_settings()
        self.library = library
        self._index = VectorIndex(library)
        self._embedder = None if isinstance(embedder, str) else embedder
        self._embedder_asked = embedder if isinstance(embedder, str) else embedder.name
        self._default = settings.embedder
        self._loading = threading.Lock()
        self._adder = Importer(library, self._index, self._load_embedder)
        self._retriever = Retriever(library, self._index, self._load_embedder)
        self._roles = AnswerModels(language_model or settings.language_model, settings.nli_model)
        self._answering = AnswerPipeline(
            library, self._retriever, self._roles, weights or EvidenceWeights()
        )

    @classmethod
    def open(
        cls,
        library: str | os.PathLike[str] | None = None,
        *,
        embedder: str = "",
        language_model: "str | LanguageModel | AnyLLM" = "",
        create: bool = True,
    ) -> "Assistant":
        """Open the library in a folder, by default the user's own; make it when it is not there and `create` allows.

        `language_model`: `embedded`, `none`, a folder, a Hugging Face id on this machine, or a server's address.

        Raises `LibraryError`, and `EmbedderMismatch` when the library was made with another embedding model.
        """
        folder = user_path(library) if library is not None else load_settings().library_folder
        opened = Library(folder, create=create)
        made_with = opened.meta("embedder")
        if embedder and made_with and embedder != made_with:
            raise EmbedderMismatch(made_with, embedder)
        return cls(opened, embedder, language_model)

    @classmethod
    def sample(cls) -> "Assistant":
        """The library of the sample papers and nothing else, made in the user's cache when it is first asked for."""
        assistant = cls.open(cache_folder() / "sample-library")
        report = assistant.add(sample_file())
        if report.papers > report.read:
            sampled = {
                json.loads(line)["title"]
                for line in sample_file().read_text(encoding="utf-8").splitlines()
            }
            assistant.remove(
                *[paper.id for paper in assistant.papers() if paper.title not in sampled]
            )
        return assistant

    def _catch_up(self) -> None:
        """Make up what a killed process left undone; one that is still at work does so itself."""
        if not self.library.is_indexed() and not self.library.has_writer:
            self._index.sync()

    def _load_embedder(self) -> Embedder:
        """The library's own model; loaded again when another process embedded the library anew."""
        with self._loading:
            known = self.library.meta("embedder_fingerprint")
            if self._embedder is None or (
                known and known != self._embedder.fingerprint and not self._embedder_asked
            ):
                self._embedder = load_embedder(
                    self._embedder_asked or self.library.meta("embedder") or self._default
                )
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
        total = sum(
            file.stat().st_size for file in files if isinstance(file, Path) and file.is_file()
        )

        def report_progress(done: int, records: int) -> None:
            if on_progress:
                on_progress(done, total, records)

        report_progress(0, 0)
        report = self._adder.add(_records(files, format), report_progress, on_wait)
        report_progress(total, report.read)
        return report

    def papers(self, start: int = 0, stop: int | None = None, /, **filters: str) -> Iterator[Paper]:
        """The papers in the order they were added, all or those of `[start, stop)`; filters as in `search`."""
        return self.library.papers(parse_filters(merge_filters(Filters(), filters)), start, stop)

    def count(self, **filters: str) -> int:
        """How many papers pass the filters, which are those of `search`."""
        return len(self.library.keys(parse_filters(merge_filters(Filters(), filters))))

    def paper(self, name: str) -> Paper:
        """The paper with that id, unambiguous start of an id, DOI, arXiv id or PubMed id, or `PaperNotFound`."""
        return self.library.find(name).paper

    def remove(self, *names: str) -> list[Paper]:
        """Remove papers, all or none; names as in `paper`."""
        with self.library.transaction() as transaction:
            found = {stored.key: stored.paper for stored in map(self.library.find, names)}
            transaction.remove(found)
        self._index.sync()
        self.library.checkpoint()
        return list(found.values())

    # --- questions -----------------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **filters: str) -> list[Hit]:
        """The `k` papers nearest to a query, best first.

        Filters: `year` (`2023`, `>=2023`, `2019-2022`), `venue`, `author`, `source` (parts of names),
        `added_since` (`2026-01-31`).
        """
        with self._reading():
            return list(
                self._retriever.retrieve(
                    checked_question(query), k, merge_filters(Filters(), filters)
                ).hits
            )

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer from the library, each sentence with its footnote; filters as in `search`.

        At most so many `sentences` are quoted: 3 by default, 5 when the question asks for several papers. `style` is
        `quote` for literal sentences, `write` for the language model's own, checked, or `auto`: written by a model
        that proved able to, else quoted.
        """
        request = AnswerRequest(
            checked_question(question), merge_filters(Filters(), filters), sentences, style
        )
        *_, answer = self._answering.stream(self._find(request), threading.Event())
        return _whole(answer)

    def _find(self, request: AnswerRequest) -> PreparedAnswer:
        with self._reading():
            return self._answering.find(request, self._load_embedder().name)

    def evidence(self, question: str, k: int = 16, **filters: str) -> list[Evidence]:
        """The `k` sentences that bear most on a question, best first, whether or not they answer it."""
        return list(
            self._find(
                AnswerRequest(checked_question(question), merge_filters(Filters(), filters))
            ).reading.considered[:k]
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """One moment of the library, which Chroma knows at least as well: what a kill left undone is made up first."""
        self._load_embedder()
        self._catch_up()
        with self.library.snapshot():
            yield

    def stream(
        self,
        question: str,
        *,
        sentences: int | None = None,
        style: str = "auto",
        stop: threading.Event | None = None,
        **filters: str,
    ) -> Iterator[str | Answer]:
        """The answer's text piece by piece, as sentences are finished, and at the end the `Answer`.

        Options as in `ask`. Once `stop` is set, or the iterator closed, the language model is free within a second.
        """
        request = AnswerRequest(
            checked_question(question), merge_filters(Filters(), filters), sentences, style
        )
        yield from in_pieces(self._answering.stream(self._find(request), stop or threading.Event()))

    def chat(self, answers: Iterable[Answer] = (), /, **filters: str) -> Conversation:
        """A conversation, in which a question may lean on the ones before; filters as in `search`.

        With earlier `answers` it goes on where it was.
        """

        def ask(request: AnswerRequest, stop: threading.Event) -> Iterator[str | Answer]:
            return in_pieces(self._answering.stream(self._find(request), stop))

        return Conversation(ask, merge_filters(Filters(), filters), answers)

    # --- the index -----------------------------------------------------------------------------------------

    def reindex(self, embedder: str = "", on_progress: Progress | None = None) -> int:
        """Make Chroma anew from the truth; with an embedder, embed every paper again first. Gives the passages.

        A kill leaves the library as it was, or with the new vectors; never a mixture.
        """
        if embedder:
            self._embed_again(load_embedder(embedder), on_progress)
        return self._index.rebuild()

    def _embed_again(self, model: Embedder, on_progress: Progress | None) -> None:
        with self.library.transaction() as transaction:
            transaction.set_embedder(model.name, model.fingerprint)
            keys = self.library.keys()
            for start in range(0, len(keys), BATCH):
                embed_papers(
                    transaction, model, self.library.papers_by_key(keys[start : start + BATCH])
                )
                if on_progress:
                    done = min(len(keys), start + BATCH)
                    on_progress(done, len(keys), done)
        self._embedder, self._embedder_asked = model, model.name

    # --- llama-index ---------------------------------------------------------------------------------------

    def as_retriever(self, k: int = 10, **filters: str) -> "FootnoteRetriever":
        """The retriever as a llama-index `BaseRetriever`."""
        from rag.integrations.llama_index import FootnoteRetriever

        return FootnoteRetriever(lambda question: self.search(question, k, **filters))

    @property
    def language_model(self) -> str:
        """The name of the language model that was chosen."""
        return self._roles.chosen

    def as_llm(self) -> "FootnoteLLM":
        """The language model of this assistant as a llama-index `LLM`. Raises `ModelUnavailable`."""
        from rag.integrations.llama_index import FootnoteLLM

        return FootnoteLLM(model=self._roles.language_model())

    def as_query_engine(self, **options: Any) -> "FootnoteQueryEngine":  # noqa: ANN401 - as `ask` takes them
        """The assistant as a llama-index query engine; options as in `ask`."""
        from rag.integrations.llama_index import FootnoteQueryEngine

        return FootnoteQueryEngine(ask=lambda question: self.ask(question, **options))


def in_pieces(claims: Iterator[Claim | Answer]) -> Iterator[str | Answer]:
    """Claims as pieces of text, and the answer last: joined, the pieces are the answer's text."""
    begun = False
    for one in claims:
        if isinstance(one, Claim):
            yield (" " if begun else "") + claim_text(one)
            begun = True
        else:
            if one.abstained:
                yield one.text
            yield one


def _whole(answer: Claim | Answer) -> Answer:
    assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - tells the type checker
    return answer


def _records(files: list[Path | SourceError], format_: str | None) -> Iterator[Record]:
    """The records of all files; what cannot be opened becomes a rejection of the file."""
    before = 0
    for file in files:
        if isinstance(file, SourceError):
            yield Record(file.source, 0, Rejection(file.source, 0, file.reason), before)
            continue
        try:
            with open_source(file, format_) as source:
                text = 0
                for number, outcome in source:
                    if isinstance(outcome, Paper):
                        text += len(outcome.title) + len(outcome.abstract)
                    # A small file is read at once: the text that came of it tells better how far its records are.
                    done = max(source.position - _READ_AHEAD, min(source.position, text))
                    yield Record(printable_path(file.resolve()), number, outcome, before + done)
                before += source.size
        except SourceError as error:
            yield Record(error.source, 0, Rejection(error.source, 0, error.reason), before)
