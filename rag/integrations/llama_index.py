"""The seam to llama-index: the retriever, the assistant and the language model as its own kinds of parts, and back.

Nodes carry the paper's id and the span of the passage, so that whatever is built on them can still be checked. Any
`LLM` of llama-index can write for the assistant; what it writes is checked like everything else.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import LLM, CustomLLM
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.models.runtimes.streaming import Emit, stream_from_thread
from rag.records import Answer, Hit, Paper

# The name by which other modules know it, for only this one knows llama-index.
AnyLLM = LLM


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
            _node(
                c.paper,
                c.quote,
                (c.start, c.end),
                scores.get(c.number, 0.0),
                {"citation": c.number},
            )
            for c in answer.citations
        ]
        return Response(answer.text, source_nodes=nodes, metadata={"answer": answer})


class FootnoteLLM(CustomLLM):
    """A language model of Footnote as a llama-index `LLM`: greedy, and stopped by closing what it streams."""

    model: Any  # a LanguageModel; llama-index would try to validate a protocol
    tokens: int = 256
    seconds: float = 120.0

    @property
    def metadata(self) -> LLMMetadata:
        """Name, context window and longest reply."""
        return LLMMetadata(
            context_window=self.model.context_tokens,
            num_output=self.tokens,
            is_chat_model=True,
            model_name=self.model.name,
        )

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:  # noqa: ANN401
        """The whole reply to a prompt."""
        return CompletionResponse(text="".join(self._pieces([Message("user", prompt)])))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:  # noqa: ANN401
        """The reply to a prompt, piece by piece."""

        def responses() -> CompletionResponseGen:
            text = ""
            for piece in self._pieces([Message("user", prompt)]):
                text += piece
                yield CompletionResponse(text=text, delta=piece)

        return responses()

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:  # noqa: ANN401
        """The whole reply to a conversation."""
        text = "".join(self._pieces(_from_llama(messages)))
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:  # noqa: ANN401
        """The reply to a conversation, piece by piece."""

        def responses() -> ChatResponseGen:
            text = ""
            for piece in self._pieces(_from_llama(messages)):
                text += piece
                yield ChatResponse(
                    message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=piece
                )

        return responses()

    def _pieces(self, messages: Sequence[Message]) -> Iterator[str]:
        model: LanguageModel = self.model
        return model.stream(messages, GenerationLimits(self.tokens, self.seconds), Event())


class LlamaIndexModel:
    """Any llama-index `LLM` as a language model of Footnote; see `rag.models.LanguageModel`."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.name = llm.metadata.model_name
        self.context_tokens = llm.metadata.context_window
        self.fingerprint = hashlib.sha256(
            f"{type(llm).__qualname__}:{self.name}".encode()
        ).hexdigest()[:12]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """An estimate that errs upwards, for the model keeps its tokeniser to itself: one for every two characters."""
        return sum(len(message.content) // 2 + 8 for message in messages)

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """See `rag.models.LanguageModel`; how many tokens it writes, the model was told when it was made."""
        turns = [
            ChatMessage(role=MessageRole(message.role), content=message.content)
            for message in messages
        ]

        def generate(emit: Emit) -> None:
            for response in self._llm.stream_chat(turns):
                if not emit(response.delta or ""):
                    return

        return stream_from_thread(self.name, generate, limits, stop, on_end=lambda: None)


def _from_llama(messages: Sequence[ChatMessage]) -> list[Message]:
    known = {MessageRole.SYSTEM: "system", MessageRole.ASSISTANT: "assistant"}
    return [Message(known.get(message.role, "user"), message.content or "") for message in messages]  # type: ignore[arg-type]


def _node_of_hit(hit: Hit) -> NodeWithScore:
    span = (hit.passage.start, hit.passage.end)
    return _node(
        hit.paper,
        hit.paper.abstract[slice(*span)] or hit.paper.title,
        span,
        hit.score,
        {"rank": hit.rank},
    )


def _node(
    paper: Paper, text: str, span: tuple[int, int], score: float, extra: dict[str, Any]
) -> NodeWithScore:
    metadata = {
        "paper_id": paper.id,
        "title": paper.title,
        "start": span[0],
        "end": span[1],
        **extra,
    }
    metadata |= {"byline": paper.byline, "url": paper.link}
    node = TextNode(id_=f"{paper.id}:{span[0]}-{span[1]}", text=text, metadata=metadata)
    # A language model needs title and byline; ids and offsets would only distract it.
    node.excluded_llm_metadata_keys = ["paper_id", "start", "end", "url", *extra]
    return NodeWithScore(node=node, score=score)
