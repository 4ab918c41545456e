"""Records of the well-known services as Drafts. Which service a JSON object comes from is told by its keys."""

from collections.abc import Callable
from typing import Any

from rag.ingest.sources.paper import MAX_ABSTRACT, Draft
from rag.text.cleaning import value_to_text

Record = dict[str, Any]

_MOST_WORDS = 50_000  # of an abstract; 100,000 characters are the limit anyway
_LONGEST = 4 * MAX_ABSTRACT + 1  # characters; an abstract as long as this is refused


def draft_of(record: Record) -> Draft:
    """A Draft of a record from any of the services known here, or of one in Footnote's own schema."""
    return next((draw for keys, draw in _SHAPES if any(key in record for key in keys)), _own)(
        record
    )


def is_record(record: Record) -> bool:
    """Whether an object that stands alone in its file means to be a paper."""
    return any(
        key in record for key in ("title", "display_name", "paper", "abstract", "_id", "DOI", "doi")
    )


def _first(record: Record, *keys: str) -> Any:  # noqa: ANN401 - the values of strangers' JSON
    return next((record[key] for key in keys if record.get(key) not in (None, "", [], {})), None)


def _inner(record: Record, *path: str) -> Any:  # noqa: ANN401
    """What lies under a path of keys; None as soon as something on the way is no object."""
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _own(record: Record) -> Draft:
    """Footnote's own schema, the corpora of {_id, title, text}, and the names that people give such fields."""
    return Draft(
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


def _arxiv_dump(record: Record) -> Draft:
    """The metadata of arXiv as it is offered on Kaggle."""
    first_version = next(
        (v.get("created") for v in _items(record.get("versions")) if isinstance(v, dict)), None
    )
    parsed = [
        {"family": name[0], "given": name[1], "suffix": name[2:3]}
        for name in _items(record.get("authors_parsed"))
        if isinstance(name, list) and len(name) > 1
    ]
    return Draft(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=parsed or record.get("authors"),
        year=[first_version, record.get("update_date")],
        venue=record.get("journal-ref"),
        doi=record.get("doi"),
        arxiv_id=record.get("id"),
        notes=record.get("comments"),
    )


def _hugging_face(record: Record) -> Draft:
    """The daily papers of Hugging Face: the paper proper is inside, and its title and summary outside again."""
    paper = record["paper"] if isinstance(record["paper"], dict) else {}
    return Draft(
        title=_first(paper, "title") or record.get("title"),
        abstract=_first(paper, "summary", "abstract") or record.get("summary"),
        authors=_first(paper, "authors"),
        year=[paper.get("publishedAt"), record.get("publishedAt")],
        arxiv_id=paper.get("id"),
    )


def _semantic_scholar(record: Record) -> Draft:
    return Draft(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=record.get("authors"),
        year=[record.get("year"), record.get("publicationDate")],
        venue=_first(record, "venue") or _inner(record, "journal", "name"),
        url=record.get("url"),
        doi=_inner(record, "externalIds", "DOI"),
        arxiv_id=_inner(record, "externalIds", "ArXiv"),
        pmid=_inner(record, "externalIds", "PubMed"),
    )


def _openalex(record: Record) -> Draft:
    authors = [
        _inner(entry, "author", "display_name") for entry in _items(record.get("authorships"))
    ]
    place = record.get("primary_location")
    return Draft(
        title=_first(record, "display_name", "title"),
        abstract=_first(record, "abstract")
        or _from_inverted(record.get("abstract_inverted_index")),
        authors=authors,
        year=[record.get("publication_year"), record.get("publication_date")],
        venue=_inner(place, "source", "display_name") if isinstance(place, dict) else None,
        url=_inner(place, "landing_page_url") if isinstance(place, dict) else None,
        doi=_first(record, "doi") or _inner(record, "ids", "doi"),
        pmid=_inner(record, "ids", "pmid"),
        retracted=record.get("is_retracted") is True,
    )


def _from_inverted(index: object) -> str:
    """The text of an inverted index, which gives for each word the places where it stands.

    A long word that is said to stand in many places would fill the memory: a text too long for an abstract ends there.
    """
    if not isinstance(index, dict):
        return ""
    placed = [
        (at, word) for word, places in index.items() for at in _items(places) if isinstance(at, int)
    ]
    words: list[str] = []
    size = 0
    for _, word in sorted(placed)[:_MOST_WORDS]:
        words.append(word)
        size += len(word) + 1
        if size > _LONGEST:
            break
    return " ".join(words)


def _csl(record: Record) -> Draft:
    """CSL-JSON, as reference managers export it; Crossref speaks the same language."""
    note = value_to_text(record.get("note"))
    return Draft(
        title=record.get("title"),
        abstract=record.get("abstract"),
        authors=record.get("author"),
        year=[record.get("issued"), record.get("published")],
        venue=_first(record, "container-title", "event-title"),
        url=record.get("URL"),
        doi=record.get("DOI"),
        arxiv_id=_first(record, "arxiv")
        or (record.get("number") if "arxiv" in value_to_text(record.get("archive")).lower() else None),
        pmid=record.get("PMID"),
        notes=note,
    )


_SHAPES: tuple[tuple[tuple[str, ...], Callable[[Record], Draft]], ...] = (
    (("paper",), _hugging_face),
    (("abstract_inverted_index", "authorships"), _openalex),
    (("paperId", "externalIds"), _semantic_scholar),
    (("authors_parsed", "journal-ref", "versions"), _arxiv_dump),
    (("issued", "container-title"), _csl),
)
