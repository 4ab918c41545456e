"""Fit what tells from the language model's state whether excerpts support a generated sentence.

`python -m eval.training.support --sheet FILE` writes the sentences that the bundled language model
writes for the prompts of `eval.training.judgement_prompts`, each with its sources, to be labelled.
`python -m eval.training.support [--public DIR]` fits the probe of `rag.answering.support` on the
labels in `eval/data/training/support_labels.jsonl`, and on claims of public collections in `DIR`,
all with open licences. It writes `rag/answering/support.json`.

The threshold is the lowest at which nineteen of twenty sentences that pass are true, each judged by
a probe that was fitted without its abstract. The verifier by rules is printed beside it.
"""

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from threading import Event

import numpy as np
from tqdm import tqdm

import eval.data
from eval.harness.generation_cache import CachedHiddenStateModel
from eval.harness.labels import SUPPORTED, digest_statement, load_labels
from eval.harness.question_sets import find_data_folder, read_rows
from eval.harness.statistics import Values
from eval.training.judgement_prompts import TrainingPrompt, build_training_prompts
from eval.training.probes import FOLDS, fit_probe, load_bundled, print_quality
from rag.answering import support
from rag.answering.generation import (
    Excerpts,
    choose_sources,
    only_repeats,
    split_drafts,
    writing_prompt,
)
from rag.answering.pipeline import GENERATION_LIMITS
from rag.answering.probe import Probe, write_probe_file
from rag.answering.prompts import load_prompt
from rag.answering.support import verifying_prompt
from rag.models.vectors import Vectors
from rag.records import Evidence, Paper, Sentence
from rag.text.sentences import split_sentences
from rag.verification.verifier import LexicalVerifier, Source, check_form

_LABELS = Path(eval.data.__file__).parent / "training" / "support_labels.jsonl"
# Prompts whose sentences are labelled, and public claims of each collection, half of them true.
_LABELLED_PROMPTS = 260
_PUBLIC = {
    "support_scifact_train": 60,
    "support_checkcovid": 60,
    "support_attributionbench": 60,
    "support_evidence_inference": 40,
    "support_vitaminc": 40,
}
_MAX_SOURCE_CHARS, _MAX_CLAIM_CHARS = 1_000, 350
_SEED = 5
_PRECISION = 0.95


@dataclass(frozen=True, slots=True)
class Statement:
    """Sentence with its sources; `group` is the abstract or text that it is about."""

    text: str
    sources: tuple[Source, ...]
    group: str

    @property
    def digest(self) -> str:
        """Key of its label."""
        return digest_statement(self.text, [source.text for source in self.sources])


@dataclass(frozen=True, slots=True)
class Example:
    """Statement with its label, and the model's state after both."""

    statement: Statement
    is_supported: bool
    state: Vectors


_STATEMENT, _STATE, _LABEL = map(attrgetter, ("statement", "state", "is_supported"))


# --- statements ----------------------------------------------------------------------------------


def generate_statements(model: CachedHiddenStateModel) -> Iterator[tuple[str, Statement]]:
    """Yield the sentences that the model writes, each with the question; no copies of a source."""
    for prompt in tqdm(build_training_prompts()[:_LABELLED_PROMPTS], desc="writing"):
        messages = writing_prompt(prompt.question, Excerpts((), prompt.excerpts))
        reply = "".join(model.stream(messages, GENERATION_LIMITS, Event()))
        excerpts = _read_excerpts(prompt)
        for draft in split_drafts([reply]):
            sources = choose_sources(draft, prompt.question, excerpts)
            is_copy = any(only_repeats(draft.text, item.sentence.text) for item in excerpts)
            if sources and not is_copy and not draft.text.endswith("?"):
                statement = Statement(draft.text, tuple(map(_source, sources)), prompt.paper)
                yield prompt.question, statement


def _read_excerpts(prompt: TrainingPrompt) -> list[Evidence]:
    """Return the numbered sentences of a prompt, each with the title above it."""
    excerpts = []
    title = ""
    for line in prompt.excerpts.split("\n"):
        number, bracket, text = line.partition("] ")
        if not (bracket and number.startswith("[") and number[1:].isdigit()):
            title = line
            continue
        sentence = Sentence(title, 0, len(text), text)
        excerpts.append(Evidence(sentence, Paper(title, text, id=title), 1.0, 1.0, 1.0, 1.0))
    return excerpts


def _source(evidence: Evidence) -> Source:
    return Source(evidence.sentence.text, evidence.paper.title)


