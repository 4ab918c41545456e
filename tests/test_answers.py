"""Questions to the sample library: retrieval, quotations, abstentions and filters."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Answer, Assistant, UsageError
from rag.ingest.sample import sample_file


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Assistant for the sample papers that quotes."""
    assistant = Assistant.open(tmp_path_factory.mktemp("sample"), language_model="none")
    assistant.add(sample_file())
    return assistant


QUESTIONS = [
    ("Does FP8 beat INT8 for inference?", "FP8 versus INT8 for efficient deep learning inference"),
    (
        "How much faster is FlashFFTConv than PyTorch?",
        "FlashFFTConv: Efficient Convolutions for Long Sequences",
    ),
    (
        "what speedup does pruning half the attention layers give Llama-2-70B",
        "What Matters in Transformers?",
    ),
    (
        "Who introduced binary weights for ImageNet classification with XNOR?",
        "XNOR-Net: ImageNet Classification",
    ),
    ("soft nms one line of code", "Soft-NMS"),
]


@pytest.mark.parametrize(("question", "title"), QUESTIONS)
def test_right_paper_is_quoted(sample, question, title):
    answer = sample.ask(question)
    assert not answer.abstained
    assert answer.citations[0].paper.title.startswith(title)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "best recipe for sourdough bread",
        "How do I renew my passport?",
        "pizza",
    ],
)
def test_unrelated_question_leads_to_an_abstention(sample, question):
    answer = sample.ask(question)
    assert answer.abstained
    assert answer.text.startswith("Your library does not say.")
    assert answer.reason
    assert answer.claims == answer.citations == ()
    assert len(answer.hits) == 3


@pytest.mark.promise("literal-citations")
@pytest.mark.parametrize("question", [question for question, _ in QUESTIONS])
def test_quotations_are_literal_and_footnotes_resolve(sample, question):
    answer = sample.ask(question, sentences=10)
    papers = {paper.id: paper for paper in sample.papers()}
    numbers = [citation.number for citation in answer.citations]
    assert numbers == list(range(1, len(numbers) + 1))
    for citation in answer.citations:
        assert citation.quote == papers[citation.paper.id].abstract[citation.start : citation.end]
    # The record answers who wrote a paper; its sentence is computed.
    quotations = [claim for claim in answer.claims if claim.kind != "computed"]
    for claim in quotations:
        assert claim.supported
        assert claim.kind == "quoted"
        assert [answer.citations[number - 1].quote for number in claim.citations] == [claim.text]
        assert claim.text in answer.text


def test_list_question_gets_one_sentence_per_paper(sample):
    answer = sample.ask("Which papers shrink the KV cache?")
    cited = [citation.paper.id for citation in answer.citations]
    assert len(cited) == len(set(cited)) >= 3


def open_library(folder, *papers):
    """Return an assistant whose library contains the papers, given as JSON records."""
    (folder / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)))
    assistant = Assistant.open(folder / "library", language_model="none")
    assistant.add(folder / "papers.jsonl")
    return assistant


def test_availability_statement_comes_first_only_when_asked_for(tmp_path):
    text = "Heron counts boats on canals. Code for Heron is available at https://example.org/heron."
    assistant = open_library(tmp_path, {"title": "Heron", "abstract": text})
    assert "https" not in assistant.ask("What does Heron count on canals?").claims[0].text
    assert "https" in assistant.ask("Where is the code for Heron?").claims[0].text


def test_same_question_gets_the_same_answer(sample):
    question = "How are U-Nets made smaller?"
    first, second = (without_seconds(sample.ask(question)) for _ in range(2))
    assert first == second
    again = Assistant.open(sample.library.folder, language_model="none")
    assert without_seconds(again.ask(question)) == first


def without_seconds(answer):
    fields = answer.to_dict()
    del fields["trace"]["seconds"]
    return fields


def test_stream_yields_the_text_and_then_the_answer(sample):
    for question in ("Does FP8 beat INT8?", "What is the capital of France?"):
        *events, answer = sample.stream(question)
        assert isinstance(answer, Answer)
        assert "".join(event for event in events if isinstance(event, str)) == answer.text


def test_concurrent_questions_get_their_own_answers(sample):
    questions = [question for question, _ in QUESTIONS[:3]]
    expected = [without_seconds(sample.ask(question)) for question in questions]
    with ThreadPoolExecutor(2 * len(questions)) as pool:
        answers = list(pool.map(sample.ask, questions * 2))
    assert list(map(without_seconds, answers)) == expected * 2


@pytest.mark.parametrize("question", ["", "   ", "x" * 2001])
def test_empty_and_overlong_questions_are_refused(sample, question):
    with pytest.raises(UsageError):
        sample.ask(question)


