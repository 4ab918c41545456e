"""Verify a generated sentence against the excerpts that it rests on.

Numbers and names are checked exactly: they have to be in the excerpts. Whether these support what
the sentence says can be read off the hidden state of a language model that has read both, where a
probe was fitted for the model; otherwise the entailment model tells. A sentence that is put
together from few pieces of its sources is more credible than a free one
(`rag.verification.fragments`), and one whose source answers the question more than others.
`eval.training.support` fits how these make a probability, and writes `support.json`.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal, get_args

from rag.answering.probe import Probe, read_probe_file
from rag.answering.prompts import load_prompt, neutralize_markers
from rag.answering.sources import new_terms_share
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.models.log_odds import logit, sigmoid
from rag.models.registry import load_entailment_model
from rag.verification.details import check_details
from rag.verification.entailment import entailment_log_odds
from rag.verification.fragments import count_fragments
from rag.verification.verifier import Source, Support

_LIMITS = GenerationLimits(tokens=1, seconds=60.0)


# What tells the meaning: the language model's hidden state, or the entailment model.
Method = Literal["state", "entailment"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class FittedSupport:
    """Probe of the state after the prompt `verify`, and what else decides.

    By method, `combination` holds the intercept and the weights of `support_features`, and
    `threshold` the least probability, between 0 and 1, of a supported sentence.
    """

    probe: Probe
    combination: Mapping[Method, Sequence[float]]
    threshold: Mapping[Method, float]

    def combine(self, method: Method, features: Sequence[float]) -> float:
        """Return the probability that a sentence is supported, 0..1."""
        intercept, *weights = self.combination[method]
        return sigmoid(intercept + sum(map(operator.mul, weights, features)))


def support_features(by_model: float, sentence: str, sources: Sequence[Source]) -> list[float]:
    """Return what tells whether sources support a sentence.

    They are the log-odds `by_model`; the logarithm of one more than the number of fragments; the
    share of the sentence's new terms that the sources have; and the log-odds that the first source
    answers the question.
    """
    texts = [source.text for source in sources]
    first = sources[0]
    return [
        by_model,
        math.log1p(count_fragments(sentence, texts, first.question)),
        new_terms_share(sentence, first.question, " ".join(texts)),
        first.log_odds,
    ]


class SupportVerifier:
    """Checks numbers and names exactly, and the meaning by what models make of it."""

    def __init__(self, model: LanguageModel, fitted: FittedSupport) -> None:
        """Verify what a language model wrote."""
        self._model = model
        self._fitted = fitted

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources support the sentence. Raises `ModelError`."""
        if verdict := check_details(sentence, sources):
            return verdict
        method, log_odds = self._read(sentence, sources)
        features = support_features(log_odds, sentence, sources)
        probability = self._fitted.combine(method, features)
        is_supported = probability >= self._fitted.threshold[method]
        reason = "" if is_supported else "the source does not say this"
        return Support(is_supported, probability, reason)

    def _read(self, sentence: str, sources: Sequence[Source]) -> tuple[Method, float]:
        """Return what tells the meaning, and the log-odds of support."""
        prompt = verifying_prompt(sentence, sources)
        by_state = self._fitted.probe.read(self._model, prompt, _LIMITS, Event())
        if by_state is not None:
            return "state", logit(by_state)
        return "entailment", entailment_log_odds(load_entailment_model(), sentence, sources)


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
