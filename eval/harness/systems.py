"""Systems under evaluation: the assistant, ablations of it, and baselines.

Trivial baselines expose bad metrics: a metric that one of them wins does not measure quality. They
search the same library as the assistant and, like it, quote sentences literally.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from eval.harness.metrics import ANSWER_SENTENCES
from eval.harness.questions import Question
from eval.harness.replies import Footnote, Reply, Statement
from rag.answering.evidence import EvidenceWeights
from rag.assistant import Assistant
from rag.errors import FootnoteError
from rag.records import Evidence, Hit, Paper

ASSISTANT = "assistant"
NO_LANGUAGE_MODEL = "no language model"
FULL_TEXT_ONLY = "full text only"
DENSE_ONLY = "dense only"
ORACLE = "oracle papers"
MODEL_GROUP = "model"

# Papers of a ranking that are saved, and papers that baselines rerank.
_RANKING_DEPTH = 100
_SEARCH_DEPTH = 500
_EVIDENCE_SENTENCES = 400
# The closed-book model takes seconds per question, so it writes little and gets few questions.
_CLOSED_BOOK_TOKENS = 32
_CLOSED_BOOK_QUESTIONS = 25

Span = tuple[Paper, int, int]


@dataclass(frozen=True, slots=True)
class System:
    """A way to answer questions.

    `group` is `assistant`, `model` (the assistant with another language model), `ablation` or
    `baseline`. A system with `max_questions` is asked only so many, evenly spaced.
    """

    name: str
    group: str
    reply: Callable[[Question], Reply]
    max_questions: int | None = None

    def select(self, questions: Sequence[Question]) -> Sequence[Question]:
        """Return the questions that the system is asked."""
        step = math.ceil(len(questions) / (self.max_questions or len(questions) or 1))
        return questions[:: max(1, step)]


def build_systems(
    assistant: Assistant, style: str = "auto", other_models: Mapping[str, Assistant] | None = None
) -> list[System]:
    """Return all systems on the library of an assistant, the assistant itself first.

    `other_models` holds assistants on the same library with other language models, by name.
    """
    quoting = Assistant(assistant.library, language_model="none")
    retrieval = RetrievalCache(quoting)
    no_model = System(NO_LANGUAGE_MODEL, "ablation", partial(ask, quoting, "quote", retrieval))
    models = []
    for name, other in (other_models or {}).items():
        if other.language_model == "none":
            no_model = replace(no_model, group=MODEL_GROUP)
        else:
            reply = partial(ask, other, style, retrieval)
            models.append(System(f"model: {name}", MODEL_GROUP, reply))
    return [
        System(ASSISTANT, "assistant", partial(ask, assistant, style, retrieval)),
        *models,
        no_model,
        *_build_ablations(retrieval),
        *_build_baselines(retrieval),
        *_build_closed_book(assistant),
    ]


def ask(assistant: Assistant, style: str, retrieval: "RetrievalCache", question: Question) -> Reply:
    """Ask as a user would: a follow-up after the questions that precede it."""
    if question.history:
        chat = assistant.chat()
        for earlier in question.history:
            chat.ask(earlier, sentences=ANSWER_SENTENCES, style=style)
        answer = chat.ask(question.question, sentences=ANSWER_SENTENCES, style=style)
    else:
        answer = assistant.ask(question.question, sentences=ANSWER_SENTENCES, style=style)
    reply = Reply.from_answer(answer)
    query = reply.rewritten_query or question.question
    return replace(reply, retrieved=retrieval.ranking(query))


class RetrievalCache:
    """Search results and evidence of each question, shared by several systems."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.hits = cache(partial(assistant.search, k=_SEARCH_DEPTH))
        self.evidence = cache(partial(assistant.evidence, k=_EVIDENCE_SENTENCES))

    def ranking(self, query: str) -> tuple[str, ...]:
        """Return the ids of the retrieved papers, best first."""
        return tuple(_paper_ids(self.hits(query)[:_RANKING_DEPTH]))


# --- ablations ----------------------------------------------------------------------------------

# Each ablation only quotes, with some weights of the evidence score set to 0.
_ABLATED_WEIGHTS = {
    "ablation: no similarity": ("similarity",),
    "ablation: no paper score": ("paper_score",),
    "ablation: no reader": ("reading", "relevance"),
}


def _build_ablations(retrieval: RetrievalCache) -> list[System]:
    systems = []
    for name, ablated_weights in _ABLATED_WEIGHTS.items():
        weights = replace(EvidenceWeights(), **dict.fromkeys(ablated_weights, 0.0))
        library = retrieval.assistant.library
        ablated = Assistant(library, language_model="none", weights=weights)
        systems.append(System(name, "ablation", partial(ask, ablated, "quote", retrieval)))
    return systems


# --- baselines ----------------------------------------------------------------------------------


def _build_closed_book(assistant: Assistant) -> list[System]:
    """Return the language model without any papers as a system; an empty list without a model."""
    try:
        model = assistant.as_llm()
    except FootnoteError:
        return []
    model.tokens = _CLOSED_BOOK_TOKENS

    def reply(question: Question) -> Reply:
        prompt = f"Answer in one short sentence. {question.question}"
        text = model.complete(prompt).text.strip()
        statement = Statement(text, "generated", (), supported=False)
        return Reply((statement,), confidence=1.0)

    return [System("closed-book language model", "baseline", reply, _CLOSED_BOOK_QUESTIONS)]


