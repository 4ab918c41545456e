"""The command `footnote`: data on standard output, progress and messages on standard error.

Exit codes: 0 done, 1 could not, 2 wrong usage, 130 interrupted. Each command parses, calls the assistant, prints.
"""

import importlib.metadata
import json
import logging
import sys
import warnings
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from rag.errors import FootnoteError, UsageError

if TYPE_CHECKING:
    from rag.assistant import Assistant
    from rag.records import AddReport, Answer, Paper

# What typer makes of Ctrl-C: 128 and the number of the signal.
_INTERRUPTED = 130
_MOST_MERGES = 10


class _Commands(typer.core.TyperGroup):
    r"""Commands whose examples are shown line by line: `\b` in a docstring becomes the mark that asks for that."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - types that typer keeps to itself
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:
            command.help = command.help.replace("\\b\n", "\b\n")
        return command


app = typer.Typer(
    name="footnote",
    cls=_Commands,
    help="Ask your own library of paper abstracts; every sentence of an answer carries a footnote you can check.",
    epilog='Start with:  footnote add --sample  then  footnote ask "Does FP8 beat INT8 for inference?"',
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        envvar="FOOTNOTE_LIBRARY",
        help="The library's folder.",
        show_envvar=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help="The language model for this run, as the setting names it."
    ),
]
YearOption = Annotated[
    str, typer.Option(metavar="YEAR", help="2023, '>=2023', '<2020' or 2019-2022.")
]
VenueOption = Annotated[str, typer.Option(metavar="TEXT", help="Part of the venue's name.")]
AuthorOption = Annotated[str, typer.Option(metavar="TEXT", help="Part of an author's name.")]
SourceOption = Annotated[
    str, typer.Option(metavar="TEXT", help="Part of the name of the file it came from.")
]
SinceOption = Annotated[
    str, typer.Option("--added-since", metavar="DATE", help="Added on or after, as 2026-01-31.")
]


@app.command()
def add(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders or patterns.")
    ] = None,
    library: LibraryOption = None,
    format: Annotated[
        str, typer.Option(metavar="NAME", help="Read every file as this format.")
    ] = "",
    sample: Annotated[
        bool, typer.Option("--sample", help="Add the sample papers that come along.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Add the papers of files, whatever their format.

    Saved listing pages, JSON, CSV, BibTeX, RIS, PubMed and arXiv files are told apart by their content. Papers already
    there are recognised; the same command again costs nothing, and after an interruption it goes on where it was.

    \b
    footnote add pages/*.txt
    footnote add zotero.bib scopus.csv pubmed-set.nbib
    footnote add arxiv.jsonl --library ~/physics
    """
    from rag.ingest.sample import sample_file
    from rag.ingest.sources import FORMATS

    if format and format not in FORMATS:
        raise UsageError(f"no format is called '{format}'; there are: {', '.join(FORMATS)}")
    wanted = [*(paths or []), *([str(sample_file())] if sample else [])]
    if not wanted:
        raise typer.BadParameter("name the files to add, or say --sample", param_hint="PATH")
    with _Bar("B") as bar:
        report = _open(library).add(
            *wanted, format=format or None, on_progress=bar.update, on_wait=_say_waiting
        )
    for rejection in report.rejected:
        _say(f"not added: {rejection}")
    _print_json(report.to_dict()) if as_json else typer.echo(_added(report))
    raise typer.Exit(1 if report.rejected else 0)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="A question in plain words.")],
    library: LibraryOption = None,
    year: YearOption = "",
    venue: VenueOption = "",
    author: AuthorOption = "",
    source: SourceOption = "",
    added_since: SinceOption = "",
    sentences: Annotated[
        int | None,
        typer.Option(
            min=1, max=20, metavar="N", help="At most so many sentences; 3, or 5 for a list."
        ),
    ] = None,
    style: Annotated[
        str,
        typer.Option(
            metavar="STYLE", help="quote, write, or auto: written by a model that proved able to."
        ),
    ] = "auto",
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
    r"""Answer a question, each sentence of it with its footnote.

    Pandoc's Markdown holds its references: pandoc --citeproc makes a document of it. BibTeX, RIS and CSL-JSON are the
    papers cited.

    \b
    footnote ask "Which papers shrink the KV cache, and by how much?"
    footnote ask "What helps against forgetting?" --year ">=2022" --sentences 5
    footnote ask "Does FP8 beat INT8?" --format markdown > note.md
    footnote ask "Does FP8 beat INT8?" --format bibtex > cited.bib
    """
    filters = {
        "year": year,
        "venue": venue,
        "author": author,
        "source": source,
        "added_since": added_since,
    }
    form = _answer_format(format, as_json)
    answer = _open(library, create=False, model=model).ask(
        question, sentences=sentences, style=style, **filters
    )
    _print_answer(answer, form)


