"""Untrusted files: whatever they contain, they are read or refused in little time and memory."""

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from bombs import BOMBS
from fakes import HashEmbedder
from fuzz import PIECES, assert_printable_line, read_outcomes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import Assistant, Library
from rag.errors import SourceError
from rag.ingest.sources.common.stream import MAX_LINE
from rag.ingest.sources.registry import FORMATS
from rag.ingest.sources.source import MAX_REJECTIONS, open_source
from rag.records import Paper, Rejection

MB = 1024 * 1024
# Peak memory of reading any file, Python and the parsers included.
MAX_MEGABYTES = 512

TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)
FUZZ_SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.promise("bounded-input")
@pytest.mark.parametrize("format_name", FORMATS)
@FUZZ_SETTINGS
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path, format_name, data):
    path = tmp_path / "any"
    path.write_bytes(data)
    read_outcomes(path, format_name)
    read_outcomes(path, None)


@pytest.mark.parametrize("format_name", FORMATS)
@FUZZ_SETTINGS
@given(text=TEXTS)
def test_any_text_is_read_or_refused(tmp_path, format_name, text):
    path = tmp_path / "any"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    read_outcomes(path, format_name)
    read_outcomes(path, None)


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


@FUZZ_SETTINGS
@given(record=st.dictionaries(KEYS, JSON_VALUES, max_size=8))
def test_any_json_record_is_read_or_rejected(tmp_path, record):
    path = tmp_path / "any.json"
    path.write_text(json.dumps({"title": "A1"} | record))
    read_outcomes(path, "jsonl")
    read_outcomes(path, "json")


# --- size ----------------------------------------------------------------------------------------


