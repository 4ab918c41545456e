"""Language models behind an OpenAI-compatible server: vLLM, llama-server, Ollama, `transformers serve` and others.

The conversation with the server runs in an event loop of its own, for a task can be cancelled at any moment:
while it connects, while it waits for the first word and while words come. The connection is closed with it.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from rag.errors import ModelFailed, ModelTooSlow, ModelUnavailable
from rag.models.files import digest_text
from rag.models.language_model import GenerationLimits, Message, check_fits
from rag.models.runtimes.streaming import Emit, stream_from_thread

_CONNECT_SECONDS = 5.0
# For questions that a server answers from memory.
_SHORT_SECONDS = 5.0
# Where the server does not tell.
_CONTEXT_TOKENS = 4096
# What a chat template puts around a message, with room to spare.
_TOKENS_AROUND = 8
_CONTEXT_NAMES = ("max_model_len", "context_length", "context_window", "n_ctx", "n_ctx_train")


class ServerLanguageModel:
    """See `rag.models.LanguageModel`. The server's own settings beyond greedy decoding hold."""

    def __init__(self, address: str, model: str, context_tokens: int) -> None:
        self.name = f"{model} at {urlsplit(address).netloc.rpartition('@')[2]}"
        self.fingerprint = digest_text(f"{address}#{model}")
        self.context_tokens = context_tokens
        self._address = address
        self._model = model
        self._can_count = True

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """What the server counts (vLLM and llama-server do), or else an estimate that errs upwards.

        The estimate is a token for every two bytes, and eight around each message.
        """
        counted = self._counted(messages) if self._can_count else None
        if counted is not None:
            return counted
        self._can_count = False
        return sum(
            len(message.content.encode("utf-8", "replace")) // 2 + 1 + _TOKENS_AROUND
            for message in messages
        )

    def _counted(self, messages: Sequence[Message]) -> int | None:
        """Messages are for vLLM; llama-server counts a text only, and room is added for what the template puts in."""
        turns = _turns(messages)
        request = {
            "model": self._model,
            "messages": turns,
            "content": "\n".join(turn["content"] for turn in turns),
        }
        url = self._address.removesuffix("/v1") + "/tokenize"
        try:
            reply = (
                httpx2.post(url, json=request, headers=_headers(), timeout=_SHORT_SECONDS)
                .raise_for_status()
                .json()
            )
        except (httpx2.HTTPError, ValueError):
            return None
        count, tokens = (
            (reply.get("count"), reply.get("tokens")) if isinstance(reply, dict) else (None, None)
        )
        if isinstance(count, int):
            return count
        return (
            len(tokens) + _TOKENS_AROUND * len(turns)
            if isinstance(tokens, list) and tokens
            else None
        )

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """See `rag.models.LanguageModel`. Nothing is tried twice."""
        check_fits(self.name, self.count_tokens(messages), limits, self.context_tokens)
        cancel: list[Callable[[], object]] = []

        async def cancellable(emit: Emit) -> None:
            task = asyncio.current_task()
            if task:
                loop = asyncio.get_running_loop()
                cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
            if emit(""):  # who leaves before this line finds nothing to cancel
                await self._talk(messages, limits, emit)

        def generate(emit: Emit) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(cancellable(emit))

        def on_end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                for call in cancel:
                    call()

        return stream_from_thread(self.name, generate, limits, stop, on_end)

    async def _talk(
        self, messages: Sequence[Message], limits: GenerationLimits, emit: Emit
    ) -> None:
        try:
            await self._converse(messages, limits, emit)
        except openai.APIStatusError as error:
            raise ModelFailed(
                self.name, f"the server says {error.status_code}: {_line(error.message)}"
            ) from error
        except openai.APIConnectionError as error:
            raise self._lost(error.__cause__ or error, limits) from error
        except httpx2.HTTPError as error:
            raise self._lost(error, limits) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            raise ModelFailed(
                self.name, f"the server's reply cannot be understood: {_line(str(error))}"
            ) from error

    def _lost(self, error: BaseException, limits: GenerationLimits) -> ModelFailed | ModelTooSlow:
        """What a lost connection means: there was none, or no word came in time, or the server ended it."""
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ModelFailed(self.name, _not_there(self._address, error))
        if isinstance(error, httpx2.TimeoutException):
            return ModelTooSlow(self.name, limits.seconds)
        return ModelFailed(
            self.name, f"the server broke off before the end of its reply ({_line(str(error))})"
        )

    async def _converse(
        self, messages: Sequence[Message], limits: GenerationLimits, emit: Emit
    ) -> None:
        timeout = httpx2.Timeout(limits.seconds, connect=_CONNECT_SECONDS)
        turns: Any = _turns(messages)  # the client has a dictionary type for each role
        http = httpx2.AsyncClient(timeout=timeout)  # follows no redirects, unlike the client's own
        async with openai.AsyncOpenAI(
            base_url=self._address, api_key=_key(), max_retries=0, timeout=timeout, http_client=http
        ) as client:
            reply = await client.chat.completions.create(
                model=self._model,
                messages=turns,
                stream=True,
                temperature=0,
                max_tokens=limits.tokens,
            )
            finished = False
            async for chunk in reply:
                for choice in chunk.choices[:1]:
                    emit(choice.delta.content or "")
                    finished = finished or bool(choice.finish_reason)
            if not finished:
                raise ModelFailed(self.name, "the server broke off before the end of its reply")


