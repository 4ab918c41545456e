"""How good are the answers? `python -m eval.answers [--split dev|test]`.

The curated questions are put to the sample library, with the models that come along, as the assistant is and with each
ingredient of reading switched off in turn. Facts are counted in at most three quoted sentences, and in the first; an
answer that was refused holds none. A question whose premise is false counts as refused, too, when what contradicts it
is quoted. Tuning looks at `dev` only; `test` is for reporting.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eval.metrics import fact_found, group_precision, group_recall, harmonic_mean
from eval.questions import SPLITS, Question, load_questions, sample_questions
from eval.statistics import bootstrap, sign_flip
from rag import Answer, Assistant, SentenceWeights

_SENTENCES = 3
_FITTED = SentenceWeights()
SYSTEMS: dict[str, Callable[[Assistant], Assistant]] = {
    "as used": lambda sample: sample,
    "no language model": lambda sample: Assistant(sample.library, language_model="none"),
    "without similarity": lambda sample: _weighted(sample, similarity=0.0),
    "without words": lambda sample: _weighted(sample, words=0.0),
    "without the paper's score": lambda sample: _weighted(sample, found=0.0),
    "openings as good as others": lambda sample: _weighted(sample, opening=0.0),
}


def _weighted(sample: Assistant, **changed: float) -> Assistant:
    weights = {name: getattr(_FITTED, name) for name in SentenceWeights.__slots__} | changed
    return Assistant(sample.library, weights=SentenceWeights(**weights))


@dataclass(frozen=True, slots=True)
class Scored:
    """A question, its answer, and what the answer is worth: shares in 0..1, seconds of wall-clock time."""

    question: Question
    answer: Answer
    seconds: float

    @property
    def cited(self) -> list[str]:
        return [citation.paper.id for citation in self.answer.citations]

    @property
    def facts(self) -> float:
        """Share of the vital facts in the answer."""
        return self._facts_in(self.answer.text)

    @property
    def facts_first(self) -> float:
        """Share of the vital facts in the first sentence of the answer."""
        return self._facts_in(self.answer.claims[0].text if self.answer.claims else "")

    def _facts_in(self, text: str) -> float:
        vital = [nugget for nugget in self.question.nuggets if nugget.vital]
        found = [fact_found(text, nugget.alternatives, nugget.numbers) for nugget in vital]
        return sum(found) / len(found) if found else 0.0

    @property
    def right_paper(self) -> float:
        """1 when a paper is cited that answers."""
        return float(group_recall(self.cited, self.question.gold) > 0)

    @property
    def refused(self) -> float:
        """1 when nothing was claimed, or what contradicts a false premise was quoted."""
        corrected = not self.question.answerable and self.facts > 0
        return float(self.answer.abstained or corrected)

    @property
    def literal(self) -> float:
        """1 when every quotation stands in its paper just so, and every claim cites a footnote of the answer."""
        numbers = {citation.number for citation in self.answer.citations}
        quotes = all(c.quote == c.paper.abstract[c.start : c.end] != "" for c in self.answer.citations)
        claims = all(claim.citations and set(claim.citations) <= numbers for claim in self.answer.claims)
        return float(quotes and claims)


def ask_all(assistant: Assistant, questions: Iterable[Question], style: str = "quote") -> list[Scored]:
    """Put the questions to an assistant, one after the other."""
    scored = []
    for question in questions:
        started = time.perf_counter()
        answer = assistant.ask(question.question, sentences=_SENTENCES, style=style)
        scored.append(Scored(question, answer, time.perf_counter() - started))
    return scored


def report(name: str, scored: Sequence[Scored], used: Sequence[Scored]) -> None:
    """Print one system's figures, and the p value of its facts differing from those of the system in use."""
    answerable = [one for one in scored if one.question.answerable]
    others = [one for one in scored if not one.question.answerable]
    answered = [one for one in answerable if not one.answer.abstained]
    facts = [one.facts for one in answerable]
    first = [one.facts_first for one in answerable]
    others_used = [one for one in used if one.question.answerable]
    p = [sign_flip(facts, [o.facts for o in others_used]), sign_flip(first, [o.facts_first for o in others_used])]
    shown = ["", ""] if scored is used else [f"{value:.3f}" for value in p]
    refused = statistics.mean(one.refused for one in others)
    kept = len(answered) / len(answerable)
    print(
        f"{name:28} {bootstrap(facts)!s:22} {shown[0]:6} {statistics.mean(first):.3f} {shown[1]:6}"
        f" {bootstrap([one.right_paper for one in answered])!s:22}"
        f" {statistics.mean(group_precision(one.cited, one.question.gold) for one in answered):.3f}"
        f"   {refused:.3f} {kept:.3f} {harmonic_mean(refused, kept):.3f}"
        f"    {statistics.median(one.seconds for one in scored):.2f}"
    )


def by_type(scored: Sequence[Scored]) -> None:
    """Print the figures of one system by type of question and by kind."""
    for field in ("type", "kind"):
        for value in dict.fromkeys(getattr(one.question, field) for one in scored):
            of_value = [one for one in scored if getattr(one.question, field) == value]
            facts = [one.facts for one in of_value if one.question.answerable]
            shown = f"facts {bootstrap(facts)!s}" if facts else "facts -" + " " * 20
            refused = statistics.mean(one.refused for one in of_value)
            print(f"  {field} {value:15} {len(of_value):3}  {shown:30}  refused {refused:.2f}")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--only", choices=SYSTEMS, action="append", help="only these systems")
    options = parser.parse_args()
    questions = [q for q in load_questions(sample_questions()) if q.split == options.split and q.kind != "followup"]
    sample = Assistant.sample()
    ask_all(sample, questions[:1])  # models are loaded before anything is timed
    print(f"{len(questions)} questions, split {options.split}, at most {_SENTENCES} sentences")
    print(
        f"{'':28} {'facts':22} {'p':6} {'first':5} {'p':6} {'right paper':22} {'precise':7} {'refused':7} {'kept':5}"
        f" {'joint':8} seconds"
    )
    used = ask_all(sample, questions)
    report("as used", used, used)
    for name, system in SYSTEMS.items():
        if name != "as used" and name in (options.only or SYSTEMS):
            report(name, ask_all(system(sample), questions), used)
    print("as used:")
    by_type(used)
    faults = sum(not one.literal for one in used)
    print(f"invalid citations and quotations that are not literal: {faults} of {len(used)} answers")


if __name__ == "__main__":
    main()
