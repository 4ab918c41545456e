"""What a language model takes and gives.

Every backend runs greedily, so that the same question gets the same answer, and works in a thread of its own
(`rag.models.streaming`), so that whoever asked can stop it within a token, at a deadline or at any time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that a model is given."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Limits:
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

    def stream(self, messages: Sequence[Message], limits: Limits, stop: Event) -> Iterator[str]:
        """Pieces of the reply as they come; it ends early, without an error, when `stop` is set or it is closed.

        Raises `ModelFailed` when the model breaks off, and `ModelTooSlow` at the deadline.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """A language model that also tells how likely it finds a question after a text."""

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """For each context the log-probabilities (nats) of the question's tokens after it; token counts are equal."""
        ...
