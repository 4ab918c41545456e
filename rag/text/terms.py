"""Terms of the full-text index: how a text is indexed and how a question looks it up.

Scientific names carry hyphens, carets and capitals inside: GPT-4, IL-6, k-NN, U-Net, L^2. People type
them in every way (gpt4, GPT 4, knn, unet, "L2"). So a compound is indexed joined and in its parts,
and a question also looks up its neighbouring words joined. Words are stemmed here (Snowball, English),
so that counting terms in Python and looking them up in SQLite agree.
"""

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from itertools import pairwise

import Stemmer

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ϵ": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "ϑ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu",
    "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "ς": "sigma", "τ": "tau", "υ": "upsilon", "φ": "phi",
    "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega",
}  # fmt: skip
_GREEK_TABLE = str.maketrans(_GREEK)
_COMPOUND = re.compile(r"[^\W_]+(?:[-‐‑–−^_/.+'’][^\W_]+)*\+*")
_PART = re.compile(r"\d+(?:ꞏ\d+)*|[^\W\d_ꞏ]+")
# The small letter after an acronym belongs to it: TNFa is no "TN" and "Fa".
_CAMEL = re.compile(r"[A-Z]{2,}[a-z](?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")
# Plurals that the stemmer, looking for a vowel, leaves alone: LLMs, RNAs, and small "llms" (yet not "rms").
_ACRONYMS = re.compile(r"(?<=[A-Z]{2})s(?![^\W\d_])")
_SMALL_ACRONYMS = re.compile(r"^([b-df-hj-np-tv-xz]{2,}[b-df-hj-np-rtv-xz])s$")
_MATH = re.compile(r"(?<!\\)\$([^$]{1,300})\$")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
_DECIMAL = re.compile(r"(?<=\d)[.](?=\d)")
# Stands for the decimal point, so that 3.4 is neither 34 nor "3" and "4": FTS5 keeps it, nobody types it.
_POINT = "ꞏ"
_BRACES = re.compile(r"[{}]")
_SCRIPT = re.compile(r"(?<=[\w^])([_^])\{([^{}]*)\}")
_LATEX = re.compile(r"\\[A-Za-z'`\"^~=.]")
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]*")
# Joining neighbours serves short pieces ("gpt 4", "u net", "k nn"); longer words are no compounds.
_LONGEST_JOINED_PIECE = 4
# Characters; what is longer is no word, and would fill the memory.
_LONGEST_REMEMBERED = 60

STOP_WORDS = frozenset(
    "a about according all also am an and any are as at be because been being both but by can could did do does "
    "doing each for from get gets give had has have having he her his how i if in into is it its itself just me "
    "might more most much must my no nor not of on or other our out over own please same shall she should so some "
    "such tell than that the their them then there these they this those through to too under until up us use used "
    "uses using very was we were what when where whether which while who whom whose why will with would you your "
    "paper papers study studies work works author authors article articles show shows library abstract abstracts "
    "mention mentions discuss discusses describe describes report reports propose proposes proposed method methods "
    "approach approaches result results find say says whats whos hows wheres thats theres dont doesnt didnt isnt "
    "arent cant".split()
)


def index_text(text: str) -> str:
    """The text as the full-text index stores it: folded terms, compounds joined and in parts."""
    return " ".join(
        _remembered(one) if len(one) <= _LONGEST_REMEMBERED else _indexed(one)
        for one in _compounds(text)
    )


def query_terms(question: str) -> list[str]:
    """Distinct stems to look up, without stop words; all of them when nothing else is left.

    A question that is all stop words ("What did they use?") still looks something up.
    """
    compounds = _compounds(question)
    terms = [term for compound in compounds for term in _forms(compound)]
    kept = [term for term in terms if term not in STOP_WORDS and (len(term) > 1 or term.isdigit())]
    return list(dict.fromkeys(_stem(kept + _joined_neighbours(compounds) or terms)))


def content_terms(text: str) -> list[str]:
    """One stem for each word of the text that is no stop word: what a question or a sentence is about."""
    return _stem(
        term for term in (_fold(_joined(c)) for c in _compounds(text)) if term not in STOP_WORDS
    )


def _compounds(text: str) -> list[str]:
    plain = _MATH.sub(lambda match: _BRACES.sub("", match[1]), _without_latex(text))
    plain = unicodedata.normalize("NFKC", _SCRIPT.sub(r"\1\2", plain))
    folded = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), plain)
    return _COMPOUND.findall(_ACRONYMS.sub("", _DECIMAL.sub(_POINT, folded)))


def _indexed(compound: str) -> str:
    return " ".join(_stem(_forms(compound)))


# The words of a library are few beside their occurrences: remembered, they take a sixth of the time.
_remembered = lru_cache(maxsize=1 << 16)(_indexed)


def _forms(compound: str) -> list[str]:
    pieces = _PART.findall(compound)
    forms = [
        _joined(compound),
        *pieces,
        *(part for piece in pieces for part in _camel_parts(piece)),
    ]
    return list(dict.fromkeys(map(_fold, forms)))


def _camel_parts(piece: str) -> list[str]:
    rest = piece[1:]
    is_mixed = piece.isalpha() and rest != rest.lower() and rest != rest.upper()
    return _CAMEL.findall(piece) if is_mixed else []


def _joined(compound: str) -> str:
    return "".join(c for c in compound if c.isalnum())


def _joined_neighbours(compounds: list[str]) -> list[str]:
    pieces = [_fold(_joined(compound)) for compound in compounds]
    return [
        left + right
        for left, right in pairwise(pieces)
        if max(len(left), len(right)) <= _LONGEST_JOINED_PIECE and not {left, right} & STOP_WORDS
    ]


def _fold(term: str) -> str:
    decomposed = unicodedata.normalize("NFKD", term.casefold().translate(_GREEK_TABLE))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


@cache
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def _stem(terms: Iterable[str]) -> list[str]:
    return [_SMALL_ACRONYMS.sub(r"\1", stem) for stem in _stemmer().stemWords(list(terms))]


def _without_latex(text: str) -> str:
    if not _LATEX.search(text):
        return text
    try:
        return _latex_converter()(text)
    except (
        RecursionError,
        LookupError,
    ):  # braces thousands deep, commands without arguments: no reason to fail
        return _LATEX_COMMAND.sub(" ", text)


@cache
def _latex_converter() -> Callable[[str], str]:
    from pylatexenc.latex2text import LatexNodes2Text  # only libraries with LaTeX pay for it

    logging.getLogger("pylatexenc").setLevel(
        logging.ERROR
    )  # half a command is no news in an abstract
    nodes = LatexNodes2Text(math_mode="text", keep_comments=True)
    # A bare per cent sign is a figure in an abstract, and a comment to LaTeX.
    return lambda text: str(nodes.latex_to_text(re.sub(r"(?<!\\)%", r"\\%", text)))
