import csv
import json
import re
from itertools import pairwise

import pytest

from eval.harness.metrics import score
from eval.harness.questions import Nugget, Question
from eval.harness.replies import Footnote, Reply, Statement
from eval.harness.report import figures, page, write_report
from eval.harness.runs import Row, Run

CORPUS = {
    "p1": "It runs 58 times faster. It is small.",
    "p2": "Cats sleep. Nothing else is known.",
    "p3": "Dogs bark.",
}
HOSTILE = '<script>alert(1)</script> {{ 7 * 7 }} {% raw %} </details><img src="https://bad.example/x.png"> "\' &amp;'


def asked(name="a", answerable=True, **changed):
    facts = (Nugget("58 times", ("58 times", "58x"), ("58",), True),) if answerable else ()
    gold = (("p1",),) if answerable else ()
    fields = {
        "id": name, "split": "test", "kind": "base", "type": "fact" if answerable else "near_miss",
        "question": f"What about {name}?", "answerable": answerable, "gold": gold, "nuggets": facts,
    }  # fmt: skip
    return Question(**(fields | changed))


def quoting(text="It runs 58 times faster.", paper="p1", found=("p1", "p2"), confidence=0.9):
    footnotes = (Footnote(1, paper, text),)
    return Reply((Statement(text, "quoted", (1,)),), footnotes, tuple(found), confidence=confidence)


def silent(found=("p2", "p1"), confidence=0.1):
    return Reply(found=tuple(found), abstained=True, confidence=confidence)


def row(question, reply, seconds=0.5):
    return Row(question, reply, score(question, reply, CORPUS), seconds)


def run_of(about=None, groups=None, **systems):
    names = {name.replace("_", " "): rows for name, rows in systems.items()}
    known = {"as used": "used", "no language model": "ablation"}
    groups = groups or {name: known.get(name, "baseline") for name in names}
    about = {
        "questions": "my.jsonl",
        "split": "test",
        "papers": 3,
        "language_model": "none",
        "systems": groups,
    }
    return Run(about, CORPUS, {name: tuple(rows) for name, rows in names.items()}, groups)


@pytest.fixture(scope="module")
def small():
    """Four answerable questions (two right, one wrong, one not answered) and two that the library does not answer."""
    questions = [*map(asked, "abcd"), asked("x", answerable=False), asked("y", answerable=False)]
    wrong = quoting("Dogs bark.", "p3", found=("p3", "p2", "p1"), confidence=0.8)
    replies = [
        quoting(),
        quoting(),
        wrong,
        silent(),
        silent(),
        quoting("Cats sleep.", "p2", ("p2",), 0.7),
    ]
    always = [quoting("Dogs bark.", "p3", found=("p2",)) for _ in questions]
    return run_of(
        as_used=map(row, questions, replies),
        no_language_model=map(row, questions, replies),
        full_text_only=map(row, questions, always),
        never_answers=[row(question, Reply(abstained=True)) for question in questions],
    )


@pytest.fixture(scope="module")
def shown(small):
    return figures(small)


def test_the_headline_tells_what_can_be_worked_out_by_hand(shown):
    told = {one["name"]: one for one in shown["headline"]}
    assert {name: one["mean"] for name, one in told.items() if "mean" in one} == pytest.approx(
        {"facts": 2 / 4, "right paper": 2 / 3, "refused": 1 / 2, "answered": 3 / 4, "balance": 0.6},
        abs=1e-6,
    )
    assert (
        told["facts"]["n"],
        told["right paper"]["n"],
        told["refused"]["n"],
        told["balance"]["n"],
    ) == (4, 3, 2, 6)
    assert told["facts"]["low"] < 0.5 < told["facts"]["high"]
    # Four citations and no fault: with 95 % confidence at most 3 of 4 are.
    assert (told["invalid citations"]["count"], told["invalid citations"]["n"]) == (0, 4)
    assert told["invalid citations"]["bound"] == 0.75


def test_the_page_shows_the_figures_of_the_headline(small, tmp_path):
    text = plain(write_report(small, tmp_path).read_text(encoding="utf-8"))
    for words in ("50 % of the facts", "67 % cite a right paper", "50 % rightly refused", "75 % answered",
                  "60 % both at once", "0 invalid citations of 4 citations"):  # fmt: skip
        assert words in text
    assert "6 questions (split “test” of my.jsonl) put to a library of 3 papers" in text
    assert "The library answers 4 of them and does not answer 2." in text


