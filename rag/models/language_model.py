"""What a language model takes and gives.

Every backend runs greedily, so that the same question gets the same answer, and works in a thread of its own
(`rag.models.runtimes.streaming`), so that whoever asked can stop it within a token, at a deadline or at any time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Literal, Protocol, runtime_checkable

from rag.errors import ModelFailed

# What `question_likelihood` reads: the end of the context and the beginning of the question, in tokens.
CONTEXT_TOKENS = 256
QUESTION_TOKENS = 64
# Invisible, and enough for a tokeniser not to see a special token.
_NON_JOINER = "\u200c"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that a model is given."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class GenerationLimits:
    """How much a model may write, in tokens, and how long it may take, in seconds."""

    tokens: int = 256
    seconds: float = 120.0


class LanguageModel(Protocol):
    """What Footnote needs of a language model. `fingerprint` tells one model's weights or server from another's."""

    name: str
    fingerprint: str
    context_tokens: int

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the messages as the model will see them, its chat template included."""
        ...

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Pieces of the reply as they come; it ends early, without an error, when `stop` is set or it is closed.

        Raises `ModelFailed` when the model breaks off, and `ModelTooSlow` at the deadline.
        """
        ...


@runtime_checkable
class QueryLikelihoodModel(Protocol):
    """A language model that also tells how likely it finds a question after a text."""

    name: str

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """For each context the log-probabilities (nats) of the question's tokens after it; token counts are equal."""
        ...


def as_text(text: str, special_tokens: Iterable[str]) -> str:
    """The text with nothing in it that the tokeniser would take for one of its special tokens."""
    for token in special_tokens:
        text = text.replace(token, token[0] + _NON_JOINER + token[1:])
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text


def as_turns(messages: Sequence[Message], special_tokens: Iterable[str]) -> list[dict[str, str]]:
    """The messages as chat templates take them; only the template itself puts special tokens in."""
    special_tokens = tuple(special_tokens)
    return [
        {"role": message.role, "content": as_text(message.content, special_tokens)}
        for message in messages
    ]


def as_script(turns: Sequence[dict[str, str]]) -> str:
    """The conversation for a model without a chat template: `role: content`, and the word is the assistant's."""
    return "\n\n".join([*(f"{turn['role']}: {turn['content']}" for turn in turns), "assistant:"])


def check_fits(name: str, tokens: int, limits: GenerationLimits, context_tokens: int) -> None:
    """Raise `ModelFailed` when the messages and the reply together are longer than the model can look at."""
    if tokens > context_tokens - limits.tokens:
        why = f"{tokens} tokens to read and {limits.tokens} to write are more than its context of {context_tokens}"
        raise ModelFailed(name, why)
