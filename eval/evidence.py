"""Does the best sentence hold the answer? `python -m eval.evidence [--questions N]`.

The library is the paragraphs of a reading-comprehension set (`squad2`), the questions are those that their
paragraph answers. Printed is how often one of the answers stands in the first sentence, and in the first three,
for the score that is used and with each of its ingredients left out; its openings are no openings of abstracts, and
often answer. The answer may also stand in a paragraph
other than the question's own: what counts is the answer's words.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from eval.collections import build_library, data_folder, read_jsonl
from eval.statistics import bootstrap, sign_flip
from rag import Assistant, Evidence, SentenceWeights

_USED = SentenceWeights()
SCORES: dict[str, SentenceWeights] = {
    "as used": _USED,
    "without likelihood": replace(_USED, likelihood=0.0),
    "without similarity": replace(_USED, similarity=0.0),
    "without words": replace(_USED, words=0.0),
    "without the paper's score": replace(_USED, found=0.0),
    "openings as good as others": replace(_USED, opening=0.0),
}
_SENTENCES = 200


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=1000, help="how many, spread over the set")
    parser.add_argument("--libraries", type=Path, help="keep the library here, to run again without embedding")
    options = parser.parse_args()
    rows = list(read_jsonl(data_folder() / "squad2" / "flat.jsonl"))
    paragraphs = dict.fromkeys((row["title"], row["context"]) for row in rows)
    answerable = [row for row in rows if not row["is_impossible"]]
    asked = answerable[:: max(1, len(answerable) // options.questions)]
    with tempfile.TemporaryDirectory() as scratch:
        documents = ((str(number), title, text) for number, (title, text) in enumerate(paragraphs))
        assistant, _ = build_library((options.libraries or Path(scratch)) / "squad2", documents)
        assistant = Assistant(assistant.library)  # with the language model, which reads
        found = [(assistant.evidence(row["question"], k=_SENTENCES), row["answers"]) for row in asked]
    report(found)


def report(found: list[tuple[list[Evidence], list[str]]]) -> None:
    """Print how often the answer stands in the first and in the first three sentences."""
    print(f"{len(found)} questions\n  {'score':32} {'in the first sentence':26} {'in the first three':26} p (first)")
    used: list[float] = []
    for name, weights in SCORES.items():
        first = [_holds(evidence, weights, answers, 1) for evidence, answers in found]
        three = [_holds(evidence, weights, answers, 3) for evidence, answers in found]
        used = used or first
        p = "" if first is used else f"{sign_flip(first, used):.4f}"
        print(f"  {name:32} {bootstrap(first)!s:26} {bootstrap(three)!s:26} {p}")


def _holds(evidence: list[Evidence], weights: SentenceWeights, answers: list[str], k: int) -> float:
    best = sorted(evidence, key=lambda one: (-weights.logit(one), one.paper.id, one.sentence.start))[:k]
    return float(any(answer in one.sentence.text for one in best for answer in answers))


if __name__ == "__main__":
    main()
