"""Cache of what language models reply, so that an evaluation that is repeated takes minutes less.

Models decode greedily, so a reply depends only on the model, the messages and the limits. Only
`footnote eval` uses the cache; a reply from it says nothing about speed.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np

from rag.config import cache_folder
from rag.models.language_model import (
    ChoiceModel,
    GenerationLimits,
    HiddenStateModel,
    LanguageModel,
    Message,
)
from rag.models.registry import load_language_model

# Increase it when the meaning of the entries changes.
_FORMAT_VERSION = 1


class GenerationCache:
    """Entries in a folder, one file each. `hits` counts how often one was used."""

    def __init__(self, folder: Path | None = None) -> None:
        """Use a folder; by default one in the user's cache, which may be deleted at any time."""
        self._folder = folder or cache_folder() / "generations"
        self.hits = 0

    def load(self, key: str) -> Mapping[str, Any] | None:
        """Return an entry, or None if there is none or it is damaged."""
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(entry, dict):
            return None
        self.hits += 1
        return entry

    def save(self, key: str, entry: Mapping[str, Any]) -> None:
        """Save an entry. A process that is killed meanwhile leaves the old entry or the new one."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False
        ) as file:
            json.dump(entry, file)
        Path(file.name).replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"


class CachedLanguageModel:
    """Language model whose replies are read from a cache if it has replied before."""

    def __init__(self, model: LanguageModel, cache: GenerationCache) -> None:
        """Take over the model's name and fingerprint. Use `cache_generations` to build one."""
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.context_tokens = model.context_tokens
        self._model = model
        self._cache = cache

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, its chat template included."""
        return self._model.count_tokens(messages)

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in the pieces in which it was generated.

        If the reader ended an earlier reply early, only that part is in the cache. When more of it
        is wanted, the model generates it again, and the rest is yielded.
        """
        key = self._key("stream", messages, limits)
        entry = self._cache.load(key) or {"pieces": [], "is_complete": False}
        for piece in entry["pieces"]:
            if stop.is_set():
                return
            yield piece
        if not entry["is_complete"]:
            pieces = self._model.stream(messages, limits, stop)
            yield from self._generate(key, "".join(entry["pieces"]), pieces, stop)

    def _generate(
        self, key: str, saved_text: str, pieces: Iterator[str], stop: Event
    ) -> Iterator[str]:
        """Yield the pieces after the saved text, and save all pieces, however the reply ends."""
        generated: list[str] = []
        length, is_complete = 0, False
        try:
            with contextlib.closing(cast("Generator[str]", pieces)):
                for piece in pieces:
                    generated.append(piece)
                    new_text = piece[max(0, len(saved_text) - length) :]
                    length += len(piece)
                    if new_text:
                        yield new_text
            is_complete = not stop.is_set()
        finally:
            if is_complete or length > len(saved_text):
                self._cache.save(key, {"pieces": generated, "is_complete": is_complete})

    def _key(
        self, kind: str, messages: Sequence[Message], limits: GenerationLimits, *details: str
    ) -> str:
        """Return the digest of all that the reply depends on."""
        prompt = list(map(asdict, messages))
        parts = [_FORMAT_VERSION, kind, self.fingerprint, prompt, asdict(limits), details]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class CachedChoiceModel(CachedLanguageModel):
    """Cached language model that also tells how probable a choice is."""

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Return the probability of the first choice, as the model does."""
        key = self._key("choice", messages, limits, *choices)
        if entry := self._cache.load(key):
            return cast("float | None", entry["probability"])
        model = cast("ChoiceModel", self._model)
        probability = model.choice_probability(messages, choices, limits, stop)
        if not stop.is_set():
            self._cache.save(key, {"probability": probability})
        return probability


class CachedHiddenStateModel(CachedChoiceModel):
    """Cached language model that also shows its state."""

    def hidden_state(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Any:  # noqa: ANN401 - an array
        """Return the state after a prompt, as the model does."""
        key = self._key("state", messages, limits)
        if entry := self._cache.load(key):
            values = entry["state"]
            return None if values is None else np.array(values, np.float32)
        model = cast("HiddenStateModel", self._model)
        state = model.hidden_state(messages, limits, stop)
        if not stop.is_set():
            self._cache.save(key, {"state": None if state is None else state.tolist()})
        return state


def cache_generations(model: LanguageModel, cache: GenerationCache) -> CachedLanguageModel:
    """Return a model that replies as the given one does, from the cache where it can."""
    if isinstance(model, HiddenStateModel):
        return CachedHiddenStateModel(model, cache)
    if isinstance(model, ChoiceModel):
        return CachedChoiceModel(model, cache)
    return CachedLanguageModel(model, cache)


def load_cached_model(name: str, cache: GenerationCache | None) -> LanguageModel | str:
    """Load a language model that replies from a cache, if one is given; return `none` for `none`.

    Names as in the setting `language_model`. Raises `ModelUnavailable`.
    """
    model = load_language_model(name)
    if model is None:
        return name
    return cache_generations(model, cache) if cache else model
