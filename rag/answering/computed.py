"""Answer questions about the library itself from its records, without a language model.

Two kinds are answered: how many papers are about a topic, by an author, of a year or in a venue
(`rag.answering.paper_counts`); and who wrote a paper, when and where it was published and under
which identifier (`rag.answering.paper_records`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from rag.answering.paper_counts import PaperCount, count_papers
from rag.answering.paper_records import describe_record, find_meant_papers
from rag.library.filters import Filters, join_conditions, only_papers, parse_filters
from rag.records import Evidence, Paper, Sentence
from rag.retrieval.mentions import best_mention
from rag.retrieval.question_types import classify_question
from rag.retrieval.retriever import RetrievalResult, Retriever
from rag.text.prompt_injection import is_injection

if TYPE_CHECKING:
    from rag.library.library import Library


_CLOSEST = "These are closest in meaning:"
_MAX_CLOSEST = 3
_OTHERS = "Besides the papers cited so far, these are closest in meaning:"
_MAX_OTHERS = 5
# Of a sentence to the question. Papers below are about something else.
_MIN_SIMILARITY = 0.35


@dataclass(frozen=True, slots=True)
class ComputedSentence:
    """Sentence of an answer, with the papers that it is computed from, best first.

    The evidence of a paper is the sentence of its abstract that bears on the answer. If there is
    none, as for what its record says, it is an empty one at 0.
    """

    text: str
    evidence: tuple[Evidence, ...] = ()


# The sentence that answers comes first.
ComputedAnswer = tuple[ComputedSentence, ...]


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
    # A follow-up question has few words, and its vector says little.
    vector = None if paper_ids else retrieval.vector
    type_ = classify_question(question, vector, library.meta("embedder"))
    if type_ == "other" or (type_ == "count" and len(paper_ids) == 1):
        return None
    if type_ == "count":
        allowed = join_conditions([parse_filters(filters), only_papers(paper_ids)])
        restriction = "asked about" if paper_ids else "that your filters allow"
        result = count_papers(question, allowed, library, restriction)
        return _describe_count(result, retrieval, library) if result else None
    search = partial(retriever.retrieve, filters=filters, scope=only_papers(paper_ids))
    papers = find_meant_papers(question, type_, search, library, paper_ids)
    sentences = []
    for paper in papers:
        text = describe_record(paper, type_, question)
        sentences.append(ComputedSentence(text, (_cite_record(paper),)))
    return tuple(sentences) or None


def list_others(retrieval: RetrievalResult, library: "Library") -> ComputedAnswer | None:
    """List the papers that are closest to a question for other papers; None without any.

    `retrieval` leaves out the papers cited so far. Whether a paper is on the topic is a matter of
    degree, so nothing is judged. Call it inside `Library.snapshot()`.
    """
    keys = _closest(retrieval, _MAX_OTHERS)
    papers, sentences_by_key = library.papers_by_key(keys), library.sentences(keys)
    evidence = []
    for key in keys:
        sentences, vectors = sentences_by_key[key]
        similarities = vectors @ retrieval.vector
        ranked = sorted(range(len(sentences)), key=lambda row: -similarities[row])
        safe = [sentences[row] for row in ranked if not is_injection(sentences[row].text)]
        evidence += [replace(_cite_record(papers[key]), sentence=best) for best in safe[:1]]
    return (ComputedSentence(_OTHERS, tuple(evidence)),) if evidence else None


def _cite_record(paper: Paper) -> Evidence:
    """Return an empty sentence: what a record says is not in the abstract."""
    return Evidence(Sentence(paper.id, 0, 0, ""), paper, 1.0, 0.0, 0.0, 0.0)


def _describe_count(
    result: PaperCount, retrieval: RetrievalResult, library: "Library"
) -> ComputedAnswer:
    """Return the count with the papers counted; without any, the papers closest to the topic."""
    evidence = _cite(result.listed, result.wordings, library)
    sentences = [ComputedSentence(result.text, evidence), *map(ComputedSentence, result.remarks)]
    is_unknown = bool(result.wordings) and not evidence
    if is_unknown and (closest := _cite(_closest(retrieval, _MAX_CLOSEST), (), library)):
        sentences.append(ComputedSentence(_CLOSEST, closest))
    return tuple(sentences)


def _closest(retrieval: RetrievalResult, limit: int) -> list[int]:
    """Return the row numbers of the best papers with a sentence that is similar to the question."""
    close = []
    for key, hit in zip(retrieval.keys, retrieval.hits, strict=False):
        if hit.best_sentence >= _MIN_SIMILARITY:
            close.append(key)
    return close[:limit]


def _cite(keys: Sequence[int], wordings: Sequence[str], library: "Library") -> tuple[Evidence, ...]:
    """Return for each paper the sentence that mentions a wording, or its first sentence."""
    papers, sentences_by_key = library.papers_by_key(keys), library.sentences(keys)
    evidence = []
    for key in keys:
        sentences, _ = sentences_by_key.get(key, ([], None))
        safe = [sentence for sentence in sentences if not is_injection(sentence.text)]
        sentence = best_mention(safe, wordings) or next(iter(safe), None)
        item = _cite_record(papers[key])
        evidence.append(replace(item, sentence=sentence) if sentence else item)
    return tuple(evidence)
