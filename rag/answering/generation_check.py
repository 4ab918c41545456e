"""Check whether a language model is good enough to write answers in the style `auto`.

Each model is measured once, whatever its name. It gets a few realistic tasks: made-up sentences,
and a question that they answer. A model passes a task when the first thing that it shows, written
and verified or quoted, contains the fact.
"""

import json
import logging
from dataclasses import dataclass
from threading import Event

from rag.answering.generation import AnswerGenerator, Footnotes
from rag.answering.prompts import load_prompt
from rag.config import cache_folder
from rag.models.language_model import GenerationLimits, LanguageModel
from rag.records import Evidence, Paper, Sentence
from rag.verification.verifier import Verifier

PASSING_SHARE = 0.5
_LIMITS = GenerationLimits(tokens=160, seconds=60.0)
# Fingerprint of the bundled model, which a test measures, so that nobody has to wait for it.
_KNOWN_TO_PASS = frozenset({"cc324af070c2"})
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class Task:
    """Question with (title, sentence) sources, and words that a right answer contains."""

    question: str
    sources: tuple[tuple[str, str], ...]
    fact: str


# The source with the fact never comes first, so repeating the first source does not pass.
TASKS = (
    Task(
        "How much memory does PondNet save?",
        (
            ("A survey of wetland birds", "Herons return to the same pond every spring."),
            (
                "PondNet: small networks for small machines",
                "PondNet needs 41% less memory than its predecessor.",
            ),
        ),
        "41%",
    ),
    Task(
        "Which optimizer do the authors recommend for short training runs?",
        (
            ("On the choice of optimizers", "Longer runs show no difference between optimizers."),
            (
                "On the choice of optimizers",
                "For runs under an hour the authors recommend the Brisk optimizer.",
            ),
        ),
        "Brisk",
    ),
    Task(
        "Does dropout help the lantern model?",
        (
            ("Kite graphs", "Kite graphs are built from pairs of distant nodes."),
            ("Lantern models revisited", "Dropout does not improve lantern models of any size."),
        ),
        "not",
    ),
    Task(
        "What is the error of Mossy on the Fern benchmark, and with how many labels?",
        (
            ("Fern: a benchmark", "The Fern benchmark holds 12,000 images of leaves."),
            (
                "Mossy: learning with few labels",
                "With 250 labels Mossy reaches an error of 6.3% on the Fern benchmark.",
            ),
        ),
        "6.3%",
    ),
    Task(
        "How do Tern and Plover differ in speed?",
        (
            (
                "Plover: an exact parser",
                "Plover parses 300 sentences per second and makes fewer mistakes.",
            ),
            ("Tern: a fast parser", "Tern parses 900 sentences per second."),
        ),
        "900",
    ),
    Task(
        "Why do the authors freeze the first layers?",
        (
            ("Salt marshes in winter", "The upper layers of the marsh freeze in January."),
            (
                "Freezing what is known",
                "The first layers are frozen because they change least during fine-tuning.",
            ),
        ),
        "change least",
    ),
)


def passes_generation_check(model: LanguageModel, verifier: Verifier) -> bool:
    """Return True when a model may write; the measured share is cached. Raises `ModelError`."""
    if model.fingerprint in _KNOWN_TO_PASS:
        return True
    return _load_or_measure(model, verifier) >= PASSING_SHARE


def measure_generation(model: LanguageModel, verifier: Verifier) -> float:
    """Return the share of the tasks that a model passes, between 0 and 1. Raises `ModelError`."""
    return sum(_passes(model, verifier, task) for task in TASKS) / len(TASKS)


def _passes(model: LanguageModel, verifier: Verifier, task: Task) -> bool:
    generator = AnswerGenerator(model, verifier, _LIMITS, task.question, _evidence(task))
    claims = generator.generate(Footnotes(), Event())
    first = next(claims, None)
    if first is None or generator.dropped:  # a source that replaces a draft is not its merit
        return False
    return task.fact.casefold() in first.text.casefold()


def _evidence(task: Task) -> list[Evidence]:
    evidence = []
    for title, text in task.sources:
        sentence = Sentence(title, 0, len(text), text)
        evidence.append(Evidence(sentence, Paper(title, text, id=title), 1.0, 1.0, 1.0, 1.0))
    return evidence


def _load_or_measure(model: LanguageModel, verifier: Verifier) -> float:
    checked_by = type(verifier).__name__
    name = f"{model.fingerprint}-{checked_by}-{load_prompt('write').digest}.json"
    file = cache_folder() / "generation-check" / name
    try:
        return float(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    _LOG.info("checking how well the language model %s writes (first use only)", model.name)
    share = measure_generation(model, verifier)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(share), encoding="utf-8")
    except OSError:
        _LOG.info("cannot save the result in %s", file.parent)
    return share
