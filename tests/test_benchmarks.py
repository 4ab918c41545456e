"""Shared parts of the benchmarks: tables, sections of BENCHMARKS.md, and Footnote's own actions."""

import json
import sys

from eval.benchmarks import peers
from eval.benchmarks.collections import write_jsonl
from eval.benchmarks.tables import Columns, median_and_range, write_section


def test_section_replaces_the_one_with_the_same_title(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/speed.py", "--runs", "3", "/home/user/data"])
    file = tmp_path / "BENCHMARKS.md"
    write_section("Adding", "First.", ["system", "rate"], [["ours", "1"]], file)
    write_section("Searching", "Second.", ["system", "time"], [["ours", "2"]], file)
    write_section("Adding", "Third.", ["system", "rate"], [["ours", "3"]], file)
    text = file.read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Adding", "## Searching"]
    assert "First." not in text
    assert "Second." in text
    assert "| system | rate |\n| --- | --- |\n| ours | 3 |\n" in text
    assert text.startswith("# Benchmarks")
    assert "`python -m eval.benchmarks.speed --runs 3 DIR`, 20" in text


def test_median_and_range_are_formatted_together():
    assert median_and_range([3.0, 1.0, 2.0]) == "2.0 (1.0–3.0)"
    assert median_and_range([1234.5, 1000.25], 2) == "1,117.38 (1,000.25–1,234.50)"


def test_columns_are_aligned_and_rows_may_be_short(capsys):
    columns = Columns("<5", ">4", "<3", indent=2)
    columns.print_row("name", 12, "p")
    columns.print_row("other", 7)
    assert capsys.readouterr().out == "  name    12 p\n  other    7\n"


def test_footnote_adds_searches_and_answers(tmp_path, monkeypatch, capsys):
    def act(action, rows):
        file = write_jsonl(tmp_path / "rows.jsonl", rows)
        arguments = ["footnote", action, str(tmp_path / "index"), str(file)]
        monkeypatch.setattr(sys, "argv", ["peers", *arguments])
        peers.main()
        return json.loads(capsys.readouterr().out)

    papers = [
        {
            "title": "Eelgrass",
            "abstract": "Eelgrass meadows store 40 tonnes of carbon per hectare.",
            "pmid": "7",
        },
        {"title": "Railways", "abstract": "Railway budgets grew by 3 % in a decade.", "pmid": "9"},
    ]
    assert act("add", papers)["papers"] == 2
    questions = [
        {"question": "How much carbon do eelgrass meadows store?"},
        {"question": "Did railway budgets grow?"},
    ]
    assert [ranking[0] for ranking in act("search", questions)["results"]] == ["7", "9"]
    answers = act("ask", questions)
    assert "40 tonnes" in answers["texts"][0]
    for first, whole in zip(answers["first"], answers["whole"], strict=True):
        assert 0 < first <= whole
