"""Mapping of JSON records of well-known services to raw records.

The service is recognized by the keys of a record.
"""

from collections.abc import Callable, Iterable
from typing import Any

from rag.ingest.sources.common.raw_record import MAX_RAW_ABSTRACT, ParseFailure, RawRecord
from rag.text.cleaning import value_to_text

JsonObject = dict[str, Any]

_MAX_ABSTRACT_WORDS = 50_000  # of an inverted index
_PAPER_KEYS = frozenset({"title", "display_name", "paper", "abstract", "_id", "DOI", "doi"})


def map_value(value: object) -> RawRecord | ParseFailure:
    """Map a JSON object to a raw record, or return a failure for any other value."""
    return map_object(value) if isinstance(value, dict) else ParseFailure("not a JSON object")


def map_object(record: JsonObject) -> RawRecord:
    """Map the record of a known service, or one in Footnote's own schema, to a raw record."""
    for keys, map_record in _MAPPINGS:
        if any(map(record.__contains__, keys)):
            return map_record(record)
    return _map_footnote(record)


def is_paper_key(key: str) -> bool:
    """Tell if a key shows that a single object in a file is meant to be a paper."""
    return key in _PAPER_KEYS


def _first(record: JsonObject, *keys: str) -> Any:  # noqa: ANN401 - a value of untrusted JSON
    """Return the first value that is not empty."""
    for key in keys:
        value = record.get(key)
        if value not in (None, "", [], {}):
            return value
    return None


def _nested(record: object, *path: str) -> Any:  # noqa: ANN401
    """Return the value at a path of keys, or None where an object is missing."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _map_footnote(record: JsonObject) -> RawRecord:
    """Map Footnote's own schema, corpora of {_id, title, text}, and other common field names."""
    return RawRecord(
        title=_first(record, "title", "Title"),
        abstract=_first(record, "abstract", "Abstract", "summary", "abstractNote", "text"),
        authors=_first(record, "authors", "Authors", "author", "creators"),
        year=_first(record, "year", "Year", "published", "publication_date", "date", "bib"),
        venue=_first(record, "venue", "journal", "publicationTitle", "booktitle"),
        url=_first(record, "url", "URL", "link"),
        doi=_first(record, "doi", "DOI"),
        arxiv_id=_first(record, "arxiv_id", "arxiv", "arXiv"),
        pmid=_first(record, "pmid", "PMID"),
        notes=_first(record, "extra", "note"),
        retracted=record.get("retracted") is True,
    )


def _map_arxiv_dump(record: JsonObject) -> RawRecord:
    """Map the arXiv metadata published on Kaggle."""
    versions = filter(_is_object, _items(record.get("versions")))
    first_version: JsonObject = next(versions, {})
    return RawRecord(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=_parsed_authors(record) or record.get("authors"),
        year=[first_version.get("created"), record.get("update_date")],
        venue=record.get("journal-ref"),
        doi=record.get("doi"),
        arxiv_id=record.get("id"),
        notes=record.get("comments"),
    )


def _parsed_authors(record: JsonObject) -> list[JsonObject]:
    authors = []
    for name in _items(record.get("authors_parsed")):
        if isinstance(name, list) and len(name) > 1:
            authors.append({"family": name[0], "given": name[1], "suffix": name[2:3]})
    return authors


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _map_hugging_face(record: JsonObject) -> RawRecord:
    """Map the daily papers of Hugging Face, which repeat title and summary outside the paper."""
    paper = record["paper"] if isinstance(record["paper"], dict) else {}
    return RawRecord(
        title=_first(paper, "title") or record.get("title"),
        abstract=_first(paper, "summary", "abstract") or record.get("summary"),
        authors=_first(paper, "authors"),
        year=[paper.get("publishedAt"), record.get("publishedAt")],
        arxiv_id=paper.get("id"),
    )


def _map_semantic_scholar(record: JsonObject) -> RawRecord:
    return RawRecord(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=record.get("authors"),
        year=[record.get("year"), record.get("publicationDate")],
        venue=_first(record, "venue") or _nested(record, "journal", "name"),
        url=record.get("url"),
        doi=_nested(record, "externalIds", "DOI"),
        arxiv_id=_nested(record, "externalIds", "ArXiv"),
        pmid=_nested(record, "externalIds", "PubMed"),
    )


def _map_openalex(record: JsonObject) -> RawRecord:
    authorships = _items(record.get("authorships"))
    inverted_index = record.get("abstract_inverted_index")
    return RawRecord(
        title=_first(record, "display_name", "title"),
        abstract=_first(record, "abstract") or _restore_abstract(inverted_index),
        authors=[_nested(authorship, "author", "display_name") for authorship in authorships],
        year=[record.get("publication_year"), record.get("publication_date")],
        venue=_nested(record, "primary_location", "source", "display_name"),
        url=_nested(record, "primary_location", "landing_page_url"),
        doi=_first(record, "doi") or _nested(record, "ids", "doi"),
        pmid=_nested(record, "ids", "pmid"),
        retracted=record.get("is_retracted") is True,
    )


def _restore_abstract(inverted_index: object) -> str:
    """Return the text of an inverted index, which maps each word to its positions.

    The text is cut when it is too long for an abstract, because a long word at many positions
    would fill the memory.
    """
    if not isinstance(inverted_index, dict):
        return ""
    words: list[str] = []
    length = 0
    for _, word in sorted(_word_positions(inverted_index))[:_MAX_ABSTRACT_WORDS]:
        words.append(word)
        length += len(word) + 1
        if length > MAX_RAW_ABSTRACT + 1:
            break
    return " ".join(words)


def _word_positions(inverted_index: JsonObject) -> Iterable[tuple[int, str]]:
    for word, positions in inverted_index.items():
        for position in _items(positions):
            if isinstance(position, int):
                yield position, word


def _map_csl(record: JsonObject) -> RawRecord:
    """Map CSL-JSON, which reference managers export and Crossref serves."""
    is_on_arxiv = "arxiv" in value_to_text(record.get("archive")).lower()
    return RawRecord(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=record.get("author"),
        year=[record.get("issued"), record.get("published")],
        venue=_first(record, "container-title", "event-title"),
        url=record.get("URL"),
        doi=record.get("DOI"),
        arxiv_id=_first(record, "arxiv") or (record.get("number") if is_on_arxiv else None),
        pmid=record.get("PMID"),
        notes=value_to_text(record.get("note")),
    )


# A mapping applies to records that have one of its keys. The first that applies is used.
_MAPPINGS: tuple[tuple[tuple[str, ...], Callable[[JsonObject], RawRecord]], ...] = (
    (("paper",), _map_hugging_face),
    (("abstract_inverted_index", "authorships"), _map_openalex),
    (("paperId", "externalIds"), _map_semantic_scholar),
    (("authors_parsed", "journal-ref", "versions"), _map_arxiv_dump),
    (("issued", "container-title"), _map_csl),
)
