"""Labels of generated sentences: whether the quotations that a sentence cites support it.

Two people or models label every sentence independently, and a third opinion settles disagreements.
A label belongs to a sentence and to what it cites, whichever run shows it, so a digest of both is
its key. `footnote eval label-sheet` writes what is still unlabelled in a run, `footnote eval
label-agreement` prints how far the first two labels agree. One JSON object per line of the file:

- `digest`: see `digest_statement`; `label`: one of `LABELS`; `labels`: the first and the second
  label; `split`: of the question that the sentence was first written for. Other fields are ignored.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eval.harness.replies import Footnote, Reply, Statement, read_json_lines
from rag.errors import UsageError

SUPPORTED = "supported"
CONTRADICTED = "contradicted"
NOT_IN_SOURCES = "not in the sources"
LABELS = (SUPPORTED, CONTRADICTED, NOT_IN_SOURCES)
_DIGEST_CHARACTERS = 16

# Label by digest.
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """Label of a sentence, with the first and the second label that led to it."""

    digest: str
    label: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Generated sentences of one or several replies, by label."""

    supported: int = 0
    contradicted: int = 0
    not_in_sources: int = 0
    unlabelled: int = 0

    @property
    def false(self) -> int:
        """Sentences that their sources contradict or do not state."""
        return self.contradicted + self.not_in_sources

    @property
    def labelled(self) -> int:
        """Sentences with a label."""
        return self.supported + self.false


def labels_file() -> Path:
    """Return the file of labels that is shipped; it need not exist."""
    return Path(__file__).parent.parent / "data" / "labels" / "generated.jsonl"


def load_labels(path: Path) -> list[LabelRecord]:
    """Return the labels in a file; none if there is no file. Raises `UsageError`."""
    records = []
    for number, line in enumerate(_read_lines(path), 1):
        if line.strip():
            try:
                records.append(_parse_record(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(f"{path}, line {number}: not a label: {error}") from error
    return records


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _parse_record(record: Mapping[str, Any]) -> LabelRecord:
    final_label = record["label"]
    labels = tuple(record.get("labels", ()))
    for label in (final_label, *labels):
        if label not in LABELS:
            raise ValueError(f"unknown label {label!r}; choose from: {', '.join(LABELS)}")
    return LabelRecord(record["digest"], final_label, labels)


@cache
def shipped_labels() -> Labels:
    """Return the shipped labels by digest."""
    return {record.digest: record.label for record in load_labels(labels_file())}


# --- sentences and their digests ------------------------------------------------------------------


def digest_statement(text: str, spans: Sequence[str]) -> str:
    """Return the key of a sentence and the spans that it cites, each `paper_id:start-end`."""
    content = f"{text}\n" + "\n".join(sorted(set(spans)))
    return hashlib.sha256(content.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def generated_statements(reply: Reply) -> Iterator[tuple[str, Statement, list[Footnote]]]:
    """Yield the generated sentences of a reply that cite sources: digest, sentence, sources."""
    by_number = {footnote.number: footnote for footnote in reply.footnotes}
    for statement in reply.statements:
        sources = list(filter(None, map(by_number.get, statement.citations)))
        if statement.kind == "generated" and sources:
            spans = [source.span for source in sources]
            yield digest_statement(statement.text, spans), statement, sources


def count_labels(reply: Reply, labels: Labels) -> LabelCounts:
    """Count the generated sentences of a reply by their labels."""
    counts = {SUPPORTED: 0, CONTRADICTED: 0, NOT_IN_SOURCES: 0, "": 0}
    for digest, _, _ in generated_statements(reply):
        counts[labels.get(digest, "")] += 1
    return LabelCounts(*counts.values())


# --- sheets for labelling -------------------------------------------------------------------------


def unlabelled_statements(runs: Sequence[Path], labels: Labels) -> list[dict[str, Any]]:
    """Return what is unlabelled in the runs in some folders, each sentence once.

    A record holds the digest, the question as it was asked, the sentence, and each quotation with
    its paper's title and the sentences before it. Raises `UsageError` if a folder holds no run.
    """
    sheet: dict[str, dict[str, Any]] = {}
    for folder in runs:
        file = folder / "replies.jsonl"
        if not file.exists():
            raise UsageError(f"no run in {folder}; footnote eval makes one")
        for line in read_json_lines(file):
            reply = Reply.from_dict(line["reply"])
            question = reply.rewritten_query or line["question"]
            for digest, statement, sources in generated_statements(reply):
                if digest not in labels:
                    sheet.setdefault(digest, _sheet_record(digest, question, statement, sources))
    return list(sheet.values())


def _sheet_record(
    digest: str, question: str, statement: Statement, sources: Sequence[Footnote]
) -> dict[str, Any]:
    quotations = []
    for source in sources:
        quotation = {"title": source.title, "before": source.before, "quote": source.quote}
        quotations.append({"span": source.span} | quotation)
    return {
        "digest": digest,
        "question": question,
        "heading": statement.heading,
        "sentence": statement.text,
        "sources": quotations,
    }


# --- agreement ------------------------------------------------------------------------------------


def label_agreement(records: Sequence[LabelRecord]) -> dict[str, float | int]:
    """Return how far the first and the second label agree.

    Cohen's kappa ("A coefficient of agreement for nominal scales", 1960) over the three labels, and
    over supported or not; NaN if all labels are the same. Raises `UsageError` if no record has two
    labels.
    """
    from sklearn.metrics import cohen_kappa_score

    pairs = [record.labels for record in records if len(record.labels) == 2]
    if not pairs:
        raise UsageError("no sentence has two labels")
    first, second = zip(*pairs, strict=True)
    same = sum(a == b for a, b in pairs)
    return {
        "sentences": len(pairs),
        "agreement": same / len(pairs),
        "kappa": float(cohen_kappa_score(first, second)),
        "kappa_supported": float(cohen_kappa_score(_supported(first), _supported(second))),
    }


def _supported(labels: Sequence[str]) -> list[bool]:
    return [label == SUPPORTED for label in labels]
