"""Commands: data on standard output, messages on standard error, exit codes, helpful errors."""

import importlib.metadata
import json
import logging
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import PAPERS

from rag import Assistant
from rag.cli import main as cli

QUESTION = "Which papers shrink the KV cache, and by how much?"
UNANSWERABLE = "Who won the football world cup?"
TITLES = [json.loads(line)["title"] for line in PAPERS.read_text(encoding="utf-8").splitlines()]
(LEDGERS, KEYS, U_NETS, SKETCHES, SPARSE, SHIPS, SPEECH, VOLES, CRANES, CORALS, SWITCH, LETTER) = (
    TITLES
)
COMMANDS = [
    "add",
    "ask",
    "replay",
    "chat",
    "search",
    "list",
    "show",
    "remove",
    "export",
    "reindex",
    "doctor",
    "config",
    "ui",
    "eval",
]


def run_process(*arguments, **options):
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "rag.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, **options
    )


def titles(run):
    return [paper["title"] for paper in run.json]


# --- add --------------------------------------------------------------------------------------


def test_add_reports_counts_and_repeating_it_loads_no_model(footnote, tmp_path, monkeypatch):
    first = footnote("add", PAPERS, "--library", tmp_path / "new")
    assert (first.code, first.err) == (0, "")
    assert first.lines == [
        "12 records read: 12 added, 0 updated, 0 merged, 0 unchanged, 0 rejected",
        "12 papers in the library",
        "1 without an abstract: found by title, never quoted",
    ]
    monkeypatch.setattr(
        "rag.assistant.load_embedder", lambda _: pytest.fail("a model was loaded for nothing")
    )
    again = footnote("add", PAPERS, "--library", tmp_path / "new")
    assert (
        again.lines[0] == "12 records read: 0 added, 0 updated, 0 merged, 12 unchanged, 0 rejected"
    )


