"""Conversation: follow-up questions that stand alone, filters that stay, footnotes that keep their numbers.

Whether a question leans on the ones before, and on what, is told by rules for English: deterministic, and shown to
the user in `Trace.rewritten_query`, for a rewriting that nobody sees cannot be checked. What the rules bring is measured by
`python -m eval.benchmarks.followups`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from rag.answering.pipeline import AnswerRequest
from rag.library.filters import merge_filters
from rag.records import Answer, Citation, Filters, Paper
from rag.retrieval.query_analysis import analyze_query, checked_question
from rag.text.terms import content_terms

# So many words of the earlier question go along: the follow-up's own must weigh more.
_MOST_KEY_WORDS = 6
_LONGEST_HEAD = 4
_LONGEST_TITLE = 14
# So many words before a pronoun are likely to hold what it stands for.
_ENOUGH_BEFORE = 4
# A question with so many words of its own names its subject.
_LONG = 12
_SHORT = 4

_COURTESY = frozenset(
    "thanks thank thx you ok okay great cool nice perfect hello hi hey bye yes no sure fine very much so a lot i "
    "see wow interesting helpful".split()
)
_OPENING = re.compile(
    r"(?:and|but|or|so|also|then|plus|what about|how about|what if|why not)\b", re.IGNORECASE
)
_ABOUT = re.compile(
    r"(?:and|or|what about|how about)\s+(?!on\b|in\b|at\b|for\b|with\b|under\b|from\b)",
    re.IGNORECASE,
)
_FRAGMENT = re.compile(
    r"(?:on|for|with|in|at|without|under|by|from|using|against|versus|vs|than|compared)\b",
    re.IGNORECASE,
)
# "Is it possible to": this "it" stands for nothing.
_EMPTY_IT = re.compile(
    r"\b(?:is|was|would|be)\s+it\s+(?:\w+\s+){0,2}?(?:to|that|if|whether|when)\b"
    r"|\bit\s+(?:takes?|cost|helps?|pays?|make sense|matters?)\s+(?:to|that|if|whether|when|which|how)\b"
    r"|\bis it (?:true|the)\b|\bwhy is it\b",
    re.IGNORECASE,
)
_POINTER = re.compile(
    r"\b(?:it|its|they|them|their|theirs|this|these|those(?! (?:who|that|which|of|in|on|with))"
    r"|the (?:same(?! (?:time|way|as))|former|latter|others?|methods?|models?|approach|technique|authors?|paper|system"
    r"|framework|network|dataset|algorithm|trick)"
    r"|(?P<one>(?:the|that|this|which|each|other) (?:[\w./-]+ )?ones?))\b(?!-)"
    r"|\b(?:compare|does|do|did|is|was|can|could|will|would|has|with|than|like|for|from|of|to|about|by|why|how)\s+that\b"
    r"|\bthat(?=\s*(?:[?.,;!]|$))",
    re.IGNORECASE,
)
_LATE = re.compile(
    r"\b(?:as well|too|(?<!in )either|instead|(?<!something )else)\s*[?.!]*$"
    r"|^(?:what|who|anything|something|where) else\b",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\b(?:(?:other|another|similar|more) (?:papers?|works?|methods?|approach\w*|ones?)|others|else|alternatives?)\b",
    re.IGNORECASE,
)
# "better than it": what stands before such a pronoun is compared with it, so it is something else.
_COMPARED = re.compile(r"\b(?:than|to|with|against|versus|vs|from|over|like)\s*$", re.IGNORECASE)
_POSSESSIVE = frozenset("its their".split())
_NEW_CLAUSE = re.compile(
    r"[.;:?!]\s|,?\s(?:and|but|or)\s(?=(?:how|what|why|which|when|where|is|are|do|does|did|can|could)\b)",
    re.IGNORECASE,
)
_ASPECT = re.compile(r"\b(?:on|in|at|for|over|under|than)\s+(?:the\s+)?$", re.IGNORECASE)
# What can be asked of any paper, and so is the subject of none.
_OF_ANY_PAPER = frozenset(
    content_terms(
        "ablation accuracy accurate actually advantage amount anything available bad baseline benchmark best "
        "better big bigger biggest cheap cheaper code compare comparison contribution cost CPU data dataset "
        "detail differ difference different disadvantage drawback elaborate evaluate evaluation exactly "
        "example expensive experiment explain fast faster figure finetuning gain github go going good GPU "
        "happen hardware help idea improvement inference key kind large larger largest latency layer license "
        "limitation long loss main make many memory metric model need network new newer number old older only "
        "open parameter percent performance please point public published quality quick quickly really reason "
        "retraining run runtime save saved say score similar size slow slower small smaller smallest "
        "something sort source speed speedup suffice summarize summary table take task tell test tested testing "
        "there time train training why work worse worst year further"
    )
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as it was asked, and its answer."""

    question: str
    answer: Answer

    @property
    def stands_alone(self) -> bool:
        return not self.answer.trace.rewritten_query

    @property
    def paper(self) -> Paper | None:
        """The paper that the answer begins with, or the nearest where it cites none and that holds what was asked."""
        first = next((number for claim in self.answer.claims for number in claim.citations), 0)
        cited = next((one.paper for one in self.answer.citations if one.number == first), None)
        nearest = next((hit.paper for hit in self.answer.hits), None)
        own = _own_words(self.question)
        return cited or (nearest if nearest and own and own <= _words_of(nearest) else None)


