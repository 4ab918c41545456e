"""Elements of XML files, one record at a time. Parsed with lxml.

Nothing outside the file is fetched, no entity is expanded, and each element is freed after use.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from rag.ingest.sources.common.raw_record import (
    ParseFailure,
    RawRecord,
    TruncatedFile,
    WrongFormat,
)
from rag.ingest.sources.common.stream import MAX_LINE, Stream

_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE)
_ENCODING_DECLARATION = re.compile(r"<\?xml[^>]*\bencoding\s*=")

Element = Any


def parse_xml_records(
    stream: Stream,
    tags: tuple[str, ...],
    map_element: Callable[[Element], RawRecord | ParseFailure],
) -> Iterator[RawRecord | ParseFailure]:
    """Yield a record for each element with one of the tags.

    Raises `WrongFormat` if the file declares entities, and `TruncatedFile` where it is broken.
    """
    if _ENTITY.search(stream.head_text):
        raise WrongFormat("not read: it declares XML entities, which exports of papers never do")
    for element in _parse_elements(stream, tags):
        yield map_element(element)
        element.clear(keep_tail=False)
        while element.getprevious() is not None:
            del element.getparent()[0]


def _parse_elements(stream: Stream, tags: tuple[str, ...]) -> Iterator[Element]:
    from lxml import etree

    parser = etree.XMLPullParser(
        events=("end",),
        tag=tags,
        encoding=_choose_encoding(stream),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    bytes_without_element = 0
    try:
        for block in stream.blocks():
            failure = _feed(parser, block)
            bytes_without_element += len(block)
            for _, element in parser.read_events():
                bytes_without_element = 0
                yield element
            if failure:
                raise TruncatedFile(failure)
            if bytes_without_element > MAX_LINE:
                raise TruncatedFile("no record within 8 MB; the rest of the file was not read")
        parser.close()
    except etree.LxmlError as error:
        raise TruncatedFile(_describe(error)) from error


def _feed(parser: Element, block: bytes) -> str:
    """Feed a block to the parser and return its error, if any.

    The error is not raised, because the records before it can still be read.
    """
    from lxml import etree

    try:
        parser.feed(block)
    except etree.LxmlError as error:
        return _describe(error)
    return ""


def _describe(error: Exception) -> str:
    message = str(error).split("\n")[0]
    return f"broken XML, the rest of the file cannot be read: {message}"


def _choose_encoding(stream: Stream) -> str | None:
    """Return None if the parser can tell: by a declaration, a byte order mark or valid UTF-8."""
    is_declared = stream.has_wide_encoding or _ENCODING_DECLARATION.match(stream.head_text)
    return None if is_declared or stream.is_head_utf8 else "windows-1252"


def element_text(element: Element) -> str:
    """Return all text in an element, with superscripts marked up: 10³ must not become 103."""
    pieces: list[str] = []
    _collect_text(element, pieces)
    return "".join(pieces)


def _collect_text(element: Element, pieces: list[str]) -> None:
    is_element = isinstance(element.tag, str)  # and not a comment or an entity
    is_superscript = is_element and element.tag.rpartition("}")[2] == "sup"
    if is_superscript:
        pieces.append("<sup>")
    if is_element:
        pieces.append(element.text or "")
    for child in element:
        _collect_text(child, pieces)
        pieces.append(child.tail or "")
    if is_superscript:
        pieces.append("</sup>")


def find_all(element: Element, path: str) -> list[Element]:
    """Return the elements at a path."""
    return list(element.iterfind(path))


def first_text(element: Element, *paths: str) -> str:
    """Return the first text that is not empty at any of the paths, or an empty string."""
    for path in paths:
        for candidate in find_all(element, path):
            if text := element_text(candidate).strip():
                return text
    return ""
