"""Load and check questions with known answers.

`footnote eval check FILE` checks a file. One JSON object per line:

- `id`; `split`: `dev` for tuning or `test` for reporting;
- `kind`: `base`, `followup` (needs its `history`), or a manner of asking, which may be a variant of
  the question in `variant_of`;
- `type`: type of the answer; `answerable`: true if the library contains the answer;
- `gold`: ids of the papers that a right answer cites: a list of lists, each inner list holding
  alternatives;
- `nuggets`: facts that a right answer contains, each with alternatives (`any`) and exact `numbers`,
  `vital` or optional. A question with a false premise is unanswerable, but may have gold papers and
  nuggets: an answer that states what contradicts the premise is right, too;
- `must_not`: phrases that show a wrong answer; `note`: a comment for people.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rag.errors import UsageError
from rag.text.counts import format_count

if TYPE_CHECKING:
    from rag.assistant import Assistant

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
MAX_FILE_CHARACTERS = 64 * 1024 * 1024
_MAX_MESSAGE_CHARACTERS = 200
_REQUIRED_FIELDS = {"id", "split", "kind", "type", "question", "answerable", "gold", "nuggets"}
_OPTIONAL_FIELDS = {"history", "must_not", "variant_of", "note"}
_CHOICES: dict[str, tuple[object, ...]] = {
    "split": SPLITS,
    "kind": KINDS,
    "type": TYPES,
    "answerable": (True, False),
}


@dataclass(frozen=True, slots=True)
class Nugget:
    """A fact. A text states it if it contains one of the alternatives and every number."""

    text: str
    alternatives: tuple[str, ...]
    numbers: tuple[str, ...]
    vital: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what a right answer contains; the module docstring explains the fields."""

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
        """Id shared by a question and its variants, which are resampled together."""
        return self.variant_of or self.id

    @property
    def gold_papers(self) -> list[str]:
        """Ids of the papers of all gold groups, in order."""
        return list(chain.from_iterable(self.gold))


def sample_questions_file() -> Path:
    """Return the file of the curated questions about the sample library."""
    return Path(__file__).parent.parent / "data" / "questions" / "sample.jsonl"


def load_questions(path: Path) -> list[Question]:
    """Return all questions of a file.

    Raises `UsageError` with the line and the problem if any of them is invalid.
    """
    text = _read_text(path)
    questions = []
    # JSON strings may contain characters that str.splitlines would split at.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            questions.append(_parse_line(path, number, line))
    if not questions:
        raise UsageError(f"no questions in {path}")
    problem = _find_conflict(questions)
    if problem:
        raise UsageError(f"{path}: {_printable_line(problem)}")
    return questions


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_CHARACTERS + 1)
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the file name
        message = " ".join(f"cannot read {path}: {error}".split())
        raise UsageError(_replace_unprintable(message)) from error
    if len(text) > MAX_FILE_CHARACTERS:
        raise UsageError(
            f"{path} is too large: a file of questions has at most "
            f"{MAX_FILE_CHARACTERS:,} characters"
        )
    return text


def _parse_line(path: Path, number: int, line: str) -> Question:
    try:
        record = json.loads(line)
        json.dumps(record, ensure_ascii=False).encode("utf-8")
        problem = _find_problem(record)
    except RecursionError as error:
        raise UsageError(f"{path}, line {number}: nested too deeply") from error
    except UnicodeEncodeError as error:  # an unpaired surrogate
        raise UsageError(f"{path}, line {number}: not valid Unicode") from error
    except ValueError as error:
        problem = f"invalid JSON: {error}"
    if problem:
        raise UsageError(f"{path}, line {number}: {_printable_line(problem)}")
    return _build_question(record)


def _build_question(record: Mapping[str, Any]) -> Question:
    fields = dict(record)
    fields["nuggets"] = tuple(map(build_nugget, record["nuggets"]))
    fields["gold"] = tuple(map(tuple, record["gold"]))
    for name in ("history", "must_not"):
        fields[name] = tuple(record.get(name, ()))
    return Question(**fields)


def build_nugget(record: Mapping[str, Any]) -> Nugget:
    """Build a nugget from its record in a file of questions."""
    return Nugget(
        text=record["text"],
        alternatives=tuple(record["any"]),
        numbers=tuple(record.get("numbers", ())),
        vital=bool(record.get("vital", True)),
    )


def _printable_line(text: str) -> str:
    """Return a message about untrusted input as one short line of printable characters."""
    return _replace_unprintable(" ".join(text.split()))[:_MAX_MESSAGE_CHARACTERS]


def _replace_unprintable(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)


# --- checking one record ------------------------------------------------------------------------


