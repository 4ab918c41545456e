"""Any text where a question, a filter, a field or a file is due: an answer or one line that says what is wrong.

Files of papers have tests of their own, `test_sources_hostile.py`; a fuzzer goes further, `test_fuzz.py`.
"""

import json
import re
import subprocess
import sys
import unicodedata

import pytest
from conftest import PAPERS
from fakes import HashEmbedder
from fuzz import PIECES, check_line
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_render import check_safe, cite, quoted

from eval.harness.questions import load_questions
from rag import (
    Answer,
    Assistant,
    Conversation,
    FootnoteError,
    Library,
    Paper,
    PaperNotFound,
    SourceError,
    Trace,
    UsageError,
)
from rag.config import load_settings
from rag.ingest.sources import open_source
from rag.output.export import ANSWER_FORMATS, FORMATS, export_answer, export_papers
from rag.output.replay import read_answer, replay
from rag.output.terminal import render_answer, render_paper
from rag.retrieval.query_analysis import analyze_query
from rag.retrieval.typos import find_typos
from rag.text.cleaning import clean, printable_path
from rag.text.identifiers import find_doi_in_url, parse_doi
from ui.render.html import answer_html, paper_html, sources_html
from ui.server.login import read_users

MANY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# What SQLite, FTS5, Python, LaTeX, HTML, shells and terminals give a meaning to.
OPERATORS = [
    *(
        "NEAR(",
        "NEAR/3",
        "AND",
        " OR ",
        "NOT",
        '"',
        "'",
        "*",
        "^",
        "title:",
        "--",
        ";",
        "%",
        "_",
        "\\",
        "(",
        ")",
        "\0",
    ),
    *(
        "'; DROP TABLE paper; --",
        "%s%n%x",
        "{0}",
        "{",
        "}",
        "${HOME}",
        "$x$",
        "\\frac{",
        "$(ls)",
        "`ls`",
        "\\begin{a}",
    ),
    *(
        "<script>",
        "&lol;",
        "<!--",
        "\x1b[31m",
        "\x07",
        "\u202e",
        "\u0301\u0327" * 40,
        "\ud800",
        "\udcff",
        "\ufffe",
    ),
    *(
        "漢字",
        "של",
        "العربية",
        "ﬁ",
        "½",
        "²",
        "İ",
        "ß",
        "ŉ",
        "ﾞ",
        "😀",
        "٣٤",
        "a" * 300,
        "aA" * 60 + "_",
        "." * 200,
    ),
    *(
        "how many ",
        "which ",
        "why ",
        "GPT-4",
        " vs ",
        "KV cache",
        "Sliding Ledgers",
        "it",
        " and ",
        "\n",
        "\t",
        "\u2028",
    ),
]
WORDS = st.sampled_from(OPERATORS) | st.text(st.characters(), max_size=12)
QUESTIONS = st.lists(WORDS, max_size=14).map("".join) | st.lists(WORDS, max_size=14).map(" ".join)
FILTERS = st.dictionaries(
    st.sampled_from(["year", "venue", "author", "source", "added_since"]),
    WORDS
    | st.sampled_from(
        [">=2023", "2019-2022", "2022-2019", "<٢٠٢٣", "2026-01-31", "0000-00-00", "Okafor", " "]
    ),
    max_size=2,
)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    assistant = Assistant(
        Library(tmp_path_factory.mktemp("bad") / "library"), HashEmbedder(), "none"
    )
    assistant.add(PAPERS)
    return assistant


def refused(call, *arguments, **options):
    """What a call gives; None where it means nothing, and that is told on one line."""
    try:
        return call(*arguments, **options)
    except UsageError as error:
        check_line(str(error))
        return None


def check_literal(answer):
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    quotes = [citation.quote for citation in answer.citations]
    assert all(claim.text in quotes for claim in answer.claims if claim.kind == "quoted")
    check_line(answer.text)
    for form in ANSWER_FORMATS:
        export_answer(answer, form).encode("utf-8")
    check_safe(answer_html(answer))
    check_safe(sources_html([answer]))


# --- questions and filters ----------------------------------------------------------------------------------------


@MANY
@given(QUESTIONS, FILTERS)
@example("KV cache \ud800", {})
@example("x" * 2001, {})
@example(" \n ", {})
@example("KV cache?", {"venue": "Journal\ud800"})
@example("KV cache?", {"year": "20\n23"})
@example("KV cache?", {"author": "a" * 501})
@example("KV cache?", {"year": "\n"})
def test_any_question_with_any_filter_gets_an_answer_or_one_line(library, question, filters):
    answer = refused(library.ask, question, **filters)
    if answer is None:
        assert refused(library.search, question, **filters) is None
        assert refused(library.evidence, question, **filters) is None
        return
    check_literal(answer)
    *pieces, streamed = library.stream(question, **filters)
    assert "".join(pieces) == streamed.text == answer.text
    hits = library.search(question, **filters)
    assert len(hits) <= library.count(**filters)
    for one in library.evidence(question, **filters):
        assert one.sentence.text == one.paper.abstract[one.sentence.start : one.sentence.end]


