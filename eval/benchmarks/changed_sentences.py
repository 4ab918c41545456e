"""Change sentences: shortened, they stay true; with one detail changed, they become false."""

import re
from collections.abc import Callable, Iterator

# A name with an inner capital or a digit, within a sentence.
NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]*[A-Z0-9][\w-]*")
_MIN_WORDS = 5


def shorten_sentence(sentence: str) -> list[str]:
    """Return the parts before and after the first comma as sentences, if they are long enough."""
    first, comma, rest = sentence.rstrip(".").partition(", ")
    parts = [first, rest[:1].upper() + rest[1:]] if comma else []
    return [f"{part}." for part in parts if len(part.split()) >= _MIN_WORDS]


_NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?(?![\w.]*[a-z])")
_OTHER_UNITS = {
    "%": "x",
    "x": "%",
    " times": "%",
    " GB": " MB",
    " ms": " s",
    "-bit": "-byte",
    " percent": " times",
}
_UNIT = re.compile(r"(?<=\d)(?:%(?! points)|x\b| times\b| GB\b| ms\b|-bit\b| percent\b)")
_AFFIRMATIONS = {
    "cannot": "can",
    "without": "with",
    "no": "",
    "not": "",
    "never": "",
    "neither": "both",
    "nor": "and",
}
_NEGATION = re.compile(rf"\b(?:{'|'.join(_AFFIRMATIONS)})\b(?! only)")
_AUXILIARY = re.compile(r"\b(?:is|are|was|were|can|could|may|does)\b(?! not|,)")
_DIRECTIONS = (
    "increases decreases,improves worsens,faster slower,higher lower,less more,fewer more,"
    "better worse,larger smaller,outperforms underperforms,gains loses,raises reduces,rises falls,"
    "grows shrinks,improve worsen,increase decrease,raise reduce,outperform underperform,"
    "grow shrink,gain lose,improved worsened,increased decreased,raised reduced,longer shorter,"
    "greater less,rises drops,increasing decreasing,improving worsening,raising reducing,"
    "raises lowers,boosts cuts"
)


def _opposite_directions() -> dict[str, str]:
    """Map each word of `_DIRECTIONS` to its opposite in the first pair that contains it."""
    forward: dict[str, str] = {}
    backward: dict[str, str] = {}
    for pair in _DIRECTIONS.split(","):
        up, down = pair.split()
        forward.setdefault(up, down)
        backward.setdefault(down, up)
    return backward | forward


_OPPOSITES = _opposite_directions()
_DIRECTION = re.compile(rf"\b(?:{'|'.join(_OPPOSITES)})\b(?! than \d)")
_COMPARISON = re.compile(
    r"(?P<a>[A-Z][\w-]*[A-Z0-9][\w-]*)"
    r"(?P<middle>[^,;:]*\b(?:outperforms?|beats?|surpass(?:es)?|exceeds?|than)\b[^,;:]*?)"
    r"(?P<b>[A-Z][\w-]*[A-Z0-9][\w-]*)"
)


def change_details(sentence: str, other_name: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, false sentence) for every kind of detail in the sentence that can be changed."""
    changes: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = {
        "number": (_NUMBER, lambda match: _other_number(match[0], sentence)),
        "unit": (_UNIT, lambda match: _OTHER_UNITS[match[0]]),
        "negation out": (_NEGATION, lambda match: _AFFIRMATIONS[match[0]]),
        "negation in": (_AUXILIARY, lambda match: f"{match[0]} not"),
        "direction": (_DIRECTION, lambda match: _OPPOSITES[match[0]]),
        "name": (NAME, lambda _: other_name),
        "comparison": (_COMPARISON, lambda match: match["b"] + match["middle"] + match["a"]),
    }
    for kind, (pattern, change) in changes.items():
        changed = pattern.sub(change, sentence, count=1)
        if changed != sentence:
            yield kind, " ".join(changed.split())


def _other_number(number: str, sentence: str) -> str:
    """Return the number with another first digit, such that it does not occur in the sentence."""
    for first in "123456789":
        candidate = first + number[1:]
        if candidate not in sentence:
            return candidate
    return number + "7"