def test_add_json_has_the_documented_shape(footnote, library_copy, tmp_path):
    (tmp_path / "more.jsonl").write_text(
        '{"title": "Two-bit keys, four-bit values!"}\n{"abstract": "No title."}\n'
    )
    run = footnote("add", PAPERS, tmp_path / "more.jsonl", "--library", library_copy, "--json")
    assert run.code == 1
    documented = {"read", "added", "updated", "merged", "unchanged", "rejected", "papers"}
    assert set(run.json) == documented | {"without_abstract", "merges", "absorbed", "flagged"}
    counts = {
        name: run.json[name]
        for name in ("read", "added", "updated", "merged", "unchanged", "papers")
    }
    assert counts == {
        "read": 14,
        "added": 0,
        "updated": 0,
        "merged": 1,
        "unchanged": 12,
        "papers": 12,
    }
    assert run.json["rejected"] == [
        {"source": str(tmp_path / "more.jsonl"), "record": 2, "reason": "no title"}
    ]
    assert [tuple(merge.values()) for merge in run.json["merges"]] == [
        (run.json["merges"][0]["paper_id"], KEYS, str(tmp_path / "more.jsonl"), 1, "title")
    ]
    assert list(run.json["merges"][0])[-1] == "matched_by"
    assert run.err == f"footnote: rejected: {tmp_path / 'more.jsonl'}, record 2: no title\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.bib", None, "no such file"),
        ("empty.jsonl", b"", "the file is empty"),
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(64), "a binary file"),
        ("paper.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "a PDF"),
        ("notes.txt", b"Buy milk.\n\nCall the plumber.\n", "no papers found"),
        (
            "page.html",
            b"<html><body><h1>Welcome</h1><p>Nothing here.</p></body></html>",
            "no papers found",
        ),
    ],
)
def test_add_rejects_a_file_without_papers_and_keeps_the_others(
    footnote, tmp_path, name, content, message
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    run = footnote("add", tmp_path / name, PAPERS, "--library", tmp_path / "new")
    assert run.code == 1
    assert f"footnote: rejected: {tmp_path / name}" in run.err
    assert message in run.err
    assert run.lines[0] == "12 records read: 12 added, 0 updated, 0 merged, 0 unchanged, 1 rejected"
    assert "Traceback" not in run.err


def test_add_keeps_the_records_before_a_truncated_one(footnote, tmp_path):
    broken = tmp_path / "broken.jsonl"
    lines = PAPERS.read_text(encoding="utf-8").splitlines()
    broken.write_text("\n".join([*lines[:2], lines[2][:80]]), encoding="utf-8")
    run = footnote("add", broken, "--library", tmp_path / "new")
    assert run.code == 1
    assert f"{broken}, record 3: broken JSON" in run.err
    assert titles(footnote("list", "--library", tmp_path / "new", "--json")) == [LEDGERS, KEYS]


def test_add_skips_a_broken_bibtex_entry(footnote, tmp_path):
    broken = tmp_path / "zotero.bib"
    broken.write_text(
        "@article{a, title = {Reed Beds}, year = {2001}}\n\n"
        "@article{b, title = {Salt Marshes, year = {2002}\n\n"
        "@article{c, title = {Night Owls}, author = {Brandt, Ada}, year = {2003}}\n"
    )
    run = footnote("add", broken, "--library", tmp_path / "new")
    assert run.code == 1
    assert f"{broken}, record 2: broken BibTeX" in run.err
    assert titles(footnote("list", "--library", tmp_path / "new", "--json")) == [
        "Reed Beds",
        "Night Owls",
    ]


@pytest.mark.promise("inert-text")
def test_add_escapes_control_characters_in_file_names(footnote, tmp_path):
    run = footnote("add", "\x1b]0;owned\x07.bib", "--library", tmp_path / "new")
    assert run.code == 1
    assert "\x1b" not in run.err + run.out
    assert "\x07" not in run.err + run.out


@pytest.mark.parametrize("where", ["a file", "a file/below"])
def test_add_fails_when_the_library_cannot_be_created(footnote, tmp_path, where):
    (tmp_path / "a file").write_text("in the way")
    run = footnote("add", PAPERS, "--library", tmp_path / where)
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith(f"footnote: cannot create a library in {tmp_path / where}: ")


def test_add_accepts_a_format_and_refuses_an_unknown_one(footnote, tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text('{"title": "Reed Beds", "abstract": "Reeds filter water."}\n')
    assert footnote("add", path, "--format", "jsonl", "--library", tmp_path / "new").code == 0
    run = footnote("add", path, "--format", "word", "--library", tmp_path / "other")
    assert run.code == 2
    assert "unknown format 'word'; choose from: " in run.err
    assert "pubmed-xml" in run.err
    assert not (tmp_path / "other").exists()


def test_add_without_files_is_wrong_usage(footnote, tmp_path):
    run = footnote("add", "--library", tmp_path / "new")
    assert run.code == 2
    assert "name the files to add, or use --sample" in run.err
    assert not (tmp_path / "new").exists()


# --- ask --------------------------------------------------------------------------------------


def test_ask_prints_quotations_with_footnotes(footnote, small_library):
    run = footnote("ask", QUESTION, "--library", small_library)
    assert (run.code, run.err) == (0, "")
    text = " ".join(run.out.split())
    quote = "“The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only.”"
    assert text.startswith(f"{LEDGERS} (Ngozi Okafor et al., 2024) {quote} [1]")
    assert "[1] https://doi.org/10.5555/ledger.2024.17" in run.lines
    assert max(map(len, run.lines)) <= 80
    assert run.lines[-1] == "Confidence: high"


def test_ask_json_has_the_documented_shape(footnote, small_library):
    run = footnote("ask", QUESTION, "--library", small_library, "--json")
    assert (run.code, run.err) == (0, "")
    answer = run.json
    assert list(answer) == [
        "question", "text", "abstained", "reason", "confidence",
        "claims", "citations", "hits", "trace",
    ]  # fmt: skip
    assert (answer["question"], answer["abstained"], answer["reason"]) == (QUESTION, False, "")
    assert 0.5 <= answer["confidence"] <= 1
    for claim in answer["claims"]:
        assert list(claim) == ["text", "kind", "citations", "supported", "score", "heading"]
        assert (claim["kind"], claim["supported"]) == ("quoted", True)
    assert [claim["citations"] for claim in answer["claims"]] == [
        [n + 1] for n in range(len(answer["claims"]))
    ]
    for citation in answer["citations"]:
        assert list(citation) == [
            "number", "paper_id", "title", "authors", "year", "url", "quote", "start", "end",
        ]  # fmt: skip
        paper = footnote("show", citation["paper_id"], "--library", small_library, "--json").json
        assert citation["quote"] == paper["abstract"][citation["start"] : citation["end"]]
        assert (citation["title"], citation["authors"]) == (paper["title"], paper["authors"])
    assert [list(hit) for hit in answer["hits"]] == [["paper_id", "title", "score", "rank"]] * 10
    assert set(answer["trace"]) == {
        "embedder", "language_model", "style", "prompt_digest", "library_digest",
        "rewritten_query", "fallback",
        "spelling", "left_out", "settings", "signals", "seconds", "tokens",
    }  # fmt: skip
    assert (answer["trace"]["embedder"], answer["trace"]["language_model"]) == (
        "all-MiniLM-L6-v2",
        "none",
    )


def test_ask_is_deterministic(footnote, small_library):
    first, second = (
        footnote("ask", QUESTION, "--library", small_library, "--json").json for _ in range(2)
    )
    del first["trace"]["seconds"], second["trace"]["seconds"]
    assert first == second


def test_ask_abstains_with_a_reason_and_the_closest_papers(footnote, small_library):
    run = footnote("ask", UNANSWERABLE, "--library", small_library)
    assert (run.code, run.err) == (0, "")
    assert run.lines[0] == "Your library does not say. No paper here answers this."
    assert run.lines[2] == "Closest matches:"
    assert [line[2:] in TITLES for line in run.lines[3:]] == [True, True, True]
    abstained = footnote("ask", UNANSWERABLE, "--library", small_library, "--json").json
    assert (abstained["abstained"], abstained["claims"], abstained["citations"]) == (True, [], [])
    assert abstained["reason"] == "No paper here answers this."


def test_ask_prints_markdown(footnote, small_library):
    run = footnote("ask", QUESTION, "--library", small_library, "--format", "markdown")
    assert run.code == 0
    assert run.lines[0] == f"**{QUESTION}**"
    quote = "“The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only.”"
    assert run.lines[2:5] == [
        f"**{LEDGERS}** (Ngozi Okafor et al., 2024)",
        "",
        f"- {quote}[^1]",
    ]
    assert (
        f"[^1]: *{LEDGERS}*. Ngozi Okafor et al., 2024. <https://doi.org/10.5555/ledger.2024.17> "
        f"{quote}" in run.lines
    )
    assert run.out.endswith("”\n")


def test_ask_respects_the_maximum_number_of_sentences(footnote, small_library):
    ask = (
        "ask",
        "What helps against forgetting?",
        "--library",
        small_library,
        "--json",
        "--sentences",
    )
    assert len(footnote(*ask, 1).json["claims"]) == 1
    assert footnote(*ask, 0).code == 2


def test_ask_respects_filters(footnote, small_library):
    answer = footnote("ask", QUESTION, "--library", small_library, "--year", "2023", "--json").json
    assert {citation["title"] for citation in answer["citations"]} == {KEYS}
    run = footnote("ask", QUESTION, "--library", small_library, "--year", "1950")
    assert (run.code, run.lines[0]) == (
        0,
        "Your library does not say. No papers match your filters.",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "  "], "the question is empty"),
        (["search", ""], "the question is empty"),
        (["ask", "x" * 2001], "the question has 2,001 characters; the limit is 2,000"),
        (
            ["ask", QUESTION, "--year", "soon"],
            "invalid year 'soon'; write 2023, '>=2023', '<2020' or 2019-2022",
        ),
        (["list", "--year", "20"], "invalid year '20'"),
        (
            ["search", "x", "--added-since", "Monday"],
            "invalid date 'Monday' for added_since; write it as 2026-01-31",
        ),
        (
            ["export", "--format", "word"],
            "unknown format 'word'; choose from: markdown, bibtex,",
        ),
        (["export", "an-open", "--year", "2016"], "use either paper ids or filters, not both"),
        (["search", "x", "-k", "0"], "Invalid value for '-k'"),
        (["list", "--limit", "none"], "Invalid value for '--limit'"),
        (["ask"], "Missing argument 'QUESTION'"),
        (["export", "--json", "-f", "ris"], "use either --json or --format, not both"),
        (["list", "--colour"], "No such option: --colour"),
        (["remember"], "No such command 'remember'"),
    ],
)
def test_wrong_usage_is_explained_and_exits_with_2(
    footnote, small_library, monkeypatch, arguments, message
):
    monkeypatch.setenv("FOOTNOTE_LIBRARY", str(small_library))
    run = footnote(*arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["ask", QUESTION],
        ["search", "x"],
        ["list"],
        ["show", "x"],
        ["remove", "x"],
        ["export"],
        ["reindex"],
    ],
)
def test_a_missing_library_is_named_with_the_command_that_creates_one(
    footnote, tmp_path, arguments
):
    run = footnote(*arguments, "--library", tmp_path / "none")
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        f"footnote: no library in {tmp_path / 'none'}; "
        f"create one with: footnote add PATH --library {tmp_path / 'none'}\n"
    )
    assert not (tmp_path / "none").exists()


