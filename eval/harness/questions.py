"""Questions with known answers: their records, how they are read, and what is wrong with a file of them.

`python -m eval.harness.questions FILE --library DIR` checks a file. One JSON record per line:

- `id`; `split`, `dev` for tuning or `test` for reporting;
- `kind`: `base`, `followup` (leans on `history`), or a variant of the base question named in `variant_of`;
- `type`: what is asked for; `answerable`: whether the library answers it;
- `gold`: papers that a right answer cites, by id: a list of lists, each inner list being alternatives;
- `nuggets`: facts that a right answer holds, each with alternatives (`any`) and exact `numbers`; `vital` or nice to
  have. An unanswerable question may have both: its premise is false, and quoting what contradicts it is right, too;
- `must_not`: words that show a wrong answer; `note`: for people.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag import Assistant, FootnoteError, UsageError

KINDS = ("base", "followup", "paraphrase", "typo", "keyword", "verbose")
TYPES = (
    "fact",
    "method",
    "compare",
    "list",
    "yesno",
    "why",
    "near_miss",
    "false_premise",
    "foreign",
)
SPLITS = ("dev", "test")
_FIELDS = {"id", "split", "kind", "type", "question", "answerable", "gold", "nuggets"}
_OPTIONAL = {"history", "must_not", "variant_of", "note"}
# Characters: of a file, and of what is told of a fault in it.
_LARGEST = 64 * 1024 * 1024
_LONGEST_TOLD = 200


@dataclass(frozen=True, slots=True)
class Nugget:
    """One fact: it is found where an alternative stands and every number, too."""

    text: str
    alternatives: tuple[str, ...]
    numbers: tuple[str, ...]
    vital: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what a right answer holds; see the module for the fields."""

    id: str
    split: str
    kind: str
    type: str
    question: str
    answerable: bool
    gold: tuple[tuple[str, ...], ...]
    nuggets: tuple[Nugget, ...]
    history: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    variant_of: str = ""
    note: str = ""

    @property
    def cluster(self) -> str:
        """A question and its variants stand or fall together: the unit of resampling."""
        return self.variant_of or self.id


def sample_questions() -> Path:
    """The curated questions about the sample library."""
    return Path(__file__).parent.parent / "data" / "questions" / "sample.jsonl"


def load_questions(path: Path) -> list[Question]:
    """The questions of a file, all or none. Raises `UsageError` with the line and what is wrong with it."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
        raise UsageError(_one_line(f"{path} cannot be read: {error}")) from error
    if len(text) > _LARGEST:
        raise UsageError(f"{path} has more than {_LARGEST:,} characters; questions are fewer")
    lines = text.split("\n")  # JSON may hold what else ends a line to Python
    questions = [
        _parsed(path, number, line) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not questions:
        raise UsageError(f"{path} holds no questions")
    for fault in _faults(questions):
        raise UsageError(f"{path}: {_one_line(fault)[:_LONGEST_TOLD]}")
    return questions


def check_against(questions: list[Question], papers: Mapping[str, str]) -> Iterator[str]:
    """What disagrees with a library of {paper id: abstract}: papers that are not there, facts that they do not hold."""
    for question in questions:
        names = [name for group in question.gold for name in group]
        for name in names:
            if name not in papers:
                yield f"question {question.id}: no paper '{name}' in the library"
        text = " ".join(" ".join(papers.get(name, "").split()).casefold() for name in names)
        for nugget in question.nuggets:
            if " ".join(nugget.alternatives[0].split()).casefold() not in text:
                yield f"question {question.id}: '{nugget.alternatives[0]}' stands in none of its papers"


def _parsed(path: Path, number: int, line: str) -> Question:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode("utf-8")
        problem = next(_problems(row), "")
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply to be read, in line {number}") from error
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise UsageError(f"{path} holds bytes that are no text, in line {number}") from error
    except ValueError as error:
        problem = f"no JSON: {error}"
    if problem:
        raise UsageError(f"{path}, line {number}: {_one_line(problem)[:_LONGEST_TOLD]}")
    nuggets = tuple(
        Nugget(
            one["text"],
            tuple(one["any"]),
            tuple(one.get("numbers", ())),
            bool(one.get("vital", True)),
        )
        for one in row["nuggets"]
    )
    lists = {name: tuple(row[name]) for name in ("history", "must_not") if name in row}
    gold = tuple(tuple(group) for group in row["gold"])
    return Question(**(row | lists | {"gold": gold, "nuggets": nuggets}))


def _one_line(text: str) -> str:
    """What is wrong, whatever the file or its name slips into it."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))


