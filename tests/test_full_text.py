"""Full text: candidates by rare terms, scored as SQLite's own BM25 scores them."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import Library, Paper
from rag.library.full_text import BM25Scorer
from rag.text.terms import query_terms

WORDS = "seagrass carbon meadow tide storm eel sand reed".split()
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


def make_library(folder, *abstracts):
    library = Library(folder)
    with library.transaction() as transaction:
        keys = [
            transaction.insert(Paper(f"Title {number}", abstract), "2026-01-01").key
            for number, abstract in enumerate(abstracts)
        ]
    return library, keys


def sqlite_scores(library, terms):
    match = " OR ".join(f'"{term}"' for term in terms)
    sql = "SELECT rowid, -rank FROM full_text WHERE full_text MATCH ? ORDER BY rank"
    with closing(sqlite3.connect(library.folder / "library.sqlite")) as connection:
        return dict(connection.execute(sql, (match,)))


@given(st.lists(texts, min_size=1, max_size=8), texts)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_scores_equal_those_of_sqlite(tmp_path_factory, abstracts, question):
    library, keys = make_library(tmp_path_factory.mktemp("library"), *abstracts)
    terms = query_terms(question)
    scores = library.score_full_text(terms, keys)
    matches = {key: score for key, score in scores.items() if score}
    assert matches == pytest.approx(sqlite_scores(library, terms))


def test_score_matches_the_formula_computed_by_hand():
    # Four papers with 10 terms on average, one of them with the term: idf = ln(3.5 / 1.5) = 0.8473.
    # Twice in ten terms: 0.8473 * 2 * 2.2 / (2 + 1.2) = 1.1650.
    scorer = BM25Scorer.from_statistics({"eel": 1}, bytes([4, 8, 32]))
    assert scorer.average_length == 10
    assert scorer.score("eel a b c eel d e f g h") == pytest.approx(1.1650, abs=1e-4)
    assert scorer.score("a b c") == 0


def test_statistics_with_multi_byte_integers_are_decoded():
    # As SQLite encodes them: 300 papers = 2 * 128 + 44, 3,000 terms = 23 * 128 + 56.
    assert BM25Scorer.from_statistics({}, bytes([0x82, 44, 0x97, 56])).average_length == 10


def test_common_terms_select_no_candidates_but_count_in_scores(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.library.library._MAX_MATCHES", 3)
    abstracts = ["eel carbon", "eel sand", *["carbon meadow"] * 6]
    library, keys = make_library(tmp_path, *abstracts)
    assert library.search_full_text(["eel", "carbon"], 10) == keys[:2]
    scores = library.score_full_text(["eel", "carbon"], keys)
    assert scores[keys[0]] > scores[keys[1]] > scores[keys[2]] > 0


def test_term_in_every_paper_still_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr("rag.library.library._MAX_MATCHES", 3)
    library, keys = make_library(tmp_path, *["carbon"] * 6)
    assert set(library.search_full_text(["carbon"], 10)) == set(keys)
    assert library.search_full_text(["unheard"], 10) == []
    assert library.search_full_text([], 10) == []


def test_counts_are_updated_after_every_change(tmp_path):
    library, keys = make_library(tmp_path, "eel", "eel sand")
    assert len(library) == 2
    assert library.document_frequencies(["eel", "sand", "reed"]) == {"eel": 2, "sand": 1}
    with library.transaction() as transaction:
        transaction.remove(keys[:1])
    assert len(library) == 1
    assert library.document_frequencies(["eel", "sand"]) == {"eel": 1, "sand": 1}
    with Library(tmp_path).transaction() as transaction:
        transaction.insert(Paper("Reed", "reed"), "2026-01-01")
    assert len(library) == 2
    assert library.document_frequencies(["reed"]) == {"reed": 1}
