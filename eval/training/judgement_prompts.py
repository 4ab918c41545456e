"""Prompts to train the judgement with: questions about ACL abstracts, with excerpts as retrieved.

Half of the questions ask for a detail that their abstract lacks. All questions about an abstract
share their excerpts, so that the language model reads them once: the abstract and a few sentences
of similar papers. In a quarter of the prompts another paper comes first, and only some sentences of
the abstract are there, as when retrieval ranks the wrong paper best.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import eval.data
from eval.harness.question_sets import Abstract, Row, load_other_abstracts, read_rows
from rag.text.sentences import Span

_QUESTIONS = Path(eval.data.__file__).parent / "training" / "acl_questions.jsonl"
_SEED = 11
_OTHER_PAPERS = 1_500
_NEIGHBORS = 3
_MAX_SENTENCES = 8
_MAX_SENTENCES_OF_WRONG_PAPER = 6
_MISRANKED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class TrainingPrompt:
    """Question with excerpts of which its abstract (`paper`) is one, and whether they answer it."""

    paper: str
    question: str
    excerpts: str
    is_answered: bool


def build_training_prompts() -> list[TrainingPrompt]:
    """Return the prompts, grouped by abstract, the same ones each time.

    Raises `UsageError` if there is no folder of test collections.
    """
    questions = defaultdict(list)
    for row in read_rows(_QUESTIONS):
        questions[row["paper"]].append(row)
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    abstracts = load_other_abstracts()
    others = chance.sample(sorted(abstracts.keys() - questions.keys()), _OTHER_PAPERS)
    neighbors = _find_neighbors(sorted(questions), [*sorted(questions), *others], abstracts)
    prompts: list[TrainingPrompt] = []
    for paper in chance.sample(sorted(questions), len(questions)):
        similar = list(map(abstracts.__getitem__, chance.sample(neighbors[paper], _NEIGHBORS)))
        if chance.random() < _MISRANKED_SHARE:
            shown = _choose_spans(abstracts[paper], questions[paper], chance)
            blocks = _misranked_blocks(abstracts[paper], shown, similar, chance)
        else:
            shown = list(abstracts[paper].spans[:_MAX_SENTENCES])
            blocks = _ranked_blocks(abstracts[paper], similar, chance)
        excerpts = _number_sentences(blocks)
        for row in questions[paper]:
            if _has_evidence(row, shown):
                answered = row["answerable"]
                prompts.append(TrainingPrompt(paper, row["question"], excerpts, answered))
    return prompts


def _find_neighbors(
    papers: Sequence[str], pool: Sequence[str], abstracts: Mapping[str, Abstract]
) -> dict[str, list[str]]:
    """Return the eight papers of a pool that are most similar to each paper, by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    vectors = vectorizer.fit_transform(abstracts[name].text_with_title for name in pool)
    similarities = (vectors[: len(papers)] @ vectors.T).toarray()
    neighbors = {}
    for paper, row in zip(papers, similarities, strict=True):
        ranked = list(map(pool.__getitem__, (-row).argsort(kind="stable")[:9]))
        ranked.remove(paper)
        neighbors[paper] = ranked
    return neighbors


_Block = tuple[str, list[str]]  # a title and sentences


def _ranked_blocks(
    abstract: Abstract, similar: Sequence[Abstract], chance: random.Random
) -> Iterator[_Block]:
    yield abstract.title, abstract.sentences[:_MAX_SENTENCES]
    for other in similar[: chance.randint(1, _NEIGHBORS)]:
        yield other.title, _choose_sentences(other, chance)


def _misranked_blocks(
    abstract: Abstract, shown: Sequence[Span], similar: Sequence[Abstract], chance: random.Random
) -> Iterator[_Block]:
    wrong, *others = similar
    yield wrong.title, wrong.sentences[:_MAX_SENTENCES_OF_WRONG_PAPER]
    yield abstract.title, [abstract.text[start:end] for start, end in shown]
    yield others[0].title, _choose_sentences(others[0], chance)


def _choose_spans(
    abstract: Abstract, questions: Sequence[Row], chance: random.Random
) -> list[Span]:
    """Return the spans that answer the questions, and two others, at most four."""
    chosen = set(chance.sample(abstract.spans, min(2, len(abstract.spans))))
    for row in questions:
        chosen.update(span for span in abstract.spans if _is_evidence(row, span))
    return sorted(chosen)[:4]


def _choose_sentences(abstract: Abstract, chance: random.Random) -> list[str]:
    """Return one sentence, or two in a row."""
    start = chance.randrange(len(abstract.spans))
    return abstract.sentences[start : start + chance.choice([1, 1, 2])]


def _is_evidence(row: Row, span: Span) -> bool:
    start, end = span
    return any(start < part["end"] and part["start"] < end for part in row["evidence"])


def _has_evidence(row: Row, shown: Sequence[Span]) -> bool:
    """Return True if all sentences that answer a question are among those shown."""
    for part in row["evidence"]:
        if not any(start < part["end"] and part["start"] < end for start, end in shown):
            return False
    return True


def _number_sentences(blocks: Iterator[_Block]) -> str:
    """Return titles and numbered sentences, as `rag.answering.generation.build_excerpts` does."""
    lines = []
    number = 0
    for title, sentences in blocks:
        lines.append(title)
        for sentence in sentences:
            number += 1
            lines.append(f"[{number}] {sentence.strip()}")
    return "\n".join(lines)
