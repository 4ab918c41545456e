"""Tell from its words whether a question is a follow-up, and whether it means one paper or several.

The rules are for English: pronouns, ordinals, comparisons without a first side, and words that
could be about any paper.
"""

import re
from collections.abc import Iterable, Sequence

from rag.answering.followup_kinds import FollowUpKind
from rag.records import Paper
from rag.retrieval.query_analysis import analyze_query
from rag.text.terms import content_terms

# A request for other papers with more words than this is a question of its own.
_MAX_WORDS_OF_REQUEST = 3
# This many content words before a pronoun probably include its antecedent.
_ENOUGH_WORDS_BEFORE_PRONOUN = 4
# A question with this many content words names its own subject; with fewer, if the papers that
# came last have none of them.
_STANDALONE_WORDS = 12
_STANDALONE_NEW_WORDS = 4
_MAX_SHORT_QUESTION_WORDS = 4

_COURTESY = frozenset(
    "thanks thank thx you ok okay great cool nice perfect hello hi hey bye yes no sure fine very "
    "much so a lot i see wow interesting helpful".split()
)
_CONTINUATION = re.compile(
    r"(?:and|but|or|so|also|then|plus|what about|how about|what if|why not)\b", re.IGNORECASE
)
_WHAT_ABOUT = re.compile(
    r"(?:and|or|what about|how about)\s+"
    r"(?!on\b|in\b|at\b|for\b|with\b|under\b|from\b)",
    re.IGNORECASE,
)
_FRAGMENT = re.compile(
    r"(?:on|for|with|in|at|without|under|by|from|using|against|versus|vs|than|compared)\b",
    re.IGNORECASE,
)
# Nothing that is compared stands before it.
_COMPARATIVE = re.compile(
    r"(?:(?:and|but|so|or)\s+)?(?:how much\s+)?"
    r"(?:better|worse|(?:more|less)\b[^?]{0,20}|\w+er) than\b",
    re.IGNORECASE,
)
# "Is it possible to": this "it" refers to nothing.
_EXPLETIVE_IT = re.compile(
    r"\b(?:is|was|would|be)\s+it\s+(?:\w+\s+){0,2}?(?:to|that|if|whether|when)\b"
    r"|\bit\s+(?:takes?|cost|helps?|pays?|make sense|matters?)\s+"
    r"(?:to|that|if|whether|when|which|how)\b"
    r"|\bis it (?:true|the)\b|\bwhy is it\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|this|these"
    r"|those(?! (?:who|that|which|of|in|on|with))"
    r"|the (?:same(?! (?:time|way|as))|former|latter|others?|methods?|models?|approach|technique"
    r"|authors?|paper|system|framework|network|dataset|algorithm|trick"
    r"|(?:two|three)(?=(?: \w+)?\W*$))"
    r"|(?P<one>(?:the|that|this|which|each|other) (?:[\w./-]+ )?ones?"
    r"|which of (?:the (?:two|three)|these|those|them)))\b(?!-)"
    r"|\b(?:compare|does|do|did|is|was|can|could|will|would|has|with|than|like|for|from|of|to|about"
    r"|by|why|how|put|explain|wrote|of)\s+that\b"
    r"|\bthat(?=\s*(?:[?.,;!]|$))",
    re.IGNORECASE,
)
_OTHER_PAPERS = re.compile(
    r"\b(?:(?:other|another|similar|more|related) (?:papers?|works?|stud(?:y|ies)|articles?|ones?"
    r"|research)|(?:any|are there|is there|show|list|find|what|which) (?:other|similar) \w+"
    r"|(?<!the )others|(?:any|some|no)(?:one|body) else|anything else (?:on|about)|who else"
    r"|what else (?:(?:is|are) there|do (?:i|we) have)|alternatives?|^more on)\b",
    re.IGNORECASE,
)
_POSITIONS = {"first": 0, "1st": 0, "second": 1, "2nd": 1, "third": 2, "3rd": 2, "fourth": 3}
_POSITIONS |= {"4th": 3, "fifth": 4, "5th": 4, "last": -1, "former": 0, "latter": 1}
_ORDINAL = re.compile(
    rf"\bthe (?:({'|'.join(_POSITIONS)})(?= (?:one|paper|study|work|article|source|result)\b"
    r"|\W*$)|(former|latter)\b)",
    re.IGNORECASE,
)
_PLURAL = re.compile(
    r"\b(?:these|those|both|each|all of|the (?:papers|others)"
    r"|(?:which of )?the (?:two|three|four|five)(?=(?: \w+)?\W*$)|which of the \w+)\b",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\bwhich (?:ones?|of (?:these|those|them))\b", re.IGNORECASE)
# They may also be the authors of a single paper.
_PLURAL_PRONOUN = re.compile(r"\b(?:they|them|theirs?)\b", re.IGNORECASE)
_YEARS = re.compile(
    r"(?:\b(?:since|before|after|until|from|in|between|up to|of|and|to)\s+)*\b(?:19|20)\d\d\b",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(r"\b(?:how many|number of)\b", re.IGNORECASE)
_COUNT_PREFIX = re.compile(
    r"^(?:(?:and|but|so|then|what about|how about)\s+)*"
    r"(?:how many\s*)?(?:papers|are there|were)?\s*",
    re.IGNORECASE,
)
# In "Is X better than it?", X is compared with the pronoun's antecedent, so X cannot be it.
_BEFORE_COMPARED = re.compile(
    r"\b(?:than|to|with|against|versus|vs|from|over|like)\s*$", re.IGNORECASE
)
_POSSESSIVES = ("its", "their")
_NEW_CLAUSE = re.compile(
    r"[.;:?!]\s|,?\s(?:and|but|or)\s"
    r"(?=(?:how|what|why|which|when|where|is|are|do|does|did|can|could)\b)",
    re.IGNORECASE,
)
# A name after these is a condition, not the subject: "on ImageNet", "in English".
_BEFORE_CONDITION = re.compile(r"\b(?:on|in|at|for|over|under|than)\s+(?:the\s+)?$", re.IGNORECASE)
# Words that could be about any paper and so identify none.
_GENERIC_TERMS = frozenset(
    content_terms(
        "ablation accuracy accurate actually advantage amount anything available bad baseline "
        "benchmark best better big bigger biggest cheap cheaper code compare comparison "
        "contribution cost CPU data dataset detail differ difference different disadvantage "
        "drawback elaborate evaluate evaluation exactly example expensive experiment explain fast "
        "faster figure finetuning gain github go going good GPU happen hardware help idea "
        "improvement inference key kind large larger largest latency layer license limitation long "
        "loss main make many memory metric model need network new newer number old older only open "
        "parameter percent performance please point public published quality quick quickly really "
        "reason retraining run runtime save saved say score similar size slow slower small smaller "
        "smallest something sort source speed speedup suffice summarize summary table take task "
        "tell test tested testing there time train training why work worse worst year further "
        "explain simple simply simpler plain word sentence line short brief briefly pls student "
        "beginner layman person understand mean meaning instance put sum summarise tl dr tldr gist "
        "rephrase clarify again topic else others same fastest slowest cheapest newest oldest "
        "simplest one first second third fourth fifth last former latter"
    )
)


def asks_for_others(question: str) -> bool:
    """Return True for a request for other papers: "anyone else?", "more on sarcasm"."""
    is_own_subject = len(specific_terms(question)) > _MAX_WORDS_OF_REQUEST
    return bool(_OTHER_PAPERS.search(question)) and not is_own_subject


def is_followup(question: str, papers: Sequence[Paper]) -> bool:
    """Return True for a question that needs its conversation, in which `papers` came last."""
    terms = specific_terms(question)
    known = paper_terms(papers)
    if _has_own_subject(terms, known):
        return False
    if not terms or refers_back(question):
        return True
    if _ORDINAL.search(question) or _COMPARATIVE.match(question) or _is_short_fragment(question):
        return True
    if _CONTINUATION.match(question):
        return not known or not terms.isdisjoint(known)
    return _is_about_paper(question, terms, known)


def kind_by_words(question: str, papers: Sequence[Paper], asks_record: bool) -> FollowUpKind:
    """Return the kind of a question after an answer that cites `papers`.

    A question is a follow-up when it asks for other papers, refers back (`it`, `that`, `the
    model`), continues (`and on ImageNet?`), names no subject (`by how much?`), or uses only words
    of the paper quoted last. `asks_record` says that it is about authors, year and the like.
    """
    if asks_for_others(question):
        return "others"
    if not is_followup(question, papers):
        return "standalone"
    if names_other_subject(question, papers):
        return "vary"
    return "several" if means_several(question, asks_record) else "one"


def _has_own_subject(terms: set[str], known: set[str]) -> bool:
    is_new = bool(known) and terms.isdisjoint(known)
    return len(terms) >= (_STANDALONE_NEW_WORDS if is_new else _STANDALONE_WORDS)


def _is_short_fragment(question: str) -> bool:
    return _is_short(question) and bool(_FRAGMENT.match(question) or _CONTINUATION.match(question))


def _is_about_paper(question: str, terms: set[str], known: set[str]) -> bool:
    """Return True for a question without names that is short or has several terms of the paper."""
    query = analyze_query(question)
    names_subject = query.names or query.is_list_question
    is_complete = len(terms) > 1 or _is_short(question)
    return is_complete and terms <= known and not names_subject


def _is_short(question: str) -> bool:
    return len(question.split()) <= _MAX_SHORT_QUESTION_WORDS


def refers_back(question: str) -> bool:
    """Return True when a pronoun refers to something that the question does not name before it."""
    text = _EXPLETIVE_IT.sub(" ", question)
    pronoun = _PRONOUN.search(text)
    if not pronoun:
        return False
    before = text[: pronoun.start()]
    if _BEFORE_COMPARED.search(before) and pronoun[0].casefold() not in _POSSESSIVES:
        return True
    if pronoun["one"] and _has_subject_name(text):
        return False
    terms = specific_terms(before)
    if _has_subject_name(before) or len(terms) >= _ENOUGH_WORDS_BEFORE_PRONOUN:
        return False
    return not terms or not _NEW_CLAUSE.search(before)


def _has_subject_name(text: str) -> bool:
    """Return True when a text has a name that is not a condition such as "on ImageNet"."""
    for name in analyze_query(text).names:
        if not _BEFORE_CONDITION.search(text[: text.find(name)]):
            return True
    return False


def names_other_subject(question: str, papers: Iterable[Paper]) -> bool:
    """Return True when "what about X?" is not about something in the papers."""
    if not _WHAT_ABOUT.match(question) or not _is_short(question) or refers_back(question):
        return False
    terms = specific_terms(question)
    return bool(terms) and find_position(question) is None and terms.isdisjoint(paper_terms(papers))


def find_position(question: str) -> int | None:
    """Return which paper "the second one" means, from 0; -1 for the last one."""
    ordinal = _ORDINAL.search(question)
    return _POSITIONS[(ordinal[1] or ordinal[2]).casefold()] if ordinal else None


def move_position(earlier: str, question: str) -> str:
    """Return "who wrote the second one?" for "who wrote the first one?" and "and the second?"."""
    ordinal = _ORDINAL.search(question)
    return _ORDINAL.sub(ordinal[0], earlier, count=1) if ordinal else earlier


def chooses(question: str) -> bool:
    """Return True for "which one" and "which of them", which choose from several papers."""
    return bool(_CHOICE.search(question))


def means_several(question: str, may_be_authors: bool) -> bool:
    """Return True for a question about several papers.

    "They" may also be the authors of one, if a question is about authors.
    """
    is_plural = _PLURAL.search(question)
    return bool(is_plural or (not may_be_authors and _PLURAL_PRONOUN.search(question)))


def remove_years(question: str) -> str:
    """Return a question without years and the words that belong to them: "since 2019"."""
    return _YEARS.sub("", question)


def asks_how_many(question: str) -> bool:
    """Return True for "how many"."""
    return bool(_HOW_MANY.search(question))


def remove_count_words(question: str) -> str:
    """Return what restricts a count: "since 2019" of "and how many since 2019?"."""
    return _COUNT_PREFIX.sub("", question).strip()


def is_courtesy(question: str) -> bool:
    """Return True for "thanks" and the like, which asks nothing."""
    words = re.findall(r"[^\W\d_]+", question.casefold())
    return bool(words) and _COURTESY.issuperset(words)


def content_words(question: str) -> list[str]:
    """Return the words of a question that are not stop words."""
    return list(filter(content_terms, re.findall(r"[\w^./+-]*\w", question)))


def specific_terms(text: str) -> set[str]:
    """Return the stems of the words that could not be about any paper."""
    return set(content_terms(text)) - _GENERIC_TERMS


def paper_terms(papers: Iterable[Paper]) -> set[str]:
    """Return the stems of all words in titles and abstracts."""
    terms: set[str] = set()
    for paper in papers:
        terms.update(content_terms(f"{paper.title} {paper.abstract}"))
    return terms


def join_new(words: Iterable[str], text: str) -> str:
    """Join words, each once, without those that a text already contains."""
    seen = set(content_terms(text))
    new_words = []
    for word in words:
        terms = content_terms(word)
        if not terms or not seen.issuperset(terms):
            new_words.append(word)
            seen.update(terms)
    return " ".join(new_words)
