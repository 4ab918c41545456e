"""Language models behind an OpenAI-compatible server: vLLM, llama-server, Ollama and others.

A request runs in its own event loop, because a task can be cancelled at any moment: while it
connects, waits for the first token or receives tokens. Cancelling also closes the connection.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from rag.errors import ModelFailed, ModelTooSlow, ModelUnavailable
from rag.models.files import fingerprint_text
from rag.models.language_model import (
    GenerationLimits,
    Message,
    check_prompt_fits,
    compare_logits,
    find_context_length,
    format_chat,
)
from rag.models.runtimes.streaming import Emit, run_in_thread, stream_from_thread

_CONNECT_SECONDS = 5.0
# For requests that need no generation.
_SHORT_SECONDS = 5.0
_DEFAULT_CONTEXT_TOKENS = 4096
# Tokens that a chat template adds to each message, estimated generously.
_TEMPLATE_TOKENS = 8
_BYTES_PER_TOKEN = 2
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "n_ctx", "n_ctx_train")
_MAX_ERROR_CHARS = 200
# The most that OpenAI's interface allows.
_TOP_TOKENS = 20


def open_language_model(name: str) -> "ServerLanguageModel":
    """Connect to the model at `http://host:port/v1#model`.

    Without a path, `/v1` is added. Without `#model`, the first model that the server lists is used.
    The key comes from the environment variable FOOTNOTE_API_KEY. Raises `ModelUnavailable`.
    """
    address, _, model = name.partition("#")
    address = address.rstrip("/")
    if not urlsplit(address).path.strip("/"):
        address += "/v1"
    models = _list_models(address, is_required=not model)
    if not model and not models:
        raise ModelUnavailable(
            f"the server at {address} lists no models; add the model's name: {name}#MODEL"
        )
    model = model or str(models[0].get("id") or "")
    entry = next((entry for entry in models if entry.get("id") == model), {})
    return ServerLanguageModel(address, model, _context_length(entry))


class ServerLanguageModel:
    """Language model on a server, whose settings apply except that decoding is greedy."""

    def __init__(self, address: str, model: str, context_tokens: int) -> None:
        self.name = f"{model} at {urlsplit(address).netloc.rpartition('@')[2]}"
        self.fingerprint = fingerprint_text(f"{address}#{model}")
        self.context_tokens = context_tokens
        self._address = address
        self._model = model
        self._can_count = True
        self._tells_probabilities = True

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count a prompt's tokens on the server (vLLM, llama-server), or else estimate them.

        The estimate is high: a token for every two bytes, and eight per message for the template.
        """
        count = self._count_on_server(messages) if self._can_count else None
        if count is not None:
            return count
        self._can_count = False
        estimate = 0
        for message in messages:
            content_bytes = len(message.content.encode("utf-8", "replace"))
            estimate += content_bytes // _BYTES_PER_TOKEN + 1 + _TEMPLATE_TOKENS
        return estimate

    def _count_on_server(self, messages: Sequence[Message]) -> int | None:
        """Return the server's count, or None.

        vLLM counts messages. llama-server counts plain text, so an estimate for the template is
        added.
        """
        turns = format_chat(messages)
        text = "\n".join(turn["content"] for turn in turns)
        request = {"model": self._model, "messages": turns, "content": text}
        url = self._address.removesuffix("/v1") + "/tokenize"
        try:
            response = httpx2.post(
                url, json=request, headers=_auth_headers(), timeout=_SHORT_SECONDS
            )
            reply = response.raise_for_status().json()
        except (httpx2.HTTPError, ValueError):
            return None
        if not isinstance(reply, dict):
            return None
        count, tokens = reply.get("count"), reply.get("tokens")
        if isinstance(count, int):
            return count
        if isinstance(tokens, list) and tokens:
            return len(tokens) + _TEMPLATE_TOKENS * len(turns)
        return None

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in pieces; see `LanguageModel.stream`. A request is never retried."""
        check_prompt_fits(self.name, self.count_tokens(messages), limits, self.context_tokens)
        cancel: list[Callable[[], object]] = []

        async def request(emit: Emit) -> None:
            task = asyncio.current_task()
            if task:
                loop = asyncio.get_running_loop()
                cancel.append(lambda: loop.call_soon_threadsafe(task.cancel))
            if emit(""):  # a consumer that left earlier found nothing to cancel
                await self._generate(messages, limits, emit)

        def generate(emit: Emit) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(request(emit))

        def on_close() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                for call in cancel:
                    call()

        return stream_from_thread(self.name, generate, limits, stop, on_close)

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Return how probable the first choice is; see `ChoiceModel.choice_probability`.

        None when the server tells no probabilities of tokens; it is then not asked again.
        """
        if not self._tells_probabilities:
            return None
        check_prompt_fits(self.name, self.count_tokens(messages), limits, self.context_tokens)

        def request(_: Emit) -> dict[str, float]:
            return self._request_next_tokens(messages, limits)

        tokens = run_in_thread(self.name, request, limits, stop)
        return _compare_choices(tokens, choices) if tokens else None

    def _request_next_tokens(
        self, messages: Sequence[Message], limits: GenerationLimits
    ) -> dict[str, float]:
        """Return the likeliest first tokens of a reply with their log-probabilities (nats)."""
        request = {
            "model": self._model,
            "messages": format_chat(messages),
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": True,
            "top_logprobs": _TOP_TOKENS,
        }
        url = f"{self._address}/chat/completions"
        try:
            timeout = httpx2.Timeout(limits.seconds, connect=_CONNECT_SECONDS)
            reply = httpx2.post(url, json=request, headers=_auth_headers(), timeout=timeout)
        except httpx2.HTTPError as error:
            raise self._connection_error(error, limits) from error
        if reply.is_server_error:
            raise ModelFailed(self.name, f"the server says {reply.status_code}")
        tokens = _parse_next_tokens(reply)
        self._tells_probabilities = bool(tokens)
        return tokens

    async def _generate(
        self, messages: Sequence[Message], limits: GenerationLimits, emit: Emit
    ) -> None:
        """Emit the server's reply; turn its failures into model errors."""
        try:
            await self._request_completion(messages, limits, emit)
        except openai.APIStatusError as error:
            reason = f"the server says {error.status_code}: {_one_line(error.message)}"
            raise ModelFailed(self.name, reason) from error
        except openai.APIConnectionError as error:
            raise self._connection_error(error.__cause__ or error, limits) from error
        except httpx2.HTTPError as error:
            raise self._connection_error(error, limits) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            reason = f"cannot understand the server's reply: {_one_line(str(error))}"
            raise ModelFailed(self.name, reason) from error

    async def _request_completion(
        self, messages: Sequence[Message], limits: GenerationLimits, emit: Emit
    ) -> None:
        timeout = httpx2.Timeout(limits.seconds, connect=_CONNECT_SECONDS)
        turns: Any = format_chat(messages)  # the client has a dictionary type for each role
        http = httpx2.AsyncClient(timeout=timeout)  # unlike the default client, no redirects
        async with openai.AsyncOpenAI(
            base_url=self._address,
            api_key=_api_key(),
            max_retries=0,
            timeout=timeout,
            http_client=http,
        ) as client:
            reply = await client.chat.completions.create(
                model=self._model,
                messages=turns,
                stream=True,
                temperature=0,
                max_tokens=limits.tokens,
            )
            is_finished = False
            async for chunk in reply:
                for choice in chunk.choices[:1]:
                    emit(choice.delta.content or "")
                    is_finished = is_finished or bool(choice.finish_reason)
            if not is_finished:
                raise ModelFailed(self.name, "the server broke off before the end of its reply")

    def _connection_error(
        self, error: BaseException, limits: GenerationLimits
    ) -> ModelFailed | ModelTooSlow:
        """Return the model error for a connection that failed, timed out or broke off."""
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ModelFailed(self.name, _unreachable(self._address, error))
        if isinstance(error, httpx2.TimeoutException):
            return ModelTooSlow(self.name, limits.seconds)
        detail = _one_line(str(error))
        return ModelFailed(
            self.name, f"the server broke off before the end of its reply ({detail})"
        )


