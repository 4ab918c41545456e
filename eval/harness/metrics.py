"""What a reply is worth: metrics by name, each a pure function of question, reply and corpus.

A metric gives a number, or None where it does not apply; a row that failed scores 0. `GATED` are those on which a
change may be stopped, `ZEROS` those that must be 0. Retrieval is judged on the papers found, the rest on the reply.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from eval.harness.measures import (
    fact_found,
    group_precision,
    group_recall,
    harmonic_mean,
    ndcg,
    reciprocal_rank,
)
from eval.harness.questions import Question
from eval.harness.replies import Reply

# The abstract of each paper, by id.
Corpus = Mapping[str, str]
Metric = Callable[[Question, Reply, Corpus], float | None]

# Facts count in the first three sentences only: who answers at length does not answer better.
SENTENCES = 3
_SENTENCE_END = re.compile(r"(?<=[.!?])[”\"')\]]*\s+(?=[“\"'(\[]?[A-Z0-9])")
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)?")
# A sentence whose content words stand in its source to that share is carried by it (calibrated on human writing).
_CARRIED = 0.3
_SHORT_WORDS = 4


def beginning(reply: Reply) -> str:
    """The first sentences of a reply, as many as count; a quotation may hold several."""
    sentences = [part for said in reply.said for part in _SENTENCE_END.split(said.text)]
    return " ".join(sentences[:SENTENCES])


def _share_found(question: Question, text: str, only_vital: bool = True) -> float | None:
    nuggets = [nugget for nugget in question.nuggets if nugget.vital or not only_vital]
    found = [fact_found(text, nugget.alternatives, nugget.numbers) for nugget in nuggets]
    return sum(found) / len(found) if found else None


def facts(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Share of the vital facts in the first three sentences; of questions that the library answers."""
    return _share_found(question, beginning(reply)) if question.answerable else None


