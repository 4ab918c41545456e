"""Any text as question, filter, field or file gives an answer or a one-line error.

`test_sources_untrusted.py` covers files of papers; `test_fuzz.py` goes further with a fuzzer.
"""

import json
import re
import subprocess
import sys
import unicodedata

import pytest
from conftest import PAPERS
from fakes import HashEmbedder
from fuzz import PIECES, assert_printable_line
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
from rag.ingest.sources.source import open_source
from rag.output.export import ANSWER_FORMATS, PAPER_FORMATS, export_answer, export_papers
from rag.output.replay import load_answer, replay
from rag.output.terminal import render_answer, render_paper
from rag.retrieval.query_analysis import analyze_query
from rag.retrieval.typos import find_typos
from rag.text.cleaning import clean, printable_path
from rag.text.identifiers import find_doi_in_url, parse_doi
from ui.render.html import answer_html, paper_html, sources_html
from ui.server.login import read_users

MANY_EXAMPLES = settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Text with a meaning in SQLite, FTS5, Python, LaTeX, HTML, shells or terminals.
SPECIAL_TEXTS = [
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
WORDS = st.sampled_from(SPECIAL_TEXTS) | st.text(st.characters(), max_size=12)
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


def try_call(call, *arguments, **options):
    """Return the result of a call, or None if it is refused with a one-line error."""
    try:
        return call(*arguments, **options)
    except UsageError as error:
        assert_printable_line(str(error))
        return None


def check_literal(answer):
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    quotes = [citation.quote for citation in answer.citations]
    assert all(claim.text in quotes for claim in answer.claims if claim.kind == "quoted")
    for line in answer.text.split("\n"):
        assert_printable_line(line)
    for form in ANSWER_FORMATS:
        export_answer(answer, form).encode("utf-8")
    check_safe(answer_html(answer))
    check_safe(sources_html([answer]))


# --- questions and filters --------------------------------------------------------------------


@pytest.mark.promise("bounded-input")
@MANY_EXAMPLES
@given(QUESTIONS, FILTERS)
@example("KV cache \ud800", {})
@example("x" * 2001, {})
@example(" \n ", {})
@example("KV cache?", {"venue": "Journal\ud800"})
@example("KV cache?", {"year": "20\n23"})
@example("KV cache?", {"author": "a" * 501})
@example("KV cache?", {"year": "\n"})
def test_any_question_and_filter_give_an_answer_or_a_one_line_error(library, question, filters):
    answer = try_call(library.ask, question, **filters)
    if answer is None:
        assert try_call(library.search, question, **filters) is None
        assert try_call(library.evidence, question, **filters) is None
        return
    check_literal(answer)
    *events, streamed = library.stream(question, **filters)
    pieces = [event for event in events if isinstance(event, str)]
    assert "".join(pieces) == streamed.text == answer.text
    hits = library.search(question, **filters)
    assert len(hits) <= library.count(**filters)
    for evidence in library.evidence(question, **filters):
        sentence = evidence.sentence
        assert sentence.text == evidence.paper.abstract[sentence.start : sentence.end]


@MANY_EXAMPLES
@given(QUESTIONS, QUESTIONS, FILTERS)
def test_any_two_questions_make_a_conversation(library, first, second, filters):
    chat = library.chat()
    assert isinstance(chat, Conversation)
    answers = [try_call(chat.ask, first), try_call(chat.ask, second, **filters)]
    for answer in filter(None, answers):
        check_literal(answer)
    assert len(chat.turns) == sum(answer is not None for answer in answers)
    chat.to_markdown().encode("utf-8")


@pytest.mark.parametrize("name", ["\ud800", "a\0b", " ", "\x1b[2J", "x" * 100_000])
def test_an_invalid_name_finds_no_paper(library, name):
    with pytest.raises(PaperNotFound):
        library.paper(name)


def test_a_search_for_too_many_papers_returns_all(library):
    assert len(library.search("owl", k=10**30)) == library.count()


def test_an_overlong_question_leaves_the_conversation_unchanged(library):
    chat = library.chat()
    chat.ask("How far does the KV cache shrink?")
    with pytest.raises(UsageError, match="1,999,999 characters"):
        chat.ask("a b " * 500_000)
    assert len(chat.turns) == 1


def test_deeply_nested_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="cannot read"):
        load_settings()


def test_a_source_error_replaces_surrogates_in_names():
    assert str(SourceError("a\ud800b", "no such file")) == "a�b: no such file"


@MANY_EXAMPLES
@given(FILTERS)
def test_any_filter_matches_papers_or_is_refused(library, filters):
    papers = try_call(lambda: list(library.papers(**filters)))
    count = try_call(library.count, **filters)
    assert (papers is None) == (count is None)
    assert papers is None or len(papers) == count


