"""What a question asks for, as far as its words tell: several papers, a figure, a certain thing, certain names.

The rules are for English. They are few and coarse on purpose: what they say is only ever weighed together with what
was found (`rag.read`), by weights fitted on questions with known answers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rag.text.terms import content_terms

# What a question wants several papers for: one sentence of each then says more than three of one.
_SEVERAL = re.compile(
    r"\b(which|what|list|name|any|all|find|show|how do)\b[^.?!]{0,40}\b(papers|works|studies|methods|approaches|models|"
    r"techniques|algorithms|architectures|networks|datasets|benchmarks|systems|strategies|ways|frameworks|libraries|"
    r"ones|people)\b"
    r"|\b(overview|survey|summari[sz]e|papers (on|about)|what (is there|do (we|i) have|does my)|is there any|"
    r"anything (on|about)|do (i|we) have any(thing)?)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(how (?:many|much|long|fast|large|big|often|high|far)|what|which)\b(?!\s+(?:the|a|an)\b)"
    r"(?:(?: is| was| are| were|'s) the\b)?",
    re.IGNORECASE,
)
_COMPARES = re.compile(r"\b(versus|vs|compared?|than|against|differ\w*|between|or)\b", re.IGNORECASE)
_WORD = re.compile(r"[\w./+-]*\w")
# Articles, and what says how much of a thing rather than which: "how much *shorter*", "which *type* of mesh".
_NOT_OF_THING = re.compile(
    r"the|a|an|one|ones|type|types|kind|kinds|sort|more|less|fewer|better|worse|best|worst|largest|most|extra|actually|"
    r"(?:fast|slow|quick|high|low|bigg|small|larg|short|long|cheap|light|strong|weak|deep|wid|great)er",
    re.IGNORECASE,
)
# The thing asked for ends where its clause goes on: "which *depth camera* does it need".
_ENDS_THING = frozenset(
    "is are was were did do does can could has have had will would should may might be been being of in on at by with "
    "for to from over under when where if that which who than then as and or but it they we i you this these those not "
    "after before per while must seen reports used use using reach get gets need needs take takes give gives".split()
)
_LONGEST_THING = 5
# Nobody finds the number of papers in a paper.
_PAPERS = frozenset("papers works studies articles".split())
# Things that "what" asks for as plainly as "which" does.
_CONCRETE = frozenset("device hardware gpu machine dataset datasets data optimizer framework language licence".split())
# What is told by a figure: by its name, or by a unit that stands for it.
_MEASURES = frozenset(
    "accuracy error perplexity score points rate percentage percent fraction share epoch size number factor speedup "
    "speed-up fid bleu dice f1 auc latency throughput ratio map iou wer gain drop reduction flops top-1".split()
)
_PERCENT = (
    "percentage percent fraction share accuracy points rate score error drop gain reduction cost throughput top-1"
)
_FACTOR = "factor ratio speedup speed-up cost reduction drop gain latency throughput size"
_UNITS = {
    r"\s?(?:%|percent)|\s?(?:percentage )?points?": _PERCENT,
    r"\s?(?:x\b|×|times|-?fold)": _FACTOR,
    r"\s?(?:h|hrs?|hours?)\b": "hours time",
    r"\s?(?:m?s|sec|seconds?|minutes?|milliseconds?)\b": "seconds minutes latency time",
    r"\s?(?:days?|weeks?)\b": "days time",
    r"\s?(?:[MGT]i?B|megabytes?|gigabytes?)\b": "megabytes gigabytes size memory",
    r"\s?(?:[MBK]|million|billion)\b": "size",
    r"[MBK]\b": "parameters",
}
_UNITS_OF = {
    name: re.compile(r"\d(?:" + "|".join(unit for unit, names in _UNITS.items() if name in names.split()) + ")")
    for name in {name for names in _UNITS.values() for name in names.split()}
}
_FIGURE = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|half|halves|halved|twice|doubl\w+|thirds?|quarter|hundred|"
    r"thousand|million|billion|\w+fold)\b",
    re.IGNORECASE,
)
_FACTOR_IN_WORDS = re.compile(r"\b(?:\w+fold|twice|doubl\w+|tripl\w+|half|halv\w+)\b", re.IGNORECASE)
# "30 annotated training images": how far from its figure a thing that is counted may stand, in words.
_NEAR = 3
# Acronyms, GPT-4, GraphRAG, U-Net: what is called by a name of its own.
_NAME = re.compile(r"\b(?:[A-Z]{2,}[\w-]*|[A-Za-z]+\d[\w-]*|\w*[a-z]\w*[A-Z]\w*|[A-Z]\w*-[\w-]+)(?<![-_])\b")
_NAME_LIKE = re.compile(r"-(?:style|based|like|free|type|sized?|level|aware)$", re.IGNORECASE)
_WHERE = re.compile(
    r"\b(code|github|repository|repo|website|project page|url|link|download)\b|open.?sourced?\W*$", re.IGNORECASE
)
_TELLS_WHERE = re.compile(
    r"https?://|www\.|\b(code|models?|weights|data(?:set)?s?|implementation)\b[^.]{0,60}\b(available|released|public\w*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a question wants.

    `several` papers; a `figure`; to know `where` code can be had. It `compares` when what it names may stand in
    different papers. `thing` is what stands after "how many" or "which", its head noun last; `counted` when so many
    of it are wanted.
    """

    several: bool
    compares: bool
    figure: bool
    where: bool
    counted: bool
    thing: tuple[str, ...]
    names: tuple[str, ...]

    def figure_missing(self, sentences: Sequence[str]) -> bool:
        """Whether a figure is asked for and no sentence holds one, of the thing asked for where that is known."""
        return self.figure and not any(self._tells_figure(sentence) for sentence in sentences)

    def _tells_figure(self, sentence: str) -> bool:
        if not _FIGURE.search(sentence):
            return False
        if not self.thing:
            return True
        head = self._head
        unit = _UNITS_OF.get(head)
        if unit and (unit.search(sentence) or (head in _FACTOR.split() and _FACTOR_IN_WORDS.search(sentence))):
            return True
        terms, wanted = content_terms(sentence), tuple(content_terms(head))
        places = [at for at, term in enumerate(terms) if wanted and term.endswith(wanted)]  # MFLOPs are FLOPs
        if not self.counted:
            return bool(places)
        near = [terms[max(0, at - _NEAR) : at + 1] for at in places]
        return any(_FIGURE.search(term) for before in near for term in before)

    @property
    def _head(self) -> str:
        """The word of the thing that a sentence must speak of: what is measured, else the last."""
        words = [word.casefold() for word in self.thing]
        return next((word for word in words if word in _MEASURES), words[-1])

    def thing_missing(self, terms: set[str], sentences: Sequence[str]) -> bool:
        """Whether the thing asked for goes unmentioned among the terms of a text, or nothing says where it can be had.

        A thing that is told by a figure is left to `figure_missing`.
        """
        if self.where:
            return not any(map(tells_where, sentences))
        head = content_terms(self.thing[-1]) if self.thing and not (self.figure or self.several) else []
        return bool(head) and not terms.intersection(head)

    def names_missing(self, terms: set[str], text: str) -> tuple[str, ...]:
        """Those of the question's names that the text, whose terms are given, neither holds nor spells out."""
        return tuple(name for name in self.names if not (_is_in(name, terms) or _spelled_out(name, text)))


