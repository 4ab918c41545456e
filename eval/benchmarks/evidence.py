"""Measure how often the quoted sentences contain the answer.

`python -m eval.benchmarks.evidence [--questions N] [--libraries DIR]`

The papers are the paragraphs of a reading-comprehension set (`squad2`); the questions are those
that their paragraph answers. Prints how often an accepted answer occurs in the first quoted
sentence, and in the first three, for the assistant and for each ablation of evidence selection. An
abstention counts as a miss, and an accepted answer counts in any paragraph. Unlike in abstracts,
the first sentence of a paragraph often contains the answer.
"""

import argparse
from collections.abc import Sequence

from eval.benchmarks.collections import build_library, data_folder, read_jsonl, squad_documents
from eval.benchmarks.common import add_libraries_option, working_folder
from eval.benchmarks.tables import Columns
from eval.harness.metrics import ANSWER_SENTENCES
from eval.harness.questions import Question
from eval.harness.replies import Reply
from eval.harness.statistics import bootstrap, sign_flip_test
from eval.harness.systems import System, build_systems
from rag import Assistant

# A question and its accepted answers.
Item = tuple[str, list[str]]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500, help="how many, spread over the set")
    add_libraries_option(parser)
    options = parser.parse_args()
    rows = list(read_jsonl(data_folder() / "squad2" / "flat.jsonl"))
    items: list[Item] = []
    for row in rows:
        if not row["is_impossible"]:
            items.append((row["question"], row["answers"]))
    step = max(1, len(items) // options.questions)
    with working_folder(options.libraries) as folder:
        without_model, _ = build_library(folder / "squad2", squad_documents(rows))
        print_report(Assistant(without_model.library), items[::step])


def print_report(assistant: Assistant, items: Sequence[Item]) -> None:
    """Print for each system how often an accepted answer occurs in the first sentences."""
    print(f"{len(items)} questions")
    columns = Columns("<30", "<26", "<7", "<26", "<7", indent=2)
    columns.print_row("", "in the first sentence", "p", f"in the first {ANSWER_SENTENCES}", "p")
    reference: tuple[list[float], list[float]] | None = None
    for system in build_systems(assistant, "quote"):
        if system.group == "baseline":
            continue
        in_first, in_all = answer_hits(system, items)
        p_first = p_all = ""
        if reference is None:
            reference = in_first, in_all
        else:
            p_first = f"{sign_flip_test(in_first, reference[0]):.4f}"
            p_all = f"{sign_flip_test(in_all, reference[1]):.4f}"
        columns.print_row(system.name, bootstrap(in_first), p_first, bootstrap(in_all), p_all)


def answer_hits(system: System, items: Sequence[Item]) -> tuple[list[float], list[float]]:
    """Return hits, 1 or 0 per item: in the first sentence, and in the first three."""
    in_first, in_all = [], []
    for question, answers in items:
        reply = system.reply(_bare_question(question))
        in_first.append(_contains_answer(reply, answers, 1))
        in_all.append(_contains_answer(reply, answers, ANSWER_SENTENCES))
    return in_first, in_all


def _bare_question(text: str) -> Question:
    return Question(text, "dev", "base", "fact", text, True, (), ())


def _contains_answer(reply: Reply, answers: Sequence[str], sentences: int) -> float:
    for statement in reply.statements[:sentences]:
        for answer in answers:
            if answer in statement.text:
                return 1.0
    return 0.0


if __name__ == "__main__":
    main()
