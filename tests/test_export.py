"""Exports: papers can be read back, formats are well-formed, untrusted text is escaped."""

import json
import re
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag import Answer, Citation, Claim, Hit, Paper, Passage, Trace, UsageError
from rag.ingest.sources.source import open_source
from rag.output.export import (
    ANSWER_FORMATS,
    PAPER_FORMATS,
    assign_citekeys,
    export_answer,
    export_papers,
)
from rag.text.cleaning import clean

# Formats that `add` reads, and what they are detected as; one line of JSON Lines is also JSON.
DETECTED_FORMATS = {
    "bibtex": {"bibtex"},
    "ris": {"ris"},
    "csl-json": {"json"},
    "json": {"json"},
    "jsonl": {"jsonl", "json"},
}
COMPARED_FIELDS = (
    "title",
    "abstract",
    "authors",
    "year",
    "venue",
    "doi",
    "arxiv_id",
    "pmid",
    "retracted",
)

FULL = Paper(
    title="Tidal Gates of the North",
    abstract="Gates open twice a day. They save 12 parts in a hundred.",
    authors=("Ada Brandt", "Zoë Müller", "Jean-Luc O'Neill"),
    year=2021,
    venue="Journal of Shores",
    url="https://shores.example/gates",
    doi="10.5555/shores.2021.7",
    arxiv_id="2103.99001",
    pmid="99000777",
)
BARE = Paper(title="Night Owls of Jutland")


@pytest.fixture
def round_trip(tmp_path):
    """Read papers back from their own export."""

    def export_and_read(papers, format_name):
        path = tmp_path / "exported"
        path.write_text(export_papers(papers, format_name), encoding="utf-8")
        with open_source(path) as source:
            assert source.format in DETECTED_FORMATS[format_name]
            return [paper for _, paper in source]

    return export_and_read


def comparable(papers):
    return [{name: getattr(paper, name) for name in COMPARED_FIELDS} for paper in papers]


# --- round trips ------------------------------------------------------


@pytest.mark.parametrize("format_name", DETECTED_FORMATS)
@pytest.mark.parametrize(
    "paper",
    [
        FULL,
        BARE,
        replace(FULL, doi="", url=""),
        replace(FULL, doi="", arxiv_id="", url=""),
        replace(FULL, arxiv_id="", pmid="", url=""),
        replace(FULL, arxiv_id="", pmid="", doi=""),
        replace(FULL, arxiv_id="cs/0112017"),
        replace(FULL, retracted=True),
        replace(BARE, retracted=True),
        replace(BARE, abstract="Owls hunt at dusk."),
        replace(BARE, year=1851, venue="Notes & Queries"),
        replace(
            FULL, doi="10.1002/(sici)1097-0258(19980815)17:15<1661::aid-sim968>3.0.co;2-2", url=""
        ),
        replace(FULL, doi="10.5555/odd{brace", url=""),
        replace(FULL, url="https://shores.example/a_b?x=1&y={2}#top"),
    ],
    ids=lambda paper: "-".join(name for name in COMPARED_FIELDS if getattr(paper, name)),
)
def test_exported_papers_are_read_back_unchanged(paper, format_name, round_trip):
    assert comparable(round_trip([paper], format_name)) == comparable([paper])


@pytest.mark.parametrize("format_name", DETECTED_FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        "Save 20% of R&D with #1 of snake_case",
        "Costs fall from $9 to $5, by 40% & more",
        "Bounds of $O(n^2 \\log n)$ and $\\alpha_{1} \\leq 2^{k}$ hold",
        "Sets {1, 2} and {3} in braces",
        "One brace in a formula $\\{x\\}$ and {outside}",
        "About ~30 of C:\\ and a\\",
        "Zoë Müller, Łódź, Ødegård and Gödel’s 光合作用 at 31 °C ± 2 µm",
        'She said "no" and ‘yes’, it\'s “so”',
        "[Links](https://x.example) | `code` *and* _more_ ![img](y)",
        "If a < b and c > d, then <mask> & x",
        "p = 0.05; q: 3, (r) [s] @t =u+v",
        "TY - JOUR within a sentence and ER - too",
        "@article{key, title = {x}} within a sentence",
    ],
)
def test_special_characters_survive_a_round_trip(text, format_name, round_trip):
    paper = replace(
        FULL,
        title=f"On {text}",
        abstract=f"We read: {text} – and it survives.",
        venue=f"Annals of {text}",
    )
    assert comparable(round_trip([paper], format_name)) == comparable([paper])


