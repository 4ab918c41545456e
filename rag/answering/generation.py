"""Writing the answer: literal sentences, each with its footnote; or the language model's own, each checked.

What the model writes is never shown as it comes: every sentence is first held against the quotations that it cites
(`rag.verification.verifier`). What fails is replaced by the quotation, or left out; what only repeats one becomes the quotation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from threading import Event

from rag.answering.prompts import load_prompt, neutralize_markers
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.records import Citation, Claim, Evidence
from rag.text.prompt_injection import title_is_injection
from rag.text.sentences import split_sentences
from rag.verification.verifier import Source, Verifier

_MARK = re.compile(r"\s*\[\s*\^?(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\s*\]")
_UNFINISHED_MARK = re.compile(r"\[[\d\s^,;–-]*")
_GLUED_MARK = re.compile(r"(?<=[.!?”\"’*)])(?=\[\s*\^?\d)")
_MAY_END = re.compile(r"[.!?…。！？].*\s|\n")
_WORD = re.compile(r"\w+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
# Characters; what a server writes is not to fill the memory, whatever it was told.
_LONGEST_TOKEN = 16
_DOES_NOT_SAY = "the sources do not say"
_OTHERS_SAY = "the language model cited another sentence for this"


class Footnotes:
    """Numbers for quotations, in the order in which they are first cited; the same one whenever it is cited again.

    In a conversation it begins with the footnotes `given` before.
    """

    def __init__(self, given: Iterable[Citation] = ()) -> None:
        self._known = {(one.paper.id, one.start, one.end): one for one in given}
        self._next = max((one.number for one in self._known.values()), default=0) + 1
        self._cited: dict[int, Citation] = {}

    def cite(self, evidence: Evidence) -> int:
        """The number of the evidence."""
        place = (evidence.paper.id, evidence.sentence.start, evidence.sentence.end)
        if place not in self._known:
            self._known[place] = Citation(
                self._next, evidence.paper, evidence.sentence.text, place[1], place[2]
            )
            self._next += 1
        citation = self._known[place]
        self._cited[citation.number] = citation
        return citation.number

    @property
    def cited(self) -> tuple[Citation, ...]:
        """What this answer cites, by number."""
        return tuple(self._cited[number] for number in sorted(self._cited))


def quote(evidence: Iterable[Evidence], footnotes: Footnotes, note: str = "") -> Iterator[Claim]:
    """Literal sentences: the answer first, then the others paper by paper, in the order of the abstract."""
    first, *others = evidence
    papers = {one.paper.id: rank for rank, one in reversed([*enumerate([first, *others])])}
    for one in [first, *sorted(others, key=lambda one: (papers[one.paper.id], one.sentence.start))]:
        yield Claim(
            one.sentence.text,
            "quoted",
            (footnotes.cite(one),),
            supported=True,
            score=one.score,
            note=note,
        )


def claim_text(claim: Claim) -> str:
    """A claim as it stands in the text of an answer: quotations in quotation marks, then the footnotes."""
    text = f"“{claim.text}”" if claim.kind == "quoted" else claim.text
    return text + "".join(f" [{number}]" for number in claim.citations)


@dataclass(slots=True)
class AnswerGenerator:
    """One answer being written by a language model from evidence, the most relevant first.

    Afterwards `declined` says whether the model found nothing that answers, `left_out` which evidence did not fit into
    its context, and `dropped` how many of its sentences nothing supported. `tokens` counts prompt and reply.
    """

    model: LanguageModel
    verifier: Verifier
    limits: GenerationLimits
    declined: bool = False
    dropped: int = 0
    left_out: tuple[Evidence, ...] = ()
    tokens: dict[str, int] = field(default_factory=dict)

    def write(
        self, question: str, evidence: Sequence[Evidence], footnotes: Footnotes, stop: Event
    ) -> Iterator[Claim]:
        """The model's sentences, each checked, as they are finished. Raises `ModelError` when the model breaks off."""
        given, messages = self._fit(question, evidence)
        reply: list[str] = []
        quoted: set[Evidence] = set()
        said: set[str] = set()

        def listened() -> Iterator[str]:
            room = self.limits.tokens * _LONGEST_TOKEN
            for piece in self.model.stream(messages, self.limits, stop):
                room -= len(piece)
                if room < 0:
                    raise ModelFailed(
                        self.model.name, f"it wrote on after its {self.limits.tokens} tokens"
                    )
                reply.append(piece)
                yield piece

        # What was stopped is no sentence yet.
        for draft in takewhile(lambda _: not stop.is_set(), drafts(listened())):
            if draft.text.casefold().startswith(_DOES_NOT_SAY):
                self.declined = True
                continue
            # Small models go round in circles, and ask back.
            if draft.text.casefold() in said or draft.text.endswith("?"):
                continue
            said.add(draft.text.casefold())
            claim = self._judge(draft, given, footnotes, quoted)
            if claim:
                yield claim
        self.tokens["reply"] = self.model.count_tokens([Message("assistant", "".join(reply))])

    def _fit(
        self, question: str, evidence: Sequence[Evidence]
    ) -> tuple[list[Evidence], list[Message]]:
        """As much of the evidence as the model can read, and the messages that hold it."""
        given = list(evidence)
        while True:
            messages = generation_prompt(question, given)
            size = self.model.count_tokens(messages)
            if size + self.limits.tokens <= self.model.context_tokens or len(given) <= 1:
                self.left_out, self.tokens["prompt"] = tuple(evidence[len(given) :]), size
                return given, messages
            given.pop()

    def _judge(
        self, draft: "Draft", given: Sequence[Evidence], footnotes: Footnotes, quoted: set[Evidence]
    ) -> Claim | None:
        """The claim that a draft may be shown as; None when nothing supports it."""
        cited = [given[number - 1] for number in draft.marks if 0 < number <= len(given)]
        repeated = next(
            (one for one in cited if _only_repeats(draft.text, one.sentence.text)), None
        )
        if repeated:
            return self._quote_once(repeated, footnotes, quoted)
        support = self.verifier.check(draft.text, _sources(cited)) if cited else None
        if support and support.supported:
            numbers = tuple(dict.fromkeys(footnotes.cite(one) for one in cited))
            return Claim(draft.text, "generated", numbers, supported=True, score=support.score)
        note = _OTHERS_SAY if cited else ""
        for one in given:
            if _only_repeats(draft.text, one.sentence.text):
                return self._quote_once(one, footnotes, quoted, note)
            other = self.verifier.check(draft.text, _sources([one]))
            if other.supported:
                return Claim(
                    draft.text,
                    "generated",
                    (footnotes.cite(one),),
                    supported=True,
                    score=other.score,
                    note=note,
                )
        self.dropped += 1
        fresh = [one for one in cited if one not in quoted]
        if not fresh or not support:
            return None
        why = f"quoted in place of what the language model wrote: {support.reason}"
        return self._quote_once(fresh[0], footnotes, quoted, why)

    def _quote_once(
        self, one: Evidence, footnotes: Footnotes, quoted: set[Evidence], why: str = ""
    ) -> Claim | None:
        if one in quoted:
            return None
        quoted.add(one)
        return next(quote([one], footnotes, why))


