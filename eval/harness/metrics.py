"""Score replies. To add a metric, write a function and list it in `METRICS`.

A metric is computed from a question, a reply and the corpus, and is None where it does not apply.
Retrieval metrics look at the papers that were retrieved, all others at the reply itself.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from itertools import islice
from typing import Literal

from eval.harness.labels import count_labels, shipped_labels
from eval.harness.nuggets import contains_nugget, nugget_share, vital_nugget_share
from eval.harness.questions import Question
from eval.harness.ranking import (
    group_precision,
    group_recall,
    harmonic_mean,
    ndcg,
    reciprocal_rank,
)
from eval.harness.replies import Reply

# Abstract of each paper of the library, by the paper's id.
Corpus = Mapping[str, str]
Compute = Callable[[Question, Reply, Corpus], float | None]
Direction = Literal["higher", "lower", "neither"]
Scores = dict[str, float | None]

# Quotations that a system is asked for.
ANSWER_SENTENCES = 3
# Nugget recall counts this much of a reply, so that a longer reply is not a better one.
MAX_COUNTED_WORDS = 120
_QUOTATIONS_AFTER_WRITTEN = 2
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)?")
# Share of a sentence's content words that its source must contain, calibrated on human writing.
_MIN_SHARED_WORDS = 0.3
_MIN_CONTENT_WORD_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, with what tables, comparisons and the gate need to know about it.

    `direction` says which values are better: higher, lower, or neither. A change that lowers a
    `gated` metric, or a value other than 0 of one that `must_be_zero`, makes `footnote eval gate`
    fail. `failure_score` is the score of a system that failed to reply.
    """

    name: str
    compute: Compute
    direction: Direction = "neither"
    description: str = ""
    gated: bool = False
    must_be_zero: bool = False
    failure_score: float = 0.0


# --- correctness --------------------------------------------------------------------------------


def counted_text(reply: Reply) -> str:
    """Return the part of a reply in which nuggets are counted: what its reader sees first.

    It holds all statements that the system wrote (generated, computed or extracted) and the first
    two quotations; if it wrote none, the first three quotations. After 120 words it is cut off.
    """
    written: list[str] = []
    quotations: list[str] = []
    for statement in reply.statements:
        texts = written if statement.is_written else quotations
        texts.append(statement.shown_text)
    limit = _QUOTATIONS_AFTER_WRITTEN if written else ANSWER_SENTENCES
    return _cut_off(" ".join([*written, *quotations[:limit]]))


def _cut_off(text: str) -> str:
    """Return the first `MAX_COUNTED_WORDS` words of a text, as the metric "words" counts them."""
    words = list(islice(_WORD.finditer(text), MAX_COUNTED_WORDS))
    return text[: words[-1].end()] if len(words) == MAX_COUNTED_WORDS else text


def nugget_recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of the vital nuggets in `counted_text`; None if unanswerable."""
    if not question.answerable:
        return None
    return vital_nugget_share(question.nuggets, counted_text(reply))


def first_statement_nugget_recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of the vital nuggets in the first statement; None if unanswerable."""
    if not question.answerable:
        return None
    first_text = reply.statements[0].shown_text if reply.statements else ""
    return vital_nugget_share(question.nuggets, first_text)


def whole_reply_nugget_recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of all nuggets in the whole reply; None if unanswerable."""
    return nugget_share(question.nuggets, reply.text) if question.answerable else None


def crag_score(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the value of a reply to its reader, in -1..1.

    Yang et al., "CRAG: Comprehensive RAG Benchmark", 2024. The score of an answer is its nugget
    recall. It is -1 for an answer that states no nugget, cites no gold paper, or should not have
    been given; 0 for abstaining although the library answers; 1 for correctly abstaining.
    """
    if not question.answerable:
        return 1.0 if correct_abstention(question, reply, corpus) else -1.0
    if reply.abstained:
        return 0.0
    if not right_paper_cited(question, reply, corpus):
        return -1.0
    return nugget_recall(question, reply, corpus) or -1.0


