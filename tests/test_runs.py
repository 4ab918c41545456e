"""Runs: questions put to systems, kept, taken up again, compared and gated; and the command that does it."""

import json
from pathlib import Path

import pytest

from eval import METRICS, Plan, evaluate
from eval.harness.comparison import Scored, compare, gate, load_scores, save_scores
from eval.harness.runs import load_run
from eval.harness.systems import systems
from rag import Assistant, UsageError

LEDGERS = "sliding-ledgers-shrinking-the-ef3e7d"
FACT = {
    "id": "kv", "split": "dev", "kind": "base", "type": "fact", "answerable": True,
    "question": "How much does the KV cache shrink with Sliding Ledgers?", "gold": [[LEDGERS]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}  # fmt: skip
FOREIGN = FACT | {
    "id": "cup", "type": "foreign", "answerable": False, "question": "Who won the football cup?",
    "gold": [], "nuggets": [],
}  # fmt: skip
FOLLOW = FACT | {
    "id": "then", "kind": "followup", "question": "And by how much does it shrink?",
    "history": ["What do Sliding Ledgers do to the KV cache?"],
}  # fmt: skip
ROWS = [FACT, FOREIGN, FOLLOW]


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return Plan(path, "dev")


def bytes_of(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.name != "seconds.jsonl"
    }


def test_a_run_has_a_row_for_each_question_and_system(quoting, plan, tmp_path):
    run = evaluate(quoting, tmp_path / "run", plan)
    assert [row.question.id for row in run.used] == ["kv", "cup", "then"]
    assert [row.scores["facts"] for row in run.used] == [1, None, 1]
    assert run.used[1].scores["refused"] == 1
    assert run.used[2].reply.rewritten_query.startswith("And by how much")
    assert run.interval("facts").mean == 1
    assert run.interval("worth", "never answers").mean == pytest.approx(1 / 3)
    assert set(run.groups.values()) == {"used", "ablation", "baseline"}
    assert all(len(rows) == 3 for rows in run.rows.values()), (
        "without a language model none is asked without sources"
    )


def test_the_same_run_twice_is_the_same_bytes(quoting, plan, tmp_path):
    evaluate(quoting, tmp_path / "one", plan)
    evaluate(quoting, tmp_path / "two", plan)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_a_run_that_was_broken_off_goes_on_and_ends_the_same(quoting, plan, tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total, system):
        if done == 10:
            raise Stopped

    evaluate(quoting, tmp_path / "whole", plan)
    with pytest.raises(Stopped):
        evaluate(quoting, tmp_path / "run", plan, on_progress=stop)
    replies = tmp_path / "run" / "replies.jsonl"
    assert len(replies.read_text().splitlines()) == 10
    replies.write_text(replies.read_text()[:-20])  # as a kill in the middle of a line leaves it
    evaluate(quoting, tmp_path / "run", plan)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_a_folder_with_another_run_is_left_alone(quoting, plan, tmp_path):
    evaluate(quoting, tmp_path / "run", plan)
    before = bytes_of(tmp_path / "run")
    with pytest.raises(UsageError, match="another run"):
        evaluate(quoting, tmp_path / "run", Plan(plan.questions, "dev", "quote"))
    assert bytes_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([FACT | {"gold": [["no-such-paper"]]}], "no paper 'no-such-paper'"),
        ([FACT, FACT], "two questions are called kv"),
        ([{name: value for name, value in FACT.items() if name != "gold"}], "line 1: without gold"),
        ([], "holds no questions"),
        ([FACT | {"split": "test"}], "no questions of the split 'dev'"),
    ],
)
def test_questions_that_do_not_fit_are_refused_before_anything_is_asked(
    quoting, tmp_path, rows, said
):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError, match=said):
        evaluate(quoting, tmp_path / "run", Plan(path, "dev"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "said"), [({"split": "nope"}, "dev, test, all"), ({"style": "loud"}, "auto, quote")]
)
def test_a_split_or_style_that_is_none_is_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        Plan(**wrong)


def test_only_some_systems_are_asked(quoting, plan, tmp_path):
    run = evaluate(quoting, tmp_path / "run", Plan(plan.questions, "dev", only=("dense only",)))
    assert list(run.rows) == ["as used", "dense only"]
    with pytest.raises(UsageError, match="no system is called 'oracle'; there are: as used"):
        evaluate(quoting, tmp_path / "other", Plan(plan.questions, "dev", only=("oracle",)))


def test_what_goes_wrong_is_a_row_that_scores_nothing(quoting, plan, tmp_path, monkeypatch):
    plain = Assistant.ask

    def ask(self, question, **options):
        if "cup" in question:
            raise RuntimeError("out of memory")
        return plain(self, question, **options)

    monkeypatch.setattr(Assistant, "ask", ask)
    run = evaluate(quoting, tmp_path / "run", Plan(plan.questions, "dev", only=("never answers",)))
    failed = run.used[1]
    assert (failed.reply.error, failed.scores["refused"], failed.scores["worth"]) == (
        "out of memory",
        0,
        -1,
    )
    assert gate([], [Scored("cup", "cup", failed.scores, True)]) == [
        "1 questions failed, cup first"
    ]


def test_a_metric_of_ones_own(quoting, plan, tmp_path):
    def shouts(question, reply, corpus):
        return float("!" in reply.text)

    run = evaluate(quoting, tmp_path / "run", plan, METRICS | {"shouts": shouts})
    assert run.interval("shouts").mean == 0
    assert run.interval("facts").mean == 1


def test_a_kept_run_is_scored_anew(quoting, plan, tmp_path):
    run = evaluate(quoting, tmp_path / "run", plan)
    again = load_run(tmp_path / "run", [row.question for row in run.used], run.corpus)
    assert again.rows == run.rows