@MANY
@given(QUESTIONS, QUESTIONS, FILTERS)
def test_any_two_questions_are_a_conversation(library, first, second, filters):
    chat = library.chat()
    assert isinstance(chat, Conversation)
    answers = [refused(chat.ask, first), refused(chat.ask, second, **filters)]
    for answer in filter(None, answers):
        check_literal(answer)
    assert len(chat.turns) == sum(answer is not None for answer in answers)
    chat.to_markdown().encode("utf-8")


@pytest.mark.parametrize("name", ["\ud800", "a\0b", " ", "\x1b[2J", "x" * 100_000])
def test_no_paper_goes_by_a_name_that_is_none(library, name):
    with pytest.raises(PaperNotFound):
        library.paper(name)


def test_a_search_for_more_papers_than_can_be_counted_gives_all(library):
    assert len(library.search("owl", k=10**30)) == library.count()


def test_a_question_that_is_too_long_costs_a_conversation_nothing(library):
    chat = library.chat()
    chat.ask("How far does the KV cache shrink?")
    with pytest.raises(UsageError, match="1,999,999 characters"):
        chat.ask("a b " * 500_000)
    assert len(chat.turns) == 1


def test_settings_nested_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings()


def test_a_source_with_half_a_character_in_its_name_can_be_told():
    assert str(SourceError("a\ud800b", "no such file")) == "a�b: no such file"


@MANY
@given(FILTERS)
def test_any_filter_lets_papers_through_or_is_refused(library, filters):
    papers = refused(lambda: list(library.papers(**filters)))
    count = refused(library.count, **filters)
    assert (papers is None) == (count is None)
    assert papers is None or len(papers) == count


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        (
            {"year": "2023\nand\x1b[31m"},
            "invalid year '2023 and�[31m'; write 2023, '>=2023'",
        ),
        ({"year": "2022-2019"}, "year range '2022-2019' is empty; write 2019-2022"),
        ({"venue": "?\n!"}, "venue '? !' has no letters or digits to match"),
        ({"added_since": "soon" * 40}, f"invalid date '{('soon' * 40)[:60]}…' for added_since"),
        ({"source": "zotero\udcff"}, "source 'zotero�' is not valid Unicode text"),
        ({"author": "a" * 501}, "author has 501 characters; the limit is 500"),
    ],
)
def test_a_filter_that_means_nothing_is_told_on_one_line(library, filters, told):
    with pytest.raises(UsageError) as error:
        library.count(**filters)
    assert str(error.value).startswith(told)
    check_line(str(error.value))


@pytest.mark.parametrize("name", ["year", "added_since"])
def test_a_filter_of_blanks_filters_nothing(library, name):
    assert library.count(**{name: " \n"}) == library.count() == 12


def done_in_time(code):
    """Run Python in a process of its own: an expression that takes for ever cannot be stopped otherwise."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_are_found_in_time_with_the_length_of_a_text():
    # It was with the cube of it: minutes for a hostile title, and again for each question that found it.
    assert analyze_query("What is the aAaA?").names == ("aAaA",)
    done_in_time("""
from rag.retrieval.query_analysis import own_names, understand
for letters in ("aA", "bB", "cC", "dD"):
    assert own_names(letters * 995 + "_") == set()
    assert understand(f"{letters * 990}_").names == ()
