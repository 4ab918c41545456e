"""Verify a generated sentence with the language model that wrote it.

Whether excerpts support a statement can be read off the hidden state of a model that has read both.
A sentence that is put together from few pieces of its sources is more credible than a free one
(`rag.verification.fragments`), and one whose source answers the question more than others.
`eval.training.support` fits how these make a probability for the bundled language model, and writes
`support.json`. Numbers and names are checked by rule before: they have to be in the excerpts.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event

from rag.answering.log_odds import logit, sigmoid
from rag.answering.probe import Probe, read_probe_file
from rag.answering.prompts import load_prompt, neutralize_markers
from rag.answering.sources import new_terms_share
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.verification.fragments import count_fragments
from rag.verification.verifier import Source, Support, check_form

_LIMITS = GenerationLimits(tokens=1, seconds=60.0)


@dataclass(frozen=True, slots=True)
class FittedSupport:
    """Probe of the state after the prompt `verify`, and what else decides.

    `combination` holds the intercept and the weights of `support_features`. `threshold` is the
    least probability, between 0 and 1, of a supported sentence.
    """

    probe: Probe
    combination: tuple[float, ...]
    threshold: float

    def combine(self, features: Sequence[float]) -> float:
        """Return the probability that a sentence is supported, 0..1."""
        intercept, *weights = self.combination
        return sigmoid(intercept + sum(map(operator.mul, weights, features)))


def support_features(by_state: float, sentence: str, sources: Sequence[Source]) -> list[float]:
    """Return what tells whether sources support a sentence.

    They are the log-odds of the probe, whose probability is `by_state`; the logarithm of one more
    than the number of fragments; the share of the sentence's new terms that the sources have; and
    the log-odds that the first source answers the question.
    """
    texts = [source.text for source in sources]
    first = sources[0]
    return [
        logit(by_state),
        math.log1p(count_fragments(sentence, texts, first.question)),
        new_terms_share(sentence, first.question, " ".join(texts)),
        first.log_odds,
    ]


class ProbeVerifier:
    """Checks numbers and names by rule, and the meaning by what a language model knows."""

    def __init__(self, model: LanguageModel, fitted: FittedSupport) -> None:
        """Use the language model that the probe was fitted for."""
        self._model = model
        self._fitted = fitted

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources support the sentence. Raises `ModelError`."""
        if verdict := check_form(sentence, sources):
            return verdict
        by_state = self._fitted.probe.read(
            self._model, verifying_prompt(sentence, sources), _LIMITS, Event()
        )
        if by_state is None:
            raise ModelFailed(self._model.name, "it does not show its state")
        probability = self._fitted.combine(support_features(by_state, sentence, sources))
        is_supported = probability >= self._fitted.threshold
        return Support(
            is_supported, probability, "" if is_supported else "the source does not say this"
        )


def verifying_prompt(sentence: str, sources: Sequence[Source]) -> list[Message]:
    """Return the messages that ask whether sources support a sentence, to reply Yes or No.

    Sources of one title follow it, as they do in the excerpts that the sentence was written from.
    """
    lines: list[str] = []
    title = ""
    for number, source in enumerate(sources, 1):
        if source.context != title:
            title = source.context
            lines.append(neutralize_markers(title))
        lines.append(f"[{number}] {neutralize_markers(source.text)}")
    statement = neutralize_markers(sentence)
    return load_prompt("verify").render(excerpts="\n".join(lines), statement=statement)


@cache
def load_support() -> FittedSupport:
    """Return the fitted support that is shipped."""
    probe, more = read_probe_file(Path(__file__).with_suffix(".json"))
    return FittedSupport(probe, more["combination"], more["threshold"])
