"""Evals tab: runs in the background, which stop and resume, and their results on the page."""

import asyncio
import json
import math
import shutil
import threading
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from eval.harness.comparison import QuestionScores, save_scores
from eval.harness.questions import load_questions, sample_questions_file
from rag import Assistant, UsageError
from ui.render.evaluation import report_frame_html, summary_html
from ui.render.text import format_number
from ui.services.evaluations import (
    EvaluationRunner,
    RunProgress,
    RunRequest,
    TimeEstimate,
    describe_request,
    list_runs,
    load_own_questions,
)
from ui.tabs.evals import compare_runs_html, load_report_html, run_progress_html, run_state_html

HOSTILE = (
    "<script>alert(1)</script> ${alert(42)} {{constructor}} </iframe> \"'> "
    "<img src=https://evil.example/x onerror=alert(1)> <a href='javascript:alert(1)'>press</a>"
)
ANSWERABLE = {
    "id": "kv", "split": "dev", "kind": "base", "type": "fact", "answerable": True,
    "question": "How much does the KV cache shrink with Sliding Ledgers?",
    "gold": [["sliding-ledgers-shrinking-the-ef3e7d"]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}  # fmt: skip
UNANSWERABLE = ANSWERABLE | {
    "id": "cup", "type": "foreign", "answerable": False, "gold": [], "nuggets": [],
    "question": f"Who won the football cup? {HOSTILE}",
}  # fmt: skip
MISSED = ANSWERABLE | {
    "id": "fast",
    "nuggets": [{"text": HOSTILE, "any": ["71% on average"], "numbers": ["99"]}],
}
REQUEST = RunRequest(library="here", library_name="physics", split="dev", style="quote")


class PausingAssistant(Assistant):
    """Assistant that pauses before its second answer."""

    def ask(self, question, **options):
        self.asked += 1
        if self.asked == 2:
            self.reached.set()
            assert self.may_go.wait(30)
        return super().ask(question, **options)


@pytest.fixture(scope="module")
def assistant(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture
def pausing(small_library):
    assistant = PausingAssistant.open(small_library, language_model="none")
    assistant.asked, assistant.reached, assistant.may_go = 0, threading.Event(), threading.Event()
    return assistant


def write_questions(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_questions(tmp_path_factory.mktemp("questions"), [ANSWERABLE, UNANSWERABLE, MISSED])


def watch_to_end(evaluations):
    """Return every progress of the current run until it ends."""

    async def watch():
        return [progress async for progress in evaluations.watch()]

    return asyncio.run(watch())


@pytest.fixture(scope="module")
def one_run(assistant, questions, tmp_path_factory):
    """A folder with one finished run, for reading only."""
    folder = tmp_path_factory.mktemp("runs")
    evaluations = EvaluationRunner(folder, lambda request: assistant)
    evaluations.start(REQUEST, questions)
    assert watch_to_end(evaluations)[-1].message.endswith("is finished.")
    return folder


@pytest.fixture
def runs(one_run, tmp_path):
    """A copy of that folder, to be changed."""
    return shutil.copytree(one_run, tmp_path / "runs")


def single_run(folder):
    (run,) = list_runs(folder)
    return run


# --- runs -----------------------------------------------------------------------------------------


def test_run_of_own_questions_is_saved_with_its_report(one_run, questions):
    run = single_run(one_run)
    path = one_run / run.name
    # CRAG scores: every nugget, a correct abstention, and none of the nuggets.
    assert (run.state, run.crag_score) == ("finished", pytest.approx(1 / 3))
    assert run.label.endswith("· CRAG score 0.33 · dev, 3 questions · physics")
    assert (path / "report.html").exists()
    assert (path / "questions" / "mine.jsonl").read_bytes() == questions.read_bytes()
    assert not run.can_resume


def test_request_becomes_the_plan_of_the_run(tmp_path):
    plan = RunRequest(
        questions="mine.jsonl", split="all", style="write", every=3, with_baselines=True
    ).plan(tmp_path)
    assert (plan.questions, plan.split, plan.style) == (
        tmp_path / "questions" / "mine.jsonl",
        "all",
        "write",
    )
    assert (plan.every, plan.only) == (3, ())
    assert RunRequest().plan(tmp_path).only == ("assistant",)
    assert RunRequest().plan(tmp_path).questions.name == "sample.jsonl"


def test_stopped_run_resumes_and_ends_with_the_same_results(
    pausing, assistant, questions, one_run, tmp_path
):
    folder = tmp_path / "runs"
    evaluations = EvaluationRunner(folder, lambda request: pausing)
    evaluations.start(REQUEST, questions)
    assert pausing.reached.wait(30)
    state = evaluations.state
    assert (state.is_working, state.done, state.total) == (True, 1, 3)
    evaluations.stop()
    assert evaluations.state.is_stopping
    pausing.may_go.set()
    assert "was stopped" in watch_to_end(evaluations)[-1].message
    run = single_run(folder)
    assert (run.state, run.replies, run.can_resume) == ("unfinished", 2, True)
    assert run.label.endswith("· unfinished · dev, 3 questions · physics")
    assert "2 replies are saved" in run_state_html(run, is_running=False)
    after_a_restart = EvaluationRunner(folder, lambda request: assistant)
    after_a_restart.resume(run.name)
    assert not watch_to_end(after_a_restart)[-1].failed
    for name in ("replies.jsonl", "scores.json", "run.json"):
        assert (folder / run.name / name).read_bytes() == (
            one_run / single_run(one_run).name / name
        ).read_bytes()


def test_only_one_run_at_a_time_over_all_processes(pausing, questions, tmp_path):
    folder = tmp_path / "runs"
    evaluations, elsewhere = (EvaluationRunner(folder, lambda request: pausing) for _ in range(2))
    evaluations.start(REQUEST, questions)
    assert pausing.reached.wait(30)
    for other in (evaluations, elsewhere):
        with pytest.raises(UsageError, match="another run is in progress"):
            other.start(REQUEST, questions)
    run = single_run(folder)
    assert evaluations.is_running(run)
    assert "in progress" in run_state_html(run, is_running=True)
    with pytest.raises(UsageError, match="stop it first"):
        evaluations.delete(run.name)
    pausing.may_go.set()
    states = watch_to_end(evaluations)
    assert [state.is_working for state in states[-2:]] == [True, False]
    elsewhere.start(REQUEST, questions)
    assert not watch_to_end(elsewhere)[-1].failed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": "q1"}', "mine.jsonl, line 1: missing fields: answerable"),
        (json.dumps(ANSWERABLE) + "\nnonsense", "mine.jsonl, line 2: invalid JSON"),
        ("\n".join([json.dumps(ANSWERABLE)] * 2), "mine.jsonl: duplicate id: kv"),
        ("", "no questions in mine.jsonl"),
        ("[" * 100_000, "mine.jsonl, line 1: nested too deeply"),
        (
            json.dumps(ANSWERABLE | {"question": "What is \ud800?"}),
            "mine.jsonl, line 1: not valid Unicode",
        ),
        (json.dumps(ANSWERABLE | {"split": "test"}), "no questions in the split “dev”"),
    ],
)
def test_invalid_questions_file_is_rejected_with_its_first_error(tmp_path, text, reason):
    file = tmp_path / "mine.jsonl"
    file.write_text(text, encoding="utf-8")
    evaluations = EvaluationRunner(
        tmp_path / "runs", lambda request: pytest.fail("an assistant was opened")
    )
    with pytest.raises(UsageError) as error:
        evaluations.start(REQUEST, file)
    assert reason in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert list_runs(tmp_path / "runs") == []
    assert evaluations.state == RunProgress()


def test_large_or_missing_questions_file_is_rejected(tmp_path):
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(20_000_001)
    for path, reason in ((large, "the limit is 20 MB"), (tmp_path / "gone.jsonl", "gone.jsonl")):
        with pytest.raises(UsageError, match=reason):
            load_own_questions(path)


def test_questions_about_unknown_papers_end_the_run_with_a_reason(assistant, tmp_path):
    evaluations = EvaluationRunner(tmp_path / "runs", lambda request: assistant)
    evaluations.start(REQUEST, write_questions(tmp_path, [ANSWERABLE | {"gold": [["nobody"]]}]))
    state = watch_to_end(evaluations)[-1]
    assert state.failed
    assert state.message.endswith(
        "did not start: mine.jsonl: question kv: no paper 'nobody' in the library."
    )
    assert list_runs(tmp_path / "runs") == []


def test_bug_is_reported_and_the_next_run_can_start(assistant, questions, tmp_path, caplog):
    outcomes = iter([RuntimeError("the roof fell in"), None])

    def open_assistant(request):
        if error := next(outcomes):
            raise error
        return assistant

    evaluations = EvaluationRunner(tmp_path / "runs", open_assistant)
    evaluations.start(REQUEST, questions)
    assert (
        "internal error (RuntimeError: the roof fell in)" in watch_to_end(evaluations)[-1].message
    )
    assert "an evaluation in the page" in caplog.text
    evaluations.start(REQUEST, questions)
    assert not watch_to_end(evaluations)[-1].failed


def test_preview_describes_what_a_run_would_ask(questions):
    splits = [question.split for question in load_questions(sample_questions_file())]
    for split in ("dev", "test"):
        count = math.ceil(splits.count(split) / 10)
        described = describe_request(RunRequest(split=split, every=10), None)
        assert described.startswith(f"{count} curated questions about the sample papers")
    preview = describe_request(
        RunRequest(
            library="here", library_name="physics", questions="mine.jsonl", split="all", every=2
        ),
        questions,
    )
    assert preview == "2 questions from mine.jsonl about “physics”, for the assistant."
    assert "baselines and ablations" in describe_request(RunRequest(with_baselines=True), None)
    with pytest.raises(UsageError, match="choose a file"):
        describe_request(REQUEST, None)


# --- progress -------------------------------------------------------------------------------------

MANIFEST = {"count": 10, "language_model": "bundled", "systems": {"assistant": "assistant"}}


def test_time_left_follows_the_pace_after_the_models_are_loaded():
    estimate = TimeEstimate(MANIFEST, existing_rows=0)
    assert estimate.seconds_left(0, "assistant", 100.0) is None
    assert estimate.seconds_left(1, "assistant", 160.0) is None
    assert estimate.seconds_left(2, "assistant", 162.0) == pytest.approx(8 * 2)
    assert estimate.seconds_left(3, "assistant", 164.0) == pytest.approx(7 * 2)


def test_rows_of_an_earlier_attempt_do_not_count_for_the_pace():
    estimate = TimeEstimate(MANIFEST, existing_rows=4)
    assert [estimate.seconds_left(done, "assistant", 50.0) for done in range(5)] == [None] * 5
    assert estimate.seconds_left(5, "assistant", 53.0) is None
    assert estimate.seconds_left(6, "assistant", 56.0) == pytest.approx(4 * 3)


def test_baselines_are_expected_to_be_faster_than_the_assistant():
    estimate = TimeEstimate(
        MANIFEST | {"systems": {"assistant": "assistant", "dense only": "baseline"}},
        existing_rows=0,
    )
    assert [estimate.seconds_left(done, "assistant", 2.0 * done) for done in range(2)] == [None] * 2
    # Eight rows of the assistant are left, and ten of a baseline at 0.03 of its time.
    assert estimate.seconds_left(2, "assistant", 4.0) == pytest.approx((8 + 10 * 0.03) * 2)


def test_pace_is_that_of_the_last_seconds():
    estimate = TimeEstimate(MANIFEST, existing_rows=0)
    for done, now in ((0, 0.0), (1, 0.0), (2, 500.0), (3, 510.0), (4, 520.0)):
        left = estimate.seconds_left(done, "assistant", now)
    assert left == pytest.approx(6 * 10)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (RunProgress("r", is_working=True), "Loading models and questions"),
        (
            RunProgress("r", is_working=True, done=1, total=2600, system="assistant"),
            "1 of 2,600 questions asked. Running: assistant",
        ),
        (
            RunProgress(
                "r", is_working=True, done=1, total=9, system="dense only", seconds_left=41.0
            ),
            "asked, about 40 s left. Running: dense only",
        ),
        (
            RunProgress(
                "r", is_working=True, done=1, total=9, system="dense only", seconds_left=1.0
            ),
            "about 5 s left",
        ),
        (
            RunProgress(
                "r", is_working=True, done=1, total=9, system="dense only", seconds_left=200.0
            ),
            "about 3 min left",
        ),
        (RunProgress("r", is_working=True, done=9, total=9), "writing the report"),
        (
            RunProgress(
                "r", is_working=True, is_stopping=True, done=1, total=9, system="assistant"
            ),
            "Stopping after the current question",
        ),
        (RunProgress("r", message="The <run> is done."), "The &lt;run&gt; is done."),
        (RunProgress("r", message="It broke off.", failed=True), 'class="error-notice"'),
    ],
)
def test_progress_is_described(progress, expected):
    html = run_progress_html(progress)
    assert expected in html
    assert ("<progress aria-label=" in html) == progress.is_working