def _problems(row: Any) -> Iterator[str]:  # noqa: ANN401 - JSON can be anything
    """What is wrong with a record; only the first is to be relied on."""
    if not isinstance(row, dict):
        yield "not a record"
        return
    if missing := sorted(_FIELDS - row.keys()):
        yield f"without {', '.join(missing)}"
        return
    if unknown := sorted(row.keys() - _FIELDS - _OPTIONAL):
        yield f"no field is called {', '.join(unknown)}"
    for name, allowed in (
        ("split", SPLITS),
        ("kind", KINDS),
        ("type", TYPES),
        ("answerable", (True, False)),
    ):
        if row[name] not in allowed:  # equal is enough here: 1 for true is told of below
            yield f"{name} must be one of {', '.join(map(str, allowed))}, not {row[name]!r}"
    yield from _problems_of_content(row)


def _problems_of_content(row: dict[str, Any]) -> Iterator[str]:
    if not isinstance(row["answerable"], bool):
        yield "answerable must be true or false"
    if not (_are_texts([row["id"], row["question"]]) and isinstance(row["gold"], list)):
        yield "id and question must be texts that are not empty, gold a list"
    elif not all(map(_are_texts, row["gold"])):
        yield "every part of gold must be a list of paper ids"
    if not all(_is_text(row[name]) for name in ("variant_of", "note") if row.get(name, "") != ""):
        yield "variant_of and note must be texts"
    if not (isinstance(row["nuggets"], list) and all(map(_is_nugget, row["nuggets"]))):
        yield "every nugget needs a text, at least one alternative in 'any', and texts in 'numbers'"
    elif row["answerable"] and not (
        row["gold"] and any(one.get("vital", True) for one in row["nuggets"])
    ):
        yield "an answerable question needs gold papers and a vital nugget"
    yield from _problems_of_kind(row)


def _problems_of_kind(row: dict[str, Any]) -> Iterator[str]:
    if not all(
        _are_texts(row[name]) for name in ("history", "must_not") if row.get(name, []) != []
    ):
        yield "history and must_not must be lists of texts"
    if row["kind"] == "followup" and not row.get("history"):
        yield "a follow-up needs a history"
    if (row["kind"] not in ("base", "followup")) != bool(row.get("variant_of")):
        yield "a variant names the question that it is a variant of, and only a variant does"


def _is_nugget(one: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    if not (isinstance(one, dict) and _is_text(one.get("text")) and _are_texts(one.get("any"))):
        return False
    numbers = one.get("numbers", [])
    return isinstance(one.get("vital", True), bool) and (numbers == [] or _are_texts(numbers))


def _are_texts(values: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    return isinstance(values, list) and bool(values) and all(map(_is_text, values))


def _is_text(value: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    return isinstance(value, str) and bool(value.strip())


def _faults(questions: list[Question]) -> Iterator[str]:
    seen: dict[str, Question] = {}
    for question in questions:
        if question.id in seen:
            yield f"two questions are called {question.id}"
        seen[question.id] = question
    for question in questions:
        base = seen.get(question.cluster)
        if base is None:
            yield f"question {question.id}: there is no question {question.variant_of}, of which it is a variant"
        elif base.split != question.split:
            yield f"question {question.id} and {base.id}, of which it is a variant, are in different splits"


def main() -> None:
    """Check a file of questions from the command line."""
    parser = argparse.ArgumentParser(description="Check a file of questions.")
    parser.add_argument("file", type=Path, nargs="?", default=sample_questions())
    parser.add_argument(
        "--library", type=Path, help="the library they are about; the sample library by default"
    )
    options = parser.parse_args()
    try:
        questions = load_questions(options.file)
        assistant = (
            Assistant.open(options.library, create=False) if options.library else Assistant.sample()
        )
    except FootnoteError as error:
        sys.exit(str(error))
    faults = list(
        check_against(questions, {paper.id: paper.abstract for paper in assistant.papers()})
    )
    print("\n".join([*faults, f"{len(questions)} questions, {len(faults)} faults"]))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
