"""Measure which sentence a draft of the bundled model rests on, and fit what its words weigh.

`python -m eval.training.sources [--questions N]`

The model answers the answerable dev questions about ACL abstracts, and others that the reader was
not trained with. The best sentence is the one that answers the question, or not: by its score as
evidence alone; by a logistic regression on that and on its share of the draft's new terms, which
is fitted to the other questions (cross-validated); and by `rag.answering.sources`, whose weight is
the ratio of the coefficients printed, rounded.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter, itemgetter

import numpy as np
from tqdm import tqdm

from eval.benchmarks.reading import is_gold
from eval.benchmarks.reading_examples import build_pool, held_out_questions
from eval.harness.question_sets import ACL_FOLDER, Row, prepare_acl_library, read_rows
from eval.harness.statistics import bootstrap
from eval.training.probes import FOLDS, load_bundled
from eval.training.recording import AgreeingModel
from rag import Assistant
from rag.answering.generation import split_drafts
from rag.answering.sources import new_terms_share, rank_sources
from rag.models.log_odds import logit
from rag.records import Evidence

# As many sentences as the language model reads.
_SENTENCES = 8


@dataclass(frozen=True, slots=True)
class DraftCase:
    """Question with the first sentence that the model wrote, and the evidence, best first.

    `labels` tells which sentences answer; at least one does.
    """

    question: str
    draft: str
    evidence: tuple[Evidence, ...]
    labels: tuple[bool, ...]

    @property
    def features(self) -> list[tuple[float, float]]:
        """Log-odds as evidence, and share of the draft's new terms, of each sentence."""
        rows: list[tuple[float, float]] = []
        for item in self.evidence:
            share = new_terms_share(self.draft, self.question, item.sentence.text)
            rows.append((logit(item.score), share))
        return rows


_FEATURES, _LABELS = attrgetter("features"), attrgetter("labels")


def collect_cases(
    assistant: Assistant, model: AgreeingModel, rows: Iterable[Row], library_ids: dict[str, str]
) -> Iterator[DraftCase]:
    """Ask the questions of rows; yield those that the evidence and the model answer."""
    for row in rows:
        model.reply = ""
        assistant.ask(row["question"])
        draft = next(split_drafts([model.reply]), "")
        evidence = tuple(assistant.evidence(row["question"], _SENTENCES))
        labels = tuple(is_gold(item, row, library_ids) for item in evidence)
        if draft and any(labels):
            yield DraftCase(row["question"], draft, evidence, labels)


def curated_cases(model: AgreeingModel) -> list[DraftCase]:
    """Return the answerable dev questions about ACL abstracts."""
    folder, library_ids, _ = prepare_acl_library()
    assistant = Assistant.open(folder, language_model=model, create=False)
    rows = []
    for row in read_rows(ACL_FOLDER / "questions.jsonl"):
        if row["split"] == "dev" and row["answerable"]:
            rows.append(row)
    return list(collect_cases(assistant, model, tqdm(rows), library_ids))


def held_out_cases(model: AgreeingModel, limit: int) -> list[DraftCase]:
    """Return the answerable ones of the first questions that the reader was not trained with."""
    pool = build_pool()
    library_ids = {name: paper.id for name, paper in pool.papers.items()}
    assistant = Assistant(pool.assistant.library, language_model=model)
    rows = list(filter(itemgetter("answerable"), islice(held_out_questions(), limit)))
    return list(collect_cases(assistant, model, tqdm(rows), library_ids))


def print_cases(sets: dict[str, list[DraftCase]]) -> None:
    """Print for each set how often the best sentence answers, in three ways."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    cases = list(chain.from_iterable(sets.values()))
    groups = np.repeat(np.arange(len(cases)), list(map(len, map(_LABELS, cases))))
    features = np.array(list(chain.from_iterable(map(_FEATURES, cases))))
    labels = np.array(list(chain.from_iterable(map(_LABELS, cases))))
    scores = np.zeros(len(labels))
    for train, test in GroupKFold(FOLDS).split(features, labels, groups):
        fold = LogisticRegression().fit(features[train], labels[train])
        scores[test] = fold.decision_function(features[test])
    by_score, by_draft = LogisticRegression().fit(features, labels).coef_[0]
    print(f"coefficients: score {by_score:.2f}, new terms {by_draft:.2f}")
    start = 0
    for name, of_set in sets.items():
        fitted = []
        for number, case in enumerate(of_set, start):
            best = int(np.argmax(scores[groups == number]))
            fitted.append(float(case.labels[best]))
        start += len(of_set)
        alone = list(map(float, map(itemgetter(0), map(_LABELS, of_set))))
        chosen = list(map(_is_best_right, of_set))
        print(f"{name}, {len(of_set)} questions: best by its score {bootstrap(alone)}")
        print(f"  with the draft, cross-validated {bootstrap(fitted)}, as used {bootstrap(chosen)}")


def _is_best_right(case: DraftCase) -> float:
    best, *_ = rank_sources(case.draft, case.question, case.evidence)
    return float(case.labels[case.evidence.index(best)])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=400, metavar="N", help="held out")
    limit = parser.parse_args().questions
    model = AgreeingModel(load_bundled())
    print_cases({"curated": curated_cases(model), "held out": held_out_cases(model, limit)})


if __name__ == "__main__":
    main()
