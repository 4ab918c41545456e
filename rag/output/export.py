"""Papers and answers for other programs.

Papers: Markdown, BibTeX, RIS, CSL-JSON, and JSON Lines that `footnote add` reads back. Answers: Markdown with
footnotes or with Pandoc's citations, JSON, and the papers that they cite in the three formats of reference managers.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import starmap
from typing import Any
from urllib.parse import quote

from rag.answering.conversation import markdown_of
from rag.errors import UsageError
from rag.records import Answer, Claim, Paper, escape_markdown, paper_dict
from rag.text.cleaning import title_key

_CITEKEY_STOP = frozenset(
    "a an the on of for in to and with by from at is are towards toward".split()
)
_SUFFIX = re.compile(r"(?:Jr|Sr|II|III|IV)\.?")
# Names that have no family name, or that would be taken for a list of names.
_ONE_PIECE = re.compile(
    r"[,;]|\b(?:and|collaboration|consortium|group|team|network|committee|university|institute|society|inc|ltd|llc|gmbh)\b",
    re.IGNORECASE,
)
# "$x$", yet not what stands between "$5 and $6".
_FORMULA = re.compile(r"\$(?!\s)[^$]+(?<!\s)\$(?!\d)")
# A formula, a command, an escaped character, or a bare one that LaTeX would misread.
_LATEX = re.compile(_FORMULA.pattern + r"|\\(?:[A-Za-z]+|[%&#_${}^~'\"`=.])|[\\%&#_$^~{}]")
_LATEX_ESCAPES = {char: f"\\{char}" for char in "%&#_${}"} | {
    "\\": r"{\textbackslash}",
    "^": r"{\textasciicircum}",
    "~": r"{\textasciitilde}",
}
# What Pandoc's Markdown reads as mark-up or sets otherwise: quotation marks, "--" and "..." too.
_PANDOC_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|!@$^~&'\"]|(?<=-)-|(?<=\.)\.|^[-+:%=(]")
_PANDOC_LIST = re.compile(r"^((?:\\\()?[A-Za-z\d]+)([.)])")


def export_papers(papers: Iterable[Paper], format: str) -> str:  # noqa: A002 - the word users know
    """The papers in one of `FORMATS`, as text."""
    if format not in FORMATS:
        raise UsageError(f"no format is called '{format}'; there are: {', '.join(FORMATS)}")
    return FORMATS[format](list(papers))


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of `Given particle Family Suffix`; that of an organisation is all family."""

    given: str
    particle: str
    family: str
    suffix: str

    @classmethod
    def of(cls, author: str) -> "_Name":
        *words, family = author.split() or [""]
        if not words or _ONE_PIECE.search(author):
            return cls("", "", author, "")
        suffix = ""
        if len(words) > 1 and _SUFFIX.fullmatch(family):
            suffix, family = family, words.pop()
        start = len(words)
        while start > 1 and words[start - 1].islower():
            start -= 1
        return cls(" ".join(words[:start]), " ".join(words[start:]), family, suffix)


def citekeys(papers: Iterable[Paper]) -> list[str]:
    """A key for each paper in the manner of `okafor2021sparse`; the second of two alike ends in `b`."""
    keys: dict[str, int] = {}
    for paper in papers:
        family = _plain(_Name.of(paper.authors[0]).family) if paper.authors else ""
        words = [_plain(word) for word in paper.title.split()]
        word = next((word for word in words if word and word not in _CITEKEY_STOP), "paper")
        stem = f"{family}{paper.year or ''}{word}"
        key, number = stem, keys.get(stem, 0)
        while key in keys:
            number += 1
            key = f"{stem}{_letters(number)}"
        keys |= {stem: max(1, number), key: 1}
    return list(keys)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", title_key(text))


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
        byline = f" — {escape_markdown(paper.byline)}" if paper.byline else ""
        venue = f". {escape_markdown(paper.venue)}" if paper.venue else ""
        link = f" <{paper.link}>" if paper.link else ""
        retracted = " **Retracted.**" if paper.retracted else ""
        lines.append(f"- *{escape_markdown(paper.title)}*{byline}{venue}.{retracted}{link}")
    return "\n".join(lines) + "\n" if lines else ""