def rewrite_followup(question: str, turns: Sequence[Turn]) -> str:
    """The question together with what it leans on; empty when it stands alone.

    It leans on earlier ones when it points back (`it`, `that`, `the model`), goes on (`and on ImageNet?`), names
    nothing of its own (`by how much?`), or uses only words of the paper quoted last.
    """
    turns = [turn for turn in turns if not _is_courtesy(turn.question)]
    if (
        not turns
        or not question.strip()
        or _is_courtesy(question)
        or not _leans(question, turns[-1])
    ):
        return ""
    context = _context(question, turns)
    # "on" keeps the context from being taken for the very thing that is asked for (`rag.retrieval.query_analysis`).
    return f"{question.rstrip()} (on {context})" if context else ""


def _is_courtesy(question: str) -> bool:
    words = re.findall(r"[^\W\d_]+", question.casefold())
    return bool(words) and set(words) <= _COURTESY


def _leans(question: str, last: Turn) -> bool:
    own = _own_words(question)
    if len(own) >= _LONG:
        return False
    if not own or _points_back(question) or _LATE.search(question):
        return True
    if _FRAGMENT.match(question) and len(question.split()) <= _SHORT:
        return True
    words = _words_of(last.paper) if last.paper else set()
    if _OPENING.match(question):
        return not words or bool(own & words) or len(question.split()) <= _SHORT
    asked = analyze_query(question)
    return len(own) > 1 and own <= words and not asked.names and not asked.several


def _points_back(question: str) -> bool:
    """Whether a pronoun stands for something that the question itself does not name before it."""
    plain = _EMPTY_IT.sub(" ", question)
    pointer = _POINTER.search(plain)
    if not pointer:
        return False
    before = plain[: pointer.start()]
    if _COMPARED.search(before) and pointer[0].casefold() not in _POSSESSIVE:
        return True
    if pointer["one"] and _names_in(plain):
        return False
    own = _own_words(before)
    return not (
        _names_in(before) or len(own) >= _ENOUGH_BEFORE or (own and _NEW_CLAUSE.search(before))
    )


def _names_in(text: str) -> list[str]:
    """The names in a text that are not those of a condition: on ImageNet, in English."""
    return [
        name for name in analyze_query(text).names if not _ASPECT.search(text[: text.find(name)])
    ]


def _words_of(paper: Paper) -> set[str]:
    return set(content_terms(f"{paper.title} {paper.abstract}"))


def _context(question: str, turns: Sequence[Turn]) -> str:
    """The title of the paper that the last answer began with; where there is none, what was asked about."""
    thread = _thread(turns)
    paper = next((turn.paper for turn in reversed(thread) if turn.paper), None)
    if paper and _names_another(question, paper):
        names = " ".join([*analyze_query(thread[-1].question).names, *_head(paper)])
        return _joined(_words(thread[-1].question), f"{question} {names}")
    if paper and not _OTHERS.search(question):
        subject = " ".join(paper.title.split()[:_LONGEST_TITLE])
    else:
        subject = _joined(_subject(thread[0]), question)
    detail = [] if _own_words(question) or len(thread) == 1 else _key_words(thread[-1].question)
    return f"{subject} {_joined(detail, f'{question} {subject}')}".strip()


def _thread(turns: Sequence[Turn]) -> Sequence[Turn]:
    """The turns since the last one that stood alone."""
    start = next((at for at in range(len(turns) - 1, -1, -1) if turns[at].stands_alone), 0)
    return turns[start:]


