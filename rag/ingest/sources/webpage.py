"""The same pages saved as HTML, and HTML listings in general.

Where headings link to papers, each is a paper and what follows in its article its abstract. Any other page is
read as a listing: its headings, paragraphs and other pieces of text in turn.
"""

import re
from collections.abc import Iterator
from itertools import chain

from rag.ingest.sources.listing import Block, is_abstract, is_furniture, pair
from rag.ingest.sources.paper import MAX_ABSTRACT, Draft, Flaw
from rag.ingest.sources.stream import MAX_LINE, Stream
from rag.text.cleaning import clean
from rag.text.identifiers import parse_arxiv_id

_HEADINGS = frozenset({"h1", "h2", "h3", "h4"})
_IGNORED = frozenset(
    "script style noscript template svg title nav footer form button select iframe textarea".split()
)
_PIECES = _HEADINGS | frozenset(
    "p div article section li ul ol dl dt dd main header aside blockquote table tr td th pre hr h5 h6 br body".split()
)
_ENDS_PAPER = frozenset({"article", "section", "li", "main", "body"})
_PAPER_LINK = re.compile(
    r"(?:https?://(?:www\.)?huggingface\.co)?/papers/[\d.]+(?:v\d+)?/?(?:[?#].*)?|https?://(?:www\.)?(?:arxiv|alphaxiv)\.org/.*"
)
_LONGEST = (
    4 * MAX_ABSTRACT
)  # characters of a paper's paragraphs; more than these are refused, however many more
_END = Block("")  # the end of an article: what comes after belongs to no paper before it


def read(stream: Stream) -> Iterator[Draft | Flaw]:
    papers = _linked(_blocks(stream))
    first = next(papers, None)
    return chain([first], papers) if isinstance(first, Draft) else _flat(stream)


def _flat(stream: Stream) -> Iterator[Draft | Flaw]:
    pieces = (
        b for b in _blocks(stream) if isinstance(b, Flaw) or (b.text and not is_furniture(b.text))
    )
    for outcome in pair(pieces, trusted=stream.named):
        # A page is full of menus; words like theirs are no titles that lost their abstract.
        if not isinstance(outcome, Flaw) or len(outcome.reason.split()) > 6:
            yield outcome


def _linked(blocks: Iterator[Block | Flaw]) -> Iterator[Draft | Flaw]:
    """Papers by the headings that link to them."""
    title, paragraphs, size = _END, list[str](), 0
    for block in chain(blocks, [_END]):
        if isinstance(block, Block) and block.text and not block.heading:
            if (
                title.arxiv_id
                and size <= _LONGEST
                and is_abstract(block.text, after_title=not paragraphs)
            ):
                paragraphs.append(block.text)
                size += len(block.text)
            if not paragraphs or block.text == paragraphs[-1]:
                continue
        # A heading, the end of an article, or other text after the abstract: the paper is complete.
        if title.arxiv_id:
            yield Draft(title=title.text, abstract=paragraphs, arxiv_id=title.arxiv_id)
        if isinstance(block, Flaw):
            yield block
        title = block if isinstance(block, Block) and block.heading else _END
        paragraphs, size = [], 0


def _blocks(stream: Stream) -> Iterator[Block | Flaw]:
    from lxml import etree

    page = _Page()
    parser = etree.HTMLParser(
        target=page, remove_comments=True, remove_pis=True, no_network=True, huge_tree=False
    )
    try:
        for text in stream.text():
            parser.feed(text)
            yield from page.take()
        parser.close()
    except etree.LxmlError as error:
        page.close()
        yield from page.take()
        yield Flaw(f"broken HTML, the rest of the page cannot be read: {error}")
        return
    yield from page.take()


class _Page:
    """What the parser reports, gathered to blocks."""

    def __init__(self) -> None:
        self._ready: list[Block] = []
        self._pieces: list[str] = []
        self._size = 0
        self._heading = False
        self._arxiv_id = ""
        self._link = ""
        self._ignored = 0

    def take(self) -> list[Block]:
        ready, self._ready = self._ready, []
        return ready

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _IGNORED:
            self._ignored += 1
        elif tag in _PIECES:
            self._flush()
            self._heading = tag in _HEADINGS
        elif tag == "a":
            address = attributes.get("href") or ""
            self._link = parse_arxiv_id(address) if _PAPER_LINK.fullmatch(address.strip()) else ""
        elif tag == "sup":
            self._add("<sup>")

    def end(self, tag: str) -> None:
        if tag in _IGNORED:
            self._ignored = max(self._ignored - 1, 0)
        elif tag in _PIECES:
            self._flush()
            self._heading = False
            if tag in _ENDS_PAPER:
                self._ready.append(_END)
        elif tag == "a":
            self._link = ""
        elif tag == "sup":
            self._add("</sup>")

    def data(self, text: str) -> None:
        if self._ignored:
            return
        self._add(text)
        if self._link and text.strip():
            self._arxiv_id = self._arxiv_id or self._link

    def close(self) -> None:
        self._flush()

    def _add(self, text: str) -> None:
        """Another piece of the block; what goes beyond a text's limit is left out."""
        if self._size <= MAX_LINE:
            self._pieces.append(text)
            self._size += len(text)

    def _flush(self) -> None:
        text = "".join(self._pieces)
        if clean(text):
            self._ready.append(
                Block(" ".join(text.split()), heading=self._heading, arxiv_id=self._arxiv_id)
            )
        self._pieces, self._size, self._arxiv_id = [], 0, ""
