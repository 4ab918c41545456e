"""Library tab: the list of papers, exports, and imports with their progress and reports."""

import json
import os
import re
import shutil
import threading
import time
from itertools import count
from pathlib import Path

import pytest
from fakes import HashEmbedder
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Assistant, FootnoteError, Library, Paper, PaperNotFound, UsageError
from rag.config import data_folder
from rag.library.filters import FILTERS, Filters
from ui.services.import_queue import (
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_REPORTS,
    ImportJob,
    ImportQueue,
    Progress,
    move_uploads,
    progress_html,
    safe_name,
)
from ui.tabs.library import (
    EXPORTS,
    MAX_RESULTS,
    PAGE_SIZE,
    PaperPage,
    PaperQuery,
    find_papers,
    get_paper,
    library_summary,
    load_page,
    paper_label,
    write_exports,
)

PAPER_COUNT = 60
_UPLOADS = count()


def rows(number, start=0):
    return [
        {"title": f"Tide number {i}", "abstract": f"It rises {i} feet."}
        for i in range(start, start + number)
    ]


def make_upload(folder, name, content):
    """Write a file into a new folder, as Gradio does with every upload."""
    path = folder / f"upload-{next(_UPLOADS)}" / name
    path.parent.mkdir()
    text = (
        content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    )
    path.write_text(text, encoding="utf-8")
    return str(path)


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def add(assistant, *uploads):
    return ImportJob(assistant, "tides", list(uploads)).result()


@pytest.fixture
def empty(tmp_path):
    return Assistant(Library(tmp_path / "library"), HashEmbedder())


@pytest.fixture(scope="module")
def tides(tmp_path_factory):
    """Library of sixty papers, for reading only."""
    folder = tmp_path_factory.mktemp("tides")
    assistant = Assistant(Library(folder / "library"), HashEmbedder())
    assistant.add(make_upload(folder, "tides.jsonl", rows(PAPER_COUNT)))
    return assistant


# --- list -----------------------------------------------------------------------------------------


def test_list_starts_with_the_newest_papers(tides):
    page = load_page(tides, PaperQuery())
    assert [paper.title for paper in page.papers[:2]] == ["Tide number 59", "Tide number 58"]
    assert page.position == "1–25 of 60, newest first"
    assert (page.has_previous, page.has_next) == (False, True)


def test_last_page_ends_with_the_oldest_paper(tides):
    page = load_page(tides, PaperQuery(), 50)
    assert [paper.title for paper in page.papers[-2:]] == ["Tide number 1", "Tide number 0"]
    assert page.position == "51–60 of 60, newest first"
    assert (page.has_previous, page.has_next) == (True, False)


@settings(max_examples=40, deadline=None)
@given(st.integers(-(10**6), 10**6))
def test_any_start_gives_an_existing_page(tides, start):
    page = load_page(tides, PaperQuery(), start)
    assert page.start in (0, PAGE_SIZE, 2 * PAGE_SIZE)
    assert page.start == PAGE_SIZE * min(max(start, 0) // PAGE_SIZE, 2)
    assert [paper.title for paper in page.papers] == [
        f"Tide number {59 - i}" for i in range(page.start, min(PAPER_COUNT, page.start + PAGE_SIZE))
    ]


def test_search_lists_the_best_matches_in_order(tides):
    expected_ids = [hit.paper.id for hit in tides.search("It rises 7 feet", MAX_RESULTS)]
    first, second = (
        load_page(tides, PaperQuery("It rises 7 feet"), start) for start in (0, PAGE_SIZE)
    )
    assert [paper.id for paper in (*first.papers, *second.papers)] == expected_ids
    assert (first.position, second.position) == (
        "1–25 of 50 best matches",
        "26–50 of 50 best matches",
    )
    assert not second.has_next


def test_filters_apply_to_the_list_and_to_a_search(assistant):
    since_2024 = {paper.id for paper in assistant.papers() if paper.year and paper.year >= 2024}
    assert 0 < len(since_2024) < 12
    assert {
        paper.id for paper in load_page(assistant, PaperQuery.from_boxes("", " >=2024 ")).papers
    } == since_2024
    assert {
        paper.id
        for paper in load_page(assistant, PaperQuery("attention", Filters(year=">=2024"))).papers
    } <= since_2024
    assert {
        paper.title
        for paper in find_papers(
            assistant, PaperQuery("", Filters(author="okafor", venue="letters"))
        )
    } == {"Sparse Attention by Asking the Neighbours"}


def test_position_of_an_empty_list(assistant):
    assert (
        load_page(assistant, PaperQuery("", Filters(author="Nobody"))).position == "No papers found"
    )
    assert load_page(assistant, PaperQuery.from_boxes(" \t")).position == "1–12 of 12, newest first"


def test_invalid_filter_raises(assistant):
    with pytest.raises(UsageError, match="2019-2022"):
        load_page(assistant, PaperQuery("", Filters(year="lately")))


@given(st.builds(PaperQuery.from_boxes, *[st.text()] * (1 + len(FILTERS))))
def test_query_survives_the_round_trip_through_the_browser(query):
    assert PaperQuery.from_json(query.to_json()) == query


def test_empty_text_is_the_query_for_all_papers():
    assert PaperQuery.from_json("") == PaperQuery()


def test_label_shows_title_authors_year_and_venue():
    paper = Paper(
        "On  Tides",
        authors=("Ann Low", "Bo High", "Cy Ebb"),
        year=2021,
        venue="Sea Letters",
        id="on-tides",
    )
    assert paper_label(paper) == "On Tides — Ann Low et al., 2021, Sea Letters"
    assert paper_label(Paper("On Tides", retracted=True)) == "Retracted: On Tides"
    assert paper_label(Paper("\u200b", id="nothing-to-see")) == "nothing-to-see"


def test_summary_counts_papers_and_megabytes(assistant):
    assert re.fullmatch(r"12 papers, \d+ MB", library_summary(assistant))
    assistant.remove(*[paper.id for paper in assistant.papers()][1:])
    assert library_summary(assistant).startswith("1 paper, ")


def test_paper_is_found_by_its_full_id_only(assistant):
    paper = next(assistant.papers())
    assert get_paper(assistant, paper.id) == paper
    with pytest.raises(PaperNotFound):
        get_paper(assistant, paper.id[:-1])
    assistant.remove(paper.id)
    with pytest.raises(PaperNotFound):
        get_paper(assistant, paper.id)


# --- exports --------------------------------------------------------------------------------------


def test_papers_are_exported_in_all_formats(assistant, tmp_path):
    papers = find_papers(assistant, PaperQuery("", Filters(year="2024")))
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
        add(another, make_upload(tmp_path, "papers.jsonl", files["papers.jsonl"])).added
        == len(papers)
        > 1
    )


