"""The limits that the READMEs list are those of the code."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = "rag.ingest.sources"
# Where each row of a table finds its value; a dotted name may end in an attribute of a constant.
LIMITS = {
    "rag/README.md": {
        "line, record or single JSON value, characters": f"{SOURCES}.common.stream:MAX_LINE",
        "depth of nested JSON": f"{SOURCES}.json:_MAX_DEPTH",
        "BibTeX file, bytes": f"{SOURCES}.bibtex:MAX_SIZE",
        "header of a table, characters": f"{SOURCES}.csv:_MAX_HEADER",
        "cell of a table, characters": f"{SOURCES}.csv:_MAX_CELL",
        "paragraph of a listing, lines": f"{SOURCES}.listing:_MAX_PARAGRAPH_LINES",
        "rejected records, if they are the majority": f"{SOURCES}.source:MAX_REJECTIONS",
        "reason shown for a rejection, characters": f"{SOURCES}.source:_MAX_REASON",
        "title, characters": f"{SOURCES}.common.raw_record:MAX_TITLE",
        "abstract, characters": f"{SOURCES}.common.raw_record:MAX_ABSTRACT",
        "venue, characters": f"{SOURCES}.common.raw_record:MAX_VENUE",
        "names of all authors, characters": f"{SOURCES}.common.raw_record:MAX_AUTHORS",
        "address, characters": "rag.text.identifiers:_MAX_URL",
        "words of an inverted index": f"{SOURCES}.common.json_mappings:_MAX_ABSTRACT_WORDS",
        "question, characters": "rag.retrieval.query_analysis:MAX_QUESTION_CHARS",
        "filter, characters": "rag.library.filters:_MAX_LENGTH",
        "unknown words of a question that are corrected": "rag.retrieval.typos:MAX_UNKNOWN_WORDS",
        "papers proposed by full text, matches of rare words": "rag.library.library:_MAX_MATCHES",
        "papers whose sentences are read": "rag.answering.evidence:MAX_EVIDENCE_PAPERS",
        "generated tokens": "rag.answering.pipeline:GENERATION_LIMITS.tokens",
        "seconds of generation": "rag.answering.pipeline:GENERATION_LIMITS.seconds",
    },
    "ui/README.md": {
        "upload, all its files, bytes": "ui.server.body_limit:MAX_UPLOAD_BYTES",
        "any other request, bytes": "ui.server.body_limit:MAX_REQUEST_BYTES",
        "disk space that an upload leaves, bytes": "ui.server.body_limit:MIN_FREE_DISK_BYTES",
        "imported file, bytes": "ui.services.import_queue:MAX_FILE_BYTES",
        "files of one import": "ui.services.import_queue:MAX_FILES",
        "connections of one client": "ui.server.listening:MAX_CONNECTIONS_PER_CLIENT",
        "wrong passwords in a row": "ui.server.login:MAX_FAILED_LOGINS",
        "seconds to wait after them": "ui.server.login:LOGIN_WAIT_SECONDS",
        "sessions": "ui.server.application:MAX_SESSIONS",
        "jobs": "ui.server.application:MAX_JOBS",
        "assistants that are open at once": "ui.services.library_registry:MAX_OPEN_ASSISTANTS",
        "seconds of an answer": "ui.services.chat_service:MAX_ANSWER_SECONDS",
        "title of a conversation, characters": "ui.services.conversations:MAX_TITLE_CHARS",
        "own questions, bytes": "ui.services.evaluations:MAX_QUESTIONS_BYTES",
    },
}
ROWS = [(page, row) for page, limits in LIMITS.items() for row in limits]


def listed(page):
    """Return the limits that a README lists: value by name."""
    text = (ROOT / page).read_text(encoding="utf-8")
    table = text.split("| limit | value | beyond it |\n")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \|", table, re.MULTILINE)
    return {name: int(value.replace(",", "")) for name, value in rows}


def value_of(place):
    """Return the constant at `module:name` or `module:name.attribute`."""
    module, _, names = place.partition(":")
    value = importlib.import_module(module)
    for name in names.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("page", "row"), ROWS)
def test_a_listed_limit_is_that_of_the_code(page, row):
    assert listed(page)[row] == value_of(LIMITS[page][row])


@pytest.mark.parametrize("page", LIMITS)
def test_every_listed_limit_is_checked(page):
    assert set(listed(page)) == set(LIMITS[page])