assert understand("which " * 100 + "." * 1_300).thing == ()
""")


def test_of_a_question_that_is_all_slips_the_first_are_read():
    words = [f"{letter}orwegian" for letter in "abcdefghijklmnopqrstuvwxyz"]
    question = " ".join(f"{word[0]}orwegain" for word in words)
    assert find_typos(question, [" ".join(words)], lambda _: False) == {
        f"{word[0]}orwegain": word for word in words[:20]
    }


# --- what is shown ------------------------------------------------------------------------------------------------

FIELDS = "title abstract authors year venue url doi arxiv_id pmid extra retracted".split()
TEXTS = st.lists(
    st.sampled_from(PIECES + OPERATORS) | st.text(st.characters(), max_size=8), max_size=12
).map("".join)
RECORDS = st.dictionaries(st.sampled_from(FIELDS), TEXTS | st.lists(TEXTS, max_size=3), max_size=11)


def paper_from(path, record):
    """The paper that a reader makes of a record, if any."""
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with open_source(path, "jsonl") as source:
        (((_, outcome),)) = source
    return outcome if isinstance(outcome, Paper) else None


def check_shown(text):
    """Lines without anything that steers a terminal."""
    for line in text.split("\n"):
        check_line(line)


def check_markdown(text):
    """No mark-up of a stranger: outside of addresses in `<...>`, every sign that could begin some is escaped."""
    bare = re.sub(r"<https?://[^<>\s]*>|\\.", "", text)
    assert not set(bare) & set("<>`|#")
    assert "](" not in bare
    assert "![" not in bare


@MANY
@given(RECORDS)
@example({"doi": "10.1000/a%1b]0;owned%07b", "url": "https://doi.org/10.1000/a%1b]0;owned%07b"})
@example({"title": "a" + "\u0301\u0327" * 400, "authors": "\x1b[2J", "venue": "\u202eABC"})
def test_any_record_can_be_shown_and_exported(tmp_path, record):
    paper = paper_from(tmp_path / "any", {"title": "A1"} | record)
    if paper is None:
        return
    check_shown(render_paper(paper))
    for form in FORMATS:
        check_shown(export_papers([paper], form).replace("\t", " "))
    check_markdown(export_papers([paper], "markdown"))
    json.loads(export_papers([paper], "csl-json"))
    check_safe(paper_html(paper))
    if not paper.abstract:
        return
    answer = Answer(
        "?",
        f"“{paper.abstract}” [1]",
        (quoted(paper.abstract, 1),),
        (cite(1, paper, paper.abstract),),
        (),
        False,
        "",
        0.9,
        Trace("e", "none", "quote", "", ""),
    )
    check_shown(render_answer(answer))
    for form in ANSWER_FORMATS:
        check_shown(export_answer(answer, form).replace("\t", " "))
    check_markdown(re.sub(r"\[\^1\]|\*", "", export_answer(answer, "markdown")))
    check_literal(answer)


@MANY
@given(
    st.builds(
        Paper,
        *[TEXTS] * 2,
        st.lists(TEXTS, max_size=2).map(tuple),
        st.none(),
        *[TEXTS] * 6,
        st.booleans(),
    )
)
def test_a_paper_that_no_reader_made_breaks_no_export(paper):
    for form in FORMATS:
        assert isinstance(export_papers([paper], form), str)
    assert render_paper(paper)


@MANY
@given(st.text(st.characters()))
@example("half\ud800")
@example("\udcff\udcfe")
@example("\x1b]0;owned\x07.bib")
def test_any_name_of_a_file_can_be_shown_and_stored(name):
    check_line(printable_path(name))
    assert len(printable_path("a" + name)) > 0
    assert printable_path("Zoë, 2021 (日本).bib") == "Zoë, 2021 (日本).bib"


@pytest.mark.parametrize(
    "doi", ["10.1000/a%1b]0;b%07", "10.1000/a\u202e]0;b", "10.1000/a%e2%80%ae]0;b%00"]
)
def test_a_doi_is_decoded_without_what_steers_a_terminal(doi):
    assert (
        parse_doi(doi)
        == parse_doi(f"https://doi.org/{doi}")
        == find_doi_in_url(f"https://doi.org/{doi}")
        == "10.1000/a]0;b"
    )


def test_a_long_run_of_marks_is_cut_and_a_usual_one_is_kept():
    usual = unicodedata.normalize("NFC", "Z̷̢̛͉̈́a̴l̶g̸o e\u0301 \u0327")
    assert clean(usual) == " ".join(usual.split())
    assert clean("a" + "\u0301\u0327" * 40 + "b") == clean("a" + "\u0301\u0327" * 15 + "b")
    # Python sorts marks in time with the square of their number: so many would take hours.
    done_in_time("""
