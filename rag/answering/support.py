"""Verify a generated sentence with the language model that wrote it.

Whether excerpts support a statement can be read off the hidden state of a model that has read both.
`eval.training.support` fits a probe for the bundled language model and writes `support.json`.
Numbers and names are checked by rule before: they have to be in the excerpts.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from threading import Event

from rag.answering.probe import Probe, read_probe_file
from rag.answering.prompts import neutralize_markers, render_messages
from rag.errors import ModelFailed
from rag.models.language_model import GenerationLimits, LanguageModel, Message
from rag.verification.verifier import Source, Support, check_form

_LIMITS = GenerationLimits(tokens=1, seconds=60.0)


class ProbeVerifier:
    """Checks numbers and names by rule, and the meaning by what a language model knows.

    `threshold` is the least probability, between 0 and 1, of a supported sentence.
    """

    def __init__(self, model: LanguageModel, probe: Probe, threshold: float) -> None:
        """Use the language model that the probe was fitted for."""
        self._model = model
        self._probe = probe
        self._threshold = threshold

    def check(self, sentence: str, sources: Sequence[Source]) -> Support:
        """Return whether the sources support the sentence. Raises `ModelError`."""
        if verdict := check_form(sentence, sources):
            return verdict
        probability = self._probe.read(
            self._model, verifying_prompt(sentence, sources), _LIMITS, Event()
        )
        if probability is None:
            raise ModelFailed(self._model.name, "it does not show its state")
        if probability < self._threshold:
            return Support(False, probability, "the source does not say this")
        return Support(True, probability, "")


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
    return render_messages("verify", excerpts="\n".join(lines), statement=statement)


@cache
def load_support() -> tuple[Probe, float]:
    """Return the fitted probe that is shipped, and the threshold of its probability."""
    probe, more = read_probe_file(Path(__file__).with_suffix(".json"))
    return probe, more["threshold"]
