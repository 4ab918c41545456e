"""Real listing pages, if they are on this machine."""

import os
from pathlib import Path

import pytest
from fakes import HashEmbedder

from rag import Assistant, Library

SHARED = Path(os.environ.get("FOOTNOTE_SHARED") or Path(__file__).parent.parent.parent / "shared")
PAGES = sorted((SHARED / "seeds").glob("*.txt"))
pytestmark = pytest.mark.skipif(not PAGES, reason="the real listing pages are not on this machine")


def test_all_pages_are_read_and_repeated_papers_merged(tmp_path):
    assistant = Assistant(Library(tmp_path / "library"), HashEmbedder())
    report = assistant.add(*PAGES)
    assert (report.read, report.added, report.merged, report.rejected) == (712, 676, 36, ())
    again = assistant.add(*PAGES)
    assert (again.read, again.unchanged, again.merged, again.added) == (712, 676, 36, 0)


@pytest.mark.soak
def test_question_is_answered_from_the_right_paper_and_off_topic_is_refused(
    tmp_path, shared_embedder, times
):
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(*times(PAGES[:1], PAGES))
    answer = assistant.ask("Does FP8 beat INT8 for inference?")
    assert (
        answer.citations[0].paper.title == "FP8 versus INT8 for efficient deep learning inference"
    )
    assert assistant.ask("What is the capital of France?").abstained
