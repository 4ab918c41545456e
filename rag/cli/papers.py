"""Commands about papers: add, search, list, show, remove, export."""

from itertools import islice
from typing import Annotated

import typer

from rag.cli.options import (
    JsonOption,
    LibraryOption,
    choose_paper_format,
    filter_options,
    open_assistant,
)
from rag.cli.printing import (
    ProgressBar,
    paper_line,
    print_add_report,
    print_json,
    print_message,
    print_papers,
)
from rag.errors import UsageError, unknown_choice


def add(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files, folders or patterns.")
    ] = None,
    library: LibraryOption = None,
    format: Annotated[
        str, typer.Option(metavar="NAME", help="Format of the files; detected by default.")
    ] = "",
    sample: Annotated[
        bool, typer.Option("--sample", help="Add the bundled sample papers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    r"""Add papers from files.

    The format is detected from the content: saved listing pages, JSON, CSV, BibTeX, RIS, PubMed
    and arXiv files. Papers that are already in the library are recognized, so an interrupted
    command can be repeated and continues where it stopped.

    \b
    footnote add pages/*.txt
    footnote add zotero.bib scopus.csv pubmed-set.nbib
    footnote add arxiv.jsonl --library ~/physics
    """
    from rag.ingest.sample import sample_file
    from rag.ingest.sources.registry import FORMATS

    if format and format not in FORMATS:
        raise unknown_choice("format", format, FORMATS)
    files = list(paths or [])
    if sample:
        files.append(str(sample_file()))
    if not files:
        raise typer.BadParameter("name the files to add, or use --sample", param_hint="PATH")
    with ProgressBar("B") as bar:
        report = open_assistant(library, create=True).add(
            *files, format=format or None, on_progress=bar.update, on_wait=_report_waiting
        )
    print_add_report(report, as_json)
    raise typer.Exit(1 if report.rejected else 0)


def _report_waiting() -> None:
    print_message("waiting for another process that is writing to this library")


@filter_options
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words or a question.")],
    library: LibraryOption = None,
    *,
    filters: dict[str, str],
    k: Annotated[
        int, typer.Option("-k", min=1, max=1000, metavar="N", help="Number of papers.")
    ] = 10,
    as_json: JsonOption = False,
) -> None:
    r"""Search for papers, best match first.

    \b
    footnote search "sparse attention" -k 5
    footnote search "named entity recognition" --venue ACL --year 2019-2022 --json
    """
    hits = open_assistant(library).search(query, k=k, **filters)
    if as_json:
        records = []
        for hit in hits:
            records.append({"rank": hit.rank, "score": round(hit.score, 4), **hit.paper.to_dict()})
        print_json(records)
        return
    for hit in hits:
        typer.echo(f"{hit.rank:3}  {hit.score:.2f}  {paper_line(hit.paper)}")


@filter_options
def list_papers(
    library: LibraryOption = None,
    *,
    filters: dict[str, str],
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum number of papers.", show_default="all")
    ] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    r"""List the papers in the order they were added.

    \b
    footnote list --limit 20
    footnote list --author Okafor --json
    """
    print_papers(islice(open_assistant(library).papers(**filters), limit), as_json)


def show(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="Id, DOI, arXiv id or PubMed id of a paper.")
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

    paper = open_assistant(library).paper(name)
    if as_json:
        print_json(paper.to_dict())
    else:
        typer.echo(render_paper(paper))


def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids, DOIs, arXiv ids or PubMed ids.")
    ],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    r"""Remove papers; if one of them is not found, none is removed.

    \b
    footnote remove fp8-versus-int8-for 2301.01234
    """
    removed = open_assistant(library).remove(*names)
    if as_json:
        print_json([paper.id for paper in removed])
        return
    for paper in removed:
        typer.echo(f"removed {paper_line(paper)}")


@filter_options
def export(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Papers to export; default: all papers."),
    ] = None,
    library: LibraryOption = None,
    *,
    filters: dict[str, str],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="NAME",
            help="markdown, bibtex, ris, csl-json, json or jsonl.",
        ),
    ] = "markdown",
    as_json: JsonOption = False,
) -> None:
    r"""Print papers in a format that other programs read.

    \b
    footnote export --format bibtex > library.bib
    footnote export --format csl-json --year ">=2024" > recent.json
    footnote export --format jsonl > backup.jsonl
    """
    from rag.output.export import export_papers

    chosen_format = choose_paper_format(format, as_json)
    assistant = open_assistant(library)
    if names and any(filters.values()):
        raise UsageError("use either paper ids or filters, not both")
    papers = map(assistant.paper, names) if names else assistant.papers(**filters)
    typer.echo(export_papers(papers, chosen_format), nl=False)
