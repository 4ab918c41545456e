"""Assistant: the entry point to one library and everything that can be done with it."""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.answering.answer_models import AnswerModels
from rag.answering.conversation import Conversation
from rag.answering.evidence import EvidenceWeights
from rag.answering.pipeline import AnswerPipeline, AnswerRequest, PreparedAnswer
from rag.config import cache_folder, expand_path, load_settings
from rag.errors import EmbedderMismatch, SourceError
from rag.ingest.importer import BATCH_SIZE, Importer, SourceRecord, embed_papers
from rag.ingest.sample import sample_file
from rag.ingest.sources.paths import expand_paths
from rag.ingest.sources.source import open_source
from rag.library.filters import Condition, Filters, merge_filters, parse_filters
from rag.library.library import Library
from rag.library.vector_index import VectorIndex
from rag.models.embedder import Embedder
from rag.models.language_model import LanguageModel
from rag.models.registry import load_embedder
from rag.records import (
    AddReport,
    Answer,
    Claim,
    Evidence,
    Hit,
    Paper,
    Preview,
    Rejection,
    StreamEvent,
    Waiting,
)
from rag.retrieval.query_analysis import validate_question
from rag.retrieval.retriever import Retriever
from rag.text.answer_form import format_evidence, format_written
from rag.text.cleaning import printable_path

if TYPE_CHECKING:
    from rag.integrations.llama_index import (
        AnyLLM,
        FootnoteLLM,
        FootnoteQueryEngine,
        FootnoteRetriever,
    )

# Parsers read files in blocks of this many bytes.
_READ_AHEAD = 256 * 1024

# Called with the work done, the total work, and the number of records done.
Progress = Callable[[int, int, int], None]