@app.command()
def replay(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What ask --json printed; - is standard input.")
    ],
    library: LibraryOption = None,
    model: ModelOption = "",
    as_json: JsonOption = False,
) -> None:
    r"""Ask the question of a saved answer again; tell what changed.

    It ends with 0 when nothing did, else with 1. The library may have grown, a model or a prompt be another.

    \b
    footnote ask "Does FP8 beat INT8?" --json > answer.json
    footnote replay answer.json
    """
    from rag.output.replay import read_answer
    from rag.output.replay import replay as ask_again

    saved = read_answer(_read(file), file)
    result = ask_again(_open(library, create=False, model=model), saved)
    if as_json:
        _print_json(result.to_dict())
    else:
        typer.echo("\n".join(map(str, result.changes)) or "nothing changed")
    raise typer.Exit(0 if result.same else 1)


@app.command()
def chat(
    library: LibraryOption = None,
    year: YearOption = "",
    venue: VenueOption = "",
    author: AuthorOption = "",
    source: SourceOption = "",
    added_since: SinceOption = "",
    sentences: Annotated[
        int | None,
        typer.Option(
            min=1, max=20, metavar="N", help="At most so many sentences; 3, or 5 for a list."
        ),
    ] = None,
    style: Annotated[
        str,
        typer.Option(
            metavar="STYLE", help="quote, write, or auto: written by a model that proved able to."
        ),
    ] = "auto",
    model: ModelOption = "",
) -> None:
    r"""Ask one question after the other; each may lean on the ones before.

    /help shows what else can be said. From a pipe, each line is a question.

    \b
    footnote chat
    footnote chat --year ">=2023" --style quote
    footnote chat < questions.txt
    """
    from rag.output.terminal import Talk, typed_lines

    filters = {
        "year": year,
        "venue": venue,
        "author": author,
        "source": source,
        "added_since": added_since,
    }
    assistant = _open(library, create=False, model=model)
    write = partial(typer.echo, nl=False)
    talk = Talk(partial(assistant.chat, **filters), write, _say, sentences=sentences, style=style)
    raise typer.Exit(1 if talk.run(typed_lines()) else 0)


@app.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, or a question.")],
    library: LibraryOption = None,
    k: Annotated[
        int, typer.Option("-k", min=1, max=1000, metavar="N", help="How many papers.")
    ] = 10,
    year: YearOption = "",
    venue: VenueOption = "",
    author: AuthorOption = "",
    source: SourceOption = "",
    added_since: SinceOption = "",
    as_json: JsonOption = False,
) -> None:
    r"""Find papers, best first.

    \b
    footnote search "sparse attention" -k 5
    footnote search "named entity recognition" --venue ACL --year 2019-2022 --json
    """
    from rag.records import paper_dict

    filters = {
        "year": year,
        "venue": venue,
        "author": author,
        "source": source,
        "added_since": added_since,
    }
    hits = _open(library, create=False).search(query, k=k, **filters)
    if as_json:
        _print_json(
            [
                {"rank": hit.rank, "score": round(hit.score, 4), **paper_dict(hit.paper)}
                for hit in hits
            ]
        )
        return
    for hit in hits:
        typer.echo(f"{hit.rank:3}  {hit.score:.2f}  {_line(hit.paper)}")


