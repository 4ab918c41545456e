"""Natural language inference: a premise entails a sentence, contradicts it, or neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rag.errors import FootnoteError, ModelFailed, ModelUnavailable
from rag.models.files import (
    describe_load_failure,
    find_model_folder,
    fingerprint_folder,
    reject_pickled_weights,
)

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

# How models name their outputs, in the order of the fields of `NliProbabilities`.
_LABEL_PREFIXES = ("entail", "neutral", "contradict")


@dataclass(frozen=True, slots=True)
class NliProbabilities:
    """Probabilities of the three relations of a premise to a sentence; they sum to 1."""

    entailment: float
    neutral: float
    contradiction: float


class NliModel(Protocol):
    """Model for natural language inference. `fingerprint` identifies its weights."""

    name: str
    fingerprint: str

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[NliProbabilities]:
        """Return the probabilities for each (premise, sentence). Raises `ModelFailed`."""
        ...


def load_nli_model(name: str) -> NliModel:
    """Load a cross-encoder from a folder, or by a Hugging Face id that was downloaded.

    Weights are read from safetensors, and no code of the model runs. Raises `ModelUnavailable`,
    also when the labels do not name the three relations, whose order differs between models.
    """
    folder = find_model_folder(name, "NLI")
    reject_pickled_weights(name, folder, "NLI")
    try:
        model = _load_cross_encoder(str(folder))
        order = label_indices(name, _labels(model))
        return _CrossEncoderNli(name, fingerprint_folder(folder), model, order)
    except FootnoteError:
        raise
    except Exception as error:  # a library may raise anything over a broken file
        reason = describe_load_failure(error)
        raise ModelUnavailable(
            f"cannot load the NLI model '{name}' from {folder}: {reason}"
        ) from error


def label_indices(name: str, labels: Mapping[int, str]) -> tuple[int, int, int]:
    """Return the indices of the outputs for entailment, neutral and contradiction.

    Labels are compared without case. Raises `ModelUnavailable` when they are not these three.
    """
    indices: dict[str, int] = {}
    for output, label in labels.items():
        for prefix in _LABEL_PREFIXES:
            if str(label).lower().startswith(prefix):
                indices[prefix] = int(output)
    if len(labels) != len(_LABEL_PREFIXES) or len(indices) != len(_LABEL_PREFIXES):
        listed = ", ".join(map(str, labels.values())) or "none"
        raise ModelUnavailable(
            f"cannot use the NLI model '{name}': its labels are {listed}, "
            "not entailment, neutral and contradiction; choose another model"
        )
    return indices["entail"], indices["neutral"], indices["contradict"]


def _labels(model: "CrossEncoder") -> dict[int, str]:
    labels = getattr(model.config, "id2label", None) or {}
    return {int(output): str(label) for output, label in labels.items()}


def _load_cross_encoder(folder: str) -> "CrossEncoder":
    import torch
    from sentence_transformers import CrossEncoder

    from rag.models.runtimes.quiet import quiet_libraries

    with quiet_libraries():
        model: CrossEncoder = CrossEncoder(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            # Otherwise the model's files could name any PyTorch function to be called.
            activation_fn=torch.nn.Identity(),
        )
    return model


class _CrossEncoderNli:
    """`NliModel` with a cross-encoder; `order` is the result of `label_indices`."""

    def __init__(
        self, name: str, fingerprint: str, model: "CrossEncoder", order: tuple[int, int, int]
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._model = model
        self._order = order

    def predict(self, pairs: Sequence[tuple[str, str]]) -> list[NliProbabilities]:
        """Return the probabilities for each pair; text beyond the model's limit is cut off."""
        if not pairs:
            return []
        try:
            rows = self._model.predict(list(pairs), apply_softmax=True, show_progress_bar=False)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelFailed(self.name, str(error)) from error
        entailment, neutral, contradiction = self._order
        probabilities = []
        for row in rows:
            chosen = float(row[entailment]), float(row[neutral]), float(row[contradiction])
            probabilities.append(NliProbabilities(*chosen))
        return probabilities