@pytest.mark.parametrize(
    ("filters", "message"),
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
def test_an_invalid_filter_is_explained_in_one_line(library, filters, message):
    with pytest.raises(UsageError) as error:
        library.count(**filters)
    assert str(error.value).startswith(message)
    assert_printable_line(str(error.value))


@pytest.mark.parametrize("name", ["year", "added_since"])
def test_a_blank_filter_matches_everything(library, name):
    assert library.count(**{name: " \n"}) == library.count() == 12


def run_in_time(code):
    """Run Python code in a process that can be stopped, unlike a regular expression."""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_names_are_found_in_linear_time():
    # Cubic time would mean minutes for a malicious title, and again for each question.
    assert analyze_query("What is the aAaA?").names == ("aAaA",)
    run_in_time("""
from rag.retrieval.query_analysis import analyze_query, title_names
for letters in ("aA", "bB", "cC", "dD"):
    assert title_names(letters * 995 + "_") == set()
    assert analyze_query(f"{letters * 990}_").names == ()
assert analyze_query("which " * 100 + "." * 1_300).answer_target == ()
""")


def test_only_the_first_typos_of_a_question_are_corrected():
    words = [f"{letter}orwegian" for letter in "abcdefghijklmnopqrstuvwxyz"]
    question = " ".join(f"{word[0]}orwegain" for word in words)
    assert find_typos(question, [" ".join(words)], lambda _: False) == {
        f"{word[0]}orwegain": word for word in words[:20]
    }


# --- output ----------------------------------------------------------------------------

FIELDS = "title abstract authors year venue url doi arxiv_id pmid extra retracted".split()
TEXTS = st.lists(
    st.sampled_from(PIECES + SPECIAL_TEXTS) | st.text(st.characters(), max_size=8), max_size=12
).map("".join)
RECORDS = st.dictionaries(st.sampled_from(FIELDS), TEXTS | st.lists(TEXTS, max_size=3), max_size=11)


def parse_record(path, record):
    """Return the paper that a parser makes of a record, if any."""
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with open_source(path, "jsonl") as source:
        (((_, outcome),)) = source
    return outcome if isinstance(outcome, Paper) else None


def check_lines(text):
    """Assert that no line contains a control character."""
    for line in text.split("\n"):
        assert_printable_line(line)


def check_markdown(text):
    """Assert that all markup outside of addresses in `<...>` is escaped."""
    bare = re.sub(r"<https?://[^<>\s]*>|\\.", "", text)
    assert not set(bare) & set("<>`|#")
    assert "](" not in bare
    assert "![" not in bare


@MANY_EXAMPLES
@given(RECORDS)
@example({"doi": "10.1000/a%1b]0;owned%07b", "url": "https://doi.org/10.1000/a%1b]0;owned%07b"})
@example({"title": "a" + "\u0301\u0327" * 400, "authors": "\x1b[2J", "venue": "\u202eABC"})
def test_any_record_can_be_shown_and_exported(tmp_path, record):
    paper = parse_record(tmp_path / "any", {"title": "A1"} | record)
    if paper is None:
        return
    check_lines(render_paper(paper))
    for form in PAPER_FORMATS:
        check_lines(export_papers([paper], form).replace("\t", " "))
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
    check_lines(render_answer(answer))
    for form in ANSWER_FORMATS:
        check_lines(export_answer(answer, form).replace("\t", " "))
    check_markdown(re.sub(r"\[\^1\]|\*", "", export_answer(answer, "markdown")))
    check_literal(answer)


@MANY_EXAMPLES
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
def test_any_paper_can_be_exported(paper):
    for form in PAPER_FORMATS:
        assert isinstance(export_papers([paper], form), str)
    assert render_paper(paper)


@MANY_EXAMPLES
@given(st.text(st.characters()))
@example("half\ud800")
@example("\udcff\udcfe")
@example("\x1b]0;owned\x07.bib")
def test_any_file_name_can_be_shown_and_stored(name):
    assert_printable_line(printable_path(name))
    assert len(printable_path("a" + name)) > 0
    assert printable_path("Zoë, 2021 (日本).bib") == "Zoë, 2021 (日本).bib"


@pytest.mark.parametrize(
    "doi", ["10.1000/a%1b]0;b%07", "10.1000/a\u202e]0;b", "10.1000/a%e2%80%ae]0;b%00"]
)
def test_control_characters_are_removed_from_a_doi(doi):
    assert (
        parse_doi(doi)
        == parse_doi(f"https://doi.org/{doi}")
        == find_doi_in_url(f"https://doi.org/{doi}")
        == "10.1000/a]0;b"
    )


def test_long_runs_of_combining_marks_are_cut():
    usual = unicodedata.normalize("NFC", "Z̷̢̛͉̈́a̴l̶g̸o e\u0301 \u0327")
    assert clean(usual) == " ".join(usual.split())
    assert clean("a" + "\u0301\u0327" * 40 + "b") == clean("a" + "\u0301\u0327" * 15 + "b")
    # Python sorts marks in quadratic time: these would take hours.
    run_in_time("""
from rag.text.cleaning import clean
assert clean("a" + "\u0301\u0327" * 1_000_000 + "b") == clean("a" + "\u0301\u0327" * 15 + "b")
assert clean("a" + "\u0f73" * 200_000 + "\u0301\uff9e" * 100_000).count("\u0f71") <= 30
""")


# --- other files ------------------------------------------------------------------------------

QUESTION_RECORD = {
    "id": "q1",
    "split": "dev",
    "kind": "base",
    "type": "fact",
    "question": "How salty?",
    "answerable": True,
    "gold": [["salt-1"]],
    "nuggets": [{"text": "8 grams", "any": ["8 grams"], "numbers": ["8"]}],
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "any", "numbers"]), inner)
    ),
    max_leaves=6,
)
CHANGES = st.dictionaries(
    st.sampled_from([*QUESTION_RECORD, "history", "must_not", "variant_of", "note", "\x1b\n"]),
    JSON_VALUES,
    max_size=3,
)


