"""Attribute a wrong reply to the first stage of the pipeline at which it went wrong."""

from collections.abc import Iterable
from operator import attrgetter

from eval.harness.metrics import (
    Corpus,
    correct_abstention,
    nugget_recall,
    right_paper_cited,
)
from eval.harness.nuggets import vital_nugget_share
from eval.harness.questions import Question
from eval.harness.replies import Reply

# Papers whose sentences the assistant considers as evidence.
_CONSIDERED_PAPERS = 8

ERROR_CAUSES = {
    "failed": "The system gave no reply because of an error; it gets the lowest scores.",
    "not in the library": "The gold papers do not state every nugget: fix the question.",
    "not retrieved": "The first eight papers retrieved do not state every nugget.",
    "not selected": "The nuggets were in the papers retrieved, but the sentences that state them "
    "were not selected as evidence.",
    "not stated": "The footnotes quote the nuggets, but the part of the reply that counts does not "
    "state them.",
    "wrongly cited": "The reply states the nuggets, but cites no gold paper.",
    "should not have abstained": "The nuggets were retrieved, but the system abstained.",
    "should have abstained": "The system answered a question that the library does not answer.",
}


def attribute_error(question: Question, reply: Reply, corpus: Corpus) -> str:
    """Return the cause of a wrong reply, a key of `ERROR_CAUSES`, or "" if the reply is right."""
    if reply.error:
        return "failed"
    if not question.answerable:
        is_right = correct_abstention(question, reply, corpus)
        return "" if is_right else "should have abstained"
    if nugget_recall(question, reply, corpus) == 1.0:
        return "" if right_paper_cited(question, reply, corpus) else "wrongly cited"
    return _find_lossy_stage(question, reply, corpus)


def _find_lossy_stage(question: Question, reply: Reply, corpus: Corpus) -> str:
    """Return the first stage at which a vital nugget got lost."""
    if not _states_all(question, _abstracts(corpus, sorted(set(question.gold_papers)))):
        return "not in the library"
    if not _states_all(question, _abstracts(corpus, reply.retrieved[:_CONSIDERED_PAPERS])):
        return "not retrieved"
    if reply.abstained:
        return "should not have abstained"
    quotes = map(attrgetter("quote"), reply.footnotes)
    return "not stated" if _states_all(question, quotes) else "not selected"


def _abstracts(corpus: Corpus, paper_ids: Iterable[str]) -> list[str]:
    return [corpus.get(paper_id, "") for paper_id in paper_ids]


def _states_all(question: Question, texts: Iterable[str]) -> bool:
    return vital_nugget_share(question.nuggets, " ".join(texts)) == 1.0
