"""The library in the page: what is listed, what becomes of dropped files, and how that is told."""

import json
import os
import re
import shutil
import threading
import time
from itertools import count
from pathlib import Path

import gradio
import pytest
from fakes import HashEmbedder
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Assistant, FootnoteError, Library, Paper, PaperNotFound, UsageError, data_folder
from ui.services.import_queue import (
    KEPT,
    LARGEST_FILE_BYTES,
    MOST_FILES,
    Adding,
    ImportQueue,
    Progress,
    progress_html,
    safe_name,
    take_over,
)
from ui.services.library_registry import LibraryRegistry, open_library
from ui.tabs.library import (
    EXPORTS,
    MOST_FOUND,
    ON_A_PAGE,
    Page,
    Wish,
    find,
    label_of,
    library_tab,
    page_of,
    papers_of,
    summary_of,
    write_exports,
)

SIXTY = 60
_DROPS = count()


def rows(number, start=0):
    return [
        {"title": f"Tide number {i}", "abstract": f"It rises {i} feet."}
        for i in range(start, start + number)
    ]


def dropped(folder, name, content):
    """A file as the page receives it: in a folder of its own that is another one each time."""
    path = folder / f"drop-{next(_DROPS)}" / name
    path.parent.mkdir()
    text = (
        content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    )
    path.write_text(text, encoding="utf-8")
    return str(path)


def add(assistant, *uploads):
    return Adding(assistant, "tides", list(uploads)).result()


@pytest.fixture
def empty(tmp_path):
    return Assistant(Library(tmp_path / "library"), HashEmbedder())


@pytest.fixture(scope="module")
def tides(tmp_path_factory):
    """Sixty papers; for reading only."""
    folder = tmp_path_factory.mktemp("tides")
    assistant = Assistant(Library(folder / "library"), HashEmbedder())
    assistant.add(dropped(folder, "tides.jsonl", rows(SIXTY)))
    return assistant


# --- the list ------------------------------------------------------------------------------------------------------


def test_the_list_begins_with_the_newest(tides):
    page = page_of(tides, Wish())
    assert [paper.title for paper in page.papers[:2]] == ["Tide number 59", "Tide number 58"]
    assert page.position == "1–25 of 60, newest first"
    assert (page.has_before, page.has_after) == (False, True)


def test_the_last_page_ends_with_the_oldest(tides):
    page = page_of(tides, Wish(), 50)
    assert [paper.title for paper in page.papers[-2:]] == ["Tide number 1", "Tide number 0"]
    assert page.position == "51–60 of 60, newest first"
    assert (page.has_before, page.has_after) == (True, False)


