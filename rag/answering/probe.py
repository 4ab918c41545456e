"""Read what a language model knows off its hidden state.

A model that has read a prompt knows more than its next word tells, and a linear model on its hidden
state, a probe, can tell (Alain and Bengio, 2016, "Understanding intermediate layers using linear
classifier probes"). `eval.training` fits the probes, each for one language model and one prompt.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from rag.models.language_model import GenerationLimits, HiddenStateModel, LanguageModel, Message
from rag.models.log_odds import sigmoid
from rag.models.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Probe:
    """Logistic regression on the hidden states, (width,), of the model with a fingerprint.

    `prompt_digest` tells which prompt the states are of.
    """

    fingerprint: str
    prompt_digest: str
    intercept: float
    weights: Vectors

    def fits(self, model: LanguageModel) -> bool:
        """Return True if the probe was fitted for a model, and the model shows its state."""
        return isinstance(model, HiddenStateModel) and model.fingerprint == self.fingerprint

    def read(
        self,
        model: LanguageModel,
        prompt: Sequence[Message],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Return the probability, 0..1, that the answer to a prompt is yes.

        None when the model does not tell, and after a stop. Raises `ModelError` when it fails.
        """
        if not isinstance(model, HiddenStateModel) or not self.fits(model):
            return None
        state = model.hidden_state(prompt, limits, stop)
        return None if state is None else sigmoid(self.intercept + float(self.weights @ state))


def read_probe_file(path: Path) -> tuple[Probe, dict[str, Any]]:
    """Return the probe in a file, and what else the file says."""
    values = json.loads(path.read_text(encoding="utf-8"))
    weights = np.frombuffer(base64.b64decode(values.pop("weights")), "<f4")
    fingerprint, digest = values.pop("fingerprint"), values.pop("prompt_digest")
    return Probe(fingerprint, digest, values.pop("intercept"), weights), values


def write_probe_file(path: Path, probe: Probe, **more: Any) -> None:  # noqa: ANN401 - JSON
    """Write a probe, and what else belongs to it, to a file of JSON."""
    values = {
        "fingerprint": probe.fingerprint,
        "prompt_digest": probe.prompt_digest,
        "intercept": probe.intercept,
        **more,
        "weights": base64.b64encode(probe.weights.astype("<f4").tobytes()).decode(),
    }
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
