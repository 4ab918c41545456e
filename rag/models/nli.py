"""Natural-language inference: whether a premise entails a sentence, contradicts it, or neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rag.errors import FootnoteError, ModelFailed, ModelUnavailable
from rag.models.files import check_weights, fingerprint, local_folder, why_not_loaded

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


@dataclass(frozen=True, slots=True)
class Relation:
    """Probabilities of the three relations of a premise to a sentence; they sum to 1."""

    entailment: float
    neutral: float
    contradiction: float


class NliModel(Protocol):
    """Whatever tells how premises bear on sentences. `fingerprint` tells one model's weights from another's."""

    name: str
    fingerprint: str

    def relations(self, pairs: Sequence[tuple[str, str]]) -> list[Relation]:
        """One relation for each (premise, sentence). Raises `ModelFailed`."""
        ...


def load_nli_model(name: str) -> NliModel:
    """The cross-encoder of that name: a folder, or a Hugging Face id that is on this machine.

    Weights are read from safetensors and no code of the model runs. Raises `ModelUnavailable`, also when the model's
    labels do not tell which of them is entailment, neutral and contradiction: models order them differently.
    """
    folder = local_folder(name, "inference")
    check_weights(name, folder, "inference")
    try:
        model = _load(str(folder))
        return _CrossEncoder(name, fingerprint(folder), model, label_order(name, _labels(model)))
    except FootnoteError:
        raise
    except Exception as error:  # whatever a library raises over a file that is broken
        why = why_not_loaded(error)
        raise ModelUnavailable(
            f"the inference model '{name}' in {folder} does not load: {why}"
        ) from error


def label_order(name: str, labels: Mapping[int, str]) -> tuple[int, int, int]:
    """Which outputs are entailment, neutral and contradiction, by their names in any case; else `ModelUnavailable`."""
    wanted = ("entail", "neutral", "contradict")
    found = [
        [int(i) for i, label in labels.items() if str(label).lower().startswith(start)]
        for start in wanted
    ]
    if len(labels) != len(wanted) or any(len(places) != 1 for places in found):
        listed = ", ".join(str(label) for label in labels.values()) or "none"
        raise ModelUnavailable(
            f"the model '{name}' has the labels {listed}; needed are entailment, neutral and contradiction"
        )
    return found[0][0], found[1][0], found[2][0]


def _labels(model: "CrossEncoder") -> dict[int, str]:
    labels = getattr(model.config, "id2label", None) or {}
    return {int(output): str(label) for output, label in labels.items()}


def _load(folder: str) -> "CrossEncoder":
    import torch
    from sentence_transformers import CrossEncoder

    from rag.models.runtimes.quiet import quiet_conversion

    with quiet_conversion():
        model: CrossEncoder = CrossEncoder(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
            # Else it is what the model names, which is called, whatever of PyTorch that may be.
            activation_fn=torch.nn.Identity(),
        )
    return model


class _CrossEncoder:
    """See `EntailmentModel`; `order` gives the outputs of entailment, neutral and contradiction."""

    def __init__(
        self, name: str, fingerprint: str, model: "CrossEncoder", order: tuple[int, int, int]
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._model = model
        self._order = order

    def relations(self, pairs: Sequence[tuple[str, str]]) -> list[Relation]:
        """One relation for each (premise, sentence); what is beyond the model's longest input is cut off."""
        if not pairs:
            return []
        try:
            rows = self._model.predict(list(pairs), apply_softmax=True, show_progress_bar=False)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ModelFailed(self.name, str(error)) from error
        return [Relation(*(float(row[i]) for i in self._order)) for row in rows]
