"""What a language model can be trusted with: measured once for each model, never guessed from its name.

The model is given a few tasks of the kind that it will have: made-up sentences and a question, which they answer or
do not. A task counts when what the model writes passes the check and holds the fact, or when it rightly declines.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Event

from rag.answering.generation import AnswerGenerator, Footnotes
from rag.answering.prompts import load_prompt
from rag.config import cache_folder
from rag.models.language_model import GenerationLimits, LanguageModel
from rag.records import Evidence, Paper, Sentence
from rag.verification.verifier import Verifier

# Share of the tasks that a model must master before it writes without being told to: who only repeats sources and
# never declines reaches three quarters.
TRUSTED = 0.8
_LIMITS = GenerationLimits(tokens=160, seconds=60.0)
# The model that comes along, as `measure` found it; so nobody waits for that.
_KNOWN = {"f0efc0be4f55": 0.375}
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class Task:
    """Sentences under their papers' titles, a question, and words that a right answer holds; none to decline."""

    question: str
    sources: tuple[tuple[str, str], ...]
    fact: str = ""


TASKS = (
    Task(
        "How much memory does PondNet save?",
        (
            (
                "PondNet: small networks for small machines",
                "PondNet needs 41% less memory than its predecessor.",
            ),
            ("A survey of wetland birds", "Herons return to the same pond every spring."),
        ),
        "41%",
    ),
    Task(
        "Which optimizer do the authors recommend for short training runs?",
        (
            (
                "On the choice of optimizers",
                "For runs under an hour the authors recommend the Brisk optimizer.",
            ),
            ("On the choice of optimizers", "Longer runs show no difference between optimizers."),
        ),
        "Brisk",
    ),
    Task(
        "Does dropout help the lantern model?",
        (
            ("Lantern models revisited", "Dropout does not improve lantern models of any size."),
            ("Kite graphs", "Kite graphs are built from pairs of distant nodes."),
        ),
        "not",
    ),
    Task(
        "What is the error of Mossy on the Fern benchmark, and with how many labels?",
        (
            (
                "Mossy: learning with few labels",
                "With 250 labels Mossy reaches an error of 6.3% on the Fern benchmark.",
            ),
            ("Fern: a benchmark", "The Fern benchmark holds 12,000 images of leaves."),
        ),
        "6.3%",
    ),
    Task(
        "How do Tern and Plover differ in speed?",
        (
            ("Tern: a fast parser", "Tern parses 900 sentences per second."),
            (
                "Plover: an exact parser",
                "Plover parses 300 sentences per second and makes fewer mistakes.",
            ),
        ),
        "900",
    ),
    Task(
        "Why do the authors freeze the first layers?",
        (
            (
                "Freezing what is known",
                "The first layers are frozen because they change least during fine-tuning.",
            ),
            ("Salt marshes in winter", "The upper layers of the marsh freeze in January."),
        ),
        "change least",
    ),
    Task(
        "On which GPU was PondNet trained?",
        (
            (
                "PondNet: small networks for small machines",
                "PondNet needs 41% less memory than its predecessor.",
            ),
            ("Kite graphs", "Kite graphs are built from pairs of distant nodes."),
        ),
    ),
    Task(
        "What does the library hold about protein folding?",
        (
            ("Origami robots", "The robots fold themselves from flat sheets in four minutes."),
            ("Tern: a fast parser", "Tern parses 900 sentences per second."),
        ),
    ),
)


def passes_generation_check(model: LanguageModel, verifier: Verifier) -> bool:
    """Whether the model may write; measured the first time and kept in the cache. Raises `ModelError`."""
    known = _KNOWN.get(model.fingerprint)
    return (_kept(model, verifier) if known is None else known) >= TRUSTED


def measure(model: LanguageModel, verifier: Verifier, tasks: Iterable[Task] = TASKS) -> float:
    """Share of the tasks that the model masters, in 0..1. Raises `ModelError`."""
    outcomes = [_masters(model, verifier, task) for task in tasks]
    return sum(outcomes) / len(outcomes)


def _masters(model: LanguageModel, verifier: Verifier, task: Task) -> bool:
    generator = AnswerGenerator(model, verifier, _LIMITS)
    claims = list(generator.write(task.question, _evidence(task), Footnotes(), Event()))
    if not task.fact:
        return generator.declined and not claims
    own = " ".join(claim.text for claim in claims if not claim.note)
    return generator.dropped == 0 and task.fact.casefold() in own.casefold()


def _evidence(task: Task) -> list[Evidence]:
    return [
        Evidence(
            Sentence(title, 0, len(text), text), Paper(title, text, id=title), 1.0, 1.0, 1.0, 1.0
        )
        for title, text in task.sources
    ]


def _kept(model: LanguageModel, verifier: Verifier) -> float:
    file = cache_folder() / "trust" / f"{model.fingerprint}-{load_prompt('generate').digest}.json"
    try:
        return float(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    _LOG.info(
        "trying what the language model %s can be trusted with; this is done once", model.name
    )
    share = measure(model, verifier)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(share), encoding="utf-8")
    except OSError:
        _LOG.info("what was found cannot be kept in %s", file.parent)
    return share