def open_server(name: str) -> ServerLanguageModel:
    """The model at `http://host:port/v1#model`; without a path `/v1`, without a model the first of the server's list.

    The key is taken from the variable FOOTNOTE_API_KEY. Raises `ModelUnavailable`.
    """
    address, _, model = name.partition("#")
    address = (
        address.rstrip("/") if urlsplit(address).path.strip("/") else address.rstrip("/") + "/v1"
    )
    models = _models(address, must_list=not model)
    if not model and not models:
        raise ModelUnavailable(
            f"the server at {address} lists no models; name one at the end: {name}#MODEL"
        )
    model = model or str(models[0].get("id") or "")
    told = next((entry for entry in models if entry.get("id") == model), {})
    return ServerLanguageModel(address, model, _context(told))


def _models(address: str, *, must_list: bool) -> list[dict[str, Any]]:
    """What the server tells of its models. A server that is there without a list will do where none is needed."""
    try:
        reply = httpx2.get(f"{address}/models", headers=_headers(), timeout=_SHORT_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise ModelUnavailable(_not_there(address, error)) from error
    with contextlib.suppress(ValueError):
        listed = reply.raise_for_status().json() if reply.is_success else {}
        data = listed.get("data") if isinstance(listed, dict) else None
        if isinstance(data, list):
            return [entry for entry in data if isinstance(entry, dict)]
    if must_list:
        raise ModelUnavailable(
            f"{address}/models gives no list of models (status {reply.status_code}); is {address} the address of an "
            f"OpenAI-compatible server? A model can be named at the end: {address}#MODEL"
        )
    return []


def _context(entry: dict[str, Any]) -> int:
    """Tokens, from where vLLM and llama-server tell them."""
    meta = entry.get("meta")
    places = (entry, meta if isinstance(meta, dict) else {})
    known = (place.get(name) for place in places for name in _CONTEXT_NAMES)
    return next(
        (tokens for tokens in known if isinstance(tokens, int) and tokens > 0), _CONTEXT_TOKENS
    )


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [
        {"role": message.role, "content": message.content.encode("utf-8", "replace").decode()}
        for message in messages
    ]


def _key() -> str:
    return os.environ.get("FOOTNOTE_API_KEY") or "none"


def _headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {_key()}"}


def _not_there(address: str, error: BaseException | None = None) -> str:
    why = f" ({_line(str(error))})" if error and str(error) else ""
    return f"no server answers at {address}{why}; is it running, and is the address right?"


def _line(text: str) -> str:
    """One line of what a server said, short enough to be read."""
    one = " ".join(text.split())
    return one if len(one) <= 200 else one[:199] + "…"