def _percent_encoded(text: str, characters: str) -> str:
    return re.sub(characters, lambda found: quote(found[0]), text)


def _remarks(paper: Paper) -> list[str]:
    """What a format has no field for, worded so that it is understood where the paper is read back."""
    arxiv = [f"arXiv:{paper.arxiv_id}"] if paper.arxiv_id else []
    return arxiv + (["This paper has been retracted."] if paper.retracted else [])


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
    prose = {
        "author": " and ".join(map(_bibtex_name, paper.authors)),
        "title": _bibtex_text(paper.title),
        "journal": _bibtex_text(paper.venue),
        "abstract": _bibtex_text(paper.abstract),
        "note": "This paper has been retracted." if paper.retracted else "",
    }
    verbatim = {
        "year": str(paper.year or ""),
        "doi": _percent_encoded(paper.doi, r"[{}\\]"),
        "eprint": paper.arxiv_id,
        "archiveprefix": "arXiv" if paper.arxiv_id else "",
        "pmid": paper.pmid,
        "url": paper.link,
    }
    return {name: f"{{{value}}}" if value else "" for name, value in (prose | verbatim).items()}


def _bibtex_name(author: str) -> str:
    """`Family, Given`; as it is spoken with a particle, which BibTeX finds there; braced when it is in one piece."""
    name = _Name.of(author)
    if not name.given:
        return f"{{{_bibtex_text(author)}}}"
    if name.particle and not name.suffix:
        return _bibtex_text(author)
    family = f"{name.particle} {name.family}".strip()
    return _bibtex_text(", ".join(part for part in (family, name.suffix, name.given) if part))


def _bibtex_text(text: str) -> str:
    """Text that LaTeX would misread, escaped; formulas and commands stay, and no brace can break the entry."""
    if not _is_balanced(text):
        text = text.replace("{", "(").replace("}", ")")
    has_commands = re.search(r"\\[A-Za-z]", _FORMULA.sub("", text))
    kept = "{}" if has_commands else ""
    return _LATEX.sub(
        lambda found: found[0] if found[0] in kept else _LATEX_ESCAPES.get(found[0], found[0]), text
    )


def _is_balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall("[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _ris(papers: list[Paper]) -> str:
    import rispy

    entries = [
        {name: value for name, value in _ris_fields(paper).items() if value}
        | {"type_of_reference": "JOUR"}
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
        "authors": [_ris_name(author) for author in paper.authors],
        "year": str(paper.year or ""),
        "journal_name": paper.venue,
        "doi": paper.doi,
        "urls": [paper.link] if paper.link else [],
        "abstract": paper.abstract,
        "accession_number": paper.pmid,
        "name_of_database": "PubMed" if paper.pmid else "",
        "notes": _remarks(paper),
    }


def _ris_name(author: str) -> str:
    name = _Name.of(author)
    given = f"{name.given} {name.particle}".strip()
    return ", ".join(part for part in (name.family, given, name.suffix) if part)


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
        "note": " ".join(_remarks(paper)),
    }
    return {name: value for name, value in item.items() if value}


def _csl_name(author: str) -> dict[str, str]:
    name = _Name.of(author)
    if not name.given:
        return {"literal": author}
    parts = {
        "given": name.given,
        "non-dropping-particle": name.particle,
        "family": name.family,
        "suffix": name.suffix,
    }
    return {part: value for part, value in parts.items() if value}


def export_answer(answer: Answer, format: str) -> str:  # noqa: A002 - the word users know
    """The answer in one of `ANSWER_FORMATS`, as text that ends with its line.

    `bibtex`, `ris` and `csl-json` hold the papers that it cites, in the order of their footnotes; none where the
    library does not say. Their keys are those that `pandoc` cites with.
    """
    if format not in ANSWER_FORMATS:
        raise UsageError(f"no format is called '{format}'; there are: {', '.join(ANSWER_FORMATS)}")
    return ANSWER_FORMATS[format](answer)


