"""Expansion of paths, folders and patterns into source files."""

import os
from collections.abc import Callable, Iterable, Iterator
from glob import escape, glob
from itertools import dropwhile, filterfalse
from pathlib import Path

from rag.errors import SourceError
from rag.ingest.sources.common.stream import source_error, unreadable_file


def expand_paths(paths: Iterable[str]) -> list[Path | SourceError]:
    """Return the files that paths, folders and patterns name, each once, or an error if missing.

    Folders are searched recursively. Hidden files, Footnote's own libraries and links to folders
    are left out.
    """
    files: dict[str, Path | SourceError] = {}
    for path in paths:
        for file in _expand(str(path)):
            key = str(file) if isinstance(file, SourceError) else os.path.realpath(file)
            files.setdefault(key, file)
    return list(files.values())


def _expand(name: str) -> list[Path | SourceError]:
    path = Path(name)
    try:
        if path.is_dir():
            return _find_files(path)
        matches = [path] if path.exists() else _match_pattern(name)
    except (OSError, ValueError) as error:
        return [unreadable_file(name, error)]
    if not matches:
        return [source_error(name, "no such file")]
    files: list[Path | SourceError] = []
    for match in matches:
        files += _expand_match(match)
    return files


def _match_pattern(pattern: str) -> list[Path]:
    """Return the paths that match a pattern, in order.

    `**` does not follow links to folders, because circular links never end.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        matches = glob(pattern)  # noqa: PTH207 - Path.glob accepts no absolute pattern
        return list(map(Path, sorted(matches)))
    position = parts.index("**")
    roots = list(filter(Path.is_dir, _match_pattern(str(Path(*parts[:position])))))
    rest = list(dropwhile("**".__eq__, parts[position:]))
    if not rest:
        return roots
    paths: set[Path] = set()
    for root in roots:
        for folder, _ in _walk(root):
            paths.update(_match_pattern(str(Path(escape(folder), *rest))))
    return sorted(paths)


def _expand_match(match: Path) -> list[Path | SourceError]:
    try:
        return _find_files(match) if match.is_dir() else [match]
    except OSError as error:
        return [unreadable_file(str(match), error)]


def _find_files(folder: Path) -> list[Path | SourceError]:
    """Return the regular files below a folder, ordered by name, without hidden ones."""
    files: list[Path | SourceError] = []

    def report(error: OSError) -> None:
        files.append(unreadable_file(str(error.filename), error))

    for parent, names in _walk(folder, report):
        for name in filterfalse(_is_hidden, sorted(names)):
            path = Path(parent, name)
            try:
                if path.is_file():
                    files.append(path)
            except OSError as error:
                report(error)
    return files or [source_error(str(folder), "the folder contains no files")]


def _walk(
    folder: Path, on_error: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and those below it, each with the names of its files.

    Hidden folders, libraries and links are left out.
    """
    for parent, folders, files in os.walk(folder, onerror=on_error):
        visible = filterfalse(_is_hidden, sorted(folders))
        folders[:] = [name for name in visible if not _is_library(Path(parent, name))]
        yield parent, files


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_library(folder: Path) -> bool:
    """Tell if a folder is a library of Footnote, which is not a source of papers."""
    try:
        return (folder / "library.sqlite").exists() and (folder / "write.lock").exists()
    except OSError:
        return False
