"""BM25 scores of papers that are already selected, as SQLite's FTS5 would compute them.

FTS5 scores every paper that contains a query term, which is slow for terms that occur in tens of
thousands of papers. It therefore selects candidates by the rarest terms only; these few papers are
scored here by all terms.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

# Robertson and Zaragoza, 2009, with the constants of FTS5.
_K1, _B = 1.2, 0.75
# FTS5 gives this weight to a term that would get a negative one because most papers contain it.
_MIN_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class BM25Scorer:
    """BM25 over texts in the form that the full-text index stores: stems separated by spaces."""

    weights: Mapping[str, float]
    average_length: float

    @classmethod
    def from_statistics(cls, frequencies: Mapping[str, int], averages: bytes) -> "BM25Scorer":
        """Build a scorer from the document frequency of each term and FTS5's own statistics.

        `averages` is FTS5's record of the number of papers and the number of terms per column.
        """
        papers, *lengths = _decode_varints(averages) or [0]
        weights = {}
        for term, frequency in frequencies.items():
            if frequency <= papers:
                weight = math.log((papers - frequency + 0.5) / (frequency + 0.5))
                weights[term] = weight if weight > 0 else _MIN_WEIGHT
        return cls(weights, max(1.0, sum(lengths) / max(1, papers)))

    def score(self, text: str) -> float:
        """Return the BM25 score of a text; 0 when it contains no term."""
        terms = text.split()
        length_norm = _K1 * (1 - _B + _B * len(terms) / self.average_length)
        counts = Counter(filter(self.weights.__contains__, terms))
        total = 0.0
        for term, count in sorted(counts.items()):
            total += self.weights[term] * count * (_K1 + 1) / (count + length_norm)
        return total


def _decode_varints(record: bytes) -> list[int]:
    """Decode SQLite's variable-length integers: 7 bits a byte, high bit set except in the last."""
    numbers, number = [], 0
    for byte in record:
        number = number << 7 | byte & 127
        if byte < 128:
            numbers.append(number)
            number = 0
    return numbers
