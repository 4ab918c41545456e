"""Replay of saved answers: what has changed is listed, and invalid files are refused."""

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
from rag.output.replay import Replay, compare_answers, find_lost_quotations, load_answer, replay

QUESTION = "Which papers shrink the KV cache, and by how much?"
UNANSWERABLE = "Who won the football world cup?"
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


def make_citation(number):
    paper, quote = NUMBERED[number]
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def make_claim(text, *numbers):
    return Claim(text, "generated", numbers, True, 0.5)


def make_answer(*claims, **fields):
    """Make an answer from claims, with the text that the assistant would give it."""
    numbers = sorted({number for claim in claims for number in claim.citations})
    text = " ".join(
        claim.text + "".join(f" [{number}]" for number in claim.citations) for claim in claims
    )
    hits = tuple(
        Hit(paper, 0.9, rank, Passage("p", paper.id, 0, 9))
        for rank, paper in enumerate([GATES, OWLS], start=1)
    )
    citations = tuple(make_citation(number) for number in numbers)
    answer = Answer("When do gates open?", text, claims, citations, hits, False, "", 0.87654, TRACE)
    return replace(answer, **fields)


TWICE, POWER, DUSK = (
    make_claim("Twice a day.", 1),
    make_claim("They save power.", 2),
    make_claim("At dusk.", 3),
)
SAVED = make_answer(TWICE, POWER)


def save(answer):
    return load_answer(answer.to_json())


def changes(current, saved=SAVED):
    return [
        (change.kind, change.before, change.after)
        for change in compare_answers(save(saved), current)
    ]


def lines(current, saved=SAVED):
    return [str(change) for change in compare_answers(save(saved), current)]


# --- changes ------------------------------------------------------------------------


def test_timings_and_token_counts_are_ignored():
    slower = replace(TRACE, seconds={"read": 9.0}, tokens={"reply": 7})
    assert changes(make_answer(TWICE, POWER, trace=slower)) == []


def test_added_and_removed_claims_are_listed():
    assert changes(make_answer(TWICE, DUSK)) == [
        ("claim removed", "They save power.", None),
        ("claim added", None, "At dusk."),
    ]
    assert lines(make_answer(TWICE, DUSK)) == [
        "removed: “They save power.”",
        "added: “At dusk.”",
    ]


def test_a_new_sentence_on_the_same_quotation_is_reworded():
    current = make_answer(make_claim("Two times daily.", 1), POWER)
    assert changes(current) == [("claim reworded", "Twice a day.", "Two times daily.")]
    assert lines(current) == ["reworded: “Twice a day.” before, “Two times daily.” now"]


def test_a_sentence_with_another_quotation_is_listed_with_both():
    current = make_answer(make_claim("Twice a day.", 3), POWER)
    assert lines(current) == [
        "cited differently: “Twice a day.” [“Gates open twice a day.”] before, "
        "“Twice a day.” [“Owls hunt at dusk.”] now"
    ]


def test_an_additional_footnote_is_a_change():
    assert [kind for kind, *_ in changes(make_answer(make_claim("Twice a day.", 1, 3), POWER))] == [
        "citations changed"
    ]


def test_reordered_claims_change_only_the_text():
    assert changes(make_answer(POWER, TWICE)) == [
        ("text", "Twice a day. [1] They save power. [2]", "They save power. [2] Twice a day. [1]")
    ]


def test_a_generated_sentence_that_is_now_quoted_changes_the_text():
    quoted = make_answer(TWICE, POWER, text="“Twice a day.” [1] They save power. [2]")
    assert [kind for kind, *_ in changes(quoted)] == ["text"]


def test_footnote_numbers_are_ignored_for_follow_ups():
    conversation = replace(TRACE, rewritten_query="When do tidal gates open?")
    earlier = make_answer(
        make_claim("At dusk.", 3), make_claim("Twice a day.", 1), trace=conversation
    )
    renumbered = replace(
        make_answer(text="At dusk. [1] Twice a day. [2]"),
        claims=(make_claim("At dusk.", 1), make_claim("Twice a day.", 2)),
        citations=(replace(make_citation(3), number=1), replace(make_citation(1), number=2)),
    )
    assert changes(renumbered, earlier) == []
    assert [kind for kind, *_ in changes(renumbered, replace(earlier, trace=TRACE))] == ["text"]
    assert [kind for kind, *_ in changes(make_answer(TWICE, DUSK), earlier)] == ["text"]


