"""PubMed XML, the articles that PubMed exports and its API serves."""

import re
from collections.abc import Iterator

from rag.ingest.sources.common.format import FileHead, Format
from rag.ingest.sources.common.raw_record import ParseFailure, RawRecord
from rag.ingest.sources.common.stream import Stream
from rag.ingest.sources.common.xml_records import (
    Element,
    element_text,
    find_all,
    first_text,
    parse_xml_records,
)

_ARTICLE_TAGS = ("PubmedArticle", "PubmedBookArticle")
_ARTICLE = re.compile(r"<Pubmed(?:Article|BookArticle)(?:Set)?[\s>]")
_DATE_PATHS = (
    ".//JournalIssue/PubDate/Year",
    ".//JournalIssue/PubDate/MedlineDate",
    ".//ArticleDate/Year",
    ".//Book/PubDate/Year",
    ".//ContributionDate/Year",
)
_DOI_PATHS = (
    "PubmedData/ArticleIdList/ArticleId[@IdType='doi']",
    ".//ELocationID[@EIdType='doi']",
)


def _matches(head: FileHead) -> bool:
    return _ARTICLE.search(head.text) is not None


def _parse(stream: Stream) -> Iterator[RawRecord | ParseFailure]:
    return parse_xml_records(stream, _ARTICLE_TAGS, _map_article)


def _map_article(article: Element) -> RawRecord:
    return RawRecord(
        title=first_text(article, ".//ArticleTitle", ".//VernacularTitle", ".//BookTitle"),
        abstract=" ".join(_abstract_paragraphs(article)),
        authors=list(_authors(article)),
        year=list(_dates(article)),
        venue=first_text(article, ".//Journal/Title", ".//MedlineTA", ".//Book/BookTitle"),
        doi=first_text(article, *_DOI_PATHS),
        pmid=first_text(article, "MedlineCitation/PMID", "BookDocument/PMID"),
        retracted=_is_retracted(article),
    )


def _abstract_paragraphs(article: Element) -> Iterator[str]:
    """Yield the paragraphs of an abstract, with their labels if it is structured."""
    for paragraph in find_all(article, ".//Abstract/AbstractText"):
        label = paragraph.get("Label") or ""
        text = element_text(paragraph)
        yield f"{label}: {text}" if label and label.upper() != "UNLABELLED" else text


def _authors(article: Element) -> Iterator[dict[str, str]]:
    # A path such as `AuthorList[1]` takes time quadratic in the number of lists.
    for author_list in article.iter("AuthorList"):
        if next(author_list.itersiblings("AuthorList", preceding=True), None) is None:
            yield from map(_map_author, find_all(author_list, "Author"))


def _map_author(author: Element) -> dict[str, str]:
    return {
        "literal": first_text(author, "CollectiveName"),
        "given": first_text(author, "ForeName", "Initials"),
        "family": first_text(author, "LastName"),
        "suffix": first_text(author, "Suffix"),
    }


def _dates(article: Element) -> Iterator[str]:
    for path in _DATE_PATHS:
        yield from map(element_text, find_all(article, path))


def _is_retracted(article: Element) -> bool:
    for publication_type in article.iter("PublicationType"):
        if element_text(publication_type).strip().lower() == "retracted publication":
            return True
    corrections = article.iter("CommentsCorrections")
    return any(correction.get("RefType") == "RetractionIn" for correction in corrections)


FORMAT = Format("pubmed-xml", "PubMed XML", (), _matches, _parse, is_markup=True)