def test_progress_is_empty_before_the_first_run():
    assert run_progress_html(RunProgress()) == ""


# --- list of runs ---------------------------------------------------------------------------------


def test_newest_run_comes_first(runs):
    older = shutil.copytree(runs / single_run(runs).name, runs / "older")
    job = json.loads((older / "job.json").read_text())
    (older / "job.json").write_text(json.dumps(job | {"started": "2020-02-03T04:05:06+00:00"}))
    newest, oldest = list_runs(runs)
    assert oldest.name == "older"
    assert oldest.started == datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert "Feb 2020" in oldest.label
    assert newest.name != "older"


def test_run_started_elsewhere_can_be_opened_but_not_resumed(runs):
    path = runs / single_run(runs).name
    (path / "job.json").unlink()
    run = single_run(runs)
    assert (run.state, run.can_resume) == ("finished", False)
    assert run.label.endswith("dev, 3 questions · 12 papers")
    (path / "report.html").unlink()
    assert "not started here" in run_state_html(single_run(runs), is_running=False)
    with pytest.raises(UsageError, match="cannot be resumed"):
        EvaluationRunner(runs, lambda request: None).resume(run.name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b'{"split": "dev", "count": "many", "papers": 1, "systems": {}}'),
        ("run.json", b"\xff"),
        ("run.json", b"[" * 100_000),
        ("scores.json", b"{}"),
        (
            "scores.json",
            b'{"format_version": 3, "manifest": {}, '
            b'"rows": [{"id": "a", "cluster": "a", "scores": 5, "failed": false}]}',
        ),
        (
            "scores.json",
            b'{"format_version": 3, "manifest": {}, '
            b'"rows": [{"id": "a", "cluster": "a", "scores": {"CRAG score": "x"}, "failed": 0}]}',
        ),
    ],
)
def test_damaged_run_is_listed_as_damaged(runs, file, content):
    intact = single_run(runs)
    shutil.copytree(runs / intact.name, runs / "broken")
    (runs / "broken" / file).write_bytes(content)
    run = next(run for run in list_runs(runs) if run.name == "broken")
    assert run.state == "damaged"
    assert "damaged" in run.label
    assert "This run is damaged: " in run_state_html(run, is_running=False)
    assert run.can_resume == (file == "scores.json"), "a run without a manifest cannot resume"
    assert [run.state for run in list_runs(runs) if run.name == intact.name] == ["finished"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"manifest": 1}', b"\xff"])
