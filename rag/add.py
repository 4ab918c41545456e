"""Adding papers: from records to the truth, batch by batch, each batch all or nothing.

A batch matches its records against what is known, embeds what is new or changed, and is committed as one
transaction; then Chroma is brought up to date. A kill loses at most the batch in hand.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice

import numpy as np

from rag.index import PassageIndex
from rag.library import Library, Stored, Writer
from rag.library.identity import fill_gaps, identifiers, overwrite, record_hash, same_title_same_paper
from rag.models import Embedder
from rag.passages import cut
from rag.records import AddReport, Merge, Paper, Rejection

BATCH = 128


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
class _Tally:
    """The report while it grows."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("added", "updated", "unchanged"), 0))
    read: int = 0
    merges: list[Merge] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    met: set[int] = field(default_factory=set)


class Adder:
    """Adds records to one library. The embedder is called for only when something has to be embedded."""

    def __init__(self, library: Library, index: PassageIndex, embedder: Callable[[], Embedder]) -> None:
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
        tally = _Tally()
        say_once = cache(on_wait) if on_wait else None
        for batch in _batches(records):
            with self._library.writing(say_once) as writer:
                running = _Batch(writer, tally)
                for record in batch:
                    running.take(record)
                running.embed(self._embedder)
            self._index.sync()
            if on_progress:
                on_progress(batch[-1].position, tally.read)
        return self._report(tally)

    def _report(self, tally: _Tally) -> AddReport:
        counts = self._library.counts()
        return AddReport(
            read=tally.read,
            papers=counts["papers"],
            without_abstract=counts["without_abstract"],
            merges=tuple(tally.merges),
            rejected=tuple(tally.rejected),
            **tally.counts,
        )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(islice(iterator, BATCH)):
        yield batch


class _Batch:
    """The records of one transaction."""

    def __init__(self, writer: Writer, tally: _Tally) -> None:
        self._writer = writer
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
        digest = record_hash(record.outcome)
        known = self._writer.key_of_record(digest)
        if known is not None:
            self._known_again(known, record, digest)
        else:
            self._new_record(record, record.outcome, digest)

    def _known_again(self, key: int, record: Record, digest: str) -> None:
        self._writer.note_provenance(key, digest, record.source, record.number)
        if key in self._tally.met:
            self._merged(self._writer.stored(key), record, "record")
        else:
            self._tally.met.add(key)
            self._tally.counts["unchanged"] += 1

    def _new_record(self, record: Record, paper: Paper, digest: str) -> None:
        match, by = self._match(paper)
        if match is None:
            stored = self._writer.insert(paper, self._now)
            self._to_embed[stored.key] = stored.paper
            self._tally.counts["added"] += 1
        else:
            stored = self._join(match, paper, record, by)
        self._tally.met.add(stored.key)
        self._writer.note_provenance(stored.key, digest, record.source, record.number)

    def _join(self, match: Stored, paper: Paper, record: Record, by: str) -> Stored:
        """Make a record part of a known paper: as its newer version, or to fill gaps."""
        first_time = match.key not in self._tally.met
        newer = first_time and (by != "title" or not identifiers(match.paper))
        joined = overwrite(match.paper, paper) if newer else fill_gaps(match.paper, paper)
        if joined != match.paper:
            self._writer.update(match.key, joined)
        if (joined.title, joined.abstract) != (match.paper.title, match.paper.abstract):
            self._to_embed[match.key] = joined
        if newer:
            self._writer.forget_provenance(match.key, record.source)
            self._tally.counts["updated" if joined != match.paper else "unchanged"] += 1
        else:
            self._merged(replace(match, paper=joined), record, by)
        return replace(match, paper=joined)

    def _match(self, paper: Paper) -> tuple[Stored | None, str]:
        """The known paper that this is, and by what. Papers that prove to be one through this record become one."""
        found: dict[int, str] = {}
        for kind, name in identifiers(paper).items():
            key = self._writer.key_of_identifier(name)
            if key is not None:
                found.setdefault(key, kind)
        if found:
            first, *others = sorted(found)
            for other in others:
                self._absorb(first, other)
            return self._writer.stored(first), found[first]
        same = (known for known in self._writer.with_title(paper.title) if same_title_same_paper(known.paper, paper))
        match = next(same, None)
        return match, "title"

    def _absorb(self, key: int, other: int) -> None:
        joined = fill_gaps(self._writer.stored(key).paper, self._writer.stored(other).paper)
        self._writer.absorb(key, other)
        self._writer.update(key, joined)
        self._to_embed.pop(other, None)
        self._to_embed[key] = joined

    def _merged(self, stored: Stored, record: Record, by: str) -> None:
        paper = stored.paper
        self._tally.merges.append(Merge(paper.id, paper.title, record.source, record.number, by))

    def embed(self, embedder: Callable[[], Embedder]) -> None:
        """Cut and embed what is new or changed, and write its vectors."""
        if not self._to_embed:
            return
        model = embedder()
        self._writer.check_embedder(model.name, model.fingerprint)
        embed_papers(self._writer, model, self._to_embed)


def embed_papers(writer: Writer, embedder: Embedder, papers: Mapping[int, Paper]) -> None:
    """Cut and embed papers, given by row number, and write their passages, sentences and vectors."""
    cuts = {key: cut(paper, embedder) for key, paper in papers.items()}
    vectors = iter(embedder.embed_passages([text for pieces in cuts.values() for text in pieces.texts]))
    for key, pieces in cuts.items():
        embedded = [next(vectors) for _ in pieces.texts]
        passages = np.stack([passage for passage, _ in embedded])
        sentences = np.concatenate([sentence for _, sentence in embedded])
        writer.put_vectors(key, pieces.passages, passages, pieces.sentences, sentences)
