"""Count the pieces of its sources that a sentence is put together from.

Grusky et al. ("Newsroom: A Dataset of 1.3 Million Summaries with Diverse Extractive Strategies",
2018) call them extractive fragments. The fewer there are, the less a language model can have mixed
up.
"""

from collections.abc import Sequence

from rag.text.terms import content_terms


def count_fragments(sentence: str, sources: Sequence[str], question: str = "") -> int:
    """Return how many sequences of words of the sources make up a sentence, found greedily.

    Stems of content words are compared. A word that only the question has is left out; one that
    neither has counts as a sequence.
    """
    source_terms = list(map(content_terms, sources))
    known = set(content_terms(question)).difference(*source_terms)
    terms = [term for term in content_terms(sentence) if term not in known]
    count = position = 0
    while position < len(terms):
        rest = terms[position:]
        lengths = [_longest_beginning(rest, source) for source in source_terms]
        position += max([1, *lengths])
        count += 1
    return count


def _longest_beginning(terms: Sequence[str], source: Sequence[str]) -> int:
    """Return how many of the first terms stand side by side, in this order, in a source."""
    longest = 0
    for start in range(len(source)):
        length = 0
        for term, other in zip(terms, source[start:], strict=False):
            if term != other:
                break
            length += 1
        longest = max(longest, length)
    return longest
