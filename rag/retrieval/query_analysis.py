"""What a question asks for, as far as its words tell: several papers, a figure, a certain thing, certain names.

The rules are for English. They are few and coarse on purpose: what they say is only ever weighed together with what
was found (`rag.answering.evidence`), by weights fitted on questions with known answers.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rag.errors import UsageError
from rag.text.terms import content_terms

# Characters; longer questions are pasted papers, which would only be cut off by the model.
LONGEST_QUESTION = 2_000

# What a question wants several papers for: one sentence of each then says more than three of one.
_SEVERAL = re.compile(
    r"\b(?:(?<!\b[ioab]n )(?<!\bof )(?<!\bfor )(?:which|what)(?! the\b| do| did\b|'s the\b| is the\b)|list|name|any|"
    r"all|find|show)\b[^.?!]{0,40}\b(?:works|methods|approaches|models|techniques|algorithms|architectures|networks|"
    r"datasets|benchmarks|systems|strategies|ways|frameworks|libraries)\b"
    r"|(?<!\bof the )(?<!\bof my )(?<!\bof our )\b(?:papers|studies)\b"
    r"|\b(?:overview|survey|summari[sz]e|how do people|what(?:'s| is| else is) there|"
    r"is there any(?:thing)? (?:on|about|here|else)|is there (?:any )?(?:work|research|literature)|"
    r"any(?:thing)? (?:on|about|here)|what do(?:es)? (?:we|i|our|my)\b[^?]{0,20}\b(?:have|hold)|"
    r"(?:do|have) (?:we|i) (?:have |got )?any(?:thing)?)\b",
    re.IGNORECASE,
)
# Why: the answer is the problem, which opens an abstract, as often as what is done about it.
_WHY = re.compile(
    r"\b(why|how come|reasons?|what makes|what(?:'s| is| was) (?:wrong|the (?:problem|matter|trouble|drawback)))\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"\b(how (?:many|much|long|fast|slow|large|big|small|often|high|low|far|strong)|what|which)\b(?!\s+(?:the|a|an)\b)"
    r"(?:(?: is| was| are| were|'s) the\b)?",
    re.IGNORECASE,
)
# Where a question asks by "which", rather than hanging a clause on it: "corpora in which some labels are missing".
_ASKS_HERE = re.compile(
    r"(?:^|[,:;.?!(–—]|\b(?:and|or|but|so)\b)\s*(?:(?:on|in|at|by|with|to|from|for|of|under|over|into)\s+)?$",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(versus|vs|compared?|than|against|differ\w*|between|or|each|both|either)\b", re.IGNORECASE
)
# As `[\w./+-]*\w`, in time with the length of a text and not its square.
_WORD = re.compile(r"(?<![\w./+-])[./+-]*+\w++(?:[./+-]++\w++)*+")
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
# Of so many words the last is what is asked for; more of them run on into the clause.
_SURELY_A_THING = 2
# Nobody finds the number of papers in a paper.
_PAPERS = frozenset("papers works studies articles".split())
# Things that "what" asks for as plainly as "which" does.
_CONCRETE = frozenset(
    "device hardware gpu machine processor dataset datasets data optimizer optimiser framework language licence "
    "license backbone".split()
)
# Things that a text speaks of by their names: a paper that trains "on one GPU" does not tell which GPU it was.
_BY_NAME = {
    re.compile(names, re.IGNORECASE): kinds.split()
    for names, kinds in {
        r"\b(nvidia|amd|intel|geforce|rtx|quadro|titan|jetson|tesla|raspberry|snapdragon|iphone|galaxy|xeon|epyc|"
        r"cortex|tpu|fpga|[avpkhtm]\d0{1,2}|\d{4} ?ti)\b": "device hardware gpu gpus machine processor phone",
        r"\b(sgd|adam\w*|rmsprop|adagrad|adadelta|lion|lamb|lars|muon|l-?bfgs|momentum)\b": "optimizer optimiser",
        r"\b(pytorch|tensorflow|jax|keras|mxnet|caffe|flax|triton)\b": "framework",
        r"\b(mit|apache|gpl\w*|bsd|creative commons|cc)\b": "licence license",
    }.items()
}
# What is told by a figure: by its name, or by a unit that stands for it.
_MEASURES = frozenset(
    "accuracy error perplexity score points rate percentage percent fraction share epoch size number factor speedup "
    "speed-up fid bleu dice f1 auc latency throughput ratio map iou wer gain drop reduction flops top-1".split()
)
_PERCENT = "percentage percent fraction share accuracy points rate score error drop gain reduction cost throughput top-1"
_FACTOR = "factor ratio speedup speed-up cost reduction drop gain latency throughput size"
_UNITS = {
    r"\s?(?:%|percent)|\s?(?:percentage )?points?": _PERCENT,
    r"\s?(?:x\b|×|times|-?fold)": _FACTOR,
    r"\s?(?:h|hrs?|hours?)\b": "hours time",
    r"\s?(?:m?s|sec|seconds?|minutes?|milliseconds?)\b": "seconds minutes latency time",
    r"\s?(?:days?|weeks?|months?|years?)\b": "days weeks months years time",
    r"\s?(?:[MGT]i?B|megabytes?|gigabytes?)\b": "megabytes gigabytes size memory",
    r"\s?(?:[MBK]|million|billion)\b": "size",
    r"[MBK]\b": "parameters",
}
# A number before its unit, in digits or, as in "nine months", in words.
_NUMBER = r"(?:\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b)"
_UNITS_OF = {
    name: re.compile(
        _NUMBER
        + "(?:"
        + "|".join(unit for unit, names in _UNITS.items() if name in names.split())
        + ")"
    )
    for name in {name for names in _UNITS.values() for name in names.split()}
}
_NEVER = re.compile(r"(?!)")
_WITH_UNIT = re.compile(_NUMBER + "(?:" + "|".join(_UNITS) + r")|\d,?\d{3}")
_FIGURE = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|half|halves|halved|twice|doubl\w+|thirds?|quarter|hundred|"
    r"thousand|million|billion|\w+fold)\b",
    re.IGNORECASE,
)
_FACTOR_IN_WORDS = re.compile(
    r"\b(?:\w+fold|twice|doubl\w+|tripl\w+|half|halv\w+)\b", re.IGNORECASE
)
# "30 annotated training images": how far from its figure a thing that is counted may stand, in words.
_NEAR = 3
# Acronyms, GPT-4, GraphRAG, U-Net: what is called by a name of its own.
_NAME = re.compile(
    r"\b(?:[A-Z]{2}[\w-]*|[A-Za-z]+\d[\w-]*|(?=[^\Wa-z]*+[a-z][^\WA-Z]*+[A-Z])\w[\w-]*|[A-Z]\w*-[\w-]+)"
    r"(?:(?<=\d)\.\d[\w-]*)*(?<![-_])(?!\w)"
)
# A capital within a sentence: Swahili, Hessian.
_CAPITALISED = re.compile(r"(?<=[a-z,;)] )[A-Z][a-z]{2,}(?![\w-])")
_NO_NAME = re.compile(r"(?:[CGT]PU|FLOP|[MG]B)s?")
_NAME_LIKE = re.compile(r"-(?:style|based|like|free|type|sized?|level|aware)$", re.IGNORECASE)
_LONGEST_OWN_NAME = 2
_WHERE = re.compile(
    r"\b(code|github|repository|repo|website|project page|url|links? to|download)\b|open.?sourced?\W*$",
    re.IGNORECASE,
)
_TELLS_WHERE = re.compile(
    r"https?://|www\.|\b(code|models?|weights|data(?:set)?s?|implementation)\b[^.]{0,60}\b(available|released|public\w*)",
    re.IGNORECASE,
)


def checked_question(question: str) -> str:
    """The question without the space around it. Raises `UsageError` when it cannot be asked."""
    text = question.strip()
    if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError("the question holds bytes that are no text")
    if not text:
        raise UsageError("the question is empty")
    if len(text) > LONGEST_QUESTION:
        raise UsageError(
            f"the question has {len(text):,} characters; at most {LONGEST_QUESTION:,} are read"
        )
    return text


@dataclass(frozen=True, slots=True)
class QueryAnalysis:
    """What a question wants.

    `several` papers; a `figure`; to know `where` code can be had, or `why` something is so. It `compares` when what it
    names may stand in different papers. `thing` is what stands after "how many" or "which", its head noun last;
    `counted` when so many of it are wanted.
    """

    several: bool
    compares: bool
    figure: bool
    where: bool
    asks_reason: bool
    counted: bool
    thing: tuple[str, ...]
    names: tuple[str, ...]

    def figure_missing(self, sentences: Sequence[str]) -> bool:
        """Whether a figure is asked for and no sentence holds one, of the thing asked for where that is known."""
        return self.figure and not any(self._tells_figure(sentence) for sentence in sentences)

    def _tells_figure(self, sentence: str) -> bool:
        if not (_FIGURE.search(sentence) and self.thing):
            return bool(_FIGURE.search(sentence))
        head, terms = self._head, content_terms(sentence)
        if self.counted and not self._of_this_kind(terms):
            return False
        unit = _UNITS_OF.get(head, _NEVER)
        if unit.search(sentence) or (head in _FACTOR.split() and _FACTOR_IN_WORDS.search(sentence)):
            return True
        if (
            not self.counted and head not in _MEASURES
        ):  # how much of it is saved: a percentage tells, whatever of
            return bool(_WITH_UNIT.search(sentence) or _FACTOR_IN_WORDS.search(sentence))
        wanted = tuple(content_terms(head))
        places = [
            at for at, term in enumerate(terms) if wanted and term.endswith(wanted)
        ]  # MFLOPs are FLOPs
        if not self.counted:
            return bool(places)
        near = [terms[max(0, at - _NEAR) : at + 1] for at in places]
        return any(_FIGURE.search(term) for before in near for term in before)

    def _of_this_kind(self, terms: Sequence[str]) -> bool:
        kinds = content_terms(" ".join(word for word in self.thing if not _FIGURE.search(word)))[
            :-1
        ]
        return set(kinds) <= set(terms)

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
        if not self.thing or self.figure or self.several:
            return False
        if kind := next((names for names, kinds in _BY_NAME.items() if self._is_of(kinds)), None):
            return not any(map(kind.search, sentences))
        heads = self.thing[-1:] if len(self.thing) <= _SURELY_A_THING else self.thing
        wanted = content_terms(" ".join(heads))
        return bool(wanted) and not terms.intersection(wanted)

    def _is_of(self, kinds: Iterable[str]) -> bool:
        return any(word.casefold() in kinds for word in self.thing)

    def names_missing(self, terms: set[str], text: str) -> tuple[str, ...]:
        """Those of the question's names that the text, whose terms are given, neither holds nor spells out."""
        return tuple(
            name for name in self.names if not (_is_in(name, terms) or _spelled_out(name, text))
        )


