"""The tab "Evals": runs go on in the background, stop and are taken up again; what came of them is told in words."""

import asyncio
import json
import shutil
import threading
from datetime import UTC, datetime
from html.parser import HTMLParser

import gradio
import pytest

from eval.harness.comparison import Compared, Scored, save_scores
from rag import Assistant, UsageError
from ui.services.evaluations import (
    Evaluations,
    Job,
    Pace,
    State,
    asks,
    kept_runs,
    number,
    own_questions,
)
from ui.services.library_registry import LibraryRegistry
from ui.tabs.evals import (
    comparison_html,
    evals_tab,
    frame_html,
    look_html,
    progress_html,
    state_html,
    summary_html,
    verdict,
)

HOSTILE = (
    "<script>alert(1)</script> ${alert(42)} {{constructor}} </iframe> \"'> <img src=https://evil.example/x "
    "onerror=alert(1)> <a href='javascript:alert(1)'>press</a>"
)
FACT = {
    "id": "kv", "split": "dev", "kind": "base", "type": "fact", "answerable": True,
    "question": "How much does the KV cache shrink with Sliding Ledgers?",
    "gold": [["sliding-ledgers-shrinking-the-ef3e7d"]],
    "nuggets": [{"text": "71%", "any": ["71% on average"], "numbers": ["71"], "vital": True}],
}  # fmt: skip
FOREIGN = FACT | {
    "id": "cup", "type": "foreign", "answerable": False, "question": f"Who won the football cup? {HOSTILE}",
    "gold": [], "nuggets": [],
}  # fmt: skip
MISSED = FACT | {
    "id": "fast",
    "nuggets": [{"text": HOSTILE, "any": ["71% on average"], "numbers": ["99"]}],
}
JOB = Job(library="here", library_name="physics", split="dev", style="quote")


class Held(Assistant):
    """An assistant that waits with its second answer until it may go on."""

    def ask(self, question, **options):
        self.asked += 1
        if self.asked == 2:
            self.reached.set()
            assert self.may_go.wait(30)
        return super().ask(question, **options)


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture
def held(small_library):
    assistant = Held.open(small_library, language_model="none")
    assistant.asked, assistant.reached, assistant.may_go = 0, threading.Event(), threading.Event()
    return assistant