def _build_baselines(retrieval: RetrievalCache) -> list[System]:
    baselines = Baselines(retrieval)
    replies: dict[str, Callable[[Question], Reply]] = {
        "always abstains": baselines.abstain,
        "random sentences": baselines.quote_random_sentences,
        FULL_TEXT_ONLY: baselines.quote_by_full_text,
        DENSE_ONLY: baselines.quote_by_vectors,
        "best passage": baselines.quote_best_passage,
        "best two sentences": baselines.quote_two_sentences,
        ORACLE: baselines.quote_gold_papers,
    }
    return [System(name, "baseline", reply) for name, reply in replies.items()]


class Baselines:
    """Trivial systems on one library."""

    def __init__(self, retrieval: RetrievalCache) -> None:
        self._retrieval = retrieval
        self._papers = {paper.id: paper for paper in retrieval.assistant.papers()}

    def abstain(self, question: Question) -> Reply:
        """Abstain, whatever the question."""
        return Reply(abstained=True)

    def quote_random_sentences(self, question: Question) -> Reply:
        """Quote a sentence of each of three random papers, always the same for a question."""
        generator = random.Random(question.id)  # noqa: S311 - not used for secrets
        count = min(ANSWER_SENTENCES, len(self._papers))
        paper_ids = generator.sample(sorted(self._papers), count)
        spans = [_random_sentence(self._papers[paper_id], generator) for paper_id in paper_ids]
        return _quote_spans(spans, paper_ids)

    def quote_by_full_text(self, question: Question) -> Reply:
        """Quote the paper that full text ranks first: the sentences that share most terms."""
        return self._quote_first_paper(question, _full_text_score, _term_overlap)

    def quote_by_vectors(self, question: Question) -> Reply:
        """Quote the paper that vectors rank first: the sentences most similar to the question."""
        return self._quote_first_paper(question, _dense_score, _similarity)

    def _quote_first_paper(
        self,
        question: Question,
        score_paper: Callable[[Hit], float],
        score_sentence: Callable[[Evidence], float],
    ) -> Reply:
        """Quote the best sentences of the best paper that has evidence."""
        hits = self._retrieval.hits(question.question)
        ranked_hits = sorted(hits, key=lambda hit: (-score_paper(hit), hit.paper.id))
        ranking = _paper_ids(ranked_hits)
        by_paper: dict[str, list[Evidence]] = {}
        for evidence in self._retrieval.evidence(question.question):
            by_paper.setdefault(evidence.paper.id, []).append(evidence)
        first = next(filter(by_paper.__contains__, ranking), "")
        best = sorted(by_paper.get(first, []), key=score_sentence, reverse=True)
        return _quote_evidence(best[:ANSWER_SENTENCES], ranking[:_RANKING_DEPTH])

    def quote_best_passage(self, question: Question) -> Reply:
        """Quote the whole passage that is retrieved first."""
        spans = []
        for hit in self._retrieval.hits(question.question)[:1]:
            spans.append((hit.paper, hit.passage.start, hit.passage.end))
        return _quote_spans(spans, self._retrieval.ranking(question.question))

    def quote_two_sentences(self, question: Question) -> Reply:
        """Quote the two best sentences, without ever abstaining."""
        evidence = self._retrieval.evidence(question.question)
        ranking = dict.fromkeys(_paper_ids(evidence))
        return _quote_evidence(evidence[:2], list(ranking))

    def quote_gold_papers(self, question: Question) -> Reply:
        """Quote the best sentences of the gold papers, and abstain only when that is right.

        It shows what perfect retrieval and abstention would reach.
        """
        if not question.answerable:
            return Reply(abstained=True)
        gold = question.gold_papers
        best = []
        for evidence in self._retrieval.evidence(question.question):
            if evidence.paper.id in gold:
                best.append(evidence)
        if best:
            return _quote_evidence(best[:ANSWER_SENTENCES], gold)
        spans = []
        for paper_id in gold[:1]:
            paper = self._papers[paper_id]
            spans.append((paper, 0, len(paper.abstract)))
        return _quote_spans(spans, gold)


def _paper_ids(results: Iterable[Hit | Evidence]) -> list[str]:
    return [result.paper.id for result in results]


def _full_text_score(hit: Hit) -> float:
    return hit.full_text


def _dense_score(hit: Hit) -> float:
    return hit.dense


def _term_overlap(evidence: Evidence) -> float:
    return evidence.term_overlap


def _similarity(evidence: Evidence) -> float:
    return evidence.similarity


def _random_sentence(paper: Paper, generator: random.Random) -> Span:
    """Return a random span between full stops, which is roughly a sentence."""
    ends = [position + 1 for position, char in enumerate(paper.abstract) if char == "."]
    ends = ends or [len(paper.abstract)]
    index = generator.randrange(len(ends))
    start = ends[index - 1] if index else 0
    starts_with_space = paper.abstract[start : start + 1] == " "
    return paper, start + starts_with_space, ends[index]


def _quote_evidence(evidence: Iterable[Evidence], ranking: Sequence[str]) -> Reply:
    spans = []
    for item in evidence:
        spans.append((item.paper, item.sentence.start, item.sentence.end))
    return _quote_spans(spans, ranking)


def _quote_spans(spans: Iterable[Span], ranking: Sequence[str]) -> Reply:
    """Return a reply that quotes spans of abstracts, each with its footnote."""
    statements, footnotes = [], []
    for number, (paper, start, end) in enumerate(spans, 1):
        quote = paper.abstract[start:end]
        statements.append(Statement(quote, "quoted", (number,)))
        footnotes.append(Footnote(number, paper.id, quote, start=start, end=end, title=paper.title))
    return Reply(tuple(statements), tuple(footnotes), tuple(ranking), confidence=1.0)