@pytest.mark.parametrize("format_name", DETECTED_FORMATS)
@pytest.mark.parametrize(
    "authors",
    [
        ("Plato",),
        ("Ada Brandt",),
        ("Ludwig van Beethoven", "Ilse van der Berg"),
        ("Sam Okafor Jr.", "Henry Field III"),
        ("The ATLAS Collaboration", "Ada Brandt"),
        ("Institute for Health and Care", "Ada Brandt"),
        ("J. R. R. Field", "B Okafor", "Mei-Ling Chou"),
        ("王小明", "José García Márquez", "Łukasz Wiśniewski"),
        ("R&D Group", "Ada Brandt"),
    ],
    ids=" and ".join,
)
def test_author_names_survive_a_round_trip(authors, format_name, round_trip):
    assert round_trip([replace(FULL, authors=authors)], format_name)[0].authors == authors


def test_a_name_with_a_comma_survives_in_formats_that_can_express_it(round_trip):
    paper = replace(FULL, authors=("Dept. of Tides, Shore College", "Ada Brandt"))
    for format_name in ("bibtex", "csl-json"):
        assert round_trip([paper], format_name)[0].authors == paper.authors


@pytest.mark.parametrize("format_name", DETECTED_FORMATS)
def test_papers_keep_their_order_beside_one_that_needs_repair(format_name, round_trip):
    unbalanced = replace(
        FULL,
        title="Unbalanced }{ braces } and \\",
        abstract="Ends in a backslash \\",
        authors=("A } B",),
    )
    papers = [FULL, unbalanced, BARE, replace(BARE, title="Reed Beds")]
    read = round_trip(papers, format_name)
    titles = [paper.title for paper in read]
    assert titles[:1] + titles[2:] == [
        "Tidal Gates of the North",
        "Night Owls of Jutland",
        "Reed Beds",
    ]
    assert titles[1].startswith("Unbalanced ")


@pytest.mark.parametrize("format_name", PAPER_FORMATS)
def test_no_papers_export_as_an_empty_document(format_name):
    assert export_papers([], format_name).strip() in ("", "[]")


def test_an_unknown_paper_format_is_refused():
    with pytest.raises(
        UsageError,
        match="unknown format 'word'; choose from: markdown, bibtex, ris, csl-json, json, jsonl",
    ):
        export_papers([BARE], "word")


# Output of `clean`; its beginning is neither a field label nor "no abstract" to any parser.
some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60).map(
    lambda text: clean(f"On {text} tides")
)
names = st.lists(
    st.from_regex(r"[A-Z][a-zäöüéñ]{1,8} [A-Z][a-zäöüéñ]{2,8}(-[A-Z][a-z]{2,8})?", fullmatch=True),
    max_size=5,
).map(tuple)


