"""Let the bundled model write sentences to train the verifier with.

`python -m eval.training.drafts SHEET [--questions N]`

It answers questions about ACL abstracts that are not in the curated set, also those that the
excerpts do not answer. Each sentence of its own goes into a sheet of JSON Lines with the quotations
that it cites, unless it has a number or a name that these lack: rules reject such a sentence. One
that repeats fifteen words in a row is left out too: texts of abstracts are not shipped. Two
people or models then label every sentence as `eval.harness.labels` says, independently, and a third
opinion settles disagreements. `eval/data/training/drafts.jsonl` holds the result without texts;
its split `dev` was made in the same way from the curated dev questions, to choose the threshold.
"""

import argparse
import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.benchmarks.reading_examples import build_pool, held_out_questions
from eval.harness.question_sets import Row
from eval.training.probes import load_bundled
from eval.training.recording import AgreeingModel
from rag import Assistant
from rag.models.log_odds import logit
from rag.records import Claim, Paper

# Words in a row of a source that would be a text of its authors.
_MAX_COPIED_WORDS = 14
# More than a model reads.
_MAX_SENTENCES = 20


def draft_sentences(assistant: Assistant, question: Row) -> Iterator[dict[str, Any]]:
    """Yield what the model writes about a question, each sentence with its sources.

    `log_odds` are those that the first source answers the question.
    """
    scores = {}
    for item in assistant.evidence(question["question"], _MAX_SENTENCES):
        scores[item.paper.id, item.sentence.start] = item.score
    answer = assistant.ask(question["question"], style="write")
    citations = {citation.number: citation for citation in answer.citations}
    for claim in answer.claims:
        if claim.kind != "generated":
            continue
        sources: list[dict[str, Any]] = []
        for number in claim.citations:
            cited = citations[number]
            span = {"paper": _anthology_id(cited.paper), "start": cited.start, "end": cited.end}
            before = cited.paper.abstract[: cited.start]
            texts = {"title": cited.paper.title, "before": before, "quote": cited.quote}
            sources.append(span | texts)
        if not any(_copies(claim.text, source["quote"]) for source in sources):
            first = citations[claim.citations[0]]
            log_odds = logit(scores.get((first.paper.id, first.start), 0.0))
            yield _sheet_row(question, claim, sources) | {"log_odds": round(log_odds, 2)}


def _copies(text: str, source: str) -> bool:
    """Return True if a text repeats many words of a source in a row."""
    words = text.casefold().split()
    match = SequenceMatcher(None, words, source.casefold().split(), autojunk=False)
    return match.find_longest_match().size > _MAX_COPIED_WORDS


def _sheet_row(question: Row, claim: Claim, sources: list[dict[str, Any]]) -> dict[str, Any]:
    asked = {"id": question["id"], "paper": question["paper"], "question": question["question"]}
    return asked | {"sentence": claim.text, "sources": sources}


def _anthology_id(paper: Paper) -> str:
    return paper.url.rpartition("/")[2]


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--questions", type=int, default=400, metavar="N")
    options = parser.parse_args()
    library = build_pool().assistant.library
    assistant = Assistant(library, language_model=AgreeingModel(load_bundled()))
    questions = list(islice(held_out_questions(), options.questions))
    with options.sheet.open("w", encoding="utf-8") as sheet:
        for question in tqdm(questions):
            for row in draft_sentences(assistant, question):
                print(json.dumps(row, ensure_ascii=False), file=sheet, flush=True)


if __name__ == "__main__":
    main()
