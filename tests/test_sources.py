"""Opening of source files, detection of formats, and rules for valid records."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from rag.errors import SourceError
from rag.ingest import sources
from rag.ingest.sources.paths import expand_paths
from rag.ingest.sources.registry import FORMATS
from rag.ingest.sources.source import open_source
from rag.records import Paper, Rejection


def outcomes(path, format_name=None):
    with open_source(path, format_name) as source:
        return list(source)


def read_one(path):
    """Read a file that contains one paper."""
    ((number, paper),) = outcomes(path)
    assert number == 1
    assert isinstance(paper, Paper), paper
    return paper


@pytest.fixture
def read_record(tmp_path):
    """Read a record of Footnote's own schema as a paper."""

    def read(**fields):
        path = tmp_path / "one.jsonl"
        path.write_text(
            json.dumps({"title": "Tidal Locks of Small Moons"} | fields), encoding="utf-8"
        )
        return read_one(path)

    return read


# --- opening files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b" \n\t\n", "the file is empty"),
        (
            b"%PDF-1.7\n%\xe2\xe3",
            "a PDF; Footnote reads abstracts: export the records from your reference manager",
        ),
        (b"PK\x03\x04\x14\x00", "an archive; unpack it first"),
        (b"\x1f\x8b\x08\x00abc", "an archive; unpack it first"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a binary file, not text"),
        (b"<?xml version='1.0'?><inventory><shelf/></inventory>", "unknown format"),
    ],
)
def test_binary_and_unknown_files_are_refused_when_opened(tmp_path, content, reason):
    path = tmp_path / "input"
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        open_source(path)
    assert error.value.source == str(path)
    assert reason in error.value.reason


def test_error_for_unknown_format_lists_the_choices(tmp_path):
    path = tmp_path / "stock.xml"
    path.write_text("<inventory/>")
    with pytest.raises(SourceError) as error:
        open_source(path)
    assert all(name in error.value.reason for name in FORMATS)
    assert "--format" in error.value.reason


def test_missing_files_folders_and_unknown_format_names_are_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        open_source(tmp_path / "nowhere.bib")
    with pytest.raises(SourceError, match="a directory"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        open_source("a\x00b")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SourceError, match="unknown format 'bibtext'; choose from: jsonl"):
        open_source(tmp_path / "a.txt", "bibtext")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_is_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="not a regular file"):
        open_source(tmp_path / "pipe")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root can read every file")
def test_unreadable_file_is_refused(tmp_path):
    path = tmp_path / "locked.bib"
    path.write_text("@article{a, title={A}}")
    path.chmod(0)
    with pytest.raises(SourceError, match="cannot be read"):
        open_source(path)


def test_every_module_of_a_format_is_registered():
    registered = []
    for _, name, is_package in pkgutil.iter_modules(sources.__path__, f"{sources.__name__}."):
        format_ = None if is_package else getattr(importlib.import_module(name), "FORMAT", None)
        if format_:
            registered.append(FORMATS.get(format_.name))
            assert registered[-1] is format_, f"{name} is missing in the registry"
    assert len(registered) == len(FORMATS)


def test_importing_sources_imports_no_parser_library():
    heavy = {"lxml", "bibtexparser", "rispy", "ijson", "pylatexenc"}
    code = f"import sys, rag.ingest.sources.source; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- detection of formats ------------------------------------------------------------------------

BIBTEX = "@article{moon, title={Tidal Locks of Small Moons}}"
RIS = "TY  - JOUR\nTI  - Tidal Locks of Small Moons\nER  - \n"
MEDLINE = "PMID- 31415926\nTI  - Tidal Locks of Small Moons\n"
PUBMED = "<PubmedArticle><Article><ArticleTitle>Tidal Locks of Small Moons</ArticleTitle></Article></PubmedArticle>"
ATOM = '<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>Tidal Locks of Small Moons</title></entry></feed>'
HTML = '<html><h3><a href="/papers/2401.01234">Tidal Locks of Small Moons</a></h3></html>'
ABSTRACT = (
    "We follow the rotation of forty small moons over ten years of observation. All but two of them are locked to "
    "their planet, and the two exceptions tumble without any period that we can find. A model of internal friction "
    "explains both groups with one parameter."
)