@settings(max_examples=40, deadline=None)
@given(st.integers(-(10**6), 10**6))
def test_any_start_gives_a_page_that_is_there(tides, start):
    page = page_of(tides, Wish(), start)
    assert page.start in (0, ON_A_PAGE, 2 * ON_A_PAGE)
    assert page.start == ON_A_PAGE * min(max(start, 0) // ON_A_PAGE, 2)
    assert [paper.title for paper in page.papers] == [
        f"Tide number {59 - i}" for i in range(page.start, min(SIXTY, page.start + ON_A_PAGE))
    ]


def test_a_search_lists_the_nearest_in_their_order(tides):
    found = [hit.paper.id for hit in tides.search("It rises 7 feet", MOST_FOUND)]
    first, second = (page_of(tides, Wish("It rises 7 feet"), start) for start in (0, ON_A_PAGE))
    assert [paper.id for paper in (*first.papers, *second.papers)] == found
    assert (first.position, second.position) == (
        "1–25 of the 50 nearest",
        "26–50 of the 50 nearest",
    )
    assert not second.has_after


def test_filters_narrow_the_list_and_the_search(assistant):
    since_2024 = {paper.id for paper in assistant.papers() if paper.year and paper.year >= 2024}
    assert 0 < len(since_2024) < 12
    assert {paper.id for paper in page_of(assistant, Wish(year=" >=2024 ")).papers} == since_2024
    assert {
        paper.id for paper in page_of(assistant, Wish("attention", year=">=2024")).papers
    } <= since_2024
    assert {
        paper.title for paper in papers_of(assistant, Wish(author="okafor", venue="letters"))
    } == {"Sparse Attention by Asking the Neighbours"}


def test_a_list_without_papers_says_so(assistant):
    assert page_of(assistant, Wish(author="Nobody")).position == "No papers"
    assert page_of(assistant, Wish(" \t")).position == "1–12 of 12, newest first"


def test_a_filter_that_means_nothing_is_refused(assistant):
    with pytest.raises(UsageError, match="2019-2022"):
        page_of(assistant, Wish(year="lately"))


@given(st.builds(Wish, *[st.text()] * 5))
def test_a_wish_survives_the_way_through_the_browser(wish):
    assert Wish.of(str(wish)) == wish


def test_no_wish_is_that_for_everything():
    assert Wish.of("") == Wish()


def test_a_label_says_who_when_and_where():
    paper = Paper(
        "On  Tides",
        authors=("Ann Low", "Bo High", "Cy Ebb"),
        year=2021,
        venue="Sea Letters",
        id="on-tides",
    )
    assert label_of(paper) == "On Tides — Ann Low et al., 2021, Sea Letters"
    assert label_of(Paper("On Tides", retracted=True)) == "Retracted: On Tides"
    assert label_of(Paper("\u200b", id="nothing-to-see")) == "nothing-to-see"


def test_the_summary_counts_papers_and_bytes(assistant):
    assert re.fullmatch(r"12 papers, \d+ MB", summary_of(assistant))
    assistant.remove(*[paper.id for paper in assistant.papers()][1:])
    assert summary_of(assistant).startswith("1 paper, ")


def test_a_paper_goes_by_its_whole_id_only(assistant):
    paper = next(assistant.papers())
    assert find(assistant, paper.id) == paper
    with pytest.raises(PaperNotFound):
        find(assistant, paper.id[:-1])
    assistant.remove(paper.id)
    with pytest.raises(PaperNotFound):
        find(assistant, paper.id)


# --- export --------------------------------------------------------------------------------------------------------


def test_the_papers_are_exported_in_all_formats(assistant, tmp_path):
    papers = papers_of(assistant, Wish(year="2024"))
    files = {
        file.name: file.read_text(encoding="utf-8")
        for file in write_exports(papers, tmp_path / "served")
    }
    assert list(files) == ["papers.bib", "papers.ris", "papers.json", "papers.jsonl"]
    assert files["papers.bib"].count("\n@") + files["papers.bib"].startswith("@") == len(papers)
    assert files["papers.ris"].count("TY  - ") == len(papers)
    assert [item["title"] for item in json.loads(files["papers.json"])] == [
        paper.title for paper in papers
    ]
    another = Assistant(Library(tmp_path / "another"), HashEmbedder())
    assert (
        add(another, dropped(tmp_path, "papers.jsonl", files["papers.jsonl"])).added
        == len(papers)
        > 1
    )


def test_two_exports_do_not_overwrite_each_other(assistant, tmp_path):
    first, second = (list(write_exports(list(assistant.papers()), tmp_path)) for _ in range(2))
    assert len({*first, *second}) == 2 * len(EXPORTS)


def test_nothing_is_exported_without_papers(tmp_path):
    assert list(write_exports([], tmp_path / "served")) == []
    assert not (tmp_path / "served").exists()


def test_an_export_that_cannot_be_written_is_told(assistant, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FootnoteError, match="cannot be exported"):
        list(write_exports(list(assistant.papers()), tmp_path / "file"))


# --- adding --------------------------------------------------------------------------------------------------------


def test_a_dropped_file_becomes_papers_and_leaves_no_copy(empty, tmp_path):
    upload = dropped(tmp_path, "tides.jsonl", rows(3))
    report = add(empty, upload)
    assert (report.read, report.added, report.papers) == (3, 3, 3)
    assert not Path(upload).exists()
    assert list((data_folder() / "uploads").iterdir()) == []


def test_a_file_dropped_again_replaces_what_it_said_before(empty, tmp_path):
    add(
        empty,
        dropped(tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 3 feet."}]),
    )
    report = add(
        empty,
        dropped(tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 4 feet."}]),
    )
    assert (report.updated, report.merged) == (1, 0)
    assert [paper.abstract for paper in empty.papers()] == ["They rise 4 feet."]


def test_another_file_does_not_replace_it(empty, tmp_path):
    add(
        empty,
        dropped(tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 3 feet."}]),
    )
    report = add(
        empty,
        dropped(tmp_path, "other.jsonl", [{"title": "On Tides", "abstract": "They rise 4 feet."}]),
    )
    assert (report.updated, report.merged) == (0, 1)
    assert [paper.abstract for paper in empty.papers()] == ["They rise 3 feet."]


def test_what_cannot_be_taken_is_reported_and_the_rest_is_added(empty, tmp_path):
    huge = tmp_path / "huge.jsonl"
    huge.touch()
    os.truncate(huge, LARGEST_FILE_BYTES + 2**20)
    good, other = (dropped(tmp_path, "tides.jsonl", rows(1, start)) for start in (0, 1))
    gone = dropped(tmp_path, "gone.jsonl", rows(1, 2))
    Path(gone).unlink()
    broken = dropped(tmp_path, "broken.jsonl", "{")
    report = add(empty, good, other, str(huge), gone, broken)
    assert report.added == 1
    assert [(Path(rejection.source).name, rejection.record) for rejection in report.rejected] == [
        ("tides.jsonl", 0), ("huge.jsonl", 0), ("gone.jsonl", 0), ("broken.jsonl", 1),
    ]  # fmt: skip
    whys = [rejection.reason for rejection in report.rejected]
    assert all(
        word in why for word, why in zip(("this name", "101 MB", "gone"), whys, strict=False)
    )


def test_too_many_files_are_refused_as_a_whole(empty, tmp_path):
    uploads = [dropped(tmp_path, f"{i}.jsonl", rows(1, i)) for i in range(MOST_FILES + 1)]
    adding = Adding(empty, "tides", uploads)
    with pytest.raises(UsageError, match="21 files were dropped; at most 20"):
        adding.result()
    assert "21 files were dropped" in adding.html()
    assert all(Path(upload).exists() for upload in uploads)
    assert len(empty.library) == 0
    assert add(empty, *uploads[1:]).added == MOST_FILES


def test_what_a_kill_left_among_the_uploads_is_gone_with_the_next_adding(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "tides.jsonl").write_text("left behind")
    files, refused = take_over([dropped(tmp_path, "tides.jsonl", "new")], folder)
    assert ([file.read_text() for file in files], refused) == (["new"], [])


def test_uploads_that_cannot_be_moved_are_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FootnoteError, match="cannot be moved"):
        take_over([dropped(tmp_path, "tides.jsonl", "x")], tmp_path / "file")


@given(st.text())
def test_any_name_becomes_one_that_stands_in_a_folder(name):
    safe = safe_name(name)
    assert safe == safe_name(safe)
    assert safe.isprintable()
    assert not safe.startswith(".")
    assert Path("/folder", safe).parent == Path("/folder")


def test_a_usual_name_stays_as_it_is():
    assert safe_name("My papers (2024), Zoë.bib") == "My papers (2024), Zoë.bib"
    assert safe_name("Zoe\u0308.bib") == "Zoë.bib"
    assert safe_name("../.hidden\x00.bib") == "_.hidden_.bib"


def test_a_library_that_cannot_be_written_is_told(empty, tmp_path):
    shutil.rmtree(empty.library.folder)
    adding = Adding(empty, "tides", [dropped(tmp_path, "tides.jsonl", rows(1))])
    with pytest.raises(FootnoteError):
        adding.result()
    assert 'role="alert"' in adding.html()


def test_drops_are_added_one_after_the_other_in_their_order(empty, tmp_path):
    addings = ImportQueue()
    started = [
        addings.start(empty, "tides", [dropped(tmp_path, f"{name}.jsonl", rows(10, 10 * start))])
        for start, name in enumerate("abc")
    ]
    assert [adding.result().papers for adding in started] == [10, 20, 30]
    assert not addings.running
    assert re.findall(r"<details[^>]*>", addings.html()) == [
        '<details class="adding" open>', '<details class="adding">', '<details class="adding">',
    ]  # fmt: skip


def test_the_last_reports_are_kept(empty, tmp_path):
    addings = ImportQueue()
    for i in range(KEPT + 2):
        addings.start(
            empty, f"library {i}", [dropped(tmp_path, "tides.jsonl", rows(1, i))]
        ).result()
    told = re.findall(r"Added to library (\d): 1 new of 1 record<", addings.html())
    assert told == [str(i) for i in range(KEPT + 1, 1, -1)]


def test_an_adding_waits_for_another_process_and_says_so(empty, tmp_path):
    lock = FileLock(data_folder() / "uploads.lock")
    data_folder().mkdir(parents=True, exist_ok=True)
    with lock:
        adding = Adding(empty, "tides", [dropped(tmp_path, "tides.jsonl", rows(1))])
        told = (time.sleep(0.01) or adding.html() for _ in range(1000))
        assert any("another process is writing; waiting" in html for html in told)
        assert adding.running
    assert adding.result().added == 1


def test_an_adding_goes_on_when_nobody_looks(empty, tmp_path):
    ImportQueue().start(empty, "tides", [dropped(tmp_path, "tides.jsonl", rows(3))])
    for thread in threading.enumerate():
        if thread.name == "footnote: adding":
            thread.join()
    assert len(empty.library) == 3


def test_the_progress_tells_records_and_the_time_left():
    # 500 of 2,000 bytes took 4 s, so the other 1,500 take 12 s, of which 2 have passed.
    progress = Progress(done=500, total=2000, records=1204, seconds=4.0, since=2.0)
    assert progress_html(progress, "tides") == (
        '<div class="progress"><progress max="2000" value="500" aria-label="Adding papers"></progress> '
        "Adding to tides: 1,204 records, about 10 s left</div>"
    )


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (Progress(), "reading the files"),
        (Progress(done=0, total=9), "reading the files"),
        (Progress(1, 2, 1, seconds=200), "1 record, about 3 min left"),
        (Progress(1, 2, 5, seconds=3, since=60), "5 records"),
        (Progress(2, 2, 5, seconds=3), "5 records"),
        (
            Progress(1, 2, 5, 3, waits_for="another process is writing"),
            "another process is writing; waiting",
        ),
    ],
)
def test_the_progress_says_no_more_than_is_known(progress, said):
    assert progress_html(progress, "tides").endswith(f"Adding to tides: {said}</div>")


def test_the_name_of_a_library_is_text():
    assert "Adding to &lt;b&gt;tides&lt;/b&gt;: " in progress_html(Progress(), "<b>tides</b>")


# --- the tab -------------------------------------------------------------------------------------------------------


def test_no_event_of_the_tab_is_part_of_the_api(own_library):
    shelf = LibraryRegistry([own_library], open_library)
    with gradio.Blocks() as page:
        tab = library_tab(shelf, gradio.Dropdown(shelf.libraries))
        tab.ask_about.click(lambda paper: paper, tab.chosen, None, api_visibility="private")
    assert len(page.fns) > 10
    assert {event.api_visibility for event in page.fns.values()} == {"private"}


def test_an_empty_page_has_neither_side():
    page = Page((), 0, 0)
    assert (page.position, page.has_before, page.has_after) == ("No papers", False, False)
