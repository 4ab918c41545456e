"""Runs of the evaluation: asking, saving, resuming, comparing and gating, also by command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import ScriptedModel

from eval import METRICS, Metric, Plan, evaluate
from eval.harness.comparison import (
    FORMAT_VERSION,
    MetricComparison,
    QuestionScores,
    compare,
    gate,
    load_scores,
    save_scores,
    verdict,
)
from eval.harness.generation_cache import GenerationCache, cache_generations
from eval.harness.runs import load_run
from eval.harness.systems import System, build_systems
from rag.assistant import Assistant
from rag.errors import UsageError

LEDGERS = "sliding-ledgers-shrinking-the-ef3e7d"
FACT = {
    "id": "kv",
    "split": "dev",
    "kind": "base",
    "type": "fact",
    "answerable": True,
    "question": "How much does the KV cache shrink with Sliding Ledgers?",
    "gold": [[LEDGERS]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}
FOREIGN = FACT | {
    "id": "cup",
    "type": "foreign",
    "answerable": False,
    "question": "Who won the football cup?",
    "gold": [],
    "nuggets": [],
}
FOLLOWUP = FACT | {
    "id": "then",
    "kind": "followup",
    "question": "And by how much does it shrink?",
    "history": ["What do Sliding Ledgers do to the KV cache?"],
}
ROWS = [FACT, FOREIGN, FOLLOWUP]
NEVER = "always abstains"


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return Plan(path, "dev")


@pytest.fixture(scope="module")
def two_systems(plan):
    """Plan of the assistant and the fastest baseline."""
    return replace(plan, only=(NEVER,))


@pytest.fixture(scope="module")
def finished(quoting, plan, tmp_path_factory):
    """Run of all systems and its folder, for reading only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    return evaluate(quoting, folder, plan), folder


def read_files(folder):
    """Return the bytes of all files that must not differ from run to run."""
    contents = {}
    for path in folder.iterdir():
        if path.name != "seconds.jsonl":
            contents[path.name] = path.read_bytes()
    return contents


# --- running -------------------------------------------------------------------------------------


def test_run_has_a_row_for_each_question_and_system(finished):
    run, _ = finished
    assert [row.question.id for row in run.assistant_rows] == ["kv", "cup", "then"]
    assert [row.scores["nugget recall"] for row in run.assistant_rows] == [1, None, 1]
    assert run.assistant_rows[1].scores["correct-abstention rate"] == 1
    assert run.assistant_rows[2].reply.rewritten_query.startswith("And by how much")
    assert run.interval("nugget recall").mean == 1
    assert run.interval("CRAG score", NEVER).mean == pytest.approx(1 / 3)
    assert set(run.groups.values()) == {"assistant", "ablation", "baseline"}
    assert {len(rows) for rows in run.rows.values()} == {3}
    assert "closed-book language model" not in run.rows


def test_interrupted_run_resumes_and_ends_with_the_same_bytes(quoting, plan, finished, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(done, total, system):
        if done == 10:
            raise Interrupted

    with pytest.raises(Interrupted):
        evaluate(quoting, tmp_path / "run", plan, on_progress=interrupt)
    replies = tmp_path / "run" / "replies.jsonl"
    assert len(replies.read_text().splitlines()) == 10
    replies.write_text(replies.read_text()[:-20])  # a kill in the middle of a line
    evaluate(quoting, tmp_path / "run", plan)
    assert read_files(tmp_path / "run") == read_files(finished[1])


def test_saved_run_can_be_scored_again(finished):
    run, folder = finished
    questions = [row.question for row in run.assistant_rows]
    assert load_run(folder, questions, run.corpus).rows == run.rows


def test_line_separators_in_a_reply_do_not_split_its_record(finished, tmp_path):
    run, folder = finished
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    replies = copy / "replies.jsonl"
    first, rest = replies.read_text(encoding="utf-8").split("\n", 1)
    record = json.loads(first)
    statement = record["reply"]["statements"][0] | {"text": "71%\u2028on average"}
    record["reply"]["statements"] = [statement]
    line = json.dumps(record, ensure_ascii=False)
    replies.write_text(f"{line}\n{rest}", encoding="utf-8")
    questions = [row.question for row in run.assistant_rows]
    loaded = load_run(copy, questions, run.corpus)
    assert loaded.assistant_rows[0].reply.text == "71%\u2028on average"


def test_folder_with_a_different_run_is_refused_and_unchanged(quoting, plan, finished, tmp_path):
    folder = Path(shutil.copytree(finished[1], tmp_path / "run"))
    with pytest.raises(UsageError, match="holds another run"):
        evaluate(quoting, folder, replace(plan, style="quote"))
    assert read_files(folder) == read_files(finished[1])


def test_run_of_an_earlier_version_is_refused(quoting, plan, finished, tmp_path):
    folder = Path(shutil.copytree(finished[1], tmp_path / "run"))
    manifest = json.loads((folder / "run.json").read_text())
    assert manifest.pop("format_version") == FORMAT_VERSION
    (folder / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="version of Footnote"):
        evaluate(quoting, folder, plan)
    scores = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps(scores | {"format_version": 1}))
    with pytest.raises(UsageError, match="earlier version of Footnote; run footnote eval again"):
        load_scores(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([FACT | {"gold": [["no-such-paper"]]}], "no paper 'no-such-paper'"),
        ([FACT, FACT], "duplicate id: kv"),
        ([{"id": "kv"}], "line 1: missing fields: answerable, gold"),
        ([], "no questions in"),
        ([FACT | {"split": "test"}], "no questions of the split 'dev'"),
    ],
)
def test_unsuitable_questions_are_refused_before_any_is_asked(quoting, tmp_path, rows, message):
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UsageError, match=message):
        evaluate(quoting, tmp_path / "run", Plan(path, "dev"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "choices"), [("split", "dev, test, all"), ("style", "auto, quote, write")]
)
def test_unknown_split_or_style_is_refused(field, choices):
    with pytest.raises(UsageError, match=f"unknown {field} 'x'; choose from: {choices}"):
        Plan(**{field: "x"})


