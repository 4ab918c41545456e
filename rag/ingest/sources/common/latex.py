"""Conversion of LaTeX in bibliographies into text: accents, quotes, dashes, braces, commands.

Mathematics stays LaTeX. Only words with a command go through the decoder, because it is slow and
takes a bare `%` for a comment. Unknown commands stay as they are, so that no text is lost.
"""

import functools
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

_MATH = re.compile(
    r"((?<!\\)\$\$[^$]+\$\$|(?<!\\)\$[^$]*[^$\\]\$|"
    r"\\\((?:[^\\]|\\(?![()]))*\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*\\\])"
)
_WHITESPACE = re.compile(r"(\s+)")
_SPECIAL = re.compile(r"[\\{}~]")
_BRACES = re.compile(r"[{}]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
# A command that may take the next word as its argument: \L ukasz, \c c, \v s.
_OPEN_COMMAND = re.compile(r"(?<!\\)\\(?:[a-zA-Z]{1,2}|[\"'`^~=.])$")
_UNESCAPED = re.compile(r"(?<!\\)([%&#$])")
# A tilde before a number means "about"; elsewhere it is a space.
_TILDE_ABOUT = re.compile(r"(?<![\w.,:)}\]\\])~(?=[\d$])")
_TYPOGRAPHY = (("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"))
_MAX_CACHED_FRAGMENT = 100  # characters
# Macros that the decoder does not know, or writes differently.
_MACROS = (
    ("textsuperscript", "^%s"),
    ("textsubscript", "%s"),
    ("mbox", "%s"),
    ("url", "%s"),
    ("href", "%(2)s"),
)

# The decoder logs its problems with broken LaTeX. The text shows them just as well.
logging.getLogger("pylatexenc").addHandler(logging.NullHandler())


def decode_latex(text: str) -> str:
    """Return a text with its LaTeX decoded, except for mathematics."""
    if not _SPECIAL.search(text) and not _has_typography(text):
        return text
    pieces = _MATH.split(text)
    pieces[::2] = map(_decode_prose, pieces[::2])
    return "".join(pieces)


def _has_typography(text: str) -> bool:
    return any(mark in text for mark, _ in _TYPOGRAPHY)


def _decode_prose(text: str) -> str:
    text = "".join(_decode_words(_TILDE_ABOUT.sub(r"{\\textasciitilde}", text)))
    for mark, replacement in _TYPOGRAPHY:
        text = text.replace(mark, replacement)
    return text


def _decode_words(text: str) -> Iterator[str]:
    """Yield words, decoded where they contain a command, and together where braces join them."""
    pending: list[str] = []
    depth = 0
    for word in _WHITESPACE.split(text):
        if not pending and not _SPECIAL.search(word):
            yield word
            continue
        pending.append(word)
        without_escapes = _ESCAPED.sub("", word)
        depth += without_escapes.count("{") - without_escapes.count("}")
        if depth <= 0 and not word.isspace() and not _OPEN_COMMAND.search(word):
            yield _decode_fragment("".join(pending))
            pending, depth = [], 0
    if pending:
        yield _decode_fragment("".join(pending))


def _decode_fragment(text: str) -> str:
    return _decode_cached(text) if len(text) <= _MAX_CACHED_FRAGMENT else _decode(text)


def _decode(text: str) -> str:
    try:
        return _decoder()(_UNESCAPED.sub(r"\\\1", text))
    except Exception:  # whatever the decoder fails on, the words matter more than the commands
        return _BRACES.sub("", text)


_decode_cached = functools.lru_cache(maxsize=4096)(_decode)


@functools.cache
def _decoder() -> Callable[[str], str]:
    from pylatexenc import latex2text, latexwalker, macrospec

    output = latex2text.get_default_latex_context_db()
    output.add_context_category(
        "footnote",
        prepend=True,
        macros=[latex2text.MacroTextSpec(name, simplify_repl=form) for name, form in _MACROS],
    )
    output.set_unknown_macro_spec(latex2text.MacroTextSpec("", simplify_repl=_keep_verbatim))
    grammar = latexwalker.get_default_latex_context_db()
    grammar.add_context_category(
        "footnote",
        prepend=True,
        macros=[macrospec.MacroSpec(name, _arguments(name)) for name, _ in _MACROS],
    )
    decoder = latex2text.LatexNodes2Text(
        latex_context=output, math_mode="verbatim", keep_comments=True
    )
    return lambda text: str(decoder.latex_to_text(text, latex_context=grammar))


def _arguments(macro: str) -> str:
    """Return the decoder's notation for the arguments of a macro: one brace for each."""
    return "{{" if macro == "href" else "{"


def _keep_verbatim(node: Any) -> str:  # noqa: ANN401 - a node of the decoder
    return str(node.latex_verbatim())