def _only_repeats(text: str, of: str) -> bool:
    """Whether a text has no word of its own: all its words stand in another, in that order.

    Then it is no sentence of the model's: taken over from "Say that this works", "this works" would be obeyed.
    """
    words = iter(_WORD.findall(of.casefold()))
    return all(word in words for word in _WORD.findall(text.casefold()))


def _sources(evidence: Iterable[Evidence]) -> list[Source]:
    return [Source(one.sentence.text, _harmless_title(one)) for one in evidence]


def generation_prompt(question: str, evidence: Sequence[Evidence]) -> list[Message]:
    """What the model is given: the evidence as numbered lines, made harmless, and the question."""
    lines = [
        f"[{number}] {neutralize_markers(one.sentence.text)} (from: {neutralize_markers(_harmless_title(one))})"
        for number, one in enumerate(evidence, 1)
    ]
    rendered = load_prompt("generate").render(
        sources="\n".join(lines), question=neutralize_markers(question)
    )
    return [Message(role, text) for role, text in rendered if role != "text"]  # type: ignore[arg-type]


def _harmless_title(evidence: Evidence) -> str:
    return "a paper" if title_is_injection(evidence.paper.title) else evidence.paper.title


@dataclass(frozen=True, slots=True)
class Draft:
    """A sentence as the model wrote it, without its marks, and the numbers that it cites."""

    text: str
    marks: tuple[int, ...]


def drafts(pieces: Iterable[str]) -> Iterator[Draft]:
    """The sentences of a text that comes in pieces, each as soon as it is known where it and its marks end."""
    rest = ""
    for piece in pieces:
        rest += piece
        if not _MAY_END.search(rest):
            continue
        end = (
            max(rest.rfind(" "), rest.rfind("\n")) + 1
        )  # a word that is cut off may end a sentence, and whole not
        *finished, begun = _sentences(rest[:end])
        rest = begun + rest[end:]
        yield from filter(None, map(_draft, finished))
    yield from filter(None, map(_draft, _sentences(rest)))


def _sentences(text: str) -> list[str]:
    """The text in sentences, the last perhaps unfinished; marks behind a full stop belong to the sentence before."""
    *lines, last = _GLUED_MARK.sub(" ", text).split("\n")
    return [part for line in lines for part in _parts(line)] + (_parts(last) or [last])


def _parts(line: str) -> list[str]:
    """The sentences of a line; joined they are the line again."""
    starts = [start for start, _ in split_sentences(line)]
    starts = [start + _leading_marks(line[start:]) for start in starts[1:]]
    # What begins with a bracket may yet become a mark, and nothing behind a mark is yet to come.
    cuts = [
        0,
        *(
            start
            for start in starts
            if line[start:].strip() and not _UNFINISHED_MARK.fullmatch(line[start:].strip())
        ),
    ]
    return [
        line[start:end]
        for start, end in zip(cuts, [*cuts[1:], len(line)], strict=True)
        if line[start:end].strip()
    ]


def _leading_marks(text: str) -> int:
    end = 0
    while found := _MARK.match(text, end):
        end = found.end()
    return end


def _draft(text: str) -> Draft | None:
    marks = tuple(
        dict.fromkeys(number for found in _MARK.finditer(text) for number in _numbers(found[1]))
    )
    plain = _BULLET.sub("", _MARK.sub("", text)).strip().strip("*").strip('“”"').strip()
    return Draft(plain, marks) if any(char.isalnum() for char in plain) else None


def _numbers(mark: str) -> Iterator[int]:
    for part in re.split(r"[,;]", mark):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        yield from range(ends[0], min(ends[-1], ends[0] + 20) + 1)
