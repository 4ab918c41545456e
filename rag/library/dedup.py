"""Decides when two records describe the same paper, and merges them.

A shared DOI, arXiv id (ignoring the version) or PubMed id settles it. Without one, the same title
does, unless something contradicts it: a different identifier of the same kind, a different first
author, or years far apart. A preprint and its published version become one paper with the
identifiers of both.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from rag.records import Paper
from rag.text.cleaning import title_key
from rag.text.terms import content_terms

# Preprint and publication are rarely further apart. Editions of an annual report are.
_MAX_YEAR_GAP = 2
# DOI prefixes of preprint servers: bioRxiv and medRxiv, OSF, ChemRxiv, Research Square, SSRN,
# Preprints.org, Zenodo.
_PREPRINT_DOI = re.compile(r"10\.(?:1101|31219|31234|31235|26434|21203|2139|20944|5281)/")
_MAX_GENERIC_TITLE_WORDS = 3
_MIN_SHARED_TERM_RATIO = 0.2
_MAX_SLUG_WORDS = 4
_MAX_SLUG_LENGTH = 40
_MIN_ID_DIGITS = 6
# Fields that come from the record itself.
_RECORD_FIELDS = tuple(field.name for field in fields(Paper) if field.name not in {"id", "source"})
# At this mismatch, a shared identifier must be an error in one of the records.
DIFFERENT_PAPERS = 3


def identifiers(paper: Paper) -> dict[str, str]:
    """Return a paper's identifiers by kind, as the library stores them: `doi:10.1000/x`."""
    values = {"doi": paper.doi.lower(), "arxiv": paper.arxiv_id.lower(), "pmid": paper.pmid}
    return {kind: f"{kind}:{value}" for kind, value in values.items() if value}


def record_hash(paper: Paper) -> str:
    """Return a digest of a record's fields, without its source: 32 hexadecimal digits."""
    record = {name: getattr(paper, name) for name in _RECORD_FIELDS}
    text = json.dumps(record, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def new_id(paper: Paper, is_taken: Callable[[str], bool]) -> str:
    """Return a readable, stable id: the first words of the title and a few digits of a digest."""
    words = title_key(paper.title).split()[:_MAX_SLUG_WORDS]
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words)).strip("-")[:_MAX_SLUG_LENGTH] or "paper"
    names = list(identifiers(paper).values())
    if names:
        identity = names[0]
    else:
        identity = json.dumps([title_key(paper.title), paper.authors[:1], paper.year])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    digits = _MIN_ID_DIGITS
    while is_taken(f"{slug}-{digest[:digits]}"):
        digits += 2
    return f"{slug}-{digest[:digits]}"


def could_be_same_paper(stored: Paper, incoming: Paper) -> bool:
    """Return whether no identifier, year or first author shows that these are two papers."""
    return not (
        _differ(stored.arxiv_id, incoming.arxiv_id)
        or _differ(stored.pmid, incoming.pmid)
        or _dois_contradict(stored.doi, incoming.doi)
        or _years_contradict(stored.year, incoming.year)
        or _first_authors_contradict(stored.authors, incoming.authors)
    )


def _differ(first: str, second: str) -> bool:
    return bool(first and second and first != second)


def _dois_contradict(first: str, second: str) -> bool:
    if not _differ(first.lower(), second.lower()):
        return False
    # A preprint and its publication have one DOI each.
    return bool(_PREPRINT_DOI.match(first)) == bool(_PREPRINT_DOI.match(second))


def _years_contradict(first: int | None, second: int | None) -> bool:
    return bool(first and second and abs(first - second) > _MAX_YEAR_GAP)


def _first_authors_contradict(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    return bool(first and second and _family_name(first[0]) != _family_name(second[0]))


def _family_name(author: str) -> str:
    """Return the last word of `Given Family`, folded for comparison."""
    words = title_key(author).split()
    return words[-1] if words else ""


def mismatch(stored: Paper, incoming: Paper) -> int:
    """Rate how much two records differ, from 0 to 3.

    0: not at all, 1: in their titles, 2: in identifiers, years or first authors, 3: in both.
    """
    is_contradicted = not could_be_same_paper(stored, incoming)
    has_other_title = title_key(stored.title) != title_key(incoming.title)
    return 2 * is_contradicted + has_other_title


def title_suffices(stored: Paper, incoming: Paper) -> bool:
    """Return whether the shared title alone shows that two records are one paper.

    A short title such as "Editorial" does not suffice if the abstracts share few terms.
    """
    is_generic = len(title_key(incoming.title).split()) <= _MAX_GENERIC_TITLE_WORDS
    if not is_generic or not (stored.abstract and incoming.abstract):
        return True
    stored_terms = set(content_terms(stored.abstract))
    incoming_terms = set(content_terms(incoming.abstract))
    smaller = min(len(stored_terms), len(incoming_terms))
    return len(stored_terms & incoming_terms) >= _MIN_SHARED_TERM_RATIO * smaller


def outdated_identifiers(names: Iterable[str], paper: Paper) -> list[str]:
    """Return the stored identifiers for which the paper now has another of the same kind."""
    current = identifiers(paper)
    outdated = []
    for name in names:
        kind = name.split(":", 1)[0]
        replacement = current.get(kind, name)
        if replacement != name and not _are_preprint_and_publication(name, replacement):
            outdated.append(name)
    return outdated


def _are_preprint_and_publication(first: str, second: str) -> bool:
    return first.startswith("doi:") and not _dois_contradict(
        first.removeprefix("doi:"), second.removeprefix("doi:")
    )


def merge_missing_fields(stored: Paper, incoming: Paper) -> Paper:
    """Return the stored paper with its empty fields filled from the incoming record.

    The DOI of a publication replaces that of its preprint. A paper stays retracted if either
    record says so.
    """
    missing: dict[str, Any] = {}
    for name in _RECORD_FIELDS:
        if not getattr(stored, name) and getattr(incoming, name):
            missing[name] = getattr(incoming, name)
    if _PREPRINT_DOI.match(stored.doi) and incoming.doi and not _PREPRINT_DOI.match(incoming.doi):
        missing["doi"] = incoming.doi
    return replace(stored, **missing)


def overwrite(stored: Paper, incoming: Paper) -> Paper:
    """Return the record of an edited source, with its gaps filled from the stored paper."""
    merged = merge_missing_fields(incoming, stored)
    return replace(merged, id=stored.id, source=stored.source)