def test_exports_do_not_overwrite_each_other(assistant, tmp_path):
    first, second = (list(write_exports(list(assistant.papers()), tmp_path)) for _ in range(2))
    assert len({*first, *second}) == 2 * len(EXPORTS)


def test_nothing_is_exported_without_papers(tmp_path):
    assert list(write_exports([], tmp_path / "served")) == []
    assert not (tmp_path / "served").exists()


def test_export_without_write_access_raises(assistant, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FootnoteError, match="cannot export"):
        list(write_exports(list(assistant.papers()), tmp_path / "file"))


# --- imports --------------------------------------------------------------------------------------


def test_import_adds_papers_and_leaves_no_copy_of_the_file(empty, tmp_path):
    upload = make_upload(tmp_path, "tides.jsonl", rows(3))
    report = add(empty, upload)
    assert (report.read, report.added, report.papers) == (3, 3, 3)
    assert not Path(upload).exists()
    assert list((data_folder() / "uploads").iterdir()) == []


def test_importing_a_file_again_updates_its_papers(empty, tmp_path):
    add(
        empty,
        make_upload(
            tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 3 feet."}]
        ),
    )
    report = add(
        empty,
        make_upload(
            tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 4 feet."}]
        ),
    )
    assert (report.updated, report.merged) == (1, 0)
    assert [paper.abstract for paper in empty.papers()] == ["They rise 4 feet."]


def test_importing_another_file_merges_its_papers(empty, tmp_path):
    add(
        empty,
        make_upload(
            tmp_path, "tides.jsonl", [{"title": "On Tides", "abstract": "They rise 3 feet."}]
        ),
    )
    report = add(
        empty,
        make_upload(
            tmp_path, "other.jsonl", [{"title": "On Tides", "abstract": "They rise 4 feet."}]
        ),
    )
    assert (report.updated, report.merged) == (0, 1)
    assert [paper.abstract for paper in empty.papers()] == ["They rise 3 feet."]


def test_import_reports_rejected_files_and_adds_the_rest(empty, tmp_path):
    huge = tmp_path / "huge.jsonl"
    huge.touch()
    os.truncate(huge, MAX_FILE_BYTES + 2**20)
    good, other = (make_upload(tmp_path, "tides.jsonl", rows(1, start)) for start in (0, 1))
    gone = make_upload(tmp_path, "gone.jsonl", rows(1, 2))
    Path(gone).unlink()
    broken = make_upload(tmp_path, "broken.jsonl", "{")
    report = add(empty, good, other, str(huge), gone, broken)
    assert report.added == 1
    assert [(Path(rejection.source).name, rejection.record) for rejection in report.rejected] == [
        ("tides.jsonl", 0), ("huge.jsonl", 0), ("gone.jsonl", 0), ("broken.jsonl", 1),
    ]  # fmt: skip
    reasons = [rejection.reason for rejection in report.rejected]
    for reason, part in zip(reasons, ("same name", "101 MB", "no longer exists"), strict=False):
        assert part in reason


