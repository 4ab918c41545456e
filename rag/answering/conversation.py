"""Hold a conversation: follow-up questions, filters that stay set, stable footnote numbers.

Rules for English decide whether a question is a follow-up, and to what. They are deterministic, and
the rewritten question is shown in `Trace.rewritten_query`, so the user can check it.
`python -m eval.benchmarks.followups` measures their effect.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from rag.answering.pipeline import AnswerRequest
from rag.library.filters import Filters, merge_filters
from rag.records import Answer, Citation, Paper, StreamEvent
from rag.retrieval.query_analysis import analyze_query, validate_question
from rag.text.prompt_injection import title_is_injection
from rag.text.terms import content_terms

# Only a few words of the earlier question, so the follow-up's own words weigh more.
_MAX_KEYWORDS = 6
_MAX_TITLE_HEAD_WORDS = 4
_MAX_TITLE_WORDS = 14
# This many content words before a pronoun probably include its antecedent.
_ENOUGH_WORDS_BEFORE_PRONOUN = 4
# A question with this many content words names its own subject.
_STANDALONE_WORDS = 12
_MAX_SHORT_QUESTION_WORDS = 4

_COURTESY = frozenset(
    "thanks thank thx you ok okay great cool nice perfect hello hi hey bye yes no sure fine very "
    "much so a lot i see wow interesting helpful".split()
)
_CONTINUATION = re.compile(
    r"(?:and|but|or|so|also|then|plus|what about|how about|what if|why not)\b", re.IGNORECASE
)
_WHAT_ABOUT = re.compile(
    r"(?:and|or|what about|how about)\s+"
    r"(?!on\b|in\b|at\b|for\b|with\b|under\b|from\b)",
    re.IGNORECASE,
)
_FRAGMENT = re.compile(
    r"(?:on|for|with|in|at|without|under|by|from|using|against|versus|vs|than|compared)\b",
    re.IGNORECASE,
)
# "Is it possible to": this "it" refers to nothing.
_EXPLETIVE_IT = re.compile(
    r"\b(?:is|was|would|be)\s+it\s+(?:\w+\s+){0,2}?(?:to|that|if|whether|when)\b"
    r"|\bit\s+(?:takes?|cost|helps?|pays?|make sense|matters?)\s+"
    r"(?:to|that|if|whether|when|which|how)\b"
    r"|\bis it (?:true|the)\b|\bwhy is it\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|this|these"
    r"|those(?! (?:who|that|which|of|in|on|with))"
    r"|the (?:same(?! (?:time|way|as))|former|latter|others?|methods?|models?|approach|technique"
    r"|authors?|paper|system|framework|network|dataset|algorithm|trick)"
    r"|(?P<one>(?:the|that|this|which|each|other) (?:[\w./-]+ )?ones?))\b(?!-)"
    r"|\b(?:compare|does|do|did|is|was|can|could|will|would|has|with|than|like|for|from|of|to|about"
    r"|by|why|how)\s+that\b"
    r"|\bthat(?=\s*(?:[?.,;!]|$))",
    re.IGNORECASE,
)
_ADDITION = re.compile(
    r"\b(?:as well|too|(?<!in )either|instead|(?<!something )else)\s*[?.!]*$"
    r"|^(?:what|who|anything|something|where) else\b",
    re.IGNORECASE,
)
_OTHER_PAPERS = re.compile(
    r"\b(?:(?:other|another|similar|more) (?:papers?|works?|methods?|approach\w*|ones?)|others|else"
    r"|alternatives?)\b",
    re.IGNORECASE,
)
# In "Is X better than it?", X is compared with the pronoun's antecedent, so X cannot be it.
_BEFORE_COMPARED = re.compile(
    r"\b(?:than|to|with|against|versus|vs|from|over|like)\s*$", re.IGNORECASE
)
_POSSESSIVES = ("its", "their")
_NEW_CLAUSE = re.compile(
    r"[.;:?!]\s|,?\s(?:and|but|or)\s"
    r"(?=(?:how|what|why|which|when|where|is|are|do|does|did|can|could)\b)",
    re.IGNORECASE,
)
# A name after these is a condition, not the subject: "on ImageNet", "in English".
_BEFORE_CONDITION = re.compile(r"\b(?:on|in|at|for|over|under|than)\s+(?:the\s+)?$", re.IGNORECASE)
# Words that could be about any paper and so identify none.
_GENERIC_TERMS = frozenset(
    content_terms(
        "ablation accuracy accurate actually advantage amount anything available bad baseline "
        "benchmark best better big bigger biggest cheap cheaper code compare comparison "
        "contribution cost CPU data dataset detail differ difference different disadvantage "
        "drawback elaborate evaluate evaluation exactly example expensive experiment explain fast "
        "faster figure finetuning gain github go going good GPU happen hardware help idea "
        "improvement inference key kind large larger largest latency layer license limitation long "
        "loss main make many memory metric model need network new newer number old older only open "
        "parameter percent performance please point public published quality quick quickly really "
        "reason retraining run runtime save saved say score similar size slow slower small smaller "
        "smallest something sort source speed speedup suffice summarize summary table take task "
        "tell test tested testing there time train training why work worse worst year further"
    )
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Question as the user asked it, and its answer."""

    question: str
    answer: Answer

    @property
    def is_standalone(self) -> bool:
        """True when the question was not a follow-up."""
        return not self.answer.trace.rewritten_query

    @property
    def main_paper(self) -> Paper | None:
        """First paper that the answer cites.

        Without citations, the nearest paper, if it contains all specific terms of the question.
        """
        for claim in self.answer.claims:
            if claim.citations:
                return self._cited_paper(claim.citations[0])
        return self._nearest_paper()

    def _cited_paper(self, number: int) -> Paper | None:
        for citation in self.answer.citations:
            if citation.number == number:
                return citation.paper
        return self._nearest_paper()

    def _nearest_paper(self) -> Paper | None:
        terms = _specific_terms(self.question)
        for hit in self.answer.hits[:1]:
            if terms and terms <= _paper_terms(hit.paper):
                return hit.paper
        return None


