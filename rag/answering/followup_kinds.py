"""Tell what kind of question comes next in a conversation, by a language model's hidden state.

The bundled model reads the earlier question, the titles of the papers that answered it, and the
next question. A multinomial logistic regression on its state tells the kind, as a probe does for
two classes (`rag.answering.probe`). `python -m eval.training.followups` fits and measures it. For
other models, `rag.answering.followup_words` decides by words.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Event
from typing import Literal

import numpy as np

from rag.answering.prompts import load_prompt, neutralize_markers
from rag.models.language_model import (
    GenerationLimits,
    HiddenStateModel,
    LanguageModel,
    Message,
)
from rag.models.vectors import Vectors
from rag.records import Paper
from rag.text.prompt_injection import title_is_injection

FollowUpKind = Literal[
    "one", "several", "position", "again", "others", "vary", "standalone", "courtesy"
]
# - `one`, `several`: about the main cited paper, or about several of them
# - `position`: about the cited paper that it gives the number or a short name of
# - `again`: the last answer in another form, or more of it: "shorter please", "why?"
# - `others`: about other papers
# - `vary`: the last question about something else: "what about X?"
# - `standalone`, `courtesy`: not a follow-up; the latter asks nothing
FOLLOWUP_KINDS: tuple[FollowUpKind, ...] = (
    "one", "several", "position", "again", "others", "vary", "standalone", "courtesy"
)  # fmt: skip
_FILE = Path(__file__).with_suffix(".json")
_LIMITS = GenerationLimits(tokens=1, seconds=60.0)
_MAX_TITLES = 3


@dataclass(frozen=True, slots=True)
class FollowUpClassifier:
    """Logistic regression on the hidden states, (width,), of the model with a fingerprint.

    `intercepts` are (kinds,) and `weights` (kinds, width), in the order of `FOLLOWUP_KINDS`.
    """

    fingerprint: str
    prompt_digest: str
    intercepts: Vectors
    weights: Vectors

    def classify(self, state: Vectors) -> FollowUpKind:
        """Return the most probable kind, given the state after the prompt."""
        return FOLLOWUP_KINDS[int(np.argmax(self.intercepts + self.weights @ state))]


def find_kind(
    model: LanguageModel, earlier: str, papers: Sequence[Paper], question: str
) -> FollowUpKind | None:
    """Return the kind of a question after an `earlier` one that `papers` answered.

    None when the classifier was not fitted for the language model. Raises `ModelError`.
    """
    classifier = load_classifier()
    if not isinstance(model, HiddenStateModel) or model.fingerprint != classifier.fingerprint:
        return None
    prompt = followup_prompt(earlier, papers, question)
    state = model.hidden_state(prompt, _LIMITS, Event())
    return None if state is None else classifier.classify(state)


def followup_prompt(earlier: str, papers: Sequence[Paper], question: str) -> list[Message]:
    """Return the messages that ask whether a question needs the earlier one, to reply Yes or No."""
    titles = []
    for paper in papers[:_MAX_TITLES]:
        title = "a paper" if title_is_injection(paper.title) else neutralize_markers(paper.title)
        titles.append(f"- {title}")
    return load_prompt("followup").render(
        earlier=neutralize_markers(earlier),
        titles="\n".join(titles),
        question=neutralize_markers(question),
    )


def write_classifier(fingerprint: str, intercepts: Vectors, weights: Vectors) -> None:
    """Write the classifier that is shipped, for a model and the present prompt."""
    values = {
        "fingerprint": fingerprint,
        "prompt_digest": load_prompt("followup").digest,
        "intercepts": intercepts.tolist(),
        "weights": base64.b64encode(weights.astype("<f4").tobytes()).decode(),
    }
    _FILE.write_text(json.dumps(values) + "\n", encoding="utf-8")


@cache
def load_classifier() -> FollowUpClassifier:
    """Return the classifier that is shipped."""
    values = json.loads(_FILE.read_text(encoding="utf-8"))
    weights = np.frombuffer(base64.b64decode(values["weights"]), "<f4")
    intercepts = np.array(values["intercepts"], np.float32)
    return FollowUpClassifier(
        values["fingerprint"],
        values["prompt_digest"],
        intercepts,
        weights.reshape(len(intercepts), -1),
    )
