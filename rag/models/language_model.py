"""Interface of language models.

Every runtime decodes greedily, so the same prompt gets the same reply. It generates in a
separate thread (`rag.models.runtimes.streaming`), so the caller can stop it within a token.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal, Protocol, runtime_checkable

from rag.errors import ModelFailed

# `question_likelihood` uses the last tokens of the context and the first ones of the question.
MAX_CONTEXT_TOKENS = 256
MAX_QUESTION_TOKENS = 64
# Invisible character that splits the text of a special token.
_ZERO_WIDTH_NON_JOINER = "\u200c"


@dataclass(frozen=True, slots=True)
class Message:
    """Message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """Limits of a reply: its length in tokens and its time in seconds."""

    tokens: int = 256
    seconds: float = 120.0


class LanguageModel(Protocol):
    """Language model that writes replies. `fingerprint` identifies its weights or its server."""

    name: str
    fingerprint: str
    context_tokens: int

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, its chat template included."""
        ...

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in pieces; end early, without an error, once `stop` is set.

        Closing the iterator also ends the generation. Raises `ModelFailed` when the prompt does not
        fit or the model fails, and `ModelTooSlow` at the deadline.
        """
        ...


@runtime_checkable
class ChoiceModel(Protocol):
    """Language model that also tells how probable a reply is."""

    name: str

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float:
        """Return the probability, 0..1, that the reply begins with the first of two choices.

        It is relative to the second choice. Raises `ModelFailed` and `ModelTooSlow` as
        `LanguageModel.stream` does.
        """
        ...


@runtime_checkable
class QueryLikelihoodModel(Protocol):
    """Language model that also scores how likely a question is after a text."""

    name: str

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """Return the log-probabilities (nats) of the question's tokens after each context.

        All rows have the same length. An empty context means the beginning of a text.
        """
        ...


def escape_special_tokens(text: str, special_tokens: Iterable[str]) -> str:
    """Change a text so that the tokenizer finds none of its special tokens in it."""
    for token in special_tokens:
        text = text.replace(token, token[0] + _ZERO_WIDTH_NON_JOINER + token[1:])
    return replace_lone_surrogates(text)


def replace_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, with question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def format_chat(
    messages: Sequence[Message], special_tokens: Iterable[str] = ()
) -> list[dict[str, str]]:
    """Return messages in the form for chat templates, with special tokens in them escaped."""
    special_tokens = tuple(special_tokens)
    turns = []
    for message in messages:
        content = escape_special_tokens(message.content, special_tokens)
        turns.append({"role": message.role, "content": content})
    return turns


def format_transcript(turns: Sequence[dict[str, str]]) -> str:
    """Return a prompt of `role: content` lines, for models without a chat template."""
    lines = [f"{turn['role']}: {turn['content']}" for turn in turns]
    return "\n\n".join([*lines, "assistant:"])


def check_prompt_fits(
    name: str, prompt_tokens: int, limits: GenerationLimits, context_tokens: int
) -> None:
    """Raise `ModelFailed` when prompt and reply together exceed the model's context."""
    if prompt_tokens > context_tokens - limits.tokens:
        raise ModelFailed(
            name,
            f"a prompt of {prompt_tokens} tokens and a reply of {limits.tokens} exceed its context "
            f"of {context_tokens}",
        )


def find_context_length(
    sections: Iterable[Mapping[str, Any]], keys: Iterable[str], default: int
) -> int:
    """Return the first positive integer that a section has under one of the keys."""
    keys = tuple(keys)
    for section in sections:
        for key in keys:
            tokens = section.get(key)
            if isinstance(tokens, int) and tokens > 0:
                return tokens
    return default
