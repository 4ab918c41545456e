"""Measure answers that are computed from the records of the library: counts and bibliographic data.

`python -m eval.benchmarks.records [--split dev|test] [--model NAME]`

The questions about ACL papers (`eval/data/acl/records.jsonl`) ask how many papers there are on
something, or for a field of a record: its authors, year or venue. A count is right when the number
that the computed claim states differs from the gold count by at most 10 % or by 1. A record is
right when the computed claims state any, or all, of the values; where the record lacks the field,
when the answer says so. Prints besides how many ordinary questions got a computed answer. Tune on
`dev`; `test` is for reporting.
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmarks.common import add_model_option, open_with_model
from eval.benchmarks.tables import Columns
from eval.harness.nuggets import contains_nugget
from eval.harness.question_sets import ACL_FOLDER, prepare_acl_library, read_rows, resolve_ids
from eval.harness.questions import SPLITS
from eval.harness.statistics import bootstrap
from rag import Answer, Assistant

_MAX_RELATIVE_ERROR = 0.1
_MAX_ERROR = 1
_NUMBER = re.compile(r"(?<![\w.])(\d+(?:,\d{3})*|no|none|one)(?![\w.]*\w)", re.IGNORECASE)
_NUMBER_WORDS = {"no": 0, "none": 0, "one": 1}
_NOT_RECORDED = re.compile(
    r"\bno\b.* (?:on record|recorded)\b|\bnot\b.* record(?:ed)?\b|\brecord of\b.* not give\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class RecordQuestion:
    """Question about records, with one kind of expected answer.

    `count` is the number of papers; `any_of` and `all_of` hold values of a field, of which one or
    all must be stated; `not_recorded` means that the field is empty. `papers` holds ids of the
    library.
    """

    id: str
    type: str
    question: str
    papers: tuple[str, ...]
    count: int | None = None
    any_of: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    not_recorded: bool = False


def load_record_questions(
    rows: Iterable[Mapping[str, Any]], split: str, library_ids: Mapping[str, str]
) -> list[RecordQuestion]:
    """Return the questions of a split, with ids of the library in place of Anthology ids."""
    questions = []
    for row in rows:
        if row["split"] == split:
            answer = row["answer"]
            question = RecordQuestion(
                row["id"],
                row["type"],
                row["question"],
                tuple(resolve_ids(row["papers"], library_ids)),
                answer.get("count"),
                tuple(answer.get("any", ())),
                tuple(answer.get("all", ())),
                answer.get("not_recorded", False),
            )
            questions.append(question)
    return questions


def computed_text(answer: Answer) -> str:
    """Return the computed claims of an answer as one text, with their headings."""
    texts = []
    for claim in answer.claims:
        if claim.kind == "computed":
            texts.append(f"{claim.heading} {claim.text}".strip())
    return " ".join(texts)


def is_right(question: RecordQuestion, answer: Answer) -> bool:
    """Return True if an answer states what the records say."""
    text = computed_text(answer)
    if question.not_recorded:
        return answer.abstained or bool(_NOT_RECORDED.search(text))
    if question.count is not None:
        stated = stated_count(text, question.question)
        return stated is not None and is_close(stated, question.count)
    states_all = all(contains_nugget(text, [value], []) for value in question.all_of)
    return states_all and (not question.any_of or contains_nugget(text, question.any_of, []))


def stated_count(text: str, question: str) -> int | None:
    """Return the first number in a text that the question does not contain, such as a year."""
    given = set(_numbers(question))
    return next((number for number in _numbers(text) if number not in given), None)


def _numbers(text: str) -> list[int]:
    numbers = []
    for match in _NUMBER.findall(text):
        word = match.casefold()
        numbers.append(_NUMBER_WORDS[word] if word in _NUMBER_WORDS else int(word.replace(",", "")))
    return numbers


def is_close(stated: int, gold: int) -> bool:
    """Return True if a count is within 10 % of the gold count, or within 1."""
    return abs(stated - gold) <= max(_MAX_ERROR, _MAX_RELATIVE_ERROR * gold)


def cites_papers(question: RecordQuestion, answer: Answer) -> bool:
    """Return True if an answer cites one of the papers that it should be computed from."""
    cited = {citation.paper.id for citation in answer.citations}
    return not cited.isdisjoint(question.papers)


# --- printing -------------------------------------------------------------------------------------


QuestionAnswer = tuple[RecordQuestion, Answer]


def print_questions(assistant: Assistant, questions: Sequence[RecordQuestion]) -> None:
    """Print the share of right answers by type of question, then the wrong answers."""
    pairs = [(question, assistant.ask(question.question)) for question in questions]
    columns = Columns("<10", "<6", "<22", "<22", "")
    columns.print_row("", "n", "right", "right paper cited", "computed")
    for kind in ("count", "record"):
        of_kind = [pair for pair in pairs if pair[0].type == kind]
        columns.print_row(kind, *_summarize(of_kind))
    columns.print_row("all", *_summarize(pairs))
    for question, answer in pairs:
        if not is_right(question, answer):
            outcome = "abstained" if answer.abstained else "not computed"
            stated = computed_text(answer) or outcome
            print(f"  {question.id} {question.question}\n    {stated}")


def _summarize(pairs: Sequence[QuestionAnswer]) -> list[object]:
    """Return the number of answers, the shares that are right, and how many are computed."""
    right, cited, computed = [], [], 0
    for question, answer in pairs:
        right.append(float(is_right(question, answer)))
        if question.papers:
            cited.append(float(cites_papers(question, answer)))
        computed += bool(computed_text(answer))
    return [len(pairs), _mean(right), _mean(cited), computed]


def _mean(values: Sequence[float]) -> str:
    return str(bootstrap(values)) if values else "-"


def print_ordinary_questions(assistant: Assistant, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print how many questions about the content of papers got a computed answer."""
    texts = [row["question"] for row in rows]
    mistaken = [text for text in texts if computed_text(assistant.ask(text))]
    count = f"{len(mistaken)} of {len(texts)}"
    print(f"ordinary questions with a computed answer: {count}", *mistaken, sep="\n  ")


def rows_of_split(file: Path, split: str) -> list[Mapping[str, Any]]:
    """Return the records of a split in a file of JSON Lines."""
    return [row for row in read_rows(file) if row["split"] == split]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    add_model_option(parser)
    options = parser.parse_args()
    library, library_ids, _ = prepare_acl_library()
    rows = read_rows(ACL_FOLDER / "records.jsonl")
    questions = load_record_questions(rows, options.split, library_ids)
    print(f"{len(questions)} questions, split {options.split}, language model {options.model}")
    print_questions(open_with_model(library, options.model), questions)
    ordinary = rows_of_split(ACL_FOLDER / "questions.jsonl", options.split)
    print_ordinary_questions(open_with_model(library, "none"), ordinary)


if __name__ == "__main__":
    main()
