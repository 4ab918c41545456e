"""Settings: where they come from, how they are written, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.config import Settings, cache_folder, config_file, load_settings, save_setting
from rag.errors import FootnoteError, UsageError


@pytest.fixture(autouse=True)
def own_config(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings" / "config.toml"


def test_without_a_file_the_defaults_hold():
    assert load_settings() == Settings(library="", embedder="all-MiniLM-L6-v2")
    assert load_settings().library_folder.name == "library"


def test_a_saved_setting_is_in_force_until_it_is_taken_back(own_config):
    save_setting("library", "/papers/physics")
    save_setting("embedder", "some/model")
    assert load_settings() == Settings("/papers/physics", "some/model")
    assert (
        own_config.read_text(encoding="utf-8")
        == 'embedder = "some/model"\nlibrary = "/papers/physics"\n'
    )
    save_setting("library", "")
    assert load_settings() == Settings("", "some/model")


def test_the_environment_goes_over_the_file(monkeypatch):
    save_setting("library", "/from/file")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", "/from/environment")
    assert load_settings().library_folder == Path("/from/environment")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", "")
    assert load_settings().library_folder == Path("/from/file")


def test_the_home_folder_is_found_in_a_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save_setting("library", "~/papers")
    assert load_settings().library_folder == tmp_path / "papers"


def test_folders_can_be_put_elsewhere(own_config, monkeypatch):
    assert config_file() == own_config
    monkeypatch.setenv("FOOTNOTE_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    monkeypatch.delenv("FOOTNOTE_CACHE")
    assert cache_folder().name == "footnote"
    monkeypatch.delenv("FOOTNOTE_CONFIG")
    assert (config_file().parent.name, config_file().name) == ("footnote", "config.toml")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_can_be_saved(value):
    save_setting("library", value)
    assert load_settings().library == value


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("libary", "did you mean 'library'?"),
        ("embeder", "did you mean 'embedder'?"),
        ("x", "library, embedder"),
    ],
)
def test_an_unknown_setting_is_refused_with_what_may_have_been_meant(name, told, own_config):
    with pytest.raises(UsageError, match=f"no setting is called '{name}'") as caught:
        save_setting(name, "value")
    assert told in str(caught.value)
    assert not own_config.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"library = ", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'colour = "red"\n', "no setting is called 'colour'"),
        (b"library = 3\n", "library must be a text in quotation marks, not 3"),
    ],
)
def test_a_file_that_means_nothing_is_named(text, told, own_config):
    own_config.parent.mkdir()
    own_config.write_bytes(text)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert told in str(caught.value)


def test_a_broken_file_is_not_written_over(own_config):
    own_config.parent.mkdir()
    own_config.write_text("library = ")
    with pytest.raises(UsageError):
        save_setting("embedder", "some/model")
    assert own_config.read_text() == "library = "


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "blocked"))
    with pytest.raises(FootnoteError, match=r"blocked.config\.toml cannot be written"):
        save_setting("library", "/papers")