@pytest.mark.parametrize(
    ("content", "format_name"),
    [
        (
            '{"title": "Tidal Locks of Small Moons"}\n{"title": "Tidal Locks of Small Moons"}\n',
            "jsonl",
        ),
        ('[{"title": "Tidal Locks of Small Moons"}]', "json"),
        ('{\n  "title": "Tidal Locks of Small Moons"\n}', "json"),
        ("Title;Year\nTidal Locks of Small Moons;2020\n", "csv"),
        (BIBTEX, "bibtex"),
        ("% exported by hand\n" + BIBTEX, "bibtex"),
        (RIS, "ris"),
        (MEDLINE, "medline"),
        (f"<?xml version='1.0'?>\n<PubmedArticleSet>{PUBMED}</PubmedArticleSet>", "pubmed-xml"),
        (ATOM, "atom"),
        (HTML, "html"),
        (f"Tidal Locks of Small Moons\n\n{ABSTRACT}\n", "listing"),
    ],
)
@pytest.mark.parametrize("name", ["download", "download.txt", "download.bib"])
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
def test_format_is_detected_from_the_content_whatever_the_name(
    tmp_path, content, format_name, name, prefix
):
    path = tmp_path / name
    path.write_bytes(prefix + content.encode())
    if format_name == "listing" and name.endswith(".bib"):
        pytest.skip("the suffix decides on plain text")
    with open_source(path) as source:
        assert source.format == format_name
        assert {outcome.title for _, outcome in source} == {"Tidal Locks of Small Moons"}


def test_suffix_breaks_ties(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"title": "Tidal Locks of Small Moons"}')
    (tmp_path / "a.json").write_text('{"title": "Tidal Locks of Small Moons"}')
    (tmp_path / "a.csv").write_text("Title\nTidal Locks of Small Moons\n")
    formats = [open_source(tmp_path / name).format for name in ("a.jsonl", "a.json", "a.csv")]
    assert formats == ["jsonl", "json", "csv"]


def test_json_lines_are_detected_when_the_first_line_is_broken(tmp_path):
    path = tmp_path / "export"
    path.write_text('{"title": "Cut off\n{"title": "Tidal Locks"}\n{"title": "Ring Gaps"}\n')
    first, *others = [outcome for _, outcome in outcomes(path)]
    assert isinstance(first, Rejection)
    assert [paper.title for paper in others] == ["Tidal Locks", "Ring Gaps"]


def test_given_format_overrides_detection(tmp_path):
    path = tmp_path / "odd.txt"
    path.write_text("@article{moon, title={Tidal Locks of Small Moons}}")
    ((number, rejection),) = outcomes(path, "ris")
    assert number == rejection.record == 0
    assert "no papers found" in rejection.reason


def test_source_has_name_size_and_position_and_can_be_read_again(tmp_path):
    path = tmp_path / "papers.jsonl"
    path.write_text(
        "".join(f'{{"title": "Paper {n}", "abstract": "{"x" * 500}"}}\n' for n in range(2000))
    )
    with open_source(path) as source:
        assert source.name == str(path)
        assert source.size == path.stat().st_size
        positions = [source.position for _ in source]
        assert positions == sorted(positions)
        assert 0 < positions[0] < source.size == positions[-1]
        assert len(list(source)) == 2000, "a source can be read again"


# --- encodings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("format_name", ["jsonl", "csv", "ris", "bibtex", "listing"])
def test_all_encodings_and_line_ends_are_read(tmp_path, encoding, end, format_name):
    title = "Über die “Ringe” – Café"
    text = {
        "jsonl": f'{{"title": "{title}"}}\n{{"title": "{title}"}}\n',
        "csv": f"Title,Year\n{title},1999\n{title},1999\n",
        "ris": f"TY  - JOUR\nTI  - {title}\nER  - \n\nTY  - JOUR\nTI  - {title}\nER  - \n",
        "bibtex": f"@misc{{a,\n title = {{{title}}}\n}}\n@misc{{a,\n title = {{{title}}}\n}}\n",
        "listing": f"{title}\n\n{ABSTRACT}\n\n{title}\n\n{ABSTRACT}\n",
    }[format_name]
    path = tmp_path / "text"
    path.write_bytes(text.replace("\n", end).encode(encoding))
    with open_source(path) as source:
        assert source.format == format_name
        assert [outcome.title for _, outcome in source] == [title] * 2


