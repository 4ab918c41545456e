"""Papers for other programs: Markdown, BibTeX, RIS, CSL-JSON, and JSON Lines that `footnote add` reads back."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from rag.errors import UsageError
from rag.records import Paper, markdown_text, paper_dict

_CITEKEY_STOP = frozenset("a an the on of for in to and with by from at is are towards toward".split())


def export_papers(papers: Iterable[Paper], format: str) -> str:  # noqa: A002 - the word users know
    """The papers in one of `FORMATS`, as text."""
    if format not in FORMATS:
        raise UsageError(f"no format is called '{format}'; there are: {', '.join(FORMATS)}")
    return FORMATS[format](list(papers))


def citekeys(papers: Iterable[Paper]) -> list[str]:
    """A key for each paper in the manner of `okafor2021sparse`; the second of two alike ends in `b`."""
    seen: dict[str, int] = {}
    keys = []
    for paper in papers:
        family = _plain(paper.authors[0].split()[-1]) if paper.authors else ""
        words = [_plain(word) for word in paper.title.split()]
        word = next((word for word in words if word and word not in _CITEKEY_STOP), "paper")
        key = f"{family}{paper.year or ''}{word}"
        seen[key] = seen.get(key, 0) + 1
        keys.append(key if seen[key] == 1 else f"{key}{_letters(seen[key])}")
    return keys


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _letters(number: int) -> str:
    """2 -> b, 26 -> z, 27 -> aa."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _markdown(papers: list[Paper]) -> str:
    lines = []
    for paper in papers:
        byline = f" — {markdown_text(paper.byline)}" if paper.byline else ""
        venue = f". {markdown_text(paper.venue)}" if paper.venue else ""
        link = f" <{paper.link}>" if paper.link else ""
        retracted = " **Retracted.**" if paper.retracted else ""
        lines.append(f"- *{markdown_text(paper.title)}*{byline}{venue}.{retracted}{link}")
    return "\n".join(lines) + "\n" if lines else ""


def _json_lines(papers: list[Paper]) -> str:
    return "".join(json.dumps(paper_dict(paper), ensure_ascii=False) + "\n" for paper in papers)


def _bibtex(papers: list[Paper]) -> str:
    from bibtexparser.entrypoint import write_string
    from bibtexparser.library import Library
    from bibtexparser.model import Block, Entry, Field

    entries: list[Block] = [
        Entry(
            "article" if paper.venue else "misc",
            key,
            [Field(name, value) for name, value in _bibtex_fields(paper).items() if value],
        )
        for paper, key in zip(papers, citekeys(papers), strict=True)
    ]
    return str(write_string(Library(entries), unparse_stack=[]))


def _bibtex_fields(paper: Paper) -> dict[str, str]:
    fields = {
        "author": " and ".join(_family_first(author) for author in paper.authors),
        "title": paper.title,
        "journal": paper.venue,
        "year": str(paper.year or ""),
        "doi": paper.doi,
        "eprint": paper.arxiv_id,
        "archiveprefix": "arXiv" if paper.arxiv_id else "",
        "pmid": paper.pmid,
        "url": paper.link,
        "abstract": paper.abstract,
        "note": "Retracted" if paper.retracted else "",
    }
    braced = ("title", "abstract", "journal", "author", "note")
    return {
        name: f"{{{_bibtex_text(value) if name in braced else value}}}" if value else ""
        for name, value in fields.items()
    }


def _bibtex_text(text: str) -> str:
    """Text that LaTeX would misread, escaped; formulas stay, and a lone brace cannot break the entry."""
    if text.count("{") != text.count("}"):
        text = text.replace("{", "(").replace("}", ")")
    return re.sub(r"(?<!\\)([%&#])", r"\\\1", text)


def _family_first(author: str) -> str:
    given, _, family = author.rpartition(" ")
    return f"{family}, {given}" if given else author


def _ris(papers: list[Paper]) -> str:
    import rispy

    entries = [
        {name: value for name, value in _ris_fields(paper).items() if value} | {"type_of_reference": "JOUR"}
        for paper in papers
    ]

    class Writer(rispy.RisWriter):  # type: ignore[misc]
        """Without the numbers that rispy puts before the records, for they are no part of RIS."""

        def set_header(self, count: int) -> str:
            return ""

    return str(rispy.dumps(entries, implementation=Writer)) + "\n" if entries else ""


def _ris_fields(paper: Paper) -> dict[str, Any]:
    return {
        "title": paper.title,
        "authors": [_family_first(author) for author in paper.authors],
        "year": str(paper.year or ""),
        "journal_name": paper.venue,
        "doi": paper.doi,
        "urls": [paper.link] if paper.link else [],
        "abstract": paper.abstract,
        "accession_number": paper.pmid,
        "notes": ["Retracted"] if paper.retracted else [],
    }


def _csl_json(papers: list[Paper]) -> str:
    items = [_csl_item(paper, key) for paper, key in zip(papers, citekeys(papers), strict=True)]
    return json.dumps(items, ensure_ascii=False, indent=2) + "\n"


def _csl_item(paper: Paper, key: str) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": key,
        "type": "article-journal" if paper.venue else "article",
        "title": paper.title,
        "author": [_csl_name(author) for author in paper.authors],
        "issued": {"date-parts": [[paper.year]]} if paper.year else None,
        "container-title": paper.venue,
        "DOI": paper.doi,
        "PMID": paper.pmid,
        "URL": paper.link,
        "abstract": paper.abstract,
    }
    return {name: value for name, value in item.items() if value}


def _csl_name(author: str) -> dict[str, str]:
    given, _, family = author.rpartition(" ")
    return {"family": family, "given": given} if given else {"literal": author}


FORMATS: dict[str, Callable[[list[Paper]], str]] = {
    "markdown": _markdown,
    "bibtex": _bibtex,
    "ris": _ris,
    "csl-json": _csl_json,
    "jsonl": _json_lines,
}
