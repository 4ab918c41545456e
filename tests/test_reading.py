"""Reading: which sentences are chosen, what a language model's likelihood changes, and what is said to be lacking."""

import json
from dataclasses import astuple

import pytest
from conftest import PAPERS
from fakes import PickyReader
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Assistant, ModelFailed
from rag.answering.evidence import EvidenceWeights, select_evidence
from rag.library.vector_index import VectorIndex
from rag.models import load_embedder
from rag.retrieval.retriever import Retriever


class RetrievalCache:
    """A library at which questions are read."""

    def __init__(self, folder, papers):
        assistant = Assistant.open(folder, language_model="none")
        assistant.add(papers)
        self.library = assistant.library
        self.model = load_embedder()
        self.retriever = Retriever(self.library, VectorIndex(self.library), lambda: self.model)

    def select_evidence(self, question, **options):
        with self.library.snapshot():
            return select_evidence(self.retriever.retrieve(question), self.library, **options)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return RetrievalCache(tmp_path_factory.mktemp("desk") / "library", PAPERS)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A paper in which the same sentence stands first and last, three papers on one thing, one with a name."""
    folder = tmp_path_factory.mktemp("twins")
    same = "Kelp forests store carbon in their roots."
    rows = [
        {"title": "Kelp and carbon", "abstract": f"{same} {same}"},
        {"title": "Tidal flats", "abstract": "Tidal flats are home to lugworms. Lugworms dig."},
        {
            "title": "Robots that fold",
            "abstract": "Robots are bulky. We fold robots from paper sheets.",
        },
        {
            "title": "Origami robots",
            "abstract": "Folding is old. These robots fold from flat paper sheets.",
        },
        {
            "title": "Heron: boats on canals",
            "abstract": "Boats are counted by hand and by many a tired boat clerk. Heron counts boats on canals. "
            "Counting of boats by Heron costs little. Code for Heron is available at https://example.org/heron.",
        },
        {
            "title": "Paper sheets as robots",
            "abstract": "Sheets are cheap. Robots of paper fold in minutes.",
        },
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return RetrievalCache(folder / "library", folder / "a.jsonl")


def test_the_sentence_that_opens_an_abstract_loses_against_its_equal(twins):
    first, second = twins.read("Do kelp forests store carbon?").considered[:2]
    assert first.sentence.text == second.sentence.text
    assert (first.is_first_sentence, second.is_first_sentence) == (False, True)
    assert first.score > second.score


def test_without_its_weight_the_opening_is_as_good_as_others(twins):
    first, second = twins.read(
        "Do kelp forests store carbon?", weights=EvidenceWeights(is_first_sentence=0.0)
    ).considered[:2]
    assert first.score == pytest.approx(
        second.score, abs=0.01
    )  # the vectors of a sentence depend on its batch


def test_who_asks_for_several_papers_gets_sentences_of_several(twins):
    papers = [
        one.paper.id for one in twins.read("Which studies fold robots from paper sheets?").evidence
    ]
    assert len(set(papers)) == 3
    assert len(papers) <= 5
    assert max(papers.count(paper) for paper in papers) <= 2


@pytest.mark.parametrize("most", [1, 2, 5, 30])
def test_no_more_sentences_are_kept_than_asked_for(desk, most):
    chosen = desk.read("Which papers shrink the KV cache, and by how much?", most=most).evidence
    assert 1 <= len(chosen) <= most
    assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize("place", [0, 1])
def test_a_language_model_tells_which_of_the_sentences_chosen_comes_first(desk, place):
    question = "How does the KV cache shrink?"
    plain = desk.read(question)
    favourite = plain.evidence[place]
    helped = desk.read(question, reranker=PickyReader(favourite.sentence.text))
    assert helped.evidence[0] == favourite
    assert set(helped.evidence) == set(plain.evidence)
    assert (helped.considered, helped.confidence) == (plain.considered, plain.confidence)


def test_what_is_far_behind_the_best_is_not_chosen(desk):
    reading = desk.read("How does the KV cache shrink?", most=30)
    assert len(reading.evidence) < len(reading.considered)
    assert {one.paper.title[:4] for one in reading.evidence} < {
        one.paper.title[:4] for one in reading.considered
    }


def test_a_model_reads_a_title_a_sentence_and_then_the_question(desk):
    reranker = PickyReader("")
    reading = desk.read("How does the KV cache shrink?", reranker=reranker)
    best = reading.considered[0]
    assert any(
        text.startswith(f"{best.paper.title}. {best.sentence.text}") for text in reranker.read
    )
    assert len(reranker.read) == len(reading.evidence)


def test_a_model_reads_nothing_where_there_is_no_order_to_find(desk):
    reranker = PickyReader("")
    assert desk.read("How does the KV cache shrink?", most=1, reranker=reranker).evidence
    assert desk.read("Which papers shrink the KV cache?", reranker=reranker).evidence
    assert reranker.read == []


def test_why_something_is_so_may_stand_in_the_opening(twins):
    how, why = (
        twins.read("How is the folding of robots?"),
        twins.read("Why do robots need folding?"),
    )
    opening = "Robots are bulky."
    assert opening not in [one.sentence.text for one in how.considered[:3]]
    assert opening in [one.sentence.text for one in why.considered[:3]]


def test_of_several_papers_the_sentence_that_brings_in_their_name_is_taken(twins):
    reading = twins.read("Which papers count boats or ships?")
    assert [one.sentence.text for one in reading.evidence if "Heron" in one.paper.title] == [
        "Heron counts boats on canals."
    ]


def test_the_embedded_model_reads_and_the_shape_stays_the_same(desk, bundled):
    question = "How much does merging keys shrink the KV cache?"
    plain, helped = desk.read(question), desk.read(question, reranker=bundled)
    assert helped == desk.read(question, reranker=bundled), "the same each time"
    assert helped.considered == plain.considered
    assert helped.evidence[0].sentence.text.startswith("The KV cache shrinks by 71%")


@pytest.mark.parametrize(
    ("question", "lacking"),
    [
        ("Does Sliding Ledgers shrink the KV cache on ImageNet?", "do not mention ImageNet"),
        ("How does GPT-9 use the KV cache?", "do not mention GPT-9"),
        ("How does the KV cache shrink?", ""),
        ("How much does the KV cache shrink?", ""),
    ],
)
def test_what_is_lacking_is_said(desk, question, lacking):
    found = desk.read(question).lacking
    assert found.startswith(lacking) if lacking else found == ""


def test_a_figure_that_nobody_gives_is_lacking(twins):
    reading = twins.read("How many lugworms live on tidal flats?")
    assert reading.signals.figure_missing == 1
    assert reading.lacking.startswith("give no figure")
    assert "lugworms" in reading.lacking


def test_lacking_what_was_asked_for_makes_an_answer_less_likely(desk):
    there = desk.read("Does Sliding Ledgers shrink the KV cache?")
    not_there = desk.read("Does Sliding Ledgers shrink the KV cache on ImageNet?")
    assert not_there.signals.name_missing > there.signals.name_missing == 0
    assert not_there.confidence < there.confidence


questions = st.text(min_size=1, max_size=80) | st.lists(
    st.sampled_from("How many which papers KV cache cranes GPT-4 shrink fever does ? % 71".split()),
    min_size=1,
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(questions.filter(str.strip), st.none() | st.integers(1, 9))
def test_any_question_is_read_within_bounds_and_the_same_each_time(desk, question, most):
    reading = desk.read(question, most=most)
    assert 0 <= reading.confidence <= 1
    assert all(0 <= value <= 1 for value in astuple(reading.signals))
    assert len(reading.evidence) <= (most or 5)
    assert set(reading.evidence) <= set(reading.considered)
    for one in reading.considered:
        assert one.paper.abstract[one.sentence.start : one.sentence.end] == one.sentence.text
        assert all(
            0 <= share <= 1 + 1e-6
            for share in (one.score, one.similarity, one.term_overlap, one.paper_score)
        )
    scores = [one.score for one in reading.considered]
    assert scores == sorted(scores, reverse=True)
    assert desk.read(question, most=most) == reading


def test_a_model_that_breaks_off_raises(desk):
    class Broken(PickyReader):
        def question_likelihood(self, contexts, question):
            raise RuntimeError("out of memory")

    with pytest.raises(ModelFailed, match="out of memory"):
        desk.read("How does the KV cache shrink?", reranker=Broken(""))


@settings(max_examples=30, deadline=None)
@given(st.floats(-60, 0), st.floats(-60, 0))
def test_any_likelihood_leaves_scores_within_bounds(desk, likely, unlikely):
    reading = desk.read(
        "How does the KV cache shrink?", reranker=PickyReader("KV cache", likely, unlikely)
    )
    assert reading.evidence
    assert all(0 <= one.score <= 1 for one in reading.considered)
