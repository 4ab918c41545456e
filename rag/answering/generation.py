"""Write an answer: quote sentences, or let a language model generate them and check each one.

Nothing that the model writes is shown unchecked. The verifier compares every sentence with the
quotations it cites. A sentence that fails is replaced by a quotation or dropped, and one that only
repeats a quotation is shown as that quotation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from threading import Event

from rag.answering.prompts import load_prompt, neutralize_markers
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.records import Citation, Claim, Evidence
from rag.text.prompt_injection import title_is_injection
from rag.text.sentences import split_sentences
from rag.verification.verifier import Source, Support, Verifier

# Citation marks: [1], [1, 2], [1-3], [^1].
_MARK = re.compile(r"\s*\[\s*\^?(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\s*\]")
_UNFINISHED_MARK = re.compile(r"\[[\d\s^,;–-]*")
_GLUED_MARK = re.compile(r"(?<=[.!?”\"’*)])(?=\[\s*\^?\d)")
_POSSIBLE_END = re.compile(r"[.!?…。！？].*\s|\n")
_WORD = re.compile(r"\w+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
# Limits memory when a server ignores its token limit.
MAX_TOKEN_CHARS = 16
_MAX_MARK_RANGE = 20
_DECLINE_PHRASE = "the sources do not say"
_WRONG_SOURCE_NOTE = "the language model cited a different sentence"


class Footnotes:
    """Numbers for quotations, given in the order of first citation; a quotation keeps its number.

    Numbering continues after the citations of earlier answers, which keep their numbers too.
    """

    def __init__(self, earlier: Iterable[Citation] = ()) -> None:
        self._by_place: dict[tuple[str, int, int], Citation] = {}
        for citation in earlier:
            self._by_place[citation.paper.id, citation.start, citation.end] = citation
        numbers = [citation.number for citation in self._by_place.values()]
        self._next_number = max(numbers, default=0) + 1
        self._cited: dict[int, Citation] = {}

    def cite(self, evidence: Evidence) -> int:
        """Return the number of a quotation, and assign one if it has none."""
        sentence = evidence.sentence
        place = (evidence.paper.id, sentence.start, sentence.end)
        if place not in self._by_place:
            self._by_place[place] = Citation(
                self._next_number, evidence.paper, sentence.text, sentence.start, sentence.end
            )
            self._next_number += 1
        citation = self._by_place[place]
        self._cited[citation.number] = citation
        return citation.number

    @property
    def cited(self) -> tuple[Citation, ...]:
        """Citations of this answer, by number."""
        return tuple(self._cited[number] for number in sorted(self._cited))


def quote_evidence(
    evidence: Iterable[Evidence], footnotes: Footnotes, note: str = ""
) -> Iterator[Claim]:
    """Yield quotations: the best one first, then the others by paper and position in it."""
    best, *others = evidence
    rank_of_paper: dict[str, int] = {}
    for rank, item in enumerate([best, *others]):
        rank_of_paper.setdefault(item.paper.id, rank)
    others.sort(key=lambda item: (rank_of_paper[item.paper.id], item.sentence.start))
    for item in [best, *others]:
        number = footnotes.cite(item)
        yield Claim(
            item.sentence.text, "quoted", (number,), supported=True, score=item.score, note=note
        )


def claim_text(claim: Claim) -> str:
    """Return a claim as it appears in the text of an answer, followed by its footnotes."""
    return claim.display_text + "".join(map(" [{}]".format, claim.citations))


@dataclass(slots=True)
class AnswerGenerator:
    """Generates one answer with a language model.

    The results are complete once `generate` is exhausted. `declined` is True when the model said
    that the sources do not answer. `left_out` is the evidence that did not fit into its context.
    `dropped` counts generated sentences that no source supports. `tokens` counts the tokens of the
    prompt and of the reply.
    """

    model: LanguageModel
    verifier: Verifier
    limits: GenerationLimits
    declined: bool = False
    dropped: int = 0
    left_out: tuple[Evidence, ...] = ()
    tokens: dict[str, int] = field(default_factory=dict)

    def generate(
        self, question: str, evidence: Sequence[Evidence], footnotes: Footnotes, stop: Event
    ) -> Iterator[Claim]:
        """Yield the model's sentences as claims, each checked once it is finished.

        `evidence` is sorted by relevance, best first. Raises `ModelError` when the model fails.
        """
        sources, messages = self._fit_context(question, evidence)
        reply: list[str] = []
        quoted: set[Evidence] = set()
        seen: set[str] = set()
        drafts = split_drafts(self._stream(messages, reply, stop))
        # After a stop, the last draft is not a complete sentence.
        for draft in takewhile(lambda _: not stop.is_set(), drafts):
            text = draft.text.casefold()
            if text.startswith(_DECLINE_PHRASE):
                self.declined = True
                continue
            # Small models repeat themselves and ask questions.
            if text in seen or text.endswith("?"):
                continue
            seen.add(text)
            claim = self._check(draft, sources, footnotes, quoted)
            if claim:
                yield claim
        self.tokens["reply"] = self.model.count_tokens([Message("assistant", "".join(reply))])

    def _fit_context(
        self, question: str, evidence: Sequence[Evidence]
    ) -> tuple[list[Evidence], list[Message]]:
        """Return as much evidence as fits into the model's context, and the prompt with it."""
        sources = list(evidence)
        while True:
            messages = generation_prompt(question, sources)
            size = self.model.count_tokens(messages)
            if size + self.limits.tokens <= self.model.context_tokens or len(sources) <= 1:
                self.left_out = tuple(evidence[len(sources) :])
                self.tokens["prompt"] = size
                return sources, messages
            sources.pop()

    def _stream(self, messages: Sequence[Message], reply: list[str], stop: Event) -> Iterator[str]:
        """Yield the pieces of the reply and append them to `reply`."""
        chars_left = self.limits.tokens * MAX_TOKEN_CHARS
        for piece in self.model.stream(messages, self.limits, stop):
            chars_left -= len(piece)
            if chars_left < 0:
                reason = f"it exceeded its limit of {self.limits.tokens} tokens"
                raise ModelFailed(self.model.name, reason)
            reply.append(piece)
            yield piece

    def _check(
        self,
        draft: "Draft",
        sources: Sequence[Evidence],
        footnotes: Footnotes,
        quoted: set[Evidence],
    ) -> Claim | None:
        """Return the claim to show for a draft, or None when there is none."""
        cited = _cited_sources(draft, sources)
        for source in cited:
            if _only_repeats(draft.text, source.sentence.text):
                return _quote_once(source, footnotes, quoted)
        support = self.verifier.check(draft.text, _verifier_sources(cited)) if cited else None
        if support and support.supported:
            return _generated_claim(draft, cited, support, footnotes)
        note = _WRONG_SOURCE_NOTE if cited else ""
        if match := self._find_support(draft, sources):
            source, other_support = match
            if not other_support:
                return _quote_once(source, footnotes, quoted, note)
            return _generated_claim(draft, [source], other_support, footnotes, note)
        self.dropped += 1
        return _replace_with_quotation(cited, footnotes, quoted, support)

    def _find_support(
        self, draft: "Draft", sources: Iterable[Evidence]
    ) -> tuple[Evidence, Support | None] | None:
        """Return the first source that supports a draft, with the support.

        The support is None when the draft only repeats the source.
        """
        for source in sources:
            if _only_repeats(draft.text, source.sentence.text):
                return source, None
            support = self.verifier.check(draft.text, _verifier_sources([source]))
            if support.supported:
                return source, support
        return None


