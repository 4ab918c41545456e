"""Every format as services and programs write it. All papers here are invented."""

import json

import pytest

from rag.ingest.sources.source import open_source
from rag.records import Paper, Rejection


@pytest.fixture
def read(tmp_path):
    """Read a file, check its detected format and return its outcomes."""

    def outcomes(content, format_name, name="export"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        with open_source(path) as source:
            assert source.format == format_name
            numbered = list(source)
        assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1)) or numbered[
            0
        ][0] == 0
        return [outcome for _, outcome in numbered]

    return outcomes


def titles(outcomes):
    return [outcome.title if isinstance(outcome, Paper) else None for outcome in outcomes]


def reasons(outcomes):
    return [outcome.reason for outcome in outcomes if isinstance(outcome, Rejection)]


# --- JSON and JSON Lines -------------------------------------------------------------------------

ARXIV_DUMP = {
    "id": "0704.9999",
    "submitter": "A. Okafor",
    "authors": "A. Ok\\'afor, M. Lin",
    "title": "Ring gaps in\n  dusty discs",
    "comments": "12 pages",
    "journal-ref": "J.Invented Phys. 7 (2008) 1-9",
    "doi": "10.1234/JIP.7.1",
    "abstract": "  We look at gaps\nin rings.\n",
    "categories": "astro-ph",
    "versions": [{"version": "v1", "created": "Mon, 2 Apr 2007 19:18:42 GMT"}],
    "update_date": "2009-11-13",
    "authors_parsed": [["Okáfor", "A.", ""], ["Lin", "M.", "Jr."]],
}
HUGGING_FACE = {
    "paper": {
        "id": "2501.01234",
        "title": "Moons that answer",
        "summary": "We ask moons.",
        "authors": [{"_id": "x", "name": "Ada Okafor", "hidden": False}, {"name": "Mei Lin"}],
        "publishedAt": "2025-01-02T18:59:00.000Z",
        "upvotes": 12,
    },
    "publishedAt": "2025-01-03T00:00:00.000Z",
    "title": "Moons that answer",
    "summary": "We ask moons.",
}
SEMANTIC_SCHOLAR = {
    "paperId": "649def34f8be52c8b66281af98ae884c09aef38b",
    "externalIds": {"DOI": "10.1234/S2.1", "ArXiv": "2102.00002", "PubMed": "4711", "CorpusId": 1},
    "url": "https://www.semanticscholar.org/paper/649d",
    "title": "Dust for parsers",
    "abstract": None,
    "venue": "Invented Meeting",
    "year": 2021,
    "authors": [{"authorId": "1", "name": "Ada Okafor"}],
}
OPENALEX = {
    "id": "https://openalex.org/W1",
    "doi": "https://doi.org/10.1234/OA.1",
    "display_name": "Cold rings",
    "publication_year": 2019,
    "publication_date": "2019-05-01",
    "ids": {"pmid": "https://pubmed.ncbi.nlm.nih.gov/4712"},
    "primary_location": {
        "landing_page_url": "https://journal.example/cold",
        "source": {"display_name": "Invented Letters"},
    },
    "authorships": [
        {"author": {"display_name": "Ada Okafor"}},
        {"author": {"display_name": "Mei Lin"}},
    ],
    "abstract_inverted_index": {
        "Rings": [0, 4],
        "are": [1],
        "cold;": [2],
        "most": [3],
        "too.": [5],
    },
    "is_retracted": True,
}
CSL = {
    "id": "okafor2018",
    "type": "article-journal",
    "title": "Warm rings",
    "author": [{"family": "Okafor", "given": "Ada"}, {"literal": "Ring Consortium"}],
    "issued": {"date-parts": [[2018, 4, 1]]},
    "container-title": "Invented Letters",
    "DOI": "10.1234/csl.1",
    "URL": "https://journal.example/warm",
    "PMID": "4713",
    "abstract": "Rings are warm.",
}
EXPECTED = {
    "dump": Paper(
        title="Ring gaps in dusty discs",
        abstract="We look at gaps in rings.",
        authors=("A. Okáfor", "M. Lin Jr."),
        year=2007,
        venue="J.Invented Phys. 7 (2008) 1-9",
        doi="10.1234/jip.7.1",
        arxiv_id="0704.9999",
        source="export",
    ),
    "daily": Paper(
        title="Moons that answer",
        abstract="We ask moons.",
        authors=("Ada Okafor", "Mei Lin"),
        year=2025,
        arxiv_id="2501.01234",
        source="export",
    ),
    "scholar": Paper(
        title="Dust for parsers",
        authors=("Ada Okafor",),
        year=2021,
        venue="Invented Meeting",
        url="https://www.semanticscholar.org/paper/649d",
        doi="10.1234/s2.1",
        arxiv_id="2102.00002",
        pmid="4711",
        source="export",
    ),
    "openalex": Paper(
        title="Cold rings",
        abstract="Rings are cold; most Rings too.",
        authors=("Ada Okafor", "Mei Lin"),
        year=2019,
        venue="Invented Letters",
        url="https://journal.example/cold",
        doi="10.1234/oa.1",
        pmid="4712",
        retracted=True,
        source="export",
    ),
    "csl": Paper(
        title="Warm rings",
        abstract="Rings are warm.",
        authors=("Ada Okafor", "Ring Consortium"),
        year=2018,
        venue="Invented Letters",
        url="https://journal.example/warm",
        doi="10.1234/csl.1",
        pmid="4713",
        source="export",
    ),
}
SERVICES = {
    "dump": ARXIV_DUMP,
    "daily": HUGGING_FACE,
    "scholar": SEMANTIC_SCHOLAR,
    "openalex": OPENALEX,
    "csl": CSL,
}