def test_a_missing_model_is_named_with_the_command_that_downloads_it(
    footnote, tmp_path, monkeypatch
):
    monkeypatch.setenv("FOOTNOTE_EMBEDDER", "no-such/model")
    run = footnote("add", PAPERS, "--library", tmp_path / "new")
    assert (run.code, run.out) == (1, "")
    assert "to download it: hf download no-such/model" in run.err


def test_a_library_keeps_its_embedding_model(footnote, small_library, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_EMBEDDER", "no-such/model")
    run = footnote("ask", QUESTION, "--library", small_library, "--json")
    assert (run.code, run.json["trace"]["embedder"]) == (0, "all-MiniLM-L6-v2")


# --- search and list --------------------------------------------------------------------------


def test_search_ranks_papers(footnote, small_library):
    run = footnote("search", "sparse attention", "-k", 3, "--library", small_library)
    assert (run.code, run.err, len(run.lines)) == (0, "", 3)
    assert run.lines[0].startswith("  1  0.")
    assert run.lines[0].endswith(f"{SPARSE} (Tarek Haddad et al., 2024)")
    hits = footnote(
        "search", "sparse attention", "-k", 3, "--library", small_library, "--json"
    ).json
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    scores = [hit["score"] for hit in hits]
    assert sorted(scores, reverse=True) == scores
    assert set(hits[0]) == {
        "rank", "score", "title", "abstract", "authors", "year", "venue", "arxiv_id",
        "source", "id",
    }  # fmt: skip
    assert hits[0]["title"] == SPARSE


def test_search_respects_filters(footnote, small_library):
    run = footnote(
        "search", "sparse attention", "--venue", "reef", "--library", small_library, "--json"
    )
    assert set(titles(run)) == {CORALS, LETTER}
    assert (
        footnote(
            "search", "attention", "--author", "nobody", "--library", small_library, "--json"
        ).json
        == []
    )


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], TITLES),
        (["--limit", "2"], [LEDGERS, KEYS]),
        (["--year", "2024"], [LEDGERS, SPARSE]),
        (["--year", ">=2023"], [LEDGERS, KEYS, SPARSE, CORALS]),
        (["--year", "< 2018"], [SWITCH, LETTER]),
        (["--year", "2018-2020"], [SHIPS, SPEECH, VOLES]),
        (["--venue", "small machines"], [KEYS, SKETCHES]),
        (["--author", "müller"], [LEDGERS, KEYS]),
        (["--author", "Muller"], [LEDGERS, KEYS]),
        (["--author", "garcia marquez"], [SHIPS]),
        (["--author", "NAKOA"], [CORALS, LETTER]),
        (["--source", "papers.jsonl"], TITLES),
        (["--source", "zotero"], []),
        (["--added-since", "2000-01-01"], TITLES),
        (["--added-since", "2999-12-31"], []),
        (["--author", "okafor", "--year", "<=2024", "--venue", "letters"], [SPARSE]),
    ],
)
def test_list_keeps_the_order_of_adding_and_respects_filters(
    footnote, small_library, filters, expected
):
    run = footnote("list", *filters, "--library", small_library, "--json")
    assert (run.code, run.err) == (0, "")
    assert titles(run) == expected