def _cited_sources(draft: "Draft", sources: Sequence[Evidence]) -> list[Evidence]:
    """Return the sources that a draft cites; numbers that no source has are ignored."""
    return [sources[number - 1] for number in draft.numbers if 0 < number <= len(sources)]


def _generated_claim(
    draft: "Draft",
    sources: Iterable[Evidence],
    support: Support,
    footnotes: Footnotes,
    note: str = "",
) -> Claim:
    numbers = tuple(dict.fromkeys(map(footnotes.cite, sources)))
    return Claim(draft.text, "generated", numbers, supported=True, score=support.score, note=note)


def _quote_once(
    evidence: Evidence, footnotes: Footnotes, quoted: set[Evidence], note: str = ""
) -> Claim | None:
    if evidence in quoted:
        return None
    quoted.add(evidence)
    return next(quote_evidence([evidence], footnotes, note))


def _replace_with_quotation(
    cited: Iterable[Evidence],
    footnotes: Footnotes,
    quoted: set[Evidence],
    support: Support | None,
) -> Claim | None:
    """Replace an unsupported draft with the first cited source that was not quoted before."""
    reason = support.reason if support else ""
    note = f"quoted because the generated sentence was not supported: {reason}"
    for evidence in cited:
        if evidence not in quoted:
            return _quote_once(evidence, footnotes, quoted, note)
    return None


