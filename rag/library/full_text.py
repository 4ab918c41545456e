"""BM25 of papers that are already chosen, as SQLite's FTS5 computes it for those that it finds.

FTS5 scores every paper that holds a word of the question, which takes long where a common word stands in tens of
thousands. So it proposes papers by the question's rare words only, and these few are scored here by all words.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

# Robertson and Zaragoza, 2009; the constants are FTS5's.
_K1, _B = 1.2, 0.75
# FTS5 gives a word that most papers hold this weight instead of a negative one.
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores texts as the index stores them: stems divided by spaces."""

    weights: Mapping[str, float]
    average_length: float

    @classmethod
    def of(cls, frequencies: Mapping[str, int], averages: bytes) -> "Scorer":
        """For words that stand in so many papers each, and FTS5's own record of how many papers and words there are."""
        papers, *lengths = _numbers(averages) or [0]
        weights = {
            term: math.log((papers - n + 0.5) / (n + 0.5))
            for term, n in frequencies.items()
            if n <= papers
        }
        weights = {
            term: weight if weight > 0 else _LEAST_WEIGHT for term, weight in weights.items()
        }
        return cls(weights, max(1.0, sum(lengths) / max(1, papers)))

    def score(self, text: str) -> float:
        words = text.split()
        room = _K1 * (1 - _B + _B * len(words) / self.average_length)
        found = Counter(word for word in words if word in self.weights)
        return sum(
            self.weights[term] * times * (_K1 + 1) / (times + room)
            for term, times in sorted(found.items())
        )


def _numbers(record: bytes) -> list[int]:
    """SQLite's variable-length integers, seven bits in a byte, the last byte of each below 128."""
    numbers, number = [], 0
    for byte in record:
        number = number << 7 | byte & 127
        if byte < 128:
            numbers.append(number)
            number = 0
    return numbers
