"""Figures of a report against values worked out by hand, and the page that shows them."""

import csv
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from eval.harness.figures import compute_figures
from eval.harness.metrics import METRICS, Metric, score_reply
from eval.harness.questions import Nugget, Question
from eval.harness.replies import Footnote, Reply, Statement
from eval.harness.report import render_page, write_report
from eval.harness.runs import Row, Run

CORPUS = {
    "p1": "It runs 58 times faster. It is small.",
    "p2": "Cats sleep. Nothing else is known.",
    "p3": "Dogs bark.",
}
HOSTILE = (
    "<script>alert(1)</script> {{ 7 * 7 }} {% raw %} </details>"
    '<img src="https://bad.example/x.png"> "\' &amp;'
)


def build_question(name="a", answerable=True, **changes):
    nugget = Nugget("58 times", ("58 times", "58x"), ("58",), True)
    question = Question(
        id=name,
        split="test",
        kind="base",
        type="fact" if answerable else "near_miss",
        question=f"What about {name}?",
        answerable=answerable,
        gold=(("p1",),) if answerable else (),
        nuggets=(nugget,) if answerable else (),
    )
    return replace(question, **changes)


def quoting(text="It runs 58 times faster.", paper="p1", retrieved=("p1", "p2"), confidence=0.9):
    footnotes = (Footnote(1, paper, text),)
    statements = (Statement(text, "quoted", (1,)),)
    return Reply(statements, footnotes, tuple(retrieved), confidence=confidence)


def abstaining(retrieved=("p2", "p1"), confidence=0.1):
    return Reply(retrieved=tuple(retrieved), abstained=True, confidence=confidence)


def build_row(question, reply, seconds=0.5):
    return Row(question, reply, score_reply(question, reply, CORPUS), seconds)


def build_run(**systems):
    groups = {"assistant": "assistant", "no language model": "ablation"}
    rows = {name.replace("_", " "): tuple(rows) for name, rows in systems.items()}
    manifest = {"questions": "my.jsonl", "split": "test", "papers": 3, "language_model": "none"}
    return Run(manifest, CORPUS, rows, {name: groups.get(name, "baseline") for name in rows})


@pytest.fixture(scope="module")
def small_run():
    """Four answerable questions (two right, one wrong, one abstention) and two unanswerable."""
    questions = [*map(build_question, "abcd"), *[build_question(x, answerable=False) for x in "xy"]]
    replies = [
        quoting(),
        quoting(),
        quoting("Dogs bark.", "p3", retrieved=("p3", "p2", "p1"), confidence=0.8),
        abstaining(),
        abstaining(),
        quoting("Cats sleep.", "p2", ("p2",), 0.7),
    ]
    barking = quoting("Dogs bark.", "p3", retrieved=("p2",))
    return build_run(
        assistant=map(build_row, questions, replies),
        no_language_model=map(build_row, questions, replies),
        full_text_only=[build_row(question, barking) for question in questions],
        always_abstains=[build_row(question, Reply(abstained=True)) for question in questions],
    )


@pytest.fixture(scope="module")
def figures(small_run):
    return compute_figures(small_run)


@pytest.fixture(scope="module")
def page(figures):
    return render_page(figures)


def visible_text(html):
    """Return the text of a page as a reader sees it."""
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.S).replace("&nbsp;", " ")
    return " ".join(body.split())


# --- figures -------------------------------------------------------------------------------------


def test_headline(figures):
    headline = {figure["name"]: figure for figure in figures["headline"]}
    citations = headline.pop("invalid citations")
    assert {name: figure["mean"] for name, figure in headline.items()} == pytest.approx(
        {
            "nugget recall": 2 / 4,
            "right paper cited": 2 / 3,
            "correct-abstention rate": 1 / 2,
            "answer rate": 3 / 4,
            "abstention balance": 0.6,
        },
        abs=1e-6,
    )
    assert [figure["n"] for figure in headline.values()] == [4, 3, 2, 4, 6]
    recall = headline["nugget recall"]
    assert recall["low"] < 0.5 < recall["high"]
    # Four citations without fault: with 95 % confidence at most 3 of 4 are invalid.
    assert (citations["count"], citations["n"], citations["upper_bound"]) == (0, 4, 0.75)


