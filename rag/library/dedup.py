"""When two records are the same paper, and what becomes of them.

A DOI, an arXiv id (without version) or a PubMed id decides. Without a common one, the same title does,
unless something contradicts: another identifier of the same kind, another first author, years far apart.
So a preprint and its published version become one paper that keeps the identifiers of both.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

from rag.records import Paper
from rag.text.cleaning import title_key
from rag.text.terms import content_terms

# A preprint and its publication are rarely further apart; two editions of a yearly report with one title are.
_LARGEST_YEAR_GAP = 2
# DOI prefixes of preprint servers: bioRxiv/medRxiv, OSF, ChemRxiv, Research Square, SSRN, Preprints.org, Zenodo.
_PREPRINT_DOI = re.compile(r"10\.(?:1101|31219|31234|31235|26434|21203|2139|20944|5281)/")
_SHORT_TITLE_WORDS = 3
_SHARED_WORDS = 0.2
_SLUG_WORDS = 4
_FIRST_DIGITS = 6
_SAID = tuple(field.name for field in fields(Paper) if field.name not in {"id", "source"})


def identifiers(paper: Paper) -> dict[str, str]:
    """The strong identifiers by kind, as they are looked up: `{"doi": "doi:10.1000/x"}`."""
    found = {"doi": paper.doi.lower(), "arxiv": paper.arxiv_id.lower(), "pmid": paper.pmid}
    return {kind: f"{kind}:{value}" for kind, value in found.items() if value}


def record_hash(paper: Paper) -> str:
    """Digest of everything that a source says of a paper: the same record again gives the same digest."""
    said = {name: getattr(paper, name) for name in _SAID}
    return hashlib.sha256(
        json.dumps(said, sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()[:32]


def new_id(paper: Paper, taken: Callable[[str], bool]) -> str:
    """A readable, stable id: the first words of the title and some digits of a digest of its identity."""
    words = title_key(paper.title).split()[:_SLUG_WORDS]
    slug = re.sub(r"[^a-z0-9]+", "-", " ".join(words)).strip("-")[:40] or "paper"
    identity = next(iter(identifiers(paper).values()), "") or json.dumps(
        [title_key(paper.title), paper.authors[:1], paper.year]
    )
    digest = hashlib.sha256(identity.encode()).hexdigest()
    digits = _FIRST_DIGITS
    while taken(name := f"{slug}-{digest[:digits]}"):
        digits += 2
    return name


def could_be_same_paper(known: Paper, new: Paper) -> bool:
    """Whether two records can be one paper: nothing but the text that both of them say contradicts."""
    if known.arxiv_id and new.arxiv_id and known.arxiv_id != new.arxiv_id:
        return False
    if known.pmid and new.pmid and known.pmid != new.pmid:
        return False
    if _dois_contradict(known.doi, new.doi):
        return False
    if known.year and new.year and abs(known.year - new.year) > _LARGEST_YEAR_GAP:
        return False
    return not (known.authors and new.authors) or family_name(known.authors[0]) == family_name(
        new.authors[0]
    )


def mismatch(known: Paper, new: Paper) -> int:
    """How little two records look like one paper: 0 not at all, 1 by their titles, 2 by a contradiction, 3 by both."""
    return 2 * (not could_be_same_paper(known, new)) + (
        title_key(known.title) != title_key(new.title)
    )


# The unlikeness from which on a common identifier is taken for a mistake.
DIFFERENT_PAPERS = 3


def title_suffices(known: Paper, new: Paper) -> bool:
    """Whether one title is enough. One such as "Editorial" is not, when the abstracts have hardly a word in common."""
    if len(title_key(new.title).split()) > _SHORT_TITLE_WORDS or not (
        known.abstract and new.abstract
    ):
        return True
    words, others = set(content_terms(known.abstract)), set(content_terms(new.abstract))
    return len(words & others) >= _SHARED_WORDS * min(len(words), len(others))


def _dois_contradict(one: str, other: str) -> bool:
    if not one or not other or one.lower() == other.lower():
        return False
    return bool(_PREPRINT_DOI.match(one)) == bool(_PREPRINT_DOI.match(other))


def family_name(author: str) -> str:
    """The family name as it is compared: of `Given Family` the last word, folded."""
    return (title_key(author).split() or [""])[-1]


def outdated_identifiers(names: Iterable[str], paper: Paper) -> list[str]:
    """Those of a paper's identifiers that are no longer its own: of a kind of which it now has another one."""
    current = identifiers(paper)
    return [
        name
        for name in names
        if (now := current.get(name.split(":", 1)[0]))
        and now != name
        and not _is_other_version(name, now)
    ]


def _is_other_version(name: str, now: str) -> bool:
    return name.startswith("doi:") and not _dois_contradict(
        name.removeprefix("doi:"), now.removeprefix("doi:")
    )


def merge_missing_fields(known: Paper, new: Paper) -> Paper:
    """The known paper with what only the new record tells; a retraction said by either stays.

    The DOI of the published version replaces that of the preprint.
    """
    gaps = {
        field.name: getattr(new, field.name)
        for field in fields(Paper)
        if field.name not in ("id", "source")
        and not getattr(known, field.name)
        and getattr(new, field.name)
    }
    if _PREPRINT_DOI.match(known.doi) and new.doi and not _PREPRINT_DOI.match(new.doi):
        gaps["doi"] = new.doi
    return replace(known, **gaps)


def overwrite(known: Paper, new: Paper) -> Paper:
    """The new record, keeping what only the known paper tells: the paper after its source was edited."""
    return replace(merge_missing_fields(new, known), id=known.id, source=known.source)