class Assistant:
    """Search and question one library. Open it with `Assistant.open`.

    An assistant can be used from several threads at once.
    """

    def __init__(
        self,
        library: Library,
        embedder: str | Embedder = "",
        language_model: "str | LanguageModel | AnyLLM" = "",
        weights: EvidenceWeights | None = None,
    ) -> None:
        """Use a library with an embedding model and a language model, given by name or loaded.

        The defaults are the embedding model of the library and the language model of the settings.
        `weights` score the evidence; weights other than the fitted ones are meant for experiments.
        """
        settings = load_settings()
        self.library = library
        self._index = VectorIndex(library)
        self._embedder = None if isinstance(embedder, str) else embedder
        self._requested_embedder = embedder if isinstance(embedder, str) else embedder.name
        self._default_embedder = settings.embedder
        self._embedder_lock = threading.Lock()
        self._importer = Importer(library, self._index, self._load_embedder)
        self._retriever = Retriever(library, self._index, self._load_embedder)
        self._models = AnswerModels(language_model or settings.language_model)
        self._pipeline = AnswerPipeline(
            library, self._retriever, self._models, weights or EvidenceWeights()
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
        """Open the library in a folder; create it if it does not exist and `create` is true.

        Without a folder, open the user's own library. `language_model` is `bundled`, `none`, a
        folder, a GGUF file, the id of a Hugging Face model on this machine, or a server's address.

        Raises `LibraryError`, and `EmbedderMismatch` if the library was built with another
        embedding model.
        """
        folder = expand_path(library) if library is not None else load_settings().library_folder
        opened = Library(folder, create=create)
        library_embedder = opened.meta("embedder")
        if embedder and library_embedder and embedder != library_embedder:
            raise EmbedderMismatch(library_embedder, embedder)
        return cls(opened, embedder, language_model)

    @classmethod
    def sample(cls) -> "Assistant":
        """Open a library of only the sample papers; the first call creates it in the cache."""
        assistant = cls.open(cache_folder() / "sample-library")
        report = assistant.add(sample_file())
        if report.papers > report.read:
            lines = sample_file().read_text(encoding="utf-8").splitlines()
            sample_titles = {json.loads(line)["title"] for line in lines}
            others = [paper.id for paper in assistant.papers() if paper.title not in sample_titles]
            assistant.remove(*others)
        return assistant

    def _load_embedder(self) -> Embedder:
        """Return the embedding model of the library.

        Load it again if another process has since embedded the library with another model.
        """
        with self._embedder_lock:
            fingerprint = self.library.meta("embedder_fingerprint")
            if self._embedder is None or self._is_outdated(self._embedder, fingerprint):
                self._embedder = load_embedder(
                    self._requested_embedder
                    or self.library.meta("embedder")
                    or self._default_embedder
                )
            if fingerprint and fingerprint != self._embedder.fingerprint:
                raise EmbedderMismatch(self.library.meta("embedder"), self._embedder.name)
            return self._embedder

    def _is_outdated(self, embedder: Embedder, fingerprint: str) -> bool:
        changed = bool(fingerprint) and fingerprint != embedder.fingerprint
        return changed and not self._requested_embedder

    # --- papers -----------------------------------------------------------------------------------

    def add(
        self,
        *paths: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002 - the name of the command's option
        on_progress: Progress | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> AddReport:
        """Add the papers in files, folders and patterns such as `papers/*.bib`.

        `format` overrides the format detected from the content. `on_progress` is called after each
        batch with bytes done, bytes in total and records done; `on_wait` is called once if another
        process is writing. Files and records that cannot be read are listed in the report.

        Raises `LibraryError` if the library cannot be written.
        """
        files = expand_paths([os.fspath(path) for path in paths])
        total = sum(map(_file_size, files))

        def report_progress(done: int, records: int) -> None:
            if on_progress:
                on_progress(done, total, records)

        report_progress(0, 0)
        report = self._importer.add(_read_records(files, format), report_progress, on_wait)
        report_progress(total, report.read)
        return report

    def papers(self, start: int = 0, stop: int | None = None, /, **filters: str) -> Iterator[Paper]:
        """Yield the papers in the order they were added; filters as in `search`.

        `start` and `stop` select a slice of that order.
        """
        return self.library.papers(_condition(filters), start, stop)

    def count(self, **filters: str) -> int:
        """Count the papers that match the filters, which are those of `search`."""
        return len(self.library.paper_keys(_condition(filters)))

    def paper(self, name: str) -> Paper:
        """Return a paper by its id, an unambiguous start of its id, DOI, arXiv id or PubMed id.

        Raises `PaperNotFound`.
        """
        return self.library.find(name).paper

    def remove(self, *names: str) -> list[Paper]:
        """Remove papers, all or none of them; names as in `paper`. Raises `PaperNotFound`."""
        with self.library.transaction() as transaction:
            removed = {stored.key: stored.paper for stored in map(self.library.find, names)}
            transaction.remove(removed)
        self._index.sync()
        self.library.checkpoint()
        return list(removed.values())

    # --- questions --------------------------------------------------------------------------------

    def search(self, query: str, k: int = 10, **filters: str) -> list[Hit]:
        """Return the `k` papers most relevant to a query, best first.

        Filters: `year` (`2023`, `>=2023`, `2019-2022`), `venue`, `author` and `source` (part of a
        name), `added_since` (`2026-01-31`).

        Raises `UsageError` for an empty or overlong query and for an invalid filter.
        """
        with self._snapshot():
            retrieval = self._retriever.retrieve(
                validate_question(query), k, merge_filters(Filters(), filters)
            )
            return list(retrieval.hits)

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer a question from the library with a footnote for each sentence.

        The language model judges whether the evidence states the answer, and writes it; each
        sentence is checked. The quotations follow. `sentences` limits the quotations that are
        selected: 3 by default, 5 for a question about several papers. `style` is `quote` for
        literal sentences only, `write` for sentences by the language model, or `auto`, which means
        `write` if the model passed a check of its abilities, else `quote`. Filters as in `search`.

        Raises `UsageError` as `search` does, and for an unknown style.
        """
        prepared = self._prepare(_request(question, filters, sentences, style))
        *_, answer = self._pipeline.stream(prepared, threading.Event())
        assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - for mypy
        return answer

    def repeat(self, question: str, interpretation: str, settings: Mapping[str, Any]) -> Answer:
        """Answer a question again with the settings in a trace, also one from a conversation.

        `interpretation` is the rewritten query of the trace. Raises `UsageError` as `ask` does.
        """
        request = AnswerRequest.from_settings(validate_question(question), interpretation, settings)
        *_, answer = self._pipeline.stream(self._prepare(request), threading.Event())
        assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - for mypy
        return answer

    def stream(
        self,
        question: str,
        *,
        sentences: int | None = None,
        style: str = "auto",
        stop: threading.Event | None = None,
        **filters: str,
    ) -> Iterator[StreamEvent]:
        """Yield a `Preview` of the evidence, the text sentence by sentence, then the `Answer`.

        There is no preview when no paper is similar to the question. Options as in `ask`. When
        `stop` is set or the iterator is closed, the language model stops within a second.
        """
        prepared = self._prepare(_request(question, filters, sentences, style))
        yield from _stream_text(self._pipeline.stream(prepared, stop or threading.Event()))

    def evidence(self, question: str, k: int = 16, **filters: str) -> list[Evidence]:
        """Return the `k` sentences most relevant to a question, whether or not they answer it."""
        prepared = self._prepare(_request(question, filters))
        return list(prepared.selection.candidates[:k])

    def chat(self, answers: Iterable[Answer] = (), /, **filters: str) -> Conversation:
        """Start a conversation, in which follow-up questions work; filters as in `search`.

        Pass earlier `answers` to resume a conversation.
        """

        def ask(request: AnswerRequest, stop: threading.Event) -> Iterator[StreamEvent]:
            return _stream_text(self._pipeline.stream(self._prepare(request), stop))

        return Conversation(
            ask, self._models.find_followup_kind, merge_filters(Filters(), filters), answers
        )

    def _prepare(self, request: AnswerRequest) -> PreparedAnswer:
        with self._snapshot():
            return self._pipeline.prepare(request, self._load_embedder().name)

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Let all reads inside see one state of the library, with a complete vector index."""
        self._load_embedder()
        # After a kill, the index may lag behind. A process that is still writing updates it itself.
        if not self.library.is_indexed() and not self.library.has_writer:
            self._index.sync()
        with self.library.snapshot():
            yield

    # --- the index --------------------------------------------------------------------------------

    def reindex(self, embedder: str = "", on_progress: Progress | None = None) -> int:
        """Rebuild the vector index from the primary store; return the number of passages.

        With `embedder`, embed every paper with that model first. If the process is killed, the
        library keeps either the old vectors or the new ones, never a mixture.
        """
        if embedder:
            self._reembed(load_embedder(embedder), on_progress)
        return self._index.rebuild()

    def _reembed(self, embedder: Embedder, on_progress: Progress | None) -> None:
        with self.library.transaction() as transaction:
            transaction.set_embedder(embedder.name, embedder.fingerprint)
            keys = self.library.paper_keys()
            for start in range(0, len(keys), BATCH_SIZE):
                papers = self.library.papers_by_key(keys[start : start + BATCH_SIZE])
                embed_papers(transaction, embedder, papers)
                if on_progress:
                    done = min(len(keys), start + BATCH_SIZE)
                    on_progress(done, len(keys), done)
        self._embedder, self._requested_embedder = embedder, embedder.name

    # --- llama-index ------------------------------------------------------------------------------

    @property
    def language_model(self) -> str:
        """Name of the selected language model."""
        return self._models.language_model_name

    def as_retriever(self, k: int = 10, **filters: str) -> "FootnoteRetriever":
        """Return the search as a llama-index `BaseRetriever`."""
        from rag.integrations.llama_index import FootnoteRetriever

        return FootnoteRetriever(lambda question: self.search(question, k, **filters))

    def as_llm(self) -> "FootnoteLLM":
        """Return the language model as a llama-index `LLM`. Raises `ModelUnavailable`."""
        from rag.integrations.llama_index import FootnoteLLM

        return FootnoteLLM(model=self._models.load_language_model())

    def as_query_engine(self, **options: Any) -> "FootnoteQueryEngine":  # noqa: ANN401 - of `ask`
        """Return the assistant as a llama-index query engine; options as in `ask`."""
        from rag.integrations.llama_index import FootnoteQueryEngine

        return FootnoteQueryEngine(ask=lambda question: self.ask(question, **options))


def _condition(filters: dict[str, str]) -> Condition | None:
    return parse_filters(merge_filters(Filters(), filters))


def _request(
    question: str, filters: dict[str, str], sentences: int | None = None, style: str = "auto"
) -> AnswerRequest:
    return AnswerRequest(
        validate_question(question), merge_filters(Filters(), filters), sentences, style
    )


def _stream_text(events: Iterator[Preview | Waiting | Claim | Answer]) -> Iterator[StreamEvent]:
    """Turn claims into pieces that add up to the text of the answer, which comes last."""
    previous = None
    for event in events:
        if isinstance(event, Preview | Waiting):
            yield event
        elif isinstance(event, Claim):
            if event.kind != "quoted":
                yield format_written(event, previous)
                previous = event
        elif event.abstained:
            yield event.text
            yield event
        else:
            if evidence := format_evidence(event.claims, event.citations):
                yield evidence
            yield event


def _file_size(file: Path | SourceError) -> int:
    return file.stat().st_size if isinstance(file, Path) and file.is_file() else 0


def _read_records(
    files: Sequence[Path | SourceError], format_: str | None
) -> Iterator[SourceRecord]:
    """Yield the records of all files; a file that cannot be opened yields one rejection."""
    previous_bytes = 0
    for file in files:
        if isinstance(file, SourceError):
            yield _rejected_file(file, previous_bytes)
            continue
        try:
            with open_source(file, format_) as source:
                name = printable_path(file.resolve())
                text_length = 0
                for number, outcome in source:
                    if isinstance(outcome, Paper):
                        text_length += len(outcome.title) + len(outcome.abstract)
                    # The parser reads up to a block ahead. Within that block, the length of the
                    # text so far is a better measure of progress than the position in the file.
                    position = min(source.position, text_length)
                    position = max(source.position - _READ_AHEAD, position)
                    yield SourceRecord(name, number, outcome, previous_bytes + position)
                previous_bytes += source.size
        except SourceError as error:
            yield _rejected_file(error, previous_bytes)


def _rejected_file(error: SourceError, position: int) -> SourceRecord:
    return SourceRecord(error.source, 0, Rejection(error.source, 0, error.reason), position)
