"""Search filters, defined once for listings, full text, vectors, commands and the page.

To add a filter, add a field to `Filters`. Everything else reads `FILTERS`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from types import MappingProxyType
from typing import Any

from rag.errors import UsageError, unknown_choice
from rag.text.cleaning import escape_control_chars, title_key

# Characters. No year, name or date is longer.
_MAX_LENGTH = 500
_MAX_LENGTH_IN_MESSAGE = 60
_YEAR_COMPARISON = re.compile(r"(>=|<=|>|<|=|)\s*(\d{4})")
_YEAR_RANGE = re.compile(r"(\d{4})\s*(?:-|–|\.\.)\s*(\d{4})")
_AUTHOR_SQL = "EXISTS (SELECT 1 FROM json_each(authors) WHERE instr(fold(value), fold(?)) > 0)"
_SOURCE_SQL = (
    "key IN (SELECT paper FROM provenance WHERE instr(fold(file_name(source)), fold(?)) > 0)"
)


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL condition on the columns of `paper`, with the values to bind."""

    sql: str
    values: tuple[str | int, ...]


# Takes the filter's name and its text; returns None when the text is blank.
_Parser = Callable[[str, str], Condition | None]


@dataclass(frozen=True, slots=True)
class FilterDefinition:
    """Name, documentation and meaning of one filter."""

    name: str
    help: str
    metavar: str
    parse: _Parser

    def condition(self, text: str) -> Condition | None:
        """Translate the user's text into SQL; return None when it filters nothing.

        Raises `UsageError` when the text is too long or invalid.
        """
        if len(text) > _MAX_LENGTH:
            raise UsageError(
                f"{self.name} has {len(text):,} characters; the limit is {_MAX_LENGTH}"
            )
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise UsageError(f"{self.name} '{_shorten(text)}' is not valid Unicode text")
        return self.parse(self.name, text)


def _shorten(text: str) -> str:
    """Fit what the user typed into one line of an error message."""
    line = escape_control_chars(" ".join(text.split()))
    if len(line) <= _MAX_LENGTH_IN_MESSAGE:
        return line
    return line[:_MAX_LENGTH_IN_MESSAGE] + "…"


def _parse_year(name: str, text: str) -> Condition | None:
    text = text.strip()
    if not text:
        return None
    if match := _YEAR_RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise UsageError(f"{name} range '{_shorten(text)}' is empty; write {last}-{first}")
        return Condition("year BETWEEN ? AND ?", (first, last))
    if match := _YEAR_COMPARISON.fullmatch(text):
        return Condition(f"year {match[1] or '='} ?", (int(match[2]),))
    raise UsageError(
        f"invalid {name} '{_shorten(text)}'; write 2023, '>=2023', '<2020' or 2019-2022"
    )


def _contains(sql: str) -> _Parser:
    """Match part of a name, ignoring case, accents and punctuation (`fold` is `title_key`)."""

    def parse(name: str, text: str) -> Condition | None:
        if text and not title_key(text):
            raise UsageError(f"{name} '{_shorten(text)}' has no letters or digits to match")
        return Condition(sql, (text,)) if text else None

    return parse


def _parse_added_since(name: str, text: str) -> Condition | None:
    text = text.strip()
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"invalid date '{_shorten(text)}' for {name}; write it as 2026-01-31"
        ) from None
    return Condition("added_at >= ?", (day.isoformat(),))


def _filter(help_text: str, metavar: str, parse: _Parser) -> Any:  # noqa: ANN401 - for dataclasses
    return field(default="", metadata={"help": help_text, "metavar": metavar, "parse": parse})


@dataclass(frozen=True, slots=True)
class Filters:
    """Restrictions on the papers that a search may return. An empty field does not filter.

    `year` is a year, a comparison or a range: `2023`, `>=2023`, `<2020`, `2019-2022`. `venue`,
    `author` and `source` match part of a name. `added_since` is an ISO date, `2026-01-31`.
    """

    year: str = _filter("2023, '>=2023', '<2020' or 2019-2022.", "YEAR", _parse_year)
    venue: str = _filter(
        "Part of the venue's name.", "TEXT", _contains("instr(fold(venue), fold(?)) > 0")
    )
    author: str = _filter("Part of an author's name.", "TEXT", _contains(_AUTHOR_SQL))
    source: str = _filter("Part of the source file's name.", "TEXT", _contains(_SOURCE_SQL))
    added_since: str = _filter(
        "Added on or after this date, such as 2026-01-31.", "DATE", _parse_added_since
    )

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in FILTERS)


FILTERS: Mapping[str, FilterDefinition] = MappingProxyType(
    {item.name: FilterDefinition(item.name, **item.metadata) for item in fields(Filters)}
)


def parse_filters(filters: Filters | None) -> Condition | None:
    """Combine all filters into one condition; return None when nothing is filtered.

    Raises `UsageError` for a year or a date that cannot be parsed.
    """
    if not filters:
        return None
    return join_conditions(
        definition.condition(getattr(filters, name)) for name, definition in FILTERS.items()
    )


def join_conditions(conditions: Iterable[Condition | None]) -> Condition | None:
    """Combine conditions with "and"; return None when there is none."""
    clauses: list[str] = []
    values: list[str | int] = []
    for condition in filter(None, conditions):
        clauses.append(f"({condition.sql})")
        values.extend(condition.values)
    return Condition(" AND ".join(clauses), tuple(values)) if clauses else None


def only_papers(ids: Sequence[str]) -> Condition | None:
    """Restrict to the papers with these ids; return None when there are none."""
    return _has_id("IN", ids)


def without_papers(ids: Sequence[str]) -> Condition | None:
    """Leave out the papers with these ids; return None when there are none."""
    return _has_id("NOT IN", ids)


def _has_id(operator: str, ids: Sequence[str]) -> Condition | None:
    sql = f"id {operator} (SELECT value FROM json_each(?))"
    return Condition(sql, (json.dumps(list(ids)),)) if ids else None


def merge_filters(filters: Filters, changes: Mapping[str, str | None]) -> Filters:
    """Return the filters with the changes applied; a change to None is ignored.

    Raises `UsageError` for a name that is not a filter.
    """
    for name in changes:
        if name not in FILTERS:
            raise unknown_choice("filter", name, FILTERS)
    return replace(filters, **{k: str(value) for k, value in changes.items() if value is not None})
