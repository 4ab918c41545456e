"""Replay of a saved answer: ask its question again and list what has changed.

A saved answer comes from a file that anyone may have written. It is checked strictly and rejected
with the location of the first fault. Seconds, token counts and the scores of single sentences and
papers are not compared.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rag.errors import FootnoteError, LibraryError, UsageError
from rag.library.filters import FILTERS
from rag.records import Answer, Paper, label_confidence

# JSON that `footnote ask --json` printed, validated by `load_answer`.
SavedAnswer = dict[str, Any]

_COMPARED_TRACE_FIELDS = (
    "style",
    "fallback",
    "embedder",
    "language_model",
    "prompt_digest",
    "library_digest",
)
# The fields that a replay reads: a type, a list of items of one shape, or the shapes of fields.
_ANSWER_SHAPE: dict[str, Any] = {
    "question": str,
    "text": str,
    "abstained": bool,
    "reason": str,
    "confidence": float,
    "claims": [{"text": str, "citations": [int]}],
    "citations": [{"number": int, "paper_id": str, "title": str, "quote": str}],
    "hits": [{"paper_id": str, "title": str}],
    "trace": {
        **dict.fromkeys(_COMPARED_TRACE_FIELDS, str),
        "rewritten_query": str,
        "settings": {},
    },
}
# What a setting holds, as in `_ANSWER_SHAPE`. The last ones are those of a follow-up question.
_SETTING_SHAPES: dict[str, Any] = {
    "style": str,
    "sentences": int,
    **dict.fromkeys(FILTERS, str),
    "query": str,
    "paper_ids": [str],
    "excluded_ids": [str],
    "shown": [str],
}
_TYPE_NAMES = {
    str: "a string",
    bool: "true or false",
    float: "a number",
    int: "an integer",
    list: "a list",
    dict: "an object",
}
_ASK_AGAIN = "if another version of Footnote saved it, ask the question again"
_MAX_NAME_LENGTH = 60  # of an unknown setting, in a message
_SURROGATE = re.compile("[\ud800-\udfff]")

_MESSAGES = {
    "abstained": "{before} before, {after} now",
    "reason": "reason for abstaining: {before} before, {after} now",
    "claim removed": "removed: “{before}”",
    "claim added": "added: “{after}”",
    "claim reworded": "reworded: “{before}” before, “{after}” now",
    "citations changed": "cited differently: {before} before, {after} now",
    "quotation lost": "{before}: {after}",
    "text": "same claims, arranged differently: {before} before, {after} now",
    "confidence": "confidence: {before} before, {after} now",
    "papers retrieved": "retrieved other papers, or in another order",
    "style": "style: {before} before, {after} now",
    "fallback": "fallback: {before} before, {after} now",
    "embedder": "embedding model: {before} before, {after} now",
    "language_model": "language model: {before} before, {after} now",
    "prompt_digest": "prompts: {before} before, {after} now",
    "library_digest": "the library has changed: {before} before, {after} now",
}


@dataclass(frozen=True, slots=True)
class Change:
    """Difference between a saved answer and the current one; as a string, one line.

    `kind` is a key of `_MESSAGES`; `before` and `after` are plain data.
    """

    kind: str
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.kind == "confidence":
            return _confidence_line(self.before, self.after)
        before, after = _one_line(self.before), _one_line(self.after)
        return _MESSAGES[self.kind].format(before=before, after=after)


def _confidence_line(before: float, after: float) -> str:
    label_before, label_after = label_confidence(before), label_confidence(after)
    if label_before == label_after:
        return f"confidence: changed slightly, still {label_after}"
    return _MESSAGES["confidence"].format(before=label_before, after=label_after)


@dataclass(frozen=True, slots=True)
class Replay:
    """Current answer to a saved question, with its differences from the saved answer."""

    answer: Answer
    changes: tuple[Change, ...]

    @property
    def is_same(self) -> bool:
        """True when nothing has changed."""
        return not self.changes

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. The shape is part of the public interface."""
        return {
            "same": self.is_same,
            "changes": list(map(asdict, self.changes)),
            "answer": self.answer.to_dict(),
        }


class SupportsReplay(Protocol):
    """Methods of an assistant that a replay calls."""

    def repeat(self, question: str, interpretation: str, settings: Mapping[str, Any]) -> Answer:
        """Answer a question with the settings of a trace."""
        ...

    def paper(self, name: str) -> Paper:
        """Return a paper by its id; raise `LibraryError` if there is none."""
        ...