def test_only_selects_systems_besides_the_assistant(quoting, plan, tmp_path):
    run = evaluate(quoting, tmp_path / "run", replace(plan, only=("dense only",)))
    assert list(run.rows) == ["assistant", "dense only"]
    with pytest.raises(UsageError, match="unknown system 'oracle'; choose from: assistant"):
        evaluate(quoting, tmp_path / "other", replace(plan, only=("oracle",)))


def test_error_of_a_system_becomes_a_row_with_the_lowest_scores(
    quoting, two_systems, tmp_path, monkeypatch
):
    original = Assistant.ask

    def ask(self, question, **options):
        if "cup" in question:
            raise RuntimeError("out of memory")
        return original(self, question, **options)

    monkeypatch.setattr(Assistant, "ask", ask)
    failed = evaluate(quoting, tmp_path / "run", two_systems).assistant_rows[1]
    assert failed.reply.error == "out of memory"
    assert (failed.scores["correct-abstention rate"], failed.scores["CRAG score"]) == (0, -1)
    reasons = gate([], [QuestionScores("cup", "cup", failed.scores, True)])
    assert reasons == ["questions failed: 1 (first: cup)"]


def test_user_defined_metric_is_scored_beside_the_others(quoting, two_systems, tmp_path):
    def shouts(question, reply, corpus):
        return float("!" in reply.text)

    metrics = [*METRICS, Metric("exclamations", shouts, "lower", "Replies with an exclamation.")]
    run = evaluate(quoting, tmp_path / "run", two_systems, metrics)
    assert run.interval("exclamations").mean == 0
    assert run.interval("nugget recall").mean == 1


@pytest.mark.parametrize(
    ("limit", "asked"),
    [(None, "0123456789"), (25, "0123456789"), (9, "02468"), (3, "048"), (1, "0")],
)
def test_slow_systems_get_few_questions_evenly_spaced(limit, asked):
    assert System("slow", "baseline", None, limit).select("0123456789") == asked


def test_language_model_is_asked_with_papers_and_without(small_library, plan, tmp_path):
    assistant = Assistant.open(small_library, language_model=ScriptedModel("Ledgers, perhaps."))
    closed_book = build_systems(assistant)[-1]
    run = evaluate(assistant, tmp_path / "run", replace(plan, only=(closed_book.name,)))
    assert closed_book.name == "closed-book language model"
    for row in run.rows[closed_book.name]:
        assert row.reply.text == "Ledgers, perhaps."
        assert row.scores["uncited sentences"] == 1


def test_other_models_are_systems_beside_the_assistant(small_library, quoting, plan, tmp_path):
    models = {"scripted": ScriptedModel("Nothing."), "none": "none"}
    others = {}
    for name, model in models.items():
        others[name] = Assistant.open(small_library, language_model=model)
    compared = replace(plan, only=(NEVER,), other_models=others)
    run = evaluate(quoting, tmp_path / "run", compared)
    assert dict(run.groups) == {
        "assistant": "assistant",
        "model: scripted": "model",
        "no language model": "model",
        NEVER: "baseline",
    }
    assert run.interval("nugget recall", "no language model").mean == 1