def plain(html):
    """The text of a page as a reader sees it."""
    body = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.S).replace("&nbsp;", " ")
    return " ".join(body.split())


def test_the_json_holds_the_same_figures(small, shown, tmp_path):
    write_report(small, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == shown


def test_a_difference_is_taken_to_the_assistant_and_its_p_is_adjusted(shown):
    cell = shown["table"]["cells"]["worth"]["never answers"]
    # As used: 1, 1, -1, 0 and 1, -1; who never answers: 0, 0, 0, 0 and 1, 1.
    assert cell["mean"] == pytest.approx(2 / 6, abs=1e-6)
    assert cell["difference"]["mean"] == pytest.approx((2 - 1) / 6, abs=1e-6)
    assert cell["difference"]["p"] <= cell["difference"]["holm"] <= 1
    assert shown["table"]["cells"]["worth"]["as used"]["difference"] is None


def test_a_trivial_rival_that_wins_a_gated_metric_is_told_of(small, shown):
    gates = {gate["metric"]: gate for gate in shown["gates"]}
    assert gates["worth"]["wins"] == ["never answers"]
    assert "A trivial rival wins worth:" in plain(page(shown))


def test_who_is_told_the_right_papers_is_no_trivial_rival():
    wrong, right = [row(asked(), silent())], [row(asked(), quoting())]
    gates = figures(run_of(as_used=wrong, given_the_right_papers=right, never_answers=wrong))[
        "gates"
    ]
    assert [(gate["best"], gate["wins"]) for gate in gates] == [("never answers", [])]


def test_recall_rises_at_the_rank_at_which_a_paper_was_found(shown):
    # Found at ranks 1, 1, 3 and 2.
    assert shown["recall"]["as used"][:4] == [0.5, 0.75, 1.0, 1.0]
    assert len(shown["recall"]["as used"]) == 100
    assert shown["recall"]["full text only"] == [0.0] * 100


def test_the_operating_point_is_what_was_answered_and_lost(shown):
    answerable, every = shown["risk"]["answerable"], shown["risk"]["all"]
    assert answerable["operating"] == pytest.approx({"coverage": 3 / 4, "risk": 1 / 3}, abs=1e-6)
    assert every["operating"] == pytest.approx({"coverage": 4 / 6, "risk": 2 / 4}, abs=1e-6)
    # Surest first the losses are 0 0 (alike), 1, 1: risks 0 twice, then 1/3 and 1/2.
    assert answerable["curve"] == [[0.5, 0.0], [0.75, pytest.approx(1 / 3, abs=1e-6)], [1.0, 0.5]]
    assert answerable["aurc"] == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4, abs=1e-6)


def test_answering_is_counted_against_what_the_library_answers(shown):
    nothing = {"corrected": 0, "failed": 0}
    assert shown["confusion"]["answerable"] == nothing | {"answered": 3, "abstained": 1}
    assert shown["confusion"]["unanswerable"] == nothing | {"answered": 1, "abstained": 1}


def test_differences_per_question_are_sorted_and_counted(shown):
    assert shown["paired"]["no language model"]["gains"] == [0.0] * 6
    rival = shown["paired"]["never answers"]
    assert rival["gains"] == [1.0, 1.0, 0.0, 0.0, -1.0, -2.0]
    assert (rival["better"], rival["same"], rival["worse"]) == (2, 2, 2)


def test_types_have_the_means_of_their_own_questions(shown):
    means = {
        one["name"]: (one["n"], one["means"]["facts"], one["means"]["refused"])
        for one in shown["types"]
    }
    assert means == {"fact": (4, 0.5, None), "near_miss": (2, None, 0.5)}