def test_a_new_or_ended_abstention_is_a_change():
    abstention = make_answer(
        text="Your library does not say. It is about tides.",
        abstained=True,
        reason="It is about tides.",
    )
    assert lines(abstention) == [
        "answered before, abstained now",
        "reason for abstaining: none before, It is about tides. now",
        "removed: “Twice a day.”",
        "removed: “They save power.”",
    ]
    assert lines(SAVED, saved=abstention)[0] == "abstained before, answered now"
    assert changes(abstention, saved=abstention) == []
    other = replace(
        abstention, text="Your library does not say. It is empty.", reason="It is empty."
    )
    assert changes(other, saved=abstention) == [("reason", "It is about tides.", "It is empty.")]


def test_confidence_is_compared_to_four_digits():
    assert changes(replace(SAVED, confidence=0.876501)) == []
    assert changes(replace(SAVED, confidence=0.5)) == [("confidence", 0.8765, 0.5)]
    assert lines(replace(SAVED, confidence=0.5)) == ["confidence: high before, low now"]
    assert lines(replace(SAVED, confidence=0.9)) == ["confidence: changed slightly, still high"]


def test_retrieved_papers_are_compared_as_far_as_both_list_them():
    first, second = SAVED.hits
    assert changes(replace(SAVED, hits=(first,))) == []
    assert changes(replace(SAVED, hits=(second, first))) == [
        ("papers retrieved", ["tidal-gates-1", "night-owls-2"], ["night-owls-2", "tidal-gates-1"])
    ]


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("style", "style: quote before, other now"),
        ("fallback", "fallback: none before, other now"),
        ("embedder", "embedding model: tiny before, other now"),
        ("language_model", "language model: none before, other now"),
        ("prompt_digest", "prompts: abc before, other now"),
        ("library_digest", "the library has changed: 0123 before, other now"),
    ],
)
def test_trace_fields_are_compared(field, line):
    assert lines(replace(SAVED, trace=replace(TRACE, **{field: "other"}))) == [line]


def test_changes_of_content_come_before_changes_of_the_trace():
    current = make_answer(TWICE, confidence=0.6, trace=replace(TRACE, library_digest="4567"))
    assert [kind for kind, *_ in changes(current)] == [
        "claim removed",
        "confidence",
        "library_digest",
    ]


def test_a_quotation_is_lost_with_its_paper_or_its_sentence(tmp_path):
    library = tmp_path / "one.jsonl"
    library.write_text(
        '{"title": "Tidal Gates", "abstract": "Gates open twice a day. They save nothing."}'
    )
    assistant = Assistant(Library(tmp_path / "library"), HashEmbedder(), "none")
    assistant.add(library)
    (paper,) = assistant.papers()
    earlier = json.loads(
        make_answer(TWICE, POWER, DUSK).to_json().replace("tidal-gates-1", paper.id)
    )
    assert [str(change) for change in find_lost_quotations(earlier, assistant.paper)] == [
        "[2] Tidal Gates, “They save power.”: the abstract no longer contains it",
        "[3] Night Owls, “Owls hunt at dusk.”: the paper is no longer in the library",
    ]


def test_changes_escape_control_characters():
    earlier = make_answer(make_claim("Twice\x1b]0;owned\x07 a\nday.", 1), POWER)
    assert lines(make_answer(POWER), earlier) == ["removed: “Twice�]0;owned� a day.”"]


claims = st.lists(
    st.builds(make_claim, st.sampled_from(["A.", "B.", "C."]), st.sampled_from([1, 2, 3])),
    max_size=4,
    unique=True,
)


@given(claims, claims)
def test_answers_have_changes_exactly_when_they_differ(before, after):
    saved, current = make_answer(*before), make_answer(*after)
    changes = compare_answers(save(saved), current)
    assert bool(changes) == (saved.to_dict() != current.to_dict())
    kinds = [change.kind for change in changes]
    assert len(before) - kinds.count("claim removed") == len(after) - kinds.count("claim added")
    assert all(map(str, changes))


# --- asking again -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assistant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay") / "library"
    assistant = Assistant(Library(folder), HashEmbedder(), "none")
    assistant.add(PAPERS)
    return assistant


