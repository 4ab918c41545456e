"""Page over HTTP: the public endpoint, the libraries on offer, and private events."""

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
from ui.services.examples import example_questions
from ui.services.library_registry import LibraryRegistry, open_library

README = Path(__file__).parent.parent / "ui" / "README.md"
KV_QUESTION = "How do Sliding Ledgers shrink the KV cache?"


@pytest.fixture(scope="module")
def site(small_library, tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("site"), [small_library])
    site.start()
    yield site
    site.stop()


def page_config(site):
    return httpx2.get(f"{site.address}/config").json()


# --- the public endpoint --------------------------------------------------------------------------


def test_ten_clients_at_once_get_their_own_answers(site):
    expected = {
        KV_QUESTION: "256 steps",
        "When does IL-6 rise in bank voles?": "90 minutes",
        "How long did the effect of heat on corals last?": "nine months",
        "How many fewer parameters has the shared U-Net?": "46%",
        "How much faster is decoding with a scout head?": "2.7 times",
    }
    questions = [*expected, *expected]

    def ask(question):
        return Client(site.address, verbose=False).predict(question, api_name="/ask")

    with ThreadPoolExecutor(len(questions)) as pool:
        answers = list(pool.map(ask, questions))
    for question, answer in zip(questions, answers, strict=True):
        assert answer["question"] == question
        assert expected[question] in answer["text"]


def test_ask_is_the_only_public_endpoint_and_reports_errors(site):
    client = Client(site.address, verbose=False)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/ask"}
    answer = client.predict(KV_QUESTION, sentences=1, style="quote", year="2024", api_name="/ask")
    assert len(answer["claims"]) == 1
    assert answer["trace"]["settings"] == {"style": "quote", "sentences": 1, "year": "2024"}
    for question, options, reason in (
        (" ", {}, "empty"),
        ("x" * 2_001, {}, "2,001"),
        (KV_QUESTION, {"year": "soon"}, "soon"),
    ):
        with pytest.raises(Exception, match=reason):
            client.predict(question, **options, api_name="/ask")


def test_every_other_event_is_private_and_every_input_has_a_label(site):
    config = page_config(site)
    visibility = {event["api_visibility"] for event in config["dependencies"]}
    public = [event for event in config["dependencies"] if event["api_visibility"] == "public"]
    assert len(config["dependencies"]) > 30
    assert visibility == {"private", "public"}
    assert [event["api_name"] for event in public] == ["ask"]
    inputs = ("radio", "dropdown", "file", "checkbox", "number")
    for component in config["components"]:
        if component["type"] in inputs and component["props"].get("visible", True):
            assert component["props"]["label"]


def test_readme_client_example_works(site, capsys):
    programs = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (program,) = [code for code in programs if "Client(" in code]
    assert "http://127.0.0.1:7860" in program
    names = {}
    exec(program.replace("http://127.0.0.1:7860", site.address), names)
    assert names["answer"]["text"] in capsys.readouterr().out


# --- example questions ----------------------------------------------------------------------------


def test_library_answers_its_example_questions(small_library):
    assistant = Assistant.open(small_library, language_model="none", create=False)
    questions = example_questions(assistant)
    assert questions
    assert questions == example_questions(assistant)
    assert not any(assistant.ask(question).abstained for question in questions)


def test_empty_library_has_no_example_questions(tmp_path):
    assert example_questions(Assistant.open(tmp_path / "library")) == []


# --- libraries on offer ---------------------------------------------------------------------------


@pytest.fixture
def registry(library_copy, tmp_path):
    """Registry of a library that does not exist yet, and the sample papers."""
    return LibraryRegistry([tmp_path / "mine" / "library"], open_library, sample=library_copy)


def test_page_starts_with_the_sample_papers_until_the_library_has_papers(registry):
    assert [name for name, _ in registry.libraries] == ["My library", "Sample papers"]
    assert registry.is_sample(registry.first)
    with pytest.raises(UsageError, match="no papers yet"):
        registry.assistant(registry.libraries[0][1])
    key, assistant = registry.import_target(registry.first)
    assert not registry.is_sample(key)
    assert assistant.count() == 0
    assert registry.is_sample(registry.first)
    assistant.add(Path(__file__).parent / "data" / "papers.jsonl")
    assert registry.first == key


def test_libraries_of_the_same_name_are_shown_by_path(tmp_path):
    folders = [tmp_path / "a" / "physics", tmp_path / "b" / "physics", tmp_path / "tides"]
    names = [name for name, _ in LibraryRegistry(folders, open_library).libraries]
    assert names == [str(folders[0]), str(folders[1]), "tides"]


def test_import_needs_a_library_of_the_user(library_copy):
    with pytest.raises(UsageError, match="no library to add to"):
        LibraryRegistry([], open_library, sample=library_copy).import_target(str(library_copy))


# --- security of the events -----------------------------------------------------------------------


def input_types(site, *, queued_only=False):
    """Return the types of the inputs of each event with a function on the server, by event id."""
    config = page_config(site)
    types = {component["id"]: component["type"] for component in config["components"]}
    inputs = {}
    for event in config["dependencies"]:
        is_queued = event["queue"] is not False
        if event["backend_fn"] and (is_queued or not queued_only):
            inputs[event["id"]] = [types[component] for component in event["inputs"]]
    return inputs


def call_event(site, event, data):
    """Call an event through the queue and return everything that the server replies."""
    session = f"made-up-{event}"
    body = {"fn_index": event, "session_hash": session, "data": data}
    headers = {"Origin": site.address}
    joined = httpx2.post(f"{site.address}/gradio_api/queue/join", json=body, headers=headers)
    lines = [joined.text]
    url = f"{site.address}/gradio_api/queue/data?session_hash={session}"
    with httpx2.stream("GET", url, timeout=20) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if "process_completed" in line or "close_stream" in line:
                break
    return "\n".join(lines)


@pytest.mark.promise("no-file-access")
@pytest.mark.parametrize("input_type", ["textbox", "file"])
def test_inputs_accept_no_local_file_and_no_address(site, tmp_path, input_type):
    secret = tmp_path / f"{secrets.token_hex(8)}.txt"
    secret.write_text("the password")
    calls = 0
    for event, types in input_types(site).items():
        if input_type not in types:
            continue
        for path in (str(secret), "http://127.0.0.1:9/x"):
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            value = [file] if input_type == "file" else file
            data = [value if type_ == input_type else None for type_ in types]
            reply = call_event(site, event, data)
            assert "/gradio_api/file=" not in reply
            assert not list(Path(tempfile.gettempdir()).glob(f"gradio/*/{secret.name}"))
            calls += 1
    assert calls


def test_queued_events_cannot_be_called_outside_the_queue(site):
    events = input_types(site, queued_only=True)
    assert events
    for event in events:
        answer = httpx2.post(
            f"{site.address}/gradio_api/run/predict",
            json={"fn_index": event, "session_hash": "x", "data": []},
            headers={"Origin": site.address},
        )
        assert answer.status_code >= 400
