"""The seam to llama-index: the retriever and the assistant as its own kinds of parts.

Nodes carry the paper's id and the span of the passage, so that whatever is built on them can still be checked.
"""

from collections.abc import Callable
from typing import Any

from llama_index.core.base.response.schema import Response
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rag.records import Answer, Hit, Paper


class FootnoteRetriever(BaseRetriever):
    """Finds passages for any llama-index pipeline; `search` gives the hits for a question."""

    def __init__(self, search: Callable[[str], list[Hit]]) -> None:
        self._search = search
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [_node_of_hit(hit) for hit in self._search(query_bundle.query_str)]


class FootnoteQueryEngine(CustomQueryEngine):
    """Asks the assistant; the `Answer` itself is in the response's metadata under `answer`."""

    ask: Callable[[str], Answer]

    def custom_query(self, query_str: str) -> Response:
        """The answer as llama-index knows it, one source node for each citation."""
        answer = self.ask(query_str)
        scores = {number: claim.score for claim in answer.claims for number in claim.citations}
        nodes = [
            _node(c.paper, c.quote, (c.start, c.end), scores.get(c.number, 0.0), {"citation": c.number})
            for c in answer.citations
        ]
        return Response(answer.text, source_nodes=nodes, metadata={"answer": answer})


def _node_of_hit(hit: Hit) -> NodeWithScore:
    span = (hit.passage.start, hit.passage.end)
    return _node(hit.paper, hit.paper.abstract[slice(*span)] or hit.paper.title, span, hit.score, {"rank": hit.rank})


def _node(paper: Paper, text: str, span: tuple[int, int], score: float, extra: dict[str, Any]) -> NodeWithScore:
    metadata = {"paper_id": paper.id, "title": paper.title, "start": span[0], "end": span[1], **extra}
    metadata |= {"byline": paper.byline, "url": paper.link}
    node = TextNode(id_=f"{paper.id}:{span[0]}-{span[1]}", text=text, metadata=metadata)
    # A language model needs title and byline; ids and offsets would only distract it.
    node.excluded_llm_metadata_keys = ["paper_id", "start", "end", "url", *extra]
    return NodeWithScore(node=node, score=score)
