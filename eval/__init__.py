"""Measuring: the answers on questions with known answers, and benchmarks of the parts.

    run = evaluate(Assistant.sample(), Path("runs/today"), Plan(split="dev"))
    print(run.interval("facts"), run.interval("refused"))
    write_report(run, Path("runs/today"))

A metric of one's own is a function of question, reply and corpus: `evaluate(…, metrics=METRICS | {"polite": polite})`.
The benchmarks of the parts run as `python -m eval.NAME` and print their tables. `eval` knows only the public names of
`rag`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.harness.comparison import Compared, compare, gate, load_scores
    from eval.harness.metrics import METRICS
    from eval.harness.questions import Question, load_questions
    from eval.harness.replies import Reply
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, Run, evaluate

__all__ = [
    "METRICS",
    "Compared",
    "Plan",
    "Question",
    "Reply",
    "Run",
    "compare",
    "evaluate",
    "gate",
    "load_questions",
    "load_scores",
    "write_report",
]

# Imported when they are first used, so that the benchmarks and the command start without what they do not need.
_LAZY = {
    "METRICS": "eval.harness.metrics",
    "Compared": "eval.harness.comparison",
    "Plan": "eval.harness.runs",
    "Question": "eval.harness.questions",
    "Reply": "eval.harness.replies",
    "Run": "eval.harness.runs",
    "compare": "eval.harness.comparison",
    "evaluate": "eval.harness.runs",
    "gate": "eval.harness.comparison",
    "load_questions": "eval.harness.questions",
    "load_scores": "eval.harness.comparison",
    "write_report": "eval.harness.report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'eval' has no attribute '{name}'")
