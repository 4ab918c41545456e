"""Page in a real browser, also on a phone, in dark mode and by keyboard.

With `FOOTNOTE_SCREENSHOTS=DIR`, every test saves screenshots there.
"""

import contextlib
import json
import os
import re
import shutil
import threading
from itertools import chain
from pathlib import Path

import pytest
from fakes import ScriptedModel
from pages import Site
from playwright.sync_api import expect, sync_playwright

from rag import Assistant

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")

KV_QUESTION = "How do Sliding Ledgers shrink the KV cache?"
MERGED = "Keys of tokens that no head has attended to for 256 steps are merged by Sliding Ledgers."
SHRINKS = "The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only."
TIMEOUT_MS = 20_000
# Errors of requests that were interrupted by leaving the page or stopping the server. Gradio answers
# 404 to a stream of events that opens after the session of the page has been closed.
INTERRUPTED = re.compile(
    "AbortError|Connection errored out|Failed to fetch|^Unexpected error 404: Not Found$|"
    "net::ERR_(CONNECTION|INCOMPLETE|EMPTY|ABORTED)"
)
HOSTILE = (
    "Tides rise <script>window.ran = 1</script> ${window.ran = 2} {{window.ran = 3}} "
    "`${window.ran = 4}` "
    "<img src=https://evil.example/pixel onerror='window.ran = 5'> "
    "![pixel](https://evil.example/pixel2) "
    "[press](javascript:window.ran=6) </mark></p></details></section>"
    "<h1 id=planted>Planted</h1> "
    r"$\href{javascript:window.ran=7}{x}$ $\alpha_{1}$ \[ \frac{1}{2} \] $\style{color:red}{y}$ "
    r"$\includegraphics{https://evil.example/p}$ "
    "<a href='javascript:window.ran=8'>press</a> and they save 40% of tides."
)


@pytest.fixture(scope="module")
def site(small_library, tmp_path_factory):
    """Page with libraries of the same papers, some of them with scripted models."""
    folder = tmp_path_factory.mktemp("site")
    names = ("papers", "slow", "endless", "broken", "damaged")
    libraries = [Path(shutil.copytree(small_library, folder / name)) for name in names]
    libraries.append(add_hostile_library(folder / "hostile"))
    site = Site(folder, libraries, {"broken": ScriptedModel([RuntimeError("out of memory")])})
    site.gate, site.ended = threading.Event(), threading.Event()
    site.models["slow"] = ScriptedModel(
        lambda _: chain(
            [f"{MERGED} [1] On average the KV"],
            wait_for(site.gate),
            [" cache shrinks by 71%.", " [2]"],
        )
    )
    site.models["endless"] = ScriptedModel(lambda _: write_endlessly(site.ended))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        site.start()
        yield site
        site.stop()


def add_hostile_library(folder):
    rows = [
        {
            "title": f"Tides {HOSTILE}",
            "abstract": HOSTILE,
            "url": "javascript:window.ran=9",
            "authors": [HOSTILE],
        },
        {
            "title": "Moons",
            "abstract": "Moons pull. </details> ${window.ran = 10}",
            "venue": HOSTILE,
        },
    ]
    source = folder.with_suffix(".jsonl")
    source.write_text("\n".join(map(json.dumps, rows)))
    Assistant.open(folder).add(source)
    return folder


def wait_for(gate):
    """Yield empty pieces until the gate opens, so that the model can be stopped in between."""
    while not gate.wait(0.02):
        yield ""


