"""Terms of the full-text index: how texts are indexed and how questions look them up.

Scientific names contain hyphens, carets and capitals (GPT-4, IL-6, k-NN, U-Net, L^2), and people
spell them in many ways (gpt4, GPT 4, knn, unet, "L2"). A compound is therefore indexed joined and
in parts, and a question also looks up its neighboring words joined. Stemming (Snowball, English)
happens here and not in SQLite, so that counts in Python agree with lookups.
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from itertools import chain, filterfalse, pairwise

import Stemmer

from rag.text.cleaning import strip_combining_marks

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ϵ": "epsilon",
    "ζ": "zeta", "η": "eta", "θ": "theta", "ϑ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda",
    "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "ς": "sigma", "τ": "tau",
    "υ": "upsilon", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
_GREEK_TABLE = str.maketrans(_GREEK)
_COMPOUND = re.compile(r"[^\W_]+(?:[-‐‑–−^_/.+'’][^\W_]+)*\+*")
_PART = re.compile(r"\d+(?:ꞏ\d+)*|[^\W\d_ꞏ]+")
# A single small letter after an acronym belongs to it: TNFa is not "TN" and "Fa".
_CAMEL = re.compile(r"[A-Z]{2,}[a-z](?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
# Plurals without a vowel, which the stemmer leaves alone: LLMs, RNAs and "llms" (but not "rms").
_PLURAL_OF_ACRONYM = re.compile(r"(?<=[A-Z]{2})s(?![^\W\d_])")
_LOWERCASE_PLURAL = re.compile(r"^([b-df-hj-np-tv-xz]{2,}[b-df-hj-np-rtv-xz])s$")
_MATH = re.compile(r"(?<!\\)\$([^$]{1,300})\$")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
_DECIMAL = re.compile(r"(?<=\d)[.](?=\d)")
# Stands for the decimal point: 3.4 is neither 34 nor "3" and "4". FTS5 keeps it as a letter.
_DECIMAL_POINT = "ꞏ"
_BRACES = re.compile(r"[{}]")
_SCRIPT = re.compile(r"(?<=[\w^])([_^])\{([^{}]*)\}")
_LATEX = re.compile(r"\\[A-Za-z'`\"^~=.]")
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]*")
_BARE_PERCENT = re.compile(r"(?<!\\)%")
# Neighbors are joined when they are this short ("gpt 4", "u net", "k nn").
_MAX_JOINED_PIECE = 4
# Characters. Longer compounds are not words, and caching them would fill the memory.
_MAX_CACHED_COMPOUND = 60

STOP_WORDS = frozenset(
    "a about according all also am an and any are as at be because been being both but by can "
    "could did do does doing each for from get gets give had has have having he her his how i "
    "if in into is it its itself just me might more most much must my no nor not of on or other "
    "our out over own please same shall she should so some such tell than that the their them "
    "then there these they this those through to too under until up us use used uses using very "
    "was we were what when where whether which while who whom whose why will with would you "
    "your paper papers study studies work works author authors article articles show shows "
    "library abstract abstracts mention mentions discuss discusses describe describes report "
    "reports propose proposes proposed method methods approach approaches result results find "
    "say says whats whos hows wheres thats theres dont doesnt didnt isnt arent cant".split()
)


def index_text(text: str) -> str:
    """Return a text as the full-text index stores it: folded, stemmed terms joined by spaces."""
    return " ".join(map(_index_compound, _find_compounds(text)))


def query_terms(question: str) -> list[str]:
    """Return the distinct stems to look up, without stop words.

    A question that consists of stop words ("What did they use?") keeps them.
    """
    compounds = _find_compounds(question)
    terms = list(chain.from_iterable(map(_expand_compound, compounds)))
    specific = [*filter(_is_specific, terms), *_join_neighbors(compounds)]
    return list(dict.fromkeys(_stem(specific or terms)))


def _is_specific(term: str) -> bool:
    return term not in STOP_WORDS and (len(term) > 1 or term.isdigit())


def content_terms(text: str) -> list[str]:
    """Return one stem for each word of a text that is not a stop word, in order."""
    terms = map(_fold_joined, _find_compounds(text))
    return _stem(filterfalse(STOP_WORDS.__contains__, terms))


def _find_compounds(text: str) -> list[str]:
    text = _MATH.sub(lambda match: _BRACES.sub("", match[1]), _strip_latex(text))
    text = unicodedata.normalize("NFKC", _SCRIPT.sub(r"\1\2", text))
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return _COMPOUND.findall(_PLURAL_OF_ACRONYM.sub("", _DECIMAL.sub(_DECIMAL_POINT, text)))


def _index_compound(compound: str) -> str:
    if len(compound) <= _MAX_CACHED_COMPOUND:
        return _stem_expanded_cached(compound)
    return _stem_expanded(compound)


def _stem_expanded(compound: str) -> str:
    return " ".join(_stem(_expand_compound(compound)))


# Words recur often in a library, so the cache saves five sixths of the time.
_stem_expanded_cached = lru_cache(maxsize=1 << 16)(_stem_expanded)


def _expand_compound(compound: str) -> list[str]:
    """Return the distinct folded forms of a compound: joined, its parts, and parts in CamelCase."""
    parts = _PART.findall(compound)
    camel_parts = chain.from_iterable(map(_split_camel_case, parts))
    forms = map(_fold, [_join_letters(compound), *parts, *camel_parts])
    return list(dict.fromkeys(forms))


def _split_camel_case(part: str) -> list[str]:
    rest = part[1:]
    is_mixed = part.isalpha() and rest != rest.lower() and rest != rest.upper()
    return _CAMEL.findall(part) if is_mixed else []


def _join_letters(compound: str) -> str:
    return "".join(filter(str.isalnum, compound))


def _join_neighbors(compounds: list[str]) -> list[str]:
    """Join short neighboring words, which may be one name: "gpt 4", "u net"."""
    pieces = map(_fold_joined, compounds)
    joined = []
    for left, right in pairwise(pieces):
        is_short = max(len(left), len(right)) <= _MAX_JOINED_PIECE
        if is_short and left not in STOP_WORDS and right not in STOP_WORDS:
            joined.append(left + right)
    return joined


def _fold_joined(compound: str) -> str:
    return _fold(_join_letters(compound))


def _fold(term: str) -> str:
    """Remove case and accents, and spell Greek letters out."""
    greek_spelled_out = term.casefold().translate(_GREEK_TABLE)
    return strip_combining_marks(unicodedata.normalize("NFKD", greek_spelled_out))


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def _stem(terms: Iterable[str]) -> list[str]:
    return list(map(_strip_lowercase_plural, _stemmer().stemWords(list(terms))))


def _strip_lowercase_plural(stem: str) -> str:
    return _LOWERCASE_PLURAL.sub(r"\1", stem)


def _strip_latex(text: str) -> str:
    if not _LATEX.search(text):
        return text
    try:
        return _latex_converter()(text)
    except (RecursionError, LookupError):  # thousands of nested braces, missing arguments
        return _LATEX_COMMAND.sub(" ", text)


@cache
def _latex_converter() -> Callable[[str], str]:
    # Imported here because only libraries with LaTeX need it.
    from pylatexenc.latex2text import LatexNodes2Text

    # Abstracts often contain incomplete commands, which are not worth a warning.
    logging.getLogger("pylatexenc").setLevel(logging.ERROR)
    converter = LatexNodes2Text(math_mode="text", keep_comments=True)

    def convert(text: str) -> str:
        # A bare percent sign belongs to a figure in an abstract, but starts a comment in LaTeX.
        return str(converter.latex_to_text(_BARE_PERCENT.sub(r"\\%", text)))

    return convert