def test_difference_from_the_assistant_has_an_adjusted_p_value(figures):
    column = figures["table"]["cells"]["CRAG score"]
    # The assistant scores 1, 1, -1, 0 and 1, -1; abstaining scores 0, 0, 0, 0 and 1, 1.
    cell = column["always abstains"]
    assert cell["mean"] == pytest.approx(2 / 6, abs=1e-6)
    assert cell["difference"]["mean"] == pytest.approx((2 - 1) / 6, abs=1e-6)
    assert cell["difference"]["p"] <= cell["difference"]["p_holm"] <= 1
    assert column["assistant"]["difference"] is None


def test_trivial_baseline_that_wins_a_gated_metric_is_reported(figures, page):
    (gate,) = figures["gates"]
    assert (gate["metric"], gate["winners"]) == ("CRAG score", ["always abstains"])
    assert "A trivial baseline beats the assistant in CRAG score:" in visible_text(page)


def test_oracle_is_no_trivial_baseline():
    wrong = [build_row(build_question(), abstaining())]
    right = [build_row(build_question(), quoting())]
    run = build_run(assistant=wrong, oracle_papers=right, always_abstains=wrong)
    (gate,) = compute_figures(run)["gates"]
    assert (gate["best_baseline"], gate["winners"]) == ("always abstains", [])


def test_recall_curve_rises_at_the_rank_of_each_gold_paper(figures):
    # The gold papers are at ranks 1, 1, 3 and 2.
    assert figures["recall"]["assistant"][:4] == [0.5, 0.75, 1.0, 1.0]
    assert len(figures["recall"]["assistant"]) == 100
    assert figures["recall"]["full text only"] == [0.0] * 100


