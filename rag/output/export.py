"""Papers and answers in the formats of other programs.

Papers: Markdown, BibTeX, RIS, CSL-JSON, JSON and JSON Lines; `footnote add` reads all but Markdown.
Answers: Markdown with footnotes or with Pandoc citations, JSON, or the cited papers alone.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from rag.errors import unknown_choice
from rag.output.markdown import (
    answer_to_markdown,
    conversation_to_markdown,
    papers_to_markdown,
)
from rag.records import Answer, Citation, Claim, Paper
from rag.text.answer_form import evidence_by_paper, separator, written_claims
from rag.text.cleaning import title_key

_RETRACTION_NOTE = "This paper has been retracted."
_CITEKEY_STOPWORDS = frozenset(
    "a an the on of for in to and with by from at is are towards toward".split()
)
_NAME_SUFFIX = re.compile(r"(?:Jr|Sr|II|III|IV)\.?")
# Organisations, and names that reference managers would split into several.
_UNDIVIDED_NAME = re.compile(
    r"[,;]|\b(?:and|collaboration|consortium|group|team|network|committee|university|institute"
    r"|society|inc|ltd|llc|gmbh)\b",
    re.IGNORECASE,
)
# "$x$", but not the text between "$5 and $6".
_FORMULA = re.compile(r"\$(?!\s)[^$]+(?<!\s)\$(?!\d)")
# A formula, a command, an escaped character, or a bare character that LaTeX would misread.
_LATEX = re.compile(_FORMULA.pattern + r"|\\(?:[A-Za-z]+|[%&#_${}^~'\"`=.])|[\\%&#_$^~{}]")
_LATEX_COMMAND = re.compile(r"\\[A-Za-z]")
_LATEX_ESCAPES = {
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "\\": r"{\textbackslash}",
    "^": r"{\textasciicircum}",
    "~": r"{\textasciitilde}",
}
_LATEX_ESCAPES_WITH_BRACES = _LATEX_ESCAPES | {"{": r"\{", "}": r"\}"}
_BIBTEX_DOI_ESCAPES = str.maketrans({"{": "%7B", "}": "%7D", "\\": "%5C"})
_PARENTHESES_FOR_BRACES = str.maketrans("{}", "()")
# Markup of Pandoc's Markdown, and what it typesets: quotation marks, "--" and "...".
_PANDOC_ACTIVE = re.compile(r"[\\`*_{}\[\]<>#|!@$^~&'\"]|(?<=-)-|(?<=\.)\.|^[-+:%=(]")
_PANDOC_LIST = re.compile(r"^((?:\\\()?[A-Za-z\d]+)([.)])")
_PANDOC_OMITTED_FIELDS = ("abstract", "note")


def export_papers(papers: Iterable[Paper], format: str) -> str:  # noqa: A002 - the option's name
    """Return the papers in one of `PAPER_FORMATS`, as text.

    Raises `UsageError` for an unknown format.
    """
    if format not in PAPER_FORMATS:
        raise unknown_choice("format", format, PAPER_FORMATS)
    return PAPER_FORMATS[format](list(papers))


def export_answer(answer: Answer, format: str) -> str:  # noqa: A002 - the option's name
    """Return the answer in one of `ANSWER_FORMATS`, as text.

    `bibtex`, `ris` and `csl-json` hold the cited papers in the order of their footnotes, and
    nothing for an abstention. Their keys are the ones that `pandoc` cites.

    Raises `UsageError` for an unknown format.
    """
    if format not in ANSWER_FORMATS:
        raise unknown_choice("format", format, ANSWER_FORMATS)
    return ANSWER_FORMATS[format](answer)


def export_conversation(
    answers: Iterable[Answer],
    format: str,  # noqa: A002 - the option's name
) -> str:
    """Return a conversation as `markdown`, or its cited papers in another of `PAPER_FORMATS`."""
    if format == "markdown":
        return conversation_to_markdown(answers)
    return export_papers(_cited_papers(answers), format)


def _cited_papers(answers: Iterable[Answer]) -> list[Paper]:
    """List the cited papers in the order of their footnotes, each once."""
    papers: dict[Paper, None] = {}
    for answer in answers:
        for citation in answer.citations:
            papers[citation.paper] = None
    return list(papers)


def _non_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


# --- names and keys ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PersonName:
    """Parts of a name `Given particle Family Suffix`. An organisation is all family name."""

    given: str
    particle: str
    family: str
    suffix: str

    @classmethod
    def parse(cls, author: str) -> "_PersonName":
        """Split an author's name into its parts."""
        *words, family = author.split() or [""]
        if not words or _UNDIVIDED_NAME.search(author):
            return cls("", "", author, "")
        suffix = ""
        if len(words) > 1 and _NAME_SUFFIX.fullmatch(family):
            suffix, family = family, words.pop()
        particle_start = len(words)
        while particle_start > 1 and words[particle_start - 1].islower():
            particle_start -= 1
        given, particle = words[:particle_start], words[particle_start:]
        return cls(" ".join(given), " ".join(particle), family, suffix)


