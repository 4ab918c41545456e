"""Saved pages of trending papers, as text: titles and abstracts in turn, between the furniture of the page.

Nothing marks a title but its place before an abstract and its shape, so the rules look at both. A text that does
not mainly consist of such pairs is refused as a whole: a wrong paper in the library is worse than a missing one.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from rag.ingest.sources.paper import MAX_ABSTRACT, Draft, Flaw, NotPapers
from rag.ingest.sources.stream import LINE_TOO_LONG, Stream

REFUSAL = (
    "no papers found in it: it reads as plain text, not as a listing of titles and abstracts in turn; "
    "if it is one nevertheless, --format listing reads it as it is"
)
_LONG_LINE = 250  # characters; nobody wraps lines so late, so such a line is a paragraph
_MOST_OF_A_RUN = 400  # lines
_LONGEST_RUN = 400_000  # characters
_SAMPLE = 400  # blocks, by which a text is judged a listing or not
_MOST_OF_SAMPLE = 2_000_000  # characters
# Hardly an abstract is shorter than this, and many a paragraph is: of 712 abstracts two were.
_SHORT_PARAGRAPH = 500
_LONGEST_ABSTRACT = 2_200  # arXiv allows 1,920
_LABELLED = re.compile(
    r"(?:background|objectives?|aims?|methods?|results?|findings|conclusions?|significance)\s*[:.]",
    re.IGNORECASE,
)

# Spaces in brackets, for these are parts of a verbose expression.
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)(?:uary|ruary|ch|il|e|y|ust|tember|ober|ember)?\.?"
_DATE = rf"(?:{_MONTH}[ ]\d{{1,2}}(?:st|nd|rd|th)?(?:,?[ ]\d{{4}})?|\d{{1,2}}[ ]{_MONTH}(?:[ ]\d{{4}})?|\d{{4}}-\d\d-\d\d)"
_DAY = r"(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?"
_FURNITURE = re.compile(
    rf"""(?:
      new | subscribe | (?:daily|weekly|monthly|trending)(?:\ papers)? | papers | hugging\ face(?:'s\ logo|\ logo)?
    | get\ trending\ papers\ in\ your\ email\ inbox.{{0,20}} | by\ ?ak\ and\ the\ research\ community | by\ ?ak
    | (?:{_DAY},?\ )?{_DATE} | {_DAY} | today | yesterday | \d+\ (?:minutes?|hours?|days?|weeks?|months?)\ ago
    | published\ on\ .{{1,20}} | submitted\ (?:on|by).{{0,60}} | [·•]?\s*\d+\ authors? | [·•|]
    | [+\-]?[\d.,]+\s*[km]? | (?:up)?votes?\s*[\d.,]*[km]? | \d+\ (?:up)?votes?
    | (?:[<>«»‹›←→\s]|previous|next|prev|first|last|page|\d++|\.\.\.|…)+
    | view\ (?:pdf|paper|(?:on\ )?arxiv(?:\ page)?)
    | (?:arxiv|project)\ page | pdf | html | code | demo | github\s*[\d.,]*[km]?
    | [\d.,]+[km]?\ stars?
    | add\ to\ collection | (?:show|load|read|see)\ (?:more|less) | share | comments?
    | search(?:\ papers.{{0,30}}|\.\.\.|…)?
    | log\ ?in | sign\ ?(?:up|in) | models | datasets | spaces | docs | pricing | enterprise | community | website
    | about | jobs | careers | privacy | terms(?:\ of\ (?:use|service))? | tos | company | ©.{{0,60}}
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_LETTER_HEAD = re.compile(
    r"(?:get trending papers in your email inbox(?: once a day)?!\s*)+(?=\S)", re.IGNORECASE
)
_GLUED_BUTTON = re.compile(r"Subscribe(?=[A-Z0-9\"'“‘(\[$])")
_MARKDOWN = re.compile(r"^(?:#{1,6}|\*|-|\d{1,3}[.)])\s+(?=\S)")

_ENDS_SENTENCE = re.compile(r"[.!?…。！？][\"'”’)\]]*$")
_SENTENCE_BREAK = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[A-Z\"“(\[\d$\\])|[。！？]")
# The short last paragraph of many an abstract.
_AFTERWORD = re.compile(
    r"(?:our |the |all )?(?:source |pre-?trained )?(?:codes?|data|datasets?|models?|demos?|project page|website)\b"
    r".{0,80}(?:https?://|github|available|released|found at)",
    re.IGNORECASE,
)
_PERSON = re.compile(r"(?:[^\W\d_][\w.'’-]*\s+){1,4}[^\W\d_][\w'’.-]+")
_LOWER_WORD = re.compile(
    r"[a-z]+(?=\s|$)"
)  # "k-NN", "mT5" and "wav2vec" begin titles, "and" does not
_SECTION = re.compile(
    r"(?:\d[\d.]*\s+)?(?:abstract|introduction|background|related works?|methods?|materials and methods|results?|"
    r"discussion|conclusions?|references|acknowledge?ments?|appendix|contents|chapter .{1,20}|summary|overview|"
    r"installation|usage|license|contributing|requirements|getting started|quick ?start|features|examples?)[:.]?",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Block:
    """A piece of a page: a line, a paragraph, or, from a page with mark-up, a heading or a link to a paper."""

    text: str
    heading: bool = False
    arxiv_id: str = ""


def read(stream: Stream) -> Iterator[Draft | Flaw]:
    return pair(_blocks(stream), trusted=stream.named)


def pair(blocks: Iterable[Block | Flaw], trusted: bool) -> Iterator[Draft | Flaw]:
    """Titles and abstracts joined to papers. A text that is no listing is refused, unless it is trusted."""
    blocks = iter(blocks)
    sample = list(_sample(blocks))
    if not trusted and not _is_listing(sample):
        raise NotPapers(REFUSAL)
    yield from _paired(chain(sample, blocks))


def _sample(blocks: Iterator[Block | Flaw]) -> Iterator[Block | Flaw]:
    size = 0
    for number, block in enumerate(blocks, start=1):
        yield block
        size += len(block.text) if isinstance(block, Block) else 0
        if number == _SAMPLE or size > _MOST_OF_SAMPLE:
            return


def _is_listing(sample: list[Block | Flaw]) -> bool:
    """Whether most of a text is title and abstract in turn, and the titles and abstracts look like such."""
    outcomes = list(_paired(sample))
    drafts = [outcome for outcome in outcomes if isinstance(outcome, Draft)]
    orphans = len(outcomes) - len(drafts)
    long_blocks = sum(isinstance(b, Block) and is_abstract(b.text) for b in sample)
    sound = sum(_looks_like_paper(str(draft.title), str(draft.abstract)) for draft in drafts)
    return 2 * len(drafts) >= max(long_blocks, orphans, 1) and sound >= 0.7 * len(drafts)


def _looks_like_paper(title: str, abstract: str) -> bool:
    is_title = not re.search(
        r"[.,;:{}=]$|[{};]|^[^\w\"'“‘($\[¿¡]", title
    ) and not _SECTION.fullmatch(title)
    is_prose = sum(c.isalpha() or c.isspace() for c in abstract) >= 0.8 * len(abstract)
    return (
        is_title
        and is_prose
        and len(abstract) >= 150
        and not _LOWER_WORD.match(title)
        and bool(_SENTENCE_BREAK.search(abstract))
    )


def _paired(blocks: Iterable[Block | Flaw]) -> Iterator[Draft | Flaw]:
    paper = _Paper()
    for block in blocks:
        if isinstance(block, Flaw):
            yield from paper.end()
            yield block
        elif not block.heading and paper.may_take(block.text):
            yield from paper.add_abstract(block.text)
        elif paper.lacks_abstract and not block.heading and _is_byline(block.text):
            paper.authors = block.text
        else:
            yield from paper.end()
            paper.begin(block)
    yield from paper.end()


class _Paper:
    """The paper in the making."""

    def __init__(self) -> None:
        self._title: Block | None = None
        self._abstract = ""
        self.authors = ""

    @property
    def lacks_abstract(self) -> bool:
        return self._title is not None and not self._abstract

    def may_take(self, text: str) -> bool:
        """Whether a text is an abstract, this paper's or another's, or the last words of this one's."""
        return is_abstract(text, self.lacks_abstract) or bool(
            self._abstract and _AFTERWORD.match(text)
        )

    def begin(self, title: Block) -> None:
        self._title = title

    def add_abstract(self, text: str) -> Iterator[Draft | Flaw]:
        if self._abstract and not _goes_on(self._abstract, text):
            yield from self.end()
        if self._title is None:
            yield Flaw(f"abstract without title: ‘{text[:60]}…’")
        else:
            self._abstract = f"{self._abstract}\n{text}" if self._abstract else text

    def end(self) -> Iterator[Draft | Flaw]:
        if self._title is not None and (self._abstract or self._title.arxiv_id):
            yield Draft(
                self._title.text,
                self._abstract,
                authors=self.authors,
                arxiv_id=self._title.arxiv_id,
            )
        elif self._title is not None:
            yield Flaw(f"title without abstract: ‘{self._title.text[:80]}’")
        self.__init__()  # type: ignore[misc]


def _goes_on(before: str, text: str) -> bool:
    """Whether a text is the next paragraph of the abstract before it, and not of a paper that lost its title."""
    is_short = (
        min(len(before), len(text)) <= _SHORT_PARAGRAPH
        and len(before) + len(text) <= _LONGEST_ABSTRACT
    )
    return is_short or (len(before) <= MAX_ABSTRACT and bool(_LABELLED.match(text)))


def is_abstract(text: str, after_title: bool = False) -> bool:
    """Whether a block reads as an abstract. A short one is believed only where an abstract is due."""
    ends = bool(_ENDS_SENTENCE.search(text))
    if len(text) >= 400 or (ends and len(text) >= 250):
        return True
    sentences = len(_SENTENCE_BREAK.findall(text)) + 1
    if ends and not text.endswith("?") and sentences > 1 and len(text) >= 80:
        return True
    return after_title and len(text) >= 80 and text.endswith((".", "…"))


def _is_byline(text: str) -> bool:
    names = re.split(r",\s*(?:and\s+)?|\s+and\s+|\s*;\s*", text)
    return len(names) >= 3 and all(_PERSON.fullmatch(name) and name[0].isupper() for name in names)


class _Furniture:
    """Takes the furniture of a page out of its lines."""

    def __init__(self) -> None:
        self._after_furniture = True

    def strip(self, line: str) -> str:
        """The line without what belongs to the page; often nothing is left."""
        line = line.strip()
        if lead := _LETTER_HEAD.match(line):
            line, self._after_furniture = line[lead.end() :], True
        # A button glued to the title after it; elsewhere a title may well begin with that word.
        if self._after_furniture:
            line = _GLUED_BUTTON.sub("", line, count=1) if _GLUED_BUTTON.match(line) else line
        if line:
            self._after_furniture = is_furniture(line)
        return "" if self._after_furniture else line


def is_furniture(text: str) -> bool:
    return len(text) <= 120 and bool(_FURNITURE.fullmatch(text))


def _blocks(stream: Stream) -> Iterator[Block | Flaw]:
    head = stream.head_text.split("\n")
    blank = sum(not line.strip() for line in head)
    furniture = _Furniture()
    run: list[str] = []
    size = 0
    spaced = blank >= 0.1 * (len(head) - blank)
    for line in stream.lines():
        is_full = len(run) == _MOST_OF_A_RUN or size > _LONGEST_RUN
        if line is None or not spaced or not line.strip() or is_full:
            yield from _of_run(run)
            run, size = [], 0
        if line is None:
            yield Flaw(LINE_TOO_LONG)
        elif text := furniture.strip(line):
            run.append(text if run else _MARKDOWN.sub("", text))
            size += len(text)
    yield from _of_run(run)


def _of_run(run: list[str]) -> Iterator[Block]:
    """The blocks in lines that no blank line parts: one wrapped paragraph, or a title over one, or line by line."""
    if any(len(line) > _LONG_LINE for line in run):
        yield from map(Block, run)
        return
    if (
        len(run) > 1
        and _ends_early(run)
        and is_abstract(rest := "\n".join(run[1:]))
        and not is_abstract(run[0])
    ):
        yield Block(run[0])
        yield Block(rest)
    elif run:
        yield Block("\n".join(run))


def _ends_early(run: list[str]) -> bool:
    """Whether the next word would still have fitted on the first line, so that it was ended on purpose."""
    return len(run[0]) + 1 + len(run[1].split(" ")[0]) <= max(map(len, run[1:]))
