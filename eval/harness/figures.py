"""Compute every figure of a report as plain data that JSON can hold.

The page and its plots are made from these figures alone. Only the part under `seconds` may differ
between two reports of the same replies. Figures are rounded to six decimals, so that they are the
same on other machines.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from eval.harness.error_attribution import ERROR_CAUSES, attribute_error
from eval.harness.labels import LABELS, SUPPORTED, generated_statements, shipped_labels
from eval.harness.metrics import (
    Corpus,
    corrects_premise,
    counted_text,
    crag_score,
    is_right,
    nugget_recall,
)
from eval.harness.nuggets import contains_nugget
from eval.harness.questions import KINDS, TYPES, Question
from eval.harness.replies import Reply
from eval.harness.runs import Row, Run, collect_scores
from eval.harness.statistics import (
    ClusteredScores,
    aurc,
    bootstrap,
    calibration_bins,
    expected_calibration_error,
    harmonic_interval,
    holm_adjust,
    paired_difference,
    risk_coverage,
    rule_of_three,
)
from eval.harness.systems import DENSE_ONLY, FULL_TEXT_ONLY, MODEL_GROUP, NO_LANGUAGE_MODEL, ORACLE

Figures = dict[str, Any]

# Metrics that the page shows first; higher is better for all of them.
PRIMARY_METRICS = (
    "nugget recall",
    "CRAG score",
    "correct-abstention rate",
    "answer rate",
    "right paper cited",
    "citation F1",
    "lexical support",
    "nDCG@10",
    "recall@5",
)
_HEADLINE_METRICS = (
    "nugget recall",
    "right paper cited",
    "correct-abstention rate",
    "answer rate",
)
BALANCE = "abstention balance"
_BALANCE_DESCRIPTION = (
    "Harmonic mean of the correct-abstention rate and the answer rate: high only for a system that "
    "knows when to answer and when not to."
)
_FOLLOWUP_METRICS = ("nugget recall", "CRAG score", "right paper cited", "recall@5")
# Metric of the question-by-question comparison.
_PAIRED_METRIC = "CRAG score"
_RECALL_DEPTH = 100
_OVERLAP_DEPTH = 5
_WORST_ANSWERS = 10
_RETRIEVED_SHOWN = 5
_MAX_OPENING = 110
_DECIMALS = 6
_UNREGISTERED_METRIC: Figures = {
    "direction": "neither",
    "description": "",
    "gated": False,
    "must_be_zero": False,
}


def compute_figures(run: Run) -> Figures:
    """Return every figure of the page, in the order of the page.

    Parts for which the run has no rows are empty or None.
    """
    rows = run.assistant_rows
    table = _compute_table(run)
    metrics = _describe_metrics(run)
    return {
        "manifest": dict(run.manifest),
        "metrics": metrics,
        "questions": _count_questions(rows),
        "headline": _compute_headline(run, metrics),
        "table": table,
        "gates": _check_gates(table, metrics),
        "must_be_zero": _sum_must_be_zero(run, metrics),
        "recall": _compute_recall_curves(run),
        "risk": _compute_risk(run),
        "calibration": _compute_calibration(run),
        "confusion": _compute_confusion(rows),
        "balance": _compute_balances(run),
        "paired": _compute_paired(run, table),
        "types": _group_means(rows, "type", TYPES),
        "kinds": _group_means(rows, "kind", KINDS),
        "robustness": _compute_robustness(run),
        "followups": _compute_followups(run),
        "labels": _count_labels(run),
        "errors": _count_errors(run),
        "failed": _list_failed(run),
        "worst": _list_worst(run),
        "seconds": _compute_seconds(run),
    }


def metric_names(run: Run) -> list[str]:
    """Return the names of all metrics of a run, including those of its user."""
    for rows in run.rows.values():
        for row in rows:
            return list(row.scores)
    return []


def rounded(value: float | None) -> float | None:
    """Return a figure rounded to the decimals that reports keep; None stays None."""
    return None if value is None else round(float(value), _DECIMALS)


def _round_values(record: Mapping[str, float | None]) -> Figures:
    figures: Figures = {}
    for name, value in record.items():
        figures[name] = rounded(value)
    return figures


def _mean(values: Sequence[float]) -> float | None:
    return rounded(sum(values) / len(values)) if values else None


def _compute_interval(scores: ClusteredScores) -> Figures | None:
    if not scores.values:
        return None
    interval = bootstrap(scores.values, scores.clusters)
    return {**_round_values(asdict(interval)), "n": len(scores.values)}


# --- headline -----------------------------------------------------------------------------------


def _describe_metrics(run: Run) -> dict[str, Figures]:
    """Return direction, description and role of each metric; a plain record if unregistered."""
    registered = {metric.name: metric for metric in run.metrics}
    descriptions = {}
    for name in metric_names(run):
        description = dict(_UNREGISTERED_METRIC)
        if name in registered:
            metric = registered[name]
            description["direction"] = metric.direction
            description["description"] = metric.description
            description["gated"] = metric.gated
            description["must_be_zero"] = metric.must_be_zero
        descriptions[name] = description
    return descriptions


def _count_questions(rows: Sequence[Row]) -> Figures:
    answerable = sum(row.question.answerable for row in rows)
    clusters = {row.question.cluster for row in rows}
    return {
        "all": len(rows),
        "answerable": answerable,
        "unanswerable": len(rows) - answerable,
        "clusters": len(clusters),
    }


def _compute_headline(run: Run, metrics: Mapping[str, Figures]) -> list[Figures]:
    """Return the most important figures, each with its interval and its description."""
    rows = run.assistant_rows
    headline = []
    for name in _HEADLINE_METRICS:
        interval = _compute_interval(collect_scores(rows, name))
        if interval:
            description = metrics[name]["description"]
            headline.append({"name": name, "description": description, **interval})
    balance = compute_balance(rows)
    if balance:
        headline.append({"name": BALANCE, "description": _BALANCE_DESCRIPTION, **balance})
    return [*headline, *_count_invalid_citations(rows, metrics)]


def compute_balance(rows: Sequence[Row]) -> Figures | None:
    """Return the harmonic mean of correct-abstention rate and answer rate, with its interval.

    None without answerable or without unanswerable questions.
    """
    abstention = collect_scores(rows, "correct-abstention rate")
    answering = collect_scores(rows, "answer rate")
    if not (abstention.values and answering.values):
        return None
    interval = harmonic_interval(
        abstention.values, answering.values, abstention.clusters, answering.clusters
    )
    count = len(abstention.values) + len(answering.values)
    return {**_round_values(asdict(interval)), "n": count}


def _count_invalid_citations(rows: Sequence[Row], metrics: Mapping[str, Figures]) -> list[Figures]:
    """Return the count of invalid citations, with an upper bound of their rate if it is 0."""
    name = "invalid citations"
    citations = 0
    for row in rows:
        for statement in row.reply.statements:
            citations += len(statement.citations)
    counts = collect_scores(rows, name).values
    if not (citations and counts):
        return []
    figures = {
        "name": name,
        "description": metrics[name]["description"],
        "count": sum(counts),
        "n": citations,
        "upper_bound": None if sum(counts) else rounded(rule_of_three(citations)),
    }
    return [figures]


# --- systems against metrics --------------------------------------------------------------------


def _compute_table(run: Run) -> Figures:
    systems = []
    for name, rows in run.rows.items():
        systems.append({"name": name, "group": run.groups.get(name, ""), "rows": len(rows)})
    cells = {}
    for metric in metric_names(run):
        cells[metric] = _compute_column(run, metric)
    return {"systems": systems, "cells": cells}


def _compute_column(run: Run, metric: str) -> dict[str, Figures | None]:
    """Return each system's mean of a metric and its difference from the assistant.

    p values are adjusted for the number of systems (Holm).
    """
    assistant = next(iter(run.rows))
    column: dict[str, Figures | None] = {}
    differences: list[Figures] = []
    for system, rows in run.rows.items():
        cell = column[system] = _compute_interval(collect_scores(rows, metric))
        if cell is not None:
            cell["difference"] = None
            difference = _compute_difference(run, system, assistant, metric)
            if difference is not None:
                cell["difference"] = difference
                differences.append(difference)
    p_values = [difference["p"] for difference in differences]
    for difference, p in zip(differences, holm_adjust(p_values), strict=True):
        difference["p_holm"] = rounded(p)
    return column


def _compute_difference(run: Run, system: str, other: str, metric: str) -> Figures | None:
    if system == other:
        return None
    paired = run.paired_scores(system, other, metric)
    if not paired.clusters:
        return None
    difference = paired_difference(paired.first, paired.second, paired.clusters)
    return {**_round_values(asdict(difference)), "n": len(paired.clusters)}


def _check_gates(table: Figures, metrics: Mapping[str, Figures]) -> list[Figures]:
    gates = []
    for name, metric in metrics.items():
        if metric["gated"]:
            gates.append(_check_gate(table, name))
    return gates


def _check_gate(table: Figures, metric: str) -> Figures:
    """Return the best trivial baseline in a gated metric, and all that beat the assistant.

    If any does, the metric does not measure quality.
    """
    differences: dict[str, Figures] = {}
    winners = []
    for system in table["systems"]:
        name, cell = system["name"], table["cells"][metric][system["name"]]
        if _is_trivial(system) and cell and cell["difference"]:
            differences[name] = cell["difference"]
            if differences[name]["mean"] > 0:
                winners.append(name)
    best = max(differences, key=lambda name: differences[name]["mean"], default=None)
    return {
        "metric": metric,
        "best_baseline": best,
        "difference": differences[best] if best else None,
        "winners": winners,
    }


def _is_trivial(system: Mapping[str, str]) -> bool:
    """Return True for baselines, except the one that is given the right papers."""
    return system["group"] == "baseline" and system["name"] != ORACLE


def _sum_must_be_zero(run: Run, metrics: Mapping[str, Figures]) -> dict[str, dict[str, float]]:
    """Return for each system the sum of every metric that must be 0."""
    sums: dict[str, dict[str, float]] = {}
    for system, rows in run.rows.items():
        sums[system] = {}
        for name, metric in metrics.items():
            if metric["must_be_zero"]:
                sums[system][name] = sum(collect_scores(rows, name).values)
    return sums


# --- retrieval, confidence and abstention -------------------------------------------------------


def _compute_recall_curves(run: Run) -> dict[str, list[float]]:
    """Return recall at every depth, of the assistant and of each retrieval signal alone."""
    systems = [*list(run.rows)[:1], FULL_TEXT_ONLY, DENSE_ONLY]
    curves: dict[str, list[float]] = {}
    for system in systems:
        curve = _compute_recall_curve(run.rows.get(system, ()))
        if curve:
            curves[system] = curve
    return curves


def _compute_recall_curve(rows: Sequence[Row]) -> list[float]:
    """Return mean recall among the first k retrieved papers, for k = 1, ..., 100.

    Empty if there is no answerable question.
    """
    answerable = [row for row in rows if row.question.answerable and row.question.gold]
    if not answerable:
        return []
    curves = np.zeros((len(answerable), _RECALL_DEPTH))
    for curve, row in zip(curves, answerable, strict=True):
        for group in row.question.gold:
            rank = _first_rank(group, row.reply.retrieved)
            if rank is not None:
                curve[rank - 1 :] += 1 / len(row.question.gold)
    return [round(value, _DECIMALS) for value in curves.mean(axis=0).tolist()]


def _first_rank(papers: Iterable[str], ranking: Sequence[str]) -> int | None:
    """Return the best rank of the papers, counted from 1, or None if none is in the ranking."""
    ranks = [ranking.index(paper) + 1 for paper in papers if paper in ranking]
    return min(ranks, default=None)


def _compute_risk(run: Run) -> dict[str, Figures]:
    """Return the risk-coverage figures of the answerable questions and of all questions."""
    rows = run.assistant_rows
    answerable = [row for row in rows if row.question.answerable]
    risks = {}
    for name, selected in (("answerable", answerable), ("all", list(rows))):
        if selected:
            risks[name] = _compute_risk_curve(selected, run.corpus)
    return risks


def _compute_risk_curve(rows: Sequence[Row], corpus: Corpus) -> Figures:
    losses = [_loss(row, corpus) for row in rows]
    confidences = [row.reply.confidence for row in rows]
    curve = []
    for coverage, risk in risk_coverage(confidences, losses):
        curve.append([rounded(coverage), rounded(risk)])
    return {
        "curve": curve,
        "aurc": rounded(aurc(confidences, losses)),
        "optimal_aurc": rounded(aurc(np.negative(losses), losses)),
        "random_aurc": _mean(losses),
        "operating_point": _operating_point(rows, losses),
        "n": len(rows),
    }


def _operating_point(rows: Sequence[Row], losses: Sequence[float]) -> Figures | None:
    """Return coverage and risk of the answers that were given, or None if there were none."""
    answered_losses = []
    for row, loss in zip(rows, losses, strict=True):
        if not (row.reply.abstained or row.reply.error):
            answered_losses.append(loss)
    if not answered_losses:
        return None
    risk = sum(answered_losses) / len(answered_losses)
    return _round_values({"coverage": len(answered_losses) / len(rows), "risk": risk})


def _loss(row: Row, corpus: Corpus) -> float:
    """Return the loss of a reply: the share of the nuggets that it misses.

    For an unanswerable question it is 1, or 0 if the reply corrects the false premise.
    """
    share = nugget_recall(row.question, row.reply, corpus)
    if share is None:
        share = float(corrects_premise(row.question, row.reply))
    return 1.0 - share


def _compute_calibration(run: Run) -> Figures:
    """Compare the assistant's confidence with whether the library answers, and with right answers.

    The confidence is the probability that the library answers, so `answerable` covers all
    questions; `right` covers the answers given.
    """
    answerable, right = _Calibration([], []), _Calibration([], [])
    for row in run.assistant_rows:
        if not row.reply.error:
            answerable.add(row, row.question.answerable)
            if not row.reply.abstained:
                right.add(row, is_right(row.question, row.reply, run.corpus))
    calibration = {}
    for name, collected in (("answerable", answerable), ("right", right)):
        if collected.outcomes:
            calibration[name] = collected.compute()
    return calibration


class _Calibration(NamedTuple):
    """Confidences and outcomes of replies."""

    confidences: list[float]
    outcomes: list[float]

    def add(self, row: Row, outcome: bool) -> None:
        self.confidences.append(row.reply.confidence)
        self.outcomes.append(float(outcome))

    def compute(self) -> Figures:
        bins = calibration_bins(*self)
        return {
            "bins": list(map(_round_values, map(asdict, bins))),
            "ece": rounded(expected_calibration_error(bins)),
            "n": len(self.outcomes),
        }


def _compute_balances(run: Run) -> list[Figures]:
    """Return for each system how well it abstains and answers, and the balance of both."""
    balances = []
    for system, rows in run.rows.items():
        balance = compute_balance(rows)
        if balance:
            rates = {}
            for metric in ("correct-abstention rate", "answer rate"):
                rates[metric] = _mean(collect_scores(rows, metric).values)
            balances.append({"system": system, "rates": rates, "balance": balance})
    return balances


def _compute_confusion(rows: Sequence[Row]) -> Figures:
    """Count the outcomes of answerable and of unanswerable questions."""
    confusion: Figures = {}
    for name, answerable in (("answerable", True), ("unanswerable", False)):
        selected = [row for row in rows if row.question.answerable == answerable]
        if selected:
            counts = dict.fromkeys(("answered", "corrected", "abstained", "failed"), 0)
            for row in selected:
                counts[_outcome(row)] += 1
            confusion[name] = counts
    return confusion


def _outcome(row: Row) -> str:
    if row.reply.error:
        return "failed"
    if row.reply.abstained:
        return "abstained"
    return "corrected" if corrects_premise(row.question, row.reply) else "answered"


# --- question by question -----------------------------------------------------------------------


def _compute_paired(run: Run, table: Figures) -> dict[str, Figures]:
    """Compare the assistant with its other models, with none, and with the best baseline."""
    if _PAIRED_METRIC not in table["cells"]:
        return {}
    assistant = next(iter(run.rows))
    best_baseline = _check_gate(table, _PAIRED_METRIC)["best_baseline"]
    comparisons: dict[str, Figures] = {}
    models = [system for system, group in run.groups.items() if group == MODEL_GROUP]
    for system in dict.fromkeys((*models, NO_LANGUAGE_MODEL, best_baseline)):
        if system in run.rows:
            comparison = _compute_gains(run, assistant, system)
            if comparison["gains"]:
                comparisons[system] = comparison
    return comparisons


def _compute_gains(run: Run, assistant: str, system: str) -> Figures:
    paired = run.paired_scores(assistant, system, _PAIRED_METRIC)
    gains = []
    for first, second in zip(paired.first, paired.second, strict=True):
        gains.append(round(first - second, _DECIMALS))
    signs = Counter(np.sign(gains))
    return {
        "difference": _compute_difference(run, assistant, system, _PAIRED_METRIC),
        "better": signs[1],
        "same": signs[0],
        "worse": signs[-1],
        "gains": sorted(gains, reverse=True),
    }


def _group_means(rows: Sequence[Row], attribute: str, order: Sequence[str]) -> list[Figures]:
    """Return the mean of each primary metric by the type or the kind of the questions."""
    groups = []
    for name in order:
        selected = [row for row in rows if getattr(row.question, attribute) == name]
        if selected:
            means = {}
            for metric in PRIMARY_METRICS:
                means[metric] = _mean(collect_scores(selected, metric).values)
            groups.append({"name": name, "n": len(selected), "means": means})
    return groups


class _VariantPair(NamedTuple):
    base: Row
    variant: Row
    base_recall: float | None
    variant_recall: float | None


def _compute_robustness(run: Run) -> list[Figures]:
    """Compare replies to variants with the replies to their base questions, by kind of variant."""
    rows = {row.question.id: row for row in run.assistant_rows}
    pairs = defaultdict(list)
    for row in rows.values():
        base = rows.get(row.question.variant_of)
        if base:
            pair = _VariantPair(base, row, _recall(base, run.corpus), _recall(row, run.corpus))
            pairs[row.question.kind].append(pair)
    robustness = []
    for kind in KINDS:
        if pairs[kind]:
            robustness.append({"kind": kind, **_compare_variants(pairs[kind], run.corpus)})
    return robustness


def _compare_variants(pairs: Sequence[_VariantPair], corpus: Corpus) -> Figures:
    base_recalls, variant_recalls = [], []
    drops, worst = ClusteredScores([], []), None
    flips, overlaps = [], []
    for pair in pairs:
        flips.append(_is_right(pair.base, corpus) != _is_right(pair.variant, corpus))
        overlaps.append(_retrieval_overlap(pair.base.reply, pair.variant.reply))
        if pair.base_recall is not None:
            base_recalls.append(pair.base_recall)
        if pair.variant_recall is not None:
            variant_recalls.append(pair.variant_recall)
        if pair.base_recall is not None and pair.variant_recall is not None:
            drop = pair.base_recall - pair.variant_recall
            drops.values.append(drop)
            drops.clusters.append(pair.base.question.id)
            if worst is None or drop > worst[0]:
                worst = drop, pair.variant.question.id
    return {
        "pairs": len(pairs),
        "base": _mean(base_recalls),
        "variant": _mean(variant_recalls),
        "drop": _compute_interval(drops),
        "worst": worst and {"drop": rounded(worst[0]), "id": worst[1]},
        "flipped": _mean(flips),
        "overlap": _mean(overlaps),
    }


def _recall(row: Row, corpus: Corpus) -> float | None:
    return nugget_recall(row.question, row.reply, corpus)


def _is_right(row: Row, corpus: Corpus) -> bool:
    """Return True if the reply states all nuggets, or correctly abstains."""
    return crag_score(row.question, row.reply, corpus) == 1.0


def _retrieval_overlap(first: Reply, second: Reply) -> float:
    """Return the Jaccard index of the first papers that two replies retrieved."""
    first_papers = set(first.retrieved[:_OVERLAP_DEPTH])
    second_papers = set(second.retrieved[:_OVERLAP_DEPTH])
    union = first_papers | second_papers
    return len(first_papers & second_papers) / len(union) if union else 1.0


def _compute_followups(run: Run) -> list[Figures]:
    """Return scores on follow-ups; baselines are asked without the preceding conversation."""
    followups = []
    for system, group in run.groups.items():
        if group == "ablation" and system != NO_LANGUAGE_MODEL:
            continue
        rows = [row for row in run.rows.get(system, ()) if row.question.kind == "followup"]
        if rows:
            cells = {}
            for metric in _FOLLOWUP_METRICS:
                cells[metric] = _compute_interval(collect_scores(rows, metric))
            alone = group == "baseline"
            followups.append({"system": system, "alone": alone, "n": len(rows), "cells": cells})
    return followups


# --- labels -------------------------------------------------------------------------------------


def _count_labels(run: Run) -> list[Figures]:
    """Count the generated sentences of each system by label; the false share is over sentences."""
    counted = []
    for system, rows in run.rows.items():
        counts, false = _collect_labels(rows)
        if counts.total():
            labels = {label: counts[label] for label in LABELS}
            share = _compute_interval(false)
            figures = {"labels": labels, "unlabelled": counts[""], "false": share}
            counted.append({"system": system, **figures})
    return counted


def _collect_labels(rows: Sequence[Row]) -> tuple[Counter[str], ClusteredScores]:
    """Return how often each label occurs, and 1 for each false sentence and 0 for each true one."""
    labels, counts = shipped_labels(), Counter[str]()
    false = ClusteredScores([], [])
    for row in rows:
        for digest, _, _ in generated_statements(row.reply):
            label = labels.get(digest, "")
            counts[label] += 1
            if label:
                false.values.append(float(label != SUPPORTED))
                false.clusters.append(row.question.cluster)
    return counts, false


# --- errors -------------------------------------------------------------------------------------


def _count_errors(run: Run) -> Figures:
    """Count the assistant's wrong replies by their cause."""
    counts = Counter(_error_cause(row, run.corpus) for row in run.assistant_rows)
    causes = []
    for name, description in ERROR_CAUSES.items():
        if counts[name]:
            causes.append({"name": name, "count": counts[name], "description": description})
    return {"correct": counts[""], "all": counts.total(), "causes": causes}