def _find_problem(record: Any) -> str:  # noqa: ANN401 - JSON can be anything
    """Return the first problem of a record, or an empty string if it is valid."""
    if not isinstance(record, dict):
        return "not a JSON object"
    missing = sorted(_REQUIRED_FIELDS - record.keys())
    if missing:
        return f"missing fields: {', '.join(missing)}"
    unknown = sorted(record.keys() - _REQUIRED_FIELDS - _OPTIONAL_FIELDS)
    if unknown:
        return f"unknown fields: {', '.join(unknown)}"
    for name, choices in _CHOICES.items():
        if record[name] not in choices:
            return f"{name} must be one of {', '.join(map(str, choices))}, not {record[name]!r}"
    return _text_problem(record) or _answer_problem(record) or _kind_problem(record)


def _text_problem(record: Mapping[str, Any]) -> str:
    for name in ("id", "question"):
        if not _is_text(record[name]):
            return f"{name} must be a string that is not empty"
    for name in ("variant_of", "note"):
        if record.get(name, "") != "" and not _is_text(record[name]):
            return f"{name} must be a string"
    for name in ("history", "must_not"):
        if record.get(name, []) != [] and not _are_texts(record[name]):
            return f"{name} must be a list of strings"
    return ""


def _answer_problem(record: Mapping[str, Any]) -> str:
    if not isinstance(record["answerable"], bool):  # 1 equals True, and passed as a choice
        return "answerable must be true or false"
    if not _is_list_of(record["gold"], _are_texts):
        return "gold must be a list of lists of paper ids"
    if not _is_list_of(record["nuggets"], _is_nugget):
        return "every nugget needs a text, a list of strings in 'any', and strings in 'numbers'"
    if record["answerable"] and not (record["gold"] and any(map(_is_vital, record["nuggets"]))):
        return "an answerable question needs gold papers and a vital nugget"
    return ""


def _kind_problem(record: Mapping[str, Any]) -> str:
    if record["kind"] == "followup" and not record.get("history"):
        return "a follow-up needs a history"
    has_base = bool(record.get("variant_of"))
    if record["kind"] in ("base", "followup") and has_base:
        return "variant_of is only for variants"
    if record["kind"] == "paraphrase" and not has_base:
        return "a paraphrase needs variant_of"
    return ""


def _is_nugget(value: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    if not isinstance(value, dict):
        return False
    numbers = value.get("numbers", [])
    return (
        _is_text(value.get("text"))
        and _are_texts(value.get("any"))
        and isinstance(value.get("vital", True), bool)
        and (numbers == [] or _are_texts(numbers))
    )


def _is_vital(nugget: Mapping[str, Any]) -> bool:
    return bool(nugget.get("vital", True))


def _are_texts(value: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    return _is_list_of(value, _is_text) and bool(value)


def _is_list_of(
    value: Any,  # noqa: ANN401 - JSON can be anything
    is_valid: Callable[[Any], bool],
) -> bool:
    return isinstance(value, list) and all(map(is_valid, value))


def _is_text(value: Any) -> bool:  # noqa: ANN401 - JSON can be anything
    return isinstance(value, str) and bool(value.strip())


# --- checking questions against each other and against a library --------------------------------


def _find_conflict(questions: list[Question]) -> str:
    """Return the first conflict between questions, or an empty string."""
    by_id: dict[str, Question] = {}
    for question in questions:
        if question.id in by_id:
            return f"duplicate id: {question.id}"
        by_id[question.id] = question
    for question in questions:
        base = by_id.get(question.cluster)
        if base is None:
            return f"question {question.id}: unknown question in variant_of: {question.variant_of}"
        if base.split != question.split:
            return f"question {question.id} is not in the same split as its base question {base.id}"
    return ""


def check_questions(questions: list[Question], abstracts: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem for each gold paper that is missing, and each nugget that none states.

    `abstracts` holds the abstract of each paper of the library, by the paper's id.
    """
    for question in questions:
        gold_texts = []
        for paper_id in question.gold_papers:
            if paper_id not in abstracts:
                yield f"question {question.id}: no paper '{paper_id}' in the library"
            gold_texts.append(_normalize(abstracts.get(paper_id, "")))
        gold_text = " ".join(gold_texts)
        for nugget in question.nuggets:
            phrase = nugget.alternatives[0]
            if _normalize(phrase) not in gold_text:
                yield f"question {question.id}: none of its gold papers contains '{phrase}'"


def _normalize(text: str) -> str:
    return " ".join(text.split()).casefold()


def check_file(file: Path | None, library: Path | None) -> tuple[int, list[str]]:
    """Check a file of questions against a library, and return the number of questions and problems.

    The defaults are the curated questions and the sample papers.
    """
    from rag.assistant import Assistant

    questions = load_questions(file or sample_questions_file())
    assistant = Assistant.open(library, create=False) if library else Assistant.sample()
    return len(questions), list(check_questions(questions, load_abstracts(assistant)))


def load_abstracts(assistant: "Assistant") -> dict[str, str]:
    """Return the abstract of each paper of a library, by its id."""
    return {paper.id: paper.abstract for paper in assistant.papers()}


def describe_check(question_count: int, problems: list[str]) -> str:
    """Return the result of `check_file` as text: a line for each problem, then the counts."""
    questions = format_count(question_count, "question")
    return "\n".join([*problems, f"{questions}, {format_count(len(problems), 'problem')}"])
