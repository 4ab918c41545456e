"""Small files that are built to fill the memory or to take hours, and the cost of reading each.

`python tests/bombs.py FOLDER` reads each in a process of its own and prints a line of JSON: the
titles of its papers, the reasons of its rejections, and the peak memory of the process.
`test_sources_untrusted.py` runs it.
"""

import bz2
import gzip
import importlib
import io
import json
import lzma
import os
import resource
import signal
import sys
import zipfile
from itertools import chain, repeat
from pathlib import Path

from rag.errors import SourceError
from rag.ingest.sources.source import open_source
from rag.records import Rejection

# Far more than any bomb needs on any machine; only keeps the tests from hanging.
_TIMEOUT_SECONDS = 120
_MAX_EXAMPLES = 5

_BODY = (
    "We look at rings, and then we look at moons. Both were seen before by others, it is true.\n"
)
_LINKED_HEADING = "<h3><a href='/papers/2401.01234'>A1</a></h3>"
_BILLION_LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
_NESTED_STRINGS = "".join(
    f"@string{{l{n} = {' # '.join([f'l{n - 1}'] * 10)}}}\n" for n in range(1, 12)
)


def _repeat(number, piece, block=1000):
    """Yield a piece repeatedly, joined to blocks."""
    whole, rest = divmod(number, block)
    return chain(repeat(piece * block, whole), [piece * rest])


def _json_line(**fields):
    yield json.dumps({"title": "A1"} | fields) + "\n"


def _enclose(before, pieces, after=""):
    return chain([before], pieces, [after])


def _compress(packing):
    data = json.dumps([{"title": "A1"}] * 1000).encode()
    if packing == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("papers.json", data)
        return [file.getvalue()]
    compress = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[packing]
    return [compress(data)]


