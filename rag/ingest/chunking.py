"""Chunking of abstracts into passages: groups of whole sentences that fit into the embedder."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from rag.models.embedder import Embedder, PassageInput
from rag.records import Paper
from rag.text.sentences import Span, split_sentences

# Special tokens of the model, and the full stop between title and text.
_RESERVED_TOKENS = 4
# Longer titles are shortened to leave room for the text.
_MAX_TITLE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Chunks:
    """Spans of an abstract's passages and sentences, and the inputs of an embedder."""

    passages: tuple[Span, ...]
    sentences: tuple[Span, ...]
    inputs: tuple[PassageInput, ...]


def chunk_papers(papers: Sequence[Paper], embedder: Embedder) -> list[Chunks]:
    """Split papers into passages.

    A paper without an abstract becomes one passage: its title, with an empty span.
    """
    sentences = [split_sentences(paper.abstract) for paper in papers]
    texts: list[str] = []
    for paper, spans in zip(papers, sentences, strict=True):
        texts.append(paper.title)
        texts += [paper.abstract[start:end] for start, end in spans]
    token_counts = iter(embedder.count_tokens(texts))
    chunks = []
    for paper, spans in zip(papers, sentences, strict=True):
        title_tokens = next(token_counts)
        sentence_tokens = list(islice(token_counts, len(spans)))
        max_title_tokens = int(embedder.max_tokens * _MAX_TITLE_SHARE)
        title = _shorten_title(paper.title, title_tokens, max_title_tokens)
        max_tokens = embedder.max_tokens - _RESERVED_TOKENS - min(title_tokens, max_title_tokens)
        groups = _group_sentences(spans, sentence_tokens, max_tokens)
        chunks.append(_build_chunks(title, paper.abstract, groups))
    return chunks


def _group_sentences(
    spans: Sequence[Span], token_counts: Sequence[int], max_tokens: int
) -> list[list[Span]]:
    """Group consecutive sentences into as few groups as fit, all of about the same size."""
    total = sum(token_counts)
    min_groups = max(1, -(-total // max_tokens))
    target = total / min_groups
    groups: list[list[Span]] = []
    size = 0
    for span, count in zip(spans, token_counts, strict=True):
        is_full = size + count > max_tokens
        is_balanced = size >= target and len(groups) < min_groups
        if not groups or is_full or is_balanced:
            groups.append([])
            size = 0
        groups[-1].append(span)
        size += count
    return groups


def _build_chunks(title: str, abstract: str, groups: Sequence[Sequence[Span]]) -> Chunks:
    if not groups:
        return Chunks(((0, 0),), (), (PassageInput(title, "", ()),))
    passages: list[Span] = []
    sentences: list[Span] = []
    inputs: list[PassageInput] = []
    for group in groups:
        passage_start, passage_end = group[0][0], group[-1][1]
        relative = [(start - passage_start, end - passage_start) for start, end in group]
        text = abstract[passage_start:passage_end]
        passages.append((passage_start, passage_end))
        sentences += group
        inputs.append(PassageInput(title, text, tuple(relative)))
    return Chunks(tuple(passages), tuple(sentences), tuple(inputs))


def _shorten_title(title: str, tokens: int, max_tokens: int) -> str:
    """Cut a title at a word, assuming that all tokens have the same length."""
    if tokens <= max_tokens:
        return title
    return title[: len(title) * max_tokens // tokens].rsplit(" ", 1)[0]
