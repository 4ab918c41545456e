"""What the benchmarks of speed write down, and that ours does the work it is timed for."""

import json
import subprocess
import sys
from pathlib import Path

from eval.benchmarks.speed import spread
from eval.benchmarks.tables import write_section

ROOT = Path(__file__).parent.parent


def test_a_section_takes_the_place_of_the_one_before(tmp_path):
    file = tmp_path / "BENCHMARKS.md"
    write_section("Adding", "First.", [["system", "rate"], ["ours", "1"]], file)
    write_section("Finding", "Second.", [["system", "time"], ["ours", "2"]], file)
    write_section("Adding", "Third.", [["system", "rate"], ["ours", "3"]], file)
    text = file.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Adding",
        "## Finding",
    ]
    assert "First." not in text
    assert "Second." in text
    assert "| ours | 3 |" in text
    assert text.startswith("# Benchmarks")


def test_the_spread_is_median_least_and_most():
    assert spread([3.0, 1.0, 2.0]) == "2.0 (1.0–3.0)"
    assert spread([1234.5, 1000.25], 2) == "1,117.38 (1,000.25–1,234.50)"


def test_ours_adds_finds_and_answers(tmp_path):
    def act(action, rows):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [
            sys.executable,
            "-m",
            "eval.benchmarks.peers",
            "footnote",
            action,
            str(tmp_path / "index"),
            str(file),
        ]
        return json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        )

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
    assert [found[0] for found in act("search", questions)["found"]] == ["7", "9"]
    answers = act("ask", questions)
    assert "40 tonnes" in answers["texts"][0]
    assert all(
        0 < first <= whole for first, whole in zip(answers["first"], answers["whole"], strict=True)
    )
