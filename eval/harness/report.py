"""Write the report of a run: a self-contained page, and the same figures as JSON and CSV.

Text of questions, papers and language models is untrusted: the template escapes all of it, and the
page contains no script.
"""

import base64
import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.harness import plots
from eval.harness.comparison import SIGNIFICANCE_LEVEL
from eval.harness.error_attribution import attribute_error
from eval.harness.figures import (
    PRIMARY_METRICS,
    Figures,
    compute_figures,
    metric_names,
    rounded,
)
from eval.harness.runs import Row, Run
from eval.harness.systems import MODEL_GROUP, NO_LANGUAGE_MODEL, ORACLE

_FOREST_METRICS = (
    "nugget recall",
    "CRAG score",
    "correct-abstention rate",
    "right paper cited",
    "citation F1",
    "nDCG@10",
)
# Systems in the plot of latencies, besides the assistant.
_TIMED_SYSTEMS = [NO_LANGUAGE_MODEL, "best two sentences", "closed-book language model"]


def write_report(run: Run, folder: Path) -> Path:
    """Write `report.html`, `report.json` and `report.csv` to a folder; return the page's path."""
    figures = compute_figures(run)
    folder.mkdir(parents=True, exist_ok=True)
    page_path = folder / "report.html"
    json_text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    _write_text(folder / "report.json", json_text)
    _write_text(folder / "report.csv", render_csv(run))
    _write_text(page_path, render_page(figures))
    return page_path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def render_page(figures: Figures) -> str:
    """Return the page that shows the figures of a run."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _format_number,
        "signed": _format_signed,
        "percent": _format_percent,
        "p": _format_p,
        "digest": _style_digest,
    }
    other_metrics = []
    for name, metric in figures["metrics"].items():
        if name not in PRIMARY_METRICS and not metric["must_be_zero"]:
            other_metrics.append(name)
    return environment.get_template("report.html").render(
        figures,
        plots=plots,
        primary_metrics=PRIMARY_METRICS,
        other_metrics=other_metrics,
        forest_metrics=_FOREST_METRICS,
        timed_systems=[*_model_systems(figures), *_TIMED_SYSTEMS],
        oracle=ORACLE,
        significance_level=SIGNIFICANCE_LEVEL,
    )


def _model_systems(figures: Figures) -> list[str]:
    """Return the systems that are the assistant with another language model."""
    systems = figures["table"]["systems"]
    return [system["name"] for system in systems if system["group"] == MODEL_GROUP]


# --- CSV ----------------------------------------------------------------------------------------


def render_csv(run: Run) -> str:
    """Return all scores as CSV, a row for each question and system."""
    metrics = metric_names(run)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["system", "id", "split", "kind", "type", *metrics]
    writer.writerow([*header, "error_cause", "abstained", "confidence"])
    for system, rows in run.rows.items():
        for row in rows:
            writer.writerow(_csv_row(run, system, row, metrics))
    return text.getvalue()


def _csv_row(run: Run, system: str, row: Row, metrics: list[str]) -> list[Any]:
    question, reply = row.question, row.reply
    return [
        system,
        question.id,
        question.split,
        question.kind,
        question.type,
        *map(rounded, map(row.scores.get, metrics)),
        attribute_error(question, reply, run.corpus),
        int(reply.abstained),
        rounded(reply.confidence),
    ]


# --- number formats of the page -----------------------------------------------------------------


def _format_number(value: float | None) -> str:
    """Format a number with two decimals, or fewer if it is large; None becomes a dash."""
    if value is None:
        return "–"
    size = abs(value)
    if size < 10:
        decimals = 2
    elif size < 100:
        decimals = 1
    else:
        decimals = 0
    return _use_minus_sign(f"{value:.{decimals}f}")


def _format_signed(value: float) -> str:
    text = f"{value:+.2f}"
    return _use_minus_sign(text) if text.strip("+-0.") else "0.00"


def _format_percent(value: float) -> str:
    return _use_minus_sign(f"{100 * value:.0f}")


def _use_minus_sign(text: str) -> str:
    """Replace the hyphen before a number by a minus sign, and drop it before 0."""
    return text.replace("-", "−") if text.strip("-+0.") else text.replace("-", "")


def _format_p(value: float) -> str:
    text = "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _style_digest(text: str) -> str:
    """Return the hash that the content security policy needs to allow a style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
