"""Ask the assistant with language models that record what the assistant asks of them."""

from collections.abc import Iterator, Sequence
from threading import Event

import numpy as np

from eval.harness.generation_cache import CachedHiddenStateModel
from rag import Assistant
from rag.answering.judgement import CHOICES, load_judgement
from rag.answering.pipeline import GENERATION_LIMITS
from rag.answering.support import load_support
from rag.models.language_model import GenerationLimits, Message
from rag.models.vectors import Vectors
from rag.records import Answer

# Log-odds with which the agreeing model says yes.
_CERTAIN = 12.0


class RecordingModel:
    """Language model that reads prompts and writes nothing. `prompt` is the last one."""

    def __init__(self, model: CachedHiddenStateModel) -> None:
        """Read with another model."""
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.context_tokens = model.context_tokens
        self.count_tokens = model.count_tokens
        self._model = model
        self.prompt: Sequence[Message] | None = None

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield nothing."""
        yield from ()

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Remember the prompt, and answer as if the model could not tell."""
        self.prompt = messages
        return None

    def ask(self, assistant: Assistant, question: str) -> tuple[Answer, Sequence[Message] | None]:
        """Return an answer of quotations, and the prompt of the judgement.

        There is none when the records answer the question, and when nothing was found.
        """
        self.prompt = None
        answer = assistant.ask(question)
        return answer, self.prompt

    def state(self, messages: Sequence[Message]) -> Vectors:
        """Return the model's state after a prompt, (width,)."""
        return read_state(self._model, messages)

    def reply(self, messages: Sequence[Message]) -> float:
        """Return how probable Yes is as a reply, 0..1."""
        return self._model.choice_probability(messages, CHOICES, GENERATION_LIMITS, Event()) or 0.0


class AgreeingModel:
    """Language model that writes as another one, and always says that excerpts support a text.

    `reply` is what it wrote last.
    """

    def __init__(self, model: CachedHiddenStateModel) -> None:
        """Write with another model."""
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.context_tokens = model.context_tokens
        self.count_tokens = model.count_tokens
        self.reply = ""
        self._model = model
        probes = [load_judgement().probe, load_support().probe]
        weights = np.stack([probe.weights for probe in probes])
        missing = [_CERTAIN - probe.intercept for probe in probes]
        # The shortest state to which both probes say yes.
        self._state: Vectors = (np.linalg.pinv(weights) @ missing).astype(np.float32)

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the pieces of what the other model writes."""
        self.reply = ""
        for piece in self._model.stream(messages, limits, stop):
            self.reply += piece
            yield piece

    def hidden_state(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Vectors | None:
        """Return a state that says yes."""
        return self._state


def read_state(model: CachedHiddenStateModel, messages: Sequence[Message]) -> Vectors:
    """Return a model's state after a prompt, (width,). Exits if the model does not show it."""
    state: Vectors | None = model.hidden_state(messages, GENERATION_LIMITS, Event())
    if state is None:
        raise SystemExit(f"{model.name} does not show its state")
    return state