def read_public_claims(folder: Path) -> Iterator[tuple[bool, Statement]]:
    """Yield claims of public collections, and whether their source supports them."""
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    for name, count in _PUBLIC.items():
        by_label: dict[bool, list[Statement]] = {True: [], False: []}
        for row in read_rows(folder / f"{name}.jsonl"):
            if len(row["source"]) < _MAX_SOURCE_CHARS and len(row["claim"]) < _MAX_CLAIM_CHARS:
                sources = tuple(map(Source, _split(row["source"])))
                statement = Statement(row["claim"], sources, row["source"])
                by_label[row["label"] == "supported"].append(statement)
        for label, statements in by_label.items():
            for statement in chance.sample(statements, count // 2):
                yield label, statement


def _split(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in split_sentences(text)]


def write_sheet(model: CachedHiddenStateModel, file: Path) -> None:
    """Write the sentences that have no label yet, as JSON Lines."""
    labels = {record.digest for record in load_labels(_LABELS)}
    lines = {}
    for question, statement in generate_statements(model):
        if statement.digest not in labels:
            sources = [{"title": item.context, "quote": item.text} for item in statement.sources]
            record = {
                "digest": statement.digest,
                "question": question,
                "sentence": statement.text,
                "sources": sources,
            }
            lines[statement.digest] = json.dumps(record, ensure_ascii=False) + "\n"
    file.write_text("".join(lines.values()), encoding="utf-8")
    print(f"{len(lines)} sentences without a label in {file}")


# --- fitting -------------------------------------------------------------------------------------


def read_examples(
    model: CachedHiddenStateModel, labelled: Sequence[tuple[bool, Statement]]
) -> list[Example]:
    """Return statements with the model's state after each."""
    examples = []
    for label, statement in tqdm(labelled, desc="reading"):
        messages = verifying_prompt(statement.text, statement.sources)
        state = model.hidden_state(messages, GENERATION_LIMITS, Event())
        if state is None:
            raise SystemExit(f"{model.name} does not show its state")
        examples.append(Example(statement, label, state))
    return examples


def _labelled_statements(model: CachedHiddenStateModel) -> list[tuple[bool, Statement]]:
    labels = {record.digest: record.label for record in load_labels(_LABELS)}
    found = {}
    for _, statement in generate_statements(model):
        if statement.digest in labels:
            found[statement.digest] = (labels[statement.digest] == SUPPORTED, statement)
    return list(found.values())


def fit(examples: Sequence[Example]) -> tuple[float, Vectors]:
    """Return the intercept and the weights of the probe."""
    return fit_probe(_states(examples), list(map(_LABEL, examples)), np.ones(len(examples)))


def verify_unseen(generated: Sequence[Example], public: Sequence[Example]) -> Values:
    """Return the log-odds of each generated sentence, fitted without its abstract."""
    from sklearn.model_selection import GroupKFold

    groups = [example.statement.group for example in generated]
    scores = np.zeros(len(generated))
    for seen, unseen in GroupKFold(FOLDS).split(generated, groups=groups):
        intercept, weights = fit([*map(generated.__getitem__, seen), *public])
        scores[unseen] = intercept + _states(generated)[unseen] @ weights
    return scores


def _states(examples: Sequence[Example]) -> Values:
    return np.array(list(map(_STATE, examples)), np.float64)


def choose_threshold(labels: Sequence[bool], scores: Values) -> float:
    """Return the lowest log-odds at which, and above, the precision is as wanted."""
    order = np.argsort(-scores)
    precision = np.cumsum(np.array(labels)[order]) / np.arange(1, len(order) + 1)
    precise = np.flatnonzero(precision >= _PRECISION)
    return float(scores[order[precise[-1]]]) if len(precise) else float(scores.max())


def _print_passing(name: str, labels: Sequence[bool], passes: Sequence[bool]) -> None:
    """Print how many of the true and of the other sentences pass, and the precision."""
    is_true, passed = np.array(labels), np.array(passes)
    precision = is_true[passed].mean() if passed.any() else float("nan")
    print(
        f"  {name}: {passed[is_true].mean():.2f} of {is_true.sum()} true and "
        f"{passed[~is_true].mean():.2f} of {(~is_true).sum()} false sentences pass; "
        f"{precision:.3f} of those that pass are true"
    )


def _passes_form(statement: Statement) -> bool:
    verdict = check_form(statement.text, statement.sources)
    return verdict is None or verdict.supported


def _passes_rules(statement: Statement) -> bool:
    return LexicalVerifier().check(statement.text, statement.sources).supported


def main() -> None:
    """Write a sheet, or fit the probe and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write what is to be labelled")
    parser.add_argument("--public", type=Path, metavar="DIR", help="folder of public claims")
    options = parser.parse_args()
    model = load_bundled()
    if options.sheet:
        write_sheet(model, options.sheet)
        return
    public_folder = options.public or find_data_folder().parent / "training"
    generated = read_examples(model, _labelled_statements(model))
    public = read_examples(model, list(read_public_claims(public_folder)))
    labels, statements = list(map(_LABEL, generated)), list(map(_STATEMENT, generated))
    scores = verify_unseen(generated, public)
    print(f"{len(generated)} generated sentences, {len(public)} public claims")
    print_quality("probe", labels, scores)
    form = np.array(list(map(_passes_form, statements)))
    threshold = choose_threshold(np.array(labels)[form].tolist(), scores[form])
    _print_passing("rules", labels, list(map(_passes_rules, statements)))
    _print_passing("probe", labels, ((scores >= threshold) & form).tolist())
    intercept, weights = fit([*generated, *public])
    probe = Probe(model.fingerprint, load_prompt("verify").digest, intercept, weights)
    file = Path(support.__file__).with_suffix(".json")
    write_probe_file(file, probe, threshold=float(1 / (1 + np.exp(-threshold))))


if __name__ == "__main__":
    main()
