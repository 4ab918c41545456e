"""The page: strangers' text stays text, and a question gets its answer over HTTP."""

import json
import socket
from html.parser import HTMLParser

import pytest

from rag import Answer, Assistant, Claim, Trace
from ui.render import answer_html

HOSTILE = (
    "<script>alert(1)</script> ${alert(42)} {{constructor}} <img src=https://evil.example/x onerror=alert(1)> "
    "</mark></li><a href='javascript:alert(1)'>press</a> saves 40% of tides."
)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def parsed(html):
    tags = Tags()
    tags.feed(html)
    return tags


def test_only_what_is_literal_stands_in_quotation_marks():
    quoted = Claim("Tides rise.", "quote", (1,), supported=True, score=1.0)
    written = Claim("Tides <i>fall</i>.", "written", (1,), supported=True, score=1.0)
    trace = Trace("e", "none", "write", "", "")
    page = answer_html(Answer("?", "", (quoted, written), (), (), False, "", 0.9, trace))
    assert "<q>Tides rise.</q>" in page
    assert page.count("<q>") == 1
    assert "Tides &lt;i&gt;fall&lt;/i&gt;." in page


@pytest.fixture
def hostile(tmp_path):
    path = tmp_path / "hostile.jsonl"
    rows = [{"title": f"Tides {HOSTILE}", "abstract": HOSTILE, "url": "javascript:alert(1)"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(path)
    return assistant


def test_hostile_text_is_shown_and_never_active(hostile):
    for question in ("What saves tides?", "What is the capital of France?"):
        page = parsed(answer_html(hostile.ask(question)))
        assert {tag for tag, _ in page.found} <= {"p", "q", "a", "ul", "li", "div", "mark", "strong", "em"}
        for _, attributes in page.found:
            assert set(attributes) <= {"class", "id", "href", "target", "rel"}
            assert attributes.get("href", "#").startswith(("#", "http://", "https://"))
    assert "alert(42)" in page.text


def test_every_mark_leads_to_its_highlighted_sentence(hostile):
    answer = hostile.ask("What saves tides?")
    page = parsed(answer_html(answer))
    targets = {attributes["id"] for tag, attributes in page.found if tag == "mark"}
    links = {attributes["href"][1:] for tag, attributes in page.found if attributes.get("class") == "mark"}
    assert links == targets == {f"source-{citation.number}" for citation in answer.citations}


def test_the_page_answers_over_http(hostile):
    from gradio_client import Client

    from ui.page import build

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build(hostile)
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True)
    try:
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        assert "does not say" in client.predict("What is the capital of France?", api_name="/ask")
        with pytest.raises(Exception, match="empty"):
            client.predict(" ", api_name="/ask")
    finally:
        page.close()