def analyze_query(question: str) -> QueryAnalysis:
    """What the question asks for."""
    asks, thing = _thing(question)
    names = (
        _NAME_LIKE.sub("", name)
        for name in [*_NAME.findall(question), *_CAPITALISED.findall(question)]
    )
    return QueryAnalysis(
        several=bool(_SEVERAL.search(question)),
        compares=bool(_COMPARES.search(question)),
        figure=(asks.startswith("how") and not _PAPERS.intersection(thing))
        or any(word.casefold() in _MEASURES for word in thing),
        where=bool(_WHERE.search(question)),
        asks_reason=bool(_WHY.search(question)),
        counted=asks in ("how many", "how long"),
        thing=thing,
        names=tuple(name for name in dict.fromkeys(names) if not _NO_NAME.fullmatch(name)),
    )


def own_names(title: str) -> set[str]:
    """What a title calls its paper's own: acronyms, GraphRAG, and the one or two words before a colon."""
    first, colon, _ = title.partition(":")
    return {
        *_NAME.findall(title),
        *([first] if colon and len(first.split()) <= _LONGEST_OWN_NAME else []),
    }


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
        if asks == "which" and not _ASKS_HERE.search(question[: found.start()]):
            continue
        if (asks == "which" or _CONCRETE.intersection(map(str.casefold, thing))) and not first[0]:
            first = asks, thing
    return first


def _is_in(name: str, terms: set[str]) -> bool:
    """Whether a name is there in one piece, or in all its parts: "KV-cache" is in "the KV cache"."""
    parts = [content_terms(part) for part in re.split(r"[-_/]", name)]
    return bool(terms.intersection(content_terms(name))) or all(
        part and terms.issuperset(part) for part in parts
    )


def _spelled_out(name: str, text: str) -> bool:
    """Whether an acronym's letters begin consecutive words of the text: CNN, convolutional neural network."""
    letters = name.rstrip("s").casefold()
    if not letters.isalpha() or len(letters) < 2:
        return False
    initials = "".join(word[0] for word in re.findall(r"[^\W\d_]+", text.casefold()))
    return letters in initials