def test_list_prints_one_line_per_paper(footnote, small_library):
    run = footnote("list", "--library", small_library)
    assert len(run.lines) == 12
    assert run.lines[6].startswith("k-nn-lookups-as-")
    assert run.lines[6].endswith(f"  {SPEECH} (Mei-Ling Chou, 2019)")
    assert run.lines[10].endswith(f"  RETRACTED {SWITCH} (The Open Ribozyme Consortium, 2017)")


# --- show, remove, export ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("narrow-u-nets", U_NETS),
        ("10.5555/MP.2021.003", U_NETS),
        ("99000103", U_NETS),
        ("2309.99102", KEYS),
        (" 2309.99102 ", KEYS),
    ],
)
def test_show_finds_a_paper_by_any_of_its_identifiers(footnote, small_library, name, title):
    run = footnote("show", name, "--library", small_library, "--json")
    assert (run.code, run.json["title"]) == (0, title)


def test_show_prints_all_fields(footnote, small_library):
    run = footnote("show", "narrow-u", "--library", small_library)
    assert run.lines[:6] == [
        U_NETS,
        "Łukasz Wiśniewski, Ama Boateng",
        "year: 2021",
        "venue: Medical Pictures",
        "DOI: 10.5555/mp.2021.003",
        "PubMed: 99000103",
    ]
    assert "link: https://doi.org/10.5555/mp.2021.003" in run.lines
    assert "source: papers.jsonl" in run.lines
    assert " ".join(run.out.split("\n\n")[1].split()).startswith(
        "Segmenting tissue slides with a U-Net demands"
    )
    assert "RETRACTED" in footnote("show", "a-switch", "--library", small_library).lines
    assert footnote("show", "an-open", "--library", small_library).lines[-1] == "(no abstract)"