def test_damaged_report_raises(runs, content):
    path = runs / single_run(runs).name
    (path / "report.json").write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the report"):
        load_report_html(path)


def test_damaged_run_resumes_to_a_new_report(runs, assistant):
    path = runs / single_run(runs).name
    before = (path / "scores.json").read_bytes()
    (path / "scores.json").write_text("{}")
    evaluations = EvaluationRunner(runs, lambda request: assistant)
    evaluations.resume(path.name)
    assert not watch_to_end(evaluations)[-1].failed
    assert (path / "scores.json").read_bytes() == before


def test_folders_without_a_run_are_ignored(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("hello")
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_deleted_run_is_gone(runs):
    evaluations = EvaluationRunner(runs, lambda request: None)
    name = single_run(runs).name
    evaluations.delete(name)
    assert not (runs / name).exists()
    assert evaluations.list_runs() == []
    for gone in (name, "", "..", "../.."):
        with pytest.raises(UsageError, match="no longer exists"):
            evaluations.delete(gone)


# --- reports --------------------------------------------------------------------------------------


class ParsedHtml(HTMLParser):
    """The elements and the text of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def load_html(folder):
    """Return summary and report of the only run in a folder."""
    return load_report_html(folder / single_run(folder).name)


def test_summary_shows_the_headline_metrics(one_run):
    summary, _ = load_html(one_run)
    text = ParsedHtml(summary).text
    assert (
        "3 questions (split dev of mine.jsonl); 12 papers, language model none, style quote."
        in text
    )
    for part in (
        "right paper citedShare of",
        "1.001.00 to 1.002",
        "CRAG scoreValue of a reply",
        "0.33−1.00 to 1.003",
    ):
        assert part in text


def test_worst_answers_show_expected_and_given_answer_and_cause(one_run):
    summary, _ = load_html(one_run)
    text = ParsedHtml(summary).text
    assert text.count("Cause") == 1
    assert f"Expected{HOSTILE}" in text
    assert "The KV cache shrinks by 71% on average" in text
    assert "not in the library. The gold papers do not state every nugget" in text


def test_summary_shows_abstentions_and_failures(one_run):
    file = one_run / single_run(one_run).name / "report.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    missed = report["worst"][0] | {"abstained": True, "history": ["What is it?"]}
    nugget = {"text": "71%", "vital": True, "stated": False}
    false_premise = missed | {"answerable": False, "nuggets": [nugget]}
    changes = {"worst": [missed, false_premise], "failed": [{"error": "no <memory>"}]}
    text = ParsedHtml(summary_html(report | changes)).text
    assert "After: What is it?" in text
    assert "AnswerYour library does not say." in text
    assert "ExpectedYour library does not say. Or a correction: 71%" in text
    assert "1 reply failed; the first: no <memory>" in text
    assert "No wrong answers" in summary_html(report | {"worst": []})


def test_untrusted_text_stays_text(one_run):
    summary, frame = load_html(one_run)
    allowed = (
        "div p table caption thead tbody tr th td br small strong section h3 ol li dl dt dd".split()
    )
    assert {tag for tag, _ in ParsedHtml(summary).elements} <= set(allowed)
    (section, heading, (tag, attributes)) = ParsedHtml(frame).elements
    assert (section[0], heading[0], tag) == ("section", "h3", "iframe")
    assert attributes["sandbox"] == ""
    assert not [name for name in attributes if name.startswith("on") or name == "src"]
    page = ParsedHtml(attributes["srcdoc"])
    assert not [tag for tag, _ in page.elements if tag in ("script", "img", "iframe")]
    assert "alert(42)" in page.text


def test_links_in_the_report_frame_stay_inside():
    page = (
        '<a href="#risk">Risk</a> <a href="report.json">figures</a> '
        '<a href="https://evil.example">x</a>'
    )
    (_, _, (_, attributes)) = ParsedHtml(report_frame_html(page)).elements
    assert attributes["srcdoc"] == '<a href="about:srcdoc#risk">Risk</a> figures x'


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(0.694, False, "0.69"), (-1.0, False, "−1.00"), (0.5, True, "+0.50"), (-0.001, True, "0.00")],
)
def test_numbers_have_two_decimals_and_a_true_minus(value, signed, text):
    assert format_number(value, signed=signed) == text


# --- comparisons ----------------------------------------------------------------------------------


def save_run(folder, crag_scores, first_id=0, **manifest):
    """Save the scores of a finished run in a new folder."""
    folder.mkdir()
    rows = []
    for number, crag_score in enumerate(crag_scores, first_id):
        scores = {"CRAG score": crag_score, "nugget recall": 0.5}
        rows.append(QuestionScores(f"q{number}", f"q{number}", scores, failed=False))
    manifest = {"questions_digest": "d", "style": "auto"} | manifest
    save_scores(folder / "scores.json", manifest, rows)
    return folder


def test_comparison_of_two_runs(tmp_path):
    earlier = save_run(tmp_path / "earlier", [0.0] * 20)
    later = save_run(tmp_path / "later", [0.5] * 20, style="quote")
    text = ParsedHtml(compare_runs_html(earlier, later)).text
    assert "Both runs asked the same 20 questions." in text
    assert "What changed: style: auto, then quote." in text
    assert "CRAG score200.000.50+0.50+0.50 to +0.50< 0.001better" in text
    assert "nugget recall200.500.500.000.00 to 0.001.000no clear difference" in text


def test_different_runs_are_compared_on_their_shared_questions(tmp_path):
    earlier = save_run(tmp_path / "earlier", [0.0] * 5)
    later = save_run(tmp_path / "later", [0.0] * 9, first_id=3, questions_digest="other")
    text = ParsedHtml(compare_runs_html(earlier, later)).text
    assert "The runs asked different questions: 5 and 9. They share 2;" in text
    assert "neither library nor settings" in text
    unrelated = save_run(tmp_path / "unrelated", [0.0], first_id=50, questions_digest="other")
    assert "no questions in common" in compare_runs_html(earlier, unrelated)


def test_comparison_highlights_better_and_worse_metrics(tmp_path):
    low, high = save_run(tmp_path / "low", [0.0] * 20), save_run(tmp_path / "high", [0.5] * 20)
    assert '<strong class="better">better</strong>' in compare_runs_html(low, high)
    assert '<strong class="worse">worse</strong>' in compare_runs_html(high, low)


def test_damaged_run_cannot_be_compared(tmp_path):
    earlier, later = save_run(tmp_path / "one", [0.0]), save_run(tmp_path / "two", [0.0])
    (later / "scores.json").write_text("{}")
    with pytest.raises(UsageError) as error:
        compare_runs_html(earlier, later)
    assert str(error.value).startswith("cannot compare these runs: two/scores.json is damaged")
