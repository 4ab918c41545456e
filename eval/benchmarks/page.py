"""How long people wait for the page, in a real browser: `python -m eval.benchmarks.page [--library DIR] [--runs N]`.

From the command to a page that takes a question, from a question to its first text and to the whole answer, and both
for ten people who ask at once, each on another paper; it also tells how many of the ten got the paper they asked for.
Needs Chromium, and Playwright of the extra `dev`.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from rag import Assistant

_TOGETHER = 10
_NAME = re.compile(r"([\w.+-]*[A-Z][\w.+-]*): ")
# Notes, in the page's own clock, when Enter was pressed, when text came, and when the answer was whole.
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
    if (!last.matches(".pending")) { note("first"); note("whole"); }
    else if (!last.querySelector(".about")) note("first");
  }).observe(document.querySelector("#chat"), {subtree: true, childList: true, characterData: true});
}"""


def main() -> None:
    """Print the seconds, as median and span."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--library", help="the library's folder; the sample papers when there is none"
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    assistant = (
        Assistant.open(options.library, create=False) if options.library else Assistant.sample()
    )
    questions = _questions(assistant)
    folder = str(assistant.library.folder)
    print(f"{'seconds, median (least to most)':44}{len(assistant.library):,} papers")
    with _chromium() as browser:
        starts = [_start(browser, folder) for _ in range(options.runs)]
        for name in ("until it listens", "until a question can be typed"):
            _print(f"command {name}", [start[name] for start in starts])
        with _served(folder) as address:
            _ask_alone(browser, address, questions, options.runs)
            _ask_together(browser, address, questions)


def _questions(assistant: Assistant) -> dict[str, str]:
    """Questions that name a paper which answers them, with its title."""
    found: dict[str, str] = {}
    papers = list(assistant.papers())
    random.Random(0).shuffle(papers)  # noqa: S311 - the same ones each time
    for paper in papers:
        name = _NAME.match(paper.title)
        question = f"How well does {name[1]} work?" if name else ""
        if question and not assistant.ask(question).abstained:
            found[question] = paper.title
        if len(found) == _TOGETHER:
            return found
    return found


@contextlib.contextmanager
def _chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def _served(folder: str) -> Iterator[str]:
    """The page in a process of its own, with nothing of the user's but the library."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "rag.cli", "ui", "--library", folder, "--port", str(port)]
        environment = {**os.environ, "XDG_DATA_HOME": data}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        try:
            while not _answers(address):
                time.sleep(0.01)
            yield address
        finally:
            process.terminate()
            process.wait()


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310 - our own
        return bool(response.status == 200)
    return False


def _start(browser: Any, folder: str) -> dict[str, float]:  # noqa: ANN401 - a browser of Playwright
    began = time.perf_counter()
    with _served(folder) as address:
        seconds = {"until it listens": time.perf_counter() - began}
        context, page = _opened(browser, address)
        seconds["until a question can be typed"] = time.perf_counter() - began
        page.close()
        context.close()
    return seconds


def _opened(browser: Any, address: str) -> tuple[Any, Any]:  # noqa: ANN401 - objects of Playwright
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.locator("#question textarea").wait_for()
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    return context, page


def _ask_alone(browser: Any, address: str, questions: dict[str, str], runs: int) -> None:  # noqa: ANN401
    context, page = _opened(browser, address)
    page.evaluate(_STOPWATCH)
    _ask(page, next(iter(questions)))  # the first question waits for what is still being loaded
    _times(page)
    times = []
    for question in list(questions)[1 : 1 + runs]:
        _ask(page, question)
        times.append(_times(page))
    _print("a question until its first text", [first for first, _ in times])
    _print("a question until the whole answer", [whole for _, whole in times])
    context.close()


def _ask_together(browser: Any, address: str, questions: dict[str, str]) -> None:  # noqa: ANN401
    windows = [_opened(browser, address) for _ in questions]
    for _, page in windows:
        page.evaluate(_STOPWATCH)
        page.locator("#question textarea").fill(next(iter(questions)))
    for (_, page), question in zip(windows, questions, strict=True):
        _ask(page, question)
    times = [_times(page) for _, page in windows]
    right = [
        title in page.locator(".sources").inner_text()
        for (_, page), title in zip(windows, questions.values(), strict=True)
    ]
    _print(f"{len(windows)} people at once until their first text", [first for first, _ in times])
    _print(f"{len(windows)} people at once until the whole answer", [whole for _, whole in times])
    print(f"{'of them with the paper they asked for':44}{sum(right)} of {len(right)}")
    for context, _ in windows:
        context.close()


def _ask(page: Any, question: str) -> None:  # noqa: ANN401
    page.locator("#question textarea").fill(question)
    page.keyboard.press("Enter")


def _times(page: Any) -> tuple[float, float]:  # noqa: ANN401
    """Seconds from the question to the first text and to the whole answer."""
    page.wait_for_function("window.times.whole !== undefined", timeout=120_000)
    times = page.evaluate("window.times")
    page.get_by_role("button", name="Ask", exact=True).wait_for()
    return (times["first"] - times["asked"]) / 1000, (times["whole"] - times["asked"]) / 1000


def _print(what: str, seconds: Sequence[float]) -> None:
    print(f"{what:44}{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
