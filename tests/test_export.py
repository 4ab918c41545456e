"""What is exported can be read back: by Footnote itself, and as its formats are meant."""

import json
import re
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag import Answer, Citation, Claim, Hit, Paper, Passage, Trace, UsageError
from rag.ingest.sources import open_source
from rag.output.export import ANSWER_FORMATS, FORMATS, citekeys, export_answer, export_papers
from rag.text.cleaning import clean

# Each format that can be added again, and as what it is read; one line of JSON Lines is JSON as well.
READ_BACK = {"bibtex": {"bibtex"}, "ris": {"ris"}, "csl-json": {"json"}, "jsonl": {"jsonl", "json"}}
COMPARED = ("title", "abstract", "authors", "year", "venue", "doi", "arxiv_id", "pmid", "retracted")

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
def there_and_back(tmp_path):
    """The papers as they are read from their own export."""

    def travel(papers, form):
        path = tmp_path / "exported"
        path.write_text(export_papers(papers, form), encoding="utf-8")
        with open_source(path) as source:
            assert source.format in READ_BACK[form]
            return [paper for _, paper in source]

    return travel


def essence(papers):
    return [{name: getattr(paper, name) for name in COMPARED} for paper in papers]


# --- what is read back is what was there ------------------------------------------------------------------------


@pytest.mark.parametrize("form", READ_BACK)
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
    ids=lambda paper: "-".join(name for name in COMPARED if getattr(paper, name)),
)
def test_a_paper_is_read_back_as_it_was(paper, form, there_and_back):
    assert essence(there_and_back([paper], form)) == essence([paper])


@pytest.mark.parametrize("form", READ_BACK)
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
def test_special_characters_survive(text, form, there_and_back):
    paper = replace(
        FULL,
        title=f"On {text}",
        abstract=f"We read: {text} – and it survives.",
        venue=f"Annals of {text}",
    )
    assert essence(there_and_back([paper], form)) == essence([paper])


@pytest.mark.parametrize("form", READ_BACK)
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
def test_names_are_read_back_as_they_are_spoken(authors, form, there_and_back):
    assert there_and_back([replace(FULL, authors=authors)], form)[0].authors == authors


def test_a_name_with_a_comma_stays_one_name_where_the_format_can_say_so(there_and_back):
    paper = replace(FULL, authors=("Dept. of Tides, Shore College", "Ada Brandt"))
    for form in ("bibtex", "csl-json"):
        assert there_and_back([paper], form)[0].authors == paper.authors


@pytest.mark.parametrize("form", READ_BACK)
def test_many_papers_keep_their_order_and_none_costs_another(form, there_and_back):
    hostile = replace(
        FULL,
        title="Unbalanced }{ braces } and \\",
        abstract="Ends in a backslash \\",
        authors=("A } B",),
    )
    papers = [FULL, hostile, BARE, replace(BARE, title="Reed Beds")]
    found = there_and_back(papers, form)
    assert [paper.title for paper in found][:1] + [paper.title for paper in found][2:] == [
        "Tidal Gates of the North",
        "Night Owls of Jutland",
        "Reed Beds",
    ]
    assert found[1].title.startswith("Unbalanced ")


@pytest.mark.parametrize("form", FORMATS)
def test_no_papers_are_no_papers(form):
    assert export_papers([], form).strip() in ("", "[]")


def test_an_unknown_format_is_refused_with_those_there_are():
    with pytest.raises(
        UsageError,
        match="no format is called 'word'; there are: markdown, bibtex, ris, csl-json, json",
    ):
        export_papers([BARE], "word")


# What comes out of `clean`, with a beginning that no reader takes for a label or for "no abstract".
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
def test_json_lines_give_back_any_paper(tmp_path_factory, papers):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(export_papers(papers, "jsonl"), encoding="utf-8")
    with open_source(path) as source:
        assert essence(paper for _, paper in source) == essence(papers)


# --- as the formats are meant -----------------------------------------------------------------------------------


def test_bibtex_as_it_is_written():
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
def test_what_latex_would_misread_is_escaped(text, latex):
    assert f"title = {{{latex}}}," in export_papers([Paper(title=text, year=2020)], "bibtex")


def test_ris_as_it_is_written():
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


def test_csl_json_as_it_is_written():
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


def test_json_lines_as_they_are_written():
    assert json.loads(export_papers([BARE], "jsonl")) == {"title": "Night Owls of Jutland"}
    assert export_papers([FULL, BARE], "jsonl").count("\n") == 2


# --- citekeys ---------------------------------------------------------------------------------------------------


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
def test_a_citekey_names_author_year_and_word(paper, key):
    assert citekeys([paper]) == [key]