def test_replies_from_the_cache_are_the_same_and_marked_in_the_seconds(
    small_library, plan, tmp_path
):
    cache = GenerationCache(tmp_path / "cache")
    model = ScriptedModel("Sliding Ledgers cut it by 71% on average [1].")
    cached = Assistant.open(small_library, language_model=cache_generations(model, cache))
    written = replace(plan, style="write", only=(NEVER,), cache=cache)
    first = evaluate(cached, tmp_path / "first", written)
    prompts = len(model.prompts)
    assert prompts >= 2
    again = evaluate(cached, tmp_path / "again", written)
    assert len(model.prompts) == prompts
    assert read_files(tmp_path / "first") == read_files(tmp_path / "again")
    marks = [[row.is_cached for row in run.assistant_rows] for run in (first, again)]
    assert marks[1][0] is True
    assert [row.is_cached for row in again.rows[NEVER]] == [False] * 3
    assert marks[0][0] is False


# --- comparing and gating ------------------------------------------------------------------------


def score_rows(crag_scores, invalid=0.0, words=10.0, start=0):
    rows = []
    for number, crag_score in enumerate(crag_scores, start):
        scores = {
            "CRAG score": crag_score,
            "citation F1": 1.0,
            "invalid citations": invalid,
            "words": words,
        }
        rows.append(QuestionScores(f"q{number}", f"q{number}", scores, False))
    return rows


def test_runs_are_compared_question_by_question():
    crag, unchanged, *_ = compare(score_rows([0.0] * 20), score_rows([0.5] * 20))
    assert (crag.metric, crag.questions) == ("CRAG score", 20)
    assert (crag.first, crag.second, crag.difference) == (0, 0.5, 0.5)
    assert crag.p < crag.p_holm < 0.05
    assert (unchanged.difference, unchanged.p, unchanged.p_holm) == (0, 1, 1)


def test_only_shared_questions_are_compared():
    crag, *_ = compare(score_rows([0.0] * 5), score_rows([1.0] * 5, start=3))
    assert crag.questions == 2
    with pytest.raises(UsageError, match="no question in common"):
        compare(score_rows([0.0]), score_rows([0.0], start=9))


@pytest.mark.parametrize(
    ("metric", "difference", "p", "expected"),
    [
        ("CRAG score", 0.2, 0.01, "better"),
        ("CRAG score", -0.2, 0.01, "worse"),
        ("CRAG score", 0.2, 0.05, "no clear difference"),
        ("CRAG score", 0.0, 0.01, "no clear difference"),
        ("invalid citations", 1.0, 0.01, "worse"),
        ("contradicted", -0.1, 0.01, "better"),
        ("words", 12.0, 0.01, "higher"),
        ("words", -12.0, 0.01, "lower"),
    ],
)
def test_verdict_depends_on_the_direction_of_the_metric(metric, difference, p, expected):
    directions = {registered.name: registered.direction for registered in METRICS}
    comparison = MetricComparison(
        metric, directions[metric], 9, 0.0, difference, difference, difference, difference, p, p
    )
    assert verdict(comparison) == expected


def test_metric_without_a_record_has_no_better_direction():
    before = [QuestionScores(f"q{n}", f"q{n}", {"own": 0.0}, False) for n in range(20)]
    after = [replace(row, scores={"own": 1.0}) for row in before]
    (unknown,) = compare(before, after)
    assert verdict(unknown) == "higher"
    own = Metric("own", lambda question, reply, corpus: None, "lower", "Lower is better.")
    (known,) = compare(before, after, [*METRICS, own])
    assert verdict(known) == "worse"


def test_gate_stops_regressions_and_counts_that_must_be_zero():
    baseline = score_rows([0.5] * 40)
    assert gate(baseline, baseline) == gate(baseline, score_rows([0.6] * 40)) == []
    assert gate(baseline, score_rows([0.48] * 40)) == [], "within the margin"
    assert gate(baseline, score_rows([0.3] * 40)) == [
        "CRAG score: worse than the baseline by 0.200 [0.200, 0.200]"
    ]
    (reason,) = gate(baseline, score_rows([0.5] * 40, invalid=1.0))
    assert reason == "invalid citations: must be 0, but is not in 40 answers (first: q0)"
    assert gate(baseline, baseline[:-1]) == ["questions of the baseline not asked: 1 (first: q39)"]


