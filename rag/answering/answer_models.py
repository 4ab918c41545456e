"""Models of one assistant: the chosen language model, and the verifier of what it writes."""

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from rag.answering.followup_kinds import FollowUpKind, find_kind
from rag.answering.generation_check import passes_generation_check
from rag.answering.support import SupportVerifier, load_support
from rag.errors import ModelError, ModelUnavailable
from rag.models.language_model import LanguageModel
from rag.models.registry import BUNDLED_LANGUAGE_MODEL, NO_LANGUAGE_MODEL, load_language_model
from rag.records import Paper
from rag.verification.verifier import Verifier

if TYPE_CHECKING:
    from rag.integrations.llama_index import AnyLLM


class AnswerModels:
    """Models of one assistant, loaded on first use. Thread-safe."""

    def __init__(self, language_model: "str | LanguageModel | AnyLLM") -> None:
        """Take a language model, by name or loaded."""
        self._language_model = (
            language_model if isinstance(language_model, str) else _adapt(language_model)
        )
        self._lock = threading.Lock()
        self._loaded: dict[str, LanguageModel | None] = {}
        self._errors: dict[str, ModelError] = {}

    @property
    def language_model_name(self) -> str:
        """Name of the chosen language model."""
        model = self._language_model
        return model if isinstance(model, str) else model.name

    def may_generate(self, style: str) -> bool:
        """Return False if answers in a style are quoted without any language model."""
        return style != "quote" and self._language_model != NO_LANGUAGE_MODEL

    def preload_language_model(self, style: str) -> None:
        """Start loading the language model in another thread, if the style may need it."""
        name = self._language_model
        if self.may_generate(style) and isinstance(name, str) and name not in self._loaded:
            threading.Thread(target=self._try_load, args=(name,), daemon=True).start()

    def _try_load(self, name: str) -> None:
        with contextlib.suppress(ModelError):  # raised again when the model is needed
            self._load(name)

    def load_generator(self, style: str) -> LanguageModel | None:
        """Return the model that generates answers in a style, or None for quotations only.

        Raises `ModelError`.
        """
        if style == "quote" or (style == "auto" and self._language_model == NO_LANGUAGE_MODEL):
            return None
        model = self.load_language_model()
        if style == "write" or passes_generation_check(model, self.load_verifier(model)):
            return model
        return None

    def load_language_model(self) -> LanguageModel:
        """Return the chosen language model. Raises `ModelUnavailable`, also when none is chosen."""
        model = self._language_model
        loaded = self._load(model) if isinstance(model, str) else model
        if loaded is None:
            raise ModelUnavailable(
                "no language model is selected; run: "
                f"footnote config language_model {BUNDLED_LANGUAGE_MODEL}"
            )
        return loaded

    def find_followup_kind(
        self, style: str, earlier: str, papers: Sequence[Paper], question: str
    ) -> FollowUpKind | None:
        """Return the kind of a question in a conversation, if answers in a style use a model.

        None if the model cannot tell; what is wrong with it is said when it has to answer.
        """
        try:
            model = self.load_generator(style)
            return find_kind(model, earlier, papers, question) if model else None
        except ModelError:
            return None

    def load_verifier(self, model: LanguageModel) -> Verifier:
        """Return the verifier of the sentences that a model generates."""
        return SupportVerifier(model, load_support())

    def _load(self, name: str) -> LanguageModel | None:
        """Load a model once; after a failure, raise the same error each time."""
        with self._lock:
            if name in self._errors:
                raise self._errors[name]
            if name not in self._loaded:
                try:
                    self._loaded[name] = load_language_model(name)
                except ModelError as error:
                    self._errors[name] = error
                    raise
            return self._loaded[name]


def _adapt(model: "LanguageModel | AnyLLM") -> LanguageModel:
    """Adapt a model of llama-index, recognized by a method that only those have."""
    if hasattr(model, "stream_chat"):
        from rag.integrations.llama_index import LlamaIndexModel

        return LlamaIndexModel(cast("AnyLLM", model))
    return model