def test_variants_are_compared_with_their_base_question():
    base = asked("a")
    typo, keyword = (asked(f"a-{kind}", kind=kind, variant_of="a") for kind in ("typo", "keyword"))
    rows = [
        row(base, quoting(found=("p1", "p2"))),
        row(typo, silent(("p2", "p3"))),
        row(keyword, quoting()),
    ]
    told = {one["kind"]: one for one in figures(run_of(as_used=rows))["robustness"]}
    assert list(told) == ["typo", "keyword"]
    assert told["typo"]["drop"]["mean"] == 1.0
    assert told["typo"]["worst"] == {"drop": 1.0, "id": "a-typo"}
    assert (told["typo"]["flipped"], told["keyword"]["flipped"]) == (1.0, 0.0)
    assert told["typo"]["overlap"] == pytest.approx(1 / 3, abs=1e-6)
    assert told["keyword"]["overlap"] == 1.0


def test_follow_ups_tell_who_got_them_alone():
    question = asked(kind="followup", history=("What about before?",))
    told = figures(
        run_of(as_used=[row(question, quoting())], dense_only=[row(question, silent())])
    )["followups"]
    assert [(one["system"], one["alone"], one["cells"]["facts"]["mean"]) for one in told] == [
        ("as used", False, 1.0),
        ("dense only", True, 0.0),
    ]


def test_every_miss_is_put_down_to_something(shown):
    told = {one["name"]: one["count"] for one in shown["blame"]["misses"]}
    assert told == {"not read": 1, "should not have abstained": 1, "should have abstained": 1}
    assert (shown["blame"]["good"], shown["blame"]["all"]) == (3, 6)


def test_the_worst_come_first_and_of_them_the_surest(shown):
    assert [one["id"] for one in shown["worst"]] == ["c", "y", "d"]
    worst = shown["worst"][0]
    assert worst["facts"] == [{"text": "58 times", "vital": True, "said": False}]
    assert [(paper["id"], paper["rank"]) for paper in worst["papers"][0]] == [("p1", 3)]
    assert [(paper["id"], paper["wanted"]) for paper in worst["found"]] == [
        ("p3", False),
        ("p2", False),
        ("p1", True),
    ]


def test_what_must_be_0_is_counted_and_called_a_broken_promise():
    stray = Reply(
        (Statement("It runs 58 times faster.", "quoted", (1, 2)),),
        (Footnote(1, "p9", "It", literal=False),),
    )
    shown = figures(run_of(as_used=[row(asked(), stray)]))
    assert shown["zeros"]["as used"] == {
        "invalid citations": 2.0,
        "quotations not literal": 1.0,
        "sentences without footnote": 0.0,
    }
    assert "This breaks a promise." in plain(page(shown))


def test_rows_that_failed_are_shown_first_with_their_error():
    rows = [row(asked("a"), Reply(error="the model <b>died</b>")), row(asked("b"), silent())]
    shown = figures(run_of(as_used=rows))
    text = page(shown)
    assert shown["failed"][0]["error"] == "the model <b>died</b>"
    assert [one["id"] for one in shown["worst"]] == ["b"]
    assert "1 row failed" in plain(text)
    assert text.index("the model &lt;b&gt;died&lt;/b&gt;") < text.index('class="miss"')
    assert "1 row failed and is in neither column" in plain(text)


def hostile_run(name=HOSTILE):
    corpus = {HOSTILE: HOSTILE * 3}
    question = asked(
        HOSTILE, question=HOSTILE, history=(HOSTILE,), kind="followup", gold=((HOSTILE,),),
        nuggets=(Nugget(HOSTILE, ("58",), (), True),),
    )  # fmt: skip
    said = Reply(
        (Statement(HOSTILE, "quoted", (1,)),),
        (Footnote(1, HOSTILE, HOSTILE),),
        (HOSTILE,),
        rewritten_query=HOSTILE,
    )
    rows = [Row(one, reply, score(one, reply, corpus), 0.1)
            for one, reply in ((question, said), (question, Reply(error=HOSTILE)))]  # fmt: skip
    about = {
        "questions": HOSTILE,
        "split": HOSTILE,
        "papers": 1,
        "language_model": HOSTILE,
        "style": HOSTILE,
    }
    return Run(
        about,
        corpus,
        {"as used": tuple(rows), name: tuple(rows)},
        {"as used": "used", name: "baseline"},
    )


def test_the_text_of_strangers_stays_text():
    text = page(figures(hostile_run()))
    assert "&lt;script&gt;alert(1)&lt;/script&gt; {{ 7 * 7 }}" in text
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("<details") == text.count("</details>")


