"""Whatever a file holds: a refusal at the door, or papers and rejections, in little time and memory."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from bombs import BOMBS
from fakes import HashEmbedder
from fuzz import PIECES, check_line, outcomes_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import Assistant, Library
from rag.errors import SourceError
from rag.ingest.sources import FORMATS, MAX_REFUSED, open_source
from rag.ingest.sources.stream import MAX_LINE
from rag.records import Paper, Rejection

MB = 1024 * 1024
# What reading any file may take, Python and the readers themselves included.
MOST_MEGABYTES = 512

TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)
MANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("form", FORMATS)
@MANY
@given(data=st.binary(max_size=300))
def test_any_bytes(tmp_path, form, data):
    path = tmp_path / "any"
    path.write_bytes(data)
    outcomes_of(path, form)
    outcomes_of(path, None)


@pytest.mark.parametrize("form", FORMATS)
@MANY
@given(text=TEXTS)
def test_any_text(tmp_path, form, text):
    path = tmp_path / "any"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    outcomes_of(path, form)
    outcomes_of(path, None)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["2021", "A1", "x; y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["name", "author"]), inner)
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
    outcomes_of(path, "jsonl")
    outcomes_of(path, "json")


# --- size ---------------------------------------------------------------------------------------------------------


def write_large(path, before, after, size=20 * MB, filler=b"x" * MB):
    with path.open("wb") as file:
        file.write(before)
        for _ in range(size // MB):
            file.write(filler)
        file.write(after)


BODY = (
    b"We look at rings, and then we look at moons. Both were seen before by others, it is true.\n"
)
FIRST = b"<PubmedArticleSet><PubmedArticle><ArticleTitle>A1</ArticleTitle></PubmedArticle>"


@pytest.mark.parametrize(
    ("form", "before", "after", "good"),
    [
        ("jsonl", b'{"title": "A1"}\n{"title": "', b'"}\n{"title": "A3"}\n', ["A1", "A3"]),
        ("csv", b"Title,Year\nA1,2001\n", b",2002\nA3,2003\n", ["A1", "A3"]),
        (
            "ris",
            b"TY  - JOUR\nTI  - A1\nER  -\nTY  - JOUR\nTI  - ",
            b"\nER  -\nTY  - JOUR\nTI  - A3\n",
            ["A1", "A3"],
        ),
        (
            "medline",
            b"PMID- 1\nTI  - A1\n\nPMID- 2\nTI  - ",
            b"\n\nPMID- 3\nTI  - A3\n",
            ["A1", "A3"],
        ),
        (
            "listing",
            b"A1 and more\n" + BODY,
            b"\nA3 and more\n" + BODY,
            ["A1 and more", "A3 and more"],
        ),
    ],
)
def test_a_huge_line_costs_itself_and_no_memory(tmp_path, form, before, after, good):
    path = tmp_path / "huge"
    write_large(path, before, after)
    tracemalloc.start()
    outcomes = outcomes_of(path, form)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [o.title for o in outcomes if isinstance(o, Paper)] == good
    assert [o.reason for o in outcomes if isinstance(o, Rejection)] == ["line longer than 8 MB"]
    assert peak < 4 * MAX_LINE


@pytest.mark.parametrize(
    ("form", "before", "after"),
    [
        ("json", b'[{"title": "A1"}, {"title": "', b'"}]'),
        (
            "pubmed-xml",
            FIRST + b"<PubmedArticle><ArticleTitle>",
            b"</ArticleTitle></PubmedArticle></PubmedArticleSet>",
        ),
        ("pubmed-xml", FIRST + b"<!--", b"--></PubmedArticleSet>"),
        (
            "html",
            b"<h3><a href='/papers/2401.01234'>A1</a></h3><h3><a href='/papers/2401.01235'>",
            b"</a></h3>",
        ),
    ],
)
def test_a_huge_value_keeps_what_came_before(tmp_path, form, before, after):
    path = tmp_path / "huge"
    write_large(path, before, after)
    outcomes = outcomes_of(path, form)
    assert outcomes[0].title == "A1"
    assert all(isinstance(outcome, Rejection) for outcome in outcomes[1:])


def test_a_huge_record_of_small_values_costs_itself(tmp_path):
    path = tmp_path / "huge.json"
    write_large(
        path,
        b'[{"title": "A1"}, {"x": [1',
        b']}, {"title": "A3"}]',
        size=6 * MB,
        filler=b', "y"' * (MB // 5),
    )
    outcomes = outcomes_of(path, None)
    assert [getattr(outcome, "title", None) for outcome in outcomes] == ["A1", None, "A3"]
    assert outcomes[1].reason == "record longer than 8 MB"


def test_an_array_of_many_records_is_read_in_little_memory(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(
        "["
        + ",".join(json.dumps({"title": f"Paper {n}", "abstract": "x" * 400}) for n in range(8_000))
        + "]"
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
    "<!DOCTYPE a [<!ENTITY l0 'ha'>"
    + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
    + "]>"
)
ARTICLE = "<PubmedArticleSet><PubmedArticle><ArticleTitle x='{0}'>A1 {0}</ArticleTitle></PubmedArticle></PubmedArticleSet>"


def test_entities_of_its_own_get_an_xml_file_refused(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(LAUGHS + ARTICLE.format("&l11;"))
    ((number, rejection),) = open_source(path)
    assert (number, rejection.reason) == (
        0,
        "it declares entities of its own, which no export of papers does; it was not read",
    )


def test_entities_far_into_an_xml_file_are_not_expanded(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(
        f"<?xml version='1.0'?><!--PubmedArticle {'x' * 70_000}-->"
        + LAUGHS
        + ARTICLE.format("&l3;")
    )
    outcomes = outcomes_of(path, "pubmed-xml")
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
        assert "SECRET" not in str(outcomes_of(path, "pubmed-xml"))


@pytest.fixture(scope="module")
def blown(tmp_path_factory):
    """What reading each of the bombs came to, by its name."""
    if not hasattr(os, "fork"):
        pytest.skip("each bomb is read in a forked process, and this system has none")
    ended = subprocess.run(
        [sys.executable, Path(__file__).parent / "bombs.py", tmp_path_factory.mktemp("bombs")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {result["bomb"]: result for result in map(json.loads, ended.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_read_or_refused_in_little_memory(blown, name):
    _, _, titles, reason = BOMBS[name]
    result = blown[name]
    assert "status" not in result, "it broke, or did not end"
    assert result["peak"] < MOST_MEGABYTES
    assert result["papers"] + result["refused"] > 0
    if titles is not None:
        assert result["titles"] == titles
    if reason is not None:
        assert result["reasons"][0].startswith(reason)


def test_a_file_that_holds_hardly_a_record_is_not_read_to_its_end(blown):
    for name in ("records that are none", "numbers that are no records"):
        assert blown[name]["refused"] == MAX_REFUSED + 1
        assert blown[name]["last"] == [
            "100,000 of 100,000 records cannot be read; the rest was left out"
        ]


def test_of_a_file_of_papers_all_are_read_however_many_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.ingest.sources.MAX_REFUSED", 100)
    path = tmp_path / "many.jsonl"
    path.write_text('{"title": "A1"}\nx\n' * 150 + "x\n" * 10, encoding="utf-8")
    outcomes = outcomes_of(path, "jsonl")
    assert sum(isinstance(outcome, Paper) for outcome in outcomes) == 150
    assert outcomes[-1] == Rejection(
        str(path), 303, "152 of 302 records cannot be read; the rest was left out"
    )


@pytest.mark.parametrize(
    ("field", "limit", "told"),
    [
        ("title", 2_000, "title longer than 2,000 characters"),
        ("abstract", 100_000, "abstract longer than 100,000 characters"),
        ("venue", 2_000, "venue longer than 2,000 characters"),
        ("authors", 1_000_000, "authors longer than 1,000,000 characters"),
    ],
)
def test_a_field_may_be_as_long_as_is_written_and_no_longer(tmp_path, field, limit, told):
    path = tmp_path / "long.jsonl"
    rows = [{"title": "A1", field: "x" * length} for length in (limit, limit + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    paper, rejection = outcomes_of(path, None)
    assert isinstance(paper, Paper)
    assert rejection.reason == told


def test_what_identifies_a_paper_is_looked_for_so_far(tmp_path):
    address = "https://a.example/"
    rows = [
        {"url": address + "x" * (2_000 - len(address)), "doi": " " * 1_900 + "10.1234/a"},
        {"url": address + "x" * (2_001 - len(address)), "doi": " " * 2_000 + "10.1234/a"},
        {"url": "x " * 99 + address},
        {"url": "x " * 100 + address},
    ]
    path = tmp_path / "far.jsonl"
    path.write_text("".join(json.dumps({"title": "A1"} | row) + "\n" for row in rows))
    papers = outcomes_of(path, None)
    assert [len(paper.url) for paper in papers] == [2_000, 0, len(address), 0]
    assert [paper.doi for paper in papers] == ["10.1234/a", "", "", ""]


@pytest.mark.parametrize(("length", "papers"), [(100_000, 1), (100_001, 0)])
def test_the_header_of_a_table_may_be_as_long_as_is_written(tmp_path, length, papers):
    path = tmp_path / "wide.csv"
    path.write_text("Title,".ljust(length, "x") + "\nA1,\n")
    assert sum(isinstance(outcome, Paper) for outcome in outcomes_of(path, "csv")) == papers


# --- paths --------------------------------------------------------------------------------------------------------


def add(folder, *paths):
    return Assistant(Library(folder / "library"), HashEmbedder(), "none").add(*paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_what_is_no_file_is_refused(tmp_path):
    pipe = tmp_path / "pipe.bib"
    os.mkfifo(pipe)
    (tmp_path / "round.bib").symlink_to(tmp_path / "round.bib")
    report = add(tmp_path, pipe, "/dev/zero", tmp_path / "round.bib", "half\ud800.bib", "a\0b.bib")
    assert [rejection.reason for rejection in report.rejected][:2] == ["not a regular file"] * 2
    assert len(report.rejected) == 5
    for rejection in report.rejected:
        check_line(f"{rejection.source}: {rejection.reason}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_folder_of_odd_things_gives_its_files_only(tmp_path):
    folder = tmp_path / "papers"
    folder.mkdir()
    os.mkfifo(folder / "pipe.bib")
    (folder / "lost.bib").symlink_to(tmp_path / "nothing")
    (folder / "a.jsonl").write_text('{"title": "A1"}\n')
    report = add(tmp_path, folder)
    assert (report.added, report.rejected) == (1, ())


# Each link leads to the folder again: followed, 40 links deep, they would be more paths than can be counted.
CIRCLE = """
import sys
from rag.ingest.sources import expand
print(len(expand(sys.argv[1:])))
"""


@pytest.mark.parametrize(
    "pattern", [".", "**", "**/*.jsonl", "**/**/a.jsonl", "inner/**/inner/**", "*/*.jsonl"]
)
def test_links_in_a_circle_come_to_an_end(tmp_path, pattern):
    inner = tmp_path / "papers" / "inner" / "inner"
    inner.mkdir(parents=True)
    for number in range(3):
        (inner / f"back{number}").symlink_to(tmp_path / "papers")
        (tmp_path / "papers" / f"round{number}").symlink_to(tmp_path / "papers")
    (inner / "a.jsonl").write_text('{"title": "A1"}\n')
    (inner.parent / "b.jsonl").write_text('{"title": "A2"}\n')
    command = [sys.executable, "-c", CIRCLE, tmp_path / "papers" / pattern]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout == {
        "**/**/a.jsonl": "1\n",
        "inner/**/inner/**": "1\n",
        "*/*.jsonl": "1\n",
    }.get(pattern, "2\n")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="for root every folder is readable"
)
def test_a_folder_that_cannot_be_read_costs_no_other(tmp_path):
    for name in ("closed", "listed", "open"):
        (tmp_path / "papers" / name).mkdir(parents=True)
        (tmp_path / "papers" / name / "a.jsonl").write_text(f'{{"title": "{name}"}}\n')
    (tmp_path / "papers" / "closed").chmod(0o000)
    (tmp_path / "papers" / "listed").chmod(0o400)
    try:
        report = add(tmp_path, tmp_path / "papers", tmp_path / "papers" / "listed" / "*.jsonl")
    finally:
        (tmp_path / "papers" / "closed").chmod(0o700)
        (tmp_path / "papers" / "listed").chmod(0o700)
    assert report.added == 1
    assert {rejection.reason for rejection in report.rejected} == {
        "cannot be read: Permission denied"
    }


def test_the_name_of_a_file_steers_no_terminal(tmp_path):
    path = tmp_path / "\x1b]0;owned\x07\u202e.jsonl"
    path.write_text('{"title": "A1"}\nx\n', encoding="utf-8")
    with open_source(path) as source:
        (_, paper), (_, rejection) = source
    assert paper.source == "�]0;owned��.jsonl"
    check_line(rejection.source)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("csv", "\x1b[31mName\u202e,Year\n"),
        ("bibtex", "@article{\x1b[31m\u202e\x07\n@@{"),
        ("listing", "\x1b[31m\u202eA\n\n" * 3),
        ("pubmed-xml", "<PubmedArticleSet>\x1b[31m&\u202e;"),
        ("atom", '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/api/errors</id>'
         "<summary>&#x202e;\u2028wrong</summary></entry></feed>"),
    ],
)  # fmt: skip
def test_what_is_told_of_a_broken_file_steers_no_terminal(tmp_path, form, text):
    path = tmp_path / "odd"
    path.write_text(text, encoding="utf-8")
    with open_source(path, form) as source:
        rejections = [outcome for _, outcome in source if isinstance(outcome, Rejection)]
    assert rejections
    for rejection in rejections:
        check_line(rejection.reason)
        assert len(rejection.reason) <= 400


# --- papers that are bombs ----------------------------------------------------------------------------------------

ABSTRACTS = {
    "sentences": "A1. " * 2_000,
    "one word": "a" * 100_000,
    "one compound": "a-" * 49_999 + "b",
    "one number": "1,111" * 20_000,
    "one name": "aA" * 49_999 + "_",
    "Greek": "\\alpha " * 14_000,
    "braces": "\\a" + "{" * 99_000,
    "environments": "\\begin{x} " * 9_000,
    "dollars": "$ x" * 33_000,
    "scripts": "a_{b^{c" * 14_000,
    "brackets": "([{" * 33_000,
    "marks": "a" + "\u0301\u0327" * 49_000,
    "Korean": "가" * 100_000,
}
ASK = """
import sys
from fakes import HashEmbedder
from rag import Assistant, Library
assistant = Assistant(Library(__import__("pathlib").Path(sys.argv[1]) / "library"), HashEmbedder(), "none")
report = assistant.add(sys.argv[2])
for question in ("Which papers are about marks?", "What does aAaAaA do?", "How many braces has a1?"):
    for citation in assistant.ask(question).citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
print(report.added, [rejection.why for rejection in report.rejected])
"""


def test_papers_that_are_bombs_are_added_and_asked(tmp_path):
    path = tmp_path / "papers.jsonl"
    rows = [
        {"title": f"On {name} {'aA' * 900}_", "abstract": text} for name, text in ABSTRACTS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parent.parent]))
    ended = subprocess.run(
        [sys.executable, "-c", ASK, tmp_path, path],
        env=os.environ | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert ended.stdout.split("\n")[0] == f"{len(ABSTRACTS)} []", ended.stderr
