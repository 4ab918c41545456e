"""Settings: their sources, how they are saved, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.config import Settings, cache_folder, config_file, load_settings, save_setting
from rag.errors import FootnoteError, UsageError


@pytest.fixture(autouse=True)
def config_toml(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("FOOTNOTE_LANGUAGE_MODEL")
    return tmp_path / "settings" / "config.toml"


def write_config(file, content):
    file.parent.mkdir()
    file.write_bytes(content)


def test_defaults_apply_without_a_file():
    assert load_settings() == Settings(library="", embedder="all-MiniLM-L6-v2")
    assert load_settings().library_folder.name == "library"


def test_saved_setting_applies_until_it_is_removed(config_toml):
    save_setting("library", "/papers/physics")
    save_setting("embedder", "some/model")
    assert load_settings() == Settings("/papers/physics", "some/model")
    content = config_toml.read_text(encoding="utf-8")
    assert content == 'embedder = "some/model"\nlibrary = "/papers/physics"\n'
    save_setting("library", "")
    assert load_settings() == Settings("", "some/model")


def test_environment_overrides_the_file(monkeypatch):
    save_setting("library", "/from/file")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", "/from/environment")
    assert load_settings().library_folder == Path("/from/environment")
    monkeypatch.setenv("FOOTNOTE_LIBRARY", "")
    assert load_settings().library_folder == Path("/from/file")


def test_library_setting_expands_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save_setting("library", "~/papers")
    assert load_settings().library_folder == tmp_path / "papers"


def test_environment_moves_the_config_and_cache_folders(config_toml, monkeypatch):
    assert config_file() == config_toml
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


def test_renamed_value_from_an_older_version_still_works(config_toml, monkeypatch):
    write_config(config_toml, b'language_model = "embedded"\n')
    assert load_settings().language_model == "bundled"
    save_setting("language_model", "some/model")
    assert load_settings().language_model == "some/model"
    monkeypatch.setenv("FOOTNOTE_LANGUAGE_MODEL", "embedded")
    assert load_settings().language_model == "bundled"


def test_saving_another_setting_updates_a_renamed_value(config_toml):
    write_config(config_toml, b'language_model = "embedded"\n')
    save_setting("embedder", "some/model")
    assert 'language_model = "bundled"' in config_toml.read_text(encoding="utf-8")


def test_setting_that_an_older_version_had_is_ignored(config_toml):
    write_config(config_toml, b'nli_model = "some/model"\nlibrary = "/papers"\n')
    assert load_settings() == Settings(library="/papers")


@pytest.mark.parametrize("name", ["libary", "x"])
def test_unknown_setting_is_refused_with_the_choices(name, config_toml):
    message = f"unknown setting '{name}'; choose from: library, embedder, language_model"
    with pytest.raises(UsageError, match=message):
        save_setting(name, "value")
    assert not config_toml.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"library = ", "cannot read"),
        (b"\xff\xfe", "cannot read"),
        (b'colour = "red"\n', "unknown setting 'colour'"),
        (b"library = 3\n", "library must be a string in quotes, not 3"),
    ],
)
def test_invalid_file_is_refused(content, message, config_toml):
    write_config(config_toml, content)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert message in str(caught.value)
    assert str(config_toml) in str(caught.value)


def test_invalid_file_is_not_overwritten(config_toml):
    write_config(config_toml, b"library = ")
    with pytest.raises(UsageError):
        save_setting("embedder", "some/model")
    assert config_toml.read_text() == "library = "


def test_unwritable_file_is_reported(tmp_path, monkeypatch):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("FOOTNOTE_CONFIG", str(tmp_path / "blocked"))
    with pytest.raises(FootnoteError, match=r"cannot write .*blocked.config\.toml"):
        save_setting("library", "/papers")
