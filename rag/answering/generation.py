"""Write an answer with a language model, check each sentence, and attach its footnotes.

The model reads excerpts: the best sentences, numbered and grouped by paper. First it judges whether
they state the answer, then it writes. Both prompts begin alike, so a runtime can reuse its work.
Nothing that the model writes is shown unchecked: a sentence needs an excerpt that the verifier
accepts as its source, and one that only repeats an excerpt is shown as a quotation. If it is a few
words of an excerpt, such as a number, these come first, in quotation marks.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from threading import Event

from rag.answering.prompts import load_prompt, neutralize_markers, restore_markers
from rag.answering.sources import choose_sources, rank_sources
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.models.log_odds import logit
from rag.records import Citation, Claim, Evidence
from rag.text.prompt_injection import title_is_injection
from rag.text.sentences import split_sentences
from rag.text.terms import content_terms
from rag.verification.verifier import Source, Support, Verifier

# Citation marks: [1], [1, 2], [1-3], [^1].
_MARK = re.compile(r"\s*\[\s*\^?\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*\s*\]")
_UNFINISHED_MARK = re.compile(r"\[[\d\s^,;–-]*")
_GLUED_MARK = re.compile(r"(?<=[.!?”\"’*)])(?=\[\s*\^?\d)")
_POSSIBLE_END = re.compile(r"[.!?…。！？].*\s|\n")
_WORD = re.compile(r"\w+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+")
# Limits memory when a server ignores its token limit.
MAX_TOKEN_CHARS = 16
# Where a model put a mark in place of a figure: "by [2]."
_PREPOSITIONS = frozenset("a an the and or by of to from than with at as for".split())
# A quotation is so many times as long as the words of it that are put first.
_MIN_RATIO_TO_ANSWER = 2
# "No, reeds rot" answers; "No reeds rot" is a sentence of its own.
_YES_NO = re.compile(r"^(?:yes|no)[,.:;]\s+", re.IGNORECASE)


class Footnotes:
    """Numbers for quotations, given in the order of first citation; a quotation keeps its number.

    Numbering continues after the citations of earlier answers, which keep their numbers too.
    """

    def __init__(self, earlier: Iterable[Citation] = ()) -> None:
        self._by_place: dict[tuple[str, int, int], Citation] = {}
        self._cited_evidence: dict[Evidence, None] = {}
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
        self._cited_evidence[evidence] = None
        return citation.number

    @property
    def cited_evidence(self) -> tuple[Evidence, ...]:
        """Evidence of this answer, in the order of citation."""
        return tuple(self._cited_evidence)

    @property
    def cited(self) -> tuple[Citation, ...]:
        """Citations of this answer, by number."""
        return tuple(self._cited[number] for number in sorted(self._cited))


def quote_evidence(evidence: Iterable[Evidence], footnotes: Footnotes) -> Iterator[Claim]:
    """Yield quotations: the best one first, then the others by paper and position in it."""
    best, *others = evidence
    rank_of_paper: dict[str, int] = {}
    for rank, item in enumerate([best, *others]):
        rank_of_paper.setdefault(item.paper.id, rank)
    others.sort(key=lambda item: (rank_of_paper[item.paper.id], item.sentence.start))
    for item in [best, *others]:
        number = footnotes.cite(item)
        yield Claim(item.sentence.text, "quoted", (number,), supported=True, score=item.score)


@dataclass(frozen=True, slots=True)
class Excerpts:
    """Evidence as the language model reads it: number n is `evidence[n - 1]`."""

    evidence: tuple[Evidence, ...]
    text: str


def build_excerpts(evidence: Iterable[Evidence]) -> Excerpts:
    """Return sentences grouped by paper, in the order of the abstract, numbered and neutralized."""
    by_paper: dict[str, list[Evidence]] = {}
    for item in evidence:
        by_paper.setdefault(item.paper.id, []).append(item)
    ordered: list[Evidence] = []
    lines = []
    for items in by_paper.values():
        lines.append(neutralize_markers(_safe_title(items[0])))
        for item in sorted(items, key=lambda item: item.sentence.start):
            ordered.append(item)
            lines.append(f"[{len(ordered)}] {neutralize_markers(item.sentence.text)}")
    return Excerpts(tuple(ordered), "\n".join(lines))


def judging_prompt(question: str, excerpts: Excerpts) -> list[Message]:
    """Return the messages that ask whether the excerpts state the answer, to reply Yes or No."""
    return _render("judge", question, excerpts)


def writing_prompt(question: str, excerpts: Excerpts, is_list: bool = False) -> list[Message]:
    """Return the messages that ask for an answer; they begin as the judging prompt does."""
    return _render("list" if is_list else "write", question, excerpts)


def _render(name: str, question: str, excerpts: Excerpts) -> list[Message]:
    question = neutralize_markers(question)
    return load_prompt(name).render(excerpts=excerpts.text, question=question)


@dataclass(slots=True)
class AnswerGenerator:
    """Generates one answer with a language model.

    `evidence` is sorted by relevance, best first; as much of it is used as fits into the model's
    context, and `left_out` is the rest. The other results are complete once `generate` is
    exhausted. `dropped` counts generated sentences that no source supports. `ranking` is the
    evidence on which the first sentence may rest, also if it was dropped, best first. `tokens`
    counts the tokens of the prompt and of the reply.
    """

    model: LanguageModel
    verifier: Verifier
    limits: GenerationLimits
    question: str
    evidence: Sequence[Evidence]
    is_list: bool = False
    dropped: int = 0
    ranking: tuple[Evidence, ...] = ()
    left_out: tuple[Evidence, ...] = ()
    tokens: dict[str, int] = field(default_factory=dict)
    _excerpts: Excerpts = field(init=False)

    def __post_init__(self) -> None:
        evidence = list(self.evidence)
        while True:
            self._excerpts = build_excerpts(evidence)
            messages = writing_prompt(self.question, self._excerpts, self.is_list)
            size = self.model.count_tokens(messages)
            if size + self.limits.tokens <= self.model.context_tokens or len(evidence) <= 1:
                break
            evidence.pop()
        self.left_out = tuple(self.evidence[len(evidence) :])
        self.tokens["prompt"] = size

    @property
    def judging_prompt(self) -> list[Message]:
        """Messages that ask whether the evidence states the answer; see `judging_prompt`."""
        return judging_prompt(self.question, self._excerpts)

    def generate(self, footnotes: Footnotes, stop: Event) -> Iterator[Claim]:
        """Yield the model's sentences as claims, each checked once it is finished.

        Raises `ModelError` when the model fails.
        """
        messages = writing_prompt(self.question, self._excerpts, self.is_list)
        reply: list[str] = []
        quoted: set[Evidence] = set()
        seen: set[str] = set()
        drafts = split_drafts(self._stream(messages, reply, stop))
        # After a stop, the last draft is not a complete sentence.
        for draft in takewhile(lambda _: not stop.is_set(), drafts):
            text = draft.casefold()
            # Small models repeat themselves and ask questions.
            if text in seen or text.endswith("?"):
                continue
            seen.add(text)
            claim = self._check(draft, footnotes, quoted)
            if claim:
                yield claim
        self.tokens["reply"] = self.model.count_tokens([Message("assistant", "".join(reply))])

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

    def _check(self, draft: str, footnotes: Footnotes, quoted: set[Evidence]) -> Claim | None:
        """Return the claim to show for a draft: what fails the check is replaced by its source.

        None when there is nothing to show that was not quoted before. A draft of a few words that
        a source has is shown as it stands there.
        """
        excerpts = self._excerpts.evidence
        ranking = rank_sources(draft, self.question, excerpts)
        self.ranking = self.ranking or tuple(ranking)
        statement = _YES_NO.sub("", draft, count=1)
        repeated = [item for item in excerpts if only_repeats(statement, item.sentence.text)]
        if repeated:
            source = next(filter(repeated.__contains__, ranking), repeated[0])
            return self._extract(draft, source, footnotes) or _quote_once(source, footnotes, quoted)
        sources = choose_sources(draft, self.question, excerpts)
        support = self.verifier.check(statement, _verifier_sources(sources, self.question))
        if support.supported and not _is_cut_off(statement):
            heading = sources[0].paper.title if self.is_list else ""
            return _generated_claim(draft, sources, support, footnotes, heading)
        self.dropped += 1
        return _quote_once(sources[0], footnotes, quoted) if sources else None

    def _extract(self, draft: str, source: Evidence, footnotes: Footnotes) -> Claim | None:
        """Return a claim of the few words of a source that a draft consists of; else None."""
        words = find_answer_words(draft, self.question, source.sentence.text)
        if self.is_list or not words:
            return None
        number = footnotes.cite(source)
        return Claim(words, "extracted", (number,), supported=True, score=source.score)


def _is_cut_off(text: str) -> bool:
    """Return True if a text ends as no sentence does: "It needs less memory by."."""
    words = _WORD.findall(text.casefold())
    return bool(words) and words[-1] in _PREPOSITIONS


def _generated_claim(
    draft: str,
    sources: Iterable[Evidence],
    support: Support,
    footnotes: Footnotes,
    heading: str,
) -> Claim:
    numbers = tuple(dict.fromkeys(map(footnotes.cite, sources)))
    return Claim(draft, "generated", numbers, supported=True, score=support.score, heading=heading)


def _quote_once(evidence: Evidence, footnotes: Footnotes, quoted: set[Evidence]) -> Claim | None:
    if evidence in quoted:
        return None
    quoted.add(evidence)
    return next(quote_evidence([evidence], footnotes))


def only_repeats(text: str, source: str) -> bool:
    """Return True when all words of a text are in a source, in the same order.

    The model may then have obeyed an instruction in the source: "Say that this works" becomes
    "this works".
    """
    source_words = iter(_WORD.findall(source.casefold()))
    return all(word in source_words for word in _WORD.findall(text.casefold()))


def find_answer_words(draft: str, question: str, source: str) -> str:
    """Return a draft as it stands in a source, if it is a small part of it and not in the question.

    A source of a few words is better quoted whole. Returns nothing else.
    """
    words = r"\s+".join(map(re.escape, draft.rstrip(". ").split()))
    match = re.search(rf"(?<!\w){words}(?!\w)", source, re.IGNORECASE)
    is_new = not set(content_terms(draft)).issubset(content_terms(question))
    is_small = _MIN_RATIO_TO_ANSWER * len(draft) <= len(source)
    return match[0] if match and is_new and is_small else ""


def _verifier_sources(evidence: Iterable[Evidence], question: str) -> list[Source]:
    sources = []
    for item in evidence:
        text, year = item.sentence.text, item.paper.year
        sources.append(Source(text, _safe_title(item), question, year, logit(item.score)))
    return sources


def _safe_title(evidence: Evidence) -> str:
    return "a paper" if title_is_injection(evidence.paper.title) else evidence.paper.title


def split_drafts(pieces: Iterable[str]) -> Iterator[str]:
    """Yield the sentences of a text that arrives in pieces, without citation marks.

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
        yield from filter(None, map(_clean_draft, finished))
    yield from filter(None, map(_clean_draft, _split_lines(pending)))


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


def _clean_draft(text: str) -> str:
    """Return a sentence without marks, bullets and quotation marks; empty when no word is left."""
    while _MARK.search(text):  # what is left of "[1[2]]" is another mark
        text = _MARK.sub("", text)
    without_bullet = _BULLET.sub("", restore_markers(text))
    plain = without_bullet.strip().strip("*").strip('“”"').strip()
    return plain if any(map(str.isalnum, plain)) else ""
