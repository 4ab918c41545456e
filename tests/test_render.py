"""Records as HTML: what a reader sees of answers, sources and papers, and that no stranger's text is ever active."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_mathematics import ATTRIBUTES, HOSTILE, MATHML, Parsed

from rag import (
    AddReport,
    Answer,
    Assistant,
    Check,
    Citation,
    Claim,
    Hit,
    Paper,
    Passage,
    Rejection,
    Trace,
)
from rag.records import Merge
from ui.render.html import (
    added_html,
    answer_html,
    failure_html,
    health_html,
    paper_html,
    pieces_html,
    sources_html,
)

TIDES = Paper(
    "Tides on $n$ shores",
    "Tides rise. Tides fall. They rise again.",
    ("Ada Byron", "Kurt Okafor", "Li Na"),
    2021,
    "Journal of Tides",
    doi="10.1000/tides",
    arxiv_id="2101.00001",
    source="/home/reader/papers/tides.bib",
    id="tides-1a2b3c",
)
MOONS = Paper("Moons", "Moons pull.", ("Io",), id="moons-4d5e6f")
STARS = Paper("Stars", id="stars-7a8b9c", retracted=True)


def trace(**changes):
    return replace(
        Trace("e", "none", "quote", "", "", seconds={"read": 0.5, "write": 0.75}), **changes
    )


def cite(number, paper, quote):
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def quoted(text, *numbers):
    return Claim(text, "quoted", numbers, supported=True, score=1.0)


def written(text, *numbers, supported=True):
    return Claim(text, "generated", numbers, supported=supported, score=1.0)


def answered(claims, citations, **changes):
    return Answer("?", "", tuple(claims), tuple(citations), (), False, "", 0.96, trace(**changes))


def abstained(*papers, **changes):
    hits = tuple(
        Hit(paper, 0.5, rank, Passage("", paper.id, 0, 0)) for rank, paper in enumerate(papers, 1)
    )
    return Answer(
        "?", "", (), (), hits, True, "None of its 9 papers bears on it.", 0.214, trace(**changes)
    )


RISE, FALL, AGAIN = (
    cite(1, TIDES, "Tides rise."),
    cite(2, TIDES, "Tides fall."),
    cite(3, TIDES, "They rise again."),
)
PULL = cite(4, MOONS, "Moons pull.")


# --- questions, pieces, failures


def test_pieces_of_an_answer_show_formulas():
    html = pieces_html("“Costs <b>\n $n$ and $m")
    assert html == (
        '<div class="answer pending">“Costs &lt;b&gt; <math><mrow><mi>n</mi></mrow></math> and $m</div>'
    )


def test_a_failure_says_what_failed_and_that_it_can_be_asked_again():
    page = Parsed(failure_html("the model in $HOME/<b> is\nnot there"))
    assert page.elements[0] == ("div", {"class": "answer failed"})
    assert "the model in $HOME/<b> is not there" in page.text
    assert "asked again" in page.text


# --- answers


def test_only_what_is_literal_stands_in_quotation_marks():
    html = answer_html(
        answered([quoted("Tides rise.", 1), written("They <i>fall</i>.", 2)], [RISE, FALL])
    )
    assert "“Tides rise.”" in html
    assert "They &lt;i&gt;fall&lt;/i&gt;." in html
    assert html.count("“") == 1


def test_a_number_leads_to_its_sentence_and_names_the_paper():
    html = answer_html(answered([quoted("Tides rise.", 1), quoted("Tides rise.", 1)], [RISE]))
    link = 'href="#s-1" title="Tides on n shores — Ada Byron et al., 2021">1</a></sup>'
    assert html.count(f'<sup class="marks"><a class="mark" id="n-1" {link}') == 1
    assert html.count(f'<sup class="marks"><a class="mark" {link}') == 1


def test_several_numbers_of_one_sentence_stand_together():
    html = answer_html(answered([written("Tides move.", 1, 2)], [RISE, FALL]))
    assert re.search(r'<sup class="marks"><a [^>]*>1</a>, <a [^>]*>2</a></sup>', html)


def test_what_was_written_says_whether_it_was_checked():
    claims = [
        written("Tides move.", 1),
        written("Tides sing.", 1, supported=False),
        quoted("Tides rise.", 1),
    ]
    html = answer_html(answered(claims, [RISE]))
    assert re.findall(r'<span class="badge (\w+)">([^<]*)</span>', html) == [
        ("checked", "checked"),
        ("unsupported", "unsupported"),
    ]


def test_the_small_print_tells_confidence_time_and_models():
    def small_print(**changes):
        return re.search(r'<p class="about">([^<]*)</p>', answer_html(answered([], [], **changes)))[
            1
        ]

    assert small_print() == "Confidence: high (0.96) · 1.2 s · quoted"
    assert (
        small_print(reranker="QueryLikelihoodModel")
        == "Confidence: high (0.96) · 1.2 s · quoted · read with Reader"
    )
    assert small_print(style="write", language_model="Tiny <3", seconds={}) == (
        "Confidence: high (0.96) · written by Tiny &lt;3"
    )


def test_remarks_say_how_a_question_was_read_and_what_did_not_work():
    answer = answered(
        [],
        [],
        rewritten_query="tides (on <moons>)",
        spelling={"tdies": "tides"},
        fallback="the model broke off",
    )
    assert re.findall(r'<p class="remark">([^<]*)</p>', answer_html(answer)) == [
        "Read as: tides (on &lt;moons&gt;)",
        "Read “tdies” as “tides”",
        "The model broke off",
    ]


def test_an_abstention_tells_its_reason_and_links_the_nearest_papers():
    page = Parsed(answer_html(abstained(TIDES, STARS, reranker="QueryLikelihoodModel")))
    assert page.elements[:2] == [
        ("div", {"class": "answer abstained"}),
        ("p", {"class": "verdict"}),
    ]
    assert page.attributes("href") == ["#p-tides-1a2b3c", "#p-stars-7a8b9c"]
    assert "Your library does not say." in page.text
    assert "None of its 9 papers bears on it." in page.text
    assert "The nearest papers:" in page.text
    assert "shores — Ada Byron et al., 2021" in page.text
    assert "Stars Retracted" in page.text
    assert "Chance that the library answers: 0.21 · 1.2 s · read with Reader" in page.text


def test_an_abstention_of_an_empty_library_lists_nothing():
    assert "nearest" not in answer_html(abstained())


# --- sources


def cards(html):
    """The ids of the cards, in order, and whether each is open."""
    return [
        (attributes["id"], "open" in attributes)
        for tag, attributes in Parsed(html).elements
        if tag == "details"
    ]


def test_without_answers_the_panel_says_what_will_stand_there():
    assert re.fullmatch(r'<p class="empty">[^<]*</p>', sources_html(()))


def test_papers_stand_in_the_order_of_their_first_number_and_the_first_is_open():
    moon = cite(1, MOONS, "Moons pull.")
    answer = answered(
        [quoted("Tides rise.", 2), quoted("Moons pull.", 1)], [replace(RISE, number=2), moon]
    )
    html = sources_html([answer])
    assert html.startswith('<section class="sources"><h2>Sources</h2>')
    assert cards(html) == [("p-moons-4d5e6f", True), ("p-tides-1a2b3c", False)]
    assert "Earlier" not in html


def test_a_card_tells_numbers_title_byline_and_how_it_was_used():
    html = sources_html(
        [answered([quoted("Tides rise.", 1), written("They fall.", 2)], [RISE, FALL])]
    )
    summary = re.search("<summary>(.*)</summary>", html)[1]
    assert summary == (
        '<span class="numbers">[1] [2]</span> '
        '<span class="title">Tides on <math><mrow><mi>n</mi></mrow></math> shores</span> '
        '<span class="byline">Ada Byron et al., 2021</span> '
        '<span class="badge quoted">quoted</span> <span class="badge checked">written and checked</span>'
    )


def test_a_card_tells_everything_about_the_paper_and_links_it():
    html = sources_html([answered([quoted("Tides rise.", 1)], [RISE])])
    assert (
        '<p class="authors">Ada Byron, Kurt Okafor, Li Na</p><p class="facts">2021 · Journal of Tides · '
        in html
    )
    link = '<a href="https://{0}" target="_blank" rel="noopener noreferrer">{0}</a>'
    assert (
        link.format("doi.org/10.1000/tides")
        + " · "
        + link.format("arxiv.org/abs/2101.00001")
        + "</p>"
        in html
    )


def test_the_quotation_is_marked_in_the_abstract_and_leads_back():
    html = sources_html([answered([quoted("Tides fall.", 2)], [FALL])])
    assert (
        '<p class="abstract" dir="auto">Tides rise. <mark id="s-2" tabindex="-1">Tides fall.</mark> '
        '<a class="back" href="#n-2" title="Back to the answer">↩ 2</a> They rise again.</p>'
    ) in html


def test_a_paper_of_several_turns_has_one_card_with_all_its_quotations():
    first, second = (
        answered([quoted("Tides rise.", 1)], [RISE]),
        answered([quoted("Tides fall.", 2)], [FALL]),
    )
    html = sources_html([first, second])
    assert cards(html) == [("p-tides-1a2b3c", True)]
    assert "[1] [2]" in html
    assert Parsed(html).texts["s-1"] == "Tides rise."
    assert Parsed(html).texts["s-2"] == "Tides fall."


def test_papers_cited_before_stand_below_and_closed():
    html = sources_html(
        [answered([quoted("Tides rise.", 1)], [RISE]), answered([quoted("Moons pull.", 4)], [PULL])]
    )
    assert cards(html) == [("p-moons-4d5e6f", True), ("p-tides-1a2b3c", False)]
    assert (
        html.index("p-moons")
        < html.index("<h3>Earlier in this conversation</h3>")
        < html.index("p-tides")
    )


def test_an_abstention_shows_the_nearest_papers_as_cards():
    html = sources_html([answered([quoted("Tides rise.", 1)], [RISE]), abstained(STARS, MOONS)])
    assert "<h2>Nearest papers</h2>" in html
    assert cards(html) == [
        ("p-stars-7a8b9c", True),
        ("p-moons-4d5e6f", False),
        ("p-tides-1a2b3c", False),
    ]
    assert '<strong class="retracted">Retracted</strong>' in html
    assert "No abstract: found by its title, never quoted." in html


def test_the_nearest_papers_of_before_can_still_be_reached():
    html = sources_html([abstained(STARS), answered([quoted("Tides rise.", 1)], [RISE])])
    assert cards(html) == [("p-tides-1a2b3c", True), ("p-stars-7a8b9c", False)]


def test_the_same_span_twice_has_a_place_for_each_number():
    html = sources_html([answered([written("They rise.", 1, 5)], [RISE, replace(RISE, number=5)])])
    page = Parsed(html)
    assert page.is_balanced
    assert sorted(page.attributes("id")) == ["p-tides-1a2b3c", "s-1", "s-5"]
    assert page.texts["s-1"] == "Tides rise."
    assert html.count("<mark") == 1
    assert "↩ 1" in html
    assert "↩ 5" in html


def test_overlapping_spans_are_marked_as_one_and_touching_ones_apart():
    whole, part = cite(1, TIDES, "Tides rise. Tides"), cite(2, TIDES, "rise. Tides fall.")
    page = Parsed(sources_html([answered([], [whole, part])]))
    assert page.texts["s-1"] == "Tides rise. Tides fall."
    assert {"p-tides-1a2b3c", "s-1", "s-2"} == set(page.attributes("id"))
    page = Parsed(
        sources_html(
            [answered([], [cite(1, TIDES, "Tides rise. "), cite(2, TIDES, "Tides fall.")])]
        )
    )
    assert (page.texts["s-1"], page.texts["s-2"]) == ("Tides rise. ", "Tides fall.")


def test_quotations_are_marked_in_the_order_of_the_abstract():
    page = Parsed(
        sources_html(
            [answered([], [cite(1, TIDES, "They rise again."), cite(2, TIDES, "Tides rise.")])]
        )
    )
    assert (page.texts["s-1"], page.texts["s-2"]) == ("They rise again.", "Tides rise.")
    assert page.text.endswith("Tides rise. ↩ 2 Tides fall. They rise again. ↩ 1")


def test_an_abstract_that_changed_is_shown_as_it_was_quoted_too():
    updated = replace(TIDES, abstract="Tides stand still.")
    still = cite(2, updated, "Tides stand still.")
    html = sources_html(
        [answered([quoted("Tides rise.", 1)], [RISE]), answered([quoted("…", 2)], [still])]
    )
    page = Parsed(html)
    assert (page.texts["s-1"], page.texts["s-2"]) == ("Tides rise.", "Tides stand still.")
    assert (
        html.index('id="s-2"')
        < html.index("Its abstract has changed since.")
        < html.index('id="s-1"')
    )


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example/x",
        "ftp://x.example/",
        "https://doi.org@evil.example/x",
        "http:evil",
        "\x01javascript:alert(1)",
    ],
)
def test_a_link_leads_only_where_it_seems_to_lead(url):
    assert Parsed(paper_html(replace(STARS, url=url))).attributes("href") == []


def test_an_address_of_ones_own_is_linked_beside_identifiers_and_shortened():
    page = Parsed(
        paper_html(replace(STARS, url="http://www.stars.example/" + "a" * 100, pmid="123"))
    )
    assert page.attributes("href") == [
        "https://pubmed.ncbi.nlm.nih.gov/123/",
        "http://www.stars.example/" + "a" * 100,
    ]
    assert "stars.example/" + "a" * 66 + "…" in page.text


def test_an_address_keeps_its_parameters():
    page = Parsed(paper_html(replace(STARS, url="https://stars.example/?a=1&copy=2")))
    assert page.attributes("href") == ["https://stars.example/?a=1&copy=2"]


def test_the_same_address_is_linked_once():
    page = Parsed(
        paper_html(replace(STARS, arxiv_id="2101.00001", url="http://arxiv.org/abs/2101.00001"))
    )
    assert page.attributes("href") == ["https://arxiv.org/abs/2101.00001"]


# --- papers, additions, health


def test_a_paper_in_full_names_its_file_and_not_the_folder():
    page = Parsed(paper_html(TIDES))
    assert page.elements[:2] == [("article", {"class": "paper"}), ("h3", {})]
    for fact in (
        "Ada Byron, Kurt Okafor, Li Na",
        "2021",
        "10.1000/tides",
        "2101.00001",
        "tides-1a2b3c",
        "tides.bib",
    ):
        assert fact in page.text
    assert "/home" not in page.text
    assert "papers\\" not in paper_html(replace(TIDES, source="C:\\papers\\tides.bib"))
    assert TIDES.abstract in page.text


def test_a_paper_without_abstract_says_so_and_a_retracted_one_too():
    text = Parsed(paper_html(STARS)).text
    assert "No abstract: found by its title, never quoted." in text
    assert "Stars Retracted" in text


def test_an_addition_is_counted():
    report = AddReport(1204, 700, 3, 500, 676, without_abstract=4)
    assert added_html(report) == (
        '<div class="report"><p>1,204 records read: 700 added, 3 updated, 0 merged, 500 unchanged, 0 rejected. '
        "676 papers in the library. Without an abstract, found by title and never quoted: 4.</p></div>"
    )
    assert "1 record read" in added_html(AddReport(1, 1, papers=1))
    assert "1 paper in" in added_html(AddReport(1, 1, papers=1))


def test_an_addition_names_what_was_merged_and_what_was_rejected():
    merges = (
        Merge("a", "<Tides>", "/in/one.bib", 7, "doi"),
        Merge("b", "Moons", "/in/two.bib", 8, "record"),
    )
    absorbed = (Merge("c", "Stars", "/in/one.bib", 9, "title"),)
    rejected = (
        Rejection("/in/one.bib", 12, "no title"),
        Rejection("/in/three.txt", 0, "it is empty"),
    )
    html = added_html(AddReport(5, merges=merges, absorbed=absorbed, rejected=rejected))
    assert (
        '<tr><th scope="row">&lt;Tides&gt;</th><td>one.bib</td><td>7</td><td>DOI</td></tr>' in html
    )
    assert "<td>one.bib</td><td>9</td><td>title; two papers became one</td>" in html
    assert "Moons" not in html
    assert '<tr><th scope="row">one.bib</th><td>12</td><td>no title</td></tr>' in html
    assert (
        '<tr><th scope="row">three.txt</th><td>the whole file</td><td>it is empty</td></tr>' in html
    )
    assert '<th scope="col">Why</th>' in html
    assert "/in/" not in html


def test_long_lists_of_an_addition_are_cut_and_say_so():
    merges = tuple(Merge("a", "Tides", "one.bib", number, "doi") for number in range(23))
    rejected = tuple(Rejection("one.bib", number, "no title") for number in range(1, 1052))
    html = added_html(AddReport(merges=merges, rejected=rejected))
    assert html.count("<td>DOI</td>") == 20
    assert html.count("<td>no title</td>") == 50
    assert re.findall(r'<p class="more">([^<]*)</p>', html) == ["and 3 more", "and 1,001 more"]


def test_health_tells_the_size_and_every_check_in_words():
    checks = [
        Check("truth", True, "intact"),
        Check("chroma", False, "5 missing", "footnote reindex --library 'a <b>'"),
    ]
    html = health_html(checks, 676, 11_200_000)
    assert "<p>676 papers, 11 MB</p>" in html
    assert (
        '<th scope="row">truth</th><td><span class="ok">ok</span></td><td>intact</td><td></td>'
        in html
    )
    mend = "<code>footnote reindex --library &#x27;a &lt;b&gt;&#x27;</code>"
    assert f'<td><span class="bad">bad</span></td><td>5 missing</td><td>{mend}</td>' in html


# --- from a file of a stranger to the page

STRANGER = (
    "<script>alert(1)</script> ${alert(42)} {{constructor}} <img src=https://evil.example/x onerror=alert(1)> "
    "</mark></li><a href='javascript:alert(1)'>press</a> saves 40% of tides."
)


def test_a_hostile_abstract_is_quoted_and_never_active(tmp_path):
    path = tmp_path / "hostile.jsonl"
    rows = [{"title": f"Tides {STRANGER}", "abstract": STRANGER, "url": "javascript:alert(1)"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assistant = Assistant.open(tmp_path / "library")
    assistant.add(path)
    answer, refusal = (
        assistant.ask("What saves tides?"),
        assistant.ask("What is the capital of France?"),
    )
    assert (answer.abstained, refusal.abstained) == (False, True)
    for html in (answer_html(answer), answer_html(refusal)):
        check_safe(html)
    panel = check_safe(sources_html([answer, refusal]))
    assert "alert(42)" in panel.text
    assert {f"s-{citation.number}" for citation in answer.citations} <= set(panel.attributes("id"))


# --- any text at all

TAGS = MATHML | set(
    "div p br a sup span strong em code ul li section h2 h3 details summary mark article dl dt dd table caption thead "
    "tbody tr th td".split()
)
OURS = ATTRIBUTES | {
    "class",
    "id",
    "href",
    "title",
    "open",
    "tabindex",
    "target",
    "rel",
    "scope",
    "dir",
}
PLAIN = st.text(st.characters(exclude_characters="$\\{}~-`'"), max_size=40)


def papers_of(texts):
    return st.builds(
        Paper,
        title=texts,
        abstract=texts,
        authors=st.lists(texts, max_size=3).map(tuple),
        year=st.none() | st.integers(1, 2100),
        venue=texts,
        url=texts | st.just("https://x.example/?a=1&b=<script>"),
        doi=texts,
        arxiv_id=texts,
        source=texts,
        retracted=st.booleans(),
        id=st.sampled_from(["a-1", "b-2", "c-3"]),
    )


@st.composite
def conversations(draw, texts):
    """Answers of a conversation: every number is one footnote, whatever answer cites it."""
    papers = list(
        {
            paper.id: paper for paper in draw(st.lists(papers_of(texts), min_size=1, max_size=3))
        }.values()
    )
    notes = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        paper = draw(st.sampled_from(papers))
        start, end = sorted(draw(st.integers(0, len(paper.abstract))) for _ in range(2))
        notes.append(Citation(number, paper, paper.abstract[start:end], start, end))
    answers = []
    for _ in range(draw(st.integers(1, 3))):
        cited = draw(st.lists(st.sampled_from(notes), unique=True, min_size=1))
        claims = [
            draw(st.sampled_from([quoted(one.quote, one.number), written(draw(texts), one.number)]))
            for one in cited
        ]
        answer = answered(claims, cited, rewritten_query=draw(texts), fallback=draw(texts))
        answers.append(draw(st.sampled_from([answer, abstained(*papers)])))
    return answers


def check_safe(html):
    page = Parsed(html)
    assert page.is_balanced
    assert page.tags <= TAGS
    assert {name for _, attributes in page.elements for name in attributes} <= OURS
    assert all(
        re.match(r"#[snp]-|https?://[^/@]+(?:/|$)", href) for href in page.attributes("href")
    )
    assert len(html.splitlines()) == 1
    html.encode()
    return page


@given(conversations(HOSTILE))
def test_a_conversation_of_any_text_is_safe_and_every_number_leads_to_one_sentence(answers):
    panel = check_safe(sources_html(answers))
    assert len(panel.attributes("id")) == len(set(panel.attributes("id")))
    for answer in answers:
        page = check_safe(answer_html(answer))
        inside = [href[1:] for href in page.attributes("href") if href.startswith("#")]
        assert all(panel.attributes("id").count(target) == 1 for target in inside)
        assert len(page.attributes("id")) == len(set(page.attributes("id")))


@given(HOSTILE, papers_of(HOSTILE))
def test_records_of_any_text_are_safe(text, paper):
    merge = Merge(paper.id, text, text, 1, text)
    report = AddReport(1, merges=(merge,), absorbed=(merge,), rejected=(Rejection(text, 1, text),))
    for html in (
        pieces_html(text),
        failure_html(text),
        paper_html(paper),
        added_html(report),
        health_html([Check(text, False, text, text)], 1, 1),
    ):
        check_safe(html)


@given(papers_of(PLAIN), st.data())
def test_what_is_marked_is_the_quotation(paper, data):
    start, end = sorted(data.draw(st.integers(0, len(paper.abstract))) for _ in range(2))
    citation = Citation(7, paper, paper.abstract[start:end], start, end)
    page = Parsed(sources_html([answered([quoted(citation.quote, 7)], [citation])]))

    def seen(text):
        return "".join(Parsed(pieces_html(text)).text.split())

    assert "".join(page.texts.get("s-7", "").split()) == seen(citation.quote)
    assert seen(paper.abstract[:start]) in "".join(page.text.split())
    assert seen(paper.title) in "".join(page.text.split())
