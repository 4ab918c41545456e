"""The page over HTTP: the one endpoint that is for everybody, and what it begins with."""

import re
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from gradio_client import Client
from pages import Site

from rag import Assistant, UsageError
from ui.services.examples import questions_for
from ui.services.library_registry import LibraryRegistry, open_library

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
    askers = [
        (Client(site.address, verbose=False), question) for question in [*expected, *expected]
    ]
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
    for question, options, why in (
        (" ", {}, "empty"),
        ("x" * 2_001, {}, "2,001"),
        (KV, {"year": "soon"}, "soon"),
    ):
        with pytest.raises(Exception, match=why):
            client.predict(question, **options, api_name="/ask")


def test_the_client_of_the_readme_works(site, capsys):
    (program,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "Client(" in code
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
    return LibraryRegistry([tmp_path / "mine" / "library"], open_library, sample=own_library)


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
    names = [name for name, _ in LibraryRegistry(folders, open_library).libraries]
    assert names == [str(folders[0]), str(folders[1]), "tides"]


def test_without_a_library_of_ones_own_nothing_can_be_added(own_library):
    with pytest.raises(UsageError, match="no library to add to"):
        LibraryRegistry([], open_library, sample=own_library).for_adding(str(own_library))


# --- what is not for everybody ------------------------------------------------------------------------------------


def events_of(site, *, waiting_only=False):
    """Each event that the page has, or each that waits its turn, with its inputs' kinds."""
    config = httpx2.get(f"{site.address}/config").json()
    kinds = {component["id"]: component["type"] for component in config["components"]}
    events = [
        one for one in config["dependencies"] if one["queue"] is not False or not waiting_only
    ]
    return {one["id"]: [kinds[i] for i in one["inputs"]] for one in events if one["backend_fn"]}


def told(site, event, data):
    """Everything that an event answers."""
    session = f"made-up-{event}"
    body = {"fn_index": event, "session_hash": session, "data": data}
    joined = httpx2.post(
        f"{site.address}/gradio_api/queue/join", json=body, headers={"Origin": site.address}
    )
    with httpx2.stream(
        "GET", f"{site.address}/gradio_api/queue/data?session_hash={session}", timeout=20
    ) as stream:
        said = [joined.text]
        for line in stream.iter_lines():
            said.append(line)
            if "process_completed" in line or "close_stream" in line:
                break
    return "\n".join(said)


@pytest.mark.parametrize("kind", ["textbox", "file"])
def test_no_file_of_this_machine_and_no_address_gets_in_through_an_input(site, tmp_path, kind):
    secret = tmp_path / f"{secrets.token_hex(8)}.txt"
    secret.write_text("the password")
    tried = 0
    for event, kinds in events_of(site).items():
        for path in (str(secret), "http://127.0.0.1:9/x") if kind in kinds else ():
            given = {"path": path, "meta": {"_type": "gradio.FileData"}}
            data = [([given] if one == "file" else given) if one == kind else None for one in kinds]
            said = told(site, event, data)
            assert "/gradio_api/file=" not in said
            assert not list(Path(tempfile.gettempdir()).glob(f"gradio/*/{secret.name}"))
            tried += 1
    assert tried


def test_what_waits_its_turn_can_be_asked_for_in_no_other_way(site):
    assert events_of(site, waiting_only=True)
    for event in events_of(site, waiting_only=True):
        body = {"fn_index": event, "session_hash": "x", "data": []}
        answer = httpx2.post(
            f"{site.address}/gradio_api/run/predict", json=body, headers={"Origin": site.address}
        )
        assert answer.status_code >= 400