def replay(assistant: SupportsReplay, saved: SavedAnswer) -> Replay:
    """Ask the question of a saved answer again with the settings in its trace, and compare.

    A follow-up question is asked about the same papers, so the replay repeats the answer but not
    the interpretation, and footnotes start at 1. The language model is the assistant's:
    a trace holds the name of a model, which is not enough to load it.

    Raises `FootnoteError` if the question or its settings are invalid.
    """
    trace = saved["trace"]
    try:
        answer = assistant.repeat(saved["question"], trace["rewritten_query"], trace["settings"])
    except UsageError as error:
        raise FootnoteError(f"cannot ask the saved question again: {_one_line(error)}") from error
    lost_quotations = find_lost_quotations(saved, assistant.paper)
    return Replay(answer, (*lost_quotations, *compare_answers(saved, answer)))


# --- loading a saved answer -------------------------------------------------------------------


def load_answer(data: bytes | str, name: str = "the file") -> SavedAnswer:
    """Parse what `footnote ask --json` printed and check its shape. `name` is for messages.

    Fields that a replay does not read may be missing or new.

    Raises `FootnoteError` with the first fault: invalid JSON, a field that is missing or has
    another type, an unknown setting.
    """
    try:
        saved = json.loads(data, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        fault = f"invalid JSON ({error})"
    else:
        fault = next(_find_faults(saved), "")
    if fault:
        raise FootnoteError(f"{name} is not an answer saved by footnote ask --json: {fault}")
    return dict(saved)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _find_faults(saved: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    """Yield the faults of a saved answer. Only the first is certain: later checks rely on it."""
    yield from _find_mismatches(saved, _ANSWER_SHAPE, "")
    for name, value in saved["trace"]["settings"].items():
        if name not in _SETTING_SHAPES:
            yield f"unknown setting '{_one_line(name[:_MAX_NAME_LENGTH])}'"
        else:
            yield from _find_mismatches(value, _SETTING_SHAPES[name], f"trace.settings.{name}")


def _find_mismatches(value: Any, shape: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Yield what does not fit a shape. `path` leads to the value, such as `claims[0].text`."""
    expected_type = shape if isinstance(shape, type) else type(shape)
    if not _is_of_type(value, expected_type):
        yield f"{path or 'it'} is not {_TYPE_NAMES[expected_type]}"
    elif isinstance(shape, list):
        for number, item in enumerate(value):
            yield from _find_mismatches(item, shape[0], f"{path}[{number}]")
    elif isinstance(shape, dict):
        for name, field_shape in shape.items():
            field_path = f"{path}.{name}".lstrip(".")
            if name in value:
                yield from _find_mismatches(value[name], field_shape, field_path)
            else:
                yield f"{field_path} is missing; {_ASK_AGAIN}"


def _is_of_type(value: Any, expected_type: type) -> bool:  # noqa: ANN401 - any JSON value
    """Check the type of a JSON value.

    True is not a number, a number is finite, and a string holds no half of a surrogate pair.
    """
    if expected_type is bool or isinstance(value, bool):
        return expected_type is bool and isinstance(value, bool)
    if expected_type is str:
        return isinstance(value, str) and not _SURROGATE.search(value)
    if expected_type is float and isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int if expected_type is float else expected_type)


# --- comparing --------------------------------------------------------------------------------


def find_lost_quotations(saved: SavedAnswer, get_paper: Callable[[str], Paper]) -> list[Change]:
    """List the saved footnotes whose paper or sentence is gone.

    `get_paper` returns a paper by its id or raises `LibraryError`.
    """
    changes = []
    for citation in saved["citations"]:
        try:
            abstract = get_paper(citation["paper_id"]).abstract
        except LibraryError:
            reason = "the paper is no longer in the library"
        else:
            reason = "the abstract no longer contains it"
            if citation["quote"] in abstract:
                continue
        footnote = f"[{citation['number']}] {citation['title']}, “{citation['quote']}”"
        changes.append(Change("quotation lost", footnote, reason))
    return changes


def compare_answers(saved: SavedAnswer, answer: Answer) -> list[Change]:
    """List the differences: first in what the answer says, then in how it was produced."""
    current = answer.to_dict()
    changes = [*_outcome_changes(saved, current), *_claim_changes(saved, current)]
    if not changes:
        changes += _text_changes(saved, current)
    return [*changes, *_retrieval_changes(saved, current), *_trace_changes(saved, current)]


def _outcome_changes(saved: SavedAnswer, current: SavedAnswer) -> Iterator[Change]:
    for name in ("abstained", "reason"):
        if saved[name] != current[name]:
            yield Change(name, saved[name], current[name])


@dataclass(frozen=True, slots=True)
class _CitedText:
    """Claim without footnote numbers: its text, and paper id and quotation of each footnote."""

    text: str
    quotations: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        cited = "".join(f" [“{quotation}”]" for _, quotation in self.quotations)
        return f"“{self.text}”{cited}"


def _claim_changes(saved: SavedAnswer, current: SavedAnswer) -> Iterator[Change]:
    claims_before, claims_after = _cited_texts(saved), _cited_texts(current)
    added = [claim for claim in claims_after if claim not in claims_before]
    for claim in claims_before:
        if claim in claims_after:
            continue
        counterpart = _find_counterpart(claim, added)
        if counterpart is None:
            yield Change("claim removed", claim.text, None)
            continue
        added.remove(counterpart)
        if counterpart.text == claim.text:
            yield Change("citations changed", str(claim), str(counterpart))
        else:
            yield Change("claim reworded", claim.text, counterpart.text)
    for claim in added:
        yield Change("claim added", None, claim.text)


def _cited_texts(answer: SavedAnswer) -> list[_CitedText]:
    quotations: dict[int, tuple[str, str]] = {}
    for citation in answer["citations"]:
        quotations[citation["number"]] = (citation["paper_id"], citation["quote"])
    claims = []
    for claim in answer["claims"]:
        cited = filter(None, map(quotations.get, claim["citations"]))
        claims.append(_CitedText(claim["text"], tuple(cited)))
    return claims


def _find_counterpart(claim: _CitedText, candidates: Sequence[_CitedText]) -> _CitedText | None:
    """Find a claim with the same text, or else one that cites the same quotation."""
    for candidate in candidates:
        if candidate.text == claim.text:
            return candidate
    for candidate in candidates:
        if set(candidate.quotations) & set(claim.quotations):
            return candidate
    return None


def _text_changes(saved: SavedAnswer, current: SavedAnswer) -> Iterator[Change]:
    """Compare texts with equal claims: their order, footnote numbers and quotation marks."""
    # Footnotes continue through a conversation, so their numbers say nothing.
    ignores_numbers = bool(saved["trace"]["rewritten_query"])
    text_before = _comparable_text(saved, ignores_numbers)
    if text_before != _comparable_text(current, ignores_numbers):
        yield Change("text", saved["text"], current["text"])


def _comparable_text(answer: SavedAnswer, ignores_numbers: bool) -> str:
    claims = " ".join(claim["text"] for claim in answer["claims"])
    return claims if ignores_numbers and claims else str(answer["text"])


def _retrieval_changes(saved: SavedAnswer, current: SavedAnswer) -> Iterator[Change]:
    if round(saved["confidence"], 4) != current["confidence"]:
        yield Change("confidence", saved["confidence"], current["confidence"])
    # An answer lists more papers than an abstention: compare as many as both have.
    count = min(len(saved["hits"]), len(current["hits"]))
    ids_before, ids_after = _paper_ids(saved, count), _paper_ids(current, count)
    if ids_before != ids_after:
        yield Change("papers retrieved", ids_before, ids_after)


def _paper_ids(answer: SavedAnswer, count: int) -> list[str]:
    return [hit["paper_id"] for hit in answer["hits"][:count]]


def _trace_changes(saved: SavedAnswer, current: SavedAnswer) -> Iterator[Change]:
    for name in _COMPARED_TRACE_FIELDS:
        before, after = saved["trace"][name], current["trace"][name]
        if before != after:
            yield Change(name, before, after)


def _one_line(value: Any) -> str:  # noqa: ANN401 - any plain data
    """Format a value as one line, without characters that could control the terminal."""
    if isinstance(value, bool):
        return "abstained" if value else "answered"
    text = " ".join(str(value).split()) or "none"
    return "".join(char if char.isprintable() else "�" for char in text)
