"""Import of records into a library, in batches that are stored completely or not at all.

Each batch is one transaction. Its records are matched against the papers of the library, changed
papers are embedded, and the vector index is synchronized after the commit. While one batch is being
written, the new papers of the next one are embedded in a thread. A kill loses at most these two
batches; adding the same files again completes the import.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import chain, islice

import numpy as np

from rag.ingest.chunking import Chunks, chunk_papers
from rag.library.dedup import (
    DIFFERENT_PAPERS,
    could_be_same_paper,
    identifiers,
    merge_missing_fields,
    mismatch,
    overwrite,
    record_hash,
    title_suffices,
)
from rag.library.library import Library
from rag.library.transaction import StoredPaper, Transaction
from rag.library.vector_index import VectorIndex
from rag.models.embedder import Embedder
from rag.models.vectors import Vectors
from rag.records import AddReport, FlaggedPaper, Merge, Paper, Rejection
from rag.text.prompt_injection import paper_injections

BATCH_SIZE = 256  # records


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """Record of a source file: a paper, or the reason why it is not one.

    `source` is the full path of the file, and `number` counts its records from 1. `position` is
    roughly the number of bytes read so far, over all files.
    """

    source: str
    number: int
    outcome: Paper | Rejection
    position: int = 0


@dataclass(slots=True)
class _ReportBuilder:
    """Counts and details of an import in progress.

    `seen_keys` holds the papers, and `seen_records` the pairs of source and digest, seen so far.
    """

    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    merges: list[Merge] = field(default_factory=list)
    absorbed: list[Merge] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    flagged: list[FlaggedPaper] = field(default_factory=list)
    seen_keys: set[int] = field(default_factory=set)
    seen_records: set[tuple[str, str]] = field(default_factory=set)

    def build(self, library: Library) -> AddReport:
        """Return the report, with the size of the library after the import."""
        counts = library.counts()
        return AddReport(
            read=self.read,
            added=self.added,
            updated=self.updated,
            unchanged=self.unchanged,
            papers=counts["papers"],
            without_abstract=counts["without_abstract"],
            merges=tuple(self.merges),
            absorbed=tuple(self.absorbed),
            rejected=tuple(self.rejected),
            flagged=tuple(self.flagged),
        )


class Importer:
    """Adds records to one library. `load_embedder` is only called if there is text to embed."""

    def __init__(
        self, library: Library, index: VectorIndex, load_embedder: Callable[[], Embedder]
    ) -> None:
        self._library = library
        self._index = index
        self._load_embedder = load_embedder

    def add(
        self,
        records: Iterable[SourceRecord],
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> AddReport:
        """Add records and return a report that accounts for each of them.

        `on_progress` is called with the position and the number of records after each batch.
        `on_wait` is called once if the import must wait for another process that is writing.
        """
        report = _ReportBuilder()
        on_first_wait = cache(on_wait) if on_wait else None
        for batch, embedded in self._embed_ahead(records):
            with self._library.transaction(on_first_wait) as transaction:
                batch_import = _BatchImport(transaction, report)
                for record in batch:
                    batch_import.add(record)
                batch_import.store_vectors(self._load_embedder, embedded)
            self._index.sync()
            if on_progress:
                on_progress(batch[-1].position, report.read)
        self._library.checkpoint()
        return report.build(self._library)

    def _embed_ahead(
        self, records: Iterable[SourceRecord]
    ) -> Iterator[tuple[list[SourceRecord], "_Embedded"]]:
        """Yield batches and the vectors of their new papers, embedding one batch ahead."""
        with ThreadPoolExecutor(1) as executor:
            previous: tuple[list[SourceRecord], Future[_Embedded]] | None = None
            for batch in _batches(records):
                chunks = _chunk(self._new_papers(batch), self._load_embedder)
                embedding = executor.submit(_embed, chunks, self._load_embedder)
                if previous:
                    yield previous[0], previous[1].result()
                previous = batch, embedding
            if previous:
                yield previous[0], previous[1].result()

    def _new_papers(self, batch: Iterable[SourceRecord]) -> list[Paper]:
        """Return the papers of records that were never imported. Most of them need vectors."""
        papers: dict[str, Paper] = {}
        for record in batch:
            if isinstance(record.outcome, Paper):
                papers[record_hash(record.outcome)] = record.outcome
        imported = self._library.imported_records(papers)
        return [paper for digest, paper in papers.items() if digest not in imported]


def _batches(records: Iterable[SourceRecord]) -> Iterator[list[SourceRecord]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH_SIZE)):
        yield batch


class _BatchImport:
    """Import of one batch in one transaction."""

    def __init__(self, transaction: Transaction, report: _ReportBuilder) -> None:
        self._transaction = transaction
        self._report = report
        self._to_embed: dict[int, Paper] = {}
        self._now = datetime.now(UTC).isoformat(timespec="seconds")

    def add(self, record: SourceRecord) -> None:
        """Store a paper, or report a rejection."""
        if isinstance(record.outcome, Rejection):
            # Record 0 stands for the whole file: no record of it was read.
            self._report.read += record.outcome.record > 0
            self._report.rejected.append(record.outcome)
            return
        self._report.read += 1
        digest = record_hash(record.outcome)
        key = self._transaction.find_record(digest, record.source)
        if key is None:
            key = self._find_copy(record.source, digest)
        if key is None:
            key = self._add_new_record(record, record.outcome)
        elif key in self._report.seen_keys:
            self._report_merge(key, record, "record")
        else:
            self._report.unchanged += 1
        self._report.seen_keys.add(key)
        self._report.seen_records.add((record.source, digest))
        self._transaction.add_provenance(key, digest, record.source, record.number)

    def _find_copy(self, source: str, digest: str) -> int | None:
        """Return the key of a paper to which another source contributed the same record.

        If this source has contributed a different record to that paper before, the record is an
        edit and not a copy.
        """
        key = self._transaction.find_record(digest)
        return None if key is None or self._outdated_digests(key, source) else key

    def _outdated_digests(self, key: int, source: str) -> set[str]:
        """Return the records that a source contributed before and this import has not seen again.

        Records that come later in the source count as outdated until they are read.
        """
        return {
            digest
            for digest in self._transaction.record_digests(key, source)
            if (source, digest) not in self._report.seen_records
        }

    def _add_new_record(self, record: SourceRecord, paper: Paper) -> int:
        match = self._find_match(record, paper)
        if match:
            stored, matched_by = match
            return self._update_paper(stored, record, paper, matched_by)
        stored = self._transaction.insert(paper, self._now)
        self._to_embed[stored.key] = stored.paper
        self._report.added += 1
        return stored.key

    def _update_paper(
        self, stored: StoredPaper, record: SourceRecord, paper: Paper, matched_by: str
    ) -> int:
        """Overwrite a paper if its record was edited, otherwise only fill gaps in it."""
        outdated = self._outdated_digests(stored.key, record.source)
        combine = overwrite if outdated else merge_missing_fields
        updated = combine(stored.paper, paper)
        is_changed = updated != stored.paper
        if is_changed:
            self._transaction.update(stored.key, updated, edited=bool(outdated))
        if _text_key(updated) != _text_key(stored.paper):
            self._to_embed[stored.key] = updated
        if not outdated:
            self._report_merge(stored.key, record, matched_by)
            return stored.key
        self._transaction.remove_provenance(stored.key, record.source, outdated)
        if is_changed:
            self._report.updated += 1
        else:
            self._report.unchanged += 1
        return stored.key

    def _find_match(self, record: SourceRecord, paper: Paper) -> tuple[StoredPaper, str] | None:
        """Return the stored paper that a record describes, and what they were matched by."""
        kinds = self._match_identifiers(paper)
        candidates = sorted(
            map(self._transaction.get, kinds),
            key=lambda stored: mismatch(stored.paper, paper),
        )
        # A record may carry the identifier of another paper by mistake. Then its other fields tell
        # them apart.
        if candidates and mismatch(candidates[0].paper, paper) < DIFFERENT_PAPERS:
            best = self._absorb_duplicates(candidates, record, paper, kinds)
            return best, kinds[best.key]
        for stored in self._transaction.find_title(paper.title):
            if self._matches_by_title(stored, record, paper):
                return stored, "title"
        return None

    def _match_identifiers(self, paper: Paper) -> dict[int, str]:
        """Return papers that share an identifier, as key to the kind of the first one shared."""
        kinds: dict[int, str] = {}
        for kind, identifier in identifiers(paper).items():
            key = self._transaction.find_identifier(identifier)
            if key is not None:
                kinds.setdefault(key, kind)
        return kinds

    def _matches_by_title(self, stored: StoredPaper, record: SourceRecord, paper: Paper) -> bool:
        is_edit = bool(self._outdated_digests(stored.key, record.source))
        return could_be_same_paper(stored.paper, paper) and (
            is_edit or title_suffices(stored.paper, paper)
        )

    def _absorb_duplicates(
        self,
        candidates: Sequence[StoredPaper],
        record: SourceRecord,
        paper: Paper,
        kinds: Mapping[int, str],
    ) -> StoredPaper:
        """Merge candidates into the first one if the record shows that they are the same paper."""
        best = candidates[0]
        for candidate in candidates[1:]:
            is_duplicate = could_be_same_paper(best.paper, candidate.paper)
            if not (is_duplicate and could_be_same_paper(candidate.paper, paper)):
                continue
            merged = merge_missing_fields(best.paper, candidate.paper)
            self._transaction.absorb(best.key, candidate.key)
            self._transaction.update(best.key, merged)
            self._report.absorbed.append(_merge(candidate.paper, record, kinds[candidate.key]))
            self._to_embed.pop(candidate.key, None)
            self._to_embed[best.key] = merged
            best = replace(best, paper=merged)
        return best

    def _report_merge(self, key: int, record: SourceRecord, matched_by: str) -> None:
        paper = self._transaction.get(key).paper
        self._report.merges.append(_merge(paper, record, matched_by))

    def store_vectors(self, load_embedder: Callable[[], Embedder], embedded: "_Embedded") -> None:
        """Store passages and vectors of new and changed papers, embedding what is missing."""
        if not self._to_embed:
            return
        embedder = load_embedder()
        self._transaction.check_embedder(embedder.name, embedder.fingerprint)
        missing = [paper for paper in self._to_embed.values() if _text_key(paper) not in embedded]
        embedded = embedded | _embed(_chunk(missing, load_embedder), load_embedder)
        for key, paper in self._to_embed.items():
            embedded[_text_key(paper)].store(self._transaction, key)
            injections = paper_injections(paper)
            if injections:
                self._report.flagged.append(FlaggedPaper(paper.id, paper.title, injections))


def _merge(paper: Paper, record: SourceRecord, matched_by: str) -> Merge:
    return Merge(paper.id, paper.title, record.source, record.number, matched_by)


@dataclass(frozen=True, slots=True)
class _EmbeddedPaper:
    """Chunks of a paper, and the vectors of its passages and sentences."""

    chunks: Chunks
    passages: Vectors
    sentences: Vectors

    def store(self, transaction: Transaction, key: int) -> None:
        transaction.put_vectors(
            key, self.chunks.passages, self.passages, self.chunks.sentences, self.sentences
        )


# Both have pairs of title and abstract as keys.
_ChunksByText = dict[tuple[str, str], Chunks]
_Embedded = dict[tuple[str, str], _EmbeddedPaper]


def _text_key(paper: Paper) -> tuple[str, str]:
    return paper.title, paper.abstract


def _chunk(papers: Sequence[Paper], load_embedder: Callable[[], Embedder]) -> _ChunksByText:
    if not papers:
        return {}
    chunks = chunk_papers(papers, load_embedder())
    return dict(zip(map(_text_key, papers), chunks, strict=True))


def _embed(chunks_by_text: _ChunksByText, load_embedder: Callable[[], Embedder]) -> _Embedded:
    if not chunks_by_text:
        return {}
    inputs = chain.from_iterable(chunks.inputs for chunks in chunks_by_text.values())
    vectors = iter(load_embedder().embed_passages(list(inputs)))
    embedded = {}
    for text, chunks in chunks_by_text.items():
        passages, sentences = zip(*islice(vectors, len(chunks.inputs)), strict=True)
        embedded[text] = _EmbeddedPaper(chunks, np.stack(passages), np.concatenate(sentences))
    return embedded


def embed_papers(transaction: Transaction, embedder: Embedder, papers: Mapping[int, Paper]) -> None:
    """Embed papers, given by key, and store their passages, sentences and vectors."""
    chunks = _chunk(list(papers.values()), lambda: embedder)
    embedded = _embed(chunks, lambda: embedder)
    for key, paper in papers.items():
        embedded[_text_key(paper)].store(transaction, key)