@pytest.mark.promise("literal-citations")
@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_question_gets_literal_quotations(sample, question):
    answer = sample.ask(question)
    assert 0 <= answer.confidence <= 1
    assert answer.abstained == (not answer.citations)
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    json.loads(answer.to_json())


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    """Assistant for three papers that differ in year, venue and author."""
    papers = []
    for year, venue, authors in [
        (2018, "Coastal Notes", ["José Núñez"]),
        (2020, "Marsh Letters", ["Ada Brandt"]),
        (2023, "Marsh Letters", []),
    ]:
        paper = {"title": f"Salt marsh survey {year}", "abstract": "Marshes were surveyed."}
        papers.append(paper | {"year": year, "venue": venue, "authors": authors})
    return open_library(tmp_path_factory.mktemp("dated"), *papers)


@pytest.mark.parametrize(
    ("filters", "years"),
    [
        ({"year": "2020"}, {2020}),
        ({"year": ">=2020"}, {2020, 2023}),
        ({"year": "<2020"}, {2018}),
        ({"year": "2018-2020"}, {2018, 2020}),
        ({"venue": "marsh letters"}, {2020, 2023}),
        ({"author": "nunez"}, {2018}),
        ({"author": "Núñez", "year": ">2018"}, set()),
        ({"author": "Núñez Brandt"}, set()),
        ({"source": "papers"}, {2018, 2020, 2023}),
        ({"source": "other.bib"}, set()),
        ({"added_since": "2020-01-01"}, {2018, 2020, 2023}),
        ({"added_since": "2999-01-01"}, set()),
    ],
)
def test_filters_restrict_searches_and_lists(dated, filters, years):
    assert {hit.paper.year for hit in dated.search("salt marsh", **filters)} == years
    assert {paper.year for paper in dated.papers(**filters)} == years


def test_abstention_names_the_filters(dated):
    unrelated = dated.ask("Does rye bread need flour?", year="2020")
    assert unrelated.reason == "The only paper that matches your filters does not answer this."
    empty = dated.ask("How were marshes surveyed?", year="1999")
    assert empty.reason == "No papers match your filters."


@pytest.mark.parametrize(
    "filters",
    [
        {"year": "soon"},
        {"year": "2022-2019"},
        {"author": "***"},
        {"added_since": "yesterday"},
        {"colour": "red"},
    ],
)
def test_invalid_filters_are_refused(dated, filters):
    with pytest.raises(UsageError):
        dated.search("salt", **filters)


def test_names_are_found_in_any_usual_spelling(tmp_path):
    abstracts = {
        "GPT-4 and friends": "We test GPT-4.",
        "Cytokines": "IL-6 rises and TNF-α falls.",
        "Neighbours": "k-NN in the $L^2$ norm.",
        "Segmentation": "A U-Net with ResNet-50.",
        "Distances": "The Fr\\'echet mean of 3.4 points.",
    }
    papers = [{"title": title, "abstract": text} for title, text in abstracts.items()]
    assistant = open_library(tmp_path, *papers)
    queries = {
        "GPT-4 and friends": ["gpt4", "GPT 4", "gpt-4"],
        "Cytokines": ["il6", "IL 6", "interleukin IL-6", "TNF-alpha", "tnf α"],
        "Neighbours": ["knn", "kNN", "k nn", "L2 norm", "l^2"],
        "Segmentation": ["unet", "U net", "UNet", "resnet50", "resnet"],
        "Distances": ["frechet", "Fréchet mean"],
    }
    for title, spellings in queries.items():
        for spelling in spellings:
            best = max(assistant.search(spelling), key=lambda hit: hit.full_text)
            assert (best.paper.title, best.full_text) == (title, 1.0), spelling


def test_answer_respects_the_limit_of_sentences(sample):
    for limit in (1, 2, 7):
        answer = sample.ask("Which papers shrink the KV cache?", sentences=limit)
        assert len(answer.claims) <= limit


def test_search_returns_as_many_papers_as_asked_for(sample):
    assert len(sample.search("networks", k=170)) == 170


@pytest.fixture(scope="module")
def identified(tmp_path_factory):
    """Assistant for one paper with a DOI and an arXiv id."""
    identifiers = {"doi": "10.1000/marsh.1", "arxiv_id": "2003.00001"}
    paper = {"title": "Salt marsh", "abstract": "Salt."} | identifiers
    return open_library(tmp_path_factory.mktemp("identified"), paper)


@pytest.mark.parametrize(
    "name",
    [
        "https://doi.org/10.1000/Marsh.1",
        "doi:10.1000/marsh.1",
        "arXiv:2003.00001v2",
        "2003.00001",
        "SALT-marsh",
    ],
)
def test_paper_is_found_by_any_identifier(identified, name):
    assert identified.paper(name).title == "Salt marsh"