def test_the_embedded_model_reads_and_answers_without_sources(small_library, plan, tmp_path):
    with_model = Assistant.open(small_library)
    without = systems(with_model)[-1]
    assert (without.name, without.every) == ("the model without sources", 8)
    run = evaluate(with_model, tmp_path / "run", Plan(plan.questions, "dev", only=(without.name,)))
    (row,) = run.rows[without.name]
    assert row.reply.text
    assert row.scores["sentences without footnote"] == 1
    assert run.interval("facts").mean == 1


# --- comparing -----------------------------------------------------------------------------------------------


def rows_of(worth, zeros=0.0, start=0):
    scores = [{"worth": value, "citation F1": 1.0, "invalid citations": zeros} for value in worth]
    return [Scored(f"q{n}", f"q{n}", own, False) for n, own in enumerate(scores, start)]


def test_two_runs_are_compared_question_by_question():
    worth, same, _ = compare(rows_of([0.0] * 20), rows_of([0.5] * 20))
    assert (worth.metric, worth.questions, worth.one, worth.other, worth.difference) == (
        "worth",
        20,
        0,
        0.5,
        0.5,
    )
    assert worth.p < worth.p_holm < 0.05
    assert (same.difference, same.p, same.p_holm) == (0, 1, 1)


def test_only_shared_questions_are_compared():
    (worth, *_) = compare(rows_of([0.0] * 5), rows_of([1.0] * 5, start=3))
    assert worth.questions == 2
    with pytest.raises(UsageError, match="no question in common"):
        compare(rows_of([0.0]), rows_of([0.0], start=9))


def test_a_gate_stops_what_is_worse_and_what_must_be_zero():
    baseline = rows_of([0.5] * 40)
    assert gate(baseline, baseline) == gate(baseline, rows_of([0.6] * 40)) == []
    assert gate(baseline, rows_of([0.48] * 40)) == [], "within the margin"
    assert gate(baseline, rows_of([0.3] * 40)) == [
        "worth: worse by 0.200 [0.200, 0.200] than the baseline"
    ]
    (line,) = gate(baseline, rows_of([0.5] * 40, zeros=1.0))
    assert line.startswith("invalid citations: must be 0, and is not in 40 answers")
    assert gate(baseline, baseline[:-1]) == [
        "1 questions of the baseline were not asked, q39 first"
    ]


def test_scores_are_kept_and_read_again(tmp_path):
    save_scores(tmp_path / "baseline.json", {"split": "dev"}, rows_of([0.25, 0.5]))
    assert load_scores(tmp_path / "baseline.json") == ({"split": "dev"}, rows_of([0.25, 0.5]))
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be read"):
        load_scores(tmp_path / "broken.json")
    with pytest.raises(UsageError, match="no finished run"):
        load_scores(tmp_path / "nowhere")


# --- the command ---------------------------------------------------------------------------------------------


def test_the_command_runs_compares_and_gates(footnote, small_library, plan, tmp_path):
    common = (
        "eval",
        "-q",
        plan.questions,
        "-L",
        small_library,
        "--split",
        "dev",
        "--only",
        "never answers",
    )
    first = footnote(*common, "-o", tmp_path / "one", "--model", "none")
    assert first.code == 0
    assert first.lines[1].split()[:3] == ["as", "used", "1.000"]
    assert (tmp_path / "one" / "report.html").exists()
    footnote(*common, "-o", tmp_path / "two", "--model", "none", "--style", "quote")
    compared = footnote("eval", "compare", tmp_path / "one", tmp_path / "two")
    assert "+0.000 [+0.000, +0.000]" in compared.out
    assert (
        footnote("eval", "compare", tmp_path / "one", tmp_path / "two", "--json").json[0]["metric"]
        == "facts"
    )
    baseline = tmp_path / "baseline.json"
    assert footnote("eval", "gate", tmp_path / "one", "--baseline", baseline).code == 2
    assert (
        "3 questions"
        in footnote("eval", "gate", tmp_path / "one", "--baseline", baseline, "--update").out
    )
    assert (
        footnote("eval", "gate", tmp_path / "two", "--baseline", baseline).out
        == "nothing is worse than the baseline\n"
    )


def test_a_worse_run_makes_the_gate_fail(footnote, small_library, plan, tmp_path):
    footnote("eval", "-q", plan.questions, "-L", small_library, "--split", "dev", "--only", "never answers", "-o",
             tmp_path / "run", "--model", "none")  # fmt: skip
    about, rows = load_scores(tmp_path / "run")
    faulty = [Scored(row.id, row.cluster, dict(row.scores) | {"worth": 1.0}, False) for row in rows]
    save_scores(tmp_path / "baseline.json", about, faulty)
    broken = [
        Scored(
            row.id, row.cluster, dict(row.scores) | {"worth": -1.0, "invalid citations": 2.0}, False
        )
        for row in rows
    ]
    save_scores(tmp_path / "run" / "scores.json", about, broken)
    run = footnote("eval", "gate", tmp_path / "run", "--baseline", tmp_path / "baseline.json")
    assert run.code == 1
    assert "invalid citations" in run.out
    assert "worth: worse by 2.000" in run.out


def test_the_answers_to_a_slice_of_the_curated_questions_are_no_worse_than_they_were(tmp_path):
    """A change that makes answers worse stops here; renewed by `footnote eval gate … --update`, on purpose only."""
    plan = Plan(split="dev", style="quote", only=("never answers",), every=12)
    evaluate(Assistant.sample(), tmp_path / "run", plan)
    baseline = Path(__file__).parent.parent / "eval" / "data" / "baseline.json"
    before, old = load_scores(baseline)
    about, new = load_scores(tmp_path / "run")
    assert before["questions_digest"] == about["questions_digest"]
    assert gate(old, new) == []
