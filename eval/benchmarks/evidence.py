"""Do the sentences quoted hold the answer? `python -m eval.benchmarks.evidence [--questions N]`.

The library is the paragraphs of a reading-comprehension set (`squad2`), the questions are those that their
paragraph answers. Printed is how often one of the answers stands in the first sentence quoted, and in the first three,
as the assistant is and with each ingredient of reading switched off in turn; an answer that was refused holds none.
Openings of paragraphs are no openings of abstracts, and often answer. The answer may also stand in a paragraph other
than the question's own: what counts is the answer's words.
"""

import argparse
import tempfile
from pathlib import Path

from eval.benchmarks.collections import build_library, data_folder, read_jsonl
from eval.harness.metrics import SENTENCES
from eval.harness.questions import Question
from eval.harness.replies import Reply
from eval.harness.statistics import bootstrap, sign_flip
from eval.harness.systems import systems
from rag import Assistant


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500, help="how many, spread over the set")
    parser.add_argument(
        "--libraries", type=Path, help="keep the library here, to run again without embedding"
    )
    options = parser.parse_args()
    rows = list(read_jsonl(data_folder() / "squad2" / "flat.jsonl"))
    paragraphs = dict.fromkeys((row["title"], row["context"]) for row in rows)
    answerable = [row for row in rows if not row["is_impossible"]]
    asked = answerable[:: max(1, len(answerable) // options.questions)]
    with tempfile.TemporaryDirectory() as scratch:
        documents = ((str(number), title, text) for number, (title, text) in enumerate(paragraphs))
        plain, _ = build_library((options.libraries or Path(scratch)) / "squad2", documents)
        report(Assistant(plain.library), [(row["question"], row["answers"]) for row in asked])


def report(assistant: Assistant, asked: list[tuple[str, list[str]]]) -> None:
    """Print how often one of the answers stands in the first sentence and in the first three."""
    print(
        f"{len(asked)} questions\n  {'':30} {'in the first sentence':26} {'p':7} {'in the first three':26} p"
    )
    used: list[list[float]] = []
    for system in (one for one in systems(assistant, "quote") if one.group != "baseline"):
        given = [(system.reply(_question(question)), answers) for question, answers in asked]
        held = [[_holds(reply, answers, k) for reply, answers in given] for k in (1, SENTENCES)]
        used = used or held
        p = [
            "" if held is used else f"{sign_flip(*pair):.4f}"
            for pair in zip(held, used, strict=True)
        ]
        print(
            f"  {system.name:30} {bootstrap(held[0])!s:26} {p[0]:7} {bootstrap(held[1])!s:26} {p[1]}"
        )


def _question(text: str) -> Question:
    return Question(text, "dev", "base", "fact", text, True, (), ())


def _holds(reply: Reply, answers: list[str], k: int) -> float:
    return float(any(expected in said.text for said in reply.said[:k] for expected in answers))


if __name__ == "__main__":
    main()
