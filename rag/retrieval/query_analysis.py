"""Analyze what a question asks for: several papers, a quantity, a target, or certain names.

The rules are coarse and cover English only. They never decide alone: the confidence, a model fitted
on questions with known answers, combines them with the similarity of the retrieved sentences
(`rag.answering.evidence`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rag.errors import UsageError
from rag.text.quantities import NUMBER_WORDS, TIME_UNITS
from rag.text.terms import content_terms

# Longer inputs are pasted papers, which the models would truncate anyway.
MAX_QUESTION_CHARS = 2_000

# Asks for several papers: one sentence from each says more than three from one.
_LIST_QUESTION = re.compile(
    r"\b(?:(?<!\b[ioab]n )(?<!\bof )(?<!\bfor )(?:which|what)"
    r"(?! the\b| do| did\b|'s the\b| is the\b)|list|name|any|all|find|show)\b[^.?!]{0,40}"
    r"\b(?:works|methods|approaches|models|techniques|algorithms|architectures|networks|datasets|"
    r"benchmarks|systems|strategies|ways|frameworks|libraries)\b"
    r"|(?<!\bof the )(?<!\bof my )(?<!\bof our )\b(?:papers|studies)\b"
    r"|\b(?:overview|survey|summari[sz]e|how do people|what(?:'s| is| else is) there|"
    r"is there any(?:thing)? (?:on|about|here|else)|is there (?:any )?(?:work|research|literature)|"
    r"any(?:thing)? (?:on|about|here)|what do(?:es)? (?:we|i|our|my)\b[^?]{0,20}\b(?:have|hold)|"
    r"(?:do|have) (?:we|i) (?:have |got )?any(?:thing)?)\b",
    re.IGNORECASE,
)
# The answer to "why" is often the problem, which the first sentence of an abstract states.
_QUESTION_WORDS = re.compile(
    r"\b(how (?:many|much|long|fast|slow|large|big|small|often|high|low|far|strong)|what|which)\b"
    r"(?!\s+(?:the|a|an)\b)(?:(?: is| was| are| were|'s) the\b)?",
    re.IGNORECASE,
)
# Text before an interrogative "which", unlike the one in "corpora in which labels are missing".
_BEFORE_INTERROGATIVE_WHICH = re.compile(
    r"(?:^|[,:;.?!(–—]|\b(?:and|or|but|so)\b)\s*"
    r"(?:(?:on|in|at|by|with|to|from|for|of|under|over|into)\s+)?$",
    re.IGNORECASE,
)
_COMPARISON = re.compile(
    r"\b(versus|vs|compared?|than|against|differ\w*|between|or|each|both|either)\b", re.IGNORECASE
)
# Like `[\w./+-]*\w`, but possessive: linear time instead of quadratic.
_WORD = re.compile(r"(?<![\w./+-])[./+-]*+\w++(?:[./+-]++\w++)*+")
# Articles and modifiers that do not name the target: "how much *shorter*", "which *type* of mesh".
_NOT_IN_TARGET = re.compile(
    r"the|a|an|one|ones|type|types|kind|kinds|sort|more|less|fewer|better|worse|best|worst|"
    r"largest|most|extra|actually|"
    r"(?:fast|slow|quick|high|low|bigg|small|larg|short|long|cheap|light|strong|weak|deep|wid|"
    r"great)er",
    re.IGNORECASE,
)
# Words that end the target: "which *depth camera* does it need".
_ENDS_TARGET = frozenset(
    "is are was were did do does can could has have had will would should may might be been being "
    "of in on at by with for to from over under when where if that which who than then as and or "
    "but it they we i you this these those not after before per while must seen reports used use "
    "using reach get gets need needs take takes give gives".split()
)
_MAX_TARGET_WORDS = 5
# Up to this length, the last word is the head noun; longer targets include part of the clause.
_MAX_HEAD_LAST_WORDS = 2
# No abstract says how many papers a library contains.
_PAPER_NOUNS = frozenset("papers works studies articles".split())
# Targets that are as clear after "what" as after "which".
_CONCRETE_TARGETS = frozenset(
    "device hardware gpu machine processor dataset datasets data optimizer optimiser framework "
    "language licence license backbone".split()
)
# Targets that only a proper name answers: "trained on one GPU" does not say which GPU.
_NAMED_TARGETS = (
    (
        "device hardware gpu gpus machine processor phone".split(),
        re.compile(
            r"\b(nvidia|amd|intel|geforce|rtx|quadro|titan|jetson|tesla|raspberry|snapdragon|"
            r"iphone|galaxy|xeon|epyc|cortex|tpu|fpga|[avpkhtm]\d0{1,2}|\d{4} ?ti)\b",
            re.IGNORECASE,
        ),
    ),
    (
        "optimizer optimiser".split(),
        re.compile(
            r"\b(sgd|adam\w*|rmsprop|adagrad|adadelta|lion|lamb|lars|muon|l-?bfgs|momentum)\b",
            re.IGNORECASE,
        ),
    ),
    (
        ["framework"],
        re.compile(r"\b(pytorch|tensorflow|jax|keras|mxnet|caffe|flax|triton)\b", re.IGNORECASE),
    ),
    (
        "licence license".split(),
        re.compile(r"\b(mit|apache|gpl\w*|bsd|creative commons|cc)\b", re.IGNORECASE),
    ),
)
# Nouns whose value is a number.
_MEASURES = frozenset(
    "accuracy error perplexity score points rate percentage percent fraction share epoch size "
    "number factor speedup speed-up fid bleu dice f1 auc latency throughput ratio map iou wer gain "
    "drop reduction flops top-1".split()
)
_PERCENT_MEASURES = tuple(
    "percentage percent fraction share accuracy points rate score error drop gain reduction cost "
    "throughput top-1".split()
)
_FACTOR_MEASURES = tuple(
    "factor ratio speedup speed-up cost reduction drop gain latency throughput size".split()
)
_HOURS = "|".join(TIME_UNITS["hours"])
_LONGER_TIMES = "|".join(
    (*TIME_UNITS["days"], *TIME_UNITS["weeks"], *TIME_UNITS["months"], *TIME_UNITS["years"])
)
# Pattern of a unit after a number -> the targets that such a number can measure.
_UNITS = {
    r"\s?(?:%|percent)|\s?(?:percentage )?points?": _PERCENT_MEASURES,
    r"\s?(?:x\b|×|times|-?fold)": _FACTOR_MEASURES,
    rf"\s?(?:{_HOURS})\b": ("hours", "time"),
    r"\s?(?:m?s|sec|seconds?|minutes?|milliseconds?)\b": ("seconds", "minutes", "latency", "time"),
    rf"\s?(?:{_LONGER_TIMES})\b": ("days", "weeks", "months", "years", "time"),
    r"\s?(?:[MGT]i?B|megabytes?|gigabytes?)\b": ("megabytes", "gigabytes", "size", "memory"),
    r"\s?(?:[MBK]|million|billion)\b": ("size",),
    r"[MBK]\b": ("parameters",),
}
# Number before a unit, in digits or, as in "nine months", in words.
_NUMBER = rf"(?:\d|\b(?:{'|'.join(NUMBER_WORDS)})\b)"


def _compile_unit_patterns() -> dict[str, re.Pattern[str]]:
    """Return for each target the pattern of a number with one of its units."""
    units: dict[str, list[str]] = {}
    for unit, targets in _UNITS.items():
        for target in targets:
            units.setdefault(target, []).append(unit)
    patterns = {}
    for target, alternatives in units.items():
        patterns[target] = re.compile(f"{_NUMBER}(?:{'|'.join(alternatives)})")
    return patterns


_QUANTITY_OF_TARGET = _compile_unit_patterns()
_NUMBER_WITH_UNIT = re.compile(f"{_NUMBER}(?:{'|'.join(_UNITS)})" + r"|\d,?\d{3}")
_QUANTITY = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|half|halves|halved|twice|doubl\w+|"
    r"thirds?|quarter|hundred|thousand|million|billion|\w+fold)\b",
    re.IGNORECASE,
)
_FACTOR_IN_WORDS = re.compile(
    r"\b(?:\w+fold|twice|doubl\w+|tripl\w+|half|halv\w+)\b", re.IGNORECASE
)
# Maximum distance in words from a number to what it counts: "30 annotated training images".
_MAX_WORDS_TO_NUMBER = 3
# Acronyms, GPT-4, GraphRAG, U-Net.
_NAME = re.compile(
    r"\b(?:[A-Z]{2}[\w-]*|[A-Za-z]+\d[\w-]*|(?=[^\Wa-z]*+[a-z][^\WA-Z]*+[A-Z])\w[\w-]*|"
    r"[A-Z]\w*-[\w-]+)"
    r"(?:(?<=\d)\.\d[\w-]*)*(?<![-_])(?!\w)"
)
# Capitalized within a sentence: Swahili, Hessian.
_CAPITALIZED = re.compile(r"(?<=[a-z,;)] )[A-Z][a-z]{2,}(?![\w-])")
_NOT_A_NAME = re.compile(r"(?:[CGT]PU|FLOP|[MG]B)s?")
_NAME_SUFFIX = re.compile(r"-(?:style|based|like|free|type|sized?|level|aware)$", re.IGNORECASE)
_MAX_TITLE_HEAD_WORDS = 2
_AVAILABILITY_QUESTION = re.compile(
    r"\b(code|github|repository|repo|website|project page|url|links? to|download)\b"
    r"|open.?sourced?\W*$",
    re.IGNORECASE,
)
_AVAILABILITY_STATEMENT = re.compile(
    r"https?://|www\.|\b(code|models?|weights|data(?:set)?s?|implementation)\b[^.]{0,60}"
    r"\b(available|released|public\w*)",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def validate_question(question: str) -> str:
    """Return the question without surrounding white space.

    Raises `UsageError` when it is empty, longer than `MAX_QUESTION_CHARS`, or not valid text.
    """
    text = question.strip()
    if _SURROGATE.search(text):
        raise UsageError("the question is not valid Unicode text")
    if not text:
        raise UsageError("the question is empty")
    if len(text) > MAX_QUESTION_CHARS:
        raise UsageError(
            f"the question has {len(text):,} characters; the limit is {MAX_QUESTION_CHARS:,}"
        )
    return text


@dataclass(frozen=True, slots=True)
class QueryAnalysis:
    """Result of analysing a question.

    - `is_list_question`: asks for several papers
    - `is_comparison`: compares methods or data that may be in different papers
    - `asks_quantity`: asks for a number
    - `asks_availability`: asks where code or data can be found
    - `asks_count`: asks "how many" or "how long"
    - `answer_target`: words after "how many" or "which", the head noun last
    - `names`: acronyms and proper names
    """

    is_list_question: bool
    is_comparison: bool
    asks_quantity: bool
    asks_availability: bool
    asks_count: bool
    answer_target: tuple[str, ...]
    names: tuple[str, ...]

    def lacks_quantity(self, sentences: Sequence[str]) -> bool:
        """Return True when the question asks for a quantity that no sentence gives."""
        return self.asks_quantity and not any(map(self._gives_quantity, sentences))

    def _gives_quantity(self, sentence: str) -> bool:
        if not _QUANTITY.search(sentence):
            return False
        if not self.answer_target:
            return True
        terms = content_terms(sentence)
        if self.asks_count and not self._has_modifiers(terms):
            return False
        return self._has_number_with_unit(sentence) or self._has_number_of_target(sentence, terms)

    def _has_modifiers(self, terms: Sequence[str]) -> bool:
        """Return True when all words of the target but its head noun are among the terms."""
        words = [word for word in self.answer_target if not _QUANTITY.search(word)]
        modifiers = content_terms(" ".join(words))[:-1]
        return set(modifiers) <= set(terms)

    def _has_number_with_unit(self, sentence: str) -> bool:
        pattern = _QUANTITY_OF_TARGET.get(self._head)
        if pattern and pattern.search(sentence):
            return True
        return self._head in _FACTOR_MEASURES and bool(_FACTOR_IN_WORDS.search(sentence))

    def _has_number_of_target(self, sentence: str, terms: Sequence[str]) -> bool:
        if not self.asks_count and self._head not in _MEASURES:
            # "How much memory does it save?": a percentage answers, whatever it is a share of.
            return bool(_NUMBER_WITH_UNIT.search(sentence) or _FACTOR_IN_WORDS.search(sentence))
        head_terms = tuple(content_terms(self._head))
        if not head_terms:
            return False
        for position, term in enumerate(terms):
            if term.endswith(head_terms):  # MFLOPs are FLOPs
                before = terms[max(0, position - _MAX_WORDS_TO_NUMBER) : position + 1]
                if not self.asks_count or any(map(_QUANTITY.search, before)):
                    return True
        return False

    @property
    def _head(self) -> str:
        """Word of the target that a sentence must mention: a measure, or else the last word."""
        words = [word.casefold() for word in self.answer_target]
        return next(filter(_MEASURES.__contains__, words), words[-1])

    def lacks_target(self, terms: set[str], sentences: Sequence[str]) -> bool:
        """Return True when a text does not mention the target, or where the code or data is.

        `terms` are the index terms of the text. `lacks_quantity` checks targets that are numbers.
        """
        if self.asks_availability:
            return not any(map(is_availability_statement, sentences))
        if not self.answer_target or self.asks_quantity or self.is_list_question:
            return False
        for nouns, pattern in _NAMED_TARGETS:
            if self._is_one_of(nouns):
                return not any(map(pattern.search, sentences))
        target = self.answer_target
        heads = target[-1:] if len(target) <= _MAX_HEAD_LAST_WORDS else target
        head_terms = content_terms(" ".join(heads))
        return bool(head_terms) and terms.isdisjoint(head_terms)

    def _is_one_of(self, nouns: Iterable[str]) -> bool:
        return not set(map(str.casefold, self.answer_target)).isdisjoint(nouns)

    def missing_names(self, terms: set[str], text: str) -> tuple[str, ...]:
        """Return the names that a text, with its index terms, neither contains nor spells out."""
        missing = []
        for name in self.names:
            if not _contains_name(terms, name) and not _spells_out(text, name):
                missing.append(name)
        return tuple(missing)


def analyze_query(question: str) -> QueryAnalysis:
    """Analyze what a question asks for."""
    question_words, target = _parse_target(question)
    asks_amount = question_words.startswith("how") and _PAPER_NOUNS.isdisjoint(target)
    return QueryAnalysis(
        is_list_question=bool(_LIST_QUESTION.search(question)),
        is_comparison=bool(_COMPARISON.search(question)),
        asks_quantity=asks_amount or _has_measure(target),
        asks_availability=bool(_AVAILABILITY_QUESTION.search(question)),
        asks_count=question_words in ("how many", "how long"),
        answer_target=target,
        names=_find_names(question),
    )


def title_names(title: str) -> set[str]:
    """Return acronyms, mixed-case names and up to two words before a colon in a title."""
    names = set(_NAME.findall(title))
    head, colon, _ = title.partition(":")
    if colon and len(head.split()) <= _MAX_TITLE_HEAD_WORDS:
        names.add(head)
    return names


def is_availability_statement(sentence: str) -> bool:
    """Return True for a sentence that says where code or data is available."""
    return bool(_AVAILABILITY_STATEMENT.search(sentence))


def _find_names(question: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for match in (*_NAME.findall(question), *_CAPITALIZED.findall(question)):
        name = _NAME_SUFFIX.sub("", match)
        if not _NOT_A_NAME.fullmatch(name):
            names[name] = None
    return tuple(names)


def _parse_target(question: str) -> tuple[str, tuple[str, ...]]:
    """Return the question words and the target after them; a quantity takes precedence."""
    first_target: tuple[str, tuple[str, ...]] = ("", ())
    for match in _QUESTION_WORDS.finditer(question):
        question_words = " ".join(match[1].casefold().split())
        target = _read_target(question[match.end() :])
        if question_words.startswith("how") or _has_measure(target):
            return question_words, ("time",) if question_words == "how long" else target
        if first_target[0]:
            continue
        if question_words == "which":
            is_interrogative = bool(_BEFORE_INTERROGATIVE_WHICH.search(question[: match.start()]))
        else:
            is_interrogative = not _CONCRETE_TARGETS.isdisjoint(map(str.casefold, target))
        if is_interrogative:
            first_target = question_words, target
    return first_target


def _read_target(text: str) -> tuple[str, ...]:
    """Return the first words of a text, up to where the noun phrase ends."""
    words = []
    for word in _WORD.findall(text)[: _MAX_TARGET_WORDS + 1]:
        if word.casefold() in _ENDS_TARGET:
            break
        if not _NOT_IN_TARGET.fullmatch(word):
            words.append(word)
    return tuple(words)


def _has_measure(words: Iterable[str]) -> bool:
    return not _MEASURES.isdisjoint(map(str.casefold, words))


def _contains_name(terms: set[str], name: str) -> bool:
    """Return True when a name is among the terms in one piece or in all its parts.

    "KV-cache" is in "the KV cache".
    """
    if not terms.isdisjoint(content_terms(name)):
        return True
    for part in re.split(r"[-_/]", name):
        part_terms = content_terms(part)
        if not part_terms or not terms.issuperset(part_terms):
            return False
    return True


def _spells_out(text: str, name: str) -> bool:
    """Return True when consecutive words start with the letters of an acronym.

    "Convolutional neural network" spells out CNN.
    """
    letters = name.rstrip("s").casefold()
    if not letters.isalpha() or len(letters) < 2:
        return False
    initials = re.findall(r"(?<![^\W\d_])[^\W\d_]", text.casefold())
    return letters in "".join(initials)