@pytest.mark.parametrize("question", [QUESTION, UNANSWERABLE])
def test_replay_on_the_same_library_changes_nothing(assistant, question):
    answer = assistant.ask(question)
    result = replay(assistant, save(answer))
    assert (result.is_same, result.changes, result.answer.text) == (True, (), answer.text)


def test_replay_uses_the_settings_of_the_saved_answer(assistant):
    answer = assistant.ask(QUESTION, sentences=1, style="quote", year="2023")
    assert {hit.paper.year for hit in answer.hits} == {2023}
    again = replay(assistant, save(answer))
    assert again.is_same
    assert again.answer.trace.settings == {"style": "quote", "sentences": 1, "year": "2023"}


def test_replay_reports_a_changed_library(assistant, tmp_path):
    answer = assistant.ask(QUESTION, sentences=1)
    assert [citation.quote for citation in answer.citations] == [SHRINKS]
    other = Assistant(Library(tmp_path / "library"), HashEmbedder(), "none")
    other.add(PAPERS)
    other.remove(answer.citations[0].paper.id)
    changes_by_kind = {change.kind: str(change) for change in replay(other, save(answer)).changes}
    title = answer.citations[0].paper.title
    assert (
        changes_by_kind["quotation lost"]
        == f"[1] {title}, “{SHRINKS}”: the paper is no longer in the library"
    )
    assert changes_by_kind["claim removed"] == f"removed: “{SHRINKS}”"
    assert "library_digest" in changes_by_kind


def test_replay_asks_the_rewritten_query_of_an_older_follow_up(assistant):
    answer = assistant.ask(QUESTION)
    follow_up = replace(
        answer, question="And by how much?", trace=replace(answer.trace, rewritten_query=QUESTION)
    )
    result = replay(assistant, save(follow_up))
    assert (result.answer.text, result.answer.question) == (answer.text, "And by how much?")


def test_replay_of_a_follow_up_is_about_the_same_papers_and_quotes_the_same_sentences(assistant):
    chat = assistant.chat()
    chat.ask(QUESTION, sentences=1)
    for question in ("why?", "who wrote it?", "any other papers?"):
        result = replay(assistant, save(chat.ask(question)))
        assert result.changes == ()
        assert result.answer.trace.rewritten_query


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"style": "poem"}, "unknown style 'poem'; choose from: auto, quote, write"),
        (
            {"year": "soon"},
            "invalid year 'soon'; write 2023, '>=2023', '<2020' or 2019-2022",
        ),
    ],
)
def test_replay_refuses_invalid_settings(assistant, settings, reason):
    answer = replace(SAVED, trace=replace(TRACE, settings=settings))
    with pytest.raises(FootnoteError) as error:
        replay(assistant, save(answer))
    assert str(error.value) == f"cannot ask the saved question again: {reason}"


def test_replay_is_plain_data_for_json():
    (change,) = compare_answers(save(SAVED), make_answer(POWER))
    result = Replay(make_answer(POWER), (change,)).to_dict()
    assert json.loads(json.dumps(result)) == {
        "same": False,
        "changes": [{"kind": "claim removed", "before": "Twice a day.", "after": None}],
        "answer": json.loads(make_answer(POWER).to_json()),
    }
    assert Replay(SAVED, ()).to_dict()["same"] is True


# --- invalid files ----------------------------------------------------------------


