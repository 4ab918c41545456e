"""Adapters for llama-index: retriever, query engine and language model, in both directions.

Nodes carry the paper's id and the span of the passage, so what is built on them can be traced
to the abstract. Any llama-index `LLM` can generate answers; its text is verified like any other.
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
from rag.records import Answer, Citation, Hit, Paper

# For the annotations of other modules: only this module imports llama-index.
AnyLLM = LLM

# Cautious assumptions for counting; each message needs a few more tokens for its role.
_CHARACTERS_PER_TOKEN = 2
_TOKENS_PER_MESSAGE = 8


class FootnoteRetriever(BaseRetriever):
    """Search of an assistant as a retriever for any llama-index pipeline."""

    def __init__(self, search: Callable[[str], list[Hit]]) -> None:
        self._search = search
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return list(map(_hit_node, self._search(query_bundle.query_str)))


class FootnoteQueryEngine(CustomQueryEngine):
    """Assistant as a query engine; the response's metadata holds the `Answer` under `answer`."""

    ask: Callable[[str], Answer]

    def custom_query(self, query_str: str) -> Response:
        """Return the answer as a llama-index response with one source node per citation."""
        answer = self.ask(query_str)
        scores: dict[int, float] = {}
        for claim in answer.claims:
            scores.update(dict.fromkeys(claim.citations, claim.score))
        nodes = []
        for citation in answer.citations:
            score = scores.get(citation.number, 0.0)
            nodes.append(_citation_node(citation, score))
        return Response(answer.text, source_nodes=nodes, metadata={"answer": answer})


class FootnoteLLM(CustomLLM):
    """Language model of Footnote as a llama-index `LLM`: greedy decoding, streams can be closed."""

    model: Any  # a LanguageModel; llama-index would try to validate a protocol
    tokens: int = 256
    seconds: float = 120.0

    @property
    def metadata(self) -> LLMMetadata:
        """Name, context window and maximum length of a reply."""
        return LLMMetadata(
            context_window=self.model.context_tokens,
            num_output=self.tokens,
            is_chat_model=True,
            model_name=self.model.name,
        )

    def complete(
        self,
        prompt: str,
        formatted: bool = False,
        **kwargs: Any,  # noqa: ANN401 - the signature of llama-index
    ) -> CompletionResponse:
        """Return the whole reply to a prompt."""
        return CompletionResponse(text="".join(self._pieces([Message("user", prompt)])))

    def stream_complete(
        self,
        prompt: str,
        formatted: bool = False,
        **kwargs: Any,  # noqa: ANN401 - the signature of llama-index
    ) -> CompletionResponseGen:
        """Yield the reply to a prompt piece by piece."""

        def responses() -> CompletionResponseGen:
            text = ""
            for piece in self._pieces([Message("user", prompt)]):
                text += piece
                yield CompletionResponse(text=text, delta=piece)

        return responses()

    def chat(
        self,
        messages: Sequence[ChatMessage],
        **kwargs: Any,  # noqa: ANN401 - the signature of llama-index
    ) -> ChatResponse:
        """Return the whole reply to a conversation."""
        text = "".join(self._pieces(_from_llama_index(messages)))
        return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text))

    def stream_chat(
        self,
        messages: Sequence[ChatMessage],
        **kwargs: Any,  # noqa: ANN401 - the signature of llama-index
    ) -> ChatResponseGen:
        """Yield the reply to a conversation piece by piece."""

        def responses() -> ChatResponseGen:
            text = ""
            for piece in self._pieces(_from_llama_index(messages)):
                text += piece
                message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
                yield ChatResponse(message=message, delta=piece)

        return responses()

    def _pieces(self, messages: Sequence[Message]) -> Iterator[str]:
        model: LanguageModel = self.model
        return model.stream(messages, GenerationLimits(self.tokens, self.seconds), Event())


class LlamaIndexModel:
    """Any llama-index `LLM` as a `rag.models.language_model.LanguageModel`."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm
        self.name = llm.metadata.model_name
        self.context_tokens = llm.metadata.context_window
        identity = f"{type(llm).__qualname__}:{self.name}".encode()
        self.fingerprint = hashlib.sha256(identity).hexdigest()[:12]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Estimate the number of tokens, on the high side: llama-index hides the tokenizer."""
        total = 0
        for message in messages:
            total += len(message.content) // _CHARACTERS_PER_TOKEN + _TOKENS_PER_MESSAGE
        return total

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply piece by piece; the model's own settings limit its number of tokens."""
        chat_messages = list(map(_to_llama_index, messages))

        def generate(emit: Emit) -> None:
            for response in self._llm.stream_chat(chat_messages):
                if not emit(response.delta or ""):
                    return

        return stream_from_thread(self.name, generate, limits, stop, on_close=lambda: None)


def _to_llama_index(message: Message) -> ChatMessage:
    return ChatMessage(role=MessageRole(message.role), content=message.content)


def _from_llama_index(messages: Sequence[ChatMessage]) -> list[Message]:
    """Convert messages; a role that Footnote does not use becomes `user`."""
    converted = []
    for message in messages:
        text = message.content or ""
        if message.role == MessageRole.SYSTEM:
            converted.append(Message("system", text))
        elif message.role == MessageRole.ASSISTANT:
            converted.append(Message("assistant", text))
        else:
            converted.append(Message("user", text))
    return converted


def _hit_node(hit: Hit) -> NodeWithScore:
    start, end = hit.passage.start, hit.passage.end
    # A paper without an abstract is represented by its title.
    text = hit.paper.abstract[start:end] or hit.paper.title
    return _node(hit.paper, text, (start, end), hit.score, {"rank": hit.rank})


def _citation_node(citation: Citation, score: float) -> NodeWithScore:
    span = (citation.start, citation.end)
    return _node(citation.paper, citation.quote, span, score, {"citation": citation.number})


def _node(
    paper: Paper, text: str, span: tuple[int, int], score: float, extra: dict[str, Any]
) -> NodeWithScore:
    start, end = span
    metadata = {
        "paper_id": paper.id,
        "title": paper.title,
        "start": start,
        "end": end,
        **extra,
        "byline": paper.byline,
        "url": paper.link,
    }
    node = TextNode(id_=f"{paper.id}:{start}-{end}", text=text, metadata=metadata)
    # A language model needs title and byline; ids and offsets would only distract it.
    node.excluded_llm_metadata_keys = ["paper_id", "start", "end", "url", *extra]
    return NodeWithScore(node=node, score=score)
