"""Find out what a follow-up question refers to: which papers of the conversation, which topic.

"Which of these is the fastest?" asks about the papers that the last answer cites, "who wrote the
second one?" about one of them, "why?" about the topic of the last question, and "are there others?"
about all papers but those. The language model tells these kinds apart (`followup_kinds`), or words
do where there is none. `FollowUp.interpretation` is shown, so the user can check it.
`python -m eval.benchmarks.followups` measures the effect.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rag.answering.followup_kinds import FollowUpKind
from rag.answering.followup_words import (
    asks_how_many,
    chooses,
    content_words,
    find_position,
    is_courtesy,
    join_new,
    kind_by_words,
    move_position,
    paper_terms,
    refers_back,
    remove_count_words,
    remove_years,
    specific_terms,
)
from rag.library.filters import Condition, join_conditions, only_papers, without_papers
from rag.records import Answer, Paper
from rag.retrieval.query_analysis import analyze_query
from rag.retrieval.question_types import classify_question, find_subject
from rag.text.prompt_injection import title_is_injection
from rag.text.terms import content_terms

if TYPE_CHECKING:
    from rag.answering.evidence import EvidenceSelection

_MAX_NAME_WORDS = 2
_MAX_TITLE_WORDS = 14
_MAX_NAMED_TITLES = 3
# A sentence that was not quoted yet is worth quoting at this share of the best one's score.
_MIN_RELATIVE_SCORE = 0.2
_ID, _SCORE = attrgetter("id"), attrgetter("score")
_CITATIONS, _PAPERS = attrgetter("citations"), attrgetter("papers")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What a question means in its conversation; all fields are empty for a stand-alone question.

    `query` is the question as retrieval reads it. `paper_ids` are the papers that it is about, and
    `excluded_ids` are those that it sets aside ("other papers"). `interpretation` says all of this
    in words. `shown` are the sentences about those papers that earlier answers quoted or wrote.
    """

    query: str = ""
    interpretation: str = ""
    paper_ids: tuple[str, ...] = ()
    excluded_ids: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, interpretation: str, settings: Mapping[str, Any]) -> "FollowUp":
        """Restore a follow-up from the settings of a trace."""
        return cls(
            settings.get("query", ""),
            interpretation,
            tuple(settings.get("paper_ids", ())),
            tuple(settings.get("excluded_ids", ())),
            tuple(settings.get("shown", ())),
        )

    @property
    def scope(self) -> Condition | None:
        """Condition on the papers that may be retrieved; None when all may."""
        return join_conditions([only_papers(self.paper_ids), without_papers(self.excluded_ids)])

    @property
    def nothing_new(self) -> str:
        """Reason for abstaining when all sentences that answer have been quoted before."""
        if len(self.paper_ids) == 1:
            return "The abstract says no more about this than what is quoted above."
        return "The abstracts say no more about this than what is quoted above."

    def lacks(self, missing: str) -> str:
        """Return a reason from the end of a sentence about "the papers": "give no figure"."""
        if len(self.paper_ids) > 1:
            return f"Those papers {missing}."
        singular = missing.replace("do not", "does not", 1).replace("give no", "gives no", 1)
        return f"That paper {singular}."

    @property
    def not_stated(self) -> str:
        """Reason for abstaining when the papers do not answer."""
        if len(self.paper_ids) == 1:
            return "The abstract of that paper does not say."
        return "The abstracts of those papers do not say."

    @property
    def settings(self) -> dict[str, Any]:
        """Fields for the trace, from which `from_settings` restores them."""
        settings: dict[str, Any] = {"query": self.query} if self.query else {}
        for name in ("paper_ids", "excluded_ids", "shown"):
            if value := getattr(self, name):
                settings[name] = list(value)
        return settings

    def with_shown(self, answers: Iterable[Answer]) -> "FollowUp":
        """Add the sentences of earlier answers that cite the papers asked about, or any paper."""
        if not self.query:
            return self
        shown: dict[str, None] = {}
        for answer in answers:
            numbers = set()
            for citation in answer.citations:
                if not self.paper_ids or citation.paper.id in self.paper_ids:
                    numbers.add(citation.number)
                    shown[citation.quote] = None
            for claim in answer.claims:
                if not numbers.isdisjoint(claim.citations):
                    shown[claim.text] = None
        return replace(self, shown=tuple(shown))


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
    def query(self) -> str:
        """Question as retrieval read it, which stands alone."""
        return str(self.answer.trace.settings.get("query", self.question))

    @property
    def papers(self) -> tuple[Paper, ...]:
        """Papers that the answer is about, each once: those it cites, in the order of its claims.

        An answer without citations is about the papers that it was restricted to, or else about
        the nearest paper, if it contains all specific terms of the question.
        """
        by_number = {citation.number: citation.paper for citation in self.answer.citations}
        numbers = dict.fromkeys(chain.from_iterable(map(_CITATIONS, self.answer.claims)))
        cited = filter(None, map(by_number.get, numbers))
        return tuple(dict.fromkeys(cited)) or self._papers_without_citation()

    def _papers_without_citation(self) -> tuple[Paper, ...]:
        nearest = self._hit_papers
        if ids := self.answer.trace.settings.get("paper_ids"):
            return tuple(paper for paper in nearest if paper.id in ids)
        terms = specific_terms(self.question)
        is_named = nearest and terms and terms <= paper_terms(nearest[:1])
        return tuple(nearest[:1]) if is_named else ()

    @property
    def found(self) -> tuple[Paper, ...]:
        """Papers that the answer is about, then the others that were retrieved for it."""
        return tuple(dict.fromkeys([*self.papers, *self._hit_papers]))

    @property
    def _hit_papers(self) -> list[Paper]:
        return [hit.paper for hit in self.answer.hits]