def test_single_byte_that_is_not_utf8_is_read_as_windows_1252(tmp_path):
    path = tmp_path / "mixed.csv"
    path.write_bytes(
        b"Title,Year\n" + "Zoë,2001\n".encode() * 8_000 + "Zoë,2002\n".encode("cp1252")
    )
    assert {paper.title for _, paper in outcomes(path)} == {"Zoë"}


def test_json_surrogates_and_line_separators_are_removed(tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text(
        '{"title": "Moons \\ud800 and\u2028 rings"}\n{"title": "Gaps"}\n', encoding="utf-8"
    )
    assert [paper.title for _, paper in outcomes(path)] == ["Moons and rings", "Gaps"]


# --- fields --------------------------------------------------------------------------------------


def test_all_fields_of_footnotes_schema_are_read(read_record):
    assert read_record(
        abstract="They lock.",
        authors=["Ada Okafor", "Lin, Mei"],
        year=2021,
        venue="Moons",
        url="https://example.org/a",
        doi="10.1234/moon.5",
        arxiv_id="2101.00001",
        pmid="123",
        retracted=True,
    ) == Paper(
        title="Tidal Locks of Small Moons",
        abstract="They lock.",
        authors=("Ada Okafor", "Mei Lin"),
        year=2021,
        venue="Moons",
        url="https://example.org/a",
        doi="10.1234/moon.5",
        arxiv_id="2101.00001",
        pmid="123",
        source="one.jsonl",
        retracted=True,
    )


def test_placeholder_for_a_missing_abstract_is_removed(read_record):
    assert read_record().abstract == ""
    assert read_record(abstract=None).abstract == ""
    assert read_record(abstract="[No abstract available]").abstract == ""
    assert read_record(abstract="N/A").abstract == ""
    assert (
        read_record(abstract="None of the moons tumbles.").abstract == "None of the moons tumbles."
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Abstract: The moons lock.", "The moons lock."),
        ("Abstract. The moons lock.", "The moons lock."),
        ("<jats:title>Abstract</jats:title><jats:p>The moons lock.</jats:p>", "The moons lock."),
        ("Abstract Moon Representation is new.", "Abstract Moon Representation is new."),
        ("At 10<sup>-3</sup> <b>bar</b>", "At 10^-3 bar"),
    ],
)
def test_label_of_an_abstract_is_removed(read_record, value, expected):
    assert read_record(abstract=value).abstract == expected


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"abstract": "Only an abstract."}, "no title"),
        ({"title": None}, "no title"),
        ({"title": " \u200b… "}, "no title"),
        ({"title": "x" * 2001}, "title longer than 2,000 characters"),
        ({"title": "T", "abstract": "x" * 100_001}, "abstract longer than 100,000 characters"),
        ({"title": "T", "abstract": "<!--" * 200_000}, "abstract longer than 100,000 characters"),
    ],
)
def test_invalid_record_is_rejected_without_losing_others(tmp_path, fields, reason):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(fields) + '\n{"title": "Ring Gaps"}\n')
    (one, bad), (two, good) = outcomes(path)
    assert (one, bad) == (1, Rejection(str(path), 1, reason))
    assert (two, good.title) == (2, "Ring Gaps")