def assign_citekeys(papers: Iterable[Paper]) -> list[str]:
    """Give each paper a unique key such as `okafor2021sparse`; further ones end in `b`, `c`."""
    keys: dict[str, None] = {}
    last_numbers: dict[str, int] = {}
    for paper in papers:
        stem = _citekey_stem(paper)
        key, number = stem, last_numbers.get(stem, 1)
        while key in keys:
            number += 1
            key = f"{stem}{_letters(number)}"
        keys[key] = None
        last_numbers[stem] = number
    return list(keys)


def _citekey_stem(paper: Paper) -> str:
    family = _ascii_key(_PersonName.parse(paper.authors[0]).family) if paper.authors else ""
    for word in map(_ascii_key, paper.title.split()):
        if word and word not in _CITEKEY_STOPWORDS:
            return f"{family}{paper.year or ''}{word}"
    return f"{family}{paper.year or ''}paper"


def _ascii_key(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", title_key(text))


def _letters(number: int) -> str:
    """Count in letters: 2 -> b, 26 -> z, 27 -> aa."""
    letters = ""
    while number:
        number, remainder = divmod(number - 1, 26)
        letters = chr(ord("a") + remainder) + letters
    return letters


def _extra_notes(paper: Paper) -> list[str]:
    """Return notes for fields that a format lacks, in a form that `footnote add` reads back."""
    notes = []
    if paper.arxiv_id:
        notes.append(f"arXiv:{paper.arxiv_id}")
    if paper.retracted:
        notes.append(_RETRACTION_NOTE)
    return notes


# --- papers -----------------------------------------------------------------------------------


def _json(papers: list[Paper]) -> str:
    return json.dumps(list(map(Paper.to_dict, papers)), ensure_ascii=False, indent=2) + "\n"


def _json_lines(papers: list[Paper]) -> str:
    return "".join(json.dumps(paper.to_dict(), ensure_ascii=False) + "\n" for paper in papers)


def _bibtex(papers: list[Paper]) -> str:
    from bibtexparser.entrypoint import write_string
    from bibtexparser.library import Library
    from bibtexparser.model import Block, Entry, Field

    entries: list[Block] = []
    for paper, key in zip(papers, assign_citekeys(papers), strict=True):
        fields = list(starmap(Field, _bibtex_fields(paper).items()))
        entries.append(Entry("article" if paper.venue else "misc", key, fields))
    return str(write_string(Library(entries), unparse_stack=[]))


def _bibtex_fields(paper: Paper) -> dict[str, str]:
    fields = {
        "author": " and ".join(map(_bibtex_name, paper.authors)),
        "title": _escape_latex(paper.title),
        "journal": _escape_latex(paper.venue),
        "abstract": _escape_latex(paper.abstract),
        "note": _RETRACTION_NOTE if paper.retracted else "",
        "year": str(paper.year or ""),
        "doi": paper.doi.translate(_BIBTEX_DOI_ESCAPES),
        "eprint": paper.arxiv_id,
        "archiveprefix": "arXiv" if paper.arxiv_id else "",
        "pmid": paper.pmid,
        "url": paper.link,
    }
    return {name: f"{{{value}}}" for name, value in fields.items() if value}


def _bibtex_name(author: str) -> str:
    """Write a name as `Family, Given`.

    A name with a particle stays in natural order, where BibTeX recognizes the particle. A name that
    must not be divided gets braces.
    """
    name = _PersonName.parse(author)
    if not name.given:
        return f"{{{_escape_latex(author)}}}"
    if name.particle and not name.suffix:
        return _escape_latex(author)
    family = f"{name.particle} {name.family}".strip()
    return _escape_latex(", ".join(filter(None, (family, name.suffix, name.given))))


def _escape_latex(text: str) -> str:
    """Escape what LaTeX would misread, except in formulas and commands.

    Unbalanced braces become parentheses: they would break the entry.
    """
    if not _has_balanced_braces(text):
        text = text.translate(_PARENTHESES_FOR_BRACES)
    has_commands = _LATEX_COMMAND.search(_FORMULA.sub("", text))
    escapes = _LATEX_ESCAPES if has_commands else _LATEX_ESCAPES_WITH_BRACES
    return _LATEX.sub(lambda match: escapes.get(match[0], match[0]), text)


def _has_balanced_braces(text: str) -> bool:
    depth = 0
    for brace in re.findall("[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _ris(papers: list[Paper]) -> str:
    import rispy

    class Writer(rispy.RisWriter):  # type: ignore[misc]
        """Writer without the record numbers of rispy, which are not part of RIS."""

        def set_header(self, count: int) -> str:
            return ""

    entries = list(map(_ris_entry, papers))
    return str(rispy.dumps(entries, implementation=Writer)) + "\n" if entries else ""


def _ris_entry(paper: Paper) -> dict[str, Any]:
    fields = {
        "title": paper.title,
        "authors": list(map(_ris_name, paper.authors)),
        "year": str(paper.year or ""),
        "journal_name": paper.venue,
        "doi": paper.doi,
        "urls": [paper.link] if paper.link else [],
        "abstract": paper.abstract,
        "accession_number": paper.pmid,
        "name_of_database": "PubMed" if paper.pmid else "",
        "notes": _extra_notes(paper),
        "type_of_reference": "JOUR",
    }
    return _non_empty(fields)


def _ris_name(author: str) -> str:
    name = _PersonName.parse(author)
    given = f"{name.given} {name.particle}".strip()
    return ", ".join(filter(None, (name.family, given, name.suffix)))


def _csl_json(papers: list[Paper]) -> str:
    items = list(map(_csl_item, papers, assign_citekeys(papers)))
    return json.dumps(items, ensure_ascii=False, indent=2) + "\n"


def _csl_item(paper: Paper, key: str) -> dict[str, Any]:
    item = {
        "id": key,
        "type": "article-journal" if paper.venue else "article",
        "title": paper.title,
        "author": list(map(_csl_name, paper.authors)),
        "issued": {"date-parts": [[paper.year]]} if paper.year else None,
        "container-title": paper.venue,
        "DOI": paper.doi,
        "PMID": paper.pmid,
        "URL": paper.link,
        "abstract": paper.abstract,
        "note": " ".join(_extra_notes(paper)),
    }
    return _non_empty(item)


def _csl_name(author: str) -> dict[str, str]:
    name = _PersonName.parse(author)
    if not name.given:
        return {"literal": author}
    parts = {
        "given": name.given,
        "non-dropping-particle": name.particle,
        "family": name.family,
        "suffix": name.suffix,
    }
    return _non_empty(parts)


# --- answers ----------------------------------------------------------------------------------


def _answer_json(answer: Answer) -> str:
    return answer.to_json() + "\n"


def _cited(export: Callable[[list[Paper]], str]) -> Callable[[Answer], str]:
    """Turn a format for papers into a format for answers that lists the cited papers."""
    return lambda answer: export(_cited_papers([answer]))


def _pandoc(answer: Answer) -> str:
    """Return Markdown for `pandoc --citeproc`: one file with the text and its references.

    Each reference is one line of JSON, which is also YAML. Pandoc reads the strings in it as
    Markdown.
    """
    papers = _cited_papers([answer])
    citekeys = dict(zip(papers, assign_citekeys(papers), strict=True))
    parts = [f"**{_escape_pandoc(answer.question)}**", _pandoc_body(answer, citekeys)]
    retracted = "; ".join(f"@{key}" for paper, key in citekeys.items() if paper.retracted)
    if retracted:
        parts.append(f"**Retracted:** [{retracted}].")
    if citekeys:
        references = starmap(_pandoc_reference, citekeys.items())
        parts.append("\n".join(["---", "references:", *references, "---"]))
    return "\n\n".join(parts) + "\n"


def _pandoc_body(answer: Answer, citekeys: dict[Paper, str]) -> str:
    if answer.abstained:
        text = _escape_pandoc(answer.text)
        nearest = "\n".join(f"- *{_escape_pandoc(hit.paper.title)}*" for hit in answer.hits)
        return f"{text}\n\n{nearest}" if nearest else text
    numbered_keys = {citation.number: citekeys[citation.paper] for citation in answer.citations}
    text, previous = "", None
    for claim in written_claims(answer.claims):
        text += separator(claim, previous) + _pandoc_claim(claim, numbered_keys)
        previous = claim
    paragraphs = [text]
    for citations in evidence_by_paper(answer.claims, answer.citations):
        paragraphs.append(_pandoc_quotations(citations, numbered_keys))
    return "\n\n".join(filter(None, paragraphs))


def _pandoc_quotations(citations: Sequence[Citation], citekeys: dict[int, str]) -> str:
    lines = [f"**{_escape_pandoc(citations[0].paper.title)}**\n"]
    for citation in citations:
        quote = f"“{_escape_pandoc(citation.quote)}” " if citation.quote else ""
        lines.append(f"- {quote}[@{citekeys[citation.number]}]")
    return "\n".join(lines)


def _pandoc_claim(claim: Claim, citekeys: dict[int, str]) -> str:
    """Write a claim with its citation, which comes before the full stop."""
    heading = f"- **{_escape_pandoc(claim.heading)}**: " if claim.heading else ""
    keys = dict.fromkeys(map(citekeys.__getitem__, claim.citations))
    citation = f" [{'; '.join(map('@{}'.format, keys))}]" if keys else ""
    text, full_stop = claim.text, ""
    if text.endswith(".") and not text.endswith(".."):
        text, full_stop = text[:-1], "."
    return f"{heading}{_escape_pandoc(text)}{citation}{full_stop}"


def _pandoc_reference(paper: Paper, key: str) -> str:
    item = _csl_item(paper, key)
    for name in _PANDOC_OMITTED_FIELDS:
        item.pop(name, None)
    return "- " + json.dumps(_escape_pandoc_values(item), ensure_ascii=False)


def _escape_pandoc_values(value: Any) -> Any:  # noqa: ANN401 - any value of a CSL item
    if isinstance(value, str):
        return _escape_pandoc(value)
    if isinstance(value, list):
        return list(map(_escape_pandoc_values, value))
    if isinstance(value, dict):
        return {name: _escape_pandoc_values(item) for name, item in value.items()}
    return value


def _escape_pandoc(text: str) -> str:
    """Escape untrusted text so that Pandoc shows it character for character."""
    line = " ".join(text.split())
    return _PANDOC_LIST.sub(r"\1\\\2", _PANDOC_ACTIVE.sub(r"\\\g<0>", line))


PAPER_FORMATS: dict[str, Callable[[list[Paper]], str]] = {
    "markdown": papers_to_markdown,
    "bibtex": _bibtex,
    "ris": _ris,
    "csl-json": _csl_json,
    "json": _json,
    "jsonl": _json_lines,
}

ANSWER_FORMATS: dict[str, Callable[[Answer], str]] = {
    "markdown": answer_to_markdown,
    "pandoc": _pandoc,
    "bibtex": _cited(_bibtex),
    "ris": _cited(_ris),
    "csl-json": _cited(_csl_json),
    "json": _answer_json,
}