# Tells the kind of a question from the earlier question and the papers that answered it; None if it
# cannot tell.
FindKind = Callable[[str, Sequence[Paper], str], FollowUpKind | None]


def resolve_followup(
    question: str, turns: Sequence[Turn], find_kind: FindKind | None = None
) -> FollowUp:
    """Return what a question refers to in a conversation.

    `find_kind` tells what kind of follow-up it is; without it, words decide.
    """
    turns = [turn for turn in turns if not is_courtesy(turn.question)]
    if not turns or not question.strip() or is_courtesy(question):
        return FollowUp()
    thread = _current_thread(turns)
    papers = _last_papers(thread)
    by_words = kind_by_words(question, papers, _asks_record(question))
    kind = None
    if find_kind:
        kind = find_kind(_topic(thread), papers or thread[-1].found, question)
    # The model may overlook that a question names another subject.
    if kind is None or (by_words == "standalone" and _has_new_name(question, papers)):
        kind = by_words
    return _resolve_in_thread(question, kind, thread)


def _has_new_name(question: str, papers: Sequence[Paper]) -> bool:
    """Return True for a question with a name that the papers do not mention."""
    names = content_terms(" ".join(analyze_query(question).names))
    return not paper_terms(papers).issuperset(names)


def _resolve_in_thread(question: str, kind: FollowUpKind, thread: Sequence[Turn]) -> FollowUp:
    if kind == "vary" and chooses(question):
        kind = "several"
    if kind == "others":
        return _without_cited(question, thread)
    if _counts_more(question, thread):
        return _count_again(question, thread)
    if kind in ("standalone", "courtesy"):
        return FollowUp()
    papers = _last_papers(thread)
    if kind == "vary" and papers:
        return _about_other_subject(question, thread, papers[0])
    referents = _referents(question, kind, thread)
    if not referents:
        query = _ask_about_topic(question, thread)
        return FollowUp(query, query)
    return _about_papers(question, thread, referents)