def test_limits_are_inclusive(read_record):
    assert len(read_record(title="x" * 2000, abstract="y" * 100_000).abstract) == 100_000


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("Ada Okafor and Mei Lin and Bo Berg", ("Ada Okafor", "Mei Lin", "Bo Berg")),
        ("Okafor, Ada and Lin, Mei", ("Ada Okafor", "Mei Lin")),
        ("Okafor, Ada; Lin, Mei", ("Ada Okafor", "Mei Lin")),
        ("Ada Okafor; Mei Lin", ("Ada Okafor", "Mei Lin")),
        ("Ada Okafor, Mei Lin and Bo Berg", ("Ada Okafor", "Mei Lin", "Bo Berg")),
        ("Ada Okafor, Mei Lin, and Bo Berg", ("Ada Okafor", "Mei Lin", "Bo Berg")),
        ("Okafor, Lin, and Berg", ("Okafor", "Lin", "Berg")),
        ("Ada Okafor, Mei Lin", ("Ada Okafor", "Mei Lin")),
        ("Okafor, A.B., Lin, M.", ("A.B. Okafor", "M. Lin")),
        ("Okafor A.B., Lin M.", ("Okafor A.B.", "Lin M.")),
        ("Okafor, Ada", ("Ada Okafor",)),
        ("van der Berg, Jan", ("Jan van der Berg",)),
        ("King, Jr., Martin", ("Martin King Jr.",)),
        ("King, Martin, Jr.", ("Martin King Jr.",)),
        ("Ada Okafor et al.", ("Ada Okafor",)),
        ("Okafor, Ada and others", ("Ada Okafor",)),
        ("Smith, John, Doe, Jane", ("Smith, John, Doe, Jane",)),  # ambiguous
        (["Okafor, Ada", "Mei Lin"], ("Ada Okafor", "Mei Lin")),
        (["Okafor, Ada and Lin, Mei"], ("Ada Okafor", "Mei Lin")),
        ([{"name": "Ada Okafor"}, {"family": "Lin", "given": "Mei"}], ("Ada Okafor", "Mei Lin")),
        ([{"literal": "Rings, Moons and Dust Group"}], ("Rings, Moons and Dust Group",)),
        (
            [{"family": "Gogh", "given": "Vincent", "non-dropping-particle": "van"}],
            ("Vincent van Gogh",),
        ),
        ("Moonwatch Collaboration, Ringlab", ("Moonwatch Collaboration, Ringlab",)),
        ("[No author name available]", ()),
        ("", ()),
        (None, ()),
        ([None, 7, {}], ("7",)),
    ],
)
def test_author_names_are_split_and_reordered(read_record, value, names):
    assert read_record(authors=value).authors == names


@pytest.mark.parametrize(
    ("value", "year"),
    [
        (2021, 2021),
        ("2021", 2021),
        ("2021.0", 2021),
        (2021.0, 2021),
        ("2021-03-04T00:00:00Z", 2021),
        ("20210304", 2021),
        ("2021 Mar", 2021),
        ("1998 Dec-1999 Jan", 1998),
        ("Mon, 2 Apr 2007 19:18:42 GMT", 2007),
        ([[2021, 3]], 2021),
        ({"date-parts": [["2021", 3]]}, 2021),
        (1500, 1500),
        (2100, 2100),
        (1499, None),
        (2101, None),
        (0, None),
        (True, None),
        ("in press", None),
        ("12021", None),
        (None, None),
    ],
)
def test_years_are_parsed(read_record, value, year):
    assert read_record(year=value).year == year


@pytest.mark.parametrize(
    ("value", "doi"),
    [
        ("10.1234/Moon.5", "10.1234/moon.5"),
        ("https://doi.org/10.1234/moon.5", "10.1234/moon.5"),
        ("http://dx.doi.org/10.1234/moon.5.", "10.1234/moon.5"),
        ("doi:10.1234/moon.5,", "10.1234/moon.5"),
        ("DOI: https://doi.org/10.1234/moon%2E5", "10.1234/moon.5"),
        ("10.1016/S0140-6736(05)1", "10.1016/s0140-6736(05)1"),
        ("10.1016/s0140-6736(05))", "10.1016/s0140-6736(05)"),
        ("10.1002/(sici)1097<1::aid-a1>3.0.co;2-e", "10.1002/(sici)1097<1::aid-a1>3.0.co;2-e"),
        ("10.12/short", ""),
        ("moon.5", ""),
        ("", ""),
        (12, ""),
    ],
)
def test_dois_are_normalized(read_record, value, doi):
    assert read_record(doi=value).doi == doi


@pytest.mark.parametrize(
    ("value", "arxiv_id"),
    [
        ("2301.12345", "2301.12345"),
        ("2301.12345v3", "2301.12345"),
        ("arXiv:2301.12345v3 [cs.CL]", "2301.12345"),
        ("hep-th/9901001", "hep-th/9901001"),
        ("math.AG/0309136v2", "math/0309136"),
        ("https://arxiv.org/abs/2301.12345v2", "2301.12345"),
        ("http://arxiv.org/pdf/0704.0001.pdf", "0704.0001"),
        ("https://doi.org/10.48550/arXiv.2301.12345", "2301.12345"),
        ("2313.12345", ""),  # no thirteenth month
        ("J74-1001", ""),
        ("", ""),
    ],
)
def test_arxiv_ids_are_normalized(read_record, value, arxiv_id):
    assert read_record(arxiv_id=value).arxiv_id == arxiv_id