def _names_another(question: str, paper: Paper) -> bool:
    """Whether "what about" something asks about another subject than the paper, not about something in it."""
    if not _ABOUT.match(question) or len(question.split()) > _SHORT or _points_back(question):
        return False
    own = _own_words(question)
    return bool(own) and not own & _words_of(paper)


def _head(paper: Paper) -> list[str]:
    """What a paper is called: the head of its title where there is a short one, "KIVI" of "KIVI: A Tuning-Free ..."."""
    head = re.split(r":\s|\s-+\s|\s[–—]\s", paper.title)[0].split()
    return head if len(head) <= _LONGEST_HEAD else []


def _subject(turn: Turn) -> list[str]:
    """What a question is about: the names in it, or else its key words."""
    return list(analyze_query(turn.question).names) or _key_words(turn.question)


def _key_words(question: str) -> list[str]:
    """The words that are the question's own, and those that any paper could have right behind them: goldfish loss."""
    words = _words(question)
    own = [bool(_own_words(word)) for word in words]
    kept = [word for at, word in enumerate(words) if own[at] or (at and own[at - 1])]
    return kept[:_MOST_KEY_WORDS]


def _words(question: str) -> list[str]:
    return [word for word in re.findall(r"[\w^./+-]*\w", question) if content_terms(word)]


def _own_words(text: str) -> set[str]:
    return set(content_terms(text)) - _OF_ANY_PAPER


def _joined(words: Sequence[str], question: str) -> str:
    """The words, each once, without those of the question itself."""
    known = set(content_terms(question))
    kept = []
    for word in words:
        terms = set(content_terms(word))
        if not terms or not terms <= known:
            kept.append(word)
            known |= terms
    return " ".join(kept)


Ask = Callable[[AnswerRequest, Event], Iterator[str | Answer]]


class Conversation:
    """Questions that may lean on the ones before. Made by `Assistant.chat`; for one thread at a time."""

    def __init__(self, ask: Ask, filters: Filters, answers: Iterable[Answer] = ()) -> None:
        """Ask through a function that gives the pieces of an answer and then the answer; `answers` came before."""
        self._ask = ask
        self._filters = filters
        self._turns = [Turn(answer.question, answer) for answer in answers]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was asked and answered, in order."""
        return tuple(self._turns)

    @property
    def filters(self) -> Filters:
        """The filters that hold for the next question."""
        return self._filters

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer as `Assistant.ask` does; a filter holds until it is changed, and an empty one takes it back."""
        *_, answer = self.stream(question, sentences=sentences, style=style, stop=None, **filters)
        assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - tells the type checker
        return answer

    def stream(
        self,
        question: str,
        *,
        sentences: int | None = None,
        style: str = "auto",
        stop: Event | None = None,
        **filters: str,
    ) -> Iterator[str | Answer]:
        """As `Assistant.stream`. Nothing of the question stays when it fails, or when its pieces are not all taken."""
        question = checked_question(question)
        wanted = merge_filters(self._filters, filters)
        request = AnswerRequest(
            question,
            wanted,
            sentences,
            style,
            rewrite_followup(question, self._turns),
            self._given(),
        )
        for one in self._ask(request, stop or Event()):
            if isinstance(one, Answer):
                self._filters = wanted
                # What was stopped before its first sentence was as good as never asked.
                self._turns += [Turn(question, one)] if one.claims or one.abstained else []
            yield one

    def _given(self) -> tuple[Citation, ...]:
        """Every footnote so far, each number once."""
        return tuple(
            {one.number: one for turn in self._turns for one in turn.answer.citations}.values()
        )

    def to_markdown(self) -> str:
        """All questions and answers, and below them their footnotes, each once."""
        return markdown_of(turn.answer for turn in self._turns)


def markdown_of(answers: Iterable[Answer]) -> str:
    """The answers of a conversation one below the other, and below them their footnotes, each once."""
    lines = [line for answer in answers for line in (*answer.to_markdown().splitlines(), "")]
    # Brackets in the words of strangers are escaped: only a footnote begins with one.
    notes = {line.partition(":")[0]: line for line in lines if line.startswith("[^")}
    body = "\n".join(line for line in lines if not line.startswith("[^"))
    return "\n".join([body.rstrip() + "\n", *notes.values()]).rstrip() + "\n"