@app.command("list")
def list_papers(
    library: LibraryOption = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most so many.", show_default="all")
    ] = 1_000_000,
    year: YearOption = "",
    venue: VenueOption = "",
    author: AuthorOption = "",
    source: SourceOption = "",
    added_since: SinceOption = "",
    as_json: JsonOption = False,
) -> None:
    r"""List the papers in the order they were added.

    \b
    footnote list --limit 20
    footnote list --author Okafor --json
    """
    from rag.records import paper_dict

    filters = {
        "year": year,
        "venue": venue,
        "author": author,
        "source": source,
        "added_since": added_since,
    }
    papers = islice(_open(library, create=False).papers(**filters), limit)
    if as_json:
        _print_json([paper_dict(paper) for paper in papers])
        return
    for paper in papers:
        typer.echo(_line(paper))


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="A paper's id, DOI, arXiv id or PubMed id.")
    ],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Show one paper with its abstract.

    \b
    footnote show fp8-versus-int8-for
    footnote show 10.1000/example --json
    """
    from rag.output.terminal import render_paper
    from rag.records import paper_dict

    paper = _open(library, create=False).paper(name)
    _print_json(paper_dict(paper)) if as_json else typer.echo(render_paper(paper))


@app.command()
def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids, DOIs, arXiv ids or PubMed ids.")
    ],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Remove papers: all that are named, or none.

    \b
    footnote remove fp8-versus-int8-for 2301.01234
    """
    removed = _open(library, create=False).remove(*names)
    if as_json:
        _print_json([paper.id for paper in removed])
        return
    for paper in removed:
        typer.echo(f"removed {_line(paper)}")


@app.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="These papers; all when none.")
    ] = None,
    library: LibraryOption = None,
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="NAME", help="markdown, bibtex, ris, csl-json or jsonl."
        ),
    ] = "markdown",
    year: YearOption = "",
    venue: VenueOption = "",
    author: AuthorOption = "",
    source: SourceOption = "",
    added_since: SinceOption = "",
) -> None:
    r"""Print papers for other programs.

    \b
    footnote export --format bibtex > library.bib
    footnote export --format csl-json --year ">=2024" > recent.json
    footnote export --format jsonl > backup.jsonl
    """
    from rag.output.export import export_papers

    assistant = _open(library, create=False)
    filters = {
        "year": year,
        "venue": venue,
        "author": author,
        "source": source,
        "added_since": added_since,
    }
    if names and any(filters.values()):
        raise UsageError("name the papers or filter them, not both")
    papers = (
        [assistant.paper(name) for name in names] if names else list(assistant.papers(**filters))
    )
    typer.echo(export_papers(papers, format), nl=False)