def test_identifiers_are_found_in_other_fields(read_record):
    paper = read_record(doi="10.48550/arXiv.2301.12345")
    assert (paper.doi, paper.arxiv_id) == ("", "2301.12345")
    assert read_record(url="https://arxiv.org/abs/2301.12345v2").arxiv_id == "2301.12345"
    assert read_record(url="https://doi.org/10.1234/Moon").doi == "10.1234/moon"
    assert (
        read_record(url="https://journals.example/doi/full/10.1234/moon?x=1").doi == "10.1234/moon"
    )
    assert read_record(url="https://pubmed.ncbi.nlm.nih.gov/4711/").pmid == "4711"
    assert read_record(venue="arXiv preprint arXiv:2301.12345").arxiv_id == "2301.12345"
    assert read_record(note="arXiv:2301.12345 [cs]").arxiv_id == "2301.12345"
    nothing = read_record(url="https://aclanthology.org/J74-1001")
    assert (nothing.doi, nothing.arxiv_id, nothing.pmid) == ("", "", "")


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://example.org/a?b=c&copy=2", "https://example.org/a?b=c&copy=2"),
        ("HTTP://example.org", "HTTP://example.org"),
        ("javascript:alert(1)", ""),
        ("file:///etc/passwd", ""),
        ("ftp://example.org", ""),
        ("https://", ""),
        ("http://[broken", ""),
        (["mailto:a@b", "http://b.example"], "http://b.example"),
        ("http://a.example; http://b.example", "http://a.example"),
        ({"x": 1}, ""),
    ],
)
def test_only_web_addresses_are_kept(read_record, value, url):
    assert read_record(url=value).url == url


@pytest.mark.parametrize(
    ("value", "pmid"),
    [("123", "123"), (123, "123"), ("PMID: 0123", "123"), ("12a", ""), ("", "")],
)
def test_pubmed_ids_are_parsed(read_record, value, pmid):
    assert read_record(pmid=value).pmid == pmid


@pytest.mark.parametrize(
    ("fields", "retracted"),
    [
        ({"title": "RETRACTED: Moons of glass"}, True),
        ({"title": "Retracted Article: Moons of glass"}, True),
        ({"title": "[Retracted] Moons of glass"}, True),
        ({"title": "WITHDRAWN: Moons of glass"}, True),
        ({"abstract": "This paper has been withdrawn by the author."}, True),
        ({"note": "This paper has been withdrawn"}, True),
        ({"retracted": True}, True),
        ({"title": "Retracted moons still circle"}, False),
        ({"title": "Withdrawn from the ring"}, False),
        (
            {
                "abstract": "We ask why readers cite on after a notice that this article has been retracted."
            },
            False,
        ),
        ({"retracted": "no"}, False),
    ],
)
def test_retractions_are_detected(read_record, fields, retracted):
    assert read_record(**fields).retracted is retracted


# --- paths ---------------------------------------------------------------------------------------


def test_paths_folders_and_patterns_are_expanded(tmp_path, monkeypatch):
    for name in ("b.bib", "a.bib", ".hidden.bib", "sub/c.ris", ".git/d.bib", "odd[1].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)

    assert expand_paths(["b.bib", "a.bib"]) == [Path("b.bib"), Path("a.bib")]
    assert expand_paths(["."]) == [
        Path("a.bib"),
        Path("b.bib"),
        Path("odd[1].txt"),
        Path("sub/c.ris"),
    ]
    assert expand_paths(["*.bib"]) == [Path("a.bib"), Path("b.bib")]
    assert expand_paths(["**/*.ris", "su?"]) == [Path("sub/c.ris")], "each file once"
    assert expand_paths(["odd[1].txt"]) == [Path("odd[1].txt")], "a file of that name is no pattern"
    missing, existing, no_match = expand_paths(["gone.bib", "a.bib", "*.xyz"])
    assert (str(missing), existing, str(no_match)) == (
        "gone.bib: no such file",
        Path("a.bib"),
        "*.xyz: no such file",
    )
    assert [str(error) for error in expand_paths(["empty"])] == [
        "empty: the folder contains no files"
    ]
    assert isinstance(expand_paths(["a\x00b"])[0], SourceError)
    assert expand_paths([]) == []


def test_circular_link_ends(tmp_path):
    (tmp_path / "a.bib").write_text("x")
    try:
        (tmp_path / "loop").symlink_to(tmp_path)
    except OSError:
        pytest.skip("no links on this system")
    assert expand_paths([str(tmp_path)]) == [tmp_path / "a.bib"]
