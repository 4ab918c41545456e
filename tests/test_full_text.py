"""Full text: papers proposed by rare words, scored as SQLite's own BM25 scores them."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import Library, Paper
from rag.library.full_text import Scorer
from rag.text.terms import query_terms

WORDS = "seagrass carbon meadow tide storm eel sand reed".split()
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def library_of(folder, *abstracts):
    library = Library(folder)
    with library.transaction() as writer:
        keys = [
            writer.insert(Paper(f"Title {n}", text), "2026-01-01").key
            for n, text in enumerate(abstracts)
        ]
    return library, keys


def by_sqlite(library, terms):
    match = " OR ".join(f'"{term}"' for term in terms)
    with closing(sqlite3.connect(library.folder / "library.sqlite")) as connection:
        return dict(
            connection.execute(
                "SELECT rowid, -rank FROM full_text WHERE full_text MATCH ? ORDER BY rank", (match,)
            )
        )


@given(st.lists(texts, min_size=1, max_size=8), texts)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_scores_are_those_of_sqlite(tmp_path_factory, abstracts, question):
    library, keys = library_of(tmp_path_factory.mktemp("library"), *abstracts)
    terms = query_terms(question)
    expected, scores = by_sqlite(library, terms), library.score_full_text(terms, keys)
    assert {key: score for key, score in scores.items() if score} == pytest.approx(expected)


def test_the_formula_by_hand():
    # Four papers of 10 words on the average, the word in one of them: idf = ln(3.5 / 1.5) = 0.8473. Found twice in
    # ten words: 0.8473 * 2 * 2.2 / (2 + 1.2) = 1.1650.
    scorer = Scorer.of({"eel": 1}, bytes([4, 8, 32]))
    assert scorer.average_length == 10
    assert scorer.score("eel a b c eel d e f g h") == pytest.approx(1.1650, abs=1e-4)
    assert scorer.score("a b c") == 0


def test_long_numbers_in_the_record_of_averages():
    # 300 papers as SQLite writes it: 300 = 2 * 128 + 44; 3,000 words: 23 * 128 + 56.
    assert Scorer.of({}, bytes([0x82, 44, 0x97, 56])).average_length == 10


def test_common_words_propose_nothing_and_count_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.library.library._MOST_MATCHES", 3)
    abstracts = ["eel carbon", "eel sand", *["carbon meadow"] * 6]
    library, keys = library_of(tmp_path, *abstracts)
    assert library.search_full_text(["eel", "carbon"], 10) == keys[:2]
    scores = library.score_full_text(["eel", "carbon"], keys)
    assert scores[keys[0]] > scores[keys[1]] > scores[keys[2]] > 0


def test_a_word_that_all_papers_hold_still_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.library.library._MOST_MATCHES", 3)
    library, keys = library_of(tmp_path, *["carbon"] * 6)
    assert set(library.search_full_text(["carbon"], 10)) == set(keys)
    assert library.search_full_text(["unheard"], 10) == []
    assert library.search_full_text([], 10) == []


def test_counts_follow_every_change(tmp_path):
    library, keys = library_of(tmp_path, "eel", "eel sand")
    assert (len(library), library.document_frequencies(["eel", "sand", "reed"])) == (
        2,
        {"eel": 2, "sand": 1},
    )
    with library.transaction() as writer:
        writer.remove(keys[:1])
    assert (len(library), library.document_frequencies(["eel", "sand"])) == (
        1,
        {"eel": 1, "sand": 1},
    )
    with Library(tmp_path).transaction() as writer:
        writer.insert(Paper("Reed", "reed"), "2026-01-01")
    assert (len(library), library.document_frequencies(["reed"])) == (2, {"reed": 1})