def check_questions(path):
    try:
        questions = load_questions(path)
    except UsageError as error:
        assert_printable_line(str(error))
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


@MANY_EXAMPLES
@given(CHANGES)
@example({"nuggets": [{"text": "x", "any": ["x"], "numbers": 0}]})
@example({"nuggets": [{"text": "x", "any": ["x"], "numbers": None}]})
@example({"nuggets": [{"text": "x", "any": ["x"], "vital": "no"}]})
@example({"history": None})
@example({"kind": "typo", "variant_of": ["q1"]})
@example({"question": "half \ud83d"})
@example({"note": 7})
@example({"\x1b\n": 7})
def test_any_question_record_is_loaded_or_refused_in_one_line(tmp_path, change):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(QUESTION_RECORD | change), encoding="utf-8")
    check_questions(file)


@pytest.mark.promise("bounded-input")
@MANY_EXAMPLES
@given(st.binary(max_size=200) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"[" * 100_000)
@example(b'{"id": ' + b"9" * 5_000)
def test_any_bytes_are_refused_as_questions_and_as_a_saved_answer(tmp_path, data):
    file = tmp_path / "questions.jsonl"
    file.write_bytes(data)
    check_questions(file)
    with pytest.raises(FootnoteError) as error:
        load_answer(data, "answer.json")
    assert_printable_line(str(error.value))


def question_refusal(path):
    with pytest.raises(UsageError) as error:
        load_questions(path)
    assert_printable_line(str(error.value))
    return str(error.value)


def test_nested_or_invalid_question_files_are_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_text("[" * 100_000, encoding="utf-8")
    assert question_refusal(file) == f"{file}, line 1: nested too deeply"
    file.write_text(json.dumps(QUESTION_RECORD | {"question": "half \ud83d"}), encoding="utf-8")
    assert question_refusal(file) == f"{file}, line 1: not valid Unicode"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nuggets": [{"text": "x", "any": ["x"], "numbers": 0}]}, "every nugget needs"),
        ({"nuggets": [{"text": "x", "any": ["x"], "numbers": None}]}, "every nugget needs"),
        ({"nuggets": [{"text": "x", "any": ["x"], "vital": "no"}]}, "every nugget needs"),
        ({"history": None}, "history must be a list of strings"),
        ({"must_not": 0}, "must_not must be a list of strings"),
        ({"kind": "typo", "variant_of": ["q1"]}, "variant_of must be a string"),
        ({"note": 7}, "note must be a string"),
        ({"colour\n\x1b[31m": 7}, "unknown fields: colour �[31m"),
    ],
)
def test_question_fields_of_the_wrong_type_are_refused(tmp_path, change, message):
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(QUESTION_RECORD | change), encoding="utf-8")
    assert f"line 1: {message}" in question_refusal(file)


def test_question_lines_may_contain_unicode_line_separators(tmp_path):
    file = tmp_path / "questions.jsonl"
    text = "How salty\u2028is it\x85?"
    file.write_text(
        json.dumps(QUESTION_RECORD | {"question": text}, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    assert [question.question for question in load_questions(file)] == [text]


def test_oversized_question_files_and_invalid_names_are_refused(tmp_path):
    file = tmp_path / "questions.jsonl"
    with file.open("wb") as sparse:
        sparse.truncate(65 * 1024 * 1024)
    assert "at most 67,108,864 characters" in question_refusal(file)
    assert "cannot read" in question_refusal(tmp_path / "a\0b")


def test_settings_of_a_saved_answer_are_escaped_in_messages(library):
    answer = json.loads(library.ask("How much does the KV cache shrink?").to_json())
    answer["trace"]["settings"] = {"\x1b]0;owned\x07\n" + "x" * 500: 1}
    with pytest.raises(FootnoteError) as error:
        load_answer(json.dumps(answer))
    assert_printable_line(str(error.value))
    assert len(str(error.value)) < 200
    answer["trace"]["settings"] = {"style": "\x1b]0;owned\x07\npoem"}
    with pytest.raises(FootnoteError, match="cannot ask") as error:
        replay(library, load_answer(json.dumps(answer)))
    assert_printable_line(str(error.value))


@MANY_EXAMPLES
@given(st.binary(max_size=100) | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_users_or_are_refused_in_one_line(tmp_path, data):
    file = tmp_path / "users"
    file.touch(mode=0o600)
    file.write_bytes(data)
    users = try_call(read_users, file)
    assert users is None or all(
        name.strip() and password.strip() for name, password in users.items()
    )
