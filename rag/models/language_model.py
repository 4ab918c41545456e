"""Interface of language models.

Every runtime decodes greedily, so the same prompt gets the same reply. It generates in a
separate thread (`rag.models.runtimes.streaming`), so the caller can stop it within a token.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal, Protocol, runtime_checkable

from rag.errors import ModelFailed
from rag.models.vectors import Vectors

_MAX_EXPONENT = 700.0  # beyond that, a float overflows
# A draft: the tokens that followed an earlier occurrence of a text's last tokens.
_MATCH_TOKENS = 2
_DRAFT_TOKENS = 4
# The hidden state of a model is that after this share of its layers. What a model knows about a
# text is easiest to read there; the last layers are about the next word.
STATE_DEPTH = 0.65
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
    ) -> float | None:
        """Return the probability, 0..1, that the reply begins with the first of two choices.

        It is relative to the second choice; only the first token in which they differ counts.
        None when the model cannot tell, and after a stop. Raises `ModelFailed` and `ModelTooSlow`
        as `LanguageModel.stream` does.
        """
        ...


@runtime_checkable
class HiddenStateModel(Protocol):
    """Language model that also shows the state that it is in after a prompt."""

    name: str
    fingerprint: str

    def hidden_state(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Vectors | None:
        """Return the state after a prompt and `STATE_DEPTH` of the layers, (width,).

        None when the model does not tell, and after a stop. Raises `ModelFailed` and `ModelTooSlow`
        as `LanguageModel.stream` does.
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


def split_choices(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], int, int]:
    """Return the tokens that two choices begin with, and the first token in which each differs.

    Raises `ValueError` when one choice begins with the whole other one.
    """
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return list(first[:index]), one, other
    raise ValueError("the choices do not differ in a token")


def compare_logits(first: float, second: float) -> float:
    """Return the probability of the first of two tokens, given that it is one of them."""
    return 1.0 / (1.0 + math.exp(min(float(second) - float(first), _MAX_EXPONENT)))


def find_draft(text: Sequence[int]) -> list[int]:
    """Return the tokens that followed the latest earlier occurrence of a text's last tokens."""
    ending = text[-_MATCH_TOKENS:]
    for end in range(len(text) - 1, _MATCH_TOKENS - 1, -1):
        if text[end - _MATCH_TOKENS : end] == ending:
            return list(text[end : end + _DRAFT_TOKENS])
    return []


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
