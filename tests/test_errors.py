"""Every error is raised by what it is for, carries its values, says the way out, and can be sent to another process."""

import pickle
import threading

import pytest

import rag.errors
from rag import Assistant, Library
from rag.config import save_setting
from rag.errors import (
    EmbedderMismatch,
    FootnoteError,
    LibraryError,
    LibraryNotFound,
    ModelError,
    ModelFailed,
    ModelTooSlow,
    ModelUnavailable,
    PaperNotFound,
    SourceError,
    UsageError,
)
from rag.ingest.sources import open_source
from rag.models import GenerationLimits, load_embedder
from rag.models.runtimes.streaming import stream_from_thread

NO_NUMBER = "ValueError: invalid literal for int() with base 10: 'zebra'"


def generate(work):
    """A generation by a model called tiny that may take a tenth of a second."""
    return list(
        stream_from_thread(
            "tiny", work, GenerationLimits(seconds=0.1), threading.Event(), on_end=lambda: None
        )
    )


@pytest.fixture
def raise_one(small_library, tmp_path, monkeypatch):
    """What raises each kind of error, and the values that the error must carry."""
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(blocked))
    cases = {
        FootnoteError: (lambda: save_setting("library", "x"), {}),
        UsageError: (lambda: Assistant(Library(small_library)).search(" "), {}),
        SourceError: (
            lambda: open_source("no-such.bib"),
            {"source": "no-such.bib", "why": "no such file"},
        ),
        LibraryError: (lambda: Library(blocked / "library"), {}),
        LibraryNotFound: (
            lambda: Library(tmp_path / "nowhere", create=False),
            {"folder": str(tmp_path / "nowhere")},
        ),
        EmbedderMismatch: (
            lambda: Assistant.open(small_library, embedder="another"),
            {"made_with": "all-MiniLM-L6-v2", "asked_for": "another"},
        ),
        PaperNotFound: (
            lambda: Library(small_library).find("zebra"),
            {"name": "zebra", "near": ()},
        ),
        ModelUnavailable: (lambda: load_embedder("no-such/model"), {}),
        ModelFailed: (
            lambda: generate(lambda _: int("zebra")),
            {"model": "tiny", "why": NO_NUMBER},
        ),
        ModelTooSlow: (
            lambda: generate(lambda _: threading.Event().wait(0.3)),
            {"model": "tiny", "seconds": 0.1},
        ),
    }

    def raised(kind):
        call, values = cases[kind]
        with pytest.raises(FootnoteError) as caught:
            call()
        return caught.value, values

    return raised


# All but the one that only names a family.
KINDS = [
    kind
    for kind in vars(rag.errors).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not ModelError
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_raised_with_its_values_and_survives_pickling(kind, raise_one):
    error, values = raise_one(kind)
    assert type(error) is kind
    assert vars(error) == values
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (kind, str(error), values)


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        (SourceError, "no-such.bib: no such file"),
        (LibraryNotFound, "footnote add PATH --library"),
        (EmbedderMismatch, "footnote reindex --embedder another"),
        (PaperNotFound, "footnote list shows the papers"),
        (ModelUnavailable, "hf download no-such/model"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_message_names_the_way_out(kind, way_out, raise_one):
    assert way_out in str(raise_one(kind)[0])


def test_one_class_catches_everything_that_is_raised_on_purpose():
    assert {kind for kind in KINDS if not issubclass(kind, FootnoteError)} == set()
    assert issubclass(EmbedderMismatch, LibraryError)
    assert {ModelUnavailable, ModelFailed, ModelTooSlow} <= set(ModelError.__subclasses__())
    assert issubclass(PaperNotFound, LibraryError)


def test_two_models_of_one_name_are_told_apart():
    assert "other weights under the same name" in str(EmbedderMismatch("tiny", "tiny"))
    assert "other weights" not in str(EmbedderMismatch("tiny", "small"))


def test_an_ambiguous_start_of_an_id_names_the_candidates(small_library):
    library = Library(small_library)
    assert library.find("an-open").paper.title == "An Open Letter on Reading Abstracts Only"
    with pytest.raises(PaperNotFound) as caught:
        library.find("a")
    assert [near.rsplit("-", 1)[0] for near in caught.value.near] == [
        "a-switch-made-of",
        "an-open-letter-on",
    ]
    assert all(near in str(caught.value) for near in caught.value.near)