def test_too_many_files_are_rejected_together(empty, tmp_path):
    uploads = [make_upload(tmp_path, f"{i}.jsonl", rows(1, i)) for i in range(MAX_FILES + 1)]
    job = ImportJob(empty, "tides", uploads)
    with pytest.raises(UsageError, match="cannot add 21 files at once; the limit is 20"):
        job.result()
    assert "cannot add 21 files" in job.html()
    assert all(Path(upload).exists() for upload in uploads)
    assert len(empty.library) == 0
    assert add(empty, *uploads[1:]).added == MAX_FILES


def test_import_clears_uploads_left_by_a_killed_process(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "tides.jsonl").write_text("left behind")
    (file,), rejected = move_uploads([make_upload(tmp_path, "tides.jsonl", "new")], folder)
    assert (file.read_text(), rejected) == ("new", [])


def test_uploads_that_cannot_be_moved_raise(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FootnoteError, match="cannot move"):
        move_uploads([make_upload(tmp_path, "tides.jsonl", "x")], tmp_path / "file")


@given(st.text())
def test_any_file_name_becomes_safe(name):
    safe = safe_name(name)
    assert safe == safe_name(safe)
    assert safe.isprintable()
    assert not safe.startswith(".")
    assert Path("/folder", safe).parent == Path("/folder")


def test_ordinary_file_names_are_kept():
    assert safe_name("My papers (2024), Zoë.bib") == "My papers (2024), Zoë.bib"
    assert safe_name("Zoe\u0308.bib") == "Zoë.bib"
    assert safe_name("../.hidden\x00.bib") == "_.hidden_.bib"


def test_import_into_a_library_that_cannot_be_written_reports_the_error(empty, tmp_path):
    shutil.rmtree(empty.library.folder)
    job = ImportJob(empty, "tides", [make_upload(tmp_path, "tides.jsonl", rows(1))])
    with pytest.raises(FootnoteError):
        job.result()
    assert 'role="alert"' in job.html()


def test_imports_run_one_after_another(empty, tmp_path):
    queue = ImportQueue()
    jobs = [
        queue.start(empty, "tides", [make_upload(tmp_path, f"{name}.jsonl", rows(10, 10 * start))])
        for start, name in enumerate("abc")
    ]
    assert [job.result().papers for job in jobs] == [10, 20, 30]
    assert not queue.is_running
    assert re.findall(r"<details[^>]*>", queue.html()) == [
        '<details class="adding" open>', '<details class="adding">', '<details class="adding">',
    ]  # fmt: skip


def test_latest_reports_are_kept(empty, tmp_path):
    queue = ImportQueue()
    for i in range(MAX_REPORTS + 2):
        queue.start(
            empty, f"library {i}", [make_upload(tmp_path, "tides.jsonl", rows(1, i))]
        ).result()
    libraries = re.findall(r"Added to library (\d): 1 new of 1 record<", queue.html())
    assert libraries == [str(i) for i in range(MAX_REPORTS + 1, 1, -1)]


def test_import_waits_for_another_process_and_says_so(empty, tmp_path):
    lock = FileLock(data_folder() / "uploads.lock")
    data_folder().mkdir(parents=True, exist_ok=True)
    with lock:
        job = ImportJob(empty, "tides", [make_upload(tmp_path, "tides.jsonl", rows(1))])
        wait_until(lambda: "another process is writing; waiting" in job.html())
        assert job.is_running
    assert job.result().added == 1


def test_import_continues_when_nobody_watches(empty, tmp_path):
    ImportQueue().start(empty, "tides", [make_upload(tmp_path, "tides.jsonl", rows(3))])
    for thread in threading.enumerate():
        if thread.name == "footnote: import":
            thread.join()
    assert len(empty.library) == 3


def test_progress_shows_records_and_time_left():
    # 500 of 2,000 bytes took 4 s, so the other 1,500 take 12 s, of which 2 have passed.
    progress = Progress(done=500, total=2000, records=1204, seconds=4.0, seconds_since=2.0)
    assert progress_html(progress, "tides") == (
        '<div class="progress">'
        '<progress max="2000" value="500" aria-label="Adding papers"></progress> '
        "Adding to tides: 1,204 records, about 10 s left</div>"
    )


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(), "reading the files"),
        (Progress(done=0, total=9), "reading the files"),
        (Progress(1, 2, 1, seconds=200), "1 record, about 3 min left"),
        (Progress(1, 2, 5, seconds=3, seconds_since=60), "5 records"),
        (Progress(2, 2, 5, seconds=3), "5 records"),
        (
            Progress(1, 2, 5, 3, wait_reason="another process is writing"),
            "another process is writing; waiting",
        ),
    ],
)
def test_progress_shows_only_what_is_known(progress, expected):
    assert progress_html(progress, "tides").endswith(f"Adding to tides: {expected}</div>")


def test_library_name_is_escaped():
    assert "Adding to &lt;b&gt;tides&lt;/b&gt;: " in progress_html(Progress(), "<b>tides</b>")


def test_empty_page_has_no_neighbours():
    page = PaperPage((), 0, 0)
    assert (page.position, page.has_previous, page.has_next) == ("No papers found", False, False)
