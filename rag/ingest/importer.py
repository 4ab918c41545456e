"""Adding papers: from records to the truth, batch by batch, each batch all or nothing.

What is new in a batch is embedded while the batch before is written. A batch matches its records against what is known,
embeds what has changed, and is committed as one transaction; then Chroma is brought up to date. A kill loses at most
the batch being written and the one being embedded; added again, the same file brings them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice

import numpy as np

from rag.ingest.chunking import Cut, cut
from rag.library import Library, StoredPaper, Transaction
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
from rag.library.vector_index import VectorIndex
from rag.models import Embedder
from rag.models.vectors import Vectors
from rag.records import AddReport, Flagged, Merge, Paper, Rejection
from rag.text.prompt_injection import paper_injections

BATCH = 256


@dataclass(frozen=True, slots=True)
class Record:
    """What a source gave at one place: a paper, or why there is none.

    `source` names the file in full; `position` is about how many bytes of all files it took to come here.
    """

    source: str
    number: int
    outcome: Paper | Rejection
    position: int = 0


@dataclass(slots=True)
class _ReportBuilder:
    """The report while it grows."""

    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("added", "updated", "unchanged"), 0)
    )
    read: int = 0
    merges: list[Merge] = field(default_factory=list)
    absorbed: list[Merge] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    flagged: list[Flagged] = field(default_factory=list)
    met: set[int] = field(default_factory=set)
    said: set[tuple[str, str]] = field(default_factory=set)


class Importer:
    """Adds records to one library. The embedder is called for only when something has to be embedded."""

    def __init__(
        self, library: Library, index: VectorIndex, embedder: Callable[[], Embedder]
    ) -> None:
        self._library = library
        self._index = index
        self._embedder = embedder

    def add(
        self,
        records: Iterable[Record],
        on_progress: Callable[[int, int], None] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> AddReport:
        """Add every record or say why not.

        `on_progress` gets position and number of records after each batch; `on_wait` is called once if another
        process is writing.
        """
        tally = _ReportBuilder()
        say_once = cache(on_wait) if on_wait else None
        for batch, embedded in self._embedded_ahead(records):
            with self._library.transaction(say_once) as transaction:
                running = _Batch(transaction, tally)
                for record in batch:
                    running.take(record)
                running.put_vectors(self._embedder, embedded)
            self._index.sync()
            if on_progress:
                on_progress(batch[-1].position, tally.read)
        self._library.checkpoint()
        return self._report(tally)

    def _embedded_ahead(
        self, records: Iterable[Record]
    ) -> Iterator[tuple[list[Record], "_Embedded"]]:
        """Batches with the vectors of what is new in them. While one batch is written, the next is embedded."""
        with ThreadPoolExecutor(1) as ahead:
            ready: tuple[list[Record], Future[_Embedded]] | None = None
            for batch in _batches(records):
                cuts = _cut_all(self._new_texts(batch), self._embedder)
                coming = batch, ahead.submit(_embed, cuts, self._embedder)
                if ready:
                    yield ready[0], ready[1].result()
                ready = coming
            if ready:
                yield ready[0], ready[1].result()

    def _new_texts(self, batch: Iterable[Record]) -> list[Paper]:
        """The papers of records never met before: what nearly always has to be embedded, and little besides."""
        papers = {
            record_hash(record.outcome): record.outcome
            for record in batch
            if isinstance(record.outcome, Paper)
        }
        known = self._library.known_records(papers)
        return [paper for digest, paper in papers.items() if digest not in known]

    def _report(self, tally: _ReportBuilder) -> AddReport:
        counts = self._library.counts()
        return AddReport(
            read=tally.read,
            papers=counts["papers"],
            without_abstract=counts["without_abstract"],
            merges=tuple(tally.merges),
            absorbed=tuple(tally.absorbed),
            rejected=tuple(tally.rejected),
            flagged=tuple(tally.flagged),
            **tally.counts,
        )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        yield batch


class _Batch:
    """The records of one transaction."""

    def __init__(self, transaction: Transaction, tally: _ReportBuilder) -> None:
        self._transaction = transaction
        self._tally = tally
        self._to_embed: dict[int, Paper] = {}
        self._now = datetime.now(UTC).isoformat(timespec="seconds")

    def take(self, record: Record) -> None:
        """Let one record end as a paper or in the report."""
        if isinstance(record.outcome, Rejection):
            # A rejection of the file as a whole is no record that was read.
            self._tally.read += record.outcome.record > 0
            self._tally.rejected.append(record.outcome)
            return
        self._tally.read += 1
        paper, digest = record.outcome, record_hash(record.outcome)
        known = self._transaction.key_of_record(digest, record.source)
        if known is None:
            known = self._said_elsewhere(record.source, digest)
        if known is None:
            known = self._new_record(record, paper)
        elif known in self._tally.met:
            self._merged(known, record, "record")
        else:
            self._tally.counts["unchanged"] += 1
        self._tally.met.add(known)
        self._tally.said.add((record.source, digest))
        self._transaction.note_provenance(known, digest, record.source, record.number)

    def _said_elsewhere(self, source: str, digest: str) -> int | None:
        """The paper that the same record from another source became part of, unless this source said otherwise."""
        known = self._transaction.key_of_record(digest)
        return None if known is None or self._outdated(known, source) else known

    def _outdated(self, key: int, source: str) -> set[str]:
        """What a source said of a paper in earlier runs and, as far as is known, no longer says."""
        return {
            digest
            for digest in self._transaction.digests_of(key, source)
            if (source, digest) not in self._tally.said
        }

    def _new_record(self, record: Record, paper: Paper) -> int:
        match, by = self._match(paper, record)
        if match is not None:
            return self._join(match, paper, record, by)
        stored = self._transaction.insert(paper, self._now)
        self._to_embed[stored.key] = stored.paper
        self._tally.counts["added"] += 1
        return stored.key

    def _join(self, match: StoredPaper, paper: Paper, record: Record, by: str) -> int:
        """Make a record part of a known paper: instead of what its source said before, or to fill gaps."""
        outdated = self._outdated(match.key, record.source)
        joined = (
            overwrite(match.paper, paper) if outdated else merge_missing_fields(match.paper, paper)
        )
        if joined != match.paper:
            self._transaction.update(match.key, joined, edited=bool(outdated))
        if (joined.title, joined.abstract) != (match.paper.title, match.paper.abstract):
            self._to_embed[match.key] = joined
        if outdated:
            self._transaction.forget_provenance(match.key, record.source, outdated)
            self._tally.counts["updated" if joined != match.paper else "unchanged"] += 1
        else:
            self._merged(match.key, record, by)
        return match.key

    def _match(self, paper: Paper, record: Record) -> tuple[StoredPaper | None, str]:
        """The known paper that this is, and by what."""
        by_key: dict[int, str] = {}
        for kind, name in identifiers(paper).items():
            key = self._transaction.key_of_identifier(name)
            if key is not None:
                by_key.setdefault(key, kind)
        found = sorted(
            map(self._transaction.stored, by_key), key=lambda known: mismatch(known.paper, paper)
        )
        # Two papers may share an identifier that one of them has by mistake; then the rest of them tells them apart.
        if found and mismatch(found[0].paper, paper) < DIFFERENT_PAPERS:
            return self._made_one(found, paper, record, by_key), by_key[found[0].key]
        same = (
            known
            for known in self._transaction.with_title(paper.title)
            if self._is_titled_like(known, paper, record)
        )
        return next(same, None), "title"

    def _is_titled_like(self, known: StoredPaper, paper: Paper, record: Record) -> bool:
        edited = bool(self._outdated(known.key, record.source))
        return could_be_same_paper(known.paper, paper) and (
            edited or title_suffices(known.paper, paper)
        )

    def _made_one(
        self, found: list[StoredPaper], paper: Paper, record: Record, by_key: Mapping[int, str]
    ) -> StoredPaper:
        """The first of the papers found, joined by the others where all of them may be one."""
        first, *others = found
        for other in others:
            if could_be_same_paper(first.paper, other.paper) and could_be_same_paper(
                other.paper, paper
            ):
                joined = merge_missing_fields(first.paper, other.paper)
                self._transaction.absorb(first.key, other.key)
                self._transaction.update(first.key, joined)
                self._tally.absorbed.append(self._merge(other, record, by_key[other.key]))
                self._to_embed.pop(other.key, None)
                self._to_embed[first.key] = joined
                first = replace(first, paper=joined)
        return first

    def _merged(self, key: int, record: Record, by: str) -> None:
        self._tally.merges.append(self._merge(self._transaction.stored(key), record, by))

    def _merge(self, stored: StoredPaper, record: Record, by: str) -> Merge:
        return Merge(stored.paper.id, stored.paper.title, record.source, record.number, by)

    def put_vectors(self, embedder: Callable[[], Embedder], embedded: "_Embedded") -> None:
        """Write the passages and vectors of what is new or changed; what was not embedded ahead is embedded now."""
        if not self._to_embed:
            return
        model = embedder()
        self._transaction.check_embedder(model.name, model.fingerprint)
        missing = [paper for paper in self._to_embed.values() if _text(paper) not in embedded]
        embedded = embedded | _embed(_cut_all(missing, embedder), embedder)
        for key, paper in self._to_embed.items():
            embedded[_text(paper)].write(self._transaction, key)
            if told := paper_injections(paper):
                self._tally.flagged.append(Flagged(paper.id, paper.title, told))


@dataclass(frozen=True, slots=True)
class _Vectors:
    """A paper cut into passages and sentences, and the vectors of these."""

    cut: Cut
    passages: Vectors
    sentences: Vectors

    def write(self, transaction: Transaction, key: int) -> None:
        transaction.put_vectors(
            key, self.cut.passages, self.passages, self.cut.sentences, self.sentences
        )


# By title and abstract.
_Cuts = dict[tuple[str, str], Cut]
_Embedded = dict[tuple[str, str], _Vectors]


def _text(paper: Paper) -> tuple[str, str]:
    return paper.title, paper.abstract


def _cut_all(papers: Sequence[Paper], embedder: Callable[[], Embedder]) -> _Cuts:
    """The papers in pieces; the embedder is called for only when there are any."""
    return dict(zip(map(_text, papers), cut(papers, embedder()), strict=True)) if papers else {}


def _embed(cuts: _Cuts, embedder: Callable[[], Embedder]) -> _Embedded:
    if not cuts:
        return {}
    vectors = iter(
        embedder().embed_passages([text for pieces in cuts.values() for text in pieces.texts])
    )
    found = {}
    for text, pieces in cuts.items():
        passages, sentences = zip(*[next(vectors) for _ in pieces.texts], strict=True)
        found[text] = _Vectors(pieces, np.stack(passages), np.concatenate(sentences))
    return found


def embed_papers(transaction: Transaction, embedder: Embedder, papers: Mapping[int, Paper]) -> None:
    """Embed papers, given by row number, and write their passages, sentences and vectors."""
    embedded = _embed(_cut_all(list(papers.values()), lambda: embedder), lambda: embedder)
    for key, paper in papers.items():
        embedded[_text(paper)].write(transaction, key)