def rewrite_followup(question: str, turns: Sequence[Turn]) -> str:
    """Return a follow-up question with its context added; empty for a stand-alone question.

    A question is a follow-up when it refers back (`it`, `that`, `the model`), continues (`and on
    ImageNet?`), names no subject (`by how much?`), or uses only words of the paper quoted last.
    """
    turns = [turn for turn in turns if not _is_courtesy(turn.question)]
    if not turns or not question.strip() or _is_courtesy(question):
        return ""
    if not _is_followup(question, turns[-1]):
        return ""
    context = _context(question, turns)
    # The "on" keeps query analysis from reading the context as the target of the question.
    return f"{question.rstrip()} (on {context})" if context else ""


def _is_courtesy(question: str) -> bool:
    words = re.findall(r"[^\W\d_]+", question.casefold())
    return bool(words) and _COURTESY.issuperset(words)


def _is_followup(question: str, last: Turn) -> bool:
    terms = _specific_terms(question)
    if len(terms) >= _STANDALONE_WORDS:
        return False
    if not terms or _refers_back(question) or _ADDITION.search(question):
        return True
    if _is_short_fragment(question):
        return True
    paper_terms = _paper_terms(last.main_paper)
    if _CONTINUATION.match(question):
        return not paper_terms or not terms.isdisjoint(paper_terms)
    return _is_about_paper(question, terms, paper_terms)


def _is_short_fragment(question: str) -> bool:
    return _is_short(question) and bool(_FRAGMENT.match(question) or _CONTINUATION.match(question))


def _is_about_paper(question: str, terms: set[str], paper_terms: set[str]) -> bool:
    """Return True for a question without names whose two or more terms are all in the paper."""
    query = analyze_query(question)
    names_subject = query.names or query.is_list_question
    return len(terms) > 1 and terms <= paper_terms and not names_subject


def _is_short(question: str) -> bool:
    return len(question.split()) <= _MAX_SHORT_QUESTION_WORDS


def _refers_back(question: str) -> bool:
    """Return True when a pronoun refers to something that the question does not name before it."""
    text = _EXPLETIVE_IT.sub(" ", question)
    pronoun = _PRONOUN.search(text)
    if not pronoun:
        return False
    before = text[: pronoun.start()]
    if _BEFORE_COMPARED.search(before) and pronoun[0].casefold() not in _POSSESSIVES:
        return True
    if pronoun["one"] and _has_subject_name(text):
        return False
    terms = _specific_terms(before)
    if _has_subject_name(before) or len(terms) >= _ENOUGH_WORDS_BEFORE_PRONOUN:
        return False
    return not terms or not _NEW_CLAUSE.search(before)


def _has_subject_name(text: str) -> bool:
    """Return True when a text has a name that is not a condition such as "on ImageNet"."""
    for name in analyze_query(text).names:
        if not _BEFORE_CONDITION.search(text[: text.find(name)]):
            return True
    return False


def _context(question: str, turns: Sequence[Turn]) -> str:
    """Return the subject of the conversation: the last main paper's title, or words asked about."""
    thread = _current_thread(turns)
    last_question = thread[-1].question
    paper = _last_paper(thread)
    if paper and title_is_injection(paper.title):
        paper = None  # the rewritten question reaches the language model
    if paper and _names_another_subject(question, paper):
        names = " ".join([*analyze_query(last_question).names, *_title_head(paper)])
        return _join_new(_content_words(last_question), f"{question} {names}")
    if paper and not _OTHER_PAPERS.search(question):
        subject = " ".join(paper.title.split()[:_MAX_TITLE_WORDS])
    else:
        subject = _join_new(_subject_words(thread[0]), question)
    is_detailed = _specific_terms(question) or len(thread) == 1
    details = [] if is_detailed else _keywords(last_question)
    return f"{subject} {_join_new(details, f'{question} {subject}')}".strip()