def _error_cause(row: Row, corpus: Corpus) -> str:
    return attribute_error(row.question, row.reply, corpus)


def _list_failed(run: Run) -> list[Figures]:
    """Return the rows without a reply, of all systems."""
    failed = []
    for system, rows in run.rows.items():
        for row in rows:
            if row.reply.error:
                question = row.question
                failed.append(
                    {
                        "system": system,
                        "id": question.id,
                        "question": question.question,
                        "error": row.reply.error,
                    }
                )
    return failed


def _list_worst(run: Run) -> list[Figures]:
    """Return the wrong replies of the lowest score; the most confident first among equals."""
    ranked = []
    for row in run.assistant_rows:
        if not row.reply.error and _error_cause(row, run.corpus):
            score = crag_score(row.question, row.reply, run.corpus) or 0.0
            ranked.append(((score, -row.reply.confidence, row.question.id), row))
    ranked.sort(key=lambda item: item[0])
    return [_show_reply(row, run.corpus) for _, row in ranked[:_WORST_ANSWERS]]


def _show_reply(row: Row, corpus: Corpus) -> Figures:
    """Return a question with its expected answer, the papers retrieved and the reply."""
    question, reply = row.question, row.reply
    return {
        "id": question.id,
        "type": question.type,
        "kind": question.kind,
        "history": list(question.history),
        "question": question.question,
        "rewritten_query": reply.rewritten_query,
        "answerable": question.answerable,
        "error_cause": _error_cause(row, corpus),
        "crag_score": rounded(crag_score(question, reply, corpus) or 0.0),
        "confidence": rounded(reply.confidence),
        "abstained": reply.abstained,
        "nuggets": _show_nuggets(question, reply),
        "gold": _show_gold(question, reply, corpus),
        "retrieved": _show_retrieved(question, reply, corpus),
        "statements": _show_statements(reply),
        "footnotes": _show_footnotes(question, reply),
    }


