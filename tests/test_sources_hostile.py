"""Whatever a file holds: a refusal at the door, or papers and rejections, in little time and memory."""

import json
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.errors import SourceError
from rag.records import Paper, Rejection
from rag.sources import FORMATS, open_source
from rag.sources.stream import MAX_LINE

MB = 1024 * 1024

# Pieces of all formats, so that random files are broken in interesting places.
PIECES = [
    *("Title", "Warm rings", "\n", "\r\n", "\n\n", ",", ";", "\t", '"', "{", "}", "[", "]", ":", "\\", "$", "%", "@"),
    *('{"title": "A1"}', '{"title": "A1", "abstract_inverted_index": {"a": [0, 2], "b": "x"}}', '{"paper": {"id": 1}}'),
    *('"authors": ', '{"results": [', '"issued": {"date-parts": [[', "null", "1e999", '"\\ud800"'),
    *("@article{a, title = {A1}, ", "author = {Okafor, Ada and ", "@string{j = ", "@comment{", "@misc{b,", "title = "),
    *("\\emph{", "\\'{", "\\begin{x}", "\\(", "TY  - JOUR\n", "TI  - A1\n", "UK  - x\n", "ER  - \n", "AB  - "),
    *("PMID- 1\n", "      more", "<PubmedArticleSet>", "<PubmedArticle>", "<ArticleTitle>A1", "</ArticleTitle>"),
    *("</PubmedArticle>", '<feed xmlns="http://www.w3.org/2005/Atom">', "<entry>", "<title>A1</title>", "</entry>"),
    *("<h3>", "</h3>", '<a href="/papers/2401.01234">', "<p>", "<!--", "-->", "<![CDATA[", "<!DOCTYPE html>", "&lol;"),
    *("<", ">", "&", "&#xd800;", "\ufeff", "\u2028", "\x00", "Subscribe", "Mar 11", "We look at rings. " * 20, "sep=;"),
    *("Title,Abstract,Year\n", "é", "2021", "10.1234/a", "https://[", "😀"),
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)
MANY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def check(path, form):
    """Every outcome of a file is a Paper or a Rejection, in its place."""
    try:
        source = open_source(path, form)
    except SourceError:
        return []
    with source:
        numbered = list(source)
    assert numbered, "a file that was opened tells what became of it"
    for place, (number, outcome) in enumerate(numbered, start=1):
        assert isinstance(outcome, (Paper, Rejection))
        if isinstance(outcome, Rejection):
            assert outcome.record == number
            assert outcome.why
        else:
            assert outcome.title
            assert outcome.id == ""
            assert outcome.source == path.name
            json.dumps(outcome.title + outcome.abstract).encode("utf-8")
            "".join(outcome.authors).encode("utf-8")
        assert number in (place, 0)
    return [outcome for _, outcome in numbered]


@pytest.mark.parametrize("form", FORMATS)
@MANY
@given(data=st.binary(max_size=300))
def test_any_bytes(tmp_path, form, data):
    path = tmp_path / "any"
    path.write_bytes(data)
    check(path, form)
    check(path, None)


@pytest.mark.parametrize("form", FORMATS)
@MANY
@given(text=TEXTS)
def test_any_text(tmp_path, form, text):
    path = tmp_path / "any"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    check(path, form)
    check(path, None)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["2021", "A1", "x; y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["name", "author"]), inner)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    "title abstract authors author year venue url doi arxiv_id pmid retracted paper versions authors_parsed DOI id "
    "text externalIds paperId abstract_inverted_index authorships ids primary_location issued container-title".split()
)


@MANY
@given(record=st.dictionaries(KEYS, JSON_VALUES, max_size=8))
def test_any_json_record(tmp_path, record):
    path = tmp_path / "any.json"
    path.write_text(json.dumps({"title": "A1"} | record))
    check(path, "jsonl")
    check(path, "json")


# --- size ---------------------------------------------------------------------------------------------------------


def write_large(path, before, after, size=20 * MB, filler=b"x" * MB):
    with path.open("wb") as file:
        file.write(before)
        for _ in range(size // MB):
            file.write(filler)
        file.write(after)


BODY = b"We look at rings, and then we look at moons. Both were seen before by others, it is true.\n"
FIRST = b"<PubmedArticleSet><PubmedArticle><ArticleTitle>A1</ArticleTitle></PubmedArticle>"


@pytest.mark.parametrize(
    ("form", "before", "after", "good"),
    [
        ("jsonl", b'{"title": "A1"}\n{"title": "', b'"}\n{"title": "A3"}\n', ["A1", "A3"]),
        ("csv", b"Title,Year\nA1,2001\n", b",2002\nA3,2003\n", ["A1", "A3"]),
        ("ris", b"TY  - JOUR\nTI  - A1\nER  -\nTY  - JOUR\nTI  - ", b"\nER  -\nTY  - JOUR\nTI  - A3\n", ["A1", "A3"]),
        ("medline", b"PMID- 1\nTI  - A1\n\nPMID- 2\nTI  - ", b"\n\nPMID- 3\nTI  - A3\n", ["A1", "A3"]),
        ("listing", b"A1 and more\n" + BODY, b"\nA3 and more\n" + BODY, ["A1 and more", "A3 and more"]),
    ],
)
def test_a_huge_line_costs_itself_and_no_memory(tmp_path, form, before, after, good):
    path = tmp_path / "huge"
    write_large(path, before, after)
    tracemalloc.start()
    outcomes = check(path, form)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [o.title for o in outcomes if isinstance(o, Paper)] == good
    assert [o.why for o in outcomes if isinstance(o, Rejection)] == ["line longer than 8 MB"]
    assert peak < 4 * MAX_LINE


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        ("json", b'[{"title": "A1"}, {"title": "', b'"}]'),
        ("pubmed-xml", FIRST + b"<PubmedArticle><ArticleTitle>", b"</ArticleTitle></PubmedArticle></PubmedArticleSet>"),
        ("pubmed-xml", FIRST + b"<!--", b"--></PubmedArticleSet>"),
        ("html", b"<h3><a href='/papers/2401.01234'>A1</a></h3><h3><a href='/papers/2401.01235'>", b"</a></h3>"),
    ],
)
def test_a_huge_value_keeps_what_came_before(tmp_path, form, before, after):
    path = tmp_path / "huge"
    write_large(path, before, after)
    outcomes = check(path, form)
    assert outcomes[0].title == "A1"
    assert all(isinstance(outcome, Rejection) for outcome in outcomes[1:])


