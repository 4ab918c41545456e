"""A saved answer asked again, and what is different now.

What was saved comes from a file that anyone may have written: it is read strictly, or refused with the place that is
wrong. Seconds, tokens and the scores of single sentences and papers are not compared.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rag.errors import FootnoteError, LibraryError, UsageError
from rag.library.filters import Filters
from rag.records import Answer, Paper

# What `footnote ask --json` printed, once `read_answer` has checked it.
Saved = dict[str, Any]

# What of the trace is compared.
_TRACED = (
    "style",
    "fallback",
    "embedder",
    "reranker",
    "language_model",
    "prompt_digest",
    "library_digest",
)
# A saved answer as far as it is needed: a type, a list of one shape, or the shapes of named fields.
_SHAPE: dict[str, Any] = {
    "question": str,
    "text": str,
    "abstained": bool,
    "reason": str,
    "confidence": float,
    "claims": [{"text": str, "citations": [int]}],
    "citations": [{"number": int, "paper_id": str, "title": str, "quote": str}],
    "hits": [{"paper_id": str, "title": str}],
    "trace": {**dict.fromkeys((*_TRACED, "rewritten_query"), str), "settings": {}},
}
_SETTINGS = {"style": str, "sentences": int, **dict.fromkeys(Filters.__slots__, str)}
_LONGEST_NAME = 60  # characters of a stranger's setting
_CALLED = {
    str: "a text",
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    list: "a list",
    dict: "an object",
}

# What can change, and how it is told.
_LINES = {
    "abstained": "{then} then, {now} now",
    "reason": "why the library does not say: {then} then, {now} now",
    "claim removed": "no longer said: “{then}”",
    "claim added": "said only now: “{now}”",
    "claim reworded": "worded otherwise: “{then}” then, “{now}” now",
    "claim cites otherwise": "cited otherwise: {then} then, {now} now",
    "quotation gone": "{then}: {now}",
    "text": "the same claims, put together otherwise: {then} then, {now} now",
    "confidence": "confidence: {then} then, {now} now",
    "papers found": "other papers were found, or in another order",
    "style": "style: {then} then, {now} now",
    "fallback": "fall-back: {then} then, {now} now",
    "embedder": "embedding model: {then} then, {now} now",
    "reranker": "model that ranked the sentences: {then} then, {now} now",
    "language_model": "model that wrote: {then} then, {now} now",
    "prompt_digest": "prompts: {then} then, {now} now",
    "library_digest": "the library is another, or has changed: {then} then, {now} now",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is different: `what` it is, and plain data that it was `then` and is `now`. As text, one line."""

    what: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return _LINES[self.what].format(then=_shown(self.then), now=_shown(self.now))


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that the question gets now, and how it differs from the one that was saved."""

    answer: Answer
    changes: tuple[Change, ...]

    @property
    def same(self) -> bool:
        return not self.changes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the shape is part of the public interface."""
        changes = [asdict(change) for change in self.changes]
        return {"same": self.same, "changes": changes, "answer": self.answer.to_dict()}