from rag.text.cleaning import clean
assert clean("a" + "\u0301\u0327" * 1_000_000 + "b") == clean("a" + "\u0301\u0327" * 15 + "b")
assert clean("a" + "\u0f73" * 200_000 + "\u0301\uff9e" * 100_000).count("\u0f71") <= 30
""")


# --- other files --------------------------------------------------------------------------------------------------

ROW = {
    "id": "q1", "split": "dev", "kind": "base", "type": "fact", "question": "How salty?", "answerable": True,
    "gold": [["salt-1"]], "nuggets": [{"text": "8 grams", "any": ["8 grams"], "numbers": ["8"]}],
}  # fmt: skip
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "any", "numbers"]), inner)
    ),
    max_leaves=6,
)
CHANGES = st.dictionaries(
    st.sampled_from([*ROW, "history", "must_not", "variant_of", "note", "\x1b\n"]),
    JSON_VALUES,
    max_size=3,
)


def check_questions(path):
    try:
        questions = load_questions(path)
    except UsageError as error:
        check_line(str(error))
        return
    for question in questions:
        texts = [question.id, question.question, *question.history, *question.must_not]
        texts += [
            text
            for nugget in question.nuggets
            for text in (nugget.text, *nugget.alternatives, *nugget.numbers)
        ]
        for text in texts:
            assert text.strip()
            text.encode("utf-8")


@MANY
@given(CHANGES)
@example({"nuggets": [{"text": "x", "any": ["x"], "numbers": 0}]})
@example({"nuggets": [{"text": "x", "any": ["x"], "numbers": None}]})
@example({"nuggets": [{"text": "x", "any": ["x"], "vital": "no"}]})
@example({"history": None})
@example({"kind": "typo", "variant_of": ["q1"]})
@example({"question": "half \ud83d"})
@example({"note": 7})
@example({"\x1b\n": 7})
def test_any_record_of_questions_is_read_or_refused_on_one_line(tmp_path, change):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(ROW | change), encoding="utf-8")
    check_questions(file)


@MANY
@given(st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * 100_000)
@example(b'{"id": ' + b"9" * 5_000)
def test_any_bytes_are_no_questions_and_no_answer(tmp_path, data):
    file = tmp_path / "questions.jsonl"
    file.write_bytes(data)
    check_questions(file)
    with pytest.raises(FootnoteError) as error:
        read_answer(data, "answer.json")
    check_line(str(error.value))


def questions_refused(path):
    with pytest.raises(UsageError) as error:
        load_questions(path)
    check_line(str(error.value))
    return str(error.value)


def test_questions_nested_too_deeply_or_with_half_a_character_are_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text("[" * 100_000, encoding="utf-8")
    assert questions_refused(file) == f"{file} is nested too deeply to be read, in line 1"
    file.write_text(json.dumps(ROW | {"question": "half \ud83d"}), encoding="utf-8")
    assert questions_refused(file) == f"{file} holds bytes that are no text, in line 1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nuggets": [{"text": "x", "any": ["x"], "numbers": 0}]}, "every nugget needs"),
        ({"nuggets": [{"text": "x", "any": ["x"], "numbers": None}]}, "every nugget needs"),
        ({"nuggets": [{"text": "x", "any": ["x"], "vital": "no"}]}, "every nugget needs"),
        ({"history": None}, "history and must_not must be lists of texts"),
        ({"must_not": 0}, "history and must_not must be lists of texts"),
        ({"kind": "typo", "variant_of": ["q1"]}, "variant_of and note must be texts"),
        ({"note": 7}, "variant_of and note must be texts"),
        ({"colour\n\x1b[31m": 7}, "no field is called colour �[31m"),
    ],
)
def test_a_field_of_a_question_that_is_no_text_is_told(tmp_path, change, told):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(ROW | change), encoding="utf-8")
    assert f"line 1: {told}" in questions_refused(file)


def test_a_line_of_questions_may_hold_what_else_ends_a_line(tmp_path):
    file = tmp_path / "questions.jsonl"
    asked = "How salty\u2028is it\x85?"
    file.write_text(
        json.dumps(ROW | {"question": asked}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert [question.question for question in load_questions(file)] == [asked]


def test_questions_without_end_and_names_that_no_file_has_are_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate(65 * 1024 * 1024)
    assert "more than 67,108,864 characters" in questions_refused(file)
    assert "cannot be read" in questions_refused(tmp_path / "a\0b")


def test_a_setting_of_a_saved_answer_steers_no_terminal(library):
    answer = json.loads(library.ask("How much does the KV cache shrink?").to_json())
    answer["trace"]["settings"] = {"\x1b]0;owned\x07\n" + "x" * 500: 1}
    with pytest.raises(FootnoteError) as error:
        read_answer(json.dumps(answer))
    check_line(str(error.value))
    assert len(str(error.value)) < 200
    answer["trace"]["settings"] = {"style": "\x1b]0;owned\x07\npoem"}
    with pytest.raises(FootnoteError, match="cannot be asked again") as error:
        replay(library, read_answer(json.dumps(answer)))
    check_line(str(error.value))


@MANY
@given(st.binary(max_size=100) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_users_or_are_refused_on_one_line(tmp_path, data):
    file = tmp_path / "users"
    file.touch(mode=0o600)
    file.write_bytes(data)
    users = refused(read_users, file)
    assert users is None or all(
        name.strip() and password.strip() for name, password in users.items()
    )
