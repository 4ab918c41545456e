"""Questions to the sample library: what is found, quoted, and not answered."""

import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Answer, Assistant, UsageError
from rag.ingest.sample import sample_file


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    assistant = Assistant.open(tmp_path_factory.mktemp("sample"))
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
def test_the_right_paper_is_quoted(sample, question, title):
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
def test_a_foreign_question_is_not_answered(sample, question):
    answer = sample.ask(question)
    assert answer.abstained
    assert answer.text.startswith("Your library does not say.")
    assert answer.reason
    assert answer.claims == answer.citations == ()
    assert len(answer.hits) == 3


@pytest.mark.parametrize("question", [question for question, _ in QUESTIONS])
def test_every_quotation_is_literal_and_every_number_resolves(sample, question):
    answer = sample.ask(question, sentences=10)
    papers = {paper.id: paper for paper in sample.papers()}
    numbers = [citation.number for citation in answer.citations]
    assert numbers == list(range(1, len(numbers) + 1))
    for citation in answer.citations:
        assert citation.quote == papers[citation.paper.id].abstract[citation.start : citation.end]
    for claim in answer.claims:
        assert claim.supported
        assert claim.kind == "quoted"
        assert [answer.citations[number - 1].quote for number in claim.citations] == [claim.text]
        assert claim.text in answer.text


def test_a_question_for_several_papers_gets_one_sentence_of_each(sample):
    answer = sample.ask("Which papers shrink the KV cache?")
    cited = [citation.paper.id for citation in answer.citations]
    assert len(cited) == len(set(cited)) >= 3


def test_where_the_code_is_belongs_to_no_answer_unless_asked(tmp_path):
    path = tmp_path / "a.jsonl"
    text = "Heron counts boats on canals. Code for Heron is available at https://example.org/heron."
    path.write_text(json.dumps({"title": "Heron", "abstract": text}))
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(path)
    assert "https" not in assistant.ask("What does Heron count on canals?").text
    assert "https" in assistant.ask("Where is the code for Heron?").text


def test_the_same_question_gets_the_same_answer(sample):
    question = "How are U-Nets made smaller?"
    first, second = (without_seconds(sample.ask(question)) for _ in range(2))
    assert first == second
    again = Assistant.open(sample.library.folder)
    assert without_seconds(again.ask(question)) == first


def without_seconds(answer):
    plain = answer.to_dict()
    del plain["trace"]["seconds"]
    return plain


def test_the_stream_ends_with_the_answer_whose_text_it_gave(sample):
    for question in ("Does FP8 beat INT8?", "What is the capital of France?"):
        *pieces, answer = sample.stream(question)
        assert isinstance(answer, Answer)
        assert "".join(pieces) == answer.text


def test_many_askers_at_once_all_get_their_own_answer(sample):
    alone = {question: without_seconds(sample.ask(question)) for question, _ in QUESTIONS}
    found = {}

    def ask(question):
        found[question] = without_seconds(sample.ask(question))

    threads = [
        threading.Thread(target=ask, args=(question,))
        for question, _ in QUESTIONS
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_an_empty_library_says_so(tmp_path):
    answer = Assistant.open(tmp_path / "empty").ask("Anything?")
    assert answer.abstained
    assert answer.reason == "It holds no papers yet."


@pytest.mark.parametrize("question", ["", "   ", "x" * 2001])
def test_questions_that_cannot_be_asked_are_refused(sample, question):
    with pytest.raises(UsageError):
        sample.ask(question)


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=200).filter(str.strip))
def test_any_question_gets_an_answer_whose_quotes_are_literal(sample, question):
    answer = sample.ask(question)
    assert 0 <= answer.confidence <= 1
    assert answer.abstained == (not answer.citations)
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end]
    json.loads(answer.to_json())


@pytest.fixture(scope="module")
def dated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dated")
    rows = [
        {
            "title": f"Salt marsh survey {year}",
            "abstract": "Marshes were surveyed.",
            "year": year,
            "venue": venue,
        }
        | {"authors": authors}
        for year, venue, authors in [
            (2018, "Coastal Notes", ["José Núñez"]),
            (2020, "Marsh Letters", ["Ada Brandt"]),
            (2023, "Marsh Letters", []),
        ]
    ]
    (folder / "surveys.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assistant = Assistant.open(folder / "library")
    assistant.add(folder / "surveys.jsonl")
    return assistant


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
        ({"source": "surveys"}, {2018, 2020, 2023}),
        ({"source": "other.bib"}, set()),
        ({"added_since": "2020-01-01"}, {2018, 2020, 2023}),
        ({"added_since": "2999-01-01"}, set()),
    ],
)
def test_filters_limit_what_is_found(dated, filters, years):
    assert {hit.paper.year for hit in dated.search("salt marsh", **filters)} == years
    assert {paper.year for paper in dated.papers(**filters)} == years


def test_filters_are_named_as_the_reason(dated):
    assert (
        "The only paper that passes the filters does not bear"
        in dated.ask("Does rye bread need flour?", year="2020").reason
    )
    assert (
        dated.ask("How were marshes surveyed?", year="1999").reason
        == "No paper passes the filters."
    )


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
def test_filters_that_mean_nothing_are_refused(dated, filters):
    with pytest.raises(UsageError):
        dated.search("salt", **filters)


def test_names_are_found_in_every_way_people_type_them(tmp_path):
    rows = [
        {"title": "GPT-4 and friends", "abstract": "We test GPT-4."},
        {"title": "Cytokines", "abstract": "IL-6 rises and TNF-α falls."},
        {"title": "Neighbours", "abstract": "k-NN in the $L^2$ norm."},
        {"title": "Segmentation", "abstract": "A U-Net with ResNet-50."},
        {"title": "Distances", "abstract": "The Fr\\'echet mean of 3.4 points."},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(tmp_path / "a.jsonl")
    typed = {
        "GPT-4 and friends": ["gpt4", "GPT 4", "gpt-4"],
        "Cytokines": ["il6", "IL 6", "interleukin IL-6", "TNF-alpha", "tnf α"],
        "Neighbours": ["knn", "kNN", "k nn", "L2 norm", "l^2"],
        "Segmentation": ["unet", "U net", "UNet", "resnet50", "resnet"],
        "Distances": ["frechet", "Fréchet mean"],
    }
    for title, ways in typed.items():
        for way in ways:
            best = max(assistant.search(way), key=lambda hit: hit.full_text)
            assert (best.paper.title, best.full_text) == (title, 1.0), way


def test_no_more_sentences_are_given_than_asked_for(sample):
    for most in (1, 2, 7):
        assert len(sample.ask("Which papers shrink the KV cache?", sentences=most).claims) <= most


def test_as_many_papers_are_found_as_asked_for(sample):
    assert len(sample.search("networks", k=170)) == 170


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
def test_a_paper_is_found_by_its_name_as_people_paste_it(tmp_path, name):
    row = {
        "title": "Salt marsh",
        "abstract": "Salt.",
        "doi": "10.1000/marsh.1",
        "arxiv_id": "2003.00001",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(tmp_path / "a.jsonl")
    assert assistant.paper(name).title == "Salt marsh"