def test_citekeys_are_unique_even_against_each_other():
    one = Paper("Sparse", authors=("Ada Okafor",), year=2021)
    other = replace(one, title="Sparseb")
    assert citekeys([one, one, other, one]) == [
        "okafor2021sparse",
        "okafor2021sparseb",
        "okafor2021sparsebb",
        "okafor2021sparsec",
    ]
    many = citekeys([one] * 60 + [other] * 60)
    assert len(set(many)) == 120
    assert many[25:28] == ["okafor2021sparsez", "okafor2021sparseaa", "okafor2021sparseab"]


# --- Markdown ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "[click](javascript:alert(1)) and ![pixel](https://evil.example/p.png)",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "# heading, *stars*, __bars__, `code` and ```fences```",
    "a | b | c \\ d \\* e",
    "[^1]: a footnote of its own [^2]",
    "<https://evil.example> ends here *",
    "- item 1. item > quote",
    "trailing backslash \\",
]


def parts(markdown):
    """Text, kinds of mark-up, and addresses in a piece of Markdown."""
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


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_title_stays_text_in_markdown(text):
    paper = replace(FULL, title=text, venue=text, authors=(text,))
    shown, kinds, addresses = parts(export_papers([paper], "markdown"))
    assert shown == f"{text} — {text}, 2021. {text}. https://shores.example/gates"
    assert addresses == ["https://shores.example/gates"]
    assert kinds == {
        "bullet_list_open", "list_item_open", "paragraph_open", "em_open", "text", "em_close", "link_open",
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
def test_an_address_cannot_break_out_of_its_brackets(paper, address):
    assert export_papers([paper], "markdown") == f"- *Night Owls of Jutland*. <{address}>\n"


def test_markdown_as_it_is_written():
    assert export_papers([replace(FULL, retracted=True), BARE], "markdown") == (
        "- *Tidal Gates of the North* — Ada Brandt et al., 2021. Journal of Shores. **Retracted.** "
        "<https://shores.example/gates>\n"
        "- *Night Owls of Jutland*.\n"
    )


# --- answers ----------------------------------------------------------------------------------------------------

OWLS = Paper(title="Night Owls", abstract="Owls hunt at dusk.", retracted=True, id="owls-1")
CITED = (
    Citation(1, FULL, "Gates open twice a day.", 0, 23),
    Citation(2, OWLS, "Owls hunt at dusk.", 0, 18),
    Citation(3, FULL, "They save 12 parts in a hundred.", 24, 56),
)


def answer_of(*claims, question="When do gates open?", citations=CITED):
    trace = Trace("tiny", "none", "quote", "", "0123")
    return Answer(question, "as shown", claims, citations, (), False, "", 0.9, trace)


def quoted(text, *numbers):
    return Claim(text, "quoted", numbers, True, 0.5)


def written(text, *numbers):
    return Claim(text, "generated", numbers, True, 0.5)


ANSWERED = answer_of(quoted("Gates open twice a day.", 1), written("Both rest at noon.", 1, 2, 3))
HITS = tuple(Hit(paper, 0.5, 1, Passage("p", "", 0, 9)) for paper in (FULL, OWLS))
SILENT = replace(
    answer_of(citations=()),
    text="Your library does not say. It is empty.",
    abstained=True,
    reason="x",
    hits=HITS,
)


def test_an_answer_for_pandoc_holds_its_references():
    assert export_answer(ANSWERED, "pandoc") == (
        "**When do gates open?**\n\n"
        "“Gates open twice a day.” [@brandt2021tidal] Both rest at noon [@brandt2021tidal; @night].\n\n"
        "**Retracted:** [@night].\n\n"
        "---\nreferences:\n"
        '- {"id": "brandt2021tidal", "type": "article-journal", "title": "Tidal Gates of the North", "author": '
        '[{"given": "Ada", "family": "Brandt"}, {"given": "Zoë", "family": "Müller"}, '
        '{"given": "Jean-Luc", "family": "O\\\\\'Neill"}], "issued": {"date-parts": [[2021]]}, '
        '"container-title": "Journal of Shores", "DOI": "10\\\\.5555/shores.2021.7", "PMID": "99000777", '
        '"URL": "https://shores.example/gates"}\n'
        '- {"id": "night", "type": "article", "title": "Night Owls"}\n'
        "---\n"
    )


@pytest.mark.parametrize(
    ("claim", "shown"),
    [
        (quoted("Do gates open? Yes.", 1), "“Do gates open? Yes.” [@brandt2021tidal]"),
        (written("Do they?", 2), "Do they? [@night]"),
        (written("They wait...", 2), r"They wait.\.\. [@night]"),
        (written("They wait.", 3, 1), "They wait [@brandt2021tidal]."),
    ],
)
def test_a_claim_cites_for_pandoc(claim, shown):
    assert export_answer(answer_of(claim), "pandoc").split("\n\n")[1] == shown


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
def test_text_of_strangers_stays_text_for_pandoc(text, shown):
    answer = answer_of(
        quoted("Owls.", 1),
        question=text,
        citations=(Citation(1, Paper(text, authors=(text,)), "", 0, 0),),
    )
    head, _, tail = export_answer(answer, "pandoc").partition("\n")
    assert head == f"**{shown}**"
    (reference,) = [line for line in tail.splitlines() if line.startswith("- ")]
    assert json.loads(reference[2:])["title"] == shown


@given(st.text(st.sampled_from([*string.punctuation, "a", "é", "1", " ", "\n"]), min_size=1))
def test_for_pandoc_nothing_is_lost_and_nothing_active_is_bare(text):
    answer = replace(SILENT, text=text, hits=())
    shown = (
        export_answer(answer, "pandoc")
        .removeprefix("**When do gates open?**\n\n")
        .removesuffix("\n")
    )
    assert re.sub(r"\\([!-/:-@[-`{-~])", r"\1", shown) == " ".join(text.split())
    bare = re.sub(r"\\[!-/:-@[-`{-~]", "", shown)
    assert not set(bare) & set("\\`*_{}[]<>#|!@$^~&'\"")
    assert "\n" not in bare


@pytest.mark.parametrize("form", ["bibtex", "ris", "csl-json"])
def test_the_papers_cited_are_exported_once_in_the_order_of_their_footnotes(form):
    assert export_answer(ANSWERED, form) == export_papers([FULL, OWLS], form)


def test_the_keys_are_those_that_pandoc_cites_with():
    twins = tuple(
        Citation(n, replace(OWLS, id=f"owls-{n}"), "Owls hunt at dusk.", 0, 18) for n in (1, 2)
    )
    answer = answer_of(written("They hunt.", 2, 1), citations=twins)
    assert "They hunt [@nightb; @night]." in export_answer(answer, "pandoc")
    assert [item["id"] for item in json.loads(export_answer(answer, "csl-json"))] == [
        "night",
        "nightb",
    ]
    assert re.findall(r"^@misc{(\w+),", export_answer(answer, "bibtex"), re.MULTILINE) == [
        "night",
        "nightb",
    ]


def test_an_answer_as_markdown_and_as_json_is_what_it_says_of_itself():
    assert export_answer(ANSWERED, "markdown") == ANSWERED.to_markdown()
    assert export_answer(ANSWERED, "json") == ANSWERED.to_json() + "\n"


def test_what_the_library_does_not_say_is_exported_too():
    assert export_answer(SILENT, "pandoc") == (
        "**When do gates open?**\n\nYour library does not say. It is empty.\n\n"
        "- *Tidal Gates of the North*\n- *Night Owls*\n"
    )
    assert [export_answer(SILENT, form) for form in ("bibtex", "ris", "csl-json")] == [
        "",
        "",
        "[]\n",
    ]


def test_an_unknown_format_of_an_answer_is_refused_with_those_there_are():
    assert list(ANSWER_FORMATS) == ["markdown", "pandoc", "bibtex", "ris", "csl-json", "json"]
    with pytest.raises(
        UsageError,
        match="no format is called 'jsonl'; there are: markdown, pandoc, bibtex, ris, csl-",
    ):
        export_answer(ANSWERED, "jsonl")


def test_an_entity_and_an_empty_line_stay_text_in_markdown():
    answer = replace(SILENT, question="AT&amp;T &#35;\n\n- or R&D?", hits=())
    shown, kinds, _ = parts(answer.to_markdown().split("\n\n")[0])
    assert shown == "AT&amp;T &#35; - or R&D?"
    assert kinds == {"paragraph_open", "strong_open", "text", "strong_close", "paragraph_close"}


# --- footnote ask --format --------------------------------------------------------------------------------------

ASK = (
    "ask",
    "Which papers shrink the KV cache, and by how much?",
    "--model",
    "none",
    "--style",
    "quote",
)


def test_the_command_gives_an_answer_in_each_format(footnote, small_library):
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
    answer, other = json.loads(ask("--json")), json.loads(ask("-f", "json"))
    assert answer | {"trace": {}} == other | {"trace": {}}
    assert (answer["trace"]["settings"], answer["trace"]["reader"]) == ({"style": "quote"}, "none")


def test_the_command_says_why_no_paper_is_cited(footnote, small_library):
    question = "Who won the football world cup?"
    run = footnote("ask", question, "--library", small_library, "--model", "none", "-f", "csl-json")
    assert (run.code, run.out) == (0, "[]\n")
    assert run.err == (
        "footnote: Your library does not say. None of its 12 papers bears on the question. So no paper is cited.\n"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["-f", "word"],
            "no format is called 'word'; there are: text, markdown, pandoc, bibtex, ris, csl-json, json",
        ),
        (["-f", "ris", "--json"], "say --json or --format, not both"),
        (["--style", "poem"], "no style is called 'poem'; there are: auto, quote, write"),
        (["--markdown"], "No such option: --markdown"),
    ],
)
def test_the_command_refuses_what_means_nothing(footnote, small_library, options, told):
    run = footnote("ask", "When?", "--library", small_library, *options)
    assert (run.code, run.out) == (2, "")
    assert told in run.err