def test_show_explains_an_unknown_or_ambiguous_name(footnote, small_library):
    run = footnote("show", "zebra", "--library", small_library)
    assert (run.code, run.out) == (1, "")
    assert (
        run.err
        == "footnote: no paper 'zebra' in the library; list the papers with: footnote list\n"
    )
    several = footnote("show", "s", "--library", small_library)
    assert several.code == 1
    assert "did you mean one of: sliding-ledgers-shrinking-the-" in several.err
    assert "sparse-attention-by-asking-" in several.err


def test_remove_removes_all_papers_or_none(footnote, library_copy):
    library = ("--library", library_copy)
    run = footnote("remove", "2309.99102", "zebra", *library)
    assert (run.code, run.out) == (1, "")
    assert "no paper 'zebra'" in run.err
    assert len(footnote("list", *library).lines) == 12
    run = footnote("remove", "2309.99102", "sliding-ledgers", "10.5555/ledger.2024.17", *library)
    assert run.code == 0
    assert sorted(line.split("  ", 1)[1] for line in run.lines) == [
        f"{LEDGERS} (Ngozi Okafor et al., 2024)",
        f"{KEYS} (Zoë Müller and Ilse van der Berg, 2023)",
    ]
    assert titles(footnote("list", *library, "--json")) == TITLES[2:]
    hits = footnote("search", "KV cache memory", "-k", 12, *library, "--json")
    assert set(titles(hits)) == set(TITLES[2:])
    narrow = footnote("list", "--venue", "medical", *library, "--json").json[0]["id"]
    assert footnote("remove", narrow, *library, "--json").json == [narrow]


def test_export_prints_each_format_and_can_be_added_again(footnote, small_library, tmp_path):
    library = ("--library", small_library)
    assert footnote("export", *library).lines[1] == (
        f"- *{KEYS}* — Zoë Müller and Ilse van der Berg, 2023. Conference on Small Machines. "
        "<https://arxiv.org/abs/2309.99102>"
    )
    run = footnote("export", "2309.99102", "narrow-u", "--format", "csl-json", *library)
    assert [item["title"] for item in run.json] == [KEYS, U_NETS]
    assert (
        footnote("export", "-f", "bibtex", "--year", "2022", *library).out.count("@article{") == 2
    )
    papers = footnote("export", "--json", "--year", "2022", *library)
    assert papers.out == footnote("list", "--json", "--year", "2022", *library).out
    assert papers.out == footnote("export", "-f", "json", "--year", "2022", *library).out
    backup = tmp_path / "backup.jsonl"
    backup.write_text(footnote("export", "--format", "jsonl", *library).out, encoding="utf-8")
    restored = footnote("add", backup, "--library", tmp_path / "restored")
    assert (
        restored.lines[0]
        == "12 records read: 12 added, 0 updated, 0 merged, 0 unchanged, 0 rejected"
    )
    old, new = (
        footnote("export", "-f", "bibtex", "--library", folder).out
        for folder in (small_library, tmp_path / "restored")
    )
    assert old == new