# By name: the format (None: to be detected), a function that returns the pieces of the file, the
# titles of its papers, and the start of the first rejection. None means that anything is accepted.
BOMBS = {
    # Deep nesting
    "nested arrays": (
        "json",
        lambda: _repeat(300_000, "["),
        [],
        "broken JSON: the file ends",
    ),
    "nested objects": ("json", lambda: _repeat(300_000, '{"a":'), [], "broken JSON"),
    "a line of nested arrays": (
        "jsonl",
        lambda: _enclose('{"title": ', _repeat(200_000, "[")),
        [],
        "JSON nested too",
    ),
    "nested XML elements": ("pubmed-xml", lambda: _repeat(1_000_000, "<a>"), [], "broken XML"),
    "nested HTML elements": (
        "html",
        lambda: _enclose("", _repeat(100_000, "<div>"), _LINKED_HEADING),
        None,
        None,
    ),
    "nested inline elements": (
        "html",
        lambda: _enclose(_LINKED_HEADING + "<p>", _repeat(100_000, "<b>"), "A1"),
        None,
        None,
    ),
    "nested braces": (
        "bibtex",
        lambda: ["@article{a, title = {", "{" * 200_000, "A1", "}" * 200_000, "}}"],
        None,
        None,
    ),
    "unclosed braces": (
        "bibtex",
        lambda: _enclose("@article{a, title = {", _repeat(300_000, "{")),
        [],
        "broken",
    ),
    "nested LaTeX commands": (
        "bibtex",
        lambda: [
            "@article{a, title = {A1}, abstract = {",
            "\\textbf{" * 40_000,
            "}" * 40_000,
            "}}",
        ],
        None,
        None,
    ),
    "unclosed LaTeX environments": (
        "bibtex",
        lambda: _enclose(
            "@article{a, title = {A1}, abstract = {", _repeat(20_000, "\\begin{x} \\( $ \\[ "), "}}"
        ),
        None,
        None,
    ),
    "opening quotation marks": ("listing", lambda: _repeat(100_000, "“("), None, None),
    # Inputs that grow when they are expanded
    "XML entities": (
        "pubmed-xml",
        lambda: [
            f"<!DOCTYPE a [<!ENTITY l0 'ha'>{_BILLION_LAUGHS}]>",
            "<PubmedArticleSet><PubmedArticle><ArticleTitle>&l11;</ArticleTitle></PubmedArticle></PubmedArticleSet>",
        ],
        [],
        "not read: it declares XML entities",
    ),
    "HTML entities": (
        "html",
        lambda: [f"<!DOCTYPE a [<!ENTITY l0 'ha'>{_BILLION_LAUGHS}]><p>&l11;</p>{_LINKED_HEADING}"],
        None,
        None,
    ),
    "nested BibTeX strings": (
        "bibtex",
        lambda: [
            '@string{l0 = "ha"}\n',
            _NESTED_STRINGS,
            "@misc{a, title = l11}\n@misc{b, title = {A2}}",
        ],
        None,
        None,
    ),
    "a long string in many fields": (
        "bibtex",
        lambda: _enclose(
            "@string{s = {" + "x" * 4_000_000 + "}}\n",
            (f"@misc{{m{n}, title = s, note = s}}\n" for n in range(1000)),
        ),
        [],
        "title longer than 2,000 characters",
    ),
    "a long string repeated in one field": (
        "bibtex",
        lambda: _enclose(
            "@string{s = {" + "x" * 1_000_000 + "}}\n@misc{a, title = s",
            _repeat(100_000, " # s"),
            "}",
        ),
        [],
        "title longer than 2,000 characters",
    ),
    "a long word at many positions": (
        "jsonl",
        lambda: _json_line(abstract_inverted_index={"x" * 1_000_000: list(range(100_000))}),
        [],
        "abstract longer than 100,000 characters",
    ),
    # Many repetitions
    "a hundred thousand fields": (
        "json",
        lambda: _json_line(**{f"f{n}": n for n in range(100_000)}),
        ["A1"],
        None,
    ),
    "fields beyond the size of a record": (
        "json",
        lambda: _enclose('{"title": "A1"', (f', "f{n}": {n}' for n in range(500_000)), "}"),
        [],
        "record longer than 8 MB",
    ),
    "many fields of an entry": (
        "bibtex",
        lambda: _enclose("@misc{a, title = {A1}", (f", f{n} = {n}" for n in range(50_000)), "}"),
        ["A1"],
        None,
    ),
    "unclosed entries": ("bibtex", lambda: _repeat(20_000, "@article{"), [], "broken BibTeX"),
    "many columns": (
        "csv",
        lambda: ["Title" + ",x" * 40_000 + "\nA1" + ",y" * 40_000 + "\n"],
        ["A1"],
        None,
    ),
    "many attributes": (
        "html",
        lambda: _enclose("<p ", (f"a{n}=1 " for n in range(50_000)), f">{_LINKED_HEADING}"),
        None,
        None,
    ),
    "many author lists": (
        "pubmed-xml",
        lambda: _enclose(
            "<PubmedArticleSet><PubmedArticle><ArticleTitle>A1</ArticleTitle>",
            _repeat(100_000, "<AuthorList/>"),
            "</PubmedArticle></PubmedArticleSet>",
        ),
        ["A1"],
        None,
    ),
    "many empty tagged lines": (
        "ris",
        lambda: _enclose(
            "TY  - JOUR\nTI  - A1\n", _repeat(530_000, "AU  - \n"), "ER  - \nTY  - JOUR\nTI  - A2\n"
        ),
        ["A2"],
        "record longer than 8 MB",
    ),
    "many continuation lines": (
        "ris",
        lambda: _enclose(
            "TY  - JOUR\nTI  - A1\n", _repeat(530_000, "more\n"), "ER  - \nTY  - JOUR\nTI  - A2\n"
        ),
        ["A2"],
        "record longer than 8 MB",
    ),
    "many authors in RIS": (
        "ris",
        lambda: _enclose(
            "TY  - JOUR\nTI  - A1\n", _repeat(101_000, "AU  - Okafor, Ada\n"), "ER  - \n"
        ),
        [],
        "authors longer than 1,000,000 characters",
    ),
    "many authors in BibTeX": (
        "bibtex",
        lambda: _enclose(
            "@misc{a, title = {A1}, author = {", _repeat(130_000, "Okafor, A and "), "B}}"
        ),
        [],
        "authors longer than 1,000,000 characters",
    ),
    "many superscripts": (
        "html",
        lambda: _enclose(_LINKED_HEADING + "<p>", _repeat(100_000, "<sup>")),
        None,
        None,
    ),
    "many paragraphs of one paper": (
        "html",
        lambda: _enclose(_LINKED_HEADING, _repeat(2_000, f"<p>{_BODY * 3}</p>")),
        [],
        "abstract longer than 100,000 characters",
    ),
    "many labelled paragraphs": (
        "listing",
        lambda: _enclose(
            "Warm rings and moons\n\n",
            _repeat(20_000, "Methods: " + _BODY.replace("\n", " ") * 6 + "\n\n"),
        ),
        [],
        "abstract longer than 100,000 characters",
    ),
    "many invalid lines": ("jsonl", lambda: _repeat(400_000, "x\n"), [], "broken JSON"),
    "many numbers instead of records": (
        "json",
        lambda: _repeat(400_000, "1 "),
        [],
        "not a JSON object",
    ),
    "many quotation marks": (
        "csv",
        lambda: ["Title,Abstract\n", '"' * 200_001],
        [],
        "a quotation mark is opened",
    ),
    "quotation marks and tabs": (
        "csv",
        lambda: _enclose("Title\tAbstract\n", _repeat(20_000, '""a"\t"\n')),
        None,
        None,
    ),
    "many unclosed rows": (
        "csv",
        lambda: _enclose("Title,Abstract\n", _repeat(20_001, '"a\n')),
        None,
        None,
    ),
    # Long values
    "a number of many digits": (
        "json",
        lambda: _enclose('[{"title": "A1", "year": ', _repeat(9_000_000, "9")),
        [],
        "a value longer than 8 MB",
    ),
    "a very long header": (
        "csv",
        lambda: _enclose("Title,", _repeat(3_000_000, "x"), "\nA1\n"),
        [],
        "no papers found",
    ),
    "a very long venue": (
        "jsonl",
        lambda: _json_line(venue="x" * 7_000_000),
        [],
        "venue longer than 2,000 characters",
    ),
    "a very long author": (
        "jsonl",
        lambda: _json_line(authors="x" * 7_000_000),
        [],
        "authors longer than",
    ),
    "many commas in an author": (
        "ris",
        lambda: _enclose("TY  - JOUR\nTI  - A1\nAU  - ", _repeat(100_000, "A, "), "\n"),
        ["A1"],
        None,
    ),
    "a very long PubMed id": (
        "medline",
        lambda: _enclose("PMID- ", _repeat(200_000, "1 ")),
        None,
        None,
    ),
    "a very long address": (
        "jsonl",
        lambda: _json_line(url="http://" + "x" * 7_000_000),
        ["A1"],
        None,
    ),
    "many invalid addresses": (
        "jsonl",
        lambda: _json_line(url="http://[ " * 700_000),
        ["A1"],
        None,
    ),
    "repeated DOI prefixes": (
        "jsonl",
        lambda: _json_line(doi="doi:" * 1_500_000 + "10.1234/a"),
        ["A1"],
        None,
    ),
    "many combining marks": (
        "jsonl",
        lambda: _json_line(abstract="a" + "\u0301\u0327" * 150_000),
        ["A1"],
        None,
    ),
    "combining marks of other kinds": (
        "jsonl",
        lambda: _json_line(abstract="a" + "\u0f73\u0301\uff9e" * 100_000),
        ["A1"],
        None,
    ),
    "long text like an identifier": (
        "jsonl",
        lambda: _json_line(arxiv_id="a" * 3_000_000, extra="arXiv:" * 500_000),
        ["A1"],
        None,
    ),
    # Inputs that make regular expressions slow
    "a line of digits": ("listing", lambda: ["A1 and more\n", "1" * 100, "x\n", _BODY], None, None),
    "a line of spaces": (
        "listing",
        lambda: _enclose("Ada", _repeat(300_000, " "), f"Byron\n{_BODY}"),
        None,
        None,
    ),
    "a listing of titles only": ("listing", lambda: _repeat(3_000, "A " * 40 + "\n\n"), None, None),
    "a listing of commas": ("listing", lambda: _repeat(100_000, "A, "), [], None),
    "a listing of blank lines": (
        None,
        lambda: _enclose("x", _repeat(60_000, "\n"), "y"),
        [],
        "no papers found",
    ),
    "unclosed feed tags": (
        None,
        lambda: _repeat(10_000, "<feed "),
        [],
        "unknown format",
    ),
    "an entry of spaces": (None, lambda: _enclose("@a{", _repeat(60_000, " "), "x"), None, None),
    "unclosed links": ("html", lambda: _repeat(50_000, "<a <"), [], "no papers found"),
    "unclosed comments": (
        "jsonl",
        lambda: _json_line(abstract="<!--" * 90_000 + "-->"),
        ["A1"],
        None,
    ),
    "unclosed tags": (
        "jsonl",
        lambda: _json_line(abstract="<p " * 99_000 + "x"),
        [],
        "abstract longer than",
    ),
} | {
    # Compressed files
    f"{packing} read as {format_name or 'detected'}": (
        format_name,
        lambda packing=packing: _compress(packing),
        [],
        "an archive; unpack",
    )
    for packing in ("gzip", "zip", "bzip2", "xz")
    for format_name in (None, "listing", "jsonl")
}


