"""Cutting an abstract into passages: whole sentences, as many as the embedding model reads at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from rag.models import Embedder, PassageInput
from rag.records import Paper
from rag.text.sentences import split_sentences

# Tokens that the model adds around a text, and the full stop between title and text.
_RESERVED_TOKENS = 4
# A title must leave room for what it stands above.
_LARGEST_TITLE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Cut:
    """Spans of an abstract's passages and sentences, and the passages as the embedder takes them."""

    passages: tuple[tuple[int, int], ...]
    sentences: tuple[tuple[int, int], ...]
    texts: tuple[PassageInput, ...]


def cut(papers: Sequence[Paper], embedder: Embedder) -> list[Cut]:
    """The papers in pieces. A paper without abstract is one passage: its title, with an empty span."""
    sentences = [split_sentences(paper.abstract) for paper in papers]
    texts = [
        text
        for paper, spans in zip(papers, sentences, strict=True)
        for text in (paper.title, *(paper.abstract[start:end] for start, end in spans))
    ]
    counts = iter(embedder.count_tokens(texts))
    return [
        _cut(paper, spans, list(islice(counts, 1 + len(spans))), embedder)
        for paper, spans in zip(papers, sentences, strict=True)
    ]


def _cut(
    paper: Paper, sentences: list[tuple[int, int]], tokens: list[int], embedder: Embedder
) -> Cut:
    """`tokens` are those of the title and of each sentence."""
    title_tokens, *counts = tokens
    room = (
        embedder.max_tokens
        - _RESERVED_TOKENS
        - min(title_tokens, int(embedder.max_tokens * _LARGEST_TITLE_SHARE))
    )
    groups = _pack(counts, room)
    passages = [(sentences[group[0]][0], sentences[group[-1]][1]) for group in groups] or [(0, 0)]
    texts = [
        PassageInput(
            _shortened(paper.title, title_tokens, int(embedder.max_tokens * _LARGEST_TITLE_SHARE)),
            paper.abstract[start:end],
            tuple((sentences[i][0] - start, sentences[i][1] - start) for i in group),
        )
        for (start, end), group in zip(passages, groups or [[]], strict=True)
    ]
    return Cut(tuple(passages), tuple(sentences), tuple(texts))


def _pack(counts: list[int], room: int) -> list[list[int]]:
    """Consecutive sentences in as few groups as fit, of about equal size: no last group of one short sentence."""
    parts = max(1, -(-sum(counts) // room))
    target = sum(counts) / parts
    groups: list[list[int]] = []
    size = 0
    for index, count in enumerate(counts):
        if not groups or size + count > room or (size >= target and len(groups) < parts):
            groups.append([])
            size = 0
        groups[-1].append(index)
        size += count
    return groups


def _shortened(title: str, tokens: int, most: int) -> str:
    return title if tokens <= most else title[: len(title) * most // tokens].rsplit(" ", 1)[0]