@given(
    st.lists(
        st.builds(
            Paper,
            title=some_text,
            abstract=some_text | st.just(""),
            authors=names,
            year=st.none() | st.integers(1900, 2100),
            venue=some_text | st.just(""),
            doi=st.just("")
            | st.from_regex(r"10\.5555/[a-z0-9._()-]{0,12}[a-z0-9]", fullmatch=True),
            arxiv_id=st.just("") | st.from_regex(r"2[0-4]0[1-9]\.[0-9]{5}", fullmatch=True),
            pmid=st.just("") | st.from_regex(r"[1-9][0-9]{3,7}", fullmatch=True),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_paper_survives_json_lines(tmp_path_factory, papers):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(export_papers(papers, "jsonl"), encoding="utf-8")
    with open_source(path) as source:
        assert comparable(paper for _, paper in source) == comparable(papers)


# --- output of each format -----------------------------------------------------------------


def test_bibtex_output():
    assert export_papers(
        [replace(FULL, title="R&D of $x_1$ at 5%", authors=("Ada Brandt", "Plato"))], "bibtex"
    ) == (
        "@article{brandt2021rd,\n"
        "\tauthor = {Brandt, Ada and {Plato}},\n"
        "\ttitle = {R\\&D of $x_1$ at 5\\%},\n"
        "\tjournal = {Journal of Shores},\n"
        "\tabstract = {Gates open twice a day. They save 12 parts in a hundred.},\n"
        "\tyear = {2021},\n"
        "\tdoi = {10.5555/shores.2021.7},\n"
        "\teprint = {2103.99001},\n"
        "\tarchiveprefix = {arXiv},\n"
        "\tpmid = {99000777},\n"
        "\turl = {https://shores.example/gates}\n"
        "}\n"
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50% of R&D, #1, a_b", r"50\% of R\&D, \#1, a\_b"),
        (r"already 20\% and \emph{more} of it", r"already 20\% and \emph{more} of it"),
        ("x^2 and ~3", r"x{\textasciicircum}2 and {\textasciitilde}3"),
        ("from $5 to $9", r"from \$5 to \$9"),
        ("$a_1 & b$ & c", r"$a_1 & b$ \& c"),
        ("a {b} c", r"a \{b\} c"),
        ("a } b", "a ) b"),
        (r"r\"ole of a\b{c}", r"r\"ole of a\b{c}"),
    ],
)
def test_bibtex_escapes_what_latex_would_misread(text, latex):
    assert f"title = {{{latex}}}," in export_papers([Paper(title=text, year=2020)], "bibtex")


def test_ris_output():
    lines = export_papers([replace(FULL, retracted=True)], "ris").strip().splitlines()
    assert lines[0] == "TY  - JOUR"
    assert lines[-1].strip() == "ER  -"
    assert {
        "AU  - Brandt, Ada",
        "PY  - 2021",
        "JO  - Journal of Shores",
        "DO  - 10.5555/shores.2021.7",
    } < set(lines)
    assert {"N1  - arXiv:2103.99001", "N1  - This paper has been retracted."} < set(lines)
    assert all(re.match(r"[A-Z][A-Z0-9]  -", line) for line in lines)


def test_csl_json_output():
    (item,) = json.loads(
        export_papers([replace(FULL, authors=("Ludwig van Beethoven", "Plato"))], "csl-json")
    )
    assert item == {
        "id": "beethoven2021tidal",
        "type": "article-journal",
        "title": "Tidal Gates of the North",
        "author": [
            {"given": "Ludwig", "non-dropping-particle": "van", "family": "Beethoven"},
            {"literal": "Plato"},
        ],
        "issued": {"date-parts": [[2021]]},
        "container-title": "Journal of Shores",
        "DOI": "10.5555/shores.2021.7",
        "PMID": "99000777",
        "URL": "https://shores.example/gates",
        "abstract": "Gates open twice a day. They save 12 parts in a hundred.",
        "note": "arXiv:2103.99001",
    }


def test_json_lines_output():
    assert json.loads(export_papers([BARE], "jsonl")) == {"title": "Night Owls of Jutland"}
    assert export_papers([FULL, BARE], "jsonl").count("\n") == 2


# --- citekeys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paper", "key"),
    [
        (Paper("The Sparse Attention", authors=("Ada Okafor",), year=2021), "okafor2021sparse"),
        (Paper("On k-NN", authors=("Zoë Müller",), year=1999), "muller1999knn"),
        (Paper("Tides", authors=("Sam Okafor Jr.",)), "okafortides"),
        (Paper("光合作用", authors=("王小明",)), "paper"),
        (Paper("The of and"), "paper"),
    ],
)
def test_citekey_is_author_year_and_first_title_word(paper, key):
    assert assign_citekeys([paper]) == [key]


def test_citekeys_are_unique():
    first = Paper("Sparse", authors=("Ada Okafor",), year=2021)
    second = replace(first, title="Sparseb")
    assert assign_citekeys([first, first, second, first]) == [
        "okafor2021sparse",
        "okafor2021sparseb",
        "okafor2021sparsebb",
        "okafor2021sparsec",
    ]
    many = assign_citekeys([first] * 60 + [second] * 60)
    assert len(set(many)) == 120
    assert many[25:28] == ["okafor2021sparsez", "okafor2021sparseaa", "okafor2021sparseab"]


# --- Markdown ---------------------------------------------------------------------------------

UNTRUSTED_TEXTS = [
    "[click](javascript:alert(1)) and ![pixel](https://evil.example/p.png)",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "# heading, *stars*, __bars__, `code` and ```fences```",
    "a | b | c \\ d \\* e",
    "[^1]: a footnote of its own [^2]",
    "<https://evil.example> ends here *",
    "- item 1. item > quote",
    "trailing backslash \\",
]


def parse_markdown(markdown):
    """Return the text, the kinds of markup and the addresses in a piece of Markdown."""
    text, kinds, addresses = "", [], []
    for block in MarkdownIt("commonmark").parse(markdown):
        for token in block.children or [block]:
            kinds.append(token.type)
            addresses += [str(token.attrs[name]) for name in ("href", "src") if name in token.attrs]
            text += (
                token.content
                if token.type in ("text", "code_inline", "html_inline", "html_block")
                else ""
            )
    return text, set(kinds), addresses


@pytest.mark.parametrize("text", UNTRUSTED_TEXTS)
def test_markdown_export_escapes_untrusted_text(text):
    paper = replace(FULL, title=text, venue=text, authors=(text,))
    shown, kinds, addresses = parse_markdown(export_papers([paper], "markdown"))
    assert shown == f"{text} — {text}, 2021. {text}. https://shores.example/gates"
    assert addresses == ["https://shores.example/gates"]
    assert kinds == {
        "bullet_list_open", "list_item_open", "paragraph_open", "em_open", "text", "em_close",
        "link_open",
        "link_close", "paragraph_close", "list_item_close", "bullet_list_close",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("paper", "address"),
    [
        (
            replace(BARE, url="https://x.example/><script>alert(1)</script>"),
            "https://x.example/%3E%3Cscript%3Ealert(1)%3C/script%3E",
        ),
        (replace(BARE, doi="10.1002/a<1:b>3.0"), "https://doi.org/10.1002/a%3C1:b%3E3.0"),
    ],
)
def test_markdown_export_encodes_addresses(paper, address):
    assert export_papers([paper], "markdown") == f"- *Night Owls of Jutland*. <{address}>\n"


def test_markdown_output():
    assert export_papers([replace(FULL, retracted=True), BARE], "markdown") == (
        "- *Tidal Gates of the North* — Ada Brandt et al., 2021. Journal of Shores. **Retracted.** "
        "<https://shores.example/gates>\n"
        "- *Night Owls of Jutland*.\n"
    )


# --- answers ----------------------------------------------------------------------------------

OWLS = Paper(title="Night Owls", abstract="Owls hunt at dusk.", retracted=True, id="owls-1")
CITED = (
    Citation(1, FULL, "Gates open twice a day.", 0, 23),
    Citation(2, OWLS, "Owls hunt at dusk.", 0, 18),
    Citation(3, FULL, "They save 12 parts in a hundred.", 24, 56),
)


def make_answer(*claims, question="When do gates open?", citations=CITED):
    trace = Trace("tiny", "none", "quote", "", "0123")
    return Answer(question, "as shown", claims, citations, (), False, "", 0.9, trace)


def quoted_claim(text, *numbers):
    return Claim(text, "quoted", numbers, True, 0.5)


def generated_claim(text, *numbers, heading=""):
    return Claim(text, "generated", numbers, True, 0.5, heading=heading)


ANSWERED = make_answer(
    quoted_claim("Gates open twice a day.", 1), generated_claim("Both rest at noon.", 1, 2, 3)
)
HITS = tuple(Hit(paper, 0.5, 1, Passage("p", "", 0, 9)) for paper in (FULL, OWLS))
ABSTENTION = replace(
    make_answer(citations=()),
    text="Your library does not say. It is empty.",
    abstained=True,
    reason="x",
    hits=HITS,
)


def test_pandoc_output_contains_its_references():
    assert export_answer(ANSWERED, "pandoc") == (
        "**When do gates open?**\n\n"
        "Both rest at noon [@brandt2021tidal; @night].\n\n"
        "**Tidal Gates of the North**\n\n"
        "- “Gates open twice a day.” [@brandt2021tidal]\n"
        "- “They save 12 parts in a hundred.” [@brandt2021tidal]\n\n"
        "**Night Owls**\n\n"
        "- “Owls hunt at dusk.” [@night]\n\n"
        "**Retracted:** [@night].\n\n"
        "---\nreferences:\n"
        '- {"id": "brandt2021tidal", "type": "article-journal", '
        '"title": "Tidal Gates of the North", "author": '
        '[{"given": "Ada", "family": "Brandt"}, {"given": "Zoë", "family": "Müller"}, '
        '{"given": "Jean-Luc", "family": "O\\\\\'Neill"}], "issued": {"date-parts": [[2021]]}, '
        '"container-title": "Journal of Shores", "DOI": "10\\\\.5555/shores.2021.7", '
        '"PMID": "99000777", '
        '"URL": "https://shores.example/gates"}\n'
        '- {"id": "night", "type": "article", "title": "Night Owls"}\n'
        "---\n"
    )


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        (generated_claim("Do they?", 2), "Do they? [@night]"),
        (generated_claim("They wait...", 2), r"They wait.\.\. [@night]"),
        (generated_claim("They wait.", 3, 1), "They wait [@brandt2021tidal]."),
        (
            generated_claim("They wait.", 2, heading="*Owls*"),
            r"- **\*Owls\***: They wait [@night].",
        ),
    ],
)
def test_pandoc_puts_citations_before_the_full_stop(claim, shown):
    assert export_answer(make_answer(claim), "pandoc").split("\n\n")[1] == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[@owl] and @owl2020 for $5 or $6", r"\[\@owl\] and \@owl2020 for \$5 or \$6"),
        ('x^2^ of H~2~O, it\'s "so"', r"x\^2\^ of H\~2\~O, it\'s \"so\""),
        ("wait -- or --- wait... 3.5", r"wait -\- or -\-\- wait.\.\. 3.5"),
        ("R&D &lt; \\alpha {.x} <b>", r"R\&D \&lt; \\alpha \{.x\} \<b\>"),
        ("1. Owls", r"1\. Owls"),
        ("(ii) Owls", r"\(ii\) Owls"),
        ("- Owls", r"\- Owls"),
        (": Owls", r"\: Owls"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_pandoc_output_escapes_untrusted_text(text, shown):
    answer = make_answer(
        quoted_claim("Owls.", 1),
        question=text,
        citations=(Citation(1, Paper(text, authors=(text,)), "", 0, 0),),
    )
    head, _, tail = export_answer(answer, "pandoc").partition("\n")
    assert head == f"**{shown}**"
    (reference,) = [line for line in tail.splitlines() if line.startswith("- {")]
    assert json.loads(reference[2:])["title"] == shown


@given(st.text(st.sampled_from([*string.punctuation, "a", "é", "1", " ", "\n"]), min_size=1))
def test_pandoc_escaping_loses_nothing_and_leaves_nothing_active(text):
    answer = replace(ABSTENTION, text=text, hits=())
    shown = (
        export_answer(answer, "pandoc")
        .removeprefix("**When do gates open?**\n\n")
        .removesuffix("\n")
    )
    assert re.sub(r"\\([!-/:-@[-`{-~])", r"\1", shown) == " ".join(text.split())
    bare = re.sub(r"\\[!-/:-@[-`{-~]", "", shown)
    assert not set(bare) & set("\\`*_{}[]<>#|!@$^~&'\"")
    assert "\n" not in bare


@pytest.mark.parametrize("format_name", ["bibtex", "ris", "csl-json"])
def test_cited_papers_are_exported_once_in_footnote_order(format_name):
    assert export_answer(ANSWERED, format_name) == export_papers([FULL, OWLS], format_name)


def test_exported_keys_match_the_pandoc_citations():
    twins = tuple(
        Citation(n, replace(OWLS, id=f"owls-{n}"), "Owls hunt at dusk.", 0, 18) for n in (1, 2)
    )
    answer = make_answer(generated_claim("They hunt.", 2, 1), citations=twins)
    assert "They hunt [@nightb; @night]." in export_answer(answer, "pandoc")
    assert [item["id"] for item in json.loads(export_answer(answer, "csl-json"))] == [
        "night",
        "nightb",
    ]
    assert re.findall(r"^@misc{(\w+),", export_answer(answer, "bibtex"), re.MULTILINE) == [
        "night",
        "nightb",
    ]


def test_answer_export_equals_its_own_markdown_and_json():
    assert export_answer(ANSWERED, "markdown") == ANSWERED.to_markdown()
    assert export_answer(ANSWERED, "json") == ANSWERED.to_json() + "\n"


def test_an_abstention_is_exported():
    assert export_answer(ABSTENTION, "pandoc") == (
        "**When do gates open?**\n\nYour library does not say. It is empty.\n\n"
        "- *Tidal Gates of the North*\n- *Night Owls*\n"
    )
    assert [
        export_answer(ABSTENTION, format_name) for format_name in ("bibtex", "ris", "csl-json")
    ] == [
        "",
        "",
        "[]\n",
    ]


def test_an_unknown_answer_format_is_refused():
    assert list(ANSWER_FORMATS) == ["markdown", "pandoc", "bibtex", "ris", "csl-json", "json"]
    with pytest.raises(
        UsageError,
        match="unknown format 'jsonl'; choose from: markdown, pandoc, bibtex, ris, csl-",
    ):
        export_answer(ANSWERED, "jsonl")


def test_markdown_escapes_entities_and_blank_lines():
    answer = replace(ABSTENTION, question="AT&amp;T &#35;\n\n- or R&D?", hits=())
    shown, kinds, _ = parse_markdown(answer.to_markdown().split("\n\n")[0])
    assert shown == "AT&amp;T &#35; - or R&D?"
    assert kinds == {"paragraph_open", "strong_open", "text", "strong_close", "paragraph_close"}


# --- ask --format --------------------------------------------------------------------

ASK = (
    "ask",
    "Which papers shrink the KV cache, and by how much?",
    "--model",
    "none",
    "--style",
    "quote",
)


def test_ask_prints_each_format(footnote, small_library):
    def ask(*options):
        run = footnote(*ASK, "--library", small_library, *options)
        assert (run.code, run.err) == (0, "")
        return run.out

    assert ask("--format", "text") == ask()
    cites = re.findall(r"\[@(\w+)]", ask("--format", "pandoc"))
    assert cites[0] == "okafor2024sliding"
    papers = json.loads(ask("-f", "csl-json"))
    assert [paper["id"] for paper in papers] == list(dict.fromkeys(cites))
    assert re.findall(r"^@\w+{(\w+),", ask("-f", "bibtex"), re.MULTILINE) == [
        paper["id"] for paper in papers
    ]
    assert ask("-f", "ris").count("TY  - JOUR") == len(papers)
    assert ask("-f", "markdown").count("[^1]: ") == 1
    answer, same_answer = json.loads(ask("--json")), json.loads(ask("-f", "json"))
    assert answer | {"trace": {}} == same_answer | {"trace": {}}
    assert answer["trace"]["settings"] == {"style": "quote"}


def test_ask_explains_why_no_papers_are_cited(footnote, small_library):
    question = "Who won the football world cup?"
    run = footnote("ask", question, "--library", small_library, "--model", "none", "-f", "csl-json")
    assert (run.code, run.out) == (0, "[]\n")
    assert run.err == (
        "footnote: Your library does not say. No paper here answers this. No papers are cited.\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["-f", "word"],
            "unknown format 'word'; choose from: text, markdown, pandoc, bibtex, ris, csl-json",
        ),
        (["-f", "ris", "--json"], "use either --json or --format, not both"),
        (["--style", "poem"], "unknown style 'poem'; choose from: auto, quote, write"),
        (["--markdown"], "No such option: --markdown"),
    ],
)
def test_ask_refuses_invalid_formats_and_styles(footnote, small_library, options, message):
    run = footnote("ask", "When?", "--library", small_library, *options)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