def test_risk_curve_and_operating_point(figures):
    answerable, every = figures["risk"]["answerable"], figures["risk"]["all"]
    expected = {"coverage": 3 / 4, "risk": 1 / 3}
    assert answerable["operating_point"] == pytest.approx(expected, abs=1e-6)
    expected = {"coverage": 4 / 6, "risk": 2 / 4}
    assert every["operating_point"] == pytest.approx(expected, abs=1e-6)
    # By confidence the losses are 0, 0 (a tie), 1, 1: the risks are 0 twice, then 1/3 and 1/2.
    assert answerable["curve"] == [[0.5, 0.0], [0.75, pytest.approx(1 / 3, abs=1e-6)], [1.0, 0.5]]
    assert answerable["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4, abs=1e-6)


def test_calibration_compares_the_confidence_with_answerability_and_with_right_answers(
    figures, page
):
    answerable, right = figures["calibration"]["answerable"], figures["calibration"]["right"]
    # By confidence: .1 and .1 (one of two answerable), .7 (not), .8, .9 and .9 (all).
    shares = [(each["confidence"], each["outcome"], each["n"]) for each in answerable["bins"]]
    assert shares == [(0.1, 0.5, 2), (0.7, 0.0, 1), (0.8, 1.0, 1), (0.9, 1.0, 2)]
    assert answerable["ece"] == pytest.approx((2 * 0.4 + 0.7 + 0.2 + 2 * 0.1) / 6, abs=1e-6)
    # Answers: .7 and .8 are wrong, both of .9 are right.
    assert right["ece"] == pytest.approx((0.7 + 0.8 + 2 * 0.1) / 4, abs=1e-6)
    assert (answerable["n"], right["n"]) == (6, 4)
    assert "ECE 0.317, over all questions." in visible_text(page)


def test_balance_of_abstaining_and_answering_is_listed_for_each_system(figures):
    balances = {row["system"]: row["balance"]["mean"] for row in figures["balance"]}
    # Correct abstentions 1/2, answers 3/4; abstaining always and never answering balance to 0.
    assert balances["assistant"] == pytest.approx(2 * 0.5 * 0.75 / 1.25, abs=1e-6)
    assert balances["always abstains"] == balances["full text only"] == 0


def test_other_models_are_compared_with_the_assistant():
    questions = [build_question(name) for name in "abcdefgh"]
    run = build_run(
        assistant=[build_row(question, abstaining()) for question in questions],
        other=[build_row(question, quoting()) for question in questions],
    )
    run = replace(run, groups={"assistant": "assistant", "other": "model"})
    figures = compute_figures(run)
    assert figures["paired"]["other"]["worse"] == 8
    text = visible_text(render_page(figures))
    assert "The assistant with other language models" in text
    assert "assistant − “other”" in text


def test_seconds_of_replies_from_the_cache_are_left_out():
    rows = [build_row(build_question("a"), quoting(), 0.5)]
    rows.append(replace(build_row(build_question("b"), quoting(), 0.001), is_cached=True))
    run = build_run(assistant=rows, always_abstains=rows[1:])
    seconds = compute_figures(run)["seconds"]
    assert list(seconds) == ["assistant"]
    assert seconds["assistant"]["sorted"] == [0.5]
    assert seconds["assistant"]["cached"] == 1
    only_cached = compute_figures(build_run(assistant=rows[1:]))
    page = visible_text(render_page(only_cached))
    assert "All replies came from the cache of generations." in page


def test_statements_that_are_not_quotations_are_marked():
    statements = (
        Statement("Cats sleep.", "generated", (1,), heading="Cats"),
        Statement("1 paper is about cats.", "computed", (1,)),
    )
    reply = replace(quoting("Cats sleep.", "p2"), statements=statements)
    text = visible_text(
        render_page(compute_figures(build_run(assistant=[build_row(build_question(), reply)])))
    )
    assert "Cats: Cats sleep. 1 generated" in text
    assert "1 paper is about cats. 1 computed" in text


def test_confusion_counts_outcomes_by_answerability(figures):
    none = {"corrected": 0, "failed": 0}
    assert figures["confusion"]["answerable"] == none | {"answered": 3, "abstained": 1}
    assert figures["confusion"]["unanswerable"] == none | {"answered": 1, "abstained": 1}


def test_gains_per_question_are_sorted_and_counted(figures):
    assert figures["paired"]["no language model"]["gains"] == [0.0] * 6
    comparison = figures["paired"]["always abstains"]
    assert comparison["gains"] == [1.0, 1.0, 0.0, 0.0, -1.0, -2.0]
    assert [comparison[name] for name in ("better", "same", "worse")] == [2, 2, 2]


def test_means_by_type_are_over_the_questions_of_that_type(figures):
    means = {}
    for group in figures["types"]:
        values = group["means"]
        means[group["name"]] = (
            group["n"],
            values["nugget recall"],
            values["correct-abstention rate"],
        )
    assert means == {"fact": (4, 0.5, None), "near_miss": (2, None, 0.5)}


def test_variants_are_compared_with_their_base_question():
    typo = build_question("a-typo", kind="typo", variant_of="a")
    keyword = build_question("a-keyword", kind="keyword", variant_of="a")
    rows = [
        build_row(build_question("a"), quoting(retrieved=("p1", "p2"))),
        build_row(typo, abstaining(("p2", "p3"))),
        build_row(keyword, quoting()),
    ]
    robustness = compute_figures(build_run(assistant=rows))["robustness"]
    assert [row["kind"] for row in robustness] == ["typo", "keyword"]
    typo_row, keyword_row = robustness
    assert typo_row["drop"]["mean"] == 1.0
    assert typo_row["worst"] == {"drop": 1.0, "id": "a-typo"}
    assert (typo_row["flipped"], keyword_row["flipped"]) == (1.0, 0.0)
    assert typo_row["overlap"] == pytest.approx(1 / 3, abs=1e-6)
    assert keyword_row["overlap"] == 1.0


def test_followups_say_which_systems_were_asked_alone():
    question = build_question(kind="followup", history=("What about before?",))
    right, wrong = [build_row(question, quoting())], [build_row(question, abstaining())]
    assistant, dense = compute_figures(build_run(assistant=right, dense_only=wrong))["followups"]
    assert (assistant["system"], assistant["alone"]) == ("assistant", False)
    assert assistant["cells"]["nugget recall"]["mean"] == 1.0
    assert (dense["system"], dense["alone"]) == ("dense only", True)
    assert dense["cells"]["nugget recall"]["mean"] == 0.0


def test_errors_are_counted_by_cause(figures):
    counts = {cause["name"]: cause["count"] for cause in figures["errors"]["causes"]}
    assert counts == {
        "not selected": 1,
        "should not have abstained": 1,
        "should have abstained": 1,
    }
    assert (figures["errors"]["correct"], figures["errors"]["all"]) == (3, 6)


def test_worst_answers_are_sorted_by_score_then_confidence(figures):
    assert [miss["id"] for miss in figures["worst"]] == ["c", "y", "d"]
    worst = figures["worst"][0]
    assert worst["nuggets"] == [{"text": "58 times", "vital": True, "stated": False}]
    assert [(paper["id"], paper["rank"]) for paper in worst["gold"][0]] == [("p1", 3)]
    relevant = {paper["id"]: paper["relevant"] for paper in worst["retrieved"]}
    assert relevant == {"p3": False, "p2": False, "p1": True}


def test_latency_has_median_and_95th_percentile():
    times = [0.1, 0.2, 0.3, 0.4, 1.4]
    rows = []
    for number, seconds in enumerate(times):
        rows.append(build_row(build_question(str(number)), quoting(), seconds))
    latency = compute_figures(build_run(assistant=rows))["seconds"]["assistant"]
    # The 95th percentile lies 0.8 of the way from the fourth to the fifth.
    assert latency == {"median": 0.3, "p95": 1.2, "total": 2.4, "sorted": times, "cached": 0}


def test_user_defined_metric_is_in_the_table():
    rows = (Row(build_question(), quoting(), {"politeness": 0.25}, 0.1),)
    run = build_run(assistant=rows, always_abstains=rows)
    unregistered = compute_figures(run)
    assert unregistered["table"]["cells"]["politeness"]["assistant"]["mean"] == 0.25
    assert unregistered["metrics"]["politeness"]["direction"] == "neither"
    assert "politeness" in render_page(unregistered)
    politeness = Metric("politeness", lambda *_: 0.25, "higher", "Share of polite words.")
    registered = compute_figures(replace(run, metrics=(*METRICS, politeness)))
    assert "Share of polite words." in render_page(registered)


# --- page and files ------------------------------------------------------------------------------


def test_page_shows_the_headline(page):
    text = visible_text(page)
    for phrase in (
        "50 % nugget recall",
        "67 % right paper cited",
        "50 % correct-abstention rate",
        "75 % answer rate",
        "60 % abstention balance",
        "0 invalid citations of 4 citations",
    ):
        assert phrase in text
    assert "6 questions (split “test” of my.jsonl) on a library of 3 papers" in text
    assert "4 answerable from the library, 2 not." in text


def test_json_holds_the_same_figures(small_run, figures, tmp_path):
    write_report(small_run, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == figures


@pytest.mark.parametrize(
    ("metric", "rise", "style"),
    [
        (Metric("m", lambda *_: None, "higher"), 1.0, "better"),
        (Metric("m", lambda *_: None, "higher"), -1.0, "worse"),
        (Metric("m", lambda *_: None, "lower"), 1.0, "worse"),
        (Metric("m", lambda *_: None, "neither"), 1.0, "plain"),
    ],
)
def test_colour_of_a_significant_difference_follows_the_direction(metric, rise, style):
    systems = {"assistant": [], "always_abstains": []}
    for number in range(20):
        question = build_question(str(number))
        systems["assistant"].append(Row(question, quoting(), {"m": 0.0}, 0.1))
        systems["always_abstains"].append(Row(question, quoting(), {"m": rise}, 0.1))
    run = replace(build_run(**systems), metrics=(metric,))
    assert re.findall(r'<span class="sign (\w+)"', render_page(compute_figures(run))) == [style]


def test_counts_that_must_be_0_are_reported_as_a_broken_promise():
    faulty = Reply(
        (Statement("It runs 58 times faster.", "quoted", (1, 2)),),
        (Footnote(1, "p9", "It", is_literal=False),),
    )
    figures = compute_figures(build_run(assistant=[build_row(build_question(), faulty)]))
    assert figures["must_be_zero"]["assistant"] == {
        "invalid citations": 2.0,
        "non-literal quotations": 1.0,
        "uncited sentences": 0.0,
    }
    assert "This breaks a promise." in visible_text(render_page(figures))


def test_failed_rows_come_first_with_their_error():
    failed = Reply(error="the model <b>died</b>")
    rows = [build_row(build_question("a"), failed), build_row(build_question("b"), abstaining())]
    figures = compute_figures(build_run(assistant=rows))
    page = render_page(figures)
    assert figures["failed"][0]["error"] == "the model <b>died</b>"
    assert [miss["id"] for miss in figures["worst"]] == ["b"]
    assert page.index("the model &lt;b&gt;died&lt;/b&gt;") < page.index('class="miss"')
    assert "1 row failed and is in neither column" in visible_text(page)


@pytest.fixture(scope="module")
def hostile_page():
    """Page of a run in which every text is hostile."""
    corpus = {HOSTILE: HOSTILE * 3}
    question = build_question(
        HOSTILE,
        question=HOSTILE,
        history=(HOSTILE,),
        kind="followup",
        gold=((HOSTILE,),),
        nuggets=(Nugget(HOSTILE, ("58",), (), True),),
    )
    reply = replace(quoting(HOSTILE, HOSTILE, (HOSTILE,)), rewritten_query=HOSTILE)
    rows = []
    for text in (reply, Reply(error=HOSTILE)):
        rows.append(Row(question, text, score_reply(question, text, corpus), 0.1))
    manifest = dict.fromkeys(("questions", "split", "language_model", "style"), HOSTILE)
    systems = {"assistant": tuple(rows), HOSTILE: tuple(rows)}
    groups = {"assistant": "assistant", HOSTILE: "baseline"}
    return render_page(compute_figures(Run(manifest | {"papers": 1}, corpus, systems, groups)))


def test_untrusted_text_is_escaped(hostile_page):
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {{ 7 * 7 }}" in hostile_page
    assert "<script" not in hostile_page
    assert "<img" not in hostile_page
    assert hostile_page.count("<details") == hostile_page.count("</details>")


def test_page_has_no_script_and_refers_to_nothing_outside(hostile_page):
    references = set()
    for tag in re.findall(r"<[a-z][^>]*>", hostile_page):
        assert not re.search(r"\s(on[a-z]+|style)=", tag)
        references.update(re.findall(r'\s(?:href|src|srcset|action|data)="([^"#]*)"', tag))
    assert references - {""} == {"report.json", "report.csv"}
    assert "url(" not in hostile_page.partition("</style>")[0]
    assert "default-src 'none'; style-src 'sha256-" in hostile_page


def test_headings_are_nested_and_every_table_and_plot_has_a_description(page):
    levels = list(map(int, re.findall(r"<h([1-6])", page)))
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.count("<table") == page.count("<caption") > 5
    described = re.findall(r'<svg class="plot"[^>]*role="img" aria-label="[^"]+"', page)
    assert len(described) == page.count('class="plot"')


def test_reports_of_the_same_replies_differ_only_in_the_seconds(small_run, tmp_path):
    slower_rows = {}
    for system, rows in small_run.rows.items():
        slower_rows[system] = tuple(replace(row, seconds=row.seconds * 7) for row in rows)
    first, second, slower = (tmp_path / name for name in ("first", "second", "slower"))
    write_report(small_run, first)
    write_report(small_run, second)
    write_report(replace(small_run, rows=slower_rows), slower)
    for name in ("report.html", "report.json", "report.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (first / "report.csv").read_bytes() == (slower / "report.csv").read_bytes()
    assert read_without_seconds(first) == read_without_seconds(slower)
    assert (first / "report.html").read_bytes() != (slower / "report.html").read_bytes()


def read_without_seconds(folder):
    figures = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert figures.pop("seconds")
    html = (folder / "report.html").read_text(encoding="utf-8")
    rest, count = re.subn(r'<section id="seconds".*?</section>', "", html, flags=re.S)
    assert count == 1
    return figures, rest


def test_csv_has_a_row_for_each_question_and_system(small_run, tmp_path):
    write_report(small_run, tmp_path)
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 6
    first, third = rows[0], rows[2]
    columns = ("system", "id", "split", "kind", "type")
    assert [first[name] for name in columns] == ["assistant", "a", "test", "base", "fact"]
    assert (float(first["nugget recall"]), first["correct-abstention rate"]) == (1.0, "")
    assert (first["error_cause"], third["error_cause"]) == ("", "not selected")
    assert (third["abstained"], float(third["confidence"])) == ("0", 0.8)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [build_row(build_question(), quoting())],
        [build_row(build_question(answerable=False), abstaining())],
    ],
)
def test_run_of_the_assistant_alone_has_a_page(rows):
    text = visible_text(render_page(compute_figures(build_run(assistant=rows))))
    assert "The run has no system besides the assistant." in text
    assert "The run has no follow-ups." in text
    assert "The run has no variant together with its base question." in text


def test_system_without_rows_has_no_figures():
    rows = [build_row(build_question(), quoting())]
    figures = compute_figures(build_run(assistant=rows, always_abstains=[]))
    assert figures["table"]["cells"]["nugget recall"]["always abstains"] is None
    assert "The run has no trivial baseline to compare" in visible_text(render_page(figures))
