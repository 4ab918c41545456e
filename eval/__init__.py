"""Evaluation of Footnote: of its answers (`harness`) and of its parts (`benchmarks`).

The assistant itself is in `rag`, which imports nothing from here.

>>> run = evaluate(Assistant.sample(), Path("runs/today"), Plan(split="dev"))  # doctest: +SKIP
>>> print(run.interval("nugget recall"))                                      # doctest: +SKIP
>>> write_report(run, Path("runs/today"))                                     # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eval.harness.comparison import MetricComparison, compare, gate, load_scores, verdict
    from eval.harness.metrics import METRICS, Metric
    from eval.harness.questions import Question, load_questions
    from eval.harness.replies import Reply
    from eval.harness.report import write_report
    from eval.harness.runs import Plan, Run, evaluate

__all__ = [
    "METRICS",
    "Metric",
    "MetricComparison",
    "Plan",
    "Question",
    "Reply",
    "Run",
    "compare",
    "evaluate",
    "gate",
    "load_questions",
    "load_scores",
    "verdict",
    "write_report",
]

# Imported on first use, to keep the command and the page quick to start.
_MODULES = {
    "METRICS": "metrics",
    "Metric": "metrics",
    "MetricComparison": "comparison",
    "Plan": "runs",
    "Question": "questions",
    "Reply": "replies",
    "Run": "runs",
    "compare": "comparison",
    "evaluate": "runs",
    "gate": "comparison",
    "load_questions": "questions",
    "load_scores": "comparison",
    "verdict": "comparison",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    if name in _MODULES:
        return getattr(importlib.import_module(f"eval.harness.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'eval' has no attribute '{name}'")