def write_endlessly(ended):
    try:
        yield f"{MERGED} [1] The KV"
        yield from wait_for(threading.Event())
    finally:
        ended.set()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """Browser window of one user that records errors and requests to other hosts."""

    def __init__(self, site, context):
        self.site, self.context = site, context
        self.errors, self.foreign_requests = [], []
        self.page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        expect.set_options(timeout=TIMEOUT_MS)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        self.page.on(
            "dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss())
        )
        self.page.on("request", self.record_request)
        self.open()

    def record_request(self, request):
        if not request.url.startswith((self.site.address, "data:", "blob:")):
            self.foreign_requests.append(request.url)

    def open(self):
        self.page.goto(self.site.address)
        self.wait_until_ready()

    def wait_until_ready(self):
        expect(self.question).to_be_editable()
        expect(self.page.get_by_role("button", name="Ask", exact=True)).to_be_visible()

    @property
    def question(self):
        return self.page.locator("#question textarea")

    @property
    def answers(self):
        return self.page.locator("#chat .answer:not(.pending)")

    def select_library(self, library):
        self.page.get_by_role("combobox", name="Library", exact=True).click()
        self.page.get_by_role("option", name=library, exact=True).click()

    def select(self, name):
        """Select an item of a list; try again if the click is lost while the list is redrawn."""
        item = self.page.get_by_role("radio", name=name).first
        for timeout in (2_000, 2_000, TIMEOUT_MS):
            item.click(force=True)
            with (
                contextlib.suppress(AssertionError)
                if timeout < TIMEOUT_MS
                else contextlib.nullcontext()
            ):
                expect(item).to_be_checked(timeout=timeout)
                return

    def submit(self, question):
        self.question.fill(question)
        self.question.press("Enter")

    def ask(self, question):
        """Ask and wait for the complete answer."""
        before = self.answers.count()
        self.submit(question)
        expect(self.answers).to_have_count(before + 1)
        self.wait_until_ready()
        return self.answers.last

    def select_written_style(self):
        self.page.get_by_role("button", name="Answer settings").click()
        self.page.get_by_label("Written summary").check()

    def screenshot(self, name):
        if folder := os.environ.get("FOOTNOTE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(400)  # for animations
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def open_page(site, chromium):
    """Open the page in a new window; afterwards there must be no errors and no foreign requests."""
    visits = []

    def open_window(width=1280, height=800, scheme="light", **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        visits.append(Visit(site, context))
        return visits[-1]

    yield open_window
    for visit in visits:
        visit.context.close()
        assert [error for error in visit.errors if not INTERRUPTED.search(error)] == []
        assert visit.foreign_requests == []


def test_answer_streams_and_its_footnotes_lead_to_the_sentences(site, open_page):
    site.gate.clear()
    visit = open_page()
    visit.select_library("slow")
    visit.select_written_style()
    visit.submit(KV_QUESTION)
    partial = visit.page.locator("#chat .answer.pending")
    expect(partial.locator(".evidence")).to_contain_text(SHRINKS)
    expect(partial.locator(".written")).to_contain_text("are merged by")
    assert "shrinks by 71%" not in partial.locator(".written").inner_text()
    visit.screenshot("streaming")
    site.gate.set()
    expect(visit.answers).to_have_count(1)
    answer = visit.answers.last
    expect(answer).to_contain_text("shrinks by 71%")
    expect(answer.locator(".badge")).to_have_text(
        ["written by the model, checked against the quotes", "quoted"]
    )
    expect(answer.locator(".evidence")).to_contain_text(SHRINKS)
    visit.page.locator("#n-2").click()
    expect(visit.page.locator("#s-2")).to_have_text(SHRINKS)


def test_footnote_opens_its_source_at_the_highlighted_sentence(open_page):
    visit = open_page()
    answer = visit.ask("Which papers shrink the KV cache, and by how much?")
    expect(answer).to_contain_text("Confidence: ")
    expect(visit.page.locator("details.card")).not_to_have_count(1)
    closed = visit.page.locator("details.card:not([open])").first
    number = closed.locator("mark").first.get_attribute("id").removeprefix("s-")
    answer.locator(f"a.footnote[href='#s-{number}']").click()
    sentence = visit.page.locator(f"#s-{number}")
    expect(sentence).to_be_in_viewport()
    expect(sentence).to_be_visible()
    assert sentence.inner_text() in answer.locator(".evidence").inner_text()
    visit.screenshot("footnote")
    visit.page.locator(f"a.back-link[href='#n-{number}']").click()
    expect(visit.page.locator(f"#n-{number}")).to_be_in_viewport()


def test_follow_up_shows_its_rewritten_query(open_page):
    visit = open_page()
    visit.ask(KV_QUESTION)
    answer = visit.ask("And by how much does perplexity rise?")
    expect(answer).to_contain_text(
        "Interpreted as: And by how much does perplexity rise? (about “Sliding Ledgers: Shrinking"
    )
    expect(answer).to_contain_text("0.08")
    expect(visit.page.locator("#chat .user-row").last).to_be_in_viewport(ratio=1)
    expect(visit.page.locator("#chat .user-row").first).not_to_be_in_viewport()
    visit.screenshot("follow-up")


def test_stop_ends_the_answer_and_frees_the_model(site, open_page):
    site.ended.clear()
    visit = open_page()
    visit.select_library("endless")
    visit.select_written_style()
    visit.submit(KV_QUESTION)
    expect(visit.page.locator("#chat .answer.pending")).to_contain_text("are merged by")
    visit.page.get_by_role("button", name="Stop", exact=True).click()
    assert site.ended.wait(5)
    visit.wait_until_ready()
    expect(visit.answers.last).to_contain_text("The answer is incomplete: it was stopped early")
    expect(visit.answers.last).to_contain_text("are merged by")
    visit.screenshot("stopped")


def test_abstention_looks_different_and_links_the_closest_matches(open_page):
    visit = open_page()
    answer = visit.ask("What is the capital of France?")
    expect(answer).to_have_class(re.compile("abstained"))
    expect(answer).to_contain_text("Your library does not say.")
    link = answer.locator("a.card-link").last
    link.click()
    card = visit.page.locator(link.get_attribute("href"))
    expect(card).to_be_in_viewport()
    visit.screenshot("does-not-say")


def test_failing_model_is_reported_and_replaced_by_quotes(open_page):
    visit = open_page()
    visit.select_library("broken")
    visit.select_written_style()
    answer = visit.ask(KV_QUESTION)
    expect(answer).to_contain_text("out of memory")
    expect(answer).to_contain_text("Showing direct quotes instead")
    visit.screenshot("failing-model")


def test_failed_question_shows_the_reason_and_can_be_asked_again(open_page):
    visit = open_page()
    visit.page.get_by_role("button", name="Answer settings").click()
    visit.page.get_by_label("Year").first.fill("soon")
    visit.submit(KV_QUESTION)
    expect(visit.page.locator("#chat .failed")).to_contain_text("invalid year 'soon'")
    expect(visit.question).to_have_value(KV_QUESTION)
    visit.screenshot("failed")
    visit.page.get_by_label("Year").first.fill("")
    visit.question.press("Enter")
    expect(visit.page.locator("#chat .failed")).to_have_count(0)
    expect(visit.answers).to_have_count(1)


def test_library_that_cannot_be_opened_is_reported(open_page):
    visit = open_page()
    visit.select_library("damaged")
    visit.submit(KV_QUESTION)
    expect(visit.page.locator("#chat .failed")).to_contain_text("as a library: ")


def test_retry_and_edit_replace_the_question(open_page):
    visit = open_page()
    visit.ask(KV_QUESTION)
    visit.page.locator("#chat").get_by_role("button", name="Retry").click()
    visit.wait_until_ready()
    expect(visit.answers).to_have_count(1)
    visit.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    box = visit.page.locator("#chat textarea").first
    expect(box).to_have_value(KV_QUESTION)
    unusual = "When does IL-6 rise in <bank> & *voles* (_before_: `fever`)? &lt;"
    box.fill(unusual)
    visit.page.locator("#chat").get_by_role("button", name="Submit").click()
    expect(visit.answers.last).to_contain_text("90 minutes")
    expect(visit.answers).to_have_count(1)
    expect(visit.page.locator("#chat [data-testid=user]")).to_have_text(unusual)
    visit.wait_until_ready()
    visit.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    expect(visit.page.locator("#chat textarea").first).to_have_value(unusual)
    visit.page.locator("#chat").get_by_role("button", name="Submit").click()
    visit.wait_until_ready()
    expect(visit.page.locator("#chat [data-testid=user]")).to_have_text(unusual)


def test_conversation_survives_reload_and_restart_until_it_is_deleted(site, open_page):
    visit = open_page()
    question = "How long did the effect of heat on corals last?"
    visit.ask(question)
    sources = visit.page.locator(".sources").inner_text()
    for interruption in (lambda: None, lambda: (site.stop(), site.start())):
        interruption()
        visit.open()
        expect(visit.answers).to_have_count(1)
        assert visit.page.locator(".sources").inner_text() == sources
    entry = visit.page.get_by_role("radio", name=question)
    expect(entry).to_be_checked()
    visit.screenshot("history")
    rename(visit, "Corals in heat")
    search(visit, "nine months", ["Corals in heat"])
    href = visit.page.get_by_role("link", name="Download Markdown").get_attribute("href")
    assert href.startswith("data:text/plain;base64,")
    visit.page.get_by_role("button", name="Delete conversation").click()
    visit.page.get_by_role("button", name="Delete", exact=True).click()
    expect(visit.answers).to_have_count(0)
    expect(visit.page.get_by_role("radio", name="Corals in heat")).to_have_count(0)
    visit.open()
    expect(visit.answers).to_have_count(0)


def rename(visit, title):
    visit.page.get_by_label("Title").fill(title)
    visit.page.get_by_role("button", name="Rename").click()
    expect(visit.page.get_by_role("radio", name=title)).to_be_checked()


def search(visit, words, titles):
    visit.page.get_by_label("Search conversations").fill(words)
    expect(visit.page.locator(".sidebar .choice-list label")).to_have_text(titles)


def test_open_page_keeps_working_after_a_server_restart(site, open_page):
    visit = open_page()
    visit.ask("When does IL-6 rise in bank voles?")
    site.stop()
    site.start()
    expect(visit.question).to_be_editable()
    visit.select("When does IL-6 rise in bank voles?")
    visit.ask("And by how many hours was fever delayed?")
    expect(visit.answers).to_have_count(2)


def test_settings_are_remembered_after_a_reload(open_page):
    visit = open_page()
    visit.select_library("slow")
    visit.page.get_by_role("button", name="Answer settings").click()
    visit.page.get_by_label("Quotes only").check()
    visit.page.get_by_label("Maximum sentences").fill("1")
    visit.page.get_by_label("Maximum sentences").press("Tab")
    visit.open()
    visit.page.get_by_role("button", name="Answer settings").click()
    expect(visit.page.get_by_role("combobox", name="Library", exact=True)).to_have_value("slow")
    expect(visit.page.get_by_label("Quotes only")).to_be_checked()
    expect(visit.page.get_by_label("Maximum sentences")).to_have_value("1")
    assert visit.ask(KV_QUESTION).locator("a.footnote").count() == 1


def test_empty_questions_are_ignored_and_drafts_are_kept(site, open_page):
    site.gate.clear()
    visit = open_page()
    visit.select_library("slow")
    visit.select_written_style()
    visit.submit("  ")
    visit.page.wait_for_timeout(1_000)  # nothing must happen
    expect(visit.page.locator("#chat .answer")).to_have_count(0)
    visit.submit(KV_QUESTION)
    expect(visit.page.locator("#chat .answer.pending")).to_contain_text("are merged by")
    visit.question.fill("And by how much")
    site.gate.set()
    visit.wait_until_ready()
    expect(visit.answers).to_have_count(1)
    expect(visit.question).to_have_value("And by how much")
    visit.page.get_by_role("button", name="New conversation").click()
    expect(visit.answers).to_have_count(0)
    visit.open()
    expect(visit.answers).to_have_count(0)


def test_new_conversation_keeps_the_old_one_in_the_list(open_page):
    visit = open_page()
    visit.ask("When does IL-6 rise in bank voles?")
    visit.page.get_by_role("button", name="New conversation").click()
    expect(visit.answers).to_have_count(0)
    visit.select("When does IL-6 rise in bank voles?")
    expect(visit.answers).to_have_count(1)
    expect(visit.page.locator(".sources .card")).not_to_have_count(0)


def test_papers_are_added_found_asked_about_and_removed(open_page, tmp_path):
    record = {
        "title": "Otters at Night",
        "abstract": "Otters sleep for 9.5 hours. They hold hands.",
        "year": 2024,
    }
    (tmp_path / "otters.jsonl").write_text(json.dumps(record) + "\nnot a record\n")
    visit = open_page()
    visit.page.get_by_role("tab", name="Library").click()
    visit.select("Heat-Hardened Corals")
    expect(visit.page.locator("article.paper")).to_contain_text("nine months")
    visit.page.get_by_role("tab", name="Library").click()
    visit.screenshot("library")
    visit.page.locator("input[type=file]").first.set_input_files(tmp_path / "otters.jsonl")
    report = visit.page.locator(".report").first
    expect(report).to_contain_text("1 added")
    expect(report).to_contain_text("otters.jsonl")
    visit.screenshot("added")
    visit.select("Otters at Night")
    expect(visit.page.locator("article.paper")).to_contain_text("They hold hands.")
    visit.page.get_by_role("button", name="Ask about this paper").click()
    expect(visit.question).to_be_visible()
    expect(visit.question).to_have_value(re.compile("Otters at Night"))
    expect(visit.ask("How long do otters sleep?")).to_contain_text("9.5 hours")
    visit.page.get_by_role("tab", name="Library").click()
    visit.page.get_by_role("button", name="Remove paper").click()
    visit.page.get_by_role("button", name="Remove", exact=True).click()
    expect(visit.page.get_by_role("radio", name="Otters at Night")).to_have_count(0)


def test_hostile_abstracts_are_never_active(open_page):
    visit = open_page()
    visit.select_library("hostile")
    for question in ("What saves 40% of tides?", "What is the capital of France?"):
        visit.ask(question)
        for card in visit.page.locator("details.card:not([open]) summary").all():
            card.click()
    expect(visit.page.locator("#chat .answer").first).to_contain_text("window.ran = 1")
    expect(visit.page.locator(".sources math").first).to_be_visible()
    visit.screenshot("hostile")
    visit.page.get_by_role("tab", name="Library").click()
    visit.select(re.compile("^Tides"))
    expect(visit.page.locator("article.paper")).to_contain_text("window.ran = 1")
    visit.page.get_by_role("tab", name="Chat").click()
    assert visit.page.evaluate("window.ran") is None
    assert visit.page.locator("#planted").count() == 0
    active = (
        "a[href^='javascript'], img[src^='http'], #chat script, .sources script, article script"
    )
    assert visit.page.locator(active).count() == 0


def test_phone_layout_fits_and_shows_the_sources_below(open_page):
    visit = open_page(390, 844, has_touch=True)
    answer = visit.ask("Which papers shrink the KV cache, and by how much?")
    overflow = visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
    box, top = answer.bounding_box(), visit.page.locator(".sources").bounding_box()["y"]
    assert top > box["y"] + box["height"]
    visit.screenshot("phone")
    answer.locator("a.footnote").last.tap()
    expect(
        visit.page.locator(answer.locator("a.footnote").last.get_attribute("href"))
    ).to_be_in_viewport()
    visit.screenshot("phone-source")
    for tab in ("Library", "Evals"):
        visit.page.get_by_role("tab", name=tab).click()
        assert visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        visit.screenshot(f"phone-{tab.lower()}")


# Contrast ratio of WCAG 2.2. Drawing a colour to a canvas gives its bytes, whatever its notation.
CONTRAST = """selector => {
  const bytes = colour => {
    const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
    const pen = canvas.getContext("2d");
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = bytes(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].map(e => {
    const [a, b] = [light(bytes(getComputedStyle(e).color)), light(behind(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark(open_page, scheme):
    visit = open_page(scheme=scheme)
    visit.ask(KV_QUESTION)
    visit.ask("What is the capital of France?")
    visit.page.locator("details.card summary").last.click()
    selectors = (
        ".answer p, .fine-print, .notice, .badge, .footnote, mark, .title, .byline, .abstract, "
        ".sidebar label span, .tabs button"
    )
    ratios = visit.page.evaluate(CONTRAST, selectors)
    assert len(ratios) > 20
    assert min(ratios) >= 4.5
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
    visit.screenshot(scheme)


def test_page_works_by_keyboard_and_every_control_has_a_name(open_page):
    visit = open_page()
    expect(visit.question).to_be_focused()
    visit.page.keyboard.type(KV_QUESTION)
    visit.page.keyboard.press("Enter")
    expect(visit.answers).to_have_count(1)
    footnote = visit.page.locator("a.footnote").first
    footnote.focus()
    assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator(footnote.get_attribute("href"))).to_be_in_viewport()
    assert visit.page.locator("#chat [data-testid=bot][aria-label]").count() == 0
    for tab in ("Chat", "Library", "Evals"):
        visit.page.get_by_role("tab", name=tab).click()
        assert unnamed_controls(visit.page) == []


def unnamed_controls(page):
    """Return the controls without an accessible name, from the browser's accessibility tree."""
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    controls = {
        "button",
        "textbox",
        "radio",
        "checkbox",
        "listbox",
        "combobox",
        "slider",
        "spinbutton",
        "link",
        "tab",
    }
    return [
        node
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value") in controls
        and not node.get("name", {}).get("value", "").strip()
    ]


def test_evaluation_runs_and_shows_its_results(open_page):
    visit = open_page()
    visit.page.get_by_role("tab", name="Evals").click()
    visit.page.get_by_label("Development set").check()
    visit.page.get_by_role("button", name="Run", exact=True).click()
    expect(visit.page.locator(".progress")).to_contain_text("questions asked")
    visit.screenshot("evaluating")
    expect(visit.page.locator(".run-finished")).to_contain_text("is finished", timeout=120_000)
    expect(
        visit.page.get_by_role("heading", name=re.compile("worst", re.IGNORECASE))
    ).to_be_visible()
    frame = visit.page.frame_locator("iframe.report-frame")
    expect(frame.locator("svg").first).to_be_visible()
    visit.screenshot("evals")
    visit.page.locator("iframe.report-frame").scroll_into_view_if_needed()
    visit.screenshot("evals-report")


def test_users_sign_in_and_see_only_their_own_conversations(site, chromium):
    site.stop()
    site.start({"ada": "correct horse", "eve": "staple"})
    try:
        ada = SignedOutVisit(site, chromium.new_context()).sign_in("ada", "correct horse")
        ada.ask(KV_QUESTION)
        ada.screenshot("signed-in")
        ada.page.get_by_role("link", name="Sign out").click()
        expect(ada.page.get_by_label("username")).to_be_visible()
        eve = SignedOutVisit(site, chromium.new_context()).sign_in("eve", "staple")
        expect(eve.page.get_by_role("radio", name=KV_QUESTION)).to_have_count(0)
        assert ada.foreign_requests == eve.foreign_requests == []
    finally:
        for context in chromium.contexts:
            context.close()
        site.stop()
        site.start()


class SignedOutVisit(Visit):
    """Browser window in which the user has to sign in first."""

    def open(self):
        self.page.goto(self.site.address)
        expect(self.page.get_by_label("username")).to_be_visible()
        expect(self.question).to_have_count(0)
        self.screenshot("sign-in")

    def sign_in(self, name, password):
        self.page.get_by_label("username").fill(name)
        self.page.get_by_label("password").fill(password)
        self.page.get_by_role("button", name="Login").click()
        self.wait_until_ready()
        return self