def read(path, format_name):
    """Return the papers and rejections of a file, and the peak memory of this process in MB."""
    titles, reasons = [], []
    try:
        with open_source(path, format_name) as source:
            for _, outcome in source:
                if isinstance(outcome, Rejection):
                    reasons.append(outcome.reason)
                else:
                    titles.append(outcome.title)
    except SourceError as error:
        reasons.append(error.reason)
    # Linux counts in KiB, macOS in bytes.
    units_per_mb = 1024 if sys.platform == "linux" else 1024**2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mb
    return {
        "titles": titles[:_MAX_EXAMPLES],
        "papers": len(titles),
        "reasons": reasons[:_MAX_EXAMPLES],
        "rejected": len(reasons),
        "last": reasons[-1:],
        "peak": round(peak),
    }


def write(path, pieces):
    """Write a file from pieces of text or bytes."""
    with path.open("wb") as file:
        for piece in pieces:
            is_bytes = isinstance(piece, bytes)
            file.write(piece if is_bytes else piece.encode("utf-8", "surrogatepass"))


def main():
    """Read each bomb in a forked process and print the results."""
    for parser_library in ("bibtexparser.entrypoint", "ijson", "lxml.etree", "rispy"):
        importlib.import_module(parser_library)  # once, and not in every child
    path = Path(sys.argv[1]) / "bomb"
    for name, (format_name, pieces, _, _) in BOMBS.items():
        write(path, pieces())
        child = os.fork()
        if not child:
            signal.alarm(_TIMEOUT_SECONDS)
            print_result(name, read(path, format_name))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print_result(name, {"status": status})


def print_result(name, result):
    """Print a result as a line of JSON."""
    sys.stdout.write(json.dumps({"bomb": name} | result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
