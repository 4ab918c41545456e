"""Blocks of text from saved listing pages, paired as titles and abstracts.

Nothing marks a title except its form and its place before an abstract, so the rules consider both.
A text that does not mainly consist of such pairs is rejected as a whole: a wrong paper in the
library is worse than a missing one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from rag.ingest.sources.common.raw_record import (
    MAX_ABSTRACT,
    ParseFailure,
    RawRecord,
    WrongFormat,
)

# Blocks and characters of the sample that decides if a text is a listing.
_MAX_SAMPLE_BLOCKS = 400
_MAX_SAMPLE_SIZE = 2_000_000
# Minimum characters of an abstract: of any block, of one that ends a sentence, after a title.
_MIN_LONG_ABSTRACT = 400
_MIN_ABSTRACT = 250
_MIN_SHORT_ABSTRACT = 80
# Minimum characters of the abstracts in a listing.
_MIN_PLAUSIBLE_ABSTRACT = 150
_MIN_SHARE_OF_LETTERS = 0.8
_MIN_SHARE_OF_PLAUSIBLE_PAPERS = 0.7
# Hardly any abstract is shorter than this (2 of 712), but many paragraphs are.
_MAX_SHORT_PARAGRAPH = 500
_MAX_TYPICAL_ABSTRACT = 2_200  # arXiv allows 1,920
_MAX_BOILERPLATE = 120
_SECTION_LABEL = re.compile(
    r"(?:background|objectives?|aims?|methods?|results?|findings|conclusions?|significance)"
    r"\s*[:.]",
    re.IGNORECASE,
)

# Spaces are in brackets because these patterns become part of a verbose one.
_MONTH = (
    r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|tember|ober|ember)?\.?"
)
_DATE = (
    rf"(?:{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?(?:,?[ ]\d{{4}})?|"
    rf"\d{{1,2}}[ ]{_MONTH}(?:[ ]\d{{4}})?|\d{{4}}-\d\d-\d\d)"
)
_DAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_BOILERPLATE = re.compile(
    rf"""(?:
      new | subscribe | (?:daily|weekly|monthly|trending)(?:\ papers)? | papers
    | hugging\ face(?:'s\ logo|\ logo)?
    | get\ trending\ papers\ in\ your\ email\ inbox.{{0,20}}
    | by\ ?ak\ and\ the\ research\ community | by\ ?ak
    | (?:{_DAY},?\ )?{_DATE} | {_DAY} | today | yesterday
    | \d+\ (?:minutes?|hours?|days?|weeks?|months?)\ ago
    | published\ on\ .{{1,20}} | submitted\ (?:on|by).{{0,60}}
    | [·•]?\s*\d+\ authors? | [·•|]
    | [+\-]?[\d.,]+\s*[km]? | (?:up)?votes?\s*[\d.,]*[km]? | \d+\ (?:up)?votes?
    | (?:[<>«»‹›←→\s]|previous|next|prev|first|last|page|\d++|\.\.\.|…)+
    | view\ (?:pdf|paper|(?:on\ )?arxiv(?:\ page)?)
    | (?:arxiv|project)\ page | pdf | html | code | demo | github\s*[\d.,]*[km]?
    | [\d.,]+[km]?\ stars?
    | add\ to\ collection | (?:show|load|read|see)\ (?:more|less) | share | comments?
    | search(?:\ papers.{{0,30}}|\.\.\.|…)?
    | log\ ?in | sign\ ?(?:up|in) | models | datasets | spaces | docs | pricing | enterprise
    | community | website
    | about | jobs | careers | privacy | terms(?:\ of\ (?:use|service))? | tos | company
    | ©.{{0,60}}
    )""",
    re.IGNORECASE | re.VERBOSE,
)

_ENDS_SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_SENTENCE_BREAK = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[A-Z\"“(\[\d$\\])|[。！？]")
# The short last paragraph of many abstracts.
_AVAILABILITY = re.compile(
    r"(?:our |the |all )?"
    r"(?:source |pre-?trained )?(?:codes?|data|datasets?|models?|demos?|project page|website)\b"
    r".{0,80}(?:https?://|github|available|released|found at)",
    re.IGNORECASE,
)
_PERSON = re.compile(r"(?:[^\W\d_][\w.'’-]*\s+){1,4}[^\W\d_][\w'’.-]+")
_NAME_SEPARATOR = re.compile(r",\s*(?:and\s+)?|\s+and\s+|\s*;\s*")
# "k-NN", "mT5" and "wav2vec" may begin a title, "and" does not.
_LOWERCASE_WORD = re.compile(r"[a-z]+(?=\s|$)")
_NOT_A_TITLE = re.compile(r"[.,;:{}=]$|[{};]|^[^\w\"'“‘($\[¿¡]")
_SECTION_HEADING = re.compile(
    r"(?:\d[\d.]*\s+)?(?:abstract|introduction|background|related works?|methods?|"
    r"materials and methods|results?|discussion|conclusions?|references|acknowledge?ments?|"
    r"appendix|contents|chapter .{1,20}|summary|overview|installation|usage|license|contributing|"
    r"requirements|getting started|quick ?start|features|examples?)[:.]?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Block:
    """Piece of a page: a line, a paragraph or, from markup, a heading or a link to a paper."""

    text: str
    is_heading: bool = False
    arxiv_id: str = ""


def pair_blocks(
    blocks: Iterable[Block | ParseFailure], *, is_trusted: bool
) -> Iterator[RawRecord | ParseFailure]:
    """Pair titles and abstracts to records.

    Raises `WrongFormat` for a text that is not a listing, unless it is trusted to be one.
    """
    blocks = iter(blocks)
    sample = list(_take_sample(blocks))
    if not is_trusted and not _is_listing(sample):
        raise WrongFormat(
            "no papers found: this is plain text, not a listing of titles and abstracts; "
            "to read it as one anyway, use --format listing"
        )
    yield from _join_blocks(chain(sample, blocks))


def _take_sample(blocks: Iterator[Block | ParseFailure]) -> Iterator[Block | ParseFailure]:
    size = 0
    for number, block in enumerate(blocks, start=1):
        yield block
        size += len(block.text) if isinstance(block, Block) else 0
        if number == _MAX_SAMPLE_BLOCKS or size > _MAX_SAMPLE_SIZE:
            return


def _is_listing(sample: list[Block | ParseFailure]) -> bool:
    """Tell if a text mostly consists of titles with abstracts, and if most look like papers."""
    outcomes = list(_join_blocks(sample))
    records = [outcome for outcome in outcomes if isinstance(outcome, RawRecord)]
    orphans = len(outcomes) - len(records)
    long_blocks = sum(isinstance(block, Block) and is_abstract(block.text) for block in sample)
    plausible = sum(map(_looks_like_paper, records))
    is_mostly_pairs = 2 * len(records) >= max(long_blocks, orphans, 1)
    return is_mostly_pairs and plausible >= _MIN_SHARE_OF_PLAUSIBLE_PAPERS * len(records)


def _looks_like_paper(record: RawRecord) -> bool:
    return _looks_like_title(str(record.title)) and _looks_like_abstract(str(record.abstract))


def _looks_like_title(text: str) -> bool:
    is_heading = _NOT_A_TITLE.search(text) or _SECTION_HEADING.fullmatch(text)
    return not is_heading and not _LOWERCASE_WORD.match(text)


def _looks_like_abstract(text: str) -> bool:
    letters_and_spaces = sum(map(str.isalpha, text)) + sum(map(str.isspace, text))
    is_prose = letters_and_spaces >= _MIN_SHARE_OF_LETTERS * len(text)
    is_long = len(text) >= _MIN_PLAUSIBLE_ABSTRACT
    return is_prose and is_long and bool(_SENTENCE_BREAK.search(text))


def _join_blocks(blocks: Iterable[Block | ParseFailure]) -> Iterator[RawRecord | ParseFailure]:
    paper = _PaperBuilder()
    for block in blocks:
        if isinstance(block, ParseFailure):
            yield from paper.finish()
            yield block
        elif not block.is_heading and paper.accepts(block.text):
            yield from paper.add_abstract(block.text)
        elif paper.lacks_abstract and not block.is_heading and _is_author_line(block.text):
            paper.authors = block.text
        else:
            yield from paper.finish()
            paper.start(block)
    yield from paper.finish()


class _PaperBuilder:
    """Paper that is put together from blocks."""

    def __init__(self) -> None:
        self._title: Block | None = None
        self._abstract = ""
        self.authors = ""

    @property
    def lacks_abstract(self) -> bool:
        """Whether there is a title without an abstract."""
        return self._title is not None and not self._abstract

    def accepts(self, text: str) -> bool:
        """Tell if a text is an abstract, or the short last paragraph of this paper's abstract."""
        if is_abstract(text, is_after_title=self.lacks_abstract):
            return True
        return bool(self._abstract) and _AVAILABILITY.match(text) is not None

    def start(self, title: Block) -> None:
        """Start a paper with its title."""
        self._title = title

    def add_abstract(self, text: str) -> Iterator[RawRecord | ParseFailure]:
        """Add an abstract or a paragraph of it; if it is another paper's, finish this one first."""
        if self._abstract and not _continues(self._abstract, text):
            yield from self.finish()
        if self._title is None:
            yield ParseFailure(f"abstract without title: ‘{text[:60]}…’")
        else:
            self._abstract = f"{self._abstract}\n{text}" if self._abstract else text

    def finish(self) -> Iterator[RawRecord | ParseFailure]:
        """Yield the paper, or a failure for a title without abstract, and start afresh."""
        title, abstract, authors = self._title, self._abstract, self.authors
        self._title, self._abstract, self.authors = None, "", ""
        if title is None:
            return
        if abstract or title.arxiv_id:
            yield RawRecord(title.text, abstract, authors=authors, arxiv_id=title.arxiv_id)
        else:
            yield ParseFailure(f"title without abstract: ‘{title.text[:80]}’")


def _continues(abstract: str, text: str) -> bool:
    """Tell the next paragraph of an abstract from the abstract of another paper without title."""
    has_short_part = min(len(abstract), len(text)) <= _MAX_SHORT_PARAGRAPH
    if has_short_part and len(abstract) + len(text) <= _MAX_TYPICAL_ABSTRACT:
        return True
    return len(abstract) <= MAX_ABSTRACT and _SECTION_LABEL.match(text) is not None


def is_abstract(text: str, *, is_after_title: bool = False) -> bool:
    """Tell if a text reads like an abstract. After a title, a shorter text is accepted."""
    ends_sentence = bool(_ENDS_SENTENCE.search(text))
    if len(text) >= _MIN_LONG_ABSTRACT or (ends_sentence and len(text) >= _MIN_ABSTRACT):
        return True
    if len(text) < _MIN_SHORT_ABSTRACT:
        return False
    has_several_sentences = _SENTENCE_BREAK.search(text) is not None
    if ends_sentence and has_several_sentences and not text.endswith("?"):
        return True
    return is_after_title and text.endswith((".", "…"))


def _is_author_line(text: str) -> bool:
    names = _NAME_SEPARATOR.split(text)
    return len(names) >= 3 and all(map(_is_person, names))


def _is_person(name: str) -> bool:
    return bool(_PERSON.fullmatch(name)) and name[0].isupper()


def is_boilerplate(text: str) -> bool:
    """Tell if a text belongs to the page and not to a paper: a button, a date, a vote count."""
    return len(text) <= _MAX_BOILERPLATE and _BOILERPLATE.fullmatch(text) is not None