@pytest.mark.parametrize("service", SERVICES)
def test_json_of_known_services_is_mapped(read, service):
    record, paper = SERVICES[service], EXPECTED[service]
    assert read(json.dumps([record]), "json") == [paper]
    assert read(json.dumps(record, indent=1), "json") == [paper]
    assert read(f"{json.dumps(record)}\n\n{json.dumps(record)}\n", "jsonl") == [paper, paper]


@pytest.mark.parametrize(
    "wrapped",
    [
        '{"results": %s, "meta": {"count": 2}}',
        '{"total": 2, "data": %s}',
        '{"papers": %s}',
        '{"items": %s}',
        '{"records": %s}',
        '{"responseHeader": {"status": 0}, "response": {"numFound": 2, "docs": %s}}',
        '{"status": "ok", "message": {"total-results": 2, "items": %s}}',
    ],
)
def test_lists_within_a_json_object_are_found(read, wrapped):
    content = wrapped % '[{"title": "Cold rings"}, {"title": "Warm rings"}]'
    assert titles(read(content, "json")) == ["Cold rings", "Warm rings"]
    assert titles(read(json.dumps(json.loads(content), indent=2), "json")) == [
        "Cold rings",
        "Warm rings",
    ]


def test_corpus_of_title_and_text_is_read(read):
    (paper, _) = read('{"_id": "7", "title": "Cold rings", "text": "They are."}\n' * 2, "jsonl")
    assert (paper.title, paper.abstract, paper.id) == ("Cold rings", "They are.", "")


def test_broken_json_line_loses_only_itself(read):
    outcomes = read(
        '{"title": "A1"}\n{"title": "A2\n[1]\n"text"\n\n{"title": "A3"}\n{"title": "A4", "abs',
        "jsonl",
    )
    assert titles(outcomes) == ["A1", None, None, None, "A3", None]
    assert reasons(outcomes)[1:3] == ["not a JSON object", "not a JSON object"]
    assert all(reason.startswith("broken JSON: ") for reason in reasons(outcomes)[::3])
    assert [o.record for o in outcomes if isinstance(o, Rejection)] == [2, 3, 4, 6]


def test_truncated_json_array_keeps_earlier_records(read):
    outcomes = read('[{"title": "A1"}, 7, {"title": "A2"}, {"title": "A', "json")
    assert titles(outcomes) == ["A1", None, "A2", None]
    assert reasons(outcomes) == [
        "not a JSON object",
        "broken JSON: the file ends within a record or before its closing bracket",
    ]
    assert outcomes[3].record == 4


