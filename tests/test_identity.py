"""Which records are one paper, and what becomes of them."""

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
PUBLISHED = Paper(
    "Tidal gates", "Final text.", ("A. Brandt",), 2021, "J. Gates", doi="10.1000/gates.7"
)


def test_preprint_and_published_version_are_one_paper():
    assert could_be_same_paper(PREPRINT, PUBLISHED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Paper("T", arxiv_id="2003.01234"), Paper("T", arxiv_id="2003.99999")),
        (Paper("T", pmid="111"), Paper("T", pmid="222")),
        (Paper("T", doi="10.1000/a"), Paper("T", doi="10.1000/b")),
        (Paper("T", doi="10.1101/2020.01.01.1"), Paper("T", doi="10.1101/2020.02.02.2")),
        (Paper("T", year=2015), Paper("T", year=2018)),
        (Paper("T", authors=("Ada Brandt",)), Paper("T", authors=("Li Wei",))),
    ],
)
def test_a_contradiction_keeps_two_papers_with_one_title_apart(one, other):
    assert not could_be_same_paper(one, other)
    assert not could_be_same_paper(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Paper("T"), Paper("T")),
        (Paper("T", year=2018), Paper("T", year=2020)),
        (Paper("T", doi="10.1101/2020.01.01.1"), Paper("T", doi="10.1038/b")),
        (Paper("T", doi="10.1000/A"), Paper("T", doi="10.1000/a")),
        (Paper("T", authors=("José Núñez",)), Paper("T", authors=("J. NUNEZ",))),
        (Paper("T", authors=("Ada Brandt",)), Paper("T")),
    ],
)
def test_what_does_not_contradict_is_one_paper(one, other):
    assert could_be_same_paper(one, other)
    assert could_be_same_paper(other, one)


def test_gaps_are_filled_and_what_is_known_stays():
    joined = merge_missing_fields(PREPRINT, PUBLISHED)
    assert joined.abstract == "Early text."
    assert (joined.doi, joined.arxiv_id) == ("10.1000/gates.7", "2003.01234")
    assert (joined.venue, joined.year, joined.authors) == ("J. Gates", 2020, ("Ada Brandt",))


def test_the_doi_of_the_publication_replaces_that_of_the_preprint():
    assert (
        merge_missing_fields(Paper("T", doi="10.1101/1"), Paper("T", doi="10.1038/2")).doi
        == "10.1038/2"
    )
    assert (
        merge_missing_fields(Paper("T", doi="10.1038/2"), Paper("T", doi="10.1101/1")).doi
        == "10.1038/2"
    )


def test_an_edited_record_replaces_text_and_keeps_what_it_does_not_mention():
    edited = overwrite(
        Paper("T", "Old.", ("Ada Brandt",), 2020, source="a.bib", id="t-1"),
        Paper("T", "New.", source="b.bib"),
    )
    assert (edited.abstract, edited.authors, edited.year) == ("New.", ("Ada Brandt",), 2020)
    assert (edited.id, edited.source) == ("t-1", "a.bib")


def test_a_retraction_said_once_stays():
    assert merge_missing_fields(Paper("T"), Paper("T", retracted=True)).retracted
    assert overwrite(Paper("T", retracted=True), Paper("T", "New.")).retracted


def test_ids_are_readable_and_stable():
    name = new_id(PREPRINT, lambda _: False)
    assert name.startswith("tidal-gates-")
    assert name == new_id(PREPRINT, lambda _: False)
    assert new_id(PREPRINT, lambda taken: taken == name).startswith(name)
    assert new_id(Paper("潮汐"), lambda _: False).startswith("paper-")


def test_the_hash_sees_what_a_source_says_and_not_where_it_says_it():
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
def test_joining_loses_no_identifier_kind_and_is_stable(known, new):
    joined = merge_missing_fields(known, new)
    assert set(identifiers(joined)) == set(identifiers(known)) | set(identifiers(new))
    assert merge_missing_fields(joined, new) == joined
    assert overwrite(known, new) == overwrite(overwrite(known, new), new)


@given(papers, papers)
def test_sameness_does_not_depend_on_the_order(one, other):
    assert could_be_same_paper(one, other) == could_be_same_paper(other, one)