def _current_thread(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Return the turns since the last stand-alone question."""
    for start in range(len(turns) - 1, -1, -1):
        if turns[start].is_standalone:
            return turns[start:]
    return turns


# --- to which papers does it refer? -----------------------------------------------------------


def _last_papers(thread: Sequence[Turn], at_least: int = 1) -> tuple[Paper, ...]:
    """Return the papers of the last answer that is about so many; else those of the last one."""
    fallback: tuple[Paper, ...] = ()
    for turn in reversed(thread):
        papers = turn.papers
        if len(papers) >= at_least:
            return papers
        fallback = fallback or papers
    return fallback


def _referents(question: str, kind: FollowUpKind, thread: Sequence[Turn]) -> tuple[Paper, ...]:
    """Return the papers that a question refers to: one by its number, several, or the main one."""
    several = _last_papers(thread, at_least=2)
    position = find_position(question)
    if several and position is not None and position < len(several):
        return (several[position],)
    terms = specific_terms(question)
    if chooses(question):
        return _papers_to_choose_from(terms, thread)
    if kind == "several":
        return several
    papers = _last_papers(thread)
    return _with_terms(terms, papers)[:1] or papers[:1]


def _papers_to_choose_from(terms: set[str], thread: Sequence[Turn]) -> tuple[Paper, ...]:
    """Return the papers that the last answer is about; none if none of them has the terms."""
    papers = _last_papers(thread, at_least=2)
    return papers if _with_terms(terms, papers) else ()


def _with_terms(terms: set[str], papers: Iterable[Paper]) -> tuple[Paper, ...]:
    return tuple(paper for paper in papers if terms <= paper_terms([paper]))


def _asks_record(question: str) -> bool:
    """Return True for a question about authors, year, venue and the like of a paper."""
    return classify_question(question, None, "") not in ("other", "count")


def _about_papers(question: str, thread: Sequence[Turn], papers: Sequence[Paper]) -> FollowUp:
    ids = tuple(map(_ID, papers))
    about = f"(about {_name_papers(papers)})"
    if find_position(question) is not None and not specific_terms(question):
        question = _ask_record_again(question, thread[-1].question)
    is_count = asks_how_many(question) and refers_back(question) and len(ids) > 1
    if _asks_record(question) or is_count:
        return FollowUp(question, f"{question} {about}", ids)
    query = _ask_about_topic(question, thread)
    has_subject = specific_terms(question) & paper_terms(papers) or analyze_query(question).names
    return FollowUp(query, f"{question if has_subject else query} {about}", ids)


def _ask_record_again(question: str, earlier: str) -> str:
    """Return "who wrote the second one?" for "and the second one?" after such a question."""
    is_record = find_position(earlier) is not None and _asks_record(earlier)
    return move_position(earlier, question) if is_record else question


def _without_cited(question: str, thread: Sequence[Turn]) -> FollowUp:
    """Ask for papers on the topic of a thread other than those that it cites."""
    cited = dict.fromkeys(chain.from_iterable(map(_PAPERS, thread)))
    known = paper_terms(cited).union(content_terms(_topic(thread)))
    names_topic = specific_terms(question) - known and not refers_back(question)
    query = question if names_topic else _ask_about_topic(question, thread)
    others = " (other than the papers cited so far)" if cited else ""
    return FollowUp(
        _remove_names(query, cited), f"{query}{others}", excluded_ids=tuple(map(_ID, cited))
    )


def _remove_names(query: str, papers: Iterable[Paper]) -> str:
    """Return a query without the names that titles give to papers: others do not mention them."""
    names = set(chain.from_iterable(map(_title_name, papers)))
    return " ".join(word for word in query.split() if names.isdisjoint(content_terms(word)))


def _ask_about_topic(question: str, thread: Sequence[Turn]) -> str:
    """Return the question after the last one that has words of its own: "Is it good? Why?"."""
    topic = _topic(thread)
    end = "" if topic.endswith((".", "?", "!")) else "?"
    return f"{topic}{end} {question}"


def _topic(thread: Sequence[Turn]) -> str:
    """Return the last question that was answered and has words of its own."""
    for turn in reversed(thread):
        is_content = not turn.answer.abstained and turn.answer.trace.style != "computed"
        if is_content and specific_terms(turn.question):
            return turn.question
    return thread[0].question


def _about_other_subject(question: str, thread: Sequence[Turn], paper: Paper) -> FollowUp:
    """Ask the last question about what "what about X?" names, without its old subject."""
    last_question = thread[-1].question
    names = " ".join([*analyze_query(last_question).names, *_title_name(paper)])
    # The "on" keeps query analysis from reading the context as the target of the question.
    context = join_new(content_words(last_question), f"{question} {names}")
    query = f"{question} (on {context})" if context else question
    return FollowUp(query, query)


def _title_name(paper: Paper) -> list[str]:
    """Return the terms of a name before a colon, such as "KIVI: A Tuning-Free ..."."""
    head, *rest = re.split(r":\s|\s-+\s|\s[–—]\s", paper.title, maxsplit=1)
    is_name = rest and len(head.split()) <= _MAX_NAME_WORDS
    return content_terms(head) if is_name else []


def _name_papers(papers: Sequence[Paper]) -> str:
    """Name papers by their titles; a title that is an order to a program is left out."""
    names = list(map(_name_paper, papers[:_MAX_NAMED_TITLES]))
    if len(papers) > _MAX_NAMED_TITLES:
        names.append(f"{len(papers) - _MAX_NAMED_TITLES} more")
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _name_paper(paper: Paper) -> str:
    if title_is_injection(paper.title):
        return "that paper"
    words = paper.title.split()
    cut = "…" if len(words) > _MAX_TITLE_WORDS else ""
    return f"“{' '.join(words[:_MAX_TITLE_WORDS])}{cut}”"


# --- counts -----------------------------------------------------------------------------------


def _counts_more(question: str, thread: Sequence[Turn]) -> bool:
    """Return True for "how many since 2019?" about the topic of a question for papers."""
    if specific_terms(remove_years(question)) or refers_back(question):
        return False
    last = thread[-1]
    is_count = asks_how_many(last.query) and last.answer.trace.style == "computed"
    if asks_how_many(question):
        return is_count or analyze_query(last.query).is_list_question
    return is_count and remove_years(question) != question


def _count_again(question: str, thread: Sequence[Turn]) -> FollowUp:
    subject = find_subject(remove_years(thread[-1].query), "count")
    query = f"How many papers on {subject} {remove_count_words(question)}" if subject else question
    return FollowUp(query, query)


# --- new sentences ------------------------------------------------------------------------------


def prefer_new_sentences(
    selection: "EvidenceSelection", followup: FollowUp, question: str
) -> "EvidenceSelection":
    """Replace sentences that earlier answers quoted by others of the same papers.

    The sentence that has most words of the question stays even if it was quoted. Others take the
    place of the rest if they score at least a fifth of the best one, so there may be none.
    """
    terms = specific_terms(question)
    floor = _MIN_RELATIVE_SCORE * max(map(_SCORE, selection.candidates), default=0.0)
    shared, new = {}, []
    for item in selection.candidates:
        shared[item] = len(terms.intersection(content_terms(item.sentence.text)))
        if item.score >= floor and item.sentence.text not in followup.shown:
            new.append(item)
    most_literal = max(shared, key=lambda item: (shared[item], item.score), default=None)
    answering = [most_literal] if most_literal and shared[most_literal] else []
    selected = filter(new.__contains__, selection.evidence)
    evidence = tuple(dict.fromkeys([*answering, *selected, *new]))
    return replace(selection, evidence=evidence[: len(selection.evidence)])
