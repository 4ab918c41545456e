"""Evidence: selection of sentences, and what the papers lack."""

import json
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Assistant
from rag.answering.evidence import EvidenceWeights, select_evidence
from rag.library.library import Library
from rag.library.vector_index import VectorIndex
from rag.models.registry import load_embedder, load_reader
from rag.retrieval.retriever import Retriever

SHRINK = "How does the KV cache shrink?"


@pytest.fixture(scope="module")
def embedder():
    return load_embedder()


def selector(library, embedder):
    """Return a function that retrieves papers of a library and selects evidence."""
    retriever = Retriever(library, VectorIndex(library), lambda: embedder)

    def select(question, **options):
        with library.snapshot():
            return select_evidence(retriever.retrieve(question), library, load_reader(), **options)

    return select


@pytest.fixture(scope="module")
def select(small_library, embedder):
    return selector(Library(small_library, create=False), embedder)


@pytest.fixture(scope="module")
def select_similar(tmp_path_factory, embedder):
    """Select from a library with a repeated sentence, three similar papers, and a named method."""
    folder = tmp_path_factory.mktemp("similar")
    kelp = "Kelp forests store carbon in their roots."
    abstracts = {
        "Kelp and carbon": f"{kelp} {kelp}",
        "Tidal flats": "Tidal flats are home to lugworms. Lugworms dig.",
        "Robots that fold": "Robots are bulky. We fold robots from paper sheets.",
        "Origami robots": "Folding is old. These robots fold from flat paper sheets.",
        "Heron: boats on canals": (
            "Boats are counted by hand and by many a tired boat clerk. Heron counts boats on "
            "canals. Counting of boats by Heron costs little. Code for Heron is available at "
            "https://example.org/heron."
        ),
        "Paper sheets as robots": "Sheets are cheap. Robots of paper fold in minutes.",
    }
    papers = [{"title": title, "abstract": text} for title, text in abstracts.items()]
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)))
    assistant = Assistant(Library(folder / "library"), embedder, "none")
    assistant.add(folder / "papers.jsonl")
    return selector(assistant.library, embedder)


def texts(evidence):
    return [item.sentence.text for item in evidence]


def test_reader_decides_which_sentence_answers(select_similar):
    question = "What do kelp forests keep in their roots?"
    best = select_similar(question).candidates[0]
    assert best.sentence.text == "Kelp forests store carbon in their roots."
    assert best.reading > 0
    assert best.relevance == 0
    others = [item for item in select_similar(question).candidates if item.paper != best.paper]
    assert all(item.relevance < 0 for item in others)


def test_score_does_not_depend_on_the_reader_without_its_weights(select_similar):
    weights = EvidenceWeights(reading=0.0, relevance=0.0)
    best, second = select_similar("Do kelp forests store carbon?", weights=weights).candidates[:2]
    assert best.sentence.text == second.sentence.text
    # The vector of a sentence depends slightly on its batch.
    assert best.score == pytest.approx(second.score, abs=0.01)


def test_list_question_gets_sentences_of_several_papers(select_similar):
    selection = select_similar("Which studies fold robots from paper sheets?")
    papers = [item.paper.id for item in selection.evidence]
    assert len(set(papers)) == 3
    assert len(papers) <= 5
    assert max(papers.count(paper) for paper in papers) <= 2


@pytest.mark.parametrize("limit", [1, 2, 5, 30])
def test_selection_respects_the_limit(select, limit):
    question = "Which papers shrink the KV cache, and by how much?"
    evidence = select(question, max_sentences=limit).evidence
    assert 1 <= len(evidence) <= limit
    assert len(set(evidence)) == len(evidence)


def test_sentences_far_below_the_best_are_not_selected(select):
    selection = select(SHRINK, max_sentences=30)
    assert len(selection.evidence) < len(selection.candidates)
    selected = {item.paper.id for item in selection.evidence}
    assert selected < {item.paper.id for item in selection.candidates}


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("Does Sliding Ledgers shrink the KV cache on ImageNet?", "do not mention ImageNet"),
        ("How does GPT-9 use the KV cache?", "do not mention GPT-9"),
        (SHRINK, ""),
        ("How much does the KV cache shrink?", ""),
    ],
)
def test_selection_says_which_name_is_missing(select, question, missing):
    selection = select(question)
    assert selection.missing.startswith(missing)
    assert bool(selection.missing) == bool(missing)


def test_selection_says_which_figure_is_missing(select_similar):
    selection = select_similar("How many lugworms live on tidal flats?")
    assert selection.signals.missing_quantity == 1
    assert selection.missing.startswith("give no figure")
    assert "lugworms" in selection.missing


def test_missing_name_lowers_the_confidence(select):
    answerable = select("Does Sliding Ledgers shrink the KV cache?")
    unanswerable = select("Does Sliding Ledgers shrink the KV cache on ImageNet?")
    assert unanswerable.signals.missing_name > answerable.signals.missing_name == 0
    assert unanswerable.confidence < answerable.confidence


words = st.sampled_from(
    "How many which papers KV cache cranes GPT-4 shrink fever does ? % 71".split()
)
questions = st.text(min_size=1, max_size=80) | st.lists(words, min_size=1).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(questions.filter(str.strip), st.none() | st.integers(1, 9))
def test_any_question_gets_a_valid_and_repeatable_selection(select, question, limit):
    selection = select(question, max_sentences=limit)
    assert 0 <= selection.confidence <= 1
    assert all(0 <= value <= 1 for value in astuple(selection.signals))
    assert len(selection.evidence) <= (limit or 5)
    assert set(selection.evidence) <= set(selection.candidates)
    for item in selection.candidates:
        sentence = item.sentence
        assert item.paper.abstract[sentence.start : sentence.end] == sentence.text
        for value in (item.score, item.similarity, item.term_overlap, item.paper_score):
            assert 0 <= value <= 1 + 1e-6
    scores = [item.score for item in selection.candidates]
    assert scores == sorted(scores, reverse=True)
    assert select(question, max_sentences=limit) == selection
