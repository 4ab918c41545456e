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
    from eval.comparison import Compared, compare, gate, load_scores
    from eval.questions import Question, load_questions
    from eval.replies import Reply
    from eval.report import write_report
    from eval.runs import Plan, Run, evaluate
    from eval.scores import METRICS

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
    "METRICS": "eval.scores",
    "Compared": "eval.comparison",
    "Plan": "eval.runs",
    "Question": "eval.questions",
    "Reply": "eval.replies",
    "Run": "eval.runs",
    "compare": "eval.comparison",
    "evaluate": "eval.runs",
    "gate": "eval.comparison",
    "load_questions": "eval.questions",
    "load_scores": "eval.comparison",
    "write_report": "eval.report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever was asked for
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'eval' has no attribute '{name}'")