# --- reindex and doctor -----------------------------------------------------------------------


def vectors(folder):
    with closing(sqlite3.connect(folder / "library.sqlite")) as connection:
        return [
            connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
            for table in ("sentences", "(SELECT key, paper, start, vector FROM passage)")
        ]


def test_reindex_rebuilds_chroma_without_embedding(footnote, library_copy, monkeypatch):
    before = vectors(library_copy)
    shutil.rmtree(library_copy / "chroma")
    with monkeypatch.context() as patch:
        patch.setattr(
            "rag.assistant.load_embedder", lambda _: pytest.fail("a model was loaded for nothing")
        )
        run = footnote("reindex", "--library", library_copy)
        assert (run.code, run.lines) == (0, ["indexed 12 passages"])
        assert footnote("reindex", "--library", library_copy, "--json").json == {"passages": 12}
    assert vectors(library_copy) == before
    assert titles(
        footnote("search", "sparse attention", "-k", 1, "--library", library_copy, "--json")
    ) == [SPARSE]


def test_reindex_with_a_missing_model_changes_nothing(footnote, library_copy):
    before = vectors(library_copy)
    run = footnote("reindex", "--embedder", "no-such/model", "--library", library_copy)
    assert run.code == 1
    assert "no-such/model" in run.err
    assert vectors(library_copy) == before
    assert footnote("ask", QUESTION, "--library", library_copy, "--json").json["abstained"] is False


def test_doctor_finds_a_lost_index_and_names_the_command_that_fixes_it(footnote, library_copy):
    healthy = footnote("doctor", "--library", library_copy)
    assert (healthy.code, healthy.err) == (0, "")
    assert all(line.startswith("ok  ") for line in healthy.lines)
    shutil.rmtree(library_copy / "chroma")
    damaged = footnote("doctor", "--library", library_copy)
    assert damaged.code == 1
    bad = damaged.lines.index("BAD vector index: 12 passages missing")
    label, command = damaged.lines[bad + 1].split(": ", 1)
    assert label.strip() == "fix"
    assert footnote(*shlex.split(command)[1:]).code == 0
    fixed = footnote("doctor", "--library", library_copy, "--json")
    assert fixed.code == 0
    assert {tuple(check) for check in fixed.json} == {("name", "ok", "detail", "fix")}
    assert {check["name"] for check in fixed.json} >= {
        "python",
        "chromadb",
        "embedding model",
        "database",
        "vector index",
    }


def test_doctor_checks_the_installation_without_a_library(footnote, tmp_path):
    run = footnote("doctor", "--library", tmp_path / "none")
    assert run.code == 1
    assert [line for line in run.lines if not line.startswith("ok ")] == [
        f"BAD library: no library in {tmp_path / 'none'}; "
        f"create one with: footnote add PATH --library {tmp_path / 'none'}"
    ]


# --- config -----------------------------------------------------------------------------------


def test_config_shows_and_changes_settings(footnote, small_library, tmp_path, monkeypatch):
    monkeypatch.delenv("FOOTNOTE_LANGUAGE_MODEL")
    shown = footnote("config")
    assert [line.split(" = ")[0] for line in shown.lines] == [
        "library",
        "embedder",
        "language_model",
    ]
    assert footnote("config", "library", small_library).lines == [f"library = {small_library}"]
    assert len(footnote("list").lines) == 12
    settings = {"library": str(small_library), "embedder": "all-MiniLM-L6-v2"}
    settings |= {"language_model": "bundled"}
    assert footnote("config", "--json").json == settings | {
        "file": str(tmp_path / "config" / "config.toml")
    }
    assert footnote("config", "library", "--json").json == {"library": str(small_library)}
    footnote("config", "library", "")
    assert footnote("config").out == shown.out


