"""Statements with excerpts, to train and measure what tells whether excerpts support a statement.

True and false answers about ACL abstracts were written for this, in pairs that look alike. Public
sets, `support_*.jsonl` in a folder of training data, add claims about one text each; only sets with
an open licence are used. Sentences of ACL abstracts with one detail changed add what a model easily
overlooks: a direction, a negation, the sides of a comparison. All texts stay outside the repository
(`eval/README.md`). What the bundled language model wrote itself is not among the claims, because
the verifier is fitted and measured on it.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path

import eval.data
from eval.benchmarks.changed_sentences import change_details, shorten_sentence
from eval.benchmarks.reading_examples import Example, ExamplePaper, read_public_rows
from eval.harness.labels import SUPPORTED
from eval.harness.question_sets import find_data_folder, load_other_abstracts, read_rows
from rag.text.sentences import split_sentences
from rag.verification.verifier import Source

_FOLDER = Path(eval.data.__file__).parent / "training"
# Sentences of the language model itself, and sentences that were written like its own.
DRAFTS, STATEMENTS = _FOLDER / "drafts.jsonl", _FOLDER / "statements.jsonl"
# Written later, for the entailment model alone.
_MORE_STATEMENTS = _FOLDER / "more_statements.jsonl"
PUBLIC_SETS = (
    "scifact_train",
    "checkcovid",
    "attributionbench",
    "evidence_inference",
    "vitaminc",
    "wice",
    "factcheckgpt",
    "fm2",
    "mnli",
    "fever_symmetric",
)
# What the entailment model has to notice; numbers and names are compared exactly.
_CHANGES = ("direction", "negation in", "negation out", "comparison")
_PER_CHANGE = 500
_UNUSED_NAME = "Osprey"
_SEED = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """Sentence with its sources; `group` is the abstract or text that it is about."""

    text: str
    sources: tuple[Source, ...]
    group: str


def read_statements(file: Path, split: str = "train") -> Iterator[tuple[bool, Statement]]:
    """Yield the sentences of a split in a file, and whether their sources support them."""
    papers = {}
    for paper in read_rows(find_data_folder() / "acl" / "acl.jsonl"):
        papers[paper["id"]] = paper
    for row in read_rows(file):
        if row.get("split", "train") != split:
            continue
        sources = []
        for name, start, end in row["sources"]:
            text = papers[name]["abstract"][start:end].strip()
            log_odds = row.get("log_odds", 0.0)
            source = Source(text, papers[name]["title"], row["question"], log_odds=log_odds)
            sources.append(source)
        label = row["label"] == SUPPORTED
        yield label, Statement(row["sentence"], tuple(sources), row["paper"])


def load_claims() -> list[Example]:
    """Return all claims in random order, the same one each time.

    Raises `UsageError` if the abstracts or the public sets are missing.
    """
    examples = [*written_claims(), *changed_claims()]
    for name in PUBLIC_SETS:
        examples += public_claims(name)
    random.Random(_SEED).shuffle(examples)  # noqa: S311 - no secret
    return examples


def written_claims() -> Iterator[Example]:
    """Yield true and false answers about ACL abstracts, each with its excerpts."""
    statements = chain(read_statements(STATEMENTS), read_statements(_MORE_STATEMENTS))
    for is_supported, statement in statements:
        title = statement.sources[0].context
        texts = tuple(map(attrgetter("text"), statement.sources))
        excerpts = ExamplePaper(title, texts, (), is_supported)
        yield Example("written", statement.group, statement.text, (excerpts,))


def changed_claims() -> Iterator[Example]:
    """Yield sentences of ACL abstracts with and without a changed detail, against one another.

    Either one is supported by itself and not by the other, so no claim tells its label alone.
    """
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    abstracts = load_other_abstracts()
    counts: Counter[str] = Counter()
    for name in chance.sample(sorted(abstracts), len(abstracts)):
        sentences = _split(abstracts[name].text)
        place = chance.randrange(len(sentences))
        changes = dict(change_details(sentences[place], _UNUSED_NAME))
        kinds = [kind for kind in _CHANGES if kind in changes and counts[kind] < _PER_CHANGE]
        if kinds:
            kind = min(kinds, key=counts.__getitem__)
            counts[kind] += 1
            changed = [*sentences[:place], changes[kind], *sentences[place + 1 :]]
            yield from _opposed_claims(name, place, sentences, changed, chance)


def _opposed_claims(
    source: str,
    place: int,
    sentences: Sequence[str],
    changed: Sequence[str],
    chance: random.Random,
) -> Iterator[Example]:
    """Yield what two versions of a sentence say, with excerpts of one and of the other."""
    first = max(0, place - chance.randrange(2))
    excerpt = slice(first, place + 1 + chance.randrange(2))
    claims = [(sentences[place], changed[place])]
    parts = zip(*map(shorten_sentence, claims[0]), strict=False)
    claims += [(part, other) for part, other in parts if part != other]
    for claim, version in zip(claims[-1], (sentences, changed), strict=True):
        for read in (sentences, changed):
            excerpts = ExamplePaper("", tuple(read[excerpt]), (), read is version)
            yield Example("changed", source, claim, (excerpts,))


def public_claims(name: str) -> Iterator[Example]:
    """Yield the claims of a public set. Raises `UsageError` if the set is missing."""
    for row in read_public_rows(f"support_{name}.jsonl"):
        sentences = tuple(_split(row["source"]))
        excerpts = ExamplePaper("", sentences, (), row["label"] == "supported")
        # The abstract of a SciFact claim is in other rows too, whole or in part.
        source = row["claim"] if name == "scifact_train" else row["source"]
        yield Example(name, source, row["claim"], (excerpts,))


def _split(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in split_sentences(text)]
