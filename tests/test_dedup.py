"""Deduplication: which records describe the same paper, and how they are merged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag import Paper
from rag.library.dedup import (
    could_be_same_paper,
    identifiers,
    merge_missing_fields,
    new_id,
    overwrite,
    record_hash,
)

PREPRINT = Paper("Tidal Gates", "Early text.", ("Ada Brandt",), 2020, arxiv_id="2003.01234")
PUBLICATION = Paper(
    "Tidal gates", "Final text.", ("A. Brandt",), 2021, "J. Gates", doi="10.1000/gates.7"
)


def test_preprint_and_publication_are_the_same_paper():
    assert could_be_same_paper(PREPRINT, PUBLICATION)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Paper("T", arxiv_id="2003.01234"), Paper("T", arxiv_id="2003.99999")),
        (Paper("T", pmid="111"), Paper("T", pmid="222")),
        (Paper("T", doi="10.1000/a"), Paper("T", doi="10.1000/b")),
        (Paper("T", doi="10.1101/2020.01.01.1"), Paper("T", doi="10.1101/2020.02.02.2")),
        (Paper("T", year=2015), Paper("T", year=2018)),
        (Paper("T", authors=("Ada Brandt",)), Paper("T", authors=("Li Wei",))),
    ],
)
def test_contradicting_records_are_different_papers(first, second):
    assert not could_be_same_paper(first, second)
    assert not could_be_same_paper(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Paper("T"), Paper("T")),
        (Paper("T", year=2018), Paper("T", year=2020)),
        (Paper("T", doi="10.1101/2020.01.01.1"), Paper("T", doi="10.1038/b")),
        (Paper("T", doi="10.1000/A"), Paper("T", doi="10.1000/a")),
        (Paper("T", authors=("José Núñez",)), Paper("T", authors=("J. NUNEZ",))),
        (Paper("T", authors=("Ada Brandt",)), Paper("T")),
    ],
)
def test_records_without_contradiction_can_be_the_same_paper(first, second):
    assert could_be_same_paper(first, second)
    assert could_be_same_paper(second, first)


def test_merge_fills_only_empty_fields():
    merged = merge_missing_fields(PREPRINT, PUBLICATION)
    assert merged.abstract == "Early text."
    assert (merged.doi, merged.arxiv_id) == ("10.1000/gates.7", "2003.01234")
    assert (merged.venue, merged.year, merged.authors) == ("J. Gates", 2020, ("Ada Brandt",))


@pytest.mark.parametrize("dois", [("10.1101/1", "10.1038/2"), ("10.1038/2", "10.1101/1")])
def test_merge_prefers_the_doi_of_the_publication(dois):
    stored, incoming = (Paper("T", doi=doi) for doi in dois)
    assert merge_missing_fields(stored, incoming).doi == "10.1038/2"


def test_overwrite_replaces_text_and_keeps_fields_that_the_record_lacks():
    edited = overwrite(
        Paper("T", "Old.", ("Ada Brandt",), 2020, source="a.bib", id="t-1"),
        Paper("T", "New.", source="b.bib"),
    )
    assert (edited.abstract, edited.authors, edited.year) == ("New.", ("Ada Brandt",), 2020)
    assert (edited.id, edited.source) == ("t-1", "a.bib")


def test_paper_stays_retracted_if_either_record_is():
    assert merge_missing_fields(Paper("T"), Paper("T", retracted=True)).retracted
    assert overwrite(Paper("T", retracted=True), Paper("T", "New.")).retracted


def test_ids_are_readable_and_stable():
    paper_id = new_id(PREPRINT, lambda _: False)
    assert paper_id.startswith("tidal-gates-")
    assert paper_id == new_id(PREPRINT, lambda _: False)
    assert new_id(PREPRINT, lambda candidate: candidate == paper_id).startswith(paper_id)
    assert new_id(Paper("潮汐"), lambda _: False).startswith("paper-")


def test_record_hash_depends_on_fields_but_not_on_source_and_id():
    assert record_hash(Paper("T", source="a")) == record_hash(Paper("T", source="b", id="x"))
    assert record_hash(Paper("T", "A.")) != record_hash(Paper("T", "B."))


papers = st.builds(
    Paper,
    title=st.just("T"),
    abstract=st.sampled_from(["", "A.", "B."]),
    authors=st.sampled_from([(), ("Ada Brandt",), ("Li Wei",)]),
    year=st.sampled_from([None, 2018, 2021]),
    doi=st.sampled_from(["", "10.1000/a", "10.1101/b"]),
    arxiv_id=st.sampled_from(["", "2003.01234"]),
    retracted=st.booleans(),
)


@given(papers, papers)
def test_merging_keeps_every_kind_of_identifier_and_is_idempotent(stored, incoming):
    merged = merge_missing_fields(stored, incoming)
    assert set(identifiers(merged)) == set(identifiers(stored)) | set(identifiers(incoming))
    assert merge_missing_fields(merged, incoming) == merged
    overwritten = overwrite(stored, incoming)
    assert overwrite(overwritten, incoming) == overwritten


@given(papers, papers)
def test_could_be_same_paper_is_symmetric(first, second):
    assert could_be_same_paper(first, second) == could_be_same_paper(second, first)
