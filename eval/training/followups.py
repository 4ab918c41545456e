"""Fit the model that tells what kind of question comes next in a conversation.

`python -m eval.training.followups FILE`

The model of `rag.answering.followup_kinds` is a logistic regression on words, on where they are
known, and on the embedded question. It is fitted on the split `train` of the follow-ups written for
it, on the curated follow-ups of the split `dev`, and on questions that stand alone, each after a
conversation drawn at random: the other curated ones of `dev`, those about ACL abstracts that the
reader is trained with, and public ones from other fields. Cross-validation holds out whole
conversations. How many questions about a field that it has not seen are mistaken for follow-ups is
measured on the questions about the sample papers, with a model fitted without them. Examples are
also used without their vector and without papers, as after an abstention, so that the model works
then, too.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np

import eval.data
from eval.benchmarks.reading_examples import read_public_rows, reworded_questions
from eval.benchmarks.tables import Columns
from eval.harness.question_sets import load_other_abstracts, prepare_acl_library, read_rows
from eval.harness.statistics import Values
from rag import Assistant
from rag.answering.followup_kinds import (
    FOLLOWUP_KINDS,
    FollowUpContext,
    FollowUpKind,
    FollowUpModel,
    choose_kind,
    followup_features,
    paper_terms,
)
from rag.models.registry import load_embedder
from rag.records import Paper

_DATA = Path(eval.data.__file__).parent
_SAMPLE, _ACL = "questions/sample.jsonl", "acl/questions.jsonl"
# Questions of public sets name their subject, unlike many of those that ask about one passage.
# More of them make the model take "who wrote it?" for a question that stands alone.
_PUBLIC = {"boolq": 60, "miracl": 40, "newwiki": 50, "liveqamed": 25}
_MAX_ACL_QUESTIONS = 100
# The other kinds of the benchmark's conversations are about all papers that were cited.
_KIND_OF_CHAT: dict[str, FollowUpKind] = {
    "who": "one",
    "detail": "one",
    "explain": "again",
    "summary": "again",
    "why": "again",
    "other_papers": "others",
}
_FOLDS = 5
_SEED = 2026
# Use a feature that this many examples have.
_MIN_COUNT = 3
# A word is generic if follow-ups of this many conversations have it and most of the time neither
# the papers nor the question before do; or if this share of the abstracts has it, on either topic.
_MIN_CONVERSATIONS = 3
_COMMON_SHARE = 0.05
# Scales the vector, whose entries are small beside the 0 and 1 of the other features.
_VECTOR_SCALE = 3.0

_INVERSE_REGULARIZATION = 0.5

SparseMatrix = Any  # scipy has no types


@dataclass(frozen=True, slots=True)
class Example:
    """Question with its kind and what came before it.

    `conversation` is the number of the conversation. `is_curated` marks a question that was not
    written for this.
    """

    question: str
    kind: FollowUpKind
    context: FollowUpContext
    conversation: int
    is_curated: bool = False


def load_examples(split: str) -> list[Example]:
    """Load the follow-ups of a split that were written for the model."""
    abstracts = load_other_abstracts()
    examples = []
    for row in read_rows(_DATA / "training/followups.jsonl"):
        if row["split"] == split:
            cited = map(abstracts.__getitem__, row["papers"])
            papers = [Paper(abstract.title, abstract.text) for abstract in cited]
            context = FollowUpContext.build([row["question"]], papers)
            example = Example(row["followup"], row["kind"], context, row["conversation"])
            examples.append(example)
    return examples


def load_curated_followups() -> Iterator[Example]:
    """Yield the curated follow-ups of the split `dev`, each as a conversation of its own."""
    folder, library_ids, _ = prepare_acl_library()
    acl, sample = Assistant.open(folder, create=False), Assistant.sample()
    for number, row in enumerate(_dev_rows("acl/chats.jsonl"), 1):
        papers = [acl.paper(library_ids[name]) for name in row["first_papers"]]
        *before, question = row["turns"]
        kind = _KIND_OF_CHAT.get(row["kind"], "several" if len(papers) > 1 else "one")
        yield Example(question, kind, FollowUpContext.build(before, papers), -number)
    for number, row in enumerate(_dev_rows("questions/sample.jsonl"), 1_000):
        if row["kind"] == "followup" and not row.get("note", "").startswith("topic change"):
            papers = [sample.paper(names[0]) for names in row["gold"]]
            context = FollowUpContext.build(row["history"], papers)
            yield Example(row["question"], "one", context, -number)


def load_standalone() -> dict[str, list[str]]:
    """Load questions that stand alone, by the set that they are from.

    Raises `UsageError` if a public set is missing.
    """
    questions = {}
    for name in (_SAMPLE, _ACL):
        questions[name] = [row["question"] for row in _dev_rows(name) if row["kind"] != "followup"]
    reworded = [row["question"] for row in reworded_questions()]
    questions["reworded"] = _spread(reworded, _MAX_ACL_QUESTIONS)
    for name, count in _PUBLIC.items():
        rows = read_public_rows(f"answerable_{name}.jsonl")
        unique = list(dict.fromkeys(row["question"] for row in rows))
        questions[name] = _spread(unique, count)
    return questions


def _spread(items: Sequence[str], count: int) -> list[str]:
    """Return about `count` items at equal distances."""
    return list(items[:: max(1, len(items) // count)])


def put_after(examples: Sequence[Example], questions: Iterable[str]) -> list[Example]:
    """Put each question, which stands alone, after the conversation of an example."""
    draw = np.random.default_rng(_SEED)
    standalone = []
    for question in questions:
        before = examples[int(draw.integers(len(examples)))]
        standalone.append(replace(before, question=question, kind="standalone", is_curated=True))
    return standalone


def _dev_rows(name: str) -> Iterator[Mapping[str, Any]]:
    for row in read_rows(_DATA / name):
        if row["split"] == "dev":
            yield row


# --- the model ------------------------------------------------------------------------------------


def find_generic(examples: Iterable[Example], common: Iterable[str]) -> frozenset[str]:
    """Return the stems of words that could be about any paper; `common` are some of them."""
    conversations: defaultdict[str, set[int]] = defaultdict(set)
    balance: Counter[str] = Counter()
    for example in examples:
        if example.kind not in ("standalone", "vary"):
            before = example.context.asked.union(*example.context.papers)
            for stem in FollowUpContext.build([example.question], ()).asked:
                conversations[stem].add(example.conversation)
                balance[stem] += -1 if stem in before else 1
    generic = set(common)
    for stem, numbers in conversations.items():
        if len(numbers) >= _MIN_CONVERSATIONS and balance[stem] > 0:
            generic.add(stem)
    return frozenset(generic)


def find_common(examples: Iterable[Example]) -> frozenset[str]:
    """Return the stems that are common in the cited abstracts and in the sample papers."""
    cited: set[frozenset[str]] = set()
    for example in examples:
        cited.update(example.context.papers)
    sample = map(paper_terms, Assistant.sample().papers())
    return _common_stems(cited) & _common_stems(set(sample))


def _common_stems(abstracts: set[frozenset[str]]) -> frozenset[str]:
    counts = Counter(chain.from_iterable(abstracts))
    return frozenset(stem for stem in counts if counts[stem] >= _COMMON_SHARE * len(abstracts))


def fit(examples: Sequence[Example], vectors: Values, embedder: str) -> dict[str, Any]:
    """Fit the model, in the form that `rag.answering.followup_kinds` reads.

    `vectors` holds the embedded question of each example, (examples, dimension).
    """
    from scipy.sparse import csr_matrix, hstack, vstack
    from sklearn.linear_model import LogisticRegression

    generic = find_generic(examples, find_common(examples))
    rows = _feature_rows(examples, generic)
    counts = Counter(chain.from_iterable(rows))
    names = sorted(name for name in counts if counts[name] >= _MIN_COUNT)
    without_papers = []
    for example in examples:
        without_papers.append(replace(example, context=FollowUpContext(example.context.asked)))
    known, unknown = _matrix(rows, names), _matrix(_feature_rows(without_papers, generic), names)
    dense = csr_matrix(_VECTOR_SCALE * vectors)
    variants = [(known, dense), (known, 0 * dense), (unknown, dense)]
    features = vstack(list(map(hstack, variants))).tocsr()
    labels = [FOLLOWUP_KINDS.index(example.kind) for example in examples]
    model = LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=1_000, tol=1e-3)
    model.fit(features, labels * len(variants))
    weights = np.asarray(model.coef_, float).T
    table = weights[: len(names)].round(2).tolist()
    return {
        "embedder": embedder,
        "generic": sorted(generic),
        "intercepts": np.asarray(model.intercept_, float).round(3).tolist(),
        "features": dict(zip(names, table, strict=True)),
        "vector": (_VECTOR_SCALE * weights[len(names) :]).T.round(2).tolist(),
    }


def _feature_rows(examples: Iterable[Example], generic: frozenset[str]) -> list[dict[str, float]]:
    rows = []
    for example in examples:
        rows.append(followup_features(example.question, example.context, generic))
    return rows


def _matrix(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> SparseMatrix:
    """Return the features that have a name, (rows, names)."""
    from scipy.sparse import lil_matrix

    columns = {name: column for column, name in enumerate(names)}
    matrix = lil_matrix((len(rows), len(names)))
    for index, row in enumerate(rows):
        for name in filter(columns.__contains__, row):
            matrix[index, columns[name]] = row[name]
    return matrix.tocsr()


def predict(
    model: Mapping[str, Any], examples: Sequence[Example], vectors: Values
) -> list[FollowUpKind]:
    """Return the kind of each question; zero vectors leave the decision to the words."""
    fitted = FollowUpModel.from_json(model)
    predicted = []
    for example, vector in zip(examples, vectors, strict=True):
        question, context = example.question, example.context
        probabilities = fitted.probabilities(question, context, vector)
        predicted.append(choose_kind(probabilities, fitted.has_own_subject(question, context)))
    return predicted


def cross_validate(
    examples: Sequence[Example], vectors: Values
) -> tuple[list[Example], list[FollowUpKind]]:
    """Return the examples in another order, and what models of other conversations predict."""
    numbers = sorted({example.conversation for example in examples})
    shuffled = np.random.default_rng(_SEED).permutation(numbers).tolist()
    held_out: list[Example] = []
    predicted: list[FollowUpKind] = []
    for fold in range(_FOLDS):
        chosen = set(shuffled[fold::_FOLDS])
        is_held_out = np.array([example.conversation in chosen for example in examples])
        fold_examples = list(compress(examples, is_held_out))
        training = list(compress(examples, ~is_held_out))
        model = fit(training, vectors[~is_held_out], "")
        held_out.extend(fold_examples)
        predicted.extend(predict(model, fold_examples, vectors[is_held_out]))
    return held_out, predicted


# --- the output -----------------------------------------------------------------------------------


def print_accuracy(examples: Sequence[Example], predicted: Iterable[FollowUpKind]) -> None:
    """Print how many kinds were right, and a row for each kind with those taken for it."""
    pairs = Counter[tuple[str, str]]()
    mistaken = Counter[bool]()
    for example, kind in zip(examples, predicted, strict=True):
        if not example.is_curated:
            pairs[example.kind, kind] += 1
        if example.kind == "standalone" and kind not in ("standalone", "courtesy"):
            mistaken[example.is_curated] += 1
    right = sum(pairs[kind, kind] for kind in FOLLOWUP_KINDS) / max(pairs.total(), 1)
    print(f"{pairs.total()} follow-ups, {right:.3f} of the kinds right; ", end="")
    print(f"taken for follow-ups: {mistaken[False]} of them that stand alone, ", end="")
    print(f"{mistaken[True]} other questions")
    columns = Columns("<12", *([">10"] * len(FOLLOWUP_KINDS)))
    columns.print_row("", *FOLLOWUP_KINDS)
    for kind in FOLLOWUP_KINDS:
        columns.print_row(kind, *(pairs[kind, other] for other in FOLLOWUP_KINDS))


def main() -> None:
    """Run the training from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where to write the model")
    parser.add_argument("--test", action="store_true", help="print the accuracy on `test`, too")
    options = parser.parse_args()
    embedder = load_embedder()

    def embed(examples: Iterable[Example]) -> Values:
        return np.array([embedder.embed_question(example.question) for example in examples])

    written = load_examples("train")
    followups = [*written, *load_curated_followups()]
    standalone = load_standalone()
    unseen = put_after(written, standalone.pop(_SAMPLE))
    examples = [*followups, *put_after(written, chain.from_iterable(standalone.values()))]
    vectors, unseen_vectors = embed(examples), embed(unseen)
    print("cross-validated:", end=" ")
    print_accuracy(*cross_validate(examples, vectors))
    print("another field:", end=" ")
    other = fit(examples, vectors, embedder.name)
    print_accuracy(unseen, predict(other, unseen, unseen_vectors))
    model = fit([*examples, *unseen], np.vstack([vectors, unseen_vectors]), embedder.name)
    if options.test:
        test = load_examples("test")
        print("test:", end=" ")
        print_accuracy(test, predict(model, test, embed(test)))
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
    options.file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