def test_scores_can_be_saved_and_loaded(tmp_path):
    rows = score_rows([0.25, 0.5])
    save_scores(tmp_path / "baseline.json", {"split": "dev"}, rows)
    assert load_scores(tmp_path / "baseline.json") == ({"split": "dev"}, rows)
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(UsageError, match="damaged or was written by an earlier version"):
        load_scores(tmp_path / "broken.json")
    with pytest.raises(UsageError, match="no finished run"):
        load_scores(tmp_path / "nowhere")


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved_run(quoting, two_systems, tmp_path_factory):
    """Folder of a run of two systems, for reading only."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    evaluate(quoting, folder, two_systems)
    return folder


def test_eval_command_prints_means_and_writes_a_report(footnote, small_library, plan, tmp_path):
    options = ["-q", plan.questions, "-L", small_library, "--split", "dev", "--model", "none"]
    command = ["eval", *options, "--only", NEVER, "-o", tmp_path / "run"]
    printed = footnote(*command)
    assert printed.code == 0
    assert printed.lines[1].split()[:2] == ["assistant", "1.000"]
    assert (tmp_path / "run" / "report.html").exists()
    summary = footnote(*command, "--json").json
    assert summary["means"]["assistant"]["nugget recall"] == 1
    assert summary["means"]["assistant"]["abstention balance"] == 1
    assert summary["means"][NEVER]["abstention balance"] == 0
    assert summary["means"][NEVER]["citation precision"] is None
    assert summary["report"] == str(tmp_path / "run" / "report.html")
    assert (summary["failed"], summary["manifest"]["count"]) == (0, 3)


def test_compare_command_reports_the_direction_of_each_change(footnote, tmp_path):
    save_scores(tmp_path / "before.json", {}, score_rows([0.5] * 40))
    save_scores(tmp_path / "after.json", {}, score_rows([0.9] * 40, invalid=1.0, words=30.0))
    files = (tmp_path / "before.json", tmp_path / "after.json")
    verdicts = {
        line["metric"]: line["verdict"]
        for line in footnote("eval", "compare", *files, "--json").json
    }
    assert verdicts == {
        "CRAG score": "better",
        "citation F1": "no clear difference",
        "invalid citations": "worse",
        "words": "higher",
    }
    last_words = {}
    for line in footnote("eval", "compare", *files).lines[1:]:
        last_words[line[:30].strip()] = line.split()[-1]
    assert last_words["CRAG score"] == "better"
    assert last_words["invalid citations"] == "worse"
    assert last_words["words"] == "higher"


def test_gate_command_updates_and_checks_a_baseline(footnote, saved_run, tmp_path):
    baseline = tmp_path / "baseline.json"
    gate_run = ("eval", "gate", saved_run, "--baseline", baseline)
    assert footnote(*gate_run).code == 2
    assert "3 questions" in footnote(*gate_run, "--update").out
    assert footnote(*gate_run, "--update", "--json").json["questions"] == 3
    assert footnote(*gate_run).out == "nothing is worse than the baseline\n"
    assert footnote(*gate_run, "--json").json == {"passed": True, "reasons": []}


def test_gate_command_fails_if_answers_got_worse(footnote, saved_run, tmp_path):
    manifest, rows = load_scores(saved_run)
    better, worse = [], []
    for row in rows:
        better.append(replace(row, scores=dict(row.scores) | {"CRAG score": 1.0}))
        faults = {"CRAG score": -1.0, "invalid citations": 2.0}
        worse.append(replace(row, scores=dict(row.scores) | faults))
    save_scores(tmp_path / "baseline.json", manifest, better)
    save_scores(tmp_path / "new.json", manifest, worse)
    gate_run = ("eval", "gate", tmp_path / "new.json", "--baseline", tmp_path / "baseline.json")
    printed = footnote(*gate_run)
    assert printed.code == 1
    assert "invalid citations: must be 0" in printed.out
    assert "CRAG score: worse than the baseline by 2.000" in printed.out
    result = footnote(*gate_run, "--json")
    assert (result.code, result.json["passed"], len(result.json["reasons"])) == (1, False, 2)


def test_check_command_lists_problems_of_a_file(footnote, small_library, plan, tmp_path):
    checked = footnote("eval", "check", plan.questions, "-L", small_library)
    assert (checked.code, checked.out) == (0, "3 questions, 0 problems\n")
    faulty = tmp_path / "faulty.jsonl"
    faulty.write_text(json.dumps(FACT | {"gold": [["rye"]]}))
    result = footnote("eval", "check", faulty, "-L", small_library, "--json")
    assert result.code == 1
    assert (result.json["questions"], len(result.json["problems"])) == (1, 2)
    assert footnote("eval", "check", tmp_path / "nowhere.jsonl").code == 2


def test_answers_to_a_slice_of_the_curated_questions_do_not_get_worse(tmp_path):
    """Update the baseline only on purpose: eval/README.md says how."""
    plan = Plan(split="dev", style="quote", only=(NEVER,), every=12)
    quoting = Assistant(Assistant.sample().library, language_model="none")
    evaluate(quoting, tmp_path / "run", plan)
    baseline = Path(__file__).parent.parent / "eval" / "data" / "baseline.json"
    baseline_manifest, baseline_scores = load_scores(baseline)
    manifest, scores = load_scores(tmp_path / "run")
    assert baseline_manifest["questions_digest"] == manifest["questions_digest"]
    assert gate(baseline_scores, scores) == []
