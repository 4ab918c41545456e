"""The page over HTTP: the one endpoint that is for everybody, and what it begins with."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gradio_client import Client
from pages import Site

from rag import Assistant, UsageError
from ui.examples import questions_for
from ui.shelf import Shelf, open_library

README = Path(__file__).parent.parent / "README.md"
KV = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture(scope="module")
def site(small_library, tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"), [small_library])
    site.start()
    yield site
    site.stop()


def test_ten_people_at_once_get_their_own_answers(site):
    expected = {
        KV: "256 steps",
        "When does IL-6 rise in bank voles?": "90 minutes",
        "How long did the effect of heat on corals last?": "nine months",
        "How many fewer parameters has the shared U-Net?": "46%",
        "How much faster is decoding with a scout head?": "2.7 times",
    }
    askers = [(Client(site.address, verbose=False), question) for question in [*expected, *expected]]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda one: one[0].predict(one[1], api_name="/ask"), askers))
    for (_, question), answer in zip(askers, answers, strict=True):
        assert answer["question"] == question
        assert expected[question] in answer["text"]


def test_asking_is_the_only_endpoint_and_says_what_is_wrong(site):
    client = Client(site.address, verbose=False)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/ask"}
    answer = client.predict(KV, sentences=1, style="quote", year="2024", api_name="/ask")
    assert len(answer["claims"]) == 1
    assert answer["trace"]["settings"] == {"style": "quote", "sentences": 1, "year": "2024"}
    for question, options, why in ((" ", {}, "empty"), ("x" * 2_001, {}, "2,001"), (KV, {"year": "soon"}, "soon")):
        with pytest.raises(Exception, match=why):
            client.predict(question, **options, api_name="/ask")


def test_the_client_of_the_readme_works(site, capsys):
    (program,) = [
        code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "Client(" in code
    ]
    assert "http://127.0.0.1:7860" in program
    names = {}
    exec(program.replace("http://127.0.0.1:7860", site.address), names)
    assert names["answer"]["text"] in capsys.readouterr().out


def test_the_questions_to_begin_with_are_answered_by_the_library_at_hand(small_library):
    assistant = Assistant.open(small_library, language_model="none", create=False)
    questions = questions_for(assistant)
    assert questions
    assert questions == questions_for(assistant)
    assert not any(assistant.ask(question).abstained for question in questions)


def test_an_empty_library_has_no_questions_to_begin_with(tmp_path):
    assert questions_for(Assistant.open(tmp_path / "library")) == []


# --- the shelf --------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(own_library, tmp_path):
    """A library that is not made yet, and the sample papers."""
    return Shelf([tmp_path / "mine" / "library"], open_library, sample=own_library)


def test_the_page_begins_with_the_sample_papers_until_there_are_others(shelf, tmp_path):
    assert [name for name, _ in shelf.libraries] == ["My library", "Sample papers"]
    assert shelf.is_sample(shelf.first)
    with pytest.raises(UsageError, match="holds no papers yet"):
        shelf.assistant(shelf.libraries[0][1])
    key, assistant = shelf.for_adding(shelf.first)
    assert not shelf.is_sample(key)
    assert assistant.count() == 0
    assert shelf.is_sample(shelf.first)
    assistant.add(Path(__file__).parent / "data" / "papers.jsonl")
    assert shelf.first == key


def test_two_libraries_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / "a" / "physics", tmp_path / "b" / "physics", tmp_path / "tides"]
    names = [name for name, _ in Shelf(folders, open_library).libraries]
    assert names == [str(folders[0]), str(folders[1]), "tides"]


def test_without_a_library_of_ones_own_nothing_can_be_added(own_library):
    with pytest.raises(UsageError, match="no library to add to"):
        Shelf([], open_library, sample=own_library).for_adding(str(own_library))
