"""What is put to the questions: the assistant as it is, the same with one ingredient less, and trivial rivals.

The rivals are there to expose metrics: one that a trivial rival wins says nothing about quality. They see the same
library through the same search, and answer with literal sentences as the assistant does, unless said otherwise.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from eval.harness.metrics import SENTENCES
from eval.harness.questions import Question
from eval.harness.replies import Footnote, Reply, Statement, reply_of
from rag import Assistant, Evidence, EvidenceWeights, FootnoteError, Hit, Paper

# How deep the ranking of papers is kept, for recall at any depth; rivals rank anew what was found deeper.
_FOUND = 100
_DEEPER = 500
_CONSIDERED = 400
# The model without sources writes so many tokens; it is asked every eighth question, for that takes a second.
_TOKENS = 32
_EVERY = 8


@dataclass(frozen=True, slots=True)
class System:
    """One way to answer questions. `group` is `used`, `ablation` or `baseline`; of the questions it gets every n-th."""

    name: str
    group: str
    reply: Callable[[Question], Reply]
    every: int = 1


def systems(assistant: Assistant, style: str = "auto") -> list[System]:
    """All systems on the library of an assistant, the assistant itself first."""
    plain = Assistant(assistant.library, language_model="none")
    desk = RetrievalCache(plain)
    rivals = Baselines(desk)
    return [
        System("as used", "used", lambda question: ask(assistant, question, style, desk)),
        System(
            "no language model", "ablation", lambda question: ask(plain, question, "quote", desk)
        ),
        *(
            System(name, "ablation", _without(desk, **weights))
            for name, weights in _ABLATIONS.items()
        ),
        System("never answers", "baseline", lambda question: Reply(abstained=True)),
        System("random sentences", "baseline", rivals.at_random),
        System("full text only", "baseline", rivals.by_full_text),
        System("dense only", "baseline", rivals.by_vectors),
        System("best passage whole", "baseline", rivals.best_passage),
        System("best two sentences", "baseline", rivals.best_two),
        System("given the right papers", "baseline", rivals.given_gold),
        *_without_sources(assistant),
    ]


_ABLATIONS: dict[str, dict[str, float]] = {
    "and without similarity": {"similarity": 0.0},
    "and without words": {"term_overlap": 0.0},
    "and without the paper's score": {"paper_score": 0.0},
    "and openings as good as others": {"is_first_sentence": 0.0},
}


class RetrievalCache:
    """What is found for a question, which several systems begin with: looked up once."""

    def __init__(self, assistant: Assistant) -> None:
        self.assistant = assistant
        self.hits = cache(lambda text: assistant.search(text, k=_DEEPER))
        self.evidence = cache(lambda text: assistant.evidence(text, k=_CONSIDERED))

    def found(self, text: str) -> tuple[str, ...]:
        """Ids of the papers found, best first."""
        return tuple(hit.paper.id for hit in self.hits(text)[:_FOUND])


def ask(assistant: Assistant, question: Question, style: str, desk: RetrievalCache) -> Reply:
    """Ask as people do: a follow-up after the questions before it."""
    if question.history:
        chat = assistant.chat()
        for earlier in question.history:
            chat.ask(earlier, sentences=SENTENCES, style="quote")
        answer = chat.ask(question.question, sentences=SENTENCES, style=style)
    else:
        answer = assistant.ask(question.question, sentences=SENTENCES, style=style)
    reply = reply_of(answer)
    return replace(reply, found=desk.found(reply.rewritten_query or question.question))


def _without(desk: RetrievalCache, **weights: float) -> Callable[[Question], Reply]:
    used = {name: getattr(EvidenceWeights(), name) for name in EvidenceWeights.__slots__}
    changed = Assistant(
        desk.assistant.library, language_model="none", weights=EvidenceWeights(**(used | weights))
    )
    return lambda question: ask(changed, question, "quote", desk)


def _without_sources(assistant: Assistant) -> list[System]:
    """The language model asked without any paper; none where there is no language model."""
    try:
        model = assistant.as_llm()
    except FootnoteError:
        return []
    model.tokens = _TOKENS

    def reply(question: Question) -> Reply:
        prompt = f"Answer in one short sentence. {question.question}"
        return Reply(
            said=(
                Statement(model.complete(prompt).text.strip(), "generated", (), supported=False),
            ),
            confidence=1.0,
        )

    return [System("the model without sources", "baseline", reply, every=_EVERY)]


class Baselines:
    """Trivial systems on one library; they never abstain, but for the one that is given the right papers."""

    def __init__(self, desk: RetrievalCache) -> None:
        self._desk = desk
        self._papers = {paper.id: paper for paper in desk.assistant.papers()}

    def at_random(self, question: Question) -> Reply:
        """Three sentences of random papers, the same for a question each time."""
        chance = random.Random(question.id)  # noqa: S311 - a baseline, no secret
        papers = chance.sample(sorted(self._papers), min(SENTENCES, len(self._papers)))
        return _quoting(
            [(self._papers[name], *_span(self._papers[name], chance)) for name in papers], papers
        )

    def by_full_text(self, question: Question) -> Reply:
        """The sentences with most of the question's words of the paper that full text ranks first."""
        return self._of_first(question, lambda hit: hit.full_text, lambda one: one.term_overlap)

    def by_vectors(self, question: Question) -> Reply:
        """The sentences nearest to the question of the paper that vectors rank first."""
        return self._of_first(question, lambda hit: hit.dense, lambda one: one.similarity)

    def _of_first(
        self,
        question: Question,
        of_paper: Callable[[Hit], float],
        of_sentence: Callable[[Evidence], float],
    ) -> Reply:
        hits = self._desk.hits(question.question)
        ranked = [
            hit.paper.id for hit in sorted(hits, key=lambda hit: (-of_paper(hit), hit.paper.id))
        ]
        evidence = self._desk.evidence(question.question)
        first = next((name for name in ranked if any(one.paper.id == name for one in evidence)), "")
        best = sorted(
            (one for one in evidence if one.paper.id == first), key=lambda one: -of_sentence(one)
        )
        return _of_evidence(best[:SENTENCES], ranked[:_FOUND])

    def best_passage(self, question: Question) -> Reply:
        """The passage found first, word by word."""
        hits = self._desk.hits(question.question)
        spans = [(hit.paper, hit.passage.start, hit.passage.end) for hit in hits[:1]]
        return _quoting(spans, self._desk.found(question.question))

    def best_two(self, question: Question) -> Reply:
        """The two best sentences, always."""
        evidence = self._desk.evidence(question.question)
        return _of_evidence(evidence[:2], list(dict.fromkeys(one.paper.id for one in evidence)))

    def given_gold(self, question: Question) -> Reply:
        """The best sentences of the right papers; it knows when to abstain. What the choice of sentences can reach."""
        gold = [name for group in question.gold for name in group]
        if not question.answerable:
            return Reply(abstained=True)
        best = [one for one in self._desk.evidence(question.question) if one.paper.id in gold][
            :SENTENCES
        ]
        if best:
            return _of_evidence(best, gold)
        return _quoting(
            [(self._papers[name], 0, len(self._papers[name].abstract)) for name in gold[:1]], gold
        )


def _span(paper: Paper, chance: random.Random) -> tuple[int, int]:
    """Where a random sentence stands, roughly: between full stops."""
    ends = [at + 1 for at, char in enumerate(paper.abstract) if char == "."] or [
        len(paper.abstract)
    ]
    at = chance.randrange(len(ends))
    start = ends[at - 1] if at else 0
    return start + (paper.abstract[start : start + 1] == " "), ends[at]


def _of_evidence(evidence: Iterable[Evidence], found: Sequence[str]) -> Reply:
    return _quoting([(one.paper, one.sentence.start, one.sentence.end) for one in evidence], found)


def _quoting(spans: Iterable[tuple[Paper, int, int]], found: Sequence[str]) -> Reply:
    quotes = [(paper.id, paper.abstract[start:end]) for paper, start, end in spans]
    return Reply(
        said=tuple(
            Statement(quote, "quoted", (number,)) for number, (_, quote) in enumerate(quotes, 1)
        ),
        footnotes=tuple(
            Footnote(number, paper, quote) for number, (paper, quote) in enumerate(quotes, 1)
        ),
        found=tuple(found),
        confidence=1.0,
    )
