"""Which model plays which part: the embedded one reads, the chosen one writes, and what is written gets verified.

Reading is always the embedded model's part, for the confidence of an answer was fitted with it, and it is quick; a
larger model would read no better for the time it takes. Models are loaded when they are first needed.
"""

import threading
from typing import TYPE_CHECKING, cast

from rag.answering.generation_check import passes_generation_check
from rag.errors import ModelError, ModelUnavailable
from rag.models import load_language_model
from rag.models.language_model import LanguageModel, QueryLikelihoodModel
from rag.models.nli import load_nli_model
from rag.models.registry import BUNDLED_LANGUAGE_MODEL, NO_LANGUAGE_MODEL
from rag.verification.verifier import LexicalVerifier, NliVerifier, Verifier

if TYPE_CHECKING:
    from rag.integrations.llama_index import AnyLLM


def _own(model: "LanguageModel | AnyLLM") -> LanguageModel:
    """The model as Footnote knows them; one of llama-index is told by a method that only those have."""
    if hasattr(model, "stream_chat"):
        from rag.integrations.llama_index import LlamaIndexModel

        return LlamaIndexModel(cast("AnyLLM", model))
    return model


class AnswerModels:
    """The models of one assistant. Safe to use from several threads."""

    def __init__(self, language_model: "str | LanguageModel | AnyLLM", nli_model: str = "") -> None:
        """Take a language model by name or loaded, and the name of an inference model, if one is to help verifying."""
        self._given = language_model if isinstance(language_model, str) else _own(language_model)
        self._nli_model = nli_model
        self._loading = threading.Lock()
        self._loaded: dict[str, LanguageModel | None] = {}
        self._failed: dict[str, ModelError] = {}
        self._verifier: Verifier | None = None

    @property
    def chosen(self) -> str:
        """The name of the language model that was chosen."""
        return self._given if isinstance(self._given, str) else self._given.name

    def load_reranker_early(self) -> None:
        """Begin to load the reader while something else is done."""
        if BUNDLED_LANGUAGE_MODEL not in self._loaded and self._given != NO_LANGUAGE_MODEL:
            threading.Thread(target=self.reranker, daemon=True).start()

    def reranker(self) -> tuple[QueryLikelihoodModel | None, str]:
        """The model that ranks sentences, and what is wrong when there should be one and there is none."""
        if self._given == NO_LANGUAGE_MODEL:
            return None, ""
        try:
            model = self._load(BUNDLED_LANGUAGE_MODEL)
        except ModelError as error:
            return None, f"sentences were ranked without a language model: {error}"
        return (model, "") if isinstance(model, QueryLikelihoodModel) else (None, "")

    def generator(self, style: str) -> LanguageModel | None:
        """The model that writes an answer of that style; None when sentences are to be quoted. Raises `ModelError`."""
        if style == "quote" or (style == "auto" and self._given == NO_LANGUAGE_MODEL):
            return None
        model = self.language_model()
        return (
            model if style == "write" or passes_generation_check(model, self.verifier()) else None
        )

    def language_model(self) -> LanguageModel:
        """The language model that was chosen. Raises `ModelUnavailable`, also when none was."""
        model = self._load(self._given) if isinstance(self._given, str) else self._given
        if model is None:
            raise ModelUnavailable(
                "no language model was chosen; to choose: footnote config language_model embedded"
            )
        return model

    def verifier(self) -> Verifier:
        """What checks the sentences of a writer."""
        with self._loading:
            if self._verifier is None:
                self._verifier = (
                    NliVerifier(load_nli_model(self._nli_model))
                    if self._nli_model
                    else LexicalVerifier()
                )
            return self._verifier

    def _load(self, name: str) -> LanguageModel | None:
        with self._loading:
            if name in self._failed:
                raise self._failed[name]
            if name not in self._loaded:
                try:
                    self._loaded[name] = load_language_model(name)
                except ModelError as error:
                    self._failed[name] = error
                    raise
            return self._loaded[name]