def write_large(path, before, after, size=20 * MB, filler=b"x" * MB):
    with path.open("wb") as file:
        file.write(before)
        for _ in range(size // MB):
            file.write(filler)
        file.write(after)


BODY = (
    b"We look at rings, and then we look at moons. Both were seen before by others, it is true.\n"
)
FIRST_ARTICLE = b"<PubmedArticleSet><PubmedArticle><ArticleTitle>A1</ArticleTitle></PubmedArticle>"


@pytest.mark.parametrize(
    ("format_name", "before", "after", "good"),
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
def test_huge_line_loses_only_itself_and_takes_no_memory(
    tmp_path, format_name, before, after, good
):
    path = tmp_path / "huge"
    write_large(path, before, after)
    tracemalloc.start()
    outcomes = read_outcomes(path, format_name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [o.title for o in outcomes if isinstance(o, Paper)] == good
    assert [o.reason for o in outcomes if isinstance(o, Rejection)] == ["line longer than 8 MB"]
    assert peak < 4 * MAX_LINE


@pytest.mark.parametrize(
    ("format_name", "before", "after"),
    [
        ("json", b'[{"title": "A1"}, {"title": "', b'"}]'),
        (
            "pubmed-xml",
            FIRST_ARTICLE + b"<PubmedArticle><ArticleTitle>",
            b"</ArticleTitle></PubmedArticle></PubmedArticleSet>",
        ),
        ("pubmed-xml", FIRST_ARTICLE + b"<!--", b"--></PubmedArticleSet>"),
        (
            "html",
            b"<h3><a href='/papers/2401.01234'>A1</a></h3><h3><a href='/papers/2401.01235'>",
            b"</a></h3>",
        ),
    ],
)
def test_huge_value_keeps_earlier_records(tmp_path, format_name, before, after):
    path = tmp_path / "huge"
    write_large(path, before, after)
    outcomes = read_outcomes(path, format_name)
    assert outcomes[0].title == "A1"
    assert all(isinstance(outcome, Rejection) for outcome in outcomes[1:])


def test_huge_record_of_small_values_loses_only_itself(tmp_path):
    path = tmp_path / "huge.json"
    write_large(
        path,
        b'[{"title": "A1"}, {"x": [1',
        b']}, {"title": "A3"}]',
        size=6 * MB,
        filler=b', "y"' * (MB // 5),
    )
    outcomes = read_outcomes(path, None)
    assert [getattr(outcome, "title", None) for outcome in outcomes] == ["A1", None, "A3"]
    assert outcomes[1].reason == "record longer than 8 MB"


def test_large_json_array_is_read_in_little_memory(tmp_path):
    path = tmp_path / "many.json"
    path.write_text(
        "["
        + ",".join(
            json.dumps({"title": f"Paper {n}", "abstract": "x" * 2_000}) for n in range(2_000)
        )
        + "]"
    )
    tracemalloc.start()
    with open_source(path) as source:
        count = sum(isinstance(outcome, Paper) for _, outcome in source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2_000
    assert peak < 3 * MB < path.stat().st_size


def test_large_bibtex_file_is_refused(tmp_path):
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


# --- attacks -------------------------------------------------------------------------------------

BILLION_LAUGHS = (
    "<!DOCTYPE a [<!ENTITY l0 'ha'>"
    + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
    + "]>"
)
ARTICLE = "<PubmedArticleSet><PubmedArticle><ArticleTitle x='{0}'>A1 {0}</ArticleTitle></PubmedArticle></PubmedArticleSet>"


@pytest.mark.promise("bounded-input")
def test_xml_that_declares_entities_is_refused(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(BILLION_LAUGHS + ARTICLE.format("&l11;"))
    ((number, rejection),) = open_source(path)
    assert (number, rejection.reason) == (
        0,
        "not read: it declares XML entities, which exports of papers never do",
    )


def test_entities_declared_late_are_not_expanded(tmp_path):
    path = tmp_path / "laughs.xml"
    path.write_text(
        f"<?xml version='1.0'?><!--PubmedArticle {'x' * 70_000}-->"
        + BILLION_LAUGHS
        + ARTICLE.format("&l3;")
    )
    outcomes = read_outcomes(path, "pubmed-xml")
    assert all("haha" not in getattr(outcome, "title", "") for outcome in outcomes)


def test_xml_cannot_include_local_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    path = tmp_path / "outside.xml"
    padding = f"<!--PubmedArticle {'x' * 70_000}-->"
    for head in ("", padding):
        path.write_text(
            f"{head}<!DOCTYPE a [<!ENTITY s SYSTEM '{secret.as_uri()}'>]>"
            + ARTICLE.format("&amp;").replace("A1", "A1 &s;")
        )
        assert "SECRET" not in str(read_outcomes(path, "pubmed-xml"))


@pytest.fixture(scope="module")
def bomb_results(tmp_path_factory):
    """Results of reading each bomb, by name."""
    if not hasattr(os, "fork"):
        pytest.skip("each bomb is read in a forked process, and this system has none")
    process = subprocess.run(
        [sys.executable, Path(__file__).parent / "bombs.py", tmp_path_factory.mktemp("bombs")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {result["bomb"]: result for result in map(json.loads, process.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_read_or_refused_in_little_memory(bomb_results, name):
    _, _, titles, reason = BOMBS[name]
    result = bomb_results[name]
    assert "status" not in result, "it crashed or did not end"
    assert result["peak"] < MAX_MEGABYTES
    assert result["papers"] + result["rejected"] > 0
    if titles is not None:
        assert result["titles"] == titles
    if reason is not None:
        assert result["reasons"][0].startswith(reason)


def test_file_of_invalid_records_is_not_read_to_its_end(bomb_results):
    for name in ("many invalid lines", "many numbers instead of records"):
        assert bomb_results[name]["rejected"] == MAX_REJECTIONS + 1
        assert bomb_results[name]["last"] == [
            "100,000 of 100,000 records are invalid; the rest of the file was not read"
        ]


def test_file_with_more_papers_than_rejections_is_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.ingest.sources.source.MAX_REJECTIONS", 100)
    path = tmp_path / "many.jsonl"
    path.write_text('{"title": "A1"}\nx\n' * 150 + "x\n" * 10, encoding="utf-8")
    outcomes = read_outcomes(path, "jsonl")
    assert sum(isinstance(outcome, Paper) for outcome in outcomes) == 150
    assert outcomes[-1] == Rejection(
        str(path), 303, "152 of 302 records are invalid; the rest of the file was not read"
    )


@pytest.mark.parametrize(
    ("field", "limit", "reason"),
    [
        ("title", 2_000, "title longer than 2,000 characters"),
        ("abstract", 100_000, "abstract longer than 100,000 characters"),
        ("venue", 2_000, "venue longer than 2,000 characters"),
        ("authors", 1_000_000, "authors longer than 1,000,000 characters"),
    ],
)
def test_limits_of_fields_are_exact(tmp_path, field, limit, reason):
    path = tmp_path / "long.jsonl"
    rows = [{"title": "A1", field: "x" * length} for length in (limit, limit + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    paper, rejection = read_outcomes(path, None)
    assert isinstance(paper, Paper)
    assert rejection.reason == reason


def test_limits_of_identifier_search_are_exact(tmp_path):
    address = "https://a.example/"
    rows = [
        {"url": address + "x" * (2_000 - len(address)), "doi": " " * 1_900 + "10.1234/a"},
        {"url": address + "x" * (2_001 - len(address)), "doi": " " * 2_000 + "10.1234/a"},
        {"url": "x " * 99 + address},
        {"url": "x " * 100 + address},
    ]
    path = tmp_path / "far.jsonl"
    path.write_text("".join(json.dumps({"title": "A1"} | row) + "\n" for row in rows))
    papers = read_outcomes(path, None)
    assert [len(paper.url) for paper in papers] == [2_000, 0, len(address), 0]
    assert [paper.doi for paper in papers] == ["10.1234/a", "", "", ""]


@pytest.mark.parametrize(("length", "papers"), [(100_000, 1), (100_001, 0)])
def test_limit_of_a_table_header_is_exact(tmp_path, length, papers):
    path = tmp_path / "wide.csv"
    path.write_text("Title,".ljust(length, "x") + "\nA1,\n")
    assert sum(isinstance(outcome, Paper) for outcome in read_outcomes(path, "csv")) == papers


# --- paths ---------------------------------------------------------------------------------------


def add(folder, *paths):
    return Assistant(Library(folder / "library"), HashEmbedder(), "none").add(*paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_devices_and_invalid_paths_are_refused(tmp_path):
    pipe = tmp_path / "pipe.bib"
    os.mkfifo(pipe)
    (tmp_path / "round.bib").symlink_to(tmp_path / "round.bib")
    report = add(tmp_path, pipe, "/dev/zero", tmp_path / "round.bib", "half\ud800.bib", "a\0b.bib")
    assert [rejection.reason for rejection in report.rejected][:2] == ["not a regular file"] * 2
    assert len(report.rejected) == 5
    for rejection in report.rejected:
        assert_printable_line(f"{rejection.source}: {rejection.reason}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_folder_yields_only_regular_files(tmp_path):
    folder = tmp_path / "papers"
    folder.mkdir()
    os.mkfifo(folder / "pipe.bib")
    (folder / "lost.bib").symlink_to(tmp_path / "nothing")
    (folder / "a.jsonl").write_text('{"title": "A1"}\n')
    report = add(tmp_path, folder)
    assert (report.added, report.rejected) == (1, ())


# Each link leads back to the folder. Followed to a depth of 40, they would give countless paths.
COUNT_EXPANDED = """
import sys
from rag.ingest.sources.paths import expand_paths
print(len(expand_paths(sys.argv[1:])))
"""


@pytest.mark.promise("bounded-input")
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (".", 2),
        ("**", 2),
        ("**/*.jsonl", 2),
        ("**/**/a.jsonl", 1),
        ("inner/**/inner/**", 1),
        ("*/*.jsonl", 1),
    ],
)
def test_circular_links_end(tmp_path, pattern, expected):
    inner = tmp_path / "papers" / "inner" / "inner"
    inner.mkdir(parents=True)
    for number in range(3):
        (inner / f"back{number}").symlink_to(tmp_path / "papers")
        (tmp_path / "papers" / f"round{number}").symlink_to(tmp_path / "papers")
    (inner / "a.jsonl").write_text('{"title": "A1"}\n')
    (inner.parent / "b.jsonl").write_text('{"title": "A2"}\n')
    command = [sys.executable, "-c", COUNT_EXPANDED, tmp_path / "papers" / pattern]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(process.stdout) == expected


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="for root every folder is readable"
)
def test_unreadable_folder_does_not_affect_others(tmp_path):
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


@pytest.mark.promise("inert-text")
def test_file_name_cannot_steer_a_terminal(tmp_path):
    path = tmp_path / "\x1b]0;owned\x07\u202e.jsonl"
    path.write_text('{"title": "A1"}\nx\n', encoding="utf-8")
    with open_source(path) as source:
        (_, paper), (_, rejection) = source
    assert paper.source == "�]0;owned��.jsonl"
    assert_printable_line(rejection.source)


@pytest.mark.parametrize(
    ("format_name", "text"),
    [
        ("csv", "\x1b[31mName\u202e,Year\n"),
        ("bibtex", "@article{\x1b[31m\u202e\x07\n@@{"),
        ("listing", "\x1b[31m\u202eA\n\n" * 3),
        ("pubmed-xml", "<PubmedArticleSet>\x1b[31m&\u202e;"),
        ("atom", '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/api/errors</id>'
         "<summary>&#x202e;\u2028wrong</summary></entry></feed>"),
    ],
)  # fmt: skip
def test_rejection_of_a_broken_file_cannot_steer_a_terminal(tmp_path, format_name, text):
    path = tmp_path / "odd"
    path.write_text(text, encoding="utf-8")
    with open_source(path, format_name) as source:
        rejections = [outcome for _, outcome in source if isinstance(outcome, Rejection)]
    assert rejections
    for rejection in rejections:
        assert_printable_line(rejection.reason)
        assert len(rejection.reason) <= 400


# --- papers that are bombs -----------------------------------------------------------------------

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
for question in sys.argv[3:]:
    for citation in assistant.ask(question).citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
print(report.added, [rejection.reason for rejection in report.rejected])
"""
QUESTIONS = [
    "How many marks and braces does aAaAaA have in a1?",
    "Which papers are about marks?",
    "What does aAaAaA do?",
    "How many braces has a1?",
]


@pytest.mark.soak
def test_papers_that_are_bombs_are_added_and_asked(tmp_path, times):
    path = tmp_path / "papers.jsonl"
    rows = [
        {"title": f"On {name} {'aA' * 900}_", "abstract": text} for name, text in ABSTRACTS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folders = os.pathsep.join(map(str, [Path(__file__).parent, Path(__file__).parent.parent]))
    process = subprocess.run(
        [sys.executable, "-c", ASK, tmp_path, path, *times(QUESTIONS[:1], QUESTIONS)],
        env=os.environ | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert process.stdout.split("\n")[0] == f"{len(ABSTRACTS)} []", process.stderr