@app.command()
def reindex(
    library: LibraryOption = None,
    embedder: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Embed every paper again with this model: a folder or a hub id."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    r"""Make the search index anew from the library.

    Nothing is embedded again unless another model is named.

    \b
    footnote reindex
    footnote reindex --embedder BAAI/bge-small-en-v1.5
    """
    with _Bar("papers") as bar:
        passages = _open(library, create=False).reindex(embedder, bar.update)
    _print_json({"passages": passages}) if as_json else typer.echo(f"indexed {passages:,} passages")


@app.command()
def doctor(
    library: LibraryOption = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend what can be made anew from the papers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Say what is missing or damaged, and the command that mends it.

    All of the library is read. With --fix, vectors, full text, notes and the search index are made anew where they are
    damaged; papers are never changed.

    \b
    footnote doctor
    footnote doctor --library ~/physics --json
    footnote doctor --fix
    """
    from dataclasses import asdict

    from rag.config import load_settings
    from rag.library.doctor import check_all, fix_library

    folder = library.expanduser() if library else load_settings().library_folder
    checks = list(check_all(folder))
    if fix and (mended := fix_library(folder, checks)):
        _say(f"made anew: {', '.join(mended)}")
        checks = list(check_all(folder))
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mend = f"\n      to mend: {check.mend}" if check.mend and not check.ok else ""
            typer.echo(f"{'ok ' if check.ok else 'BAD'} {check.name}: {check.seen}{mend}")
    raise typer.Exit(0 if all(check.ok for check in checks) else 1)


@app.command()
def config(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A setting.")] = "",
    value: Annotated[
        str | None, typer.Argument(metavar="VALUE", help="Its new value; '' takes it back.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    r"""Show the settings, or change one.

    \b
    footnote config
    footnote config library ~/papers
    """
    from dataclasses import asdict

    from rag.config import check_setting, config_file, load_settings, save_setting, user_path

    if value is not None:
        # A path must mean the same wherever the command is run next.
        save_setting(
            name, str(user_path(value).absolute()) if value and name == "library" else value
        )
    elif name:
        check_setting(name)
    settings = asdict(load_settings()) | {"library": str(load_settings().library_folder)}
    shown = {name: settings[name]} if name else settings
    if as_json:
        _print_json(shown | ({} if name else {"file": str(config_file())}))
        return
    for key, setting in shown.items():
        typer.echo(f"{key} = {setting}")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"footnote {importlib.metadata.version('footnote')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main() -> None:
    """Run the command; what goes wrong on purpose is one line on standard error."""
    log = logging.getLogger("footnote")
    log.handlers, log.level = [_Say()], logging.INFO
    warnings.simplefilter("ignore")  # what libraries tell their developers is not for users
    for command in sorted(
        importlib.metadata.entry_points(group="footnote.commands"), key=lambda one: one.name
    ):
        loaded = command.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=command.name)
        else:
            app.command(command.name)(loaded)
    try:
        app(prog_name="footnote")
    except UsageError as error:
        _say(str(error))
        sys.exit(2)
    except FootnoteError as error:
        _say(str(error))
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _say("stopped; what was committed is kept")
        raise


def _open(library: Path | None, *, create: bool = True, model: str = "") -> "Assistant":
    from rag.assistant import Assistant

    return Assistant.open(library, language_model=model, create=create)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise FootnoteError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _answer_format(name: str, as_json: bool) -> str:
    from rag.output.export import ANSWER_FORMATS

    known = ("text", *ANSWER_FORMATS)
    if name not in known:
        raise UsageError(f"no format is called '{name}'; there are: {', '.join(known)}")
    if as_json and name not in ("text", "json"):
        raise UsageError("say --json or --format, not both")
    return "json" if as_json else name


def _print_answer(answer: "Answer", form: str) -> None:
    from rag.output.export import export_answer
    from rag.output.terminal import render_answer

    typer.echo(
        render_answer(answer) + "\n" if form == "text" else export_answer(answer, form), nl=False
    )
    for remark in answer.remarks:
        _say(remark)
    if answer.abstained and form in ("bibtex", "ris", "csl-json"):
        _say(f"{answer.text} So no paper is cited.")


def _say(message: str) -> None:
    """Say something on standard error; what a damaged file slips into it cannot steer the terminal."""
    typer.echo(
        "footnote: " + "".join(c if c.isprintable() or c == "\n" else "�" for c in message),
        err=True,
    )


class _Say(logging.Handler):
    """What the library tells while it works."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):  # above a progress bar, not into it
            _say(record.getMessage())


def _say_waiting() -> None:
    _say("another process is writing to this library; waiting for it")


def _print_json(data: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2))


def _line(paper: "Paper") -> str:
    retracted = "RETRACTED " if paper.retracted else ""
    return f"{paper.id}  {retracted}{paper.title}" + (f" ({paper.byline})" if paper.byline else "")


def _added(report: "AddReport") -> str:
    counts = [f"{report.added:,} added", f"{report.updated:,} updated", f"{report.merged:,} merged"]
    counts += [f"{report.unchanged:,} unchanged", f"{len(report.rejected):,} rejected"]
    lines = [
        f"{report.read:,} records read: {', '.join(counts)}",
        f"{report.papers:,} papers in the library",
    ]
    # The same record on several pages is no news; two records that proved to be one paper are.
    joined = [merge for merge in report.merges if merge.by != "record"]
    lines += [
        f"  merged by {m.by}: {m.title} ({Path(m.source).name}, record {m.record})"
        for m in joined[:_MOST_MERGES]
    ]
    if len(joined) > _MOST_MERGES:
        lines.append(f"  and {len(joined) - _MOST_MERGES:,} more; --json lists all")
    if report.flagged:
        lines.append("Read like instructions to a program, so never quoted:")
        lines += [
            f"  {flagged.paper_id}: {' '.join(flagged.sentences)}"
            for flagged in report.flagged[:_MOST_MERGES]
        ]
    if len(report.flagged) > _MOST_MERGES:
        lines.append(f"  and {len(report.flagged) - _MOST_MERGES:,} more papers; --json lists all")
    if report.without_abstract:
        lines.append(
            f"{report.without_abstract:,} of them have no abstract: found by title, never quoted"
        )
    return "\n".join(lines)


class _Bar:
    """A progress bar with the remaining time on standard error, where that is a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int, records: int) -> None:
        """Show how much was read, and how many records."""
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=self._unit,
                unit_scale=True,
                file=sys.stderr,
                disable=None,
                dynamic_ncols=True,
            )
        self._bar.set_postfix_str(f"{records:,} records", refresh=False)
        self._bar.update(done - self._bar.n)


if __name__ == "__main__":
    main()