def test_syntax_error_ends_a_json_array(read):
    outcomes = read('[{"title": "A1"}, {"title": nul}, {"title": "A3"}]', "json")
    assert titles(outcomes) == ["A1", None]
    assert "the rest of the file cannot be read" in reasons(outcomes)[0]


def test_json_that_is_too_deep_or_has_no_papers_is_rejected(read):
    deep = "[" * 100 + "]" * 100
    outcomes = read(f'[{{"title": "A1", "x": {deep}}}, {{"title": "A2"}}]', "json")
    assert titles(outcomes) == [None, "A2"]
    assert reasons(outcomes) == ["JSON nested too deeply"]
    assert reasons(read('{"colour": "red"}', "json")) == [
        "no papers found; the file was read as json"
    ]
    assert reasons(read("[]", "json")) == ["no papers found; the file was read as json"]


# --- tables --------------------------------------------------------------------------------------

ZOTERO = (
    '"Key","Item Type","Publication Year","Author","Title","Publication Title","DOI","Url","Abstract Note","Extra"\n'
    '"A1","journalArticle","2018","Okafor, Ada; Lin, Mei","Warm rings","Invented Letters","10.1234/z.1",'
    '"https://journal.example/warm","Rings, said to be ""cold"",\nare warm.","PMID: 4713"\n'
    '"A2","preprint","2023","Lin, Mei","Colder rings","","","","","arXiv:2301.12345 [astro-ph]"\n'
)
SCOPUS = (
    '\ufeff"Authors","Author full names","Title","Year","Source title","DOI","Link","Abstract",'
    '"Document Type","PubMed ID"\n'
    '"Okafor A.; Lin M.","Okafor, Ada (57193456789); Lin, Mei (57193456780)","Warm rings","2018","Invented Letters",'
    '"10.1234/s.1","https://www.scopus.example/1","[No abstract available]","Retracted","4713"\n'
)
WEB_OF_SCIENCE = (
    "PT\tAU\tAF\tTI\tSO\tAB\tPY\tDI\tPM\n"
    "J\tOkafor, A; Lin, M\tOkafor, Ada; Lin, Mei\tWarm rings\tINVENTED LETTERS\t"
    "Rings are warm.\t2018\t10.1234/w.1\t4713\n"
)
EXCEL = "sep=;\nArticle Title;Authors;Publication Date;Journal\nWarm rings;Okafor, Ada;01/04/2018;Invented Letters\n;;;\n"


def test_zotero_csv_is_read(read):
    warm, colder = read(ZOTERO, "csv")
    assert warm == Paper(
        title="Warm rings",
        abstract='Rings, said to be "cold", are warm.',
        authors=("Ada Okafor", "Mei Lin"),
        year=2018,
        venue="Invented Letters",
        url="https://journal.example/warm",
        doi="10.1234/z.1",
        pmid="4713",
        source="export",
    )
    assert (colder.arxiv_id, colder.authors, colder.abstract) == ("2301.12345", ("Mei Lin",), "")


def test_csv_of_scopus_web_of_science_and_excel_is_read(read):
    (scopus,) = read(SCOPUS, "csv")
    assert (scopus.authors, scopus.abstract, scopus.retracted, scopus.pmid) == (
        ("Ada Okafor", "Mei Lin"),
        "",
        True,
        "4713",
    )
    (wos,) = read(WEB_OF_SCIENCE, "csv")
    assert (wos.title, wos.authors, wos.year, wos.doi) == (
        "Warm rings",
        ("Ada Okafor", "Mei Lin"),
        2018,
        "10.1234/w.1",
    )
    (excel,) = read(EXCEL, "csv")
    assert (excel.title, excel.authors, excel.year, excel.venue) == (
        "Warm rings",
        ("Ada Okafor",),
        2018,
        "Invented Letters",
    )


def test_rows_of_wrong_length_are_padded_skipped_or_rejected(read):
    outcomes = read(
        "TITLE,year,abstract\nA1,2001,Yes\nA2\nA3,2003,No,more\nA4,2004,,,\n,,\n,2005,Orphan\nA5,1,2\n",
        "csv",
    )
    assert titles(outcomes) == ["A1", "A2", None, "A4", None, "A5"]
    assert reasons(outcomes) == ["4 cells, but the header has 3", "no title"]