def facts_first(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """The same in what is said first."""
    first = reply.said[0].text if reply.said else ""
    return _share_found(question, first) if question.answerable else None


def facts_at_length(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Share of all facts, vital and other, anywhere in the reply."""
    return _share_found(question, reply.text, only_vital=False) if question.answerable else None


def corrected(question: Question, reply: Reply) -> bool:
    """Whether a reply quotes what contradicts the premise of a question."""
    return not question.answerable and bool(_share_found(question, beginning(reply)))


def refused(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Of questions that the library does not answer: 1 when nothing was claimed, or the false premise was corrected."""
    return None if question.answerable else float(reply.abstained or corrected(question, reply))


def answered(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Of questions that the library answers: 1 when an answer was given."""
    return float(not reply.abstained) if question.answerable else None


def worth(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """What the reply is worth to its reader, -1 to 1, after the score of CRAG (Yang et al., 2024).

    The share of the facts; 0 for not answering what the library answers; 1 for rightly not answering; and -1 for an
    answer without any of the facts, without a paper that carries them, or where there is no answer.
    """
    if not question.answerable:
        return 1.0 if refused(question, reply, corpus) else -1.0
    if reply.abstained:
        return 0.0
    return (right_paper(question, reply, corpus) and facts(question, reply, corpus)) or -1.0


def citation_f1(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Harmonic mean of citation precision and recall; without an answer in the library 1 for citing nothing."""
    if not question.gold:
        return float(not reply.cited)
    if not question.answerable and reply.abstained:
        return 1.0
    return harmonic_mean(
        group_precision(reply.cited, question.gold), group_recall(reply.cited, question.gold)
    )


def citation_precision(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Share of the papers cited that answer, of answers to questions that the library answers."""
    return (
        group_precision(reply.cited, question.gold)
        if question.answerable and not reply.abstained
        else None
    )


def citation_recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Share of the papers wanted of which one is cited."""
    return (
        group_recall(reply.cited, question.gold)
        if question.answerable and not reply.abstained
        else None
    )


def right_paper(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """1 when a paper is cited that answers, of answers to questions that the library answers."""
    recalled = citation_recall(question, reply, corpus)
    return None if recalled is None else float(recalled > 0)


def invalid_citations(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Citations of no footnote, and footnotes of no paper of the library: how many."""
    numbers = {one.number for one in reply.footnotes}
    of_nothing = sum(number not in numbers for said in reply.said for number in said.cites)
    return float(of_nothing + sum(one.paper not in corpus for one in reply.footnotes))


def not_literal(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Quotations that do not stand in their paper just so: how many."""
    return float(sum(not one.literal for one in reply.footnotes))


def uncited(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Sentences without a footnote: how many."""
    return float(sum(not said.cites for said in reply.said))


def supported(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Share of the sentences whose words (to 0.3) and numbers (all) stand in the papers that they cite."""
    papers = {one.number: one.paper for one in reply.footnotes}
    carried = [
        _carries(
            " ".join(corpus.get(papers.get(number, ""), "") for number in said.cites), said.text
        )
        for said in reply.said
    ]
    return sum(carried) / len(carried) if carried else None


def contradicted(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """1 when the reply holds words that show a wrong answer, of questions for which such words are known."""
    return float(fact_found(reply.text, question.must_not, ())) if question.must_not else None


def copied(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """The longest run of words of a cited abstract in the reply, as a share of the reply's words."""
    words = _words(reply.text)
    runs = [_longest_run(words, _words(corpus.get(paper, ""))) for paper in reply.cited]
    return max(runs, default=0) / len(words) if words else None


def words(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Length of an answer in words."""
    return None if reply.abstained else float(len(_words(reply.text)))


def ndcg_at_10(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """nDCG@10 of the papers found, of questions that the library answers."""
    return ndcg(reply.found, _grades(question), 10) if question.answerable else None


def first_relevant(question: Question, reply: Reply, corpus: Corpus) -> float | None:
    """Reciprocal rank of the first paper found that answers, 0 below the tenth."""
    return reciprocal_rank(reply.found[:10], _grades(question)) if question.answerable else None


def recall_at(k: int) -> Metric:
    """Share of the papers wanted of which one is among the first `k` found."""

    def recall(question: Question, reply: Reply, corpus: Corpus) -> float | None:
        return group_recall(reply.found[:k], question.gold) if question.answerable else None

    return recall


METRICS: dict[str, Metric] = {
    "facts": facts,
    "worth": worth,
    "refused": refused,
    "answered": answered,
    "right paper": right_paper,
    "citation F1": citation_f1,
    "citation precision": citation_precision,
    "citation recall": citation_recall,
    "facts in the first sentence": facts_first,
    "all facts at any length": facts_at_length,
    "supported": supported,
    "contradicted": contradicted,
    "copied": copied,
    "words": words,
    "nDCG@10": ndcg_at_10,
    "MRR@10": first_relevant,
    "recall@5": recall_at(5),
    "recall@10": recall_at(10),
    "invalid citations": invalid_citations,
    "quotations not literal": not_literal,
    "sentences without footnote": uncited,
}
# On these a change may be stopped: no trivial system comes near. Others are won by silence (refused), by answering
# always (answered, facts), at length (all facts), by copying (supported), or nearly so (citation F1).
GATED = ("worth",)
# These have no better value than 0.
ZEROS = ("invalid citations", "quotations not literal", "sentences without footnote")


def score(
    question: Question, reply: Reply, corpus: Corpus, metrics: Mapping[str, Metric] = METRICS
) -> dict[str, float | None]:
    """Every metric of a reply. A row that failed scores 0 wherever the metric applies, and -1 in worth."""
    if reply.error:
        applies = {
            name: metric(question, Reply(), corpus) is not None for name, metric in metrics.items()
        }
        worst = {"worth": -1.0}
        return {name: worst.get(name, 0.0) if there else None for name, there in applies.items()}
    return {name: metric(question, reply, corpus) for name, metric in metrics.items()}


def blame(question: Question, reply: Reply, corpus: Corpus, read: int = 8) -> str:
    """What a miss is put down to, empty when there is none; `read` papers of those found were read."""
    if reply.error:
        return "failed"
    if not question.answerable:
        return "" if refused(question, reply, corpus) else "should have abstained"
    if (facts(question, reply, corpus) or 0.0) == 1.0:
        return "" if right_paper(question, reply, corpus) else "wrongly cited"
    return _missing_at(question, reply, corpus, read)


def _missing_at(question: Question, reply: Reply, corpus: Corpus, read: int) -> str:
    """The first place on the way to an answer at which a fact got lost."""
    gold = {name for group in question.gold for name in group}
    if not _holds_all(question, (corpus.get(name, "") for name in sorted(gold))):
        return "not in the library"
    if not _holds_all(question, (corpus.get(name, "") for name in reply.found[:read])):
        return "not retrieved"
    if reply.abstained:
        return "should not have abstained"
    if _holds_all(question, (one.quote for one in reply.footnotes)):
        return "not written"
    return "not read"


def _holds_all(question: Question, texts: Iterable[str]) -> bool:
    return _share_found(question, " ".join(texts)) == 1.0


def _grades(question: Question) -> dict[str, float]:
    return {name: 1.0 for group in question.gold for name in group}


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _carries(source: str, sentence: str) -> bool:
    words, there = _words(sentence), set(_words(source))
    content = [word for word in words if len(word) >= _SHORT_WORDS]
    numbers = [word for word in words if word[0].isdigit()]
    share = sum(word in there for word in content) / len(content) if content else 1.0
    return share >= _CARRIED and all(number in there for number in numbers)


def _longest_run(words: Sequence[str], others: Sequence[str]) -> int:
    """Length of the longest run of words that stands in both."""
    best, ending = 0, [0] * (len(others) + 1)
    for word in words:
        previous, ending = ending, [0] * (len(others) + 1)
        for at, other in enumerate(others, 1):
            if word == other:
                ending[at] = previous[at - 1] + 1
                best = max(best, ending[at])
    return best