def _current_thread(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Return the turns since the last stand-alone question."""
    for start in range(len(turns) - 1, -1, -1):
        if turns[start].is_standalone:
            return turns[start:]
    return turns


def _last_paper(turns: Sequence[Turn]) -> Paper | None:
    for turn in reversed(turns):
        if paper := turn.main_paper:
            return paper
    return None


def _names_another_subject(question: str, paper: Paper) -> bool:
    """Return True when "what about X?" is not about something in the paper."""
    if not _WHAT_ABOUT.match(question) or not _is_short(question) or _refers_back(question):
        return False
    terms = _specific_terms(question)
    return bool(terms) and terms.isdisjoint(_paper_terms(paper))


def _title_head(paper: Paper) -> list[str]:
    """Return the words of a short title head, such as "KIVI" of "KIVI: A Tuning-Free ..."."""
    head = re.split(r":\s|\s-+\s|\s[–—]\s", paper.title)[0].split()
    return head if len(head) <= _MAX_TITLE_HEAD_WORDS else []


def _subject_words(turn: Turn) -> list[str]:
    """Return the names in a question, or else its keywords."""
    return list(analyze_query(turn.question).names) or _keywords(turn.question)


def _keywords(question: str) -> list[str]:
    """Return the specific words of a question, and generic ones right after them: goldfish loss."""
    keywords = []
    is_after_specific = False
    for word in _content_words(question):
        is_specific = bool(_specific_terms(word))
        if is_specific or is_after_specific:
            keywords.append(word)
        is_after_specific = is_specific
    return keywords[:_MAX_KEYWORDS]


def _content_words(question: str) -> list[str]:
    return list(filter(content_terms, re.findall(r"[\w^./+-]*\w", question)))


def _specific_terms(text: str) -> set[str]:
    return set(content_terms(text)) - _GENERIC_TERMS


def _paper_terms(paper: Paper | None) -> set[str]:
    return set(content_terms(f"{paper.title} {paper.abstract}")) if paper else set()


def _join_new(words: Iterable[str], text: str) -> str:
    """Join words, each once, without those that a text already contains."""
    seen = set(content_terms(text))
    new_words = []
    for word in words:
        terms = content_terms(word)
        if not terms or not seen.issuperset(terms):
            new_words.append(word)
            seen.update(terms)
    return " ".join(new_words)


# Yields a preview of the evidence, the pieces of an answer's text, then the answer.
StreamAnswer = Callable[[AnswerRequest, Event], Iterator[StreamEvent]]


class Conversation:
    """Questions that may refer to earlier ones. Created by `Assistant.chat`; not thread-safe."""

    def __init__(
        self, stream_answer: StreamAnswer, filters: Filters, answers: Iterable[Answer] = ()
    ) -> None:
        """Start with filters, and with the answers so far when a conversation is resumed."""
        self._stream_answer = stream_answer
        self._filters = filters
        self._turns = [Turn(answer.question, answer) for answer in answers]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Questions and answers so far, in order."""
        return tuple(self._turns)

    @property
    def filters(self) -> Filters:
        """Filters of the next question."""
        return self._filters

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer a question as `Assistant.ask` does.

        A filter applies to later questions too, until it is changed or set to the empty string.
        """
        *_, answer = self.stream(question, sentences=sentences, style=style, stop=None, **filters)
        assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - for mypy
        return answer

    def stream(
        self,
        question: str,
        *,
        sentences: int | None = None,
        style: str = "auto",
        stop: Event | None = None,
        **filters: str,
    ) -> Iterator[StreamEvent]:
        """Yield a preview, the text of an answer, then the answer, as `Assistant.stream` does.

        The conversation does not change when this fails or is not exhausted.
        """
        question = validate_question(question)
        merged_filters = merge_filters(self._filters, filters)
        request = AnswerRequest(
            question,
            merged_filters,
            sentences,
            style,
            rewrite_followup(question, self._turns),
            self._citations(),
        )
        for event in self._stream_answer(request, stop or Event()):
            if isinstance(event, Answer):
                self._filters = merged_filters
                # A question that was stopped before the first sentence is not recorded.
                if event.claims or event.abstained:
                    self._turns.append(Turn(question, event))
            yield event

    def _citations(self) -> tuple[Citation, ...]:
        """Return all citations so far, one per number."""
        citations: dict[int, Citation] = {}
        for turn in self._turns:
            for citation in turn.answer.citations:
                citations[citation.number] = citation
        return tuple(citations.values())

    def to_markdown(self) -> str:
        """Return all questions and answers, followed by their footnotes, each once."""
        from rag.output.markdown import conversation_to_markdown

        return conversation_to_markdown(turn.answer for turn in self._turns)
