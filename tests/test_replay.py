"""A saved answer asked again: what is told to be different is different, and a file that is no answer is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import PAPERS
from fakes import HashEmbedder
from hypothesis import given
from hypothesis import strategies as st

from rag import (
    Answer,
    Assistant,
    Citation,
    Claim,
    FootnoteError,
    Hit,
    Library,
    Paper,
    Passage,
    Trace,
)
from rag.output.replay import Replay, compare, lost_quotations, read_answer, replay

QUESTION = "Which papers shrink the KV cache, and by how much?"
FOREIGN = "Who won the football world cup?"
SHRINKS = "The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only."

GATES = Paper("Tidal Gates", "Gates open twice a day. They save power.", id="tidal-gates-1")
OWLS = Paper("Night Owls", "Owls hunt at dusk.", id="night-owls-2")
TRACE = Trace(
    "tiny", "none", "quote", "abc", "0123", settings={"style": "auto"}, seconds={"read": 0.5}
)
NUMBERED = {
    1: (GATES, "Gates open twice a day."),
    2: (GATES, "They save power."),
    3: (OWLS, "Owls hunt at dusk."),
}


def footnote_of(number):
    paper, quote = NUMBERED[number]
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def said(text, *numbers):
    return Claim(text, "generated", numbers, True, 0.5)


def answer_of(*claims, **fields):
    """An answer of these claims; the text is put together as the assistant does it."""
    numbers = sorted({number for claim in claims for number in claim.citations})
    text = " ".join(
        claim.text + "".join(f" [{number}]" for number in claim.citations) for claim in claims
    )
    hits = tuple(
        Hit(paper, 0.9, rank, Passage("p", paper.id, 0, 9))
        for rank, paper in enumerate([GATES, OWLS], start=1)
    )
    citations = tuple(footnote_of(number) for number in numbers)
    answer = Answer("When do gates open?", text, claims, citations, hits, False, "", 0.87654, TRACE)
    return replace(answer, **fields)


TWICE, POWER, DUSK = said("Twice a day.", 1), said("They save power.", 2), said("At dusk.", 3)
THEN = answer_of(TWICE, POWER)


def saved(answer):
    return read_answer(answer.to_json())


def changes(now, then=THEN):
    return [(change.what, change.then, change.now) for change in compare(saved(then), now)]


def lines(now, then=THEN):
    return [str(change) for change in compare(saved(then), now)]


# --- what is different ------------------------------------------------------------------------------------------


def test_an_answer_is_the_same_as_itself_whatever_time_it_took():
    slower = replace(TRACE, seconds={"read": 9.0}, tokens={"reply": 7})
    assert changes(answer_of(TWICE, POWER, trace=slower)) == []


def test_claims_come_and_go():
    assert changes(answer_of(TWICE, DUSK)) == [
        ("claim removed", "They save power.", None),
        ("claim added", None, "At dusk."),
    ]
    assert lines(answer_of(TWICE, DUSK)) == [
        "no longer said: “They save power.”",
        "said only now: “At dusk.”",
    ]


def test_another_sentence_on_the_same_footnote_is_reworded():
    now = answer_of(said("Two times daily.", 1), POWER)
    assert changes(now) == [("claim reworded", "Twice a day.", "Two times daily.")]
    assert lines(now) == ["worded otherwise: “Twice a day.” then, “Two times daily.” now"]


def test_the_same_sentence_on_another_footnote_is_told_with_both():
    now = answer_of(said("Twice a day.", 3), POWER)
    assert lines(now) == [
        "cited otherwise: “Twice a day.” [“Gates open twice a day.”] then, “Twice a day.” [“Owls hunt at dusk.”] now"
    ]


def test_a_footnote_more_under_the_same_sentence_is_a_change():
    assert [what for what, *_ in changes(answer_of(said("Twice a day.", 1, 3), POWER))] == [
        "claim cites otherwise"
    ]


def test_the_order_of_the_claims_is_a_change_of_the_text_alone():
    assert changes(answer_of(POWER, TWICE)) == [
        ("text", "Twice a day. [1] They save power. [2]", "They save power. [2] Twice a day. [1]")
    ]


def test_a_written_sentence_that_is_quoted_now_is_a_change_of_the_text():
    quoted = answer_of(TWICE, POWER, text="“Twice a day.” [1] They save power. [2]")
    assert [what for what, *_ in changes(quoted)] == ["text"]


def test_numbers_are_compared_but_in_a_conversation():
    conversation = replace(TRACE, rewritten_query="When do tidal gates open?")
    then = answer_of(said("At dusk.", 3), said("Twice a day.", 1), trace=conversation)
    renumbered = replace(
        answer_of(text="At dusk. [1] Twice a day. [2]"),
        claims=(said("At dusk.", 1), said("Twice a day.", 2)),
        citations=(replace(footnote_of(3), number=1), replace(footnote_of(1), number=2)),
    )
    assert changes(renumbered, then) == []
    assert [what for what, *_ in changes(renumbered, replace(then, trace=TRACE))] == ["text"]
    assert [what for what, *_ in changes(answer_of(TWICE, DUSK), then)] == ["text"]


def test_an_answer_that_is_no_longer_given_and_one_that_is_now():
    silent = answer_of(
        text="Your library does not say. It is about tides.",
        abstained=True,
        reason="It is about tides.",
    )
    assert lines(silent) == [
        "answered then, the library does not say now",
        "why the library does not say: none then, It is about tides. now",
        "no longer said: “Twice a day.”",
        "no longer said: “They save power.”",
    ]
    assert lines(THEN, then=silent)[0] == "the library does not say then, answered now"
    assert changes(silent, then=silent) == []
    other = replace(silent, text="Your library does not say. It is empty.", reason="It is empty.")
    assert changes(other, then=silent) == [("reason", "It is about tides.", "It is empty.")]


def test_confidence_is_compared_to_four_digits():
    assert changes(replace(THEN, confidence=0.876501)) == []
    assert lines(replace(THEN, confidence=0.5)) == ["confidence: 0.8765 then, 0.5 now"]


def test_papers_found_are_compared_as_far_as_both_have_them():
    first, second = THEN.hits
    assert changes(replace(THEN, hits=(first,))) == []
    assert changes(replace(THEN, hits=(second, first))) == [
        ("papers found", ["tidal-gates-1", "night-owls-2"], ["night-owls-2", "tidal-gates-1"])
    ]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("style", "style: quote then, other now"),
        ("fallback", "fall-back: none then, other now"),
        ("embedder", "embedding model: tiny then, other now"),
        ("reranker", "model that ranked the sentences: none then, other now"),
        ("language_model", "model that wrote: none then, other now"),
        ("prompt_digest", "prompts: abc then, other now"),
        ("library_digest", "the library is another, or has changed: 0123 then, other now"),
    ],
)
def test_how_the_answer_came_about_is_compared(field, line):
    assert lines(replace(THEN, trace=replace(TRACE, **{field: "other"}))) == [line]


def test_what_the_answer_says_is_told_before_how_it_came_about():
    now = answer_of(TWICE, confidence=0.6, trace=replace(TRACE, library_digest="4567"))
    assert [what for what, *_ in changes(now)] == ["claim removed", "confidence", "library_digest"]


def test_a_footnote_is_lost_with_its_paper_or_its_sentence(tmp_path):
    library = tmp_path / "one.jsonl"
    library.write_text(
        '{"title": "Tidal Gates", "abstract": "Gates open twice a day. They save nothing."}'
    )
    assistant = Assistant(Library(tmp_path / "library"), HashEmbedder(), "none")
    assistant.add(library)
    (paper,) = assistant.papers()
    then = json.loads(answer_of(TWICE, POWER, DUSK).to_json().replace("tidal-gates-1", paper.id))
    assert [str(change) for change in lost_quotations(then, assistant.paper)] == [
        "[2] Tidal Gates, “They save power.”: its abstract no longer says so",
        "[3] Night Owls, “Owls hunt at dusk.”: the paper is no longer in the library",
    ]


def test_a_line_cannot_steer_the_terminal():
    then = answer_of(said("Twice\x1b]0;owned\x07 a\nday.", 1), POWER)
    assert lines(answer_of(POWER), then) == ["no longer said: “Twice�]0;owned� a day.”"]


claims = st.lists(
    st.builds(said, st.sampled_from(["A.", "B.", "C."]), st.sampled_from([1, 2, 3])),
    max_size=4,
    unique=True,
)


@given(claims, claims)
def test_there_is_a_change_exactly_where_the_answers_differ(before, after):
    then, now = answer_of(*before), answer_of(*after)
    found = compare(saved(then), now)
    assert bool(found) == (then.to_dict() != now.to_dict())
    told = [change.what for change in found]
    assert len(before) - told.count("claim removed") == len(after) - told.count("claim added")
    assert all(str(change) for change in found)


# --- asking again -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assistant(tmp_path_factory):
    made = Assistant(Library(tmp_path_factory.mktemp("replay") / "library"), HashEmbedder(), "none")
    made.add(PAPERS)
    return made


@pytest.mark.parametrize("question", [QUESTION, FOREIGN])
def test_the_same_question_to_the_same_library_changes_nothing(assistant, question):
    answer = assistant.ask(question)
    result = replay(assistant, saved(answer))
    assert (result.same, result.changes, result.answer.text) == (True, (), answer.text)


def test_the_settings_of_the_saved_answer_hold_again(assistant):
    answer = assistant.ask(QUESTION, sentences=1, style="quote", year="2023")
    assert {hit.paper.year for hit in answer.hits} == {2023}
    again = replay(assistant, saved(answer))
    assert again.same
    assert again.answer.trace.settings == {"style": "quote", "sentences": 1, "year": "2023"}


def test_a_library_that_has_grown_and_lost_is_told(assistant, tmp_path):
    answer = assistant.ask(QUESTION)
    assert [citation.quote for citation in answer.citations] == [SHRINKS]
    other = Assistant(Library(tmp_path / "library"), HashEmbedder(), "none")
    other.add(PAPERS)
    other.remove(answer.citations[0].paper.id)
    told = {change.what: str(change) for change in replay(other, saved(answer)).changes}
    title = answer.citations[0].paper.title
    assert (
        told["quotation gone"] == f"[1] {title}, “{SHRINKS}”: the paper is no longer in the library"
    )
    assert told["claim removed"] == f"no longer said: “{SHRINKS}”"
    assert "library_digest" in told


def test_a_question_of_a_conversation_is_asked_in_its_stand_alone_form(assistant):
    answer = assistant.ask(QUESTION)
    leaned = replace(
        answer, question="And by how much?", trace=replace(answer.trace, rewritten_query=QUESTION)
    )
    result = replay(assistant, saved(leaned))
    assert (result.same, result.answer.question) == (True, QUESTION)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"style": "poem"}, "no style is called 'poem'; there are: auto, quote, write"),
        (
            {"year": "soon"},
            "year 'soon' cannot be read; write 2023, '>=2023', '<2020' or 2019-2022",
        ),
    ],
)
def test_settings_that_mean_nothing_are_the_files_fault(assistant, settings, why):
    answer = replace(THEN, trace=replace(TRACE, settings=settings))
    with pytest.raises(FootnoteError) as error:
        replay(assistant, saved(answer))
    assert str(error.value) == f"the saved question cannot be asked again: {why}"


def test_a_replay_as_json():
    (change,) = compare(saved(THEN), answer_of(POWER))
    result = Replay(answer_of(POWER), (change,)).to_dict()
    assert json.loads(json.dumps(result)) == {
        "same": False,
        "changes": [{"what": "claim removed", "then": "Twice a day.", "now": None}],
        "answer": json.loads(answer_of(POWER).to_json()),
    }
    assert Replay(THEN, ()).to_dict()["same"] is True


# --- files that are no answers ----------------------------------------------------------------------------------


def damaged(path, value):
    """A saved answer in which one place, such as `claims.0.text`, holds something else; it is gone when None."""
    plain = json.loads(THEN.to_json())
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = plain
    for part in way:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("Gates open.", "not JSON ("),
        (b"\xff\xfe\x00", "not JSON ("),
        ("[" * 100_000, "not JSON ("),
        ('{"confidence": NaN}', "not JSON (NaN is no number)"),
        ("[]", "the whole is not an object"),
        ('"yes"', "the whole is not an object"),
        ("{}", "question is missing; perhaps another version saved it"),
        (damaged("claims", None), "claims is missing; perhaps another version saved it"),
        (
            damaged("trace.settings", None),
            "trace.settings is missing; perhaps another version saved it",
        ),
        (damaged("claims", {}), "claims is not a list"),
        (damaged("claims.1.text", 5), "claims[1].text is not a text"),
        (damaged("claims.0.citations.0", "1"), "claims[0].citations[0] is not a whole number"),
        (damaged("citations.0", []), "citations[0] is not an object"),
        (damaged("abstained", 0), "abstained is not true or false"),
        (damaged("confidence", True), "confidence is not a number"),
        (damaged("confidence", "high"), "confidence is not a number"),
        (
            '{"question": "?", "text": "", "abstained": false, "reason": "", "confidence": 1e999}',
            "confidence is not a",
        ),
        (damaged("question", "half \ud83d"), "question is not a text"),
        (
            damaged("trace.settings.sentences", "3"),
            "trace.settings.sentences is not a whole number",
        ),
        (damaged("trace.settings.year", 2023), "trace.settings.year is not a text"),
        (
            damaged("trace.settings.colour", "red"),
            "the setting 'colour' is not known to this version",
        ),
    ],
)
def test_a_file_that_is_no_answer_is_refused_with_its_first_fault(text, why):
    with pytest.raises(FootnoteError) as error:
        read_answer(text, "answer.json")
    assert str(error.value).startswith(
        f"answer.json is no answer that footnote ask --json printed: {why}"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_shells_write_it(encoding):
    assert read_answer(THEN.to_json().encode(encoding)) == json.loads(THEN.to_json())


def test_what_a_later_version_adds_is_no_fault():
    plain = json.loads(THEN.to_json()) | {"mood": "calm"}
    plain["claims"][0]["colour"] = "red"
    assert compare(read_answer(json.dumps(plain)), THEN) == []


def test_a_whole_number_is_a_confidence():
    assert read_answer(damaged("confidence", 1))["confidence"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(sorted(THEN.to_dict())), inner)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(THEN.to_dict())), json_values)
def test_whatever_is_in_a_field_is_read_or_refused(name, value):
    text = json.dumps(THEN.to_dict() | {name: value})
    try:
        then = read_answer(text)
    except FootnoteError:
        return
    assert all(str(change) for change in compare(then, THEN))


# --- the command ------------------------------------------------------------------------------------------------


def test_the_command_tells_by_its_exit_whether_anything_changed(
    footnote, own_library, tmp_path, monkeypatch
):
    monkeypatch.setenv("FOOTNOTE_LANGUAGE_MODEL", "none")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", str(own_library))
    kept = tmp_path / "answer.json"
    kept.write_text(footnote("ask", QUESTION, "--sentences", 1, "--json").out, encoding="utf-8")
    run = footnote("replay", kept)
    assert (run.code, run.out, run.err) == (0, "nothing changed\n", "")
    footnote("remove", json.loads(kept.read_text(encoding="utf-8"))["citations"][0]["paper_id"])
    run = footnote("replay", kept)
    assert (run.code, run.err) == (1, "")
    assert run.lines[0].endswith("the paper is no longer in the library")
    plain = footnote("replay", kept, "--json")
    assert (plain.code, set(plain.json), plain.json["same"]) == (
        1,
        {"same", "changes", "answer"},
        False,
    )
    assert [set(change) for change in plain.json["changes"]] == [{"what", "then", "now"}] * len(
        run.lines
    )
    assert plain.json["answer"]["question"] == QUESTION


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing.json", "missing.json cannot be read: No such file or directory"),
        (".", ". cannot be read: Is a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("note.md", "note.md is no answer that footnote ask --json printed: not JSON ("),
    ],
)
def test_the_command_refuses_in_one_line(footnote, tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    Path("note.md").write_text("**When?**\n")
    run = footnote("replay", name)
    assert (run.code, run.out) == (1, "")
    assert told in run.err
    assert run.err.count("\n") == 1