def file_of(folder, rows, name="mine.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return file_of(tmp_path_factory.mktemp("questions"), [FACT, FOREIGN, MISSED])


def ended(evaluations):
    """All states of the run at work, until it has ended."""

    async def watched():
        return [state async for state in evaluations.watch()]

    return asyncio.run(watched())


@pytest.fixture(scope="module")
def one_run(quoting, questions, tmp_path_factory):
    """A folder with one finished run, for reading only."""
    folder = tmp_path_factory.mktemp("runs")
    evaluations = Evaluations(folder, lambda job: quoting)
    evaluations.start(JOB, questions)
    assert ended(evaluations)[-1].message.endswith("is done.")
    return folder


@pytest.fixture
def runs(one_run, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(one_run, tmp_path / "runs")


def only(folder):
    (kept,) = kept_runs(folder)
    return kept


# --- running -----------------------------------------------------------------------------------------------------


def test_a_run_of_own_questions_is_kept_with_its_report(one_run, questions):
    kept = only(one_run)
    path = one_run / kept.name
    # Worth: all of the facts, rightly refused, and none of the facts.
    assert (kept.state, kept.worth) == ("finished", pytest.approx(1 / 3))
    assert kept.label.endswith("· worth 0.33 · dev, 3 questions · physics")
    assert (path / "report.html").exists()
    assert (path / "questions" / "mine.jsonl").read_bytes() == questions.read_bytes()
    assert not kept.can_go_on


def test_what_is_wanted_becomes_the_plan_of_the_run(tmp_path):
    plan = Job(questions="mine.jsonl", split="all", style="write", every=3, rivals=True).plan(
        tmp_path
    )
    assert (plan.questions, plan.split, plan.style) == (
        tmp_path / "questions" / "mine.jsonl",
        "all",
        "write",
    )
    assert (plan.every, plan.only) == (3, ())
    assert Job().plan(tmp_path).only == ("as used",)
    assert Job().plan(tmp_path).questions.name == "sample.jsonl"


def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_been_stopped(
    held, quoting, questions, one_run, tmp_path
):
    folder = tmp_path / "runs"
    evaluations = Evaluations(folder, lambda job: held)
    evaluations.start(JOB, questions)
    assert held.reached.wait(30)
    assert (evaluations.state.working, evaluations.state.done, evaluations.state.total) == (
        True,
        1,
        3,
    )
    evaluations.stop()
    assert evaluations.state.stopping
    held.may_go.set()
    assert "was stopped" in ended(evaluations)[-1].message
    kept = only(folder)
    assert (kept.state, kept.replies, kept.can_go_on) == ("unfinished", 2, True)
    assert kept.label.endswith("· unfinished · dev, 3 questions · physics")
    assert "2 replies are kept" in state_html(kept, at_work=False)
    after_a_restart = Evaluations(folder, lambda job: quoting)
    after_a_restart.go_on(kept.name)
    assert not ended(after_a_restart)[-1].failed
    for name in ("replies.jsonl", "scores.json", "run.json"):
        assert (folder / kept.name / name).read_bytes() == (
            one_run / only(one_run).name / name
        ).read_bytes()


def test_one_run_is_at_work_at_a_time_over_all_processes(held, questions, tmp_path):
    folder = tmp_path / "runs"
    evaluations, elsewhere = (Evaluations(folder, lambda job: held) for _ in range(2))
    evaluations.start(JOB, questions)
    assert held.reached.wait(30)
    for other in (evaluations, elsewhere):
        with pytest.raises(UsageError, match="at work already"):
            other.start(JOB, questions)
    kept = only(folder)
    assert evaluations.is_at_work(kept)
    assert "at work" in state_html(kept, at_work=True)
    with pytest.raises(UsageError, match="stop it first"):
        evaluations.delete(kept.name)
    held.may_go.set()
    states = ended(evaluations)
    assert [state.working for state in states[-2:]] == [True, False]
    elsewhere.start(JOB, questions)
    assert not ended(elsewhere)[-1].failed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "q1"}', "mine.jsonl, line 1: without answerable"),
        (json.dumps(FACT) + "\nnonsense", "mine.jsonl, line 2: no JSON"),
        ("\n".join([json.dumps(FACT)] * 2), "mine.jsonl: two questions are called kv"),
        ("", "mine.jsonl holds no questions"),
        ("[" * 100_000, "mine.jsonl is nested too deeply"),
        (
            json.dumps(FACT | {"question": "What is \ud800?"}),
            "mine.jsonl holds bytes that are no text",
        ),
        (json.dumps(FACT | {"split": "test"}), "no questions of the split “dev”"),
    ],
)
def test_a_faulty_file_is_told_by_its_first_fault_and_nothing_is_run(tmp_path, text, said):
    file = tmp_path / "mine.jsonl"
    file.write_text(text, encoding="utf-8")
    evaluations = Evaluations(tmp_path / "runs", lambda job: pytest.fail("an assistant was opened"))
    with pytest.raises(UsageError) as error:
        evaluations.start(JOB, file)
    assert said in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert kept_runs(tmp_path / "runs") == []
    assert evaluations.state == State()


def test_a_file_that_is_too_large_or_gone_is_refused(tmp_path):
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(20_000_001)
    for path, said in ((large, "at most 20 MB"), (tmp_path / "gone.jsonl", "gone.jsonl")):
        with pytest.raises(UsageError, match=said):
            own_questions(path)


def test_questions_that_do_not_fit_the_library_end_the_run_in_words_and_leave_nothing(
    quoting, tmp_path
):
    evaluations = Evaluations(tmp_path / "runs", lambda job: quoting)
    evaluations.start(JOB, file_of(tmp_path, [FACT | {"gold": [["nobody"]]}]))
    state = ended(evaluations)[-1]
    assert state.failed
    assert state.message.endswith(
        "was not begun: mine.jsonl: question kv: no paper 'nobody' in the library."
    )
    assert kept_runs(tmp_path / "runs") == []


def test_a_bug_is_told_and_the_next_run_can_begin(quoting, questions, tmp_path, caplog):
    outcomes = iter([RuntimeError("the roof fell in"), None])

    def assistant_of(job):
        if error := next(outcomes):
            raise error
        return quoting

    evaluations = Evaluations(tmp_path / "runs", assistant_of)
    evaluations.start(JOB, questions)
    assert (
        "Footnote itself failed (RuntimeError: the roof fell in)" in ended(evaluations)[-1].message
    )
    assert "an evaluation in the page" in caplog.text
    evaluations.start(JOB, questions)
    assert not ended(evaluations)[-1].failed