def test_a_huge_record_of_small_values_costs_itself(tmp_path):
    path = tmp_path / "huge.json"
    write_large(path, b'[{"title": "A1"}, {"x": [1', b']}, {"title": "A3"}]', size=6 * MB, filler=b', "y"' * (MB // 5))
    outcomes = check(path, None)
    assert [getattr(outcome, "title", None) for outcome in outcomes] == ["A1", None, "A3"]
    assert outcomes[1].why == "record longer than 8 MB"


def test_an_array_of_many_records_is_read_in_little_memory(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(
        "[" + ",".join(json.dumps({"title": f"Paper {n}", "abstract": "x" * 400}) for n in range(8_000)) + "]"
    )
    tracemalloc.start()
    with open_source(path) as source:
        count = sum(isinstance(outcome, Paper) for _, outcome in source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 8_000
    assert peak < 3 * MB < path.stat().st_size


def test_bibtex_has_a_limit_of_size(tmp_path):
    path = tmp_path / "huge.bib"
    with path.open("wb") as file:
        file.write(b"@article{a, title={A1}}\n")
        file.truncate(64 * MB + 1)
    with pytest.raises(SourceError):
        open_source(path)
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(b"@article{a, title={A1}}\n" + b" " * (64 * 1024))
        file.truncate(64 * MB + 1)
    with pytest.raises(SourceError, match="more than 64 MB"):
        open_source(path)


# --- attacks ------------------------------------------------------------------------------------------------------

LAUGHS = (
    "<!DOCTYPE a [<!ENTITY l0 'ha'>" + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12)) + "]>"
)
ARTICLE = (
    "<PubmedArticleSet><PubmedArticle><ArticleTitle x='{0}'>A1 {0}</ArticleTitle></PubmedArticle></PubmedArticleSet>"
)


def test_entities_of_its_own_get_an_xml_file_refused(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(LAUGHS + ARTICLE.format("&l11;"))
    ((number, rejection),) = open_source(path)
    assert (number, rejection.why) == (
        0,
        "it declares entities of its own, which no export of papers does; it was not read",
    )


def test_entities_far_into_an_xml_file_are_not_expanded(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(f"<?xml version='1.0'?><!--PubmedArticle {'x' * 70_000}-->" + LAUGHS + ARTICLE.format("&l3;"))
    began = time.monotonic()
    outcomes = check(path, "pubmed-xml")
    assert time.monotonic() - began < 2
    assert all("haha" not in getattr(outcome, "title", "") for outcome in outcomes)


def test_files_of_the_machine_are_not_read(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    path = tmp_path / "outside.xml"
    padding = f"<!--PubmedArticle {'x' * 70_000}-->"
    for head in ("", padding):
        path.write_text(
            f"{head}<!DOCTYPE a [<!ENTITY s SYSTEM '{secret.as_uri()}'>]>"
            + ARTICLE.format("&amp;").replace("A1", "A1 &s;")
        )
        assert "SECRET" not in str(check(path, "pubmed-xml"))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("jsonl", '{"title": ' + "[" * 200_000),
        ("json", "[" * 200_000),
        ("json", '{"a":' * 100_000),
        ("bibtex", "@article{a, title = {" + "{" * 50_000 + "A1" + "}" * 50_000 + "}}"),
        ("bibtex", "@article{a, title = {A1}, abstract = {" + "\\textbf{" * 10_000 + "}" * 10_000 + "}}"),
        ("bibtex", "@article{a, title = {A1}, abstract = {" + "\\( $ \\[ " * 10_000 + "}}"),
        ("bibtex", "@article{" * 20_000),
        ("pubmed-xml", "<a>" * 100_000),
        ("html", "<div>" * 100_000 + "<h3><a href='/papers/2401.01234'>A1</a></h3>"),
        ("html", "<a <" * 50_000),
        ("csv", "Title,Abstract\n" + '"' * 200_001),
        ("csv", "Title,Abstract\n" + '"a\n' * 50_001),
        ("csv", "Title\tAbstract\n" + '""a"\t"\n' * 50_000),
        ("listing", "“(" * 100_000),
        ("listing", "A, " * 100_000),
        ("listing", ("A " * 40 + "\n\n") * 3_000),
        ("ris", "TY  - JOUR\nAU  - " + "A, " * 100_000 + "\nTI  - A1\n"),
        ("ris", "TY  - JOUR\nTI  - A1\nUR  - " + "http://[ " * 50_000 + "\nDO  - " + "doi:" * 50_000),
        ("medline", "PMID- " + "1 " * 200_000),
    ],
)
def test_no_input_takes_long(tmp_path, form, text):
    path = tmp_path / "slow"
    path.write_text(text)
    began = time.monotonic()
    check(path, form)
    assert time.monotonic() - began < 5