def test_blank_lines_between_rows_are_skipped(read):
    outcomes = read('Title,Abstract\n\nA1,Yes\n\n \nA2,"First.\n\nSecond."\n\n\n', "csv")
    assert [(paper.title, paper.abstract) for paper in outcomes] == [
        ("A1", "Yes"),
        ("A2", "First. Second."),
    ]


def test_unclosed_quotation_mark_loses_only_its_line(read):
    outcomes = read('Title,Year\nA1,2001\n"A2,2002\nA3,2003\nA4,2004\n', "csv")
    assert titles(outcomes) == ["A1", None, "A3", "A4"]
    assert reasons(outcomes) == ["a quotation mark is opened and never closed"]


def test_table_without_title_column_is_rejected(read):
    (rejection,) = read("name;colour\nMoon;grey\n", "csv", "moons.csv")
    assert rejection.record == 0
    assert (
        rejection.reason
        == "no papers found: no column is called Title; the first line is 'name;colour'"
    )


def test_long_cells_are_read_and_longer_ones_rejected(read):
    # The csv module accepts 131,072 characters by default.
    names = "; ".join(f"Member{n}, Anna" for n in range(12_000))
    paper, rejection = read(f'Title,Authors\nA1,"{names}"\nA2,{"x" * 1_000_001}\n', "csv")
    assert len(paper.authors) == 12_000
    assert rejection.reason == "a cell longer than 1,000,000 characters"


# --- BibTeX --------------------------------------------------------------------------------------


def test_bibtex_is_read(read):
    (paper,) = read(
        r"""% from a reference manager
@string{lett = "Invented Letters"}
@preamble{"\newcommand{\x}{y}"}
@comment{jabref-meta: databaseType:bibtex;}
@Article{okafor2018,
  author   = {{\'O}kaf{\"o}r, {\L}ada and Lin, Mei and {Rings and Moons Collaboration} and others},
  title    = {Warm {R}ings at $10^{-3}\,\mathrm{K}$ -- the case of S{\o}lvgade},
  journal  = lett,
  year     = 2018,
  month    = apr,
  doi      = {10.1234/b.1},
  url      = {https://journal.example/warm\_rings},
  pmid     = {4713},
  abstract = {We gain 5\% over Fig.~2 and 7% more for H\textsubscript{2}O at 10\textsuperscript{-3} of \emph{all
              cases} (\eg, R&D).},
}
""",
        "bibtex",
    )
    assert paper == Paper(
        title=r"Warm Rings at $10^{-3}\,\mathrm{K}$ – the case of Sølvgade",
        abstract=r"We gain 5% over Fig. 2 and 7% more for H2O at 10^-3 of all cases (\eg, R&D).",
        authors=("Łada Ókaför", "Mei Lin", "Rings and Moons Collaboration"),
        year=2018,
        venue="Invented Letters",
        url="https://journal.example/warm_rings",
        doi="10.1234/b.1",
        pmid="4713",
        source="export",
    )


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"Universit{\'e} de Z\"urich", "Université de Zürich"),
        (r"\L ukasz and \c c and \'{\i}", "Łukasz and ç and í"),
        (r"``Cold'' rings --- 1990--2000", "“Cold” rings — 1990–2000"),
        (r"Costs \$5 or $6 a ring", "Costs $5 or $6 a ring"),
        (r"about ~5% of \textbf{all the} rings", "about ~5% of all the rings"),
        (r"{The \textit{whole $x_1$ title} in braces}", "The whole $x_1$ title in braces"),
        (r"a } b { c", "a b c"),
        (r"\(a & b\) and \alpha-rays", r"\(a & b\) and α-rays"),
        (
            r"\url{https://a.example/x_y} \href{https://b.example}{there}",
            "https://a.example/x_y there",
        ),
        (r"\unknowncommand rings", r"\unknowncommand rings"),
        (r"$unclosed \emph{math}", r"$unclosed math"),
    ],
)
def test_latex_in_bibtex_is_decoded(read, latex, text):
    (paper,) = read(f"@misc{{a, title = {{Rings}}, abstract = {{{latex}}}}}", "bibtex")
    assert paper.abstract == text