def test_what_a_run_would_ask_is_told_before_it_begins(questions):
    # 258 of the curated questions are of the split "test".
    assert asks(Job(every=10), None).startswith(
        "26 curated questions for the assistant. They are about the sample"
    )
    told = asks(
        Job(library="here", library_name="physics", questions="mine.jsonl", split="all", every=2),
        questions,
    )
    assert told == "2 questions of mine.jsonl for the assistant, put to the library “physics”."
    assert "its rivals" in asks(Job(rivals=True), None)
    with pytest.raises(UsageError, match="choose a file"):
        asks(JOB, None)


# --- how long it takes -------------------------------------------------------------------------------------------

ABOUT = {"count": 10, "language_model": "bundled", "systems": {"as used": "used"}}


def test_the_time_left_follows_from_the_pace_after_the_first_row_which_loads_the_models():
    pace = Pace(ABOUT, known=0)
    assert pace.left(0, "as used", 100.0) is None
    assert pace.left(1, "as used", 160.0) is None
    assert pace.left(2, "as used", 162.0) == pytest.approx(8 * 2)
    assert pace.left(3, "as used", 164.0) == pytest.approx(7 * 2)


def test_rows_that_are_there_already_do_not_count_as_fast():
    pace = Pace(ABOUT, known=4)
    assert [pace.left(done, "as used", 50.0) for done in range(5)] == [None] * 5
    assert pace.left(5, "as used", 53.0) is None
    assert pace.left(6, "as used", 56.0) == pytest.approx(4 * 3)


def test_rivals_are_known_to_be_faster_than_the_assistant():
    pace = Pace(ABOUT | {"systems": {"as used": "used", "dense only": "baseline"}}, known=0)
    assert [pace.left(done, "as used", 2.0 * done) for done in range(2)] == [None] * 2
    # Eight rows of the assistant are left, and ten of a rival at 0.03 of its time.
    assert pace.left(2, "as used", 4.0) == pytest.approx((8 + 10 * 0.03) * 2)


def test_the_pace_is_that_of_the_last_seconds():
    pace = Pace(ABOUT, known=0)
    for done, now in ((0, 0.0), (1, 0.0), (2, 500.0), (3, 510.0), (4, 520.0)):
        left = pace.left(done, "as used", now)
    assert left == pytest.approx(6 * 10)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State("r", working=True), "Getting models and questions ready"),
        (
            State("r", working=True, done=1, total=2600, system="as used"),
            "1 of 2,600 questions asked. At work: the assi",
        ),
        (
            State("r", working=True, done=1, total=9, system="dense only", left=41.0),
            "asked, about 40 s left. At work: “d",
        ),
        (
            State("r", working=True, done=1, total=9, system="dense only", left=1.0),
            "about 5 s left",
        ),
        (
            State("r", working=True, done=1, total=9, system="dense only", left=200.0),
            "about 3 min left",
        ),
        (State("r", working=True, done=9, total=9), "making the report"),
        (
            State("r", working=True, stopping=True, done=1, total=9, system="as used"),
            "Stopping after the question",
        ),
        (State("r", message="The <run> is done."), "The &lt;run&gt; is done."),
        (State("r", message="It broke off.", failed=True), 'class="problem"'),
    ],
)
def test_progress_is_told_in_words(state, said):
    html = progress_html(state)
    assert said in html
    assert ("<progress aria-label=" in html) == state.working


def test_without_any_run_there_is_nothing_to_tell():
    assert progress_html(State()) == ""


# --- the list ----------------------------------------------------------------------------------------------------


def test_the_newest_run_comes_first(runs):
    older = shutil.copytree(runs / only(runs).name, runs / "older")
    job = json.loads((older / "job.json").read_text())
    (older / "job.json").write_text(json.dumps(job | {"started": "2020-02-03T04:05:06+00:00"}))
    newest, oldest = kept_runs(runs)
    assert oldest.name == "older"
    assert oldest.started == datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert "Feb 2020" in oldest.label
    assert newest.name != "older"


