"""The two XML formats: PubMed's articles and the Atom feed of the arXiv API.

Nothing outside the file is fetched, no entity is expanded, and each element is forgotten once it was read.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from rag.ingest.sources.paper import BrokenOff, Draft, Flaw, NotPapers
from rag.ingest.sources.stream import MAX_LINE, Stream

_ARTICLES = ("PubmedArticle", "PubmedBookArticle")
_ENTRY = "{http://www.w3.org/2005/Atom}entry"
_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE)
_DECLARED = re.compile(r"<\?xml[^>]*\bencoding\s*=")

Element = Any


def read_pubmed(stream: Stream) -> Iterator[Draft | Flaw]:
    return _read(stream, _ARTICLES, _article)


def read_atom(stream: Stream) -> Iterator[Draft | Flaw]:
    return _read(stream, (_ENTRY,), _entry)


def _read(
    stream: Stream, tags: tuple[str, ...], draw: Callable[[Element], Draft | Flaw]
) -> Iterator[Draft | Flaw]:
    if _ENTITY.search(stream.head_text):
        raise NotPapers(
            "it declares entities of its own, which no export of papers does; it was not read"
        )
    for element in _elements(stream, tags):
        yield draw(element)
        element.clear(keep_tail=False)
        while element.getprevious() is not None:
            del element.getparent()[0]


def _elements(stream: Stream, tags: tuple[str, ...]) -> Iterator[Element]:
    from lxml import etree

    parser = etree.XMLPullParser(
        events=("end",),
        tag=tags,
        encoding=_encoding(stream),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    unread = 0
    try:
        for chunk in stream.chunks():
            broken = _feed(parser, chunk)
            unread += len(chunk)
            for _, element in parser.read_events():
                unread = 0
                yield element
            if broken or unread > MAX_LINE:
                raise BrokenOff(
                    broken or "no record within 8 MB; the rest of the file was not read"
                )
        parser.close()
    except etree.LxmlError as error:
        raise BrokenOff(_told(error)) from error


def _feed(parser: Element, chunk: bytes) -> str:
    """What is broken, if anything; records before it in the same piece of the file can still be had."""
    from lxml import etree

    try:
        parser.feed(chunk)
    except etree.LxmlError as error:
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    return f"broken XML, the rest of the file cannot be read: {str(error).split(chr(10))[0]}"


def _encoding(stream: Stream) -> str | None:
    """None leaves it to the parser, which knows declarations and byte order marks."""
    undeclared = not stream.has_wide_mark and not _DECLARED.match(stream.head_text)
    return "windows-1252" if undeclared and not stream.head_is_utf8 else None


def _text(element: Element) -> str:
    """All text in an element, as mark-up in which superscripts are still told: 10³ must not become 103."""
    pieces: list[str] = []
    _gather(element, pieces)
    return "".join(pieces)


def _gather(element: Element, pieces: list[str]) -> None:
    is_superscript = isinstance(element.tag, str) and element.tag.rpartition("}")[2] == "sup"
    pieces.append("<sup>" if is_superscript else "")
    pieces.append(element.text or "" if isinstance(element.tag, str) else "")
    for child in element:
        _gather(child, pieces)
        pieces.append(child.tail or "")
    pieces.append("</sup>" if is_superscript else "")


def _all(element: Element, path: str) -> list[Element]:
    return list(element.iterfind(path))


def _one(element: Element, *paths: str) -> str:
    """The text at the first of the paths where there is any."""
    return next(
        (text for path in paths for found in _all(element, path) if (text := _text(found).strip())),
        "",
    )


def _article(element: Element) -> Draft:
    kinds = {_text(kind).strip().lower() for kind in element.iter("PublicationType")}
    links = {link.get("RefType") for link in element.iter("CommentsCorrections")}
    return Draft(
        title=_one(element, ".//ArticleTitle", ".//VernacularTitle", ".//BookTitle"),
        abstract=" ".join(_abstract(element)),
        authors=[
            _author(author)
            for listed in _author_lists(element)
            for author in _all(listed, "Author")
        ],
        year=[_text(date) for path in _DATES for date in _all(element, path)],
        venue=_one(element, ".//Journal/Title", ".//MedlineTA", ".//Book/BookTitle"),
        doi=_one(
            element,
            "PubmedData/ArticleIdList/ArticleId[@IdType='doi']",
            ".//ELocationID[@EIdType='doi']",
        ),
        pmid=_one(element, "MedlineCitation/PMID", "BookDocument/PMID"),
        retracted="retracted publication" in kinds or "RetractionIn" in links,
    )


_DATES = (
    ".//JournalIssue/PubDate/Year",
    ".//JournalIssue/PubDate/MedlineDate",
    ".//ArticleDate/Year",
    ".//Book/PubDate/Year",
    ".//ContributionDate/Year",
)


def _abstract(element: Element) -> Iterator[str]:
    """The paragraphs of an abstract; those of a structured one keep their labels."""
    for part in _all(element, ".//Abstract/AbstractText"):
        label = part.get("Label") or ""
        yield f"{label}: {_text(part)}" if label and label.upper() != "UNLABELLED" else _text(part)


def _author_lists(element: Element) -> Iterator[Element]:
    """The first list at each place: a path such as `AuthorList[1]` takes time with the square of how many there are."""
    for listed in element.iter("AuthorList"):
        if next(listed.itersiblings("AuthorList", preceding=True), None) is None:
            yield listed


def _author(author: Element) -> dict[str, str]:
    return {
        "literal": _one(author, "CollectiveName"),
        "given": _one(author, "ForeName", "Initials"),
        "family": _one(author, "LastName"),
        "suffix": _one(author, "Suffix"),
    }


def _entry(element: Element) -> Draft | Flaw:
    address = _one(element, f"{_ATOM}id")
    if "/api/errors" in address:
        return Flaw(f"arXiv reported an error: {_one(element, f'{_ATOM}summary')[:200]}")
    links = [
        link.get("href")
        for link in _all(element, f"{_ATOM}link")
        if link.get("rel", "alternate") == "alternate"
    ]
    return Draft(
        title=_one(element, f"{_ATOM}title"),
        abstract=_one(element, f"{_ATOM}summary", f"{_ATOM}content"),
        authors=[_one(author, f"{_ATOM}name") for author in _all(element, f"{_ATOM}author")] or (),
        year=[_one(element, f"{_ATOM}published"), _one(element, f"{_ATOM}updated")],
        venue=_one(element, f"{_ARXIV}journal_ref"),
        url=[address, *links],
        doi=_one(element, f"{_ARXIV}doi"),
        arxiv_id=address,
        notes=_one(element, f"{_ARXIV}comment"),
    )