def _show_nuggets(question: Question, reply: Reply) -> list[Figures]:
    scored_text = counted_text(reply)
    nuggets = []
    for nugget in question.nuggets:
        is_stated = contains_nugget(scored_text, nugget.alternatives, nugget.numbers)
        nuggets.append({"text": nugget.text, "vital": nugget.vital, "stated": is_stated})
    return nuggets


def _show_gold(question: Question, reply: Reply, corpus: Corpus) -> list[list[Figures]]:
    groups = []
    for group in question.gold:
        papers = []
        for paper in group:
            rank = _first_rank([paper], reply.retrieved)
            papers.append({"id": paper, "opening": _opening(corpus, paper), "rank": rank})
        groups.append(papers)
    return groups


def _show_retrieved(question: Question, reply: Reply, corpus: Corpus) -> list[Figures]:
    gold = set(question.gold_papers)
    papers = []
    for paper in reply.retrieved[:_RETRIEVED_SHOWN]:
        papers.append({"id": paper, "opening": _opening(corpus, paper), "relevant": paper in gold})
    return papers


def _show_statements(reply: Reply) -> list[Figures]:
    statements = []
    for statement in reply.statements:
        shown = {"text": statement.shown_text, "kind": statement.kind}
        statements.append(shown | {"citations": list(statement.citations)})
    return statements


