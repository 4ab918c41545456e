"""The page in a real browser: asking, checking, stopping, keeping, adding; on a phone, in the dark, by keyboard.

`FOOTNOTE_SCREENSHOTS=DIR` keeps a picture of each.
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
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")

KV = "How do Sliding Ledgers shrink the KV cache?"
MERGING = "We present Sliding Ledgers, which merges the keys of tokens that no head has attended to for 256 steps."
MERGED = "Keys of tokens that no head has attended to for 256 steps are merged by Sliding Ledgers."
SHRINKS = "The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only."
PATIENCE = 20_000
# What a browser says of what was on its way when the window was left, or the server away.
AWAY = re.compile(
    "AbortError|Connection errored out|Failed to fetch|net::ERR_(CONNECTION|INCOMPLETE|EMPTY|ABORTED)"
)
HOSTILE = (
    "Tides rise <script>window.ran = 1</script> ${window.ran = 2} {{window.ran = 3}} `${window.ran = 4}` "
    "<img src=https://evil.example/pixel onerror='window.ran = 5'> ![pixel](https://evil.example/pixel2) "
    "[press](javascript:window.ran=6) </mark></p></details></section><h1 id=planted>Planted</h1> "
    r"$\href{javascript:window.ran=7}{x}$ $\alpha_{1}$ \[ \frac{1}{2} \] $\style{color:red}{y}$ "
    r"$\includegraphics{https://evil.example/p}$ "
    "<a href='javascript:window.ran=8'>press</a> and they save 40% of tides."
)


@pytest.fixture(scope="module")
def site(small_library, tmp_path_factory):
    """A page with libraries of the same papers, some served by models that write as they are told."""
    folder = tmp_path_factory.mktemp("site")
    names = ("papers", "slow", "endless", "broken", "damaged")
    libraries = [Path(shutil.copytree(small_library, folder / name)) for name in names]
    libraries.append(hostile_library(folder / "hostile"))
    site = Site(folder, libraries, {"broken": ScriptedModel([RuntimeError("out of memory")])})
    site.gate, site.ended = threading.Event(), threading.Event()
    site.models["slow"] = ScriptedModel(
        lambda _: chain(
            [f"{MERGED} [1] On average the KV"], held(site.gate), [" cache shrinks by 71%.", " [2]"]
        )
    )
    site.models["endless"] = ScriptedModel(lambda _: forever(site.ended))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        site.start()
        yield site
        site.stop()


def hostile_library(folder):
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


def held(gate):
    """Nothing, until the gate opens; a model in between looks whether somebody stops it."""
    while not gate.wait(0.02):
        yield ""


def forever(ended):
    try:
        yield f"{MERGING} [1] The KV"
        yield from held(threading.Event())
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
    """One person's window, with what they do in it. Whatever goes wrong in it is noted."""

    def __init__(self, site, context):
        self.site, self.context = site, context
        self.faults, self.foreign = [], []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "console", lambda said: self.faults.append(said.text) if said.type == "error" else None
        )
        self.page.on(
            "dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss())
        )
        self.page.on("request", self.note)
        self.open()

    def note(self, request):
        if not request.url.startswith((self.site.address, "data:", "blob:")):
            self.foreign.append(request.url)

    def open(self):
        self.page.goto(self.site.address)
        self.settle()

    def settle(self):
        expect(self.question).to_be_editable()
        expect(self.page.get_by_role("button", name="Ask", exact=True)).to_be_visible()

    @property
    def question(self):
        return self.page.locator("#question textarea")

    @property
    def answers(self):
        return self.page.locator("#chat .answer:not(.pending)")

    def choose(self, library):
        self.page.get_by_role("combobox", name="Library", exact=True).click()
        self.page.get_by_role("option", name=library, exact=True).click()

    def pick(self, name):
        """Choose from a list of conversations or papers. A click is lost on a list that is just being drawn anew."""
        wanted = self.page.get_by_role("radio", name=name).first
        for patience in (2_000, 2_000, PATIENCE):
            wanted.click(force=True)
            with (
                contextlib.suppress(AssertionError)
                if patience < PATIENCE
                else contextlib.nullcontext()
            ):
                expect(wanted).to_be_checked(timeout=patience)
                return

    def begin(self, question):
        self.question.fill(question)
        self.question.press("Enter")

    def ask(self, question):
        """Ask and wait for the whole answer."""
        before = self.answers.count()
        self.begin(question)
        expect(self.answers).to_have_count(before + 1)
        self.settle()
        return self.answers.last

    def let_it_write(self):
        self.page.get_by_role("button", name="How to answer").click()
        self.page.get_by_label("written by the model").check()

    def shot(self, name):
        if folder := os.environ.get("FOOTNOTE_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.wait_for_timeout(400)  # for what moves or fades
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def visit(site, chromium):
    """Open the page in a window of its own; afterwards nothing must have gone wrong or gone elsewhere."""
    visits = []

    def begin(width=1280, height=800, scheme="light", **options):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        visits.append(Visit(site, context))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()
        assert [fault for fault in one.faults if not AWAY.search(fault)] == []
        assert one.foreign == []


def test_the_text_comes_as_it_is_written_and_its_footnotes_lead_to_the_sentences(site, visit):
    site.gate.clear()
    here = visit()
    here.choose("slow")
    here.let_it_write()
    here.begin(KV)
    coming = here.page.locator("#chat .answer.pending")
    expect(coming).to_contain_text("are merged by")
    assert "shrinks by 71%" not in coming.inner_text()
    here.shot("streaming")
    site.gate.set()
    expect(here.answers).to_have_count(1)
    answer = here.answers.last
    expect(answer).to_contain_text("shrinks by 71%")
    expect(answer.locator(".badge")).to_have_text(["checked", "checked"])
    here.page.locator("a.mark", has_text="2").click()
    expect(here.page.locator("#s-2")).to_have_text(SHRINKS)


def test_a_footnote_opens_its_source_at_the_highlighted_sentence(visit):
    here = visit()
    answer = here.ask("Which papers shrink the KV cache, and by how much?")
    expect(answer).to_contain_text("Confidence: ")
    expect(here.page.locator("details.card")).not_to_have_count(1)
    closed = here.page.locator("details.card:not([open])").first
    number = closed.locator("mark").first.get_attribute("id").removeprefix("s-")
    answer.locator(f"a.mark[href='#s-{number}']").click()
    sentence = here.page.locator(f"#s-{number}")
    expect(sentence).to_be_in_viewport()
    expect(sentence).to_be_visible()
    assert sentence.inner_text() in answer.inner_text()
    here.shot("footnote")
    here.page.locator(f"a.back[href='#n-{number}']").click()
    expect(here.page.locator(f"#n-{number}")).to_be_in_viewport()


def test_a_follow_up_says_how_it_was_read(visit):
    here = visit()
    here.ask(KV)
    answer = here.ask("And by how much does perplexity rise?")
    expect(answer).to_contain_text(
        "Read as: And by how much does perplexity rise? (on Sliding Ledgers: Shrinking"
    )
    expect(answer).to_contain_text("0.08")
    here.shot("follow-up")


def test_stop_ends_the_answer_and_frees_the_model(site, visit):
    site.ended.clear()
    here = visit()
    here.choose("endless")
    here.let_it_write()
    here.begin(KV)
    expect(here.page.locator("#chat .answer.pending")).to_contain_text("merges the keys")
    here.page.get_by_role("button", name="Stop", exact=True).click()
    assert site.ended.wait(5)
    here.settle()
    expect(here.answers.last).to_contain_text("Stopped before the answer was finished")
    expect(here.answers.last).to_contain_text("merges the keys")
    here.shot("stopped")


def test_what_the_library_does_not_say_looks_different_and_shows_the_nearest(visit):
    here = visit()
    answer = here.ask("What is the capital of France?")
    expect(answer).to_have_class(re.compile("abstained"))
    expect(answer).to_contain_text("Your library does not say.")
    near = answer.locator("a.near").last
    near.click()
    card = here.page.locator(near.get_attribute("href"))
    expect(card).to_be_in_viewport()
    here.shot("does-not-say")


def test_a_model_that_fails_is_told_of_in_the_page_and_quotations_come_instead(visit):
    here = visit()
    here.choose("broken")
    here.let_it_write()
    answer = here.ask(KV)
    expect(answer).to_contain_text("out of memory")
    expect(answer).to_contain_text("sentences are quoted instead")
    here.shot("failing-model")


def test_a_question_that_fails_says_why_and_can_be_asked_again(visit):
    here = visit()
    here.page.get_by_role("button", name="How to answer").click()
    here.page.get_by_label("Year").first.fill("soon")
    here.begin(KV)
    expect(here.page.locator("#chat .failed")).to_contain_text("year 'soon' cannot be read")
    expect(here.question).to_have_value(KV)
    here.shot("failed")
    here.page.get_by_label("Year").first.fill("")
    here.question.press("Enter")
    expect(here.page.locator("#chat .failed")).to_have_count(0)
    expect(here.answers).to_have_count(1)


def test_a_library_that_cannot_be_opened_is_told_of(visit):
    here = visit()
    here.choose("damaged")
    here.begin(KV)
    expect(here.page.locator("#chat .failed")).to_contain_text("cannot be opened as a library")


def test_asking_again_and_asking_otherwise_take_the_place_of_the_question(visit):
    here = visit()
    here.ask(KV)
    here.page.locator("#chat").get_by_role("button", name="Retry").click()
    here.settle()
    expect(here.answers).to_have_count(1)
    here.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    box = here.page.locator("#chat textarea").first
    expect(box).to_have_value(KV)
    odd = "When does IL-6 rise in <bank> & *voles* (_before_: `fever`)? &lt;"
    box.fill(odd)
    here.page.locator("#chat").get_by_role("button", name="Submit").click()
    expect(here.answers.last).to_contain_text("90 minutes")
    expect(here.answers).to_have_count(1)
    expect(here.page.locator("#chat [data-testid=user]")).to_have_text(odd)
    here.settle()
    here.page.locator("#chat").get_by_role("button", name="Edit").first.click()
    expect(here.page.locator("#chat textarea").first).to_have_value(odd)
    here.page.locator("#chat").get_by_role("button", name="Submit").click()
    here.settle()
    expect(here.page.locator("#chat [data-testid=user]")).to_have_text(odd)


def test_a_conversation_comes_back_after_reload_and_restart_and_goes_when_deleted(site, visit):
    here = visit()
    question = "How long did the effect of heat on corals last?"
    here.ask(question)
    sources = here.page.locator(".sources").inner_text()
    for again in (lambda: None, lambda: (site.stop(), site.start())):
        again()
        here.open()
        expect(here.answers).to_have_count(1)
        assert here.page.locator(".sources").inner_text() == sources
    entry = here.page.get_by_role("radio", name=question)
    expect(entry).to_be_checked()
    here.shot("history")
    rename(here, "Corals in heat")
    search(here, "nine months", ["Corals in heat"])
    saved = here.page.get_by_role("link", name="Save as Markdown").get_attribute("href")
    assert saved.startswith("data:text/plain;base64,")
    here.page.get_by_role("button", name="Delete", exact=True).click()
    here.page.get_by_role("button", name="Delete it").click()
    expect(here.answers).to_have_count(0)
    expect(here.page.get_by_role("radio", name="Corals in heat")).to_have_count(0)
    here.open()
    expect(here.answers).to_have_count(0)


def rename(here, title):
    here.page.get_by_label("Title").fill(title)
    here.page.get_by_role("button", name="Rename").click()
    expect(here.page.get_by_role("radio", name=title)).to_be_checked()


def search(here, words, titles):
    here.page.get_by_label("Search conversations").fill(words)
    expect(here.page.locator(".sidebar .list label")).to_have_text(titles)


def test_a_page_left_open_while_the_server_starts_anew_goes_on(site, visit):
    here = visit()
    here.ask("When does IL-6 rise in bank voles?")
    site.stop()
    site.start()
    expect(here.question).to_be_editable()
    here.pick("When does IL-6 rise in bank voles?")
    here.ask("And by how many hours was fever delayed?")
    expect(here.answers).to_have_count(2)


def test_the_settings_stay_as_they_were_left(visit):
    here = visit()
    here.choose("slow")
    here.page.get_by_role("button", name="How to answer").click()
    here.page.get_by_label("quotations").check()
    here.page.get_by_label("Sentences at most").fill("1")
    here.page.get_by_label("Sentences at most").press("Tab")
    here.open()
    here.page.get_by_role("button", name="How to answer").click()
    expect(here.page.get_by_role("combobox", name="Library", exact=True)).to_have_value("slow")
    expect(here.page.get_by_label("quotations")).to_be_checked()
    expect(here.page.get_by_label("Sentences at most")).to_have_value("1")
    assert here.ask(KV).locator("a.mark").count() == 1


def test_an_empty_question_and_a_draft_disturb_nothing(site, visit):
    site.gate.clear()
    here = visit()
    here.choose("slow")
    here.let_it_write()
    here.begin("  ")
    here.page.wait_for_timeout(1_000)  # nothing is to happen
    expect(here.page.locator("#chat .answer")).to_have_count(0)
    here.begin(KV)
    expect(here.page.locator("#chat .answer.pending")).to_contain_text("are merged by")
    here.question.fill("And by how much")
    site.gate.set()
    here.settle()
    expect(here.answers).to_have_count(1)
    expect(here.question).to_have_value("And by how much")
    here.page.get_by_role("button", name="New conversation").click()
    expect(here.answers).to_have_count(0)
    here.open()
    expect(here.answers).to_have_count(0)


def test_a_new_conversation_leaves_the_old_one_in_the_list(visit):
    here = visit()
    here.ask("When does IL-6 rise in bank voles?")
    here.page.get_by_role("button", name="New conversation").click()
    expect(here.answers).to_have_count(0)
    here.pick("When does IL-6 rise in bank voles?")
    expect(here.answers).to_have_count(1)
    expect(here.page.locator(".sources .card")).not_to_have_count(0)


def test_papers_are_added_by_a_file_found_asked_about_and_removed(visit, tmp_path):
    record = {
        "title": "Otters at Night",
        "abstract": "Otters sleep for 9.5 hours. They hold hands.",
        "year": 2024,
    }
    (tmp_path / "otters.jsonl").write_text(json.dumps(record) + "\nnot a record\n")
    here = visit()
    here.page.get_by_role("tab", name="Library").click()
    here.pick("Heat-Hardened Corals")
    expect(here.page.locator("article.paper")).to_contain_text("nine months")
    here.page.get_by_role("tab", name="Library").click()
    here.shot("library")
    here.page.locator("input[type=file]").first.set_input_files(tmp_path / "otters.jsonl")
    report = here.page.locator(".report").first
    expect(report).to_contain_text("1 added")
    expect(report).to_contain_text("otters.jsonl")
    here.shot("added")
    here.pick("Otters at Night")
    expect(here.page.locator("article.paper")).to_contain_text("They hold hands.")
    here.page.get_by_role("button", name="Ask about this paper").click()
    expect(here.question).to_be_visible()
    expect(here.question).to_have_value(re.compile("Otters at Night"))
    expect(here.ask("How long do otters sleep?")).to_contain_text("9.5 hours")
    here.page.get_by_role("tab", name="Library").click()
    here.page.get_by_role("button", name="Remove this paper").click()
    here.page.get_by_role("button", name="Remove", exact=True).click()
    expect(here.page.get_by_role("radio", name="Otters at Night")).to_have_count(0)


def test_hostile_abstracts_are_text_and_mathematics_and_nothing_else(visit):
    here = visit()
    here.choose("hostile")
    for question in ("What saves 40% of tides?", "What is the capital of France?"):
        here.ask(question)
        for card in here.page.locator("details.card:not([open]) summary").all():
            card.click()
    expect(here.page.locator("#chat .answer").first).to_contain_text("window.ran = 1")
    expect(here.page.locator(".sources math").first).to_be_visible()
    here.shot("hostile")
    here.page.get_by_role("tab", name="Library").click()
    here.pick(re.compile("^Tides"))
    expect(here.page.locator("article.paper")).to_contain_text("window.ran = 1")
    here.page.get_by_role("tab", name="Chat").click()
    assert here.page.evaluate("window.ran") is None
    assert here.page.locator("#planted").count() == 0
    active = (
        "a[href^='javascript'], img[src^='http'], #chat script, .sources script, article script"
    )
    assert here.page.locator(active).count() == 0


def test_on_a_phone_nothing_is_cut_off_and_the_sources_stand_below(visit):
    here = visit(390, 844, has_touch=True)
    answer = here.ask("Which papers shrink the KV cache, and by how much?")
    overflow = here.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0
    box, top = answer.bounding_box(), here.page.locator(".sources").bounding_box()["y"]
    assert top > box["y"] + box["height"]
    here.shot("phone")
    answer.locator("a.mark").last.tap()
    expect(
        here.page.locator(answer.locator("a.mark").last.get_attribute("href"))
    ).to_be_in_viewport()
    here.shot("phone-source")
    for tab in ("Library", "Evals"):
        here.page.get_by_role("tab", name=tab).click()
        assert here.page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        here.shot(f"phone-{tab.lower()}")


# Luminance and contrast after WCAG 2.2; colours are drawn to be read as bytes, whatever their notation.
CONTRAST = """selector => {
  const bytes = colour => {
    const pen = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
    pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data];
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
def test_everything_can_be_read_in_light_and_dark(visit, scheme):
    here = visit(scheme=scheme)
    here.ask(KV)
    here.ask("What is the capital of France?")
    here.page.locator("details.card summary").last.click()
    selectors = ".answer p, .about, .remark, .badge, .mark, mark, .title, .byline, .abstract, .sidebar label span, .tabs button"
    ratios = here.page.evaluate(CONTRAST, selectors)
    assert len(ratios) > 20
    assert min(ratios) >= 4.5
    background = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
    here.shot(scheme)


def test_everything_goes_by_keyboard_and_has_a_name(visit):
    here = visit()
    expect(here.question).to_be_focused()
    here.page.keyboard.type(KV)
    here.page.keyboard.press("Enter")
    expect(here.answers).to_have_count(1)
    mark = here.page.locator("a.mark").first
    mark.focus()
    assert here.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    here.page.keyboard.press("Enter")
    expect(here.page.locator(mark.get_attribute("href"))).to_be_in_viewport()
    assert here.page.locator("#chat [data-testid=bot][aria-label]").count() == 0
    for tab in ("Chat", "Library", "Evals"):
        here.page.get_by_role("tab", name=tab).click()
        assert nameless(here.page) == []


def nameless(page):
    """What can be operated and has no name for a screen reader, by the browser's own accessibility tree."""
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    operable = {
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
        and node.get("role", {}).get("value") in operable
        and not node.get("name", {}).get("value", "").strip()
    ]


def test_an_evaluation_runs_and_shows_what_came_of_it(visit):
    here = visit()
    here.page.get_by_role("tab", name="Evals").click()
    here.page.get_by_label("dev: for tuning").check()
    here.page.get_by_role("button", name="Run", exact=True).click()
    expect(here.page.locator(".progress")).to_contain_text("questions asked")
    here.shot("evaluating")
    expect(here.page.locator(".ended")).to_contain_text("is done", timeout=120_000)
    expect(
        here.page.get_by_role("heading", name=re.compile("worst", re.IGNORECASE))
    ).to_be_visible()
    frame = here.page.frame_locator("iframe.report-frame")
    expect(frame.locator("svg").first).to_be_visible()
    here.shot("evals")
    here.page.locator("iframe.report-frame").scroll_into_view_if_needed()
    here.shot("evals-report")


def test_with_users_nobody_sees_anything_before_signing_in_nor_the_conversations_of_another(
    site, chromium
):
    site.stop()
    site.start({"ada": "correct horse", "eve": "staple"})
    try:
        ada = Stranger(site, chromium.new_context()).sign_in("ada", "correct horse")
        ada.ask(KV)
        ada.shot("signed-in")
        ada.page.get_by_role("link", name="Sign out").click()
        expect(ada.page.get_by_label("username")).to_be_visible()
        eve = Stranger(site, chromium.new_context()).sign_in("eve", "staple")
        expect(eve.page.get_by_role("radio", name=KV)).to_have_count(0)
        assert ada.foreign == eve.foreign == []
    finally:
        for context in chromium.contexts:
            context.close()
        site.stop()
        site.start()


class Stranger(Visit):
    """A window in which somebody has to sign in first."""

    def open(self):
        self.page.goto(self.site.address)
        expect(self.page.get_by_label("username")).to_be_visible()
        expect(self.question).to_have_count(0)
        self.shot("sign-in")

    def sign_in(self, name, password):
        self.page.get_by_label("username").fill(name)
        self.page.get_by_label("password").fill(password)
        self.page.get_by_role("button", name="Login").click()
        self.settle()
        return self
