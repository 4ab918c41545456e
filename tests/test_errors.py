"""Errors: each one can be raised, keeps its values, names the way out, and survives pickling."""

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
    unknown_choice,
)
from rag.ingest.sources.source import open_source
from rag.models.language_model import GenerationLimits
from rag.models.registry import load_embedder
from rag.models.runtimes.streaming import stream_from_thread

NOT_AN_INTEGER = "ValueError: invalid literal for int() with base 10: 'zebra'"


def generate(work):
    """Run `work` as a generation by a model named tiny, with a limit of 0.1 seconds."""
    limits = GenerationLimits(seconds=0.1)
    return list(stream_from_thread("tiny", work, limits, threading.Event()))


@pytest.fixture
def raise_error(small_library, tmp_path, monkeypatch):
    """Provoke an error of a class; return it and the attributes that it should have."""
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(blocked))
    missing = tmp_path / "nowhere"
    cases = {
        FootnoteError: (lambda: save_setting("library", "x"), {}),
        UsageError: (lambda: Assistant(Library(small_library)).search(" "), {}),
        SourceError: (
            lambda: open_source("no-such.bib"),
            {"source": "no-such.bib", "reason": "no such file"},
        ),
        LibraryError: (lambda: Library(blocked / "library"), {}),
        LibraryNotFound: (lambda: Library(missing, create=False), {"folder": str(missing)}),
        EmbedderMismatch: (
            lambda: Assistant.open(small_library, embedder="another"),
            {"stored": "all-MiniLM-L6-v2", "requested": "another"},
        ),
        PaperNotFound: (
            lambda: Library(small_library).find("zebra"),
            {"name": "zebra", "suggestions": ()},
        ),
        ModelUnavailable: (lambda: load_embedder("no-such/model"), {}),
        ModelFailed: (
            lambda: generate(lambda _: int("zebra")),
            {"model": "tiny", "reason": NOT_AN_INTEGER},
        ),
        ModelTooSlow: (
            lambda: generate(lambda _: threading.Event().wait(0.3)),
            {"model": "tiny", "seconds": 0.1},
        ),
    }

    def provoke(error_class):
        call, attributes = cases[error_class]
        with pytest.raises(FootnoteError) as caught:
            call()
        return caught.value, attributes

    return provoke


# `ModelError` is only a base class.
ERROR_CLASSES = [
    value
    for value in vars(rag.errors).values()
    if isinstance(value, type) and issubclass(value, Exception) and value is not ModelError
]


@pytest.mark.parametrize("error_class", ERROR_CLASSES, ids=lambda value: value.__name__)
def test_error_has_its_attributes_and_survives_pickling(error_class, raise_error):
    error, attributes = raise_error(error_class)
    assert type(error) is error_class
    assert vars(error) == attributes
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (error_class, str(error), attributes)


@pytest.mark.parametrize(
    ("error_class", "way_out"),
    [
        (SourceError, "no-such.bib: no such file"),
        (LibraryNotFound, "create one with: footnote add PATH --library"),
        (EmbedderMismatch, "footnote reindex --embedder another"),
        (PaperNotFound, "list the papers with: footnote list"),
        (ModelUnavailable, "hf download no-such/model"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_message_names_the_way_out(error_class, way_out, raise_error):
    error, _ = raise_error(error_class)
    assert way_out in str(error)


def test_every_error_is_a_footnote_error():
    assert all(issubclass(error_class, FootnoteError) for error_class in ERROR_CLASSES)
    assert issubclass(EmbedderMismatch, LibraryError)
    assert issubclass(PaperNotFound, LibraryError)
    assert {ModelUnavailable, ModelFailed, ModelTooSlow} <= set(ModelError.__subclasses__())


def test_unknown_choice_lists_the_choices():
    error = unknown_choice("style", "poem", ["quote", "write"])
    assert isinstance(error, UsageError)
    assert str(error) == "unknown style 'poem'; choose from: quote, write"


def test_embedder_mismatch_explains_two_models_with_the_same_name():
    assert "same name, different weights" in str(EmbedderMismatch("tiny", "tiny"))
    assert "different weights" not in str(EmbedderMismatch("tiny", "small"))


def test_ambiguous_start_of_an_id_suggests_the_candidates(small_library):
    library = Library(small_library)
    assert library.find("an-open").paper.title == "An Open Letter on Reading Abstracts Only"
    with pytest.raises(PaperNotFound) as caught:
        library.find("a")
    suggestions = caught.value.suggestions
    assert [paper_id.rsplit("-", 1)[0] for paper_id in suggestions] == [
        "a-switch-made-of",
        "an-open-letter-on",
    ]
    assert all(paper_id in str(caught.value) for paper_id in suggestions)