def _show_footnotes(question: Question, reply: Reply) -> list[Figures]:
    gold = set(question.gold_papers)
    footnotes = []
    for footnote in reply.footnotes:
        footnotes.append(
            {
                "number": footnote.number,
                "paper": footnote.paper_id,
                "quote": footnote.quote,
                "relevant": footnote.paper_id in gold,
            }
        )
    return footnotes


def _opening(corpus: Corpus, paper: str) -> str:
    """Return the first words of an abstract; a run knows papers by id and abstract only."""
    text = " ".join(corpus.get(paper, "").split())
    return text if len(text) <= _MAX_OPENING else text[:_MAX_OPENING].rsplit(" ", 1)[0] + " …"


def _compute_seconds(run: Run) -> dict[str, Figures]:
    """Return wall-clock times of replies, the only figures that differ from run to run.

    Replies from the cache are only counted. A system with no other replies is left out.
    """
    seconds: dict[str, Figures] = {}
    for system, rows in run.rows.items():
        times = sorted(row.seconds for row in rows if not row.is_cached)
        if times:
            median, p95 = np.percentile(times, [50, 95])
            seconds[system] = {
                "median": round(float(median), 4),
                "p95": round(float(p95), 4),
                "total": round(sum(times), 3),
                "sorted": times,
                "cached": len(rows) - len(times),
            }
    return seconds
