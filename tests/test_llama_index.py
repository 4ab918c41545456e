"""Adapters for llama-index: retriever and query engine, with nodes that can be checked."""

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
def small_assistant(small_library):
    return Assistant.open(small_library)


def test_retriever_returns_the_hits_of_search(small_assistant):
    retriever = small_assistant.as_retriever(k=4)
    assert isinstance(retriever, BaseRetriever)
    nodes, hits = retriever.retrieve(CACHE), small_assistant.search(CACHE, k=4)
    assert [node.metadata["paper_id"] for node in nodes] == [hit.paper.id for hit in hits]
    assert [node.score for node in nodes] == [hit.score for hit in hits]
    assert [node.metadata["rank"] for node in nodes] == [1, 2, 3, 4]


def test_nodes_are_literal_spans_of_abstracts(small_assistant):
    for node in small_assistant.as_retriever(k=12).retrieve(CACHE):
        paper = small_assistant.paper(node.metadata["paper_id"])
        span = slice(node.metadata["start"], node.metadata["end"])
        # A paper without an abstract is represented by its title.
        assert node.text == (paper.abstract[span] or paper.title)
        assert (node.text == paper.title) == (paper.abstract == "")
        assert node.metadata["title"] == paper.title
        assert node.node_id == f"{paper.id}:{span.start}-{span.stop}"


def test_language_models_see_title_and_byline_but_no_ids(small_assistant):
    node = small_assistant.as_retriever(k=1).retrieve(CACHE)[0]
    prompt_text = node.node.get_content(MetadataMode.LLM)
    assert node.metadata["title"] in prompt_text
    assert node.metadata["byline"] in prompt_text
    assert node.metadata["paper_id"] not in prompt_text
    assert "rank" not in prompt_text


def test_retriever_and_engine_respect_filters(small_assistant):
    nodes = small_assistant.as_retriever(k=12, year="2023").retrieve(CACHE)
    assert {small_assistant.paper(node.metadata["paper_id"]).year for node in nodes} == {2023}
    answer = small_assistant.as_query_engine(year="2023").query(CACHE).metadata["answer"]
    assert [citation.paper.title for citation in answer.citations] == [
        "Two-Bit Keys, Four-Bit Values"
    ]
    with pytest.raises(UsageError):
        small_assistant.as_retriever(year="soon").retrieve(CACHE)


def test_retriever_works_asynchronously_and_with_query_bundles(small_assistant):
    retriever = small_assistant.as_retriever(k=2)
    expected = [node.node_id for node in retriever.retrieve(CACHE)]
    assert [node.node_id for node in asyncio.run(retriever.aretrieve(CACHE))] == expected
    assert [node.node_id for node in retriever.retrieve(QueryBundle(CACHE))] == expected


def test_query_engine_returns_the_answer_in_its_metadata(small_assistant):
    engine = small_assistant.as_query_engine(sentences=2)
    assert isinstance(engine, BaseQueryEngine)
    response = engine.query(CACHE)
    assert isinstance(response, Response)
    answer = response.metadata["answer"]
    assert isinstance(answer, Answer)
    assert str(response) == answer.text == small_assistant.ask(CACHE, sentences=2).text
    assert not answer.abstained
    assert [node.text for node in response.source_nodes] == [
        citation.quote for citation in answer.citations
    ]
    for node, citation in zip(response.source_nodes, answer.citations, strict=True):
        assert node.metadata["citation"] == citation.number
        assert node.text == citation.paper.abstract[node.metadata["start"] : node.metadata["end"]]
        assert 0 < node.score <= 1.1


def test_query_engine_abstains(small_assistant):
    response = small_assistant.as_query_engine().query("Who won the football world cup?")
    assert response.metadata["answer"].abstained
    assert str(response).startswith("Your library does not say.")
    assert response.source_nodes == []


def test_query_engine_works_asynchronously(small_assistant):
    engine = small_assistant.as_query_engine()
    assert str(asyncio.run(engine.aquery(CACHE))) == str(engine.query(CACHE))


def test_retriever_works_in_a_llama_index_query_engine(small_assistant):
    engine = RetrieverQueryEngine.from_args(small_assistant.as_retriever(k=2), llm=MockLLM())
    response = engine.query(CACHE)
    # The mock repeats its prompt, which contains the text of the nodes.
    for node in response.source_nodes:
        assert node.text in str(response)
    titles = [node.metadata["title"] for node in response.source_nodes]
    assert sorted(titles) == [
        "Sliding Ledgers: Shrinking the KV Cache by Forgetting Politely",
        "Two-Bit Keys, Four-Bit Values",
    ]