def test_broken_bibtex_entry_loses_only_itself(read):
    outcomes = read(
        """@article{a, title = {A1}, year = {2001}}
@article{b, title = {A2}, abstract = {never closed, year = {2002}

@article{c, title = {A3}}
@article{d title = {A4}}
@misc{e, year = {2005}}
@article{f, title = "A6"}
@article{g, title = {A7""",
        "bibtex",
    )
    assert titles(outcomes) == ["A1", None, "A3", None, None, "A6", None]
    rejections = reasons(outcomes)
    assert rejections[2] == "no title"
    assert rejections[0].endswith(
        "in the entry that begins with '@article{b, title = {A2}, abstract = {never closed, year = {'"
    )
    assert all(
        reason.startswith("broken BibTeX: ")
        for reason in (rejections[0], rejections[1], rejections[3])
    )


def test_duplicate_bibtex_keys_and_fields_lose_nothing(read):
    outcomes = read(
        """@string{jnl = {Invented Letters}}
@article{same, title = {A1}, journal = jnl}
@article{same, title = {A2}, journal = jnl, note = {x}, note = {y}}
@article{same, title = {A3}, journal = jnl # { Supplement}}
""",
        "bibtex",
    )
    assert [(paper.title, paper.venue) for paper in outcomes] == [
        ("A1", "Invented Letters"),
        ("A2", "Invented Letters"),
        ("A3", "Invented Letters Supplement"),
    ]


@pytest.mark.parametrize(
    ("fields", "arxiv_id"),
    [
        ("eprint = {2301.12345v2}, archivePrefix = {arXiv}, primaryClass = {cs.CL}", "2301.12345"),
        ("eprint = {hep-th/9901001}, eprinttype = {arxiv}", "hep-th/9901001"),
        ("eprint = {2301.12345}", "2301.12345"),
        ("eprint = {4713}, eprinttype = {pubmed}", ""),
        ("journal = {arXiv preprint arXiv:2301.12345}", "2301.12345"),
        ("note = {arXiv:2301.12345 [cs]}", "2301.12345"),
    ],
)
def test_arxiv_ids_in_bibtex_are_found(read, fields, arxiv_id):
    (paper,) = read(f"@misc{{a, title = {{Rings}}, {fields}}}", "bibtex")
    assert paper.arxiv_id == arxiv_id
    assert paper.pmid == ("4713" if "pubmed" in fields else "")


def test_biblatex_and_conference_papers_are_read(read):
    one, two = read(
        "@inproceedings{a, title = {Rings}, subtitle = {A Survey}, booktitle = {Proc. Moons}, date = {2019-05-02}}\n"
        "@article(b, title = {Moons}, journaltitle = {Invented Letters}, author = {Okafor, Ada; Lin, Mei})",
        "bibtex",
    )
    assert (one.title, one.venue, one.year) == ("Rings: A Survey", "Proc. Moons", 2019)
    assert (two.venue, two.authors) == ("Invented Letters", ("Ada Okafor", "Mei Lin"))


def test_bibtex_without_entries_is_rejected(read):
    assert reasons(read("@comment{nothing here}\n", "bibtex")) == [
        "no papers found; the file was read as bibtex"
    ]


# --- RIS and MEDLINE -----------------------------------------------------------------------------

RIS = """Provider: An Invented Database

TY  - JOUR
TI  - Warm rings
AU  - Okafor, Ada
AU  - Lin, Mei
PY  - 2018/04/01/
JO  - Inv. Lett.
T2  - Invented Letters
DO  - 10.1234/r.1
UR  - https://journal.example/warm;x=1
AB  - Rings are
 warm, all but
two of them.
AB  - That is new.
AN  - 4713
DB  - PubMed
XX  - of no meaning
ER  -

TY  - CONF
T1  - Cold rings
A1  - Okafor, Ada
Y1  - 2019//
N2  - Rings are cold.
JF  - Proc. Moons
AN  - arXiv:2301.12345
"""


