"""Time the page in a real browser, for one user and for ten at once.

`python -m eval.benchmarks.page [--library DIR] [--runs N]`

The benchmark measures the seconds from the command to a page that takes a question, and from a
question to its evidence, its first text and the whole answer, for one user and ten at once, each
about a different paper. It also counts how many of the ten got that paper. It needs Chromium, and
Playwright of the extra `dev`.
"""

import argparse
import contextlib
import random
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.benchmarks.common import add_library_option, open_assistant, serve_page
from eval.benchmarks.tables import Columns, median_and_range
from rag import Assistant

_USERS = 10
_ANSWER_TIMEOUT_MS = 120_000
_METHOD_NAME = re.compile(r"([\w.+-]*[A-Z][\w.+-]*): ")
_COLUMNS = Columns("<44", "")
# Records times by the page's clock: Enter pressed, evidence, first text, whole answer.
_STOPWATCH = """() => {
  window.times = {};
  let before = 0;
  const answers = () => [...document.querySelectorAll("#chat .answer")];
  const note = name => { window.times[name] ??= performance.now(); };
  document.querySelector("#question textarea").addEventListener("keydown", event => {
    if (event.key === "Enter") { window.times = {}; before = answers().length; note("asked"); }
  }, true);
  new MutationObserver(() => {
    const last = answers().at(before);
    if (!last || window.times.asked === undefined) return;
    const isWhole = !last.matches(".pending");
    if (isWhole || last.querySelector(".evidence")) note("evidence");
    if (isWhole || last.querySelector(".written")) note("first");
    if (isWhole) note("whole");
  }).observe(
    document.querySelector("#chat"), {subtree: true, childList: true, characterData: true});
}"""


def find_questions(assistant: Assistant) -> dict[str, str]:
    """Return questions that name the method of a paper, each with the paper's title."""
    questions: dict[str, str] = {}
    papers = list(assistant.papers())
    random.Random(0).shuffle(papers)  # noqa: S311 - reproducible, no secret
    for paper in papers:
        if len(questions) == _USERS:
            break
        name = _METHOD_NAME.match(paper.title)
        if name:
            question = f"How well does {name[1]} work?"
            if not assistant.ask(question).abstained:
                questions[question] = paper.title
    return questions


# --- the browser ---------------------------------------------------------------------------------


@contextlib.contextmanager
def launch_chromium() -> Iterator[Any]:
    """Launch Chromium without a window, and yield Playwright's browser."""
    from playwright.sync_api import sync_playwright

    installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(installed, None),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        yield browser
        browser.close()


class Tab:
    """Tab in its own browser session, in which the page is ready for a question."""

    def __init__(self, browser: Any, address: str) -> None:  # noqa: ANN401 - Playwright is untyped
        self._context = browser.new_context()
        self._page = self._context.new_page()
        self._page.goto(address)
        self._question = self._page.locator("#question textarea")
        self._question.wait_for()
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        self._page.get_by_role("button", name="Ask", exact=True).wait_for()

    def start_stopwatch(self) -> None:
        """Record the times of all questions from now on."""
        self._page.evaluate(_STOPWATCH)

    def type(self, question: str) -> None:
        """Type a question without sending it."""
        self._question.fill(question)

    def ask(self, question: str) -> None:
        """Type a question and press Enter."""
        self.type(question)
        self._page.keyboard.press("Enter")

    def wait_for_answer(self) -> tuple[float, float, float]:
        """Return the seconds until the evidence, the first text and the whole answer are shown."""
        self._page.wait_for_function("window.times.whole !== undefined", timeout=_ANSWER_TIMEOUT_MS)
        times = self._page.evaluate("window.times")
        self._wait_until_ready()
        evidence, first, whole = times["evidence"], times["first"], times["whole"]
        asked = times["asked"]
        return (evidence - asked) / 1000, (first - asked) / 1000, (whole - asked) / 1000

    def sources(self) -> str:
        """Return the text of the answer's sources."""
        return str(self._page.locator(".sources").inner_text())

    def close(self) -> None:
        """End the session."""
        self._page.close()
        self._context.close()


# --- measuring -----------------------------------------------------------------------------------


def time_start(browser: Any, library: Path) -> tuple[float, float]:  # noqa: ANN401
    """Return the seconds from the command until the page responds and until it takes a question."""
    start = time.perf_counter()
    with serve_page(library) as served:
        responds = time.perf_counter() - start
        tab = Tab(browser, served.address)
        takes_question = time.perf_counter() - start
        tab.close()
    return responds, takes_question


def time_one_user(
    browser: Any,  # noqa: ANN401
    address: str,
    questions: Sequence[str],
) -> list[tuple[float, float, float]]:
    """Ask the questions one after the other; return times of all but the first, a warm-up."""
    tab = Tab(browser, address)
    tab.start_stopwatch()
    times = []
    for question in questions:
        tab.ask(question)
        times.append(tab.wait_for_answer())
    tab.close()
    return times[1:]


def time_many_users(
    browser: Any,  # noqa: ANN401
    address: str,
    titles: dict[str, str],
) -> tuple[list[tuple[float, float, float]], int]:
    """Let one user per question ask at the same time.

    Returns their times, and how many got the paper they asked about.
    """
    tabs = [Tab(browser, address) for _ in titles]
    for tab in tabs:
        tab.start_stopwatch()
        tab.type(next(iter(titles)))
    for tab, question in zip(tabs, titles, strict=True):
        tab.ask(question)
    times = [tab.wait_for_answer() for tab in tabs]
    right = 0
    for tab, title in zip(tabs, titles.values(), strict=True):
        right += title in tab.sources()
        tab.close()
    return times, right


def _print_seconds(label: str, seconds: Sequence[float]) -> None:
    _COLUMNS.print_row(label, median_and_range(seconds, digits=2))


def _print_answers(label: str, times: Sequence[tuple[float, float, float]]) -> None:
    evidence, first, whole = zip(*times, strict=True)
    _print_seconds(f"{label} until the evidence", evidence)
    _print_seconds(f"{label} until the first text", first)
    _print_seconds(f"{label} until the whole answer", whole)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_library_option(parser)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    assistant = open_assistant(options.library)
    questions = find_questions(assistant)
    folder = assistant.library.folder
    _COLUMNS.print_row("seconds, median (min–max)", f"{len(assistant.library):,} papers")
    with launch_chromium() as browser:
        starts = [time_start(browser, folder) for _ in range(options.runs)]
        responds, takes_question = zip(*starts, strict=True)
        _print_seconds("command until the page responds", responds)
        _print_seconds("command until a question can be typed", takes_question)
        with serve_page(folder) as served:
            sequence = list(questions)[: 1 + options.runs]
            _print_answers("a question", time_one_user(browser, served.address, sequence))
            times, right = time_many_users(browser, served.address, questions)
            users = len(times)
            _print_answers(f"{users} users at once", times)
            _COLUMNS.print_row("of them with the paper they asked about", f"{right} of {users}")


if __name__ == "__main__":
    main()
