"""The seam to llama-index: its own kinds of parts, and nodes that can still be checked."""

import asyncio

import pytest
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import BaseQueryEngine, RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, QueryBundle

from rag import Answer, Assistant, UsageError

CACHE = "Which papers shrink the KV cache, and by how much?"


@pytest.fixture(scope="module")
def reader(small_library):
    return Assistant.open(small_library)


def test_the_retriever_finds_what_search_finds(reader):
    retriever = reader.as_retriever(k=4)
    assert isinstance(retriever, BaseRetriever)
    nodes, hits = retriever.retrieve(CACHE), reader.search(CACHE, k=4)
    assert [node.metadata["paper_id"] for node in nodes] == [hit.paper.id for hit in hits]
    assert [node.score for node in nodes] == [hit.score for hit in hits]
    assert [node.metadata["rank"] for node in nodes] == [1, 2, 3, 4]


def test_a_node_is_a_literal_span_of_its_abstract(reader):
    for node in reader.as_retriever(k=12).retrieve(CACHE):
        paper = reader.paper(node.metadata["paper_id"])
        span = slice(node.metadata["start"], node.metadata["end"])
        # A paper without abstract is found by its title, and that is all that there is to read.
        assert node.text == (paper.abstract[span] or paper.title)
        assert (node.text == paper.title) == (paper.abstract == "")
        assert node.metadata["title"] == paper.title
        assert node.node_id == f"{paper.id}:{span.start}-{span.stop}"


def test_a_language_model_sees_title_and_byline_but_no_ids(reader):
    node = reader.as_retriever(k=1).retrieve(CACHE)[0]
    seen = node.node.get_content(MetadataMode.LLM)
    assert node.metadata["title"] in seen
    assert node.metadata["byline"] in seen
    assert node.metadata["paper_id"] not in seen
    assert "rank" not in seen


def test_filters_hold_for_the_retriever_and_the_engine(reader):
    nodes = reader.as_retriever(k=12, year="2023").retrieve(CACHE)
    assert {reader.paper(node.metadata["paper_id"]).year for node in nodes} == {2023}
    answer = reader.as_query_engine(year="2023").query(CACHE).metadata["answer"]
    assert [citation.paper.title for citation in answer.citations] == [
        "Two-Bit Keys, Four-Bit Values"
    ]
    with pytest.raises(UsageError):
        reader.as_retriever(year="soon").retrieve(CACHE)


def test_the_retriever_works_asynchronously_and_with_bundles(reader):
    retriever = reader.as_retriever(k=2)
    expected = [node.node_id for node in retriever.retrieve(CACHE)]
    assert [node.node_id for node in asyncio.run(retriever.aretrieve(CACHE))] == expected
    assert [node.node_id for node in retriever.retrieve(QueryBundle(CACHE))] == expected


def test_the_query_engine_answers_with_the_answer_itself(reader):
    engine = reader.as_query_engine(sentences=2)
    assert isinstance(engine, BaseQueryEngine)
    response = engine.query(CACHE)
    assert isinstance(response, Response)
    answer = response.metadata["answer"]
    assert isinstance(answer, Answer)
    assert str(response) == answer.text == reader.ask(CACHE, sentences=2).text
    assert not answer.abstained
    assert [node.text for node in response.source_nodes] == [
        citation.quote for citation in answer.citations
    ]
    for node, citation in zip(response.source_nodes, answer.citations, strict=True):
        assert node.metadata["citation"] == citation.number
        assert node.text == citation.paper.abstract[node.metadata["start"] : node.metadata["end"]]
        assert 0 < node.score <= 1.1


def test_the_query_engine_says_that_the_library_does_not(reader):
    response = reader.as_query_engine().query("Who won the football world cup?")
    assert response.metadata["answer"].abstained
    assert str(response).startswith("Your library does not say.")
    assert response.source_nodes == []


def test_the_query_engine_works_asynchronously(reader):
    engine = reader.as_query_engine()
    assert str(asyncio.run(engine.aquery(CACHE))) == str(engine.query(CACHE))


def test_the_retriever_serves_a_stock_query_engine(reader):
    engine = RetrieverQueryEngine.from_args(reader.as_retriever(k=2), llm=MockLLM())
    response = engine.query(CACHE)
    # The mock repeats its prompt: what the retriever found reached the language model, literally.
    for node in response.source_nodes:
        assert node.text in str(response)
    titles = [node.metadata["title"] for node in response.source_nodes]
    assert sorted(titles) == [
        "Sliding Ledgers: Shrinking the KV Cache by Forgetting Politely",
        "Two-Bit Keys, Four-Bit Values",
    ]