def _parse_next_tokens(reply: httpx2.Response) -> dict[str, float]:
    """Return the log-probabilities in a reply by token; empty when it has none."""
    try:
        (position,) = reply.json()["choices"][0]["logprobs"]["content"]
        return {entry["token"]: float(entry["logprob"]) for entry in position["top_logprobs"]}
    except (ValueError, LookupError, TypeError):
        return {}


def _compare_choices(tokens: Mapping[str, float], choices: tuple[str, str]) -> float | None:
    """Return the probability of the first choice, or None when no token begins either choice.

    A choice that no token begins counts as likely as the least likely token.
    """
    first: list[float] = []
    second: list[float] = []
    for token, log_prob in tokens.items():
        begins = [bool(token) and choice.startswith(token) for choice in choices]
        if begins == [True, False]:
            first.append(log_prob)
        elif begins == [False, True]:
            second.append(log_prob)
    if not first and not second:
        return None
    least = min(tokens.values())
    return compare_logits(max(first, default=least), max(second, default=least))


def _list_models(address: str, *, is_required: bool) -> list[dict[str, Any]]:
    """Return the entries of the server's model list.

    A server without a list counts as one with an empty list, unless the list `is_required`.
    """
    try:
        reply = httpx2.get(f"{address}/models", headers=_auth_headers(), timeout=_SHORT_SECONDS)
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
        raise ModelUnavailable(_unreachable(address, error)) from error
    entries = _parse_model_list(reply)
    if entries is None and is_required:
        raise ModelUnavailable(
            f"{address}/models is not a list of models (status {reply.status_code}); check that "
            f"{address} is an OpenAI-compatible server, or add the model's name: {address}#MODEL"
        )
    return entries or []


def _parse_model_list(reply: httpx2.Response) -> list[dict[str, Any]] | None:
    """Return the entries of a model list, or None when the reply is something else."""
    if not reply.is_success:
        return None
    try:
        content = reply.json()
    except ValueError:
        return None
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, dict)]


def _context_length(entry: dict[str, Any]) -> int:
    """Return the context length, in tokens, in an entry of a model list (vLLM, llama-server)."""
    meta = entry.get("meta")
    sections = (entry, meta if isinstance(meta, dict) else {})
    return find_context_length(sections, _CONTEXT_KEYS, _DEFAULT_CONTEXT_TOKENS)


def _api_key() -> str:
    return os.environ.get("FOOTNOTE_API_KEY") or "none"


def _auth_headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {_api_key()}"}


def _unreachable(address: str, error: BaseException) -> str:
    detail = f" ({_one_line(str(error))})" if str(error) else ""
    return f"no server answers at {address}{detail}; is it running, and is the address right?"


def _one_line(text: str) -> str:
    """Return a server's message as one line, shortened if it is long."""
    line = " ".join(text.split())
    if len(line) <= _MAX_ERROR_CHARS:
        return line
    return line[: _MAX_ERROR_CHARS - 1] + "…"