def damage(path, value):
    """Replace one place of a saved answer, such as `claims.0.text`, or delete it with None."""
    plain = json.loads(SAVED.to_json())
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
    ("text", "fault"),
    [
        ("", "invalid JSON (Expecting value: line 1 column 1 (char 0))"),
        ("Gates open.", "invalid JSON ("),
        (b"\xff\xfe\x00", "invalid JSON ("),
        ("[" * 100_000, "invalid JSON ("),
        ('{"confidence": NaN}', "invalid JSON (NaN is not a number)"),
        ("[]", "it is not an object"),
        ('"yes"', "it is not an object"),
        ("{}", "question is missing; if another version of Footnote saved it, ask"),
        (damage("claims", None), "claims is missing; if another version of Footnote saved it, ask"),
        (
            damage("trace.settings", None),
            "trace.settings is missing; if another version of Footnote saved it, ask",
        ),
        (damage("claims", {}), "claims is not a list"),
        (damage("claims.1.text", 5), "claims[1].text is not a string"),
        (damage("claims.0.citations.0", "1"), "claims[0].citations[0] is not an integer"),
        (damage("citations.0", []), "citations[0] is not an object"),
        (damage("abstained", 0), "abstained is not true or false"),
        (damage("confidence", True), "confidence is not a number"),
        (damage("confidence", "high"), "confidence is not a number"),
        (
            '{"question": "?", "text": "", "abstained": false, "reason": "", "confidence": 1e999}',
            "confidence is not a",
        ),
        (damage("question", "half \ud83d"), "question is not a string"),
        (
            damage("trace.settings.sentences", "3"),
            "trace.settings.sentences is not an integer",
        ),
        (damage("trace.settings.year", 2023), "trace.settings.year is not a string"),
        (
            damage("trace.settings.colour", "red"),
            "unknown setting 'colour'",
        ),
    ],
)
def test_load_refuses_an_invalid_file_with_its_first_fault(text, fault):
    with pytest.raises(FootnoteError) as error:
        load_answer(text, "answer.json")
    assert str(error.value).startswith(
        f"answer.json is not an answer saved by footnote ask --json: {fault}"
    )


def test_an_answer_of_an_older_version_is_refused_with_advice():
    older = json.loads(SAVED.to_json())
    older["trace"]["read_as"] = older["trace"].pop("rewritten_query")
    with pytest.raises(
        FootnoteError, match=r"trace\.rewritten_query is missing; .*ask the question again"
    ):
        load_answer(json.dumps(older), "answer.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_load_accepts_the_encodings_of_shells(encoding):
    assert load_answer(SAVED.to_json().encode(encoding)) == json.loads(SAVED.to_json())


def test_load_ignores_unknown_fields():
    plain = json.loads(SAVED.to_json()) | {"mood": "calm"}
    plain["claims"][0]["colour"] = "red"
    assert compare_answers(load_answer(json.dumps(plain)), SAVED) == []


def test_load_accepts_an_integer_confidence():
    assert load_answer(damage("confidence", 1))["confidence"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(sorted(SAVED.to_dict())), inner)
    ),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SAVED.to_dict())), json_values)
def test_any_value_of_a_field_is_loaded_or_refused(name, value):
    text = json.dumps(SAVED.to_dict() | {name: value})
    try:
        earlier = load_answer(text)
    except FootnoteError:
        return
    assert all(str(change) for change in compare_answers(earlier, SAVED))


# --- command ------------------------------------------------------------------------------


def test_replay_exit_code_tells_whether_anything_changed(
    footnote, library_copy, tmp_path, monkeypatch
):
    monkeypatch.setenv("FOOTNOTE_LANGUAGE_MODEL", "none")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", str(library_copy))
    saved = tmp_path / "answer.json"
    saved.write_text(footnote("ask", QUESTION, "--sentences", 1, "--json").out, encoding="utf-8")
    run = footnote("replay", saved)
    assert (run.code, run.out, run.err) == (0, "nothing changed\n", "")
    footnote("remove", json.loads(saved.read_text(encoding="utf-8"))["citations"][0]["paper_id"])
    run = footnote("replay", saved)
    assert (run.code, run.err) == (1, "")
    assert run.lines[0].endswith("the paper is no longer in the library")
    plain = footnote("replay", saved, "--json")
    assert (plain.code, set(plain.json), plain.json["same"]) == (
        1,
        {"same", "changes", "answer"},
        False,
    )
    assert [set(change) for change in plain.json["changes"]] == [{"kind", "before", "after"}] * len(
        run.lines
    )
    assert plain.json["answer"]["question"] == QUESTION


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.json", "cannot read missing.json: No such file or directory"),
        (".", "cannot read .: Is a directory"),
        ("a\0b", ": embedded null byte"),
        ("note.md", "note.md is not an answer saved by footnote ask --json: invalid JSON ("),
    ],
)
def test_replay_refuses_a_bad_file_in_one_line(footnote, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("note.md").write_text("**When?**\n")
    run = footnote("replay", name)
    assert (run.code, run.out) == (1, "")
    assert message in run.err
    assert run.err.count("\n") == 1
