"""LaTeX as people write it in bibliographies, turned into text: accents, quotes, dashes, braces and commands.

Mathematics stays as it is. Only the words that hold a command go through the decoder, for it is slow and takes
a bare `%` for a comment; a command that it does not know stays visible, so that nothing is lost.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

_MATH = re.compile(
    r"((?<!\\)\$\$[^$]+\$\$|(?<!\\)\$[^$]*[^$\\]\$|\\\((?:[^\\]|\\(?![()]))*\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*\\\])"
)
_SPACE = re.compile(r"(\s+)")
_SPECIAL = re.compile(r"[\\{}~]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
# A command that may take the next word: \L ukasz, \c c, \v s.
_REACHES_ON = re.compile(r"(?<!\\)\\(?:[a-zA-Z]{1,2}|[\"'`^~=.])$")
_BARE = re.compile(r"(?<!\\)([%&#$])")
_ABOUT = re.compile(r"(?<![\w.,:)}\]\\])~(?=[\d$])")
_QUOTES = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"))
_SHORT = 100

# The decoder reports by logging on what it made of broken LaTeX; the text itself tells as much.
logging.getLogger("pylatexenc").addHandler(logging.NullHandler())


def decode(text: str) -> str:
    if not _SPECIAL.search(text) and not any(mark in text for mark, _ in _QUOTES):
        return text
    pieces = _MATH.split(text)
    return "".join(
        piece if number % 2 else _decode_prose(piece) for number, piece in enumerate(pieces)
    )


def _decode_prose(text: str) -> str:
    text = "".join(_decode_words(_ABOUT.sub(r"{\\textasciitilde}", text)))
    for mark, sign in _QUOTES:
        text = text.replace(mark, sign)
    return text


def _decode_words(text: str) -> Iterator[str]:
    """Words, those with commands decoded: together, where a brace holds them together."""
    held: list[str] = []
    depth = 0
    for word in _SPACE.split(text):
        if not held and not _SPECIAL.search(word):
            yield word
            continue
        held.append(word)
        bare = _ESCAPED.sub("", word)
        depth += bare.count("{") - bare.count("}")
        if depth <= 0 and not word.isspace() and not _REACHES_ON.search(word):
            yield _decode_fragment("".join(held))
            held, depth = [], 0
    if held:
        yield _decode_fragment("".join(held))


def _decode_fragment(text: str) -> str:
    return _decode_short(text) if len(text) <= _SHORT else _decode_any(text)


def _decode_any(text: str) -> str:
    try:
        return _decoder()(_BARE.sub(r"\\\1", text))
    except (
        Exception
    ):  # whatever the decoder stumbles over: the words are worth more than the commands
        return re.sub(r"[{}]", "", text)


_decode_short = functools.lru_cache(maxsize=4096)(_decode_any)


@functools.cache
def _decoder() -> Callable[[str], str]:
    from pylatexenc import latex2text, latexwalker, macrospec

    written = (
        ("textsuperscript", "^%s"),
        ("textsubscript", "%s"),
        ("mbox", "%s"),
        ("url", "%s"),
        ("href", "%(2)s"),
    )
    output = latex2text.get_default_latex_context_db()
    output.add_context_category(
        "footnote",
        prepend=True,
        macros=[latex2text.MacroTextSpec(name, simplify_repl=form) for name, form in written],
    )
    output.set_unknown_macro_spec(latex2text.MacroTextSpec("", simplify_repl=_verbatim))
    grammar = latexwalker.get_default_latex_context_db()
    grammar.add_context_category(
        "footnote",
        prepend=True,
        macros=[macrospec.MacroSpec(name, "{{" if name == "href" else "{") for name, _ in written],
    )
    decoder = latex2text.LatexNodes2Text(
        latex_context=output, math_mode="verbatim", keep_comments=True
    )
    return lambda text: str(decoder.latex_to_text(text, latex_context=grammar))


def _verbatim(node: Any) -> str:  # noqa: ANN401 - a node of the decoder
    return str(node.latex_verbatim())
