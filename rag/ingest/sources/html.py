"""HTML: saved pages of trending papers, and listings in general. Parsed with lxml.

A heading that links to a paper is its title, and the text after it in the same article is its
abstract. On pages without such headings, blocks are paired as in a text listing.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import TypeGuard

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.page_blocks import (
    Block,
    is_abstract,
    is_boilerplate,
    pair_blocks,
)
from rag.ingest.sources.common.raw_record import MAX_RAW_ABSTRACT, ParseFailure, RawRecord
from rag.ingest.sources.common.stream import MAX_LINE, Stream
from rag.text.cleaning import clean
from rag.text.identifiers import parse_arxiv_id

_SUFFIXES = (".html", ".htm")
_START = re.compile(
    r"<(?:!doctype\s+html|html|head|body|main|article|section|div|p|h[1-6]|ul|ol|table)[\s>/]",
    re.IGNORECASE,
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4"})
_IGNORED = frozenset(
    "script style noscript template svg title nav footer form button select iframe textarea".split()
)
_BLOCK_TAGS = _HEADINGS | frozenset(
    "p div article section li ul ol dl dt dd main header aside blockquote table tr td th pre hr "
    "h5 h6 br body".split()
)
_ARTICLE_TAGS = frozenset({"article", "section", "li", "main", "body"})
_PAPER_LINK = re.compile(
    r"(?:https?://(?:www\.)?huggingface\.co)?/papers/[\d.]+(?:v\d+)?/?(?:[?#].*)?|"
    r"https?://(?:www\.)?(?:arxiv|alphaxiv)\.org/.*"
)
# A failure as short as "title without abstract: ‘Log in’" is about a menu item, not a paper.
_MAX_WORDS_OF_MENU_FAILURE = 6
# Marks the end of an article. Later text does not belong to any paper before it.
_END_OF_ARTICLE = Block("")


def _matches(head: FileHead) -> bool:
    return _START.search(head.text) is not None or head.suffix in _SUFFIXES


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    records = _parse_linked_papers(_parse_blocks(stream))
    first = next(records, None)
    if isinstance(first, RawRecord):
        return chain([first], records)
    return _parse_listing(stream)


def _parse_listing(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    blocks = filter(_is_content, _parse_blocks(stream))
    for outcome in pair_blocks(blocks, is_trusted=stream.is_format_given):
        if isinstance(outcome, RawRecord) or not _is_about_menu_item(outcome):
            yield outcome


def _is_about_menu_item(failure: ParseFailure) -> bool:
    return len(failure.reason.split()) <= _MAX_WORDS_OF_MENU_FAILURE


def _is_content(block: Block | ParseFailure) -> bool:
    if isinstance(block, ParseFailure):
        return True
    return bool(block.text) and not is_boilerplate(block.text)


def _parse_linked_papers(
    blocks: Iterator[Block | ParseFailure],
) -> Iterator[RawRecord | ParseFailure]:
    """Yield the papers whose titles are headings that link to them."""
    paper = _LinkedPaper(_END_OF_ARTICLE)
    for block in chain(blocks, [_END_OF_ARTICLE]):
        if _is_text(block) and paper.add(block.text):
            continue
        # A heading, the end of an article, or other text after the abstract ends the paper.
        if record := paper.record():
            yield record
        if isinstance(block, ParseFailure):
            yield block
        paper = _LinkedPaper(_heading_or_end(block))


def _heading_or_end(block: Block | ParseFailure) -> Block:
    return block if isinstance(block, Block) and block.is_heading else _END_OF_ARTICLE


def _is_text(block: Block | ParseFailure) -> TypeGuard[Block]:
    return isinstance(block, Block) and bool(block.text) and not block.is_heading


class _LinkedPaper:
    """Paper whose title is a heading, with the paragraphs after it."""

    def __init__(self, title: Block) -> None:
        self._title = title
        self._paragraphs: list[str] = []
        self._size = 0

    def add(self, text: str) -> bool:
        """Add a paragraph of the abstract; return False for text after the abstract."""
        may_grow = self._title.arxiv_id and self._size <= MAX_RAW_ABSTRACT
        if may_grow and is_abstract(text, is_after_title=not self._paragraphs):
            self._paragraphs.append(text)
            self._size += len(text)
        return not self._paragraphs or text == self._paragraphs[-1]

    def record(self) -> RawRecord | None:
        """Return the paper, or None if its heading does not link to one."""
        if not self._title.arxiv_id:
            return None
        return RawRecord(
            title=self._title.text, abstract=self._paragraphs, arxiv_id=self._title.arxiv_id
        )


def _parse_blocks(stream: Stream) -> Iterator[Block | ParseFailure]:
    from lxml import etree

    collector = _BlockCollector()
    parser = etree.HTMLParser(
        target=collector, remove_comments=True, remove_pis=True, no_network=True, huge_tree=False
    )
    try:
        for text in stream.text():
            parser.feed(text)
            yield from collector.take()
        parser.close()
    except etree.LxmlError as error:
        collector.close()
        yield from collector.take()
        yield ParseFailure(f"broken HTML, the rest of the page cannot be read: {error}")
        return
    yield from collector.take()


class _BlockCollector:
    """Target of lxml's parser that turns events into blocks."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._pieces: list[str] = []
        self._size = 0
        self._is_heading = False
        self._arxiv_id = ""
        self._link = ""
        self._ignored_depth = 0

    def take(self) -> list[Block]:
        """Return the blocks completed since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Handle a start tag."""
        if tag in _IGNORED:
            self._ignored_depth += 1
        elif tag in _BLOCK_TAGS:
            self._end_block()
            self._is_heading = tag in _HEADINGS
        elif tag == "a":
            address = attributes.get("href") or ""
            self._link = parse_arxiv_id(address) if _PAPER_LINK.fullmatch(address.strip()) else ""
        elif tag == "sup":
            self._add("<sup>")

    def end(self, tag: str) -> None:
        """Handle an end tag."""
        if tag in _IGNORED:
            self._ignored_depth = max(self._ignored_depth - 1, 0)
        elif tag in _BLOCK_TAGS:
            self._end_block()
            self._is_heading = False
            if tag in _ARTICLE_TAGS:
                self._blocks.append(_END_OF_ARTICLE)
        elif tag == "a":
            self._link = ""
        elif tag == "sup":
            self._add("</sup>")

    def data(self, text: str) -> None:
        """Handle text."""
        if self._ignored_depth:
            return
        self._add(text)
        if self._link and text.strip():
            self._arxiv_id = self._arxiv_id or self._link

    def close(self) -> None:
        """Handle the end of the page."""
        self._end_block()

    def _add(self, text: str) -> None:
        """Add a piece to the current block, which is cut after `MAX_LINE` characters."""
        if self._size <= MAX_LINE:
            self._pieces.append(text)
            self._size += len(text)

    def _end_block(self) -> None:
        text = "".join(self._pieces)
        if clean(text):
            block = Block(" ".join(text.split()), self._is_heading, self._arxiv_id)
            self._blocks.append(block)
        self._pieces, self._size, self._arxiv_id = [], 0, ""


FORMAT = Format("html", "HTML", _SUFFIXES, _matches, _parse, is_markup=True)
