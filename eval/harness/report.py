"""The report of a run: one page that needs nothing else, and the same figures as JSON and CSV.

`figures` gathers everything that the page shows as plain data; the page and its plots are made from that alone. Only
what stands under `seconds` may differ between two reports of the same replies. The text of questions, papers and
language models is the text of strangers: the template escapes all of it, and the page holds no script.
"""

import base64
import csv
import hashlib
import inspect
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.harness import plots
from eval.harness.measures import fact_found
from eval.harness.metrics import (
    GATED,
    METRICS,
    ZEROS,
    Corpus,
    beginning,
    blame,
    corrected,
    facts,
    worth,
)
from eval.harness.questions import KINDS, TYPES, Question
from eval.harness.replies import Reply
from eval.harness.runs import Row, Run, values_of
from eval.harness.statistics import (
    aurc,
    bootstrap,
    harmonic,
    holm,
    paired,
    risk_coverage,
    rule_of_three,
)

# What the page tells of first; all of these are better when higher.
PRIMARY = (
    "facts", "worth", "refused", "answered", "right paper", "citation F1", "supported", "nDCG@10", "recall@5",
)  # fmt: skip
FOREST = ("facts", "worth", "refused", "right paper", "citation F1", "nDCG@10")
SIGNIFICANT = 0.05
BLAMES = {
    "failed": "The system broke down and gave no reply; the row scores 0.",
    "not in the library": "The papers that should answer do not hold every fact: the question needs mending.",
    "not retrieved": "The first eight papers found do not hold every fact.",
    "not read": "The facts were among the papers read, but no sentence that holds them was taken up.",
    "not written": "The sentences that hold the facts were footnoted, but the reply does not say them soon enough.",
    "wrongly cited": "The facts were said, but with footnotes to papers that do not answer.",
    "should not have abstained": "The facts were found, but the reply was that the library does not say.",
    "should have abstained": "An answer was given where there is none.",
}
# Rivals with a part in the page of their own; one of them is told what no system can know, and is no trivial rival.
_NO_MODEL, _FULL_TEXT, _DENSE, _ORACLE = (
    "no language model", "full text only", "dense only", "given the right papers",
)  # fmt: skip
_FOLLOWED = ("facts", "worth", "right paper", "recall@5")
_DEPTH = 100
_WORST = 10
_SHOWN = 5
_OPENING = 110
_DIGITS = 6

Figures = dict[str, Any]
MetricValues = tuple[list[float], list[str]]


def write_report(run: Run, folder: Path) -> Path:
    """Write `report.html`, `report.json` and `report.csv` into a folder, and tell where the page is."""
    shown = figures(run)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    _write(folder / "report.csv", table_of_rows(run))
    _write(folder / "report.html", page(shown))
    return folder / "report.html"


def figures(run: Run) -> Figures:
    """Every figure of the page, in the order of the page; parts that the run has no rows for are empty or None."""
    table = _table(run)
    return {
        "about": dict(run.about),
        "questions": _counted(_used(run)),
        "headline": _headline(run),
        "table": table,
        "gates": [_gate(table, metric) for metric in GATED if metric in table["cells"]],
        "zeros": _zeros(run),
        "recall": {name: curve for name in _recalled(run) if (curve := _recall(run.rows[name]))},
        "risk": _risk(run),
        "confusion": _confusion(run),
        "paired": _paired(run, table),
        "types": _by(_used(run), "type", TYPES),
        "kinds": _by(_used(run), "kind", KINDS),
        "robustness": _robustness(run),
        "followups": _followups(run),
        "blame": _blame(run),
        "failed": _failed(run),
        "worst": _worst(run),
        "seconds": _seconds(run),
    }


