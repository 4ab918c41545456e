"""Answer questions about the library itself from its records, without a language model.

Two kinds are answered: how many papers are about a topic, by an author, of a year or in a venue
(`rag.answering.paper_counts`); and who wrote a paper, when and where it was published and under
which identifier (`rag.answering.paper_records`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rag.answering.paper_counts import count_papers
from rag.answering.paper_records import describe_record, find_meant_paper
from rag.library.filters import Condition, Filters, join_conditions, parse_filters
from rag.records import Evidence, Sentence
from rag.retrieval.mentions import best_mention
from rag.retrieval.question_types import classify_question
from rag.retrieval.retriever import RetrievalResult, Retriever
from rag.text.prompt_injection import is_injection

if TYPE_CHECKING:
    from rag.library.library import Library


@dataclass(frozen=True, slots=True)
class ComputedSentence:
    """Sentence of an answer, with the papers that it is computed from, best first.

    The evidence of a paper is the sentence of its abstract that bears on the answer. A paper
    without such a sentence has an empty one at 0.
    """

    text: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class ComputedAnswer:
    """Answer from the records of the library: the sentence that answers comes first."""

    sentences: tuple[ComputedSentence, ...]


def answer_from_library(
    retrieval: RetrievalResult,
    filters: Filters,
    retriever: Retriever,
    library: "Library",
    paper_ids: Sequence[str] = (),
) -> ComputedAnswer | None:
    """Answer a question about the library itself; return None for any other question.

    `retrieval` holds the question; `filters` and `paper_ids` restrict the papers. Call it inside
    `Library.snapshot()`.
    """
    question = retrieval.question
    type_ = classify_question(question, retrieval.vector, library.meta("embedder"))
    if type_ == "other":
        return None
    if type_ == "count":
        allowed = join_conditions([parse_filters(filters), _with_ids(paper_ids)])
        return _answer_count(question, allowed, library)
    search = partial(retriever.retrieve, filters=filters)
    paper = find_meant_paper(question, type_, search, library, paper_ids)
    if paper is None:
        return None
    key = library.find(paper.id).key
    text = describe_record(paper, type_, question)
    return ComputedAnswer((ComputedSentence(text, _cite([key], (), library)),))


def _with_ids(paper_ids: Sequence[str]) -> Condition | None:
    if not paper_ids:
        return None
    return Condition("id IN (SELECT value FROM json_each(?))", (json.dumps(list(paper_ids)),))


def _answer_count(
    question: str, allowed: Condition | None, library: "Library"
) -> ComputedAnswer | None:
    result = count_papers(question, allowed, library)
    if result is None:
        return None
    evidence = _cite(result.listed, result.wordings, library)
    remarks = map(ComputedSentence, result.remarks)
    return ComputedAnswer((ComputedSentence(result.text, evidence), *remarks))


def _cite(keys: Sequence[int], wordings: Sequence[str], library: "Library") -> tuple[Evidence, ...]:
    """Return for each paper the sentence that mentions a wording, or its first sentence."""
    papers, sentences_by_key = library.papers_by_key(keys), library.sentences(keys)
    evidence = []
    for key in keys:
        sentences, _ = sentences_by_key.get(key, ([], None))
        safe = [sentence for sentence in sentences if not is_injection(sentence.text)]
        sentence = best_mention(safe, wordings) or next(iter(safe), None)
        sentence = sentence or Sentence(papers[key].id, 0, 0, "")
        evidence.append(Evidence(sentence, papers[key], 1.0, 0.0, 0.0, 0.0))
    return tuple(evidence)