def test_ris_is_read(read):
    warm, cold = read(RIS, "ris")
    assert warm == Paper(
        title="Warm rings",
        abstract="Rings are warm, all but two of them. That is new.",
        authors=("Ada Okafor", "Mei Lin"),
        year=2018,
        venue="Invented Letters",
        url="https://journal.example/warm;x=1",
        doi="10.1234/r.1",
        pmid="4713",
        source="export",
    )
    assert cold == Paper(
        title="Cold rings",
        abstract="Rings are cold.",
        authors=("Ada Okafor",),
        year=2019,
        venue="Proc. Moons",
        arxiv_id="2301.12345",
        source="export",
    )


def test_ris_records_without_start_or_end_are_read(read):
    outcomes = read(
        "TY  - JOUR\nTI  - A1\n"  # no end
        "TY  - JOUR\nAB  - No title.\nER  - \n"
        "TI  - A3\nER  - \n"  # no beginning
        "ER  - \nUK  - odd\nUK  - odder\nTI  - A4\nER  -\n",
        "ris",
    )
    assert titles(outcomes) == ["A1", None, "A3", "A4"]
    assert reasons(outcomes) == ["no title"]


MEDLINE = """
PMID- 4713
OWN - NLM
DP  - 2018 Apr
TI  - Warm rings: a study of forty moons and of the dust
      between them.
LID - S0000-1 [pii]
LID - 10.1234/M.1 [doi]
AB  - BACKGROUND: Rings are cold. RESULTS: They
      are warm.
FAU - Okafor, Ada B
AU  - Okafor AB
FAU - Lin, Mei
AU  - Lin M
CN  - Ring Consortium
PT  - Journal Article
PT  - Retracted Publication
TA  - Invent Lett
JT  - Invented Letters

PMID- 4714
TI  - Cold rings.
AU  - Okafor AB
DP  - 1998 Dec-1999 Jan
AID - 10.1234/m.2 [doi]
TA  - Invent Lett
"""


def test_medline_is_read(read):
    warm, cold = read(MEDLINE, "medline")
    assert warm == Paper(
        title="Warm rings: a study of forty moons and of the dust between them.",
        abstract="BACKGROUND: Rings are cold. RESULTS: They are warm.",
        authors=("Ada B Okafor", "Mei Lin", "Ring Consortium"),
        year=2018,
        venue="Invented Letters",
        doi="10.1234/m.1",
        pmid="4713",
        source="export",
        retracted=True,
    )
    assert (cold.authors, cold.year, cold.venue, cold.doi) == (
        ("Okafor AB",),
        1998,
        "Invent Lett",
        "10.1234/m.2",
    )


# --- XML -----------------------------------------------------------------------------------------

PUBMED = """<?xml version="1.0" ?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2019//EN" "https://dtd.nlm.nih.gov/x.dtd">
<PubmedArticleSet>
<PubmedArticle>
  <MedlineCitation><PMID Version="1">4713</PMID>
    <Article>
      <Journal><JournalIssue><PubDate><Year>2018</Year><Month>Apr</Month></PubDate></JournalIssue>
        <Title>Invented Letters</Title></Journal>
      <ArticleTitle>Warm rings of <i>Luna &amp; co</i> at 10<sup>-3</sup> K</ArticleTitle>
      <ELocationID EIdType="doi">10.1234/P.1</ELocationID>
      <Abstract>
        <AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">Rings are <b>cold</b>.</AbstractText>
        <AbstractText Label="RESULTS">They are warm (p &lt; 0.05), H<sub>2</sub>O aside.</AbstractText>
        <CopyrightInformation>Nobody.</CopyrightInformation>
      </Abstract>
      <AuthorList><Author><LastName>Okafor</LastName><ForeName>Ada B</ForeName></Author>
        <Author><LastName>King</LastName><Initials>M</Initials><Suffix>Jr</Suffix></Author>
        <Author><CollectiveName>Ring Consortium</CollectiveName></Author></AuthorList>
      <PublicationTypeList><PublicationType>Journal Article</PublicationType>
        <PublicationType>Retracted Publication</PublicationType></PublicationTypeList>
    </Article>
  </MedlineCitation>
  <PubmedData><ReferenceList><Reference><ArticleIdList><ArticleId IdType="doi">10.9999/other</ArticleId></ArticleIdList>
  </Reference></ReferenceList></PubmedData>
</PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>4714</PMID><Article><Journal><JournalIssue><PubDate>
  <MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue></Journal>
  <ArticleTitle>Cold rings.</ArticleTitle></Article></MedlineCitation></PubmedArticle>
</PubmedArticleSet>
"""


