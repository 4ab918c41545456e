"""Real listing pages, if they are on this machine."""

import os
from pathlib import Path

import pytest

from rag import Assistant

SHARED = Path(os.environ.get("FOOTNOTE_SHARED") or Path(__file__).parent.parent.parent / "shared")
PAGES = sorted((SHARED / "seeds").glob("*.txt"))
pytestmark = pytest.mark.skipif(not PAGES, reason="the real listing pages are not on this machine")


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    assistant = Assistant.open(tmp_path_factory.mktemp("seeds"))
    return assistant, assistant.add(*PAGES)


def test_all_pages_are_read_and_repeated_papers_merged(added):
    assistant, report = added
    assert (report.read, report.added, report.merged, report.rejected) == (712, 676, 36, ())
    again = assistant.add(*PAGES)
    assert (again.read, again.unchanged, again.merged, again.added) == (712, 676, 36, 0)


def test_question_is_answered_from_the_right_paper_and_off_topic_is_refused(added):
    assistant, _ = added
    answer = assistant.ask("Does FP8 beat INT8 for inference?")
    assert (
        answer.citations[0].paper.title == "FP8 versus INT8 for efficient deep learning inference"
    )
    assert assistant.ask("What is the capital of France?").abstained