def understand(question: str) -> Asked:
    """What the question asks for."""
    asks, thing = _thing(question)
    names = (_NAME_LIKE.sub("", name) for name in _NAME.findall(question))
    return Asked(
        several=bool(_SEVERAL.search(question)),
        compares=bool(_COMPARES.search(question)),
        figure=(asks.startswith("how") and not _PAPERS.intersection(thing))
        or any(word.casefold() in _MEASURES for word in thing),
        where=bool(_WHERE.search(question)),
        counted=asks == "how many",
        thing=thing,
        names=tuple(dict.fromkeys(names)),
    )


def tells_where(sentence: str) -> bool:
    """Whether a sentence says where code or data can be had: it names the method and says nothing about it."""
    return bool(_TELLS_WHERE.search(sentence))


def _thing(question: str) -> tuple[str, tuple[str, ...]]:
    """The words that ask, and those of the thing asked for: a figure's if there is one, else what "which" asks for."""
    first: tuple[str, tuple[str, ...]] = ("", ())
    for found in _ASKS.finditer(question):
        asks = " ".join(found[1].casefold().split())
        words: list[str] = []
        for word in _WORD.findall(question[found.end() :])[: _LONGEST_THING + 1]:
            if word.casefold() in _ENDS_THING:
                break
            words += [] if _NOT_OF_THING.fullmatch(word) else [word]
        thing = tuple(words)
        if asks.startswith("how") or any(word.casefold() in _MEASURES for word in thing):
            return asks, ("time",) if asks == "how long" else thing
        if (asks == "which" or _CONCRETE.intersection(map(str.casefold, thing))) and not first[0]:
            first = asks, thing
    return first


def _is_in(name: str, terms: set[str]) -> bool:
    """Whether a name is there in one piece, or in all its parts: "KV-cache" is in "the KV cache"."""
    parts = [content_terms(part) for part in re.split(r"[-_/]", name)]
    return bool(terms.intersection(content_terms(name))) or all(part and terms.issuperset(part) for part in parts)


def _spelled_out(name: str, text: str) -> bool:
    """Whether an acronym's letters begin consecutive words of the text: CNN, convolutional neural network."""
    letters = name.rstrip("s").casefold()
    if not letters.isalpha() or len(letters) < 2:
        return False
    initials = "".join(word[0] for word in re.findall(r"[^\W\d_]+", text.casefold()))
    return letters in initials