def test_options_override_the_environment_which_overrides_settings(
    footnote, small_library, tmp_path, monkeypatch
):
    footnote("config", "library", tmp_path / "from-settings")
    assert str(tmp_path / "from-settings") in footnote("list").err
    monkeypatch.setenv("FOOTNOTE_LIBRARY", str(tmp_path / "from-environment"))
    assert str(tmp_path / "from-environment") in footnote("list").err
    assert len(footnote("list", "--library", small_library).lines) == 12


@pytest.mark.parametrize("arguments", [["libary"], ["libary", "x"]])
def test_config_refuses_an_unknown_setting(footnote, arguments):
    run = footnote("config", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err == (
        "footnote: unknown setting 'libary'; choose from: library, embedder, language_model\n"
    )


def test_every_command_reports_broken_settings(footnote, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text("library = ")
    for arguments in (["list"], ["config"], ["doctor"]):
        run = footnote(*arguments)
        assert (run.code, run.out) == (2, "")
        assert "config.toml: " in run.err


# --- all commands -------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(footnote, command):
    run = footnote(command, "--help")
    assert (run.code, run.err) == (0, "")
    assert run.lines[0].startswith(f"Usage: footnote {command} ")
    assert any(line.strip().startswith(f"footnote {command}") for line in run.lines[1:])
    assert "-h, --help" in run.out


def test_help_lists_every_command_and_shell_completion(footnote):
    run = footnote("--help")
    assert (run.code, run.err) == (0, "")
    listed = run.out.split("Commands:\n")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == COMMANDS
    assert "--install-completion" in run.out
    assert footnote("-h").out == run.out


def test_shell_completion_script_is_printed(monkeypatch, footnote):
    monkeypatch.setenv("_FOOTNOTE_COMPLETE", "source_bash")
    run = footnote()
    assert run.code == 0
    assert "complete -o default -F _footnote_completion footnote" in run.out


def test_an_interrupt_is_reported_in_one_line(footnote, small_library, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Assistant, "papers", interrupted)
    run = footnote("list", "--library", small_library)
    assert (run.code, run.out) == (130, "")
    assert run.err == "footnote: interrupted; everything saved so far is kept\n"


def test_log_messages_go_to_standard_error(footnote, small_library, monkeypatch):
    papers = Assistant.papers

    def logging_papers(self, **filters):
        logging.getLogger("footnote").warning("falling back to %s", "a scan")
        return papers(self, **filters)

    monkeypatch.setattr(Assistant, "papers", logging_papers)
    run = footnote("list", "--library", small_library, "--json")
    assert run.err == "footnote: falling back to a scan\n"
    assert titles(run) == TITLES


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(Assistant, "open", broken)
    monkeypatch.setattr(sys, "argv", ["footnote", "list"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_console_script_runs_main():
    (script,) = [
        entry
        for entry in importlib.metadata.entry_points(group="console_scripts", name="footnote")
        if entry.dist and entry.dist.name == "footnote"
    ]
    assert script.load() is cli.main


def test_data_and_messages_are_separate_in_a_real_process(small_library, tmp_path):
    answer = run_process("ask", QUESTION, "--library", small_library, "--json", cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert json.loads(answer.stdout)["citations"][0]["title"] == LEDGERS
    refused = run_process("show", "zebra", "--library", small_library, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert (
        refused.stderr
        == "footnote: no paper 'zebra' in the library; list the papers with: footnote list\n"
    )
    misused = run_process("list", "--year", "soon", "--library", small_library, cwd=tmp_path)
    assert (misused.returncode, misused.stdout) == (2, "")
    assert len(misused.stderr.splitlines()) == 1


def test_a_closed_pipe_causes_no_traceback(small_library):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        run = subprocess.run(
            [sys.executable, "-m", "rag.cli", "list", "--library", small_library],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
            cwd=Path(__file__).parent.parent,
        )
    assert (run.returncode, run.stderr) == (1, b"")
