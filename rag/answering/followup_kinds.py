"""Tell what kind of question comes next in a conversation, with a linear model.

The model reads the words of the question and pairs of neighbors; which of its specific words the
cited papers and the last questions have; and the embedded question. `eval.training.followups` fits
it and measures it on conversations held out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rag.models.embedder import Embedder
from rag.models.vectors import Vectors
from rag.records import Paper
from rag.retrieval.query_analysis import analyze_query
from rag.text.terms import content_terms

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
_DEPENDENT, _INDEPENDENT = FOLLOWUP_KINDS[:-2], FOLLOWUP_KINDS[-2:]
_WITH_OWN_SUBJECT = frozenset[FollowUpKind](("others", "vary"))
# To rewrite a question that stands alone is worse than to ask a follow-up alone, above all when it
# seems to have a subject of its own.
_MIN_INDEPENDENT, _MIN_INDEPENDENT_WITH_SUBJECT = 0.35, 0.1
# So many specific words, none of which is known, are a subject of its own.
_MIN_SUBJECT_WORDS = 3
# Higher counts are as good as these.
_MAX_SPECIFIC, _MAX_IN_PLACE, _MAX_PAPERS, _MAX_LENGTH, _MAX_TITLE_WORDS = 6, 4, 3, 8, 3
_WORD = re.compile(r"[\w^]+(?:[./+'’-]\w+)*|[^\w\s]")
_PLACES = ("<main>", "<other>", "<asked>", "<new>")


@dataclass(frozen=True, slots=True)
class FollowUpContext:
    """Stems of the questions before a question, and of the papers cited last, the main one first.

    `titles` holds the stems of the titles alone.
    """

    asked: frozenset[str] = frozenset()
    papers: tuple[frozenset[str], ...] = ()
    titles: tuple[frozenset[str], ...] = ()

    @classmethod
    def build(cls, questions: Iterable[str], papers: Iterable[Paper]) -> "FollowUpContext":
        """Return the context that questions and cited papers make."""
        asked = frozenset(content_terms(" ".join(questions)))
        cited = tuple(papers)
        titles = tuple(frozenset(content_terms(paper.title)) for paper in cited)
        return cls(asked, tuple(map(paper_terms, cited)), titles)

    def find_place(self, stem: str) -> str:
        """Return where a stem is: in the main paper, another one, a question, or nowhere."""
        if stem in frozenset().union(*self.papers[:1]):
            return "<main>"
        if stem in frozenset().union(*self.papers):
            return "<other>"
        return "<asked>" if stem in self.asked else "<new>"


@lru_cache(maxsize=256)
def paper_terms(paper: Paper) -> frozenset[str]:
    """Return the stems of all words in the title and abstract of a paper."""
    return frozenset(content_terms(f"{paper.title} {paper.abstract}"))


@dataclass(frozen=True, slots=True)
class FollowUpModel:
    """Weights for each of `FOLLOWUP_KINDS`: of features, and of the dimensions of the vector.

    `generic` are the stems of words that could be about any paper.
    """

    embedder: str
    generic: frozenset[str]
    intercepts: list[float]
    features: Mapping[str, list[float]]
    vector: list[list[float]]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "FollowUpModel":
        """Return the model with these fields."""
        return cls(**{**values, "generic": frozenset(values["generic"])})

    def probabilities(
        self, question: str, context: FollowUpContext, vector: Vectors | None = None
    ) -> dict[FollowUpKind, float]:
        """Return the probability of each kind for a question in its context.

        `vector` is the embedded question; without it, the words decide.
        """
        scores = np.array(self.intercepts)
        for name, value in followup_features(question, context, self.generic).items():
            if name in self.features:
                scores += value * np.array(self.features[name])
        if vector is not None:
            scores += np.array(self.vector) @ vector
        exponentials = np.exp(scores - scores.max())
        shares = (exponentials / exponentials.sum()).tolist()
        return dict(zip(FOLLOWUP_KINDS, shares, strict=True))

    def has_own_subject(self, question: str, context: FollowUpContext) -> bool:
        """Return True for a question with a name or several words that were not there before."""
        known = context.asked.union(*context.papers)
        names = set(content_terms(" ".join(analyze_query(question).names)))
        specific = set(content_terms(question)) - self.generic
        is_new = len(specific) >= _MIN_SUBJECT_WORDS and specific.isdisjoint(known)
        return is_new or not names <= known


@cache
def followup_model() -> FollowUpModel:
    """Return the fitted model."""
    text = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    return FollowUpModel.from_json(json.loads(text))


def find_kind(
    question: str, context: FollowUpContext, embedder: Embedder | None = None
) -> FollowUpKind:
    """Return the kind of a question in its context.

    An embedder other than the one that the model was fitted with is not used.
    """
    model = followup_model()
    is_usable = embedder is not None and embedder.name == model.embedder
    vector = embedder.embed_question(question) if embedder and is_usable else None
    has_subject = model.has_own_subject(question, context)
    return choose_kind(model.probabilities(question, context, vector), has_subject)


def is_courtesy(question: str) -> bool:
    """Return True for "thanks" and the like, which asks nothing."""
    return find_kind(question, FollowUpContext()) == "courtesy"


def specific_terms(text: str) -> set[str]:
    """Return the stems of the words that could not be about any paper."""
    return set(content_terms(text)) - followup_model().generic


def choose_kind(probabilities: Mapping[FollowUpKind, float], has_own_subject: bool) -> FollowUpKind:
    """Return the kind of a question by the probability of each; in doubt, it is no follow-up."""
    dependent = max(_DEPENDENT, key=probabilities.__getitem__)
    independent = sum(map(probabilities.__getitem__, _INDEPENDENT))
    is_doubtful = has_own_subject and dependent not in _WITH_OWN_SUBJECT
    threshold = _MIN_INDEPENDENT_WITH_SUBJECT if is_doubtful else _MIN_INDEPENDENT
    if independent < threshold:
        return dependent
    return max(_INDEPENDENT, key=probabilities.__getitem__)


def followup_features(
    question: str, context: FollowUpContext, generic: frozenset[str]
) -> dict[str, float]:
    """Return the features of a question by name: 1 for what it has, and shares of its words.

    Words that are not `generic` are also replaced by the place where they are known.
    """
    words, places = ["<start>"], ["<start>"]
    for word in _WORD.findall(question):
        stem = "".join(content_terms(word)[:1])
        words.append("0" if word.isdigit() else word.casefold())
        is_specific = stem and stem not in generic
        places.append(context.find_place(stem) if is_specific else words[-1])
    words.append("<end>")
    places.append("<end>")
    names = [*words, *map(" ".join, pairwise(words)), *map("|".join, pairwise(places))]
    names.extend(_counts(question, words, context, generic))
    return dict.fromkeys(names, 1.0) | _shares(places)


def _counts(
    question: str, words: list[str], context: FollowUpContext, generic: frozenset[str]
) -> list[str]:
    """Return the names of counts; each value is a feature."""
    stems = set(content_terms(question)) - generic
    main = frozenset().union(*context.papers[:1])
    other_titles = [len(stems & title - main) for title in context.titles[1:]]
    query = analyze_query(question)
    counts = {
        "length": min(len(words) // 2 - 1, _MAX_LENGTH),
        "papers": min(len(context.papers), _MAX_PAPERS),
        "main title": min(len(stems & frozenset().union(*context.titles[:1])), _MAX_TITLE_WORDS),
        "other title": min(max(other_titles, default=0), _MAX_TITLE_WORDS),
        "list": int(query.is_list_question),
        "names": int(bool(query.names)),
    }
    return [f"#{name} {count}" for name, count in counts.items()]


def _shares(places: list[str]) -> dict[str, float]:
    """Return how many specific words there are, and the number and share in each place."""
    numbers = Counter(filter(_PLACES.__contains__, places))
    total = numbers.total()
    features = {f"#specific {min(total, _MAX_SPECIFIC)}": 1.0}
    for place in _PLACES:
        features[f"#{place} {min(numbers[place], _MAX_IN_PLACE)}"] = 1.0
        # Doubled, so that regularization does not weigh more on it than on the numbers.
        features[f"#share of {place}"] = 2 * numbers[place] / max(total, 1)
    return features
