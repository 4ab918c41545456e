"""Commands that answer questions: ask, replay, chat."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import (
    JsonOption,
    LibraryOption,
    ModelOption,
    SentencesOption,
    StyleOption,
    choose_answer_format,
    filter_options,
    open_assistant,
)
from rag.cli.printing import print_json, print_message
from rag.errors import FootnoteError


@filter_options
def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Question in plain words.")],
    library: LibraryOption = None,
    *,
    filters: dict[str, str],
    sentences: SentencesOption = None,
    style: StyleOption = "auto",
    model: ModelOption = "",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="text, markdown, pandoc, bibtex, ris, csl-json or json.",
        ),
    ] = "text",
    as_json: JsonOption = False,
) -> None:
    r"""Answer a question, with a footnote for every sentence.

    The format pandoc includes the references; pandoc --citeproc turns it into a document. The
    formats bibtex, ris and csl-json print the cited papers instead of the answer.

    \b
    footnote ask "Which papers shrink the KV cache, and by how much?"
    footnote ask "What helps against forgetting?" --year ">=2022" --sentences 5
    footnote ask "Does FP8 beat INT8?" --format markdown > note.md
    footnote ask "Does FP8 beat INT8?" --format bibtex > cited.bib
    """
    from rag.cli.answer_printer import AnswerPrinter
    from rag.output.export import export_answer

    chosen_format = choose_answer_format(format, as_json)
    assistant = open_assistant(library, model=model)
    events = assistant.stream(question, sentences=sentences, style=style, stop=None, **filters)
    export = None if chosen_format == "text" else partial(export_answer, format=chosen_format)
    answer = AnswerPrinter(partial(typer.echo, nl=False), export).print_events(events)
    for notice in answer.notices:
        print_message(notice)
    if answer.abstained and chosen_format in ("bibtex", "ris", "csl-json"):
        print_message(f"{answer.text} No papers are cited.")


def replay(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Answer saved with ask --json; - is standard input."),
    ],
    library: LibraryOption = None,
    model: ModelOption = "",
    as_json: JsonOption = False,
) -> None:
    r"""Ask the question of a saved answer again and show what changed.

    The exit code is 0 if nothing changed, else 1. An answer changes when the library, a model or
    a prompt does.

    \b
    footnote ask "Does FP8 beat INT8?" --json > answer.json
    footnote replay answer.json
    """
    from rag.output.replay import load_answer
    from rag.output.replay import replay as replay_answer

    saved = load_answer(_read_file(file), file)
    result = replay_answer(open_assistant(library, model=model), saved)
    if as_json:
        print_json(result.to_dict())
    else:
        typer.echo("\n".join(map(str, result.changes)) or "nothing changed")
    raise typer.Exit(0 if result.is_same else 1)


def _read_file(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", None) or error
        raise FootnoteError(f"cannot read {file}: {reason}") from error


@filter_options
def chat(
    library: LibraryOption = None,
    *,
    filters: dict[str, str],
    sentences: SentencesOption = None,
    style: StyleOption = "auto",
    model: ModelOption = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each answer as one line of JSON.")
    ] = False,
) -> None:
    r"""Ask questions one after another; follow-up questions work too.

    Type /help for the commands. From a pipe, each line is a question.

    \b
    footnote chat
    footnote chat --year ">=2023" --style quote
    footnote chat --json < questions.txt > answers.jsonl
    """
    from rag.cli.chat_session import ChatSession, read_lines

    session = ChatSession(
        partial(open_assistant(library, model=model).chat, **filters),
        write=partial(typer.echo, nl=False),
        notify=print_message,
        sentences=sentences,
        style=style,
        as_json=as_json,
    )
    raise typer.Exit(1 if session.run(read_lines()) else 0)