def test_the_page_runs_nothing_and_refers_to_nobody():
    text = page(figures(hostile_run()))
    tags = re.findall(r"<[a-z][^>]*>", text)
    references = [
        link
        for tag in tags
        for link in re.findall(r'\s(?:href|src|srcset|action|data)="([^"]*)"', tag)
    ]
    assert {link for link in references if not link.startswith("#")} == {
        "report.json",
        "report.csv",
    }
    assert not [tag for tag in tags if re.search(r"\s(on[a-z]+|style)=", tag)]
    assert "url(" not in text.partition("</style>")[0]
    assert "default-src 'none'; style-src 'sha256-" in text


def test_headings_are_in_order_and_every_table_and_plot_has_words(shown):
    text = page(shown)
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert text.count("<table") == text.count("<caption") > 5
    assert len(
        re.findall(r'<svg class="plot"[^>]*role="img" aria-label="[^"]+"', text)
    ) == text.count('class="plot"')


def test_twice_written_it_is_the_same_but_for_the_seconds(small, tmp_path):
    slower = run_of(**{
        name.replace(" ", "_"): [Row(one.question, one.reply, one.scores, one.seconds * 7) for one in rows]
        for name, rows in small.rows.items()
    })  # fmt: skip
    folders = [tmp_path / name for name in ("one", "two", "slower")]
    for run, folder in zip((small, small, slower), folders, strict=True):
        write_report(run, folder)
    for name in ("report.html", "report.json", "report.csv"):
        one, two = ((folder / name).read_bytes() for folder in folders[:2])
        assert one == two
    assert (folders[0] / "report.csv").read_bytes() == (folders[2] / "report.csv").read_bytes()
    before, after = (without_seconds(folder) for folder in (folders[0], folders[2]))
    assert before == after
    assert (folders[0] / "report.html").read_bytes() != (folders[2] / "report.html").read_bytes()


def without_seconds(folder):
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert told.pop("seconds")
    html = (folder / "report.html").read_text(encoding="utf-8")
    rest, count = re.subn(r'<section id="seconds".*?</section>', "", html, flags=re.S)
    assert count == 1
    return told, rest


def test_the_csv_has_a_row_for_each_question_and_system(small, tmp_path):
    write_report(small, tmp_path)
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 6
    first, third = rows[0], rows[2]
    assert (first["system"], first["id"], first["split"], first["kind"], first["type"]) == (
        "as used", "a", "test", "base", "fact",
    )  # fmt: skip
    assert (float(first["facts"]), first["refused"], first["blame"]) == (1.0, "", "")
    assert (third["blame"], third["abstained"], float(third["confidence"])) == (
        "not read",
        "0",
        0.8,
    )


def test_seconds_have_median_and_95th_percentile():
    took = [0.1, 0.2, 0.3, 0.4, 1.4]
    rows = [row(asked(str(number)), quoting(), seconds) for number, seconds in enumerate(took)]
    told = figures(run_of(as_used=rows))["seconds"]["as used"]
    # The 95th percentile lies 0.8 of the way from the fourth to the fifth.
    assert told == {"median": 0.3, "p95": 1.2, "total": 2.4, "sorted": took}


def test_a_metric_of_a_user_is_in_the_table():
    question, reply = asked(), quoting()
    own = Row(question, reply, {"politeness": 0.25}, 0.1)
    shown = figures(run_of(as_used=[own], never_answers=[own]))
    assert shown["table"]["cells"]["politeness"]["as used"]["mean"] == 0.25
    assert "politeness" in page(shown)


@pytest.mark.parametrize(
    "rows", [[], [row(asked(), quoting())], [row(asked(answerable=False), silent())]]
)
def test_a_run_of_the_assistant_alone_has_a_page(rows):
    text = plain(page(figures(run_of(as_used=rows))))
    assert "Only the assistant itself was asked" in text
    assert "No follow-up was asked." in text
    assert "No variant was asked together with its base question." in text


def test_a_system_that_was_not_reached_yet_has_no_figures():
    shown = figures(run_of(as_used=[row(asked(), quoting())], never_answers=[]))
    assert shown["table"]["cells"]["facts"]["never answers"] is None
    assert "No trivial rival was asked" in plain(page(shown))