class ReplayAssistant(Protocol):
    """What a replay needs of an assistant."""

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer from the library."""
        ...

    def paper(self, name: str) -> Paper:
        """The paper with that id, or `LibraryError`."""
        ...


def replay(assistant: ReplayAssistant, saved: Saved) -> Replay:
    """Ask the saved question again, with the settings in its trace, and compare.

    A question that leaned on a conversation is asked in the stand-alone form that it was given then. So the answering
    is repeated, not the understanding of the conversation, and footnotes count from 1 again. The language model is
    the assistant's own: a trace holds the name of the one that wrote, which does not open it.

    Raises `FootnoteError` when the question or its settings mean nothing.
    """
    settings = dict(saved["trace"]["settings"])
    style, sentences = settings.pop("style", "auto"), settings.pop("sentences", None)
    question = saved["trace"]["rewritten_query"] or saved["question"]
    try:
        answer = assistant.ask(question, sentences=sentences, style=style, **settings)
    except UsageError as error:
        raise FootnoteError(f"the saved question cannot be asked again: {_shown(error)}") from error
    changes = (*lost_quotations(saved, assistant.paper), *compare(saved, answer))
    return Replay(answer, changes)


# --- reading what was saved ---------------------------------------------------------------------------------------


def read_answer(data: bytes | str, name: str = "the file") -> Saved:
    """What `footnote ask --json` printed, as plain data of the shape that is compared. `name` is for messages.

    Raises `FootnoteError` with the first fault: no JSON, a field that is missing or of another type, a setting that
    is not known here. Fields that are not needed may be missing, or be new.
    """
    try:
        saved = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        why = f"not JSON ({error})"
    else:
        why = next(_faults(saved), "")
    if why:
        raise FootnoteError(f"{name} is no answer that footnote ask --json printed: {why}")
    return dict(saved)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _faults(saved: Any) -> Iterator[str]:  # noqa: ANN401 - whatever JSON can hold
    """What is wrong with a saved answer, the first fault first; each is true only where those before it are not."""
    yield from _misfits(saved, _SHAPE, "")
    settings = saved["trace"]["settings"]
    unknown = (name for name in settings if name not in _SETTINGS)
    yield from (
        f"the setting '{_shown(name[:_LONGEST_NAME])}' is not known to this version"
        for name in unknown
    )
    yield from _misfits(settings, {name: _SETTINGS[name] for name in settings}, "trace.settings")


def _misfits(value: Any, shape: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - whatever JSON can hold
    expected = shape if isinstance(shape, type) else type(shape)
    if not _is(value, expected):
        yield f"{where or 'the whole'} is not {_CALLED[expected]}"
    elif isinstance(shape, list):
        for number, one in enumerate(value):
            yield from _misfits(one, shape[0], f"{where}[{number}]")
    elif isinstance(shape, dict):
        for name, inner in shape.items():
            place = f"{where}.{name}".lstrip(".")
            if name in value:
                yield from _misfits(value[name], inner, place)
            else:
                yield f"{place} is missing; perhaps another version saved it"


def _is(value: Any, expected: type) -> bool:  # noqa: ANN401 - whatever JSON can hold
    """Whether a value of JSON is of a type; neither is true a number, nor 1e999, nor half a surrogate pair a text."""
    if isinstance(value, bool) or expected is bool:
        return isinstance(value, bool) and expected is bool
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, expected) or (expected is float and isinstance(value, int))


# --- comparing ----------------------------------------------------------------------------------------------------


def lost_quotations(then: Saved, paper: Callable[[str], Paper]) -> list[Change]:
    """The saved footnotes that lead nowhere now; `paper` gives a paper by its id or raises `LibraryError`."""
    changes = []
    for citation in then["citations"]:
        try:
            there = citation["quote"] in paper(citation["paper_id"]).abstract
            why = "" if there else "its abstract no longer says so"
        except LibraryError:
            why = "the paper is no longer in the library"
        if why:
            footnote = f"[{citation['number']}] {citation['title']}, “{citation['quote']}”"
            changes.append(Change("quotation gone", footnote, why))
    return changes


def compare(then: Saved, now: Answer) -> list[Change]:
    """What is different between a saved answer and one of today: first what it says, then how it came about."""
    today = now.to_dict()
    said = [*_outcome(then, today), *_claims(then, today)]
    return [*said, *([] if said else _wording(then, today)), *_circumstances(then, today)]


def _outcome(then: Saved, now: Saved) -> Iterator[Change]:
    for what in ("abstained", "reason"):
        if then[what] != now[what]:
            yield Change(what, then[what], now[what])


@dataclass(frozen=True, slots=True)
class _Said:
    """A claim without its numbers: the text, and the (paper id, quotation) of each footnote."""

    text: str
    cited: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"“{self.text}”" + "".join(f" [“{quotation}”]" for _, quotation in self.cited)


def _claims(then: Saved, now: Saved) -> Iterator[Change]:
    before, after = _said(then), _said(now)
    new = [one for one in after if one not in before]
    for one in before:
        if one in after:
            continue
        other = _counterpart(one, new)
        if other is None:
            yield Change("claim removed", one.text, None)
            continue
        new.remove(other)
        if other.text == one.text:
            yield Change("claim cites otherwise", str(one), str(other))
        else:
            yield Change("claim reworded", one.text, other.text)
    yield from (Change("claim added", None, one.text) for one in new)


def _said(answer: Saved) -> list[_Said]:
    cited = {one["number"]: (one["paper_id"], one["quote"]) for one in answer["citations"]}
    return [
        _Said(
            claim["text"], tuple(cited[number] for number in claim["citations"] if number in cited)
        )
        for claim in answer["claims"]
    ]


def _counterpart(claim: _Said, new: list[_Said]) -> _Said | None:
    """The new claim of the same text, or else one that rests on a quotation of this one."""
    same_text = [one for one in new if one.text == claim.text]
    same_source = [one for one in new if set(one.cited) & set(claim.cited)]
    return next(iter(same_text + same_source), None)


def _wording(then: Saved, now: Saved) -> Iterator[Change]:
    """What is left to differ where the claims are the same: their order, their numbers, their quotation marks."""

    def text(answer: Saved) -> str:
        # Footnotes of a conversation go on from earlier ones, so their numbers tell nothing.
        claims = (
            " ".join(claim["text"] for claim in answer["claims"])
            if then["trace"]["rewritten_query"]
            else ""
        )
        return claims or str(answer["text"])

    if text(then) != text(now):
        yield Change("text", then["text"], now["text"])


def _circumstances(then: Saved, now: Saved) -> Iterator[Change]:
    if round(then["confidence"], 4) != now["confidence"]:
        yield Change("confidence", then["confidence"], now["confidence"])
    # An answer comes with more papers than a "does not say": those that both have are compared.
    shared = min(len(then["hits"]), len(now["hits"]))
    found, finds = ([hit["paper_id"] for hit in answer["hits"][:shared]] for answer in (then, now))
    if found != finds:
        yield Change("papers found", found, finds)
    for what in _TRACED:
        if then["trace"][what] != now["trace"][what]:
            yield Change(what, then["trace"][what], now["trace"][what])


def _shown(value: Any) -> str:  # noqa: ANN401 - plain data, as a change holds it
    """A value in words; what a stranger's file slips into it cannot steer the terminal."""
    if isinstance(value, bool):
        return "the library does not say" if value else "answered"
    text = " ".join(str(value).split()) or "none"
    return "".join(char if char.isprintable() else "�" for char in text)