def test_a_run_that_was_not_begun_here_can_be_looked_at_but_not_go_on(runs):
    path = runs / only(runs).name
    (path / "job.json").unlink()
    kept = only(runs)
    assert (kept.state, kept.can_go_on) == ("finished", False)
    assert kept.label.endswith("dev, 3 questions · 12 papers")
    (path / "report.html").unlink()
    assert "not begun here" in state_html(only(runs), at_work=False)
    with pytest.raises(UsageError, match="cannot go on"):
        Evaluations(runs, lambda job: None).go_on(kept.name)


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
            b'{"about": {}, "rows": [{"id": "a", "cluster": "a", "scores": 5, "failed": false}]}',
        ),
        (
            "scores.json",
            b'{"about": {}, "rows": [{"id": "a", "cluster": "a", "scores": {"worth": "x"}, "failed": 0}]}',
        ),
    ],
)
def test_a_damaged_run_is_in_the_list_as_damaged_beside_the_others(runs, file, content):
    whole = only(runs)
    shutil.copytree(runs / whole.name, runs / "broken")
    (runs / "broken" / file).write_bytes(content)
    kept = next(kept for kept in kept_runs(runs) if kept.name == "broken")
    assert kept.state == "damaged"
    assert "damaged" in kept.label
    assert "This run is damaged: " in state_html(kept, at_work=False)
    assert kept.can_go_on == (file == "scores.json"), "what is not known any more cannot be asked"
    assert [one.state for one in kept_runs(runs) if one.name == whole.name] == ["finished"]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"about": 1}', b"\xff"])
def test_a_damaged_report_is_told_of(runs, content):
    path = runs / only(runs).name
    (path / "report.json").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        look_html(path)


def test_a_damaged_run_goes_on_to_a_new_report(runs, quoting):
    path = runs / only(runs).name
    before = (path / "scores.json").read_bytes()
    (path / "scores.json").write_text("{}")
    evaluations = Evaluations(runs, lambda job: quoting)
    evaluations.go_on(path.name)
    assert not ended(evaluations)[-1].failed
    assert (path / "scores.json").read_bytes() == before


