"""One word, one meaning: retired words do not come back.

Each pattern stands for a private word that had a standard term all along. The changelog, the log and the
data of the evaluation are left out: they quote what people write.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUFFIXES = (".py", ".md", ".html", ".js", ".css", ".toml")
FOLDERS = ("rag", "eval", "ui", "prompts", "tests")
LEFT_OUT = ("CHANGELOG.md", "eval/LOG.md", "tests/test_vocabulary.py")
# Retired word, standard term.
RETIRED = {
    r"\bvoices?\b": "retrieval signal",
    r"\bSentenceWeights\b": "EvidenceWeights",
    r"\bthe truth\b": "primary store",
    r"\banew\b": "again; rebuild",
    r"\bmend(s|ed|ing)?\b": "repair, fix",
    r"\bsoundness\b": "integrity",
    r"\bslips?\b": "typo",
    r"\bShelf\b": "LibraryRegistry",
    r"\bwishes\b|\bWish(es)?\b": "AskOptions, PaperQuery",
    r"\brivals?\b": "baseline, peer",
    r"ingredients? less": "ablation",
    r"\bstrangers?\b": "untrusted text",
    r"\bcomes? along\b": "bundled",
    r"\bembedded (language )?model": "bundled model",
    r"\bdefused\b|\bharmless\b": "neutralize_markers, escape_control_chars",
    r"\bRoles\b|\bTalks\b|\bAddings\b|\bDesk\b|\b_?Tally\b|\bAdder\b": "see the design's words",
    r"\bstand_alone\b|(?<!\")\bread_as\b|\b_leans\b": "rewrite_followup, rewritten_query",
    r"\bFlaw\b|\bUnfit\b|\bBrokenOff\b|\bNotPapers\b": "ParseFailure, InvalidRecord, …",
    r"\b_?(MOST|LONGEST|LARGEST|FEWEST|LEAST)_(?!FIRST)[A-Z]": "MAX_…, MIN_…",
    r"no (format|setting|filter|style|command) is called|there are: ": "unknown x 'y'; choose from: …",
    r"\bto be had\b|\b(of|with|at least) so many\b": "plain English",
    r"\bblamed?\b": "error attribution",
}


def documents():
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES)
    yield from ROOT.glob("*.md")
    yield ROOT / "pyproject.toml"
    yield ROOT / "Makefile"


TEXTS = {}
for path in documents():
    name = str(path.relative_to(ROOT))
    if name not in LEFT_OUT:
        TEXTS[name] = path.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_does_not_come_back(word):
    pattern = re.compile(word)
    places = []
    for name, lines in TEXTS.items():
        for number, line in enumerate(lines, start=1):
            if pattern.search(line):
                places.append(f"{name}:{number}: {line.strip()[:100]}")
    assert places == [], f"use: {RETIRED[word]}"
