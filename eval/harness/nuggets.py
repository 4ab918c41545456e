"""Match nuggets, the short facts that a right answer contains, in the text of a reply."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from eval.harness.questions import Nugget

_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|%")
_THOUSANDS_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def contains_nugget(text: str, alternatives: Sequence[str], numbers: Sequence[str]) -> bool:
    """Return True if the text contains at least one alternative and every number.

    Whole words and whole numbers are compared; case and punctuation are ignored. So "58" matches
    "58x" but neither "158" nor "5.8".
    """
    tokens = _padded_tokens(text)

    def is_in_text(phrase: str) -> bool:
        return _padded_tokens(phrase) in tokens

    return all(map(is_in_text, numbers)) and any(map(is_in_text, alternatives))


def nugget_share(nuggets: Iterable[Nugget], text: str) -> float | None:
    """Return the share of the nuggets that the text contains, or None if there are no nuggets."""
    matched = total = 0
    for nugget in nuggets:
        total += 1
        matched += contains_nugget(text, nugget.alternatives, nugget.numbers)
    return matched / total if total else None


def vital_nugget_share(nuggets: Iterable[Nugget], text: str) -> float | None:
    """Return the share of the vital nuggets that the text contains, or None without vital ones."""
    return nugget_share(filter(_is_vital, nuggets), text)


def _is_vital(nugget: Nugget) -> bool:
    return nugget.vital


def _padded_tokens(text: str) -> str:
    """Return the tokens of a text, each with a space before and after it."""
    digits_joined = _THOUSANDS_SEPARATOR.sub("", unicodedata.normalize("NFKC", text))
    tokens = _TOKEN.findall(digits_joined.casefold())
    return f" {' '.join(tokens)} "