def test_folders_that_hold_no_run_are_passed_over(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("hello")
    assert kept_runs(tmp_path) == []
    assert kept_runs(tmp_path / "nowhere") == []


def test_a_deleted_run_is_gone(runs):
    evaluations = Evaluations(runs, lambda job: None)
    name = only(runs).name
    evaluations.delete(name)
    assert not (runs / name).exists()
    assert evaluations.listed() == []
    for gone in (name, "", "..", "../.."):
        with pytest.raises(UsageError, match="no longer here"):
            evaluations.delete(gone)


# --- looking -----------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_headline_metrics_stand_above_the_report(one_run):
    summary, _ = look_html(one_run / only(one_run).name)
    told = Tags(summary).text
    assert (
        "3 questions (split dev of mine.jsonl); 12 papers, language model none, style quote."
        in told
    )
    for line in (
        "right paperOf the",
        "1.001.00 to 1.002",
        "worthWhat a reply",
        "0.33−1.00 to 1.003",
    ):
        assert line in told


def test_the_worst_answers_say_what_was_expected_said_and_is_to_blame(one_run):
    summary, _ = look_html(one_run / only(one_run).name)
    told = Tags(summary).text
    assert told.count("To blame") == 1
    assert f"Expected{HOSTILE}" in told
    assert "The KV cache shrinks by 71% on average" in told
    assert "not in the library. The papers that should answer do not hold every fact" in told


def test_an_unanswered_question_is_told_as_such(one_run):
    report = json.loads((one_run / only(one_run).name / "report.json").read_text(encoding="utf-8"))
    missed = report["worst"][0] | {"abstained": True, "history": ["What is it?"]}
    false = missed | {"answerable": False, "facts": [{"text": "71%", "vital": True, "said": False}]}
    told = Tags(
        summary_html(report | {"worst": [missed, false], "failed": [{"error": "no <memory>"}]})
    ).text
    assert "After: What is it?" in told
    assert "SaidYour library does not say." in told
    assert "ExpectedYour library does not say; or a correction: 71%" in told
    assert "1 reply failed; the first: no <memory>" in told
    assert "missed anything" in summary_html(report | {"worst": []})


def test_the_text_of_strangers_stays_text(one_run):
    summary, frame = look_html(one_run / only(one_run).name)
    assert {tag for tag, _ in Tags(summary).found} <= set(
        "div p table caption thead tbody tr th td br small strong section h3 ol li dl dt dd".split()
    )
    (section, heading, (tag, attributes)) = Tags(frame).found
    assert (section[0], heading[0], tag) == ("section", "h3", "iframe")
    assert attributes["sandbox"] == ""
    assert not [name for name in attributes if name.startswith("on") or name == "src"]
    inside = Tags(attributes["srcdoc"])
    assert not [tag for tag, _ in inside.found if tag in ("script", "img", "iframe")]
    assert "alert(42)" in inside.text


def test_links_in_the_frame_stay_in_it():
    page = '<a href="#risk">Risk</a> <a href="report.json">figures</a> <a href="https://evil.example">x</a>'
    (_, _, (_, attributes)) = Tags(frame_html(page)).found
    assert attributes["srcdoc"] == '<a href="about:srcdoc#risk">Risk</a> figures x'


@pytest.mark.parametrize(
    ("value", "signed", "said"),
    [(0.694, False, "0.69"), (-1.0, False, "−1.00"), (0.5, True, "+0.50"), (-0.001, True, "0.00")],
)
def test_numbers_have_two_digits_and_a_true_minus(value, signed, said):
    assert number(value, signed) == said


# --- comparing ---------------------------------------------------------------------------------------------------


def scored(folder, name, worth, start=0, **about):
    (folder / name).mkdir()
    rows = [
        Scored(f"q{n}", f"q{n}", {"worth": value, "facts": 0.5}, False)
        for n, value in enumerate(worth, start)
    ]
    save_scores(
        folder / name / "scores.json", {"questions_digest": "d", "style": "auto"} | about, rows
    )
    return folder / name


def test_two_runs_are_compared_in_words(tmp_path):
    html = comparison_html(
        scored(tmp_path, "one", [0.0] * 20), scored(tmp_path, "two", [0.5] * 20, style="quote")
    )
    told = Tags(html).text
    assert "Both runs asked the same 20 questions." in told
    assert "What changed: style: auto, then quote." in told
    assert "worth200.000.50+0.50+0.50 to +0.50under 0.001better" in told
    assert "facts200.500.500.000.00 to 0.001.000no clear difference" in told


def test_runs_on_different_questions_are_compared_on_those_they_share(tmp_path):
    one = scored(tmp_path, "one", [0.0] * 5)
    told = Tags(
        comparison_html(one, scored(tmp_path, "two", [0.0] * 9, start=3, questions_digest="other"))
    ).text
    assert (
        "The runs asked different questions: 5 and 9. They share 2; only those are compared."
        in told
    )
    assert "neither library nor settings" in told
    other = scored(tmp_path, "three", [0.0], start=50, questions_digest="other")
    assert "no question in common" in comparison_html(one, other)


def test_runs_of_which_one_is_damaged_cannot_be_compared(tmp_path):
    one, other = scored(tmp_path, "one", [0.0]), scored(tmp_path, "two", [0.0])
    (other / "scores.json").write_text("{}")
    with pytest.raises(UsageError) as error:
        comparison_html(one, other)
    assert str(error.value).startswith(
        "These runs cannot be compared: two/scores.json cannot be read as a run"
    )


@pytest.mark.parametrize(
    ("metric", "difference", "p", "said"),
    [
        ("worth", 0.2, 0.01, "better"),
        ("worth", -0.2, 0.01, "worse"),
        ("worth", 0.2, 0.05, "no clear difference"),
        ("invalid citations", 1.0, 0.01, "worse"),
        ("contradicted", -0.1, 0.01, "better"),
        ("words", 12.0, 0.01, "higher"),
        ("words", -12.0, 0.01, "lower"),
    ],
)
def test_what_a_difference_means_depends_on_the_metric(metric, difference, p, said):
    line = Compared(metric, 9, 0.0, difference, difference, difference, difference, p, p)
    assert Tags(verdict(line)).text == said


# --- the tab -----------------------------------------------------------------------------------------------------


def test_the_tab_is_built_with_private_events_and_labels(small_library, one_run):
    shelf = LibraryRegistry(
        [small_library], lambda folder, model: Assistant.open(folder, language_model="none")
    )
    with gradio.Blocks(analytics_enabled=False) as page:
        library = gradio.Dropdown(shelf.libraries, label="Library")
        with gradio.Tab("Evals"):
            evals_tab(shelf, library, one_run)
    config = page.get_config_file()
    assert len(config["dependencies"]) > 9
    assert {event["api_visibility"] for event in config["dependencies"]} == {"private"}
    asked = ("radio", "dropdown", "file", "checkbox")
    assert all(part["props"]["label"] for part in config["components"] if part["type"] in asked)