def test_pubmed_xml_is_read(read):
    warm, cold = read(PUBMED, "pubmed-xml")
    assert warm == Paper(
        title="Warm rings of Luna & co at 10^-3 K",
        abstract="BACKGROUND: Rings are cold. RESULTS: They are warm (p < 0.05), H2O aside.",
        authors=("Ada B Okafor", "M King Jr", "Ring Consortium"),
        year=2018,
        venue="Invented Letters",
        doi="10.1234/p.1",
        pmid="4713",
        source="export",
        retracted=True,
    )
    assert (cold.title, cold.year, cold.pmid, cold.abstract) == ("Cold rings.", 1998, "4714", "")


ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title type="html">ArXiv Query: all:rings</title>
  <entry>
    <id>http://arxiv.org/abs/2301.12345v2</id>
    <published>2023-01-29T10:00:00Z</published><updated>2024-02-01T10:00:00Z</updated>
    <title>Warm
  rings</title>
    <summary>  Rings are
warm. </summary>
    <author><name>Ada Okafor</name><arxiv:affiliation xmlns:arxiv="http://arxiv.org/schemas/atom">X</arxiv:affiliation></author>
    <author><name>Mei Lin</name></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1234/A.1</arxiv:doi>
    <arxiv:journal_ref xmlns:arxiv="http://arxiv.org/schemas/atom">Inv. Lett. 7</arxiv:journal_ref>
    <arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">This paper has been withdrawn</arxiv:comment>
    <link title="pdf" href="http://arxiv.org/pdf/2301.12345v2" rel="related" type="application/pdf"/>
  </entry>
  <entry><id>http://arxiv.org/api/errors#incorrect_id</id><title>Error</title><summary>incorrect id</summary></entry>
</feed>
"""


def test_atom_feed_is_read(read):
    paper, error = read(ATOM, "atom")
    assert paper == Paper(
        title="Warm rings",
        abstract="Rings are warm.",
        authors=("Ada Okafor", "Mei Lin"),
        year=2023,
        venue="Inv. Lett. 7",
        url="http://arxiv.org/abs/2301.12345v2",
        doi="10.1234/a.1",
        arxiv_id="2301.12345",
        source="export",
        retracted=True,
    )
    assert error.reason == "arXiv reported an error: incorrect id"


def test_truncated_xml_keeps_earlier_records(read):
    for content in (
        PUBMED[: PUBMED.index("Cold rings")],
        PUBMED.replace("Cold rings.</ArticleTitle>", "<b>Cold</ArticleTitle>"),
    ):
        outcomes = read(content, "pubmed-xml")
        assert titles(outcomes) == ["Warm rings of Luna & co at 10^-3 K", None]
        assert reasons(outcomes)[0].startswith("broken XML, the rest of the file cannot be read: ")
        assert outcomes[1].record == 2


def test_xml_in_undeclared_windows_1252_is_read(tmp_path):
    path = tmp_path / "old.xml"
    path.write_bytes(PUBMED.split("?>", 1)[1].replace("Cold rings", "Zoë’s rings").encode("cp1252"))
    with open_source(path) as source:
        assert [paper.title for _, paper in source][1] == "Zoë’s rings."


def test_tilde_in_a_bibtex_url_is_kept(tmp_path):
    path = tmp_path / "a.bib"
    path.write_text("@misc{a, title={Dunes}, url={https://example.org/~brandt/dunes}}\n")
    with open_source(path) as source:
        ((_, paper),) = source
    assert paper.url == "https://example.org/~brandt/dunes"