def export_conversation(answers: Iterable[Answer], format: str) -> str:  # noqa: A002 - the word users know
    """The answers of a conversation as `markdown`, or the papers that they cite in one of the other `FORMATS`."""
    if format == "markdown":
        return markdown_of(answers)
    return export_papers(_cited(*answers), format)


def _cited(*answers: Answer) -> list[Paper]:
    """The papers behind the footnotes, each once."""
    return list(
        dict.fromkeys(citation.paper for answer in answers for citation in answer.citations)
    )


def _pandoc(answer: Answer) -> str:
    """Markdown for `pandoc --citeproc`: the one file holds the text and, as metadata, what it cites.

    Each reference is a line of JSON, which is YAML too. Pandoc reads what it holds as Markdown, like the text.
    """
    papers = _cited(answer)
    keys = dict(zip(papers, citekeys(papers), strict=True))
    parts = [f"**{_pandoc_text(answer.question)}**", _pandoc_body(answer, keys)]
    if retracted := "; ".join(f"@{key}" for paper, key in keys.items() if paper.retracted):
        parts.append(f"**Retracted:** [{retracted}].")
    if keys:
        parts.append(
            "\n".join(["---", "references:", *starmap(_pandoc_reference, keys.items()), "---"])
        )
    return "\n\n".join(parts) + "\n"


def _pandoc_body(answer: Answer, keys: dict[Paper, str]) -> str:
    if answer.abstained:
        nearest = "\n".join(f"- *{_pandoc_text(hit.paper.title)}*" for hit in answer.hits)
        return _pandoc_text(answer.text) + (f"\n\n{nearest}" if nearest else "")
    numbered = {citation.number: keys[citation.paper] for citation in answer.citations}
    return " ".join(_pandoc_claim(claim, numbered) for claim in answer.claims)


def _pandoc_claim(claim: Claim, keys: dict[int, str]) -> str:
    """A quotation stays whole in its quotation marks; a written sentence gives its full stop to the citation."""
    cited = "; ".join(dict.fromkeys(f"@{keys[number]}" for number in claim.citations))
    mark = f" [{cited}]" if cited else ""
    if claim.kind == "quoted":
        return f"“{_pandoc_text(claim.text)}”{mark}"
    text, stop = claim.text, ""
    if text.endswith(".") and not text.endswith(".."):
        text, stop = text[:-1], "."
    return f"{_pandoc_text(text)}{mark}{stop}"


def _pandoc_reference(paper: Paper, key: str) -> str:
    item = {
        name: value
        for name, value in _csl_item(paper, key).items()
        if name not in ("abstract", "note")
    }
    return "- " + json.dumps(_pandoc_value(item), ensure_ascii=False)


def _pandoc_value(value: Any) -> Any:  # noqa: ANN401 - what a CSL item holds: texts, numbers, lists and mappings of them
    if isinstance(value, str):
        return _pandoc_text(value)
    if isinstance(value, list):
        return [_pandoc_value(one) for one in value]
    return (
        {name: _pandoc_value(one) for name, one in value.items()}
        if isinstance(value, dict)
        else value
    )


def _pandoc_text(text: str) -> str:
    """Text of strangers as text: Pandoc shows it character for character, formulas, citations and quotation marks."""
    one_line = " ".join(text.split())
    return _PANDOC_LIST.sub(r"\1\\\2", _PANDOC_ACTIVE.sub(r"\\\g<0>", one_line))


FORMATS: dict[str, Callable[[list[Paper]], str]] = {
    "markdown": _markdown,
    "bibtex": _bibtex,
    "ris": _ris,
    "csl-json": _csl_json,
    "jsonl": _json_lines,
}

ANSWER_FORMATS: dict[str, Callable[[Answer], str]] = {
    "markdown": Answer.to_markdown,
    "pandoc": _pandoc,
    "bibtex": lambda answer: _bibtex(_cited(answer)),
    "ris": lambda answer: _ris(_cited(answer)),
    "csl-json": lambda answer: _csl_json(_cited(answer)),
    "json": lambda answer: answer.to_json() + "\n",
}