def page(shown: Figures) -> str:
    """The page of some figures."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "signed": _signed,
        "percent": _percent,
        "p": _p,
        "digest": _digest,
    }
    return environment.get_template("report.html").render(
        shown,
        plots=plots,
        primary=PRIMARY,
        forest=FOREST,
        gated=GATED,
        zero_metrics=ZEROS,
        significant=SIGNIFICANT,
        meanings=_meanings(shown["table"]["cells"]),
    )


def table_of_rows(run: Run) -> str:
    """All scores as CSV, a row for each question and system."""
    metrics = _metrics(run)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["system", "id", "split", "kind", "type", *metrics, "blame", "abstained", "confidence"]
    )
    for system, rows in run.rows.items():
        for row in rows:
            asked, reply = row.question, row.reply
            scores = [_rounded(row.scores.get(metric)) for metric in metrics]
            end = [
                blame(asked, reply, run.corpus),
                int(reply.abstained),
                _rounded(reply.confidence),
            ]
            writer.writerow([system, asked.id, asked.split, asked.kind, asked.type, *scores, *end])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


# What was asked, and what came of it in all.


def _used(run: Run) -> tuple[Row, ...]:
    return run.used if run.rows else ()


def _metrics(run: Run) -> list[str]:
    """The names of all metrics of a run, those of a user, too."""
    first = next((row for rows in run.rows.values() for row in rows), None)
    return list(first.scores) if first else []


def _interval(found: MetricValues) -> Figures | None:
    values, clusters = found
    return {**_plain(asdict(bootstrap(values, clusters))), "n": len(values)} if values else None


def _counted(rows: Sequence[Row]) -> Figures:
    answerable = sum(row.question.answerable for row in rows)
    clusters = len({row.question.cluster for row in rows})
    return {
        "all": len(rows),
        "answerable": answerable,
        "unanswerable": len(rows) - answerable,
        "clusters": clusters,
    }


def _headline(run: Run) -> list[Figures]:
    """What matters most, each with its interval and a sentence that says what it means."""
    rows = _used(run)
    told = [
        (
            "facts",
            "of the facts",
            "The share of what a right answer must say that the first three sentences do say.",
        ),
        (
            "right paper",
            "cite a right paper",
            "Of the answers given, those with a footnote to a paper that answers.",
        ),
        ("refused", "rightly refused", "Where the library has no answer: nothing was made up."),
        ("answered", "answered", "Where the library has an answer: one was given."),
    ]
    found = [{"name": name, "label": label, "text": text, **interval}
             for name, label, text in told if (interval := _interval(values_of(rows, name)))]  # fmt: skip
    return [*found, *_balance(rows), *_invalid(rows)]


def _balance(rows: Sequence[Row]) -> list[Figures]:
    (refused, of_refused), (answered, of_answered) = (
        values_of(rows, "refused"),
        values_of(rows, "answered"),
    )
    if not (refused and answered):
        return []
    mean = _plain(asdict(harmonic(refused, answered, of_refused, of_answered)))
    text = "The harmonic mean of the two: high only for a system that knows when to answer and when not to."
    return [
        {
            "name": "balance",
            "label": "both at once",
            "text": text,
            **mean,
            "n": len(refused) + len(answered),
        }
    ]


def _invalid(rows: Sequence[Row]) -> list[Figures]:
    """Citations that point nowhere; when there is none, how many there may still be (rule of three)."""
    citations = sum(len(said.cites) for row in rows for said in row.reply.said)
    values, _ = values_of(rows, "invalid citations")
    if not (citations and values):
        return []
    text = "Footnotes that point to no paper of the library. By construction there can be none."
    bound = None if sum(values) else _rounded(rule_of_three(citations))
    name, label = "invalid citations", "invalid citations"
    return [
        {
            "name": name,
            "label": label,
            "text": text,
            "count": sum(values),
            "n": citations,
            "bound": bound,
        }
    ]


# Systems against metrics.


def _table(run: Run) -> Figures:
    systems = [
        {"name": name, "group": run.groups.get(name, ""), "rows": len(rows)}
        for name, rows in run.rows.items()
    ]
    cells = {metric: _column(run, metric) for metric in _metrics(run)}
    return {"systems": systems, "cells": cells}


def _column(run: Run, metric: str) -> dict[str, Figures | None]:
    """Mean and difference to the assistant of each system; p is adjusted for the systems compared (Holm)."""
    used = next(iter(run.rows))
    column = {name: _interval(values_of(rows, metric)) for name, rows in run.rows.items()}
    differences = {name: _difference(run, name, used, metric) for name in column if name != used}
    known = {name: one for name, one in differences.items() if one}
    for (name, one), p in zip(
        known.items(), holm([one["p"] for one in known.values()]), strict=True
    ):
        differences[name] = one | {"holm": _rounded(p)}
    return {
        name: mean and mean | {"difference": differences.get(name)} for name, mean in column.items()
    }


def _difference(run: Run, system: str, other: str, metric: str) -> Figures | None:
    ours, theirs, clusters = run.pairs(system, other, metric)
    return {**_plain(asdict(paired(ours, theirs, clusters))), "n": len(ours)} if ours else None


def _gate(table: Figures, metric: str) -> Figures:
    """The best trivial rival on a metric that gates, and all that win it: there should be none."""
    gains = {
        one["name"]: cell["difference"]
        for one in table["systems"]
        if _is_trivial(one) and (cell := table["cells"][metric][one["name"]]) and cell["difference"]
    }
    best = max(gains, key=lambda name: gains[name]["mean"], default=None)
    wins = [name for name, gain in gains.items() if gain["mean"] > 0]
    return {
        "metric": metric,
        "best": best,
        "difference": gains[best] if best else None,
        "wins": wins,
    }


def _is_trivial(system: Mapping[str, str]) -> bool:
    return system["group"] == "baseline" and system["name"] != _ORACLE


def _zeros(run: Run) -> dict[str, dict[str, float]]:
    """For each system the sum of each metric that has no better value than 0."""
    known = [metric for metric in ZEROS if metric in _metrics(run)]
    return {
        name: {metric: sum(values_of(rows, metric)[0]) for metric in known}
        for name, rows in run.rows.items()
    }


def _meanings(metrics: Iterable[str]) -> dict[str, str]:
    """What each metric measures, in the words of its function."""
    told = {
        name: " ".join((inspect.getdoc(metric) or "").split()) for name, metric in METRICS.items()
    }
    depths = {
        f"recall@{k}": f"Share of the papers wanted of which one is among the first {k} found."
        for k in (5, 10)
    }
    return {name: meaning for name in metrics if (meaning := told.get(name) or depths.get(name))}


# Retrieval, confidence and abstention.


def _recalled(run: Run) -> list[str]:
    return [name for name in (*list(run.rows)[:1], _FULL_TEXT, _DENSE) if name in run.rows]


def _recall(rows: Sequence[Row]) -> list[float]:
    """Mean recall among the first k papers found, for k = 1, 2, ..., 100; empty without answerable questions."""
    answerable = [row for row in rows if row.question.answerable and row.question.gold]
    if not answerable:
        return []
    curves = np.zeros((len(answerable), _DEPTH))
    for curve, row in zip(curves, answerable, strict=True):
        for group in row.question.gold:
            if (rank := _rank(group, row.reply.found)) <= _DEPTH:
                curve[rank - 1 :] += 1 / len(row.question.gold)
    return [round(float(value), _DIGITS) for value in curves.mean(axis=0)]


def _rank(group: Iterable[str], found: Sequence[str]) -> int:
    """Rank of the first of some papers, beyond every depth if none was found."""
    return min((found.index(name) + 1 for name in group if name in found), default=_DEPTH + 1)


def _risk(run: Run) -> dict[str, Figures]:
    """Risk against coverage: of the answerable questions, and of all."""
    rows = _used(run)
    chosen = {"answerable": [row for row in rows if row.question.answerable], "all": list(rows)}
    return {name: _risk_of(some, run.corpus) for name, some in chosen.items() if some}


def _risk_of(rows: Sequence[Row], corpus: Corpus) -> Figures:
    losses = [_loss(row.question, row.reply, corpus) for row in rows]
    confidences = [row.reply.confidence for row in rows]
    answered = [
        loss
        for loss, row in zip(losses, rows, strict=True)
        if not (row.reply.abstained or row.reply.error)
    ]
    operating = (
        {"coverage": len(answered) / len(rows), "risk": sum(answered) / len(answered)}
        if answered
        else None
    )
    return {
        "curve": [_plain(point) for point in risk_coverage(confidences, losses)],
        "aurc": _rounded(aurc(confidences, losses)),
        "best": _rounded(aurc([-loss for loss in losses], losses)),
        "unordered": _rounded(sum(losses) / len(losses)),
        "operating": operating and _plain(operating),
        "n": len(rows),
    }


def _loss(question: Question, reply: Reply, corpus: Corpus) -> float:
    """What is lost by answering: the share of the facts not said, all of it where there is no answer to give."""
    share = facts(question, reply, corpus)
    return 1.0 - (float(corrected(question, reply)) if share is None else share)


def _confusion(run: Run) -> Figures:
    """How many questions were answered or not, by whether the library answers them; rows that failed are apart."""
    rows = _used(run)
    kinds = {True: "answerable", False: "unanswerable"}
    counts = Counter((kinds[row.question.answerable], _outcome(row)) for row in rows)
    return {
        name: {
            outcome: counts[name, outcome]
            for outcome in ("answered", "corrected", "abstained", "failed")
        }
        for name in kinds.values()
        if any(row.question.answerable == (name == "answerable") for row in rows)
    }


def _outcome(row: Row) -> str:
    if row.reply.error:
        return "failed"
    if row.reply.abstained:
        return "abstained"
    return "corrected" if corrected(row.question, row.reply) else "answered"


# Question by question.


def _paired(run: Run, table: Figures) -> dict[str, Figures]:
    """Differences in worth, question by question, to the assistant without a language model and to the best rival."""
    if "worth" not in table["cells"]:
        return {}
    others = [name for name in (_NO_MODEL, _gate(table, "worth")["best"]) if name in run.rows]
    used = next(iter(run.rows))
    return {
        name: _differences(run, used, name) for name in others if run.pairs(used, name, "worth")[0]
    }


def _differences(run: Run, used: str, other: str) -> Figures:
    ours, theirs, _ = run.pairs(used, other, "worth")
    gains = sorted((round(a - b, _DIGITS) for a, b in zip(ours, theirs, strict=True)), reverse=True)
    signs = Counter((gain > 0) - (gain < 0) for gain in gains)
    counts = {"better": signs[1], "same": signs[0], "worse": signs[-1]}
    return {"difference": _difference(run, used, other, "worth"), **counts, "gains": gains}


def _by(rows: Sequence[Row], attribute: str, order: Sequence[str]) -> list[Figures]:
    """Mean of each primary metric by the type or the kind of the questions."""
    groups = {
        name: [row for row in rows if getattr(row.question, attribute) == name] for name in order
    }
    return [
        {
            "name": name,
            "n": len(some),
            "means": {metric: _mean(values_of(some, metric)[0]) for metric in PRIMARY},
        }
        for name, some in groups.items()
        if some
    ]


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), _DIGITS) if values else None


def _robustness(run: Run) -> list[Figures]:
    """What another wording of a question does to its answer, by the kind of variant."""
    rows = {row.question.id: row for row in _used(run)}
    pairs = [
        (rows[row.question.variant_of], row)
        for row in rows.values()
        if row.question.variant_of in rows
    ]
    kinds = {kind: [pair for pair in pairs if pair[1].question.kind == kind] for kind in KINDS}
    return [{"kind": kind, **_robust(some, run.corpus)} for kind, some in kinds.items() if some]


def _robust(pairs: Sequence[tuple[Row, Row]], corpus: Corpus) -> Figures:
    scored = [
        (base, variant, _facts(base, corpus), _facts(variant, corpus)) for base, variant in pairs
    ]
    drops = [(a - b, base.question.id, variant.question.id)
             for base, variant, a, b in scored if a is not None and b is not None]  # fmt: skip
    worst = max(drops, key=lambda drop: drop[0], default=None)
    flips = [_is_right(base, corpus) != _is_right(variant, corpus) for base, variant in pairs]
    return {
        "pairs": len(pairs),
        "base": _mean([a for *_, a, _ in scored if a is not None]),
        "variant": _mean([b for *_, b in scored if b is not None]),
        "drop": _interval(([drop for drop, *_ in drops], [cluster for _, cluster, _ in drops])),
        "worst": worst and {"drop": round(worst[0], _DIGITS), "id": worst[2]},
        "flipped": _mean(flips),
        "overlap": _mean(
            [_jaccard(base.reply.found[:5], variant.reply.found[:5]) for base, variant in pairs]
        ),
    }


def _facts(row: Row, corpus: Corpus) -> float | None:
    return facts(row.question, row.reply, corpus)


def _is_right(row: Row, corpus: Corpus) -> bool:
    """Whether all the facts were said, or it was right not to answer."""
    return worth(row.question, row.reply, corpus) == 1.0


def _jaccard(ours: Iterable[str], theirs: Iterable[str]) -> float:
    one, other = set(ours), set(theirs)
    return len(one & other) / len(one | other) if one | other else 1.0


def _followups(run: Run) -> list[Figures]:
    """Follow-ups: to the assistant they come in conversation, to its rivals alone."""
    wanted = [
        name for name, group in run.groups.items() if group != "ablation" or name == _NO_MODEL
    ]
    chosen = {
        name: [row for row in run.rows.get(name, ()) if row.question.kind == "followup"]
        for name in wanted
    }
    return [
        {
            "system": name,
            "alone": run.groups[name] == "baseline",
            "n": len(rows),
            "cells": {metric: _interval(values_of(rows, metric)) for metric in _FOLLOWED},
        }
        for name, rows in chosen.items()
        if rows
    ]


# What went wrong.


def _blame(run: Run) -> Figures:
    """How many questions missed, by what the miss is put down to."""
    counts = Counter(blame(row.question, row.reply, run.corpus) for row in _used(run))
    known = [
        {"name": name, "count": counts[name], "text": text}
        for name, text in BLAMES.items()
        if counts[name]
    ]
    return {"good": counts[""], "all": counts.total(), "misses": known}


def _failed(run: Run) -> list[Figures]:
    """Rows without a reply, of any system."""
    return [
        {
            "system": name,
            "id": row.question.id,
            "question": row.question.question,
            "error": row.reply.error,
        }
        for name, rows in run.rows.items()
        for row in rows
        if row.reply.error
    ]


def _worst(run: Run) -> list[Figures]:
    """The misses of least worth; of several those of which the assistant was most sure."""
    missed = [
        row
        for row in _used(run)
        if not row.reply.error and blame(row.question, row.reply, run.corpus)
    ]
    ranked = sorted(
        missed, key=lambda row: (_worth(row, run.corpus), -row.reply.confidence, row.question.id)
    )
    return [_shown(row, run.corpus) for row in ranked[:_WORST]]


def _worth(row: Row, corpus: Corpus) -> float:
    return worth(row.question, row.reply, corpus) or 0.0


def _shown(row: Row, corpus: Corpus) -> Figures:
    """A question with what was expected, found and said."""
    asked, reply = row.question, row.reply
    gold = {name for group in asked.gold for name in group}
    return {
        "id": asked.id,
        "type": asked.type,
        "kind": asked.kind,
        "history": list(asked.history),
        "question": asked.question,
        "rewritten_query": reply.rewritten_query,
        "answerable": asked.answerable,
        "blame": blame(asked, reply, corpus),
        "worth": _rounded(_worth(row, corpus)),
        "confidence": _rounded(reply.confidence),
        "abstained": reply.abstained,
        "facts": _expected(asked, reply),
        "papers": [[{"id": name, "opening": _opening(corpus, name), "rank": _found_at(name, reply)} for name in group]
                   for group in asked.gold],
        "found": [{"id": name, "opening": _opening(corpus, name), "wanted": name in gold}
                  for name in reply.found[:_SHOWN]],
        "said": [{"text": said.text, "cites": list(said.cites)} for said in reply.said],
        "footnotes": [{"number": one.number, "paper": one.paper, "quote": one.quote, "wanted": one.paper in gold}
                      for one in reply.footnotes],
    }  # fmt: skip


def _expected(question: Question, reply: Reply) -> list[Figures]:
    start = beginning(reply)
    return [
        {
            "text": one.text,
            "vital": one.vital,
            "said": fact_found(start, one.alternatives, one.numbers),
        }
        for one in question.nuggets
    ]


def _opening(corpus: Corpus, paper: str) -> str:
    """How an abstract begins: papers are known to a run by id and abstract only."""
    text = " ".join(corpus.get(paper, "").split())
    return text if len(text) <= _OPENING else text[:_OPENING].rsplit(" ", 1)[0] + " …"


def _found_at(paper: str, reply: Reply) -> int | None:
    return reply.found.index(paper) + 1 if paper in reply.found else None


def _seconds(run: Run) -> Figures:
    """What replies took: the one part of a report that differs from run to run."""
    took = {name: sorted(row.seconds for row in rows) for name, rows in run.rows.items() if rows}
    return {
        name: {**_quantiles(some), "total": round(sum(some), 3), "sorted": some}
        for name, some in took.items()
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    median, high = np.percentile(values, [50, 95])
    return {"median": round(float(median), 4), "p95": round(float(high), 4)}


# How figures are written.


def _plain(value: Any) -> Any:  # noqa: ANN401 - records and points of figures alike
    """Figures rounded to what is kept of them, so that other machines write the same."""
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)


def _number(value: float | None) -> str:
    """Two digits after the point, fewer of what is large; a dash where there is none."""
    if value is None:
        return "–"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return _minus(f"{value:.{digits}f}")


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return _minus(text) if text.strip("+-0.") else "0.00"


def _percent(value: float) -> str:
    return _minus(f"{100 * value:.0f}")


def _minus(text: str) -> str:
    """With a true minus sign, and none before 0."""
    return text.replace("-", "−") if text.strip("-+0.") else text.replace("-", "")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _digest(text: str) -> str:
    """What a browser compares a style with before it applies it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
