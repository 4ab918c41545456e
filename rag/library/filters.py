"""Filters as SQL: one meaning for listing, full text and vectors alike."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from rag.errors import UsageError
from rag.records import Filters
from rag.text.cleaning import escape_control_chars, title_key

# Characters. No year, no name and no date is longer.
_LONGEST = 500
_LONGEST_TOLD = 60
_COMPARISON = re.compile(r"(>=|<=|>|<|=|)\s*(\d{4})")
_BY_AUTHOR = "EXISTS (SELECT 1 FROM json_each(authors) WHERE instr(fold(value), fold(?)) > 0)"
_FROM_SOURCE = (
    "key IN (SELECT paper FROM provenance WHERE instr(fold(file_name(source)), fold(?)) > 0)"
)
_RANGE = re.compile(r"(\d{4})\s*(?:-|–|\.\.)\s*(\d{4})")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on the columns of `paper`, with the values to bind."""

    sql: str
    values: tuple[str | int, ...]


def parse_filters(filters: Filters | None) -> Condition | None:
    """The condition that the filters mean; none when nothing is filtered.

    Raises `UsageError` for a year or a date that cannot be read.
    """
    if not filters:
        return None
    _check(filters)
    parts = [
        _year(filters.year),
        _part("venue", filters.venue, "instr(fold(venue), fold(?)) > 0"),
        _part("author", filters.author, _BY_AUTHOR),
        _part("source", filters.source, _FROM_SOURCE),
        _since(filters.added_since),
    ]
    conditions = [part for part in parts if part]
    if not conditions:  # a year or a date of blanks
        return None
    sql = " AND ".join(f"({condition.sql})" for condition in conditions)
    return Condition(sql, tuple(value for condition in conditions for value in condition.values))


def _check(filters: Filters) -> None:
    for name in Filters.__slots__:
        text = getattr(filters, name)
        if len(text) > _LONGEST:
            raise UsageError(f"{name} has {len(text):,} characters; at most {_LONGEST} are read")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise UsageError(f"{name} '{_told(text)}' holds bytes that are no text")


def _told(text: str) -> str:
    """What was given, on one line and not too much of it."""
    one_line = escape_control_chars(" ".join(text.split()))
    return one_line if len(one_line) <= _LONGEST_TOLD else one_line[:_LONGEST_TOLD] + "…"


def _year(text: str) -> Condition | None:
    if not text.strip():
        return None
    if match := _RANGE.fullmatch(text.strip()):
        if int(match[1]) > int(match[2]):
            raise UsageError(f"no year is in '{_told(text)}'; write {match[2]}-{match[1]}")
        return Condition("year BETWEEN ? AND ?", (int(match[1]), int(match[2])))
    if match := _COMPARISON.fullmatch(text.strip()):
        return Condition(f"year {match[1] or '='} ?", (int(match[2]),))
    raise UsageError(
        f"year '{_told(text)}' cannot be read; write 2023, '>=2023', '<2020' or 2019-2022"
    )


def _part(name: str, text: str, sql: str) -> Condition | None:
    """A part of a name, whatever the case, the accents and the punctuation (`fold` is `title_key`)."""
    if text and not title_key(text):
        raise UsageError(f"{name} '{_told(text)}' has neither letters nor digits to look for")
    return Condition(sql, (text,)) if text else None


def _since(text: str) -> Condition | None:
    if not text.strip():
        return None
    try:
        return Condition("added_at >= ?", (date.fromisoformat(text.strip()).isoformat(),))
    except ValueError:
        raise UsageError(f"date '{_told(text)}' cannot be read; write it as 2026-01-31") from None


def merge_filters(filters: Filters, named: Mapping[str, str | None]) -> Filters:
    """The filters with some of them changed by name. Raises `UsageError` for a name that no filter has."""
    try:
        return replace(
            filters, **{name: str(value) for name, value in named.items() if value is not None}
        )
    except TypeError:
        unknown = ", ".join(sorted(set(named) - set(Filters.__slots__)))
        raise UsageError(
            f"no filter is called {unknown}; there are: {', '.join(Filters.__slots__)}"
        ) from None
