"""Small files that would fill a memory or hold a processor for hours, and what reading one costs.

`python tests/bombs.py FOLDER` reads each in a process of its own and prints a line of JSON for it: the titles of the
papers, the reasons of the rejections, and the most memory that the process took. `test_sources_hostile.py` does so.
"""

import bz2
import gzip
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
from rag.ingest.sources import FORMATS, open_source

# Far more than any of them takes, on any machine: only so that none can hang the tests.
_SECONDS = 120
_MOST_TOLD = 5

_BODY = (
    "We look at rings, and then we look at moons. Both were seen before by others, it is true.\n"
)
_LINKED = "<h3><a href='/papers/2401.01234'>A1</a></h3>"
_LAUGHS = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
_CHAIN = "".join(f"@string{{l{n} = {' # '.join([f'l{n - 1}'] * 10)}}}\n" for n in range(1, 12))


def _times(number, piece, block=1000):
    """A piece so many times, in blocks."""
    whole, rest = divmod(number, block)
    return chain(repeat(piece * block, whole), [piece * rest])


def _json(**fields):
    yield json.dumps({"title": "A1"} | fields) + "\n"


def _around(before, pieces, after=""):
    return chain([before], pieces, [after])


def _packed(form):
    data = json.dumps([{"title": "A1"}] * 1000).encode()
    if form == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("papers.json", data)
        return [file.getvalue()]
    return [{"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[form](data)]


# By name: the format (none is told from the file), the pieces of the file, the titles of the papers in it, and how the
# first rejection begins, if there is to be one. More may be rejected.
BOMBS = {
    # nesting
    "arrays in arrays": (
        "json",
        lambda: _times(300_000, "["),
        [],
        "broken JSON: the file breaks off",
    ),
    "objects in objects": ("json", lambda: _times(300_000, '{"a":'), [], "broken JSON"),
    "a line of arrays in arrays": (
        "jsonl",
        lambda: _around('{"title": ', _times(200_000, "[")),
        [],
        "JSON nested too",
    ),
    "tags in tags of XML": ("pubmed-xml", lambda: _times(1_000_000, "<a>"), [], "broken XML"),
    "tags in tags of HTML": (
        "html",
        lambda: _around("", _times(100_000, "<div>"), _LINKED),
        None,
        None,
    ),
    "bold in bold in HTML": (
        "html",
        lambda: _around(_LINKED + "<p>", _times(100_000, "<b>"), "A1"),
        None,
        None,
    ),
    "braces in braces": (
        "bibtex",
        lambda: ["@article{a, title = {", "{" * 200_000, "A1", "}" * 200_000, "}}"],
        None,
        None,
    ),
    "braces that are not closed": (
        "bibtex",
        lambda: _around("@article{a, title = {", _times(300_000, "{")),
        [],
        "broken",
    ),
    "LaTeX in LaTeX": (
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
    "LaTeX that begins and does not end": (
        "bibtex",
        lambda: _around(
            "@article{a, title = {A1}, abstract = {", _times(20_000, "\\begin{x} \\( $ \\[ "), "}}"
        ),
        None,
        None,
    ),
    "brackets of text": ("listing", lambda: _times(100_000, "“("), None, None),
    # what grows when it is put together
    "entities of XML": (
        "pubmed-xml",
        lambda: [
            f"<!DOCTYPE a [<!ENTITY l0 'ha'>{_LAUGHS}]>",
            "<PubmedArticleSet><PubmedArticle><ArticleTitle>&l11;</ArticleTitle></PubmedArticle></PubmedArticleSet>",
        ],
        [],
        "it declares entities of its own",
    ),
    "entities in HTML": (
        "html",
        lambda: [f"<!DOCTYPE a [<!ENTITY l0 'ha'>{_LAUGHS}]><p>&l11;</p>{_LINKED}"],
        None,
        None,
    ),
    "strings of strings": (
        "bibtex",
        lambda: ['@string{l0 = "ha"}\n', _CHAIN, "@misc{a, title = l11}\n@misc{b, title = {A2}}"],
        None,
        None,
    ),
    "a long string in many fields": (
        "bibtex",
        lambda: _around(
            "@string{s = {" + "x" * 4_000_000 + "}}\n",
            (f"@misc{{m{n}, title = s, note = s}}\n" for n in range(1000)),
        ),
        [],
        "title longer than 2,000 characters",
    ),
    "a long string many times": (
        "bibtex",
        lambda: _around(
            "@string{s = {" + "x" * 1_000_000 + "}}\n@misc{a, title = s",
            _times(100_000, " # s"),
            "}",
        ),
        [],
        "title longer than 2,000 characters",
    ),
    "a long word in many places": (
        "jsonl",
        lambda: _json(abstract_inverted_index={"x" * 1_000_000: list(range(100_000))}),
        [],
        "abstract longer than 100,000 characters",
    ),
    # many of one thing
    "a hundred thousand fields": (
        "json",
        lambda: _json(**{f"f{n}": n for n in range(100_000)}),
        ["A1"],
        None,
    ),
    "fields without end": (
        "json",
        lambda: _around('{"title": "A1"', (f', "f{n}": {n}' for n in range(500_000)), "}"),
        [],
        "record longer than 8 MB",
    ),
    "fields of an entry": (
        "bibtex",
        lambda: _around("@misc{a, title = {A1}", (f", f{n} = {n}" for n in range(50_000)), "}"),
        ["A1"],
        None,
    ),
    "entries that only begin": ("bibtex", lambda: _times(20_000, "@article{"), [], "broken BibTeX"),
    "columns": (
        "csv",
        lambda: ["Title" + ",x" * 40_000 + "\nA1" + ",y" * 40_000 + "\n"],
        ["A1"],
        None,
    ),
    "attributes": (
        "html",
        lambda: _around("<p ", (f"a{n}=1 " for n in range(50_000)), f">{_LINKED}"),
        None,
        None,
    ),
    "lists of authors": (
        "pubmed-xml",
        lambda: _around(
            "<PubmedArticleSet><PubmedArticle><ArticleTitle>A1</ArticleTitle>",
            _times(300_000, "<AuthorList/>"),
            "</PubmedArticle></PubmedArticleSet>",
        ),
        ["A1"],
        None,
    ),
    "lines of one author": (
        "ris",
        lambda: _around(
            "TY  - JOUR\nTI  - A1\n", _times(600_000, "AU  - \n"), "ER  - \nTY  - JOUR\nTI  - A2\n"
        ),
        ["A2"],
        "record longer than 8 MB",
    ),
    "lines that go on": (
        "ris",
        lambda: _around(
            "TY  - JOUR\nTI  - A1\n", _times(600_000, "more\n"), "ER  - \nTY  - JOUR\nTI  - A2\n"
        ),
        ["A2"],
        "record longer than 8 MB",
    ),
    "lines of PubMed that go on": (
        "medline",
        lambda: _around(
            "PMID- 1\nTI  - A1\n", _times(600_000, "      more\n"), "\nPMID- 2\nTI  - A2\n"
        ),
        ["A2"],
        "record longer than 8 MB",
    ),
    "authors in RIS": (
        "ris",
        lambda: _around(
            "TY  - JOUR\nTI  - A1\n", _times(101_000, "AU  - Okafor, Ada\n"), "ER  - \n"
        ),
        [],
        "authors longer than 1,000,000 characters",
    ),
    "authors in BibTeX": (
        "bibtex",
        lambda: _around(
            "@misc{a, title = {A1}, author = {", _times(130_000, "Okafor, A and "), "B}}"
        ),
        [],
        "authors longer than 1,000,000 characters",
    ),
    "superscripts": (
        "html",
        lambda: _around(_LINKED + "<p>", _times(300_000, "<sup>")),
        None,
        None,
    ),
    "paragraphs of one paper": (
        "html",
        lambda: _around(_LINKED, _times(2_000, f"<p>{_BODY * 3}</p>")),
        [],
        "abstract longer than 100,000 characters",
    ),
    "labelled paragraphs": (
        "listing",
        lambda: _around(
            "Warm rings and moons\n\n",
            _times(20_000, "Methods: " + _BODY.replace("\n", " ") * 6 + "\n\n"),
        ),
        [],
        "abstract longer than 100,000 characters",
    ),
    "records that are none": ("jsonl", lambda: _times(400_000, "x\n"), [], "broken JSON"),
    "numbers that are no records": ("json", lambda: _times(400_000, "1 "), [], "not a JSON object"),
    "quotation marks": (
        "csv",
        lambda: ["Title,Abstract\n", '"' * 200_001],
        [],
        "a quotation mark is opened",
    ),
    "marks and tabulators": (
        "csv",
        lambda: _around("Title\tAbstract\n", _times(50_000, '""a"\t"\n')),
        None,
        None,
    ),
    "rows in quotation marks": (
        "csv",
        lambda: _around("Title,Abstract\n", _times(50_001, '"a\n')),
        None,
        None,
    ),
    # long ones
    "a number of many digits": (
        "json",
        lambda: _around('[{"title": "A1", "year": ', _times(10_000_000, "9")),
        [],
        "a value longer than 8 MB",
    ),
    "a header without end": (
        "csv",
        lambda: _around("Title,", _times(3_000_000, "x"), "\nA1\n"),
        [],
        "no papers found",
    ),
    "a venue without end": (
        "jsonl",
        lambda: _json(venue="x" * 7_000_000),
        [],
        "venue longer than 2,000 characters",
    ),
    "an author without end": (
        "jsonl",
        lambda: _json(authors="x" * 7_000_000),
        [],
        "authors longer than",
    ),
    "commas of an author": (
        "ris",
        lambda: _around("TY  - JOUR\nTI  - A1\nAU  - ", _times(100_000, "A, "), "\n"),
        ["A1"],
        None,
    ),
    "a PubMed number without end": (
        "medline",
        lambda: _around("PMID- ", _times(200_000, "1 ")),
        None,
        None,
    ),
    "an address without end": (
        "jsonl",
        lambda: _json(url="http://" + "x" * 7_000_000),
        ["A1"],
        None,
    ),
    "addresses that are none": ("jsonl", lambda: _json(url="http://[ " * 700_000), ["A1"], None),
    "a DOI of a DOI": ("jsonl", lambda: _json(doi="doi:" * 1_500_000 + "10.1234/a"), ["A1"], None),
    "marks upon marks": (
        "jsonl",
        lambda: _json(abstract="a" + "\u0301\u0327" * 150_000),
        ["A1"],
        None,
    ),
    "marks of another kind": (
        "jsonl",
        lambda: _json(abstract="a" + "\u0f73\u0301\uff9e" * 100_000),
        ["A1"],
        None,
    ),
    "a name that may be an identifier": (
        "jsonl",
        lambda: _json(arxiv_id="a" * 3_000_000, extra="arXiv:" * 500_000),
        ["A1"],
        None,
    ),
    # what expressions stumble over
    "a line of digits": ("listing", lambda: ["A1 and more\n", "1" * 100, "x\n", _BODY], None, None),
    "a line of blanks": (
        "listing",
        lambda: _around("Ada", _times(300_000, " "), f"Byron\n{_BODY}"),
        None,
        None,
    ),
    "a listing of titles": ("listing", lambda: _times(3_000, "A " * 40 + "\n\n"), None, None),
    "a listing of commas": ("listing", lambda: _times(100_000, "A, "), [], None),
    "a listing of blank lines": (
        None,
        lambda: _around("x", _times(60_000, "\n"), "y"),
        [],
        "no papers found",
    ),
    "feeds that do not begin": (
        None,
        lambda: _times(10_000, "<feed "),
        [],
        "its format is not recognised",
    ),
    "an entry of blanks": (None, lambda: _around("@a{", _times(60_000, " "), "x"), None, None),
    "links that do not end": ("html", lambda: _times(50_000, "<a <"), [], "no papers found"),
    "comments that do not end": (
        "jsonl",
        lambda: _json(abstract="<!--" * 90_000 + "-->"),
        ["A1"],
        None,
    ),
    "tags that do not end": (
        "jsonl",
        lambda: _json(abstract="<p " * 99_000 + "x"),
        [],
        "abstract longer than",
    ),
} | {
    # what is packed
    f"{packing} read as {form or 'what it is'}": (
        form,
        lambda packing=packing: _packed(packing),
        [],
        "an archive; unpack",
    )
    for packing in ("gzip", "zip", "bzip2", "xz")
    for form in (None, *FORMATS[:2])
}


def read(path, form):
    """What came of a file, and the most memory that this process took, in MB."""
    titles, reasons = [], []
    try:
        with open_source(path, form) as source:
            for _, outcome in source:
                told = getattr(outcome, "why", None)
                (titles if told is None else reasons).append(told or outcome.title)
    except SourceError as error:
        reasons.append(error.reason)
    # Linux counts in KiB, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024 if sys.platform == "linux" else 1024**2
    )
    shown = {"titles": titles[:_MOST_TOLD], "papers": len(titles), "reasons": reasons[:_MOST_TOLD]}
    return shown | {"refused": len(reasons), "last": reasons[-1:], "peak": round(peak)}


def write(path, pieces):
    with path.open("wb") as file:
        for piece in pieces:
            file.write(
                piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogatepass")
            )


def main():
    path = Path(sys.argv[1]) / "bomb"
    for name, (form, pieces, _, _) in BOMBS.items():
        write(path, pieces())
        if not (child := os.fork()):
            signal.alarm(_SECONDS)
            tell(name, read(path, form))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            tell(name, {"status": status})


def tell(name, result):
    sys.stdout.write(json.dumps({"bomb": name} | result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