def _only_repeats(text: str, source: str) -> bool:
    """Return True when all words of a text are in a source, in the same order.

    The model may then have obeyed an instruction in the source: "Say that this works" becomes
    "this works".
    """
    source_words = iter(_WORD.findall(source.casefold()))
    return all(word in source_words for word in _WORD.findall(text.casefold()))


def _verifier_sources(evidence: Iterable[Evidence]) -> list[Source]:
    return [Source(item.sentence.text, _safe_title(item)) for item in evidence]


def generation_prompt(question: str, evidence: Sequence[Evidence]) -> list[Message]:
    """Return the messages for the model: numbered sentences, neutralized, and the question."""
    lines = []
    for number, item in enumerate(evidence, 1):
        sentence = neutralize_markers(item.sentence.text)
        title = neutralize_markers(_safe_title(item))
        lines.append(f"[{number}] {sentence} (from: {title})")
    rendered = load_prompt("generate").render(
        sources="\n".join(lines), question=neutralize_markers(question)
    )
    messages = []
    for role, text in rendered:
        messages.append(Message(role, text))  # type: ignore[arg-type]
    return messages


def _safe_title(evidence: Evidence) -> str:
    return "a paper" if title_is_injection(evidence.paper.title) else evidence.paper.title


@dataclass(frozen=True, slots=True)
class Draft:
    """Unchecked sentence of the model without citation marks, and the source numbers it cites."""

    text: str
    numbers: tuple[int, ...]


def split_drafts(pieces: Iterable[str]) -> Iterator[Draft]:
    """Yield the sentences of a text that arrives in pieces.

    A sentence is yielded as soon as its end and the end of its citation marks are certain.
    """
    pending = ""
    for piece in pieces:
        pending += piece
        if not _POSSIBLE_END.search(pending):
            continue
        # A word that is still incomplete could look like the end of a sentence.
        end = max(pending.rfind(" "), pending.rfind("\n")) + 1
        *finished, unfinished = _split_lines(pending[:end])
        pending = unfinished + pending[end:]
        yield from filter(None, map(_parse_draft, finished))
    yield from filter(None, map(_parse_draft, _split_lines(pending)))


def _split_lines(text: str) -> list[str]:
    """Split a text into sentences; the last one may be unfinished.

    Marks after a full stop belong to the sentence before them.
    """
    *lines, last = _GLUED_MARK.sub(" ", text).split("\n")
    sentences = []
    for line in lines:
        sentences += _split_line(line)
    return sentences + (_split_line(last) or [last])


def _split_line(line: str) -> list[str]:
    """Split a line into sentences; joined, they are the line again."""
    starts = [0]
    for start, _ in list(split_sentences(line))[1:]:
        after_marks = start + _leading_marks_length(line[start:])
        rest = line[after_marks:].strip()
        # An opening bracket may become a mark, which would belong to the sentence before it.
        if rest and not _UNFINISHED_MARK.fullmatch(rest):
            starts.append(after_marks)
    parts = [line[start:end] for start, end in pairwise([*starts, len(line)])]
    return list(filter(str.strip, parts))


def _leading_marks_length(text: str) -> int:
    end = 0
    while match := _MARK.match(text, end):
        end = match.end()
    return end


def _parse_draft(text: str) -> Draft | None:
    numbers: dict[int, None] = {}
    for match in _MARK.finditer(text):
        numbers.update(dict.fromkeys(_parse_mark(match[1])))
    without_marks = _BULLET.sub("", _MARK.sub("", text))
    plain = without_marks.strip().strip("*").strip('“”"').strip()
    return Draft(plain, tuple(numbers)) if any(map(str.isalnum, plain)) else None


def _parse_mark(mark: str) -> Iterator[int]:
    """Yield the numbers of a mark such as "1, 3-5"; a range is cut after 20 more numbers."""
    for part in re.split(r"[,;]", mark):
        ends = list(map(int, re.findall(r"\d+", part)))
        yield from range(ends[0], min(ends[-1], ends[0] + _MAX_MARK_RANGE) + 1)