def right_at_high_confidence(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 if an answer of high confidence is right, else 0; None for all other replies."""
    if reply.abstained or reply.confidence_label != "high":
        return None
    return float(is_right(question, reply, corpus))


def is_right(question: Question, reply: Reply, corpus: Corpus) -> bool:
    """Return True for an answer to an answerable question with a gold paper and a vital nugget."""
    if not right_paper_cited(question, reply, corpus):
        return False
    return bool(nugget_recall(question, reply, corpus))


def contradicted(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 if the reply contains a phrase that shows a wrong answer, else 0.

    None for questions without such phrases.
    """
    return float(contains_nugget(reply.text, question.must_not, ())) if question.must_not else None


# --- abstention ---------------------------------------------------------------------------------


def corrects_premise(question: Question, reply: Reply) -> bool:
    """Return True if the reply states what contradicts a question's false premise."""
    if question.answerable:
        return False
    return bool(vital_nugget_share(question.nuggets, counted_text(reply)))


def correct_abstention(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 for abstaining or correcting the false premise, else 0; None if answerable."""
    if question.answerable:
        return None
    return float(reply.abstained or corrects_premise(question, reply))


def answered(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 for answering, 0 for abstaining; None if the question is unanswerable."""
    return float(not reply.abstained) if question.answerable else None


# --- citations ----------------------------------------------------------------------------------


def citation_f1(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the harmonic mean of citation precision and recall.

    If there are no gold papers, the score is 1 for citing nothing.
    """
    cited = reply.cited_papers
    if not question.gold:
        return float(not cited)
    if not question.answerable and reply.abstained:
        return 1.0
    return harmonic_mean(group_precision(cited, question.gold), group_recall(cited, question.gold))


def citation_precision(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of gold papers among the cited; None unless answerable and answered."""
    if reply.abstained or not question.answerable:
        return None
    return group_precision(reply.cited_papers, question.gold)


def citation_recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of the gold groups that are cited; None unless answerable and answered."""
    if reply.abstained or not question.answerable:
        return None
    return group_recall(reply.cited_papers, question.gold)


def right_paper_cited(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 if a gold paper is cited, else 0; None unless answerable and answered."""
    recall = citation_recall(question, reply, corpus)
    return None if recall is None else float(recall > 0)


def invalid_citations(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Count citations without a footnote and footnotes that name no paper of the library."""
    paper_ids = reply.paper_ids()
    count = 0
    for statement in reply.statements:
        for number in statement.citations:
            count += number not in paper_ids
    for footnote in reply.footnotes:
        count += footnote.paper_id not in corpus
    return float(count)


def nonliteral_quotations(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Count footnotes whose quotation differs from the abstract."""
    return float(sum(not footnote.is_literal for footnote in reply.footnotes))


def uncited_statements(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Count statements that cite no footnote."""
    return float(sum(not statement.citations for statement in reply.statements))


# --- generated sentences ------------------------------------------------------------------------


def false_generated_sentences(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of false sentences among the generated ones that have a label."""
    counts = count_labels(reply, shipped_labels())
    return counts.false / counts.labelled if counts.labelled else None


def unlabelled_generated_sentences(
    question: Question, reply: Reply, corpus: Corpus
) -> float | None:
    """Count the generated sentences without a label; None if nothing was generated."""
    counts = count_labels(reply, shipped_labels())
    return float(counts.unlabelled) if counts.labelled + counts.unlabelled else None


# --- wording ------------------------------------------------------------------------------------


def lexical_support(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of the statements that share words and numbers with what they cite.

    Computed statements are left out: counts and fields of records are not in the abstracts.
    """
    paper_ids = reply.paper_ids()
    supported = total = 0
    for statement in reply.statements:
        if statement.kind != "computed":
            cited = [corpus.get(paper_ids.get(number, ""), "") for number in statement.citations]
            supported += _shares_words(" ".join(cited), statement.text)
            total += 1
    return supported / total if total else None


def _shares_words(source: str, sentence: str) -> bool:
    """Return True if the source contains every number and enough content words."""
    source_words = set(_split_words(source))
    content_words = shared_words = 0
    for word in _split_words(sentence):
        if word[0].isdigit() and word not in source_words:
            return False
        if len(word) >= _MIN_CONTENT_WORD_LENGTH:
            content_words += 1
            shared_words += word in source_words
    return not content_words or shared_words / content_words >= _MIN_SHARED_WORDS


def copied(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the longest run of words from a cited abstract as a share of the reply's words."""
    words = _split_words(reply.text)
    if not words:
        return None
    longest = 0
    for paper_id in reply.cited_papers:
        abstract_words = _split_words(corpus.get(paper_id, ""))
        matcher = SequenceMatcher(None, words, abstract_words, autojunk=False)
        longest = max(longest, matcher.find_longest_match().size)
    return longest / len(words)


def word_count(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Count the words of an answer."""
    return None if reply.abstained else float(len(_split_words(reply.text)))


def counted_words(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Count the words of an answer in which nuggets are counted."""
    return None if reply.abstained else float(len(_split_words(counted_text(reply))))


def _split_words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


# --- retrieval ----------------------------------------------------------------------------------


def ndcg_at_10(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return nDCG@10 of the retrieved papers; None if unanswerable."""
    return ndcg(reply.retrieved, _grades(question), 10) if question.answerable else None


def mrr_at_10(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return 1 / rank of the first gold paper, 0 below rank 10; None if unanswerable."""
    if not question.answerable:
        return None
    return reciprocal_rank(reply.retrieved[:10], _grades(question))


def recall_at(k: int, question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Return the share of the gold groups in the first `k` papers; None if unanswerable."""
    return group_recall(reply.retrieved[:k], question.gold) if question.answerable else None


def _grades(question: Question) -> dict[str, float]:
    return dict.fromkeys(question.gold_papers, 1.0)


# --- registry -----------------------------------------------------------------------------------

# Only the CRAG score is gated: no trivial baseline comes near. Others are won by abstaining
# (correct-abstention rate), by always answering (answer rate, nugget recall), by length (nugget
# recall of the whole reply), by copying (lexical support), or nearly so (citation F1).
METRICS: tuple[Metric, ...] = (
    Metric(
        "nugget recall",
        nugget_recall,
        "higher",
        "Share of the vital nuggets (facts that a right answer must state) in what the system "
        "wrote and the first two quotations, or in the first three if it wrote nothing; in 120 "
        "words at most; answerable questions only.",
    ),
    Metric(
        "words counted",
        counted_words,
        "neither",
        "Words of an answer in which nugget recall counts nuggets, 120 at most.",
    ),
    Metric(
        "CRAG score",
        crag_score,
        "higher",
        "Value of a reply to its reader, −1 to 1: its nugget recall; 1 for correctly abstaining; 0 "
        "for abstaining although the library answers; −1 for an answer that states no nugget or "
        "cites no gold paper, or to a question that the library does not answer.",
        gated=True,
        failure_score=-1.0,
    ),
    Metric(
        "correct-abstention rate",
        correct_abstention,
        "higher",
        "Share of the unanswerable questions where the system abstained or corrected the false "
        "premise.",
    ),
    Metric(
        "answer rate",
        answered,
        "higher",
        "Share of the answerable questions that were answered.",
    ),
    Metric(
        "right paper cited",
        right_paper_cited,
        "higher",
        "Share of the answers to answerable questions that cite a gold paper (one that a right "
        "answer cites).",
    ),
    Metric(
        "citation F1",
        citation_f1,
        "higher",
        "Harmonic mean of citation precision and recall; 1 for citing nothing if no paper of the "
        "library answers the question.",
    ),
    Metric(
        "citation precision",
        citation_precision,
        "higher",
        "Share of gold papers among the cited papers; answers to answerable questions only.",
    ),
    Metric(
        "citation recall",
        citation_recall,
        "higher",
        "Share of the gold papers that are cited; answers to answerable questions only.",
    ),
    Metric(
        "nugget recall, first sentence",
        first_statement_nugget_recall,
        "higher",
        "Share of the vital nuggets in the first sentence or quotation; answerable questions only.",
    ),
    Metric(
        "nugget recall, whole reply",
        whole_reply_nugget_recall,
        "higher",
        "Share of all nuggets, vital or not, anywhere in the reply; answerable questions only.",
    ),
    Metric(
        "lexical support",
        lexical_support,
        "higher",
        "Share of the generated or quoted sentences whose numbers all occur in the papers they "
        "cite, as do at least 30 % of their content words.",
    ),
    Metric(
        "right at high confidence",
        right_at_high_confidence,
        "higher",
        "Share of the answers called high in confidence that are right: the library answers the "
        "question, and the answer cites a gold paper and states a vital nugget.",
    ),
    Metric(
        "false generated sentences",
        false_generated_sentences,
        "lower",
        "Share of the generated sentences that the quotations they cite contradict or do not "
        "state; among the sentences that were labelled, averaged over answers.",
    ),
    Metric(
        "unlabelled generated sentences",
        unlabelled_generated_sentences,
        "neither",
        "Generated sentences of an answer that have no label yet and are not in the share above.",
    ),
    Metric(
        "contradicted",
        contradicted,
        "lower",
        "Share of the replies that contain a phrase known to be wrong, among questions with such "
        "phrases.",
    ),
    Metric(
        "copied",
        copied,
        "neither",
        "Longest run of words from a cited abstract, as a share of the reply's words.",
    ),
    Metric("words", word_count, "neither", "Length of an answer in words."),
    Metric(
        "nDCG@10",
        ndcg_at_10,
        "higher",
        "Normalised discounted cumulative gain of the first 10 papers retrieved; answerable "
        "questions only.",
    ),
    Metric(
        "MRR@10",
        mrr_at_10,
        "higher",
        "Mean of 1 / rank of the first gold paper, 0 below rank 10; answerable questions only.",
    ),
    Metric(
        "recall@5",
        partial(recall_at, 5),
        "higher",
        "Share of the gold papers among the first 5 retrieved; answerable questions only.",
    ),
    Metric(
        "recall@10",
        partial(recall_at, 10),
        "higher",
        "Share of the gold papers among the first 10 retrieved; answerable questions only.",
    ),
    Metric(
        "invalid citations",
        invalid_citations,
        "lower",
        "Citations without a footnote, and footnotes that name no paper of the library.",
        must_be_zero=True,
    ),
    Metric(
        "non-literal quotations",
        nonliteral_quotations,
        "lower",
        "Footnotes whose quotation differs from the abstract.",
        must_be_zero=True,
    ),
    Metric(
        "uncited sentences",
        uncited_statements,
        "lower",
        "Sentences or quotations without a footnote.",
        must_be_zero=True,
    ),
)


def score_reply(
    question: Question, reply: Reply, corpus: Corpus, metrics: Iterable[Metric] = METRICS
) -> Scores:
    """Return the scores of a reply by the names of the metrics.

    A reply with an error gets the failure score of each metric that applies to an empty reply.
    """
    scores: Scores = {}
    for metric in metrics:
        if reply.error:
            applies = metric.compute(question, Reply(), corpus) is not None
            scores[metric.name] = metric.failure_score if applies else None
        else:
            scores[metric.name] = metric.compute(question, reply, corpus)
    return scores
