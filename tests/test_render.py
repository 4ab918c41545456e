"""HTML of answers, sources, papers and reports, in which untrusted text is never active."""

import json
import re
from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_mathematics import ATTRIBUTES, HOSTILE, MATHML, Parsed

from rag import AddReport, Answer, Assistant, Citation, Claim, Hit, Paper, Passage, Rejection, Trace
from rag.library.doctor import Check
from rag.records import Evidence, Merge, Preview, Sentence
from ui.render.html import (
    add_report_html,
    answer_html,
    failed_answer_html,
    health_html,
    paper_html,
    partial_answer_html,
    sources_html,
)
from ui.render.mathematics import prose_html

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


def make_trace(**changes):
    return replace(
        Trace("e", "none", "quote", "", "", seconds={"read": 0.5, "write": 0.75}), **changes
    )


def cite(number, paper, quote):
    start = paper.abstract.index(quote)
    return Citation(number, paper, quote, start, start + len(quote))


def found(citation):
    """Return the evidence behind a citation."""
    sentence = Sentence(citation.paper.id, citation.start, citation.end, citation.quote)
    return Evidence(sentence, citation.paper, 0.5, 0.5, 0.5, 0.5)


def quoted(text, *numbers):
    return Claim(text, "quoted", numbers, supported=True, score=1.0)


def generated(text, *numbers, supported=True):
    return Claim(text, "generated", numbers, supported=supported, score=1.0)


def make_answer(claims, citations, **changes):
    return Answer(
        "?", "", tuple(claims), tuple(citations), (), False, "", 0.96, make_trace(**changes)
    )


def make_abstention(*papers, **changes):
    hits = tuple(
        Hit(paper, 0.5, rank, Passage("", paper.id, 0, 0)) for rank, paper in enumerate(papers, 1)
    )
    return Answer(
        "?",
        "",
        (),
        (),
        hits,
        True,
        "None of its 9 papers bears on it.",
        0.214,
        make_trace(**changes),
    )


RISE, FALL, AGAIN = (
    cite(1, TIDES, "Tides rise."),
    cite(2, TIDES, "Tides fall."),
    cite(3, TIDES, "They rise again."),
)
PULL = cite(4, MOONS, "Moons pull.")


# --- messages


def test_partial_answer_renders_lines_and_formulas():
    html = partial_answer_html("“Costs <b>\n\n- Moons: $n$ and $m")
    formula = "<math><mrow><mi>n</mi></mrow></math>"
    assert html == (
        '<div class="answer pending"><div class="written">'
        f"<p>“Costs &lt;b&gt;</p><p>- Moons: {formula} and $m</p></div></div>"
    )


def test_before_the_first_sentence_the_evidence_and_the_place_in_the_queue_are_shown():
    preview = Preview((found(RISE), found(PULL), found(AGAIN)), "tides (on <moons>)")
    page = check_safe(partial_answer_html("", preview, 2))
    assert page.text == (
        "Interpreted as: tides (on <moons>)2 answers before yours"
        "Tides on n shores — Ada Byron et al., 2021“Tides rise.”“They rise again.”"
        "Moons — Io“Moons pull.”"
    )
    assert "1 answer before yours" in check_safe(partial_answer_html("", preview, 1)).text
    assert "Writing the answerTides" in check_safe(partial_answer_html("", preview)).text
    begun = check_safe(partial_answer_html("Tides move.", preview)).text
    assert begun.startswith("Interpreted as: tides (on <moons>)Tides move.Tides on n shores")


def test_failed_answer_shows_the_reason_and_offers_to_ask_again():
    page = Parsed(failed_answer_html("the model in $HOME/<b> is\nnot there"))
    assert page.elements[0] == ("div", {"class": "answer failed"})
    assert "the model in $HOME/<b> is not there" in page.text
    assert "You can ask again." in page.text


# --- answers


def test_what_is_written_stands_above_the_quotations_by_paper():
    claims = [
        generated("They <i>move</i>.", 2, 4),
        Claim("2 papers are here.", "computed", (), supported=True, score=1.0),
        quoted("Tides rise.", 1),
        quoted("Moons pull.", 4),
        quoted("Tides fall.", 2),
    ]
    page = check_safe(answer_html(make_answer(claims, [RISE, FALL, PULL])))
    assert page.text.startswith(
        "They <i>move</i>.2, 4 2 papers are here."
        "written by the model, checked against the quotes computed from your libraryquoted"
        "Tides on n shores — Ada Byron et al., 2021“Tides rise.”1“Tides fall.”2"
        "Moons — Io“Moons pull.”4Confidence: high"
    )
    assert {"#p-tides-1a2b3c", "#p-moons-4d5e6f"} < set(page.attributes("href"))


def test_claims_with_headings_are_items_of_a_list():
    claims = [
        generated("Two papers."),
        replace(generated("It rises.", 1), heading="Tides on $n$ shores"),
        replace(generated("It pulls.", 4), heading="<Moons>"),
    ]
    html = answer_html(make_answer(claims, [RISE, PULL]))
    assert html.startswith('<div class="answer"><p dir="auto">Two papers.</p><ul><li dir="auto">')
    assert "<strong>Tides on <math>" in html
    assert '<li dir="auto"><strong>&lt;Moons&gt;</strong>: It pulls.<sup' in html


def test_footnote_links_to_its_sentence_and_names_the_paper():
    html = answer_html(make_answer([generated("They rise.", 1), quoted("Tides rise.", 1)], [RISE]))
    link = 'href="#s-1" title="Tides on n shores — Ada Byron et al., 2021">1</a></sup>'
    assert html.count(f'<sup class="footnotes"><a class="footnote" id="n-1" {link}') == 1
    assert html.count(f'<sup class="footnotes"><a class="footnote" {link}') == 1


def test_footnotes_of_one_claim_share_a_superscript():
    html = answer_html(make_answer([generated("Tides move.", 1, 2)], [RISE, FALL]))
    assert re.search(r'<sup class="footnotes"><a [^>]*>1</a>, <a [^>]*>2</a></sup>', html)


def test_badges_say_how_each_part_came_about():
    def badges(*claims):
        html = answer_html(make_answer(claims, [RISE]))
        return re.findall(r'<span class="badge (\w+)">([^<]*)</span>', html)

    checked = ("checked", "written by the model, checked against the quotes")
    unsupported, quotes = ("unsupported", "unsupported"), ("quoted", "quoted")
    move, sing = generated("Tides move.", 1), generated("Tides sing.", 1, supported=False)
    assert badges(quoted("Tides rise.", 1)) == [quotes]
    assert badges(move, move) == [checked, quotes]
    assert badges(move, sing) == [unsupported, checked, quotes]
    assert badges(sing) == [unsupported, quotes]


def test_fine_print_shows_confidence_time_and_models():
    def fine_print(claim, **changes):
        html = answer_html(make_answer([claim], [RISE], **changes))
        return re.search(r'<p class="fine-print">([^<]*)</p>', html)[1]

    model = {"style": "write", "language_model": "Tiny <3", "seconds": {}}
    assert fine_print(quoted("Tides rise.", 1)) == "Confidence: high · 1.2 s"
    assert fine_print(quoted("Tides rise.", 1), **model) == "Confidence: high"
    assert fine_print(generated("They rise.", 1), **model) == (
        "Confidence: high · written by Tiny &lt;3"
    )


def test_notices_show_the_rewritten_query_the_spelling_and_the_fallback():
    answer = make_answer(
        [],
        [],
        rewritten_query="tides (on <moons>)",
        spelling={"tdies": "tides"},
        fallback="the model broke off",
    )
    assert re.findall(r'<p class="notice">([^<]*)</p>', answer_html(answer)) == [
        "Interpreted as: tides (on &lt;moons&gt;)",
        "Interpreted “tdies” as “tides”",
        "The model broke off",
    ]


def test_abstention_shows_its_reason_and_links_the_closest_matches():
    query = "tides (on stars)"
    page = Parsed(answer_html(make_abstention(TIDES, STARS, rewritten_query=query)))
    assert page.elements[:3] == [
        ("div", {"class": "answer abstained"}),
        ("p", {"class": "notice"}),
        ("p", {"class": "answer-status"}),
    ]
    assert page.text.startswith("Interpreted as: tides (on stars)Your library does not say.")
    assert page.attributes("href") == ["#p-tides-1a2b3c", "#p-stars-7a8b9c"]
    assert "Your library does not say." in page.text
    assert "None of its 9 papers bears on it." in page.text
    assert "Closest matches:" in page.text
    assert "shores — Ada Byron et al., 2021" in page.text
    assert "Stars Retracted" in page.text
    assert page.text.endswith("1.2 s")


def test_abstention_without_hits_lists_nothing():
    assert "closest" not in answer_html(make_abstention())


# --- sources


def cards(html):
    """Return the id of each card and whether it is open."""
    return [
        (attributes["id"], "open" in attributes)
        for tag, attributes in Parsed(html).elements
        if tag == "details"
    ]


def test_sources_of_a_new_conversation_show_a_hint():
    assert re.fullmatch(r'<p class="sources-empty">[^<]*</p>', sources_html(()))


def test_cards_follow_the_footnote_numbers_and_the_first_is_open():
    moon = cite(1, MOONS, "Moons pull.")
    answer = make_answer(
        [quoted("Tides rise.", 2), quoted("Moons pull.", 1)], [replace(RISE, number=2), moon]
    )
    html = sources_html([answer])
    assert html.startswith('<section class="sources"><h2>Sources</h2>')
    assert cards(html) == [("p-moons-4d5e6f", True), ("p-tides-1a2b3c", False)]
    assert "Earlier" not in html


def test_card_summary_shows_numbers_title_byline_and_badges():
    html = sources_html(
        [make_answer([quoted("Tides rise.", 1), generated("They fall.", 2)], [RISE, FALL])]
    )
    summary = re.search("<summary>(.*)</summary>", html)[1]
    assert summary == (
        '<span class="numbers">[1] [2]</span> '
        '<span class="title">Tides on <math><mrow><mi>n</mi></mrow></math> shores</span> '
        '<span class="byline">Ada Byron et al., 2021</span> '
        '<span class="badge quoted">quoted</span> <span class="badge checked">checked</span>'
    )


def test_card_body_shows_metadata_and_links():
    html = sources_html([make_answer([quoted("Tides rise.", 1)], [RISE])])
    assert '<p class="authors">Ada Byron, Kurt Okafor, Li Na</p>' in html
    assert '<p class="paper-metadata">2021 · Journal of Tides · ' in html
    link = '<a href="https://{0}" target="_blank" rel="noopener noreferrer">{0}</a>'
    assert (
        link.format("doi.org/10.1000/tides")
        + " · "
        + link.format("arxiv.org/abs/2101.00001")
        + "</p>"
        in html
    )


def test_quote_is_highlighted_and_links_back_to_the_answer():
    html = sources_html([make_answer([quoted("Tides fall.", 2)], [FALL])])
    assert (
        '<p class="abstract" dir="auto">Tides rise. '
        '<mark id="s-2" tabindex="-1">Tides fall.</mark> '
        '<a class="back-link" href="#n-2" title="Back to the answer">↩ 2</a> They rise again.</p>'
    ) in html


def test_paper_cited_in_several_turns_has_one_card():
    first, second = (
        make_answer([quoted("Tides rise.", 1)], [RISE]),
        make_answer([quoted("Tides fall.", 2)], [FALL]),
    )
    html = sources_html([first, second])
    assert cards(html) == [("p-tides-1a2b3c", True)]
    assert "[1] [2]" in html
    assert Parsed(html).texts["s-1"] == "Tides rise."
    assert Parsed(html).texts["s-2"] == "Tides fall."


def test_papers_of_earlier_turns_come_last_and_closed():
    html = sources_html(
        [
            make_answer([quoted("Tides rise.", 1)], [RISE]),
            make_answer([quoted("Moons pull.", 4)], [PULL]),
        ]
    )
    assert cards(html) == [("p-moons-4d5e6f", True), ("p-tides-1a2b3c", False)]
    assert (
        html.index("p-moons")
        < html.index("<h3>Earlier in this conversation</h3>")
        < html.index("p-tides")
    )


def test_abstention_shows_the_closest_matches_as_cards():
    html = sources_html(
        [make_answer([quoted("Tides rise.", 1)], [RISE]), make_abstention(STARS, MOONS)]
    )
    assert "<h2>Closest matches</h2>" in html
    assert cards(html) == [
        ("p-stars-7a8b9c", True),
        ("p-moons-4d5e6f", False),
        ("p-tides-1a2b3c", False),
    ]
    assert '<strong class="retracted">Retracted</strong>' in html
    assert "No abstract: the paper can be found by its title but never quoted." in html


def test_closest_matches_of_earlier_turns_keep_their_cards():
    html = sources_html([make_abstention(STARS), make_answer([quoted("Tides rise.", 1)], [RISE])])
    assert cards(html) == [("p-tides-1a2b3c", True), ("p-stars-7a8b9c", False)]


def test_span_cited_twice_has_an_anchor_for_each_number():
    html = sources_html(
        [make_answer([generated("They rise.", 1, 5)], [RISE, replace(RISE, number=5)])]
    )
    page = Parsed(html)
    assert page.is_balanced
    assert sorted(page.attributes("id")) == ["p-tides-1a2b3c", "s-1", "s-5"]
    assert page.texts["s-1"] == "Tides rise."
    assert html.count("<mark") == 1
    assert "↩ 1" in html
    assert "↩ 5" in html


def test_overlapping_spans_share_a_highlight_and_adjacent_ones_do_not():
    whole, part = cite(1, TIDES, "Tides rise. Tides"), cite(2, TIDES, "rise. Tides fall.")
    page = Parsed(sources_html([make_answer([], [whole, part])]))
    assert page.texts["s-1"] == "Tides rise. Tides fall."
    assert {"p-tides-1a2b3c", "s-1", "s-2"} == set(page.attributes("id"))
    page = Parsed(
        sources_html(
            [make_answer([], [cite(1, TIDES, "Tides rise. "), cite(2, TIDES, "Tides fall.")])]
        )
    )
    assert (page.texts["s-1"], page.texts["s-2"]) == ("Tides rise. ", "Tides fall.")


def test_quotes_are_highlighted_in_the_order_of_the_abstract():
    page = Parsed(
        sources_html(
            [make_answer([], [cite(1, TIDES, "They rise again."), cite(2, TIDES, "Tides rise.")])]
        )
    )
    assert (page.texts["s-1"], page.texts["s-2"]) == ("They rise again.", "Tides rise.")
    assert page.text.endswith("Tides rise. ↩ 2 Tides fall. They rise again. ↩ 1")


def test_changed_abstract_is_also_shown_as_quoted():
    updated = replace(TIDES, abstract="Tides stand still.")
    still = cite(2, updated, "Tides stand still.")
    html = sources_html(
        [make_answer([quoted("Tides rise.", 1)], [RISE]), make_answer([quoted("…", 2)], [still])]
    )
    page = Parsed(html)
    assert (page.texts["s-1"], page.texts["s-2"]) == ("Tides rise.", "Tides stand still.")
    assert (
        html.index('id="s-2"')
        < html.index("The abstract has changed since.")
        < html.index('id="s-1"')
    )


@pytest.mark.promise("inert-text")
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


def test_own_url_is_linked_beside_identifiers_and_shortened():
    page = Parsed(
        paper_html(replace(STARS, url="http://www.stars.example/" + "a" * 100, pmid="123"))
    )
    assert page.attributes("href") == [
        "https://pubmed.ncbi.nlm.nih.gov/123/",
        "http://www.stars.example/" + "a" * 100,
    ]
    assert "stars.example/" + "a" * 66 + "…" in page.text


def test_link_keeps_query_parameters():
    page = Parsed(paper_html(replace(STARS, url="https://stars.example/?a=1&copy=2")))
    assert page.attributes("href") == ["https://stars.example/?a=1&copy=2"]


def test_same_address_is_linked_once():
    page = Parsed(
        paper_html(replace(STARS, arxiv_id="2101.00001", url="http://arxiv.org/abs/2101.00001"))
    )
    assert page.attributes("href") == ["https://arxiv.org/abs/2101.00001"]


# --- papers and reports


def test_paper_names_its_source_file_without_the_folder():
    page = Parsed(paper_html(TIDES))
    assert page.elements[:2] == [("article", {"class": "paper"}), ("h3", {})]
    for value in (
        "Ada Byron, Kurt Okafor, Li Na",
        "2021",
        "10.1000/tides",
        "2101.00001",
        "tides-1a2b3c",
        "tides.bib",
    ):
        assert value in page.text
    assert "/home" not in page.text
    assert "papers\\" not in paper_html(replace(TIDES, source="C:\\papers\\tides.bib"))
    assert TIDES.abstract in page.text


def test_paper_says_that_it_is_retracted_or_has_no_abstract():
    text = Parsed(paper_html(STARS)).text
    assert "No abstract: the paper can be found by its title but never quoted." in text
    assert "Stars Retracted" in text


def test_add_report_counts_records_and_papers():
    report = AddReport(1204, 700, 3, 500, 676, without_abstract=4)
    assert add_report_html(report) == (
        '<div class="report"><p>1,204 records read: 700 added, 3 updated, 0 merged, '
        "500 unchanged, 0 skipped. "
        "676 papers in the library. Without an abstract (never quoted): 4.</p></div>"
    )
    assert "1 record read" in add_report_html(AddReport(1, 1, papers=1))
    assert "1 paper in" in add_report_html(AddReport(1, 1, papers=1))


def test_add_report_lists_merges_and_rejections():
    merges = (
        Merge("a", "<Tides>", "/in/one.bib", 7, "doi"),
        Merge("b", "Moons", "/in/two.bib", 8, "record"),
    )
    absorbed = (Merge("c", "Stars", "/in/one.bib", 9, "title"),)
    rejected = (
        Rejection("/in/one.bib", 12, "no title"),
        Rejection("/in/three.txt", 0, "it is empty"),
    )
    html = add_report_html(AddReport(5, merges=merges, absorbed=absorbed, rejected=rejected))
    assert (
        '<tr><th scope="row">&lt;Tides&gt;</th><td>one.bib</td><td>7</td><td>DOI</td></tr>' in html
    )
    assert "<td>one.bib</td><td>9</td><td>title; two papers became one</td>" in html
    assert "Moons" not in html
    assert '<tr><th scope="row">one.bib</th><td>12</td><td>no title</td></tr>' in html
    assert '<tr><th scope="row">three.txt</th><td>whole file</td><td>it is empty</td></tr>' in html
    assert '<th scope="col">Reason</th>' in html
    assert "/in/" not in html


def test_add_report_shortens_long_tables():
    merges = tuple(Merge("a", "Tides", "one.bib", number, "doi") for number in range(23))
    rejected = tuple(Rejection("one.bib", number, "no title") for number in range(1, 1052))
    html = add_report_html(AddReport(merges=merges, rejected=rejected))
    assert html.count("<td>DOI</td>") == 20
    assert html.count("<td>no title</td>") == 50
    assert re.findall(r'<p class="more">([^<]*)</p>', html) == ["and 3 more", "and 1,001 more"]


def test_health_shows_the_size_and_every_check():
    checks = [
        Check("database", True, "intact"),
        Check("chroma", False, "5 missing", "footnote reindex --library 'a <b>'"),
    ]
    html = health_html(checks, 676, 11_200_000)
    assert "<p>676 papers, 11 MB</p>" in html
    assert (
        '<th scope="row">database</th><td><span class="ok">OK</span></td><td>intact</td><td></td>'
        in html
    )
    fix = "<code>footnote reindex --library &#x27;a &lt;b&gt;&#x27;</code>"
    assert f'<td><span class="bad">Problem</span></td><td>5 missing</td><td>{fix}</td>' in html


# --- from an untrusted file to the page

UNTRUSTED = (
    "<script>alert(1)</script> ${alert(42)} {{constructor}} "
    "<img src=https://evil.example/x onerror=alert(1)> "
    "</mark></li><a href='javascript:alert(1)'>press</a> saves 40% of tides."
)


def test_hostile_abstract_is_quoted_but_never_active(tmp_path):
    path = tmp_path / "hostile.jsonl"
    rows = [{"title": f"Tides {UNTRUSTED}", "abstract": UNTRUSTED, "url": "javascript:alert(1)"}]
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


# --- any text

PAGE_TAGS = MATHML | set(
    "div p br a sup span strong em code ul li section h2 h3 details summary mark article "
    "dl dt dd table caption thead tbody tr th td".split()
)
PAGE_ATTRIBUTES = ATTRIBUTES | {
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


def papers_with(texts):
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
    """Draw the answers of a conversation; a footnote number means the same in all of them."""
    papers = draw(st.lists(papers_with(texts), min_size=1, max_size=3, unique_by=attrgetter("id")))
    citations = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        paper = draw(st.sampled_from(papers))
        start, end = sorted(draw(st.integers(0, len(paper.abstract))) for _ in range(2))
        citations.append(Citation(number, paper, paper.abstract[start:end], start, end))
    answers = []
    for _ in range(draw(st.integers(1, 3))):
        cited = draw(st.lists(st.sampled_from(citations), unique=True, min_size=1))
        claims = []
        for citation in cited:
            quote = quoted(citation.quote, citation.number)
            sentence = generated(draw(texts), citation.number)
            listed = replace(sentence, heading=draw(texts))
            claims.append(draw(st.sampled_from([quote, sentence, listed])))
        answer = make_answer(claims, cited, rewritten_query=draw(texts), fallback=draw(texts))
        answers.append(draw(st.sampled_from([answer, make_abstention(*papers)])))
    return answers


def check_safe(html):
    page = Parsed(html)
    assert page.is_balanced
    assert page.tags <= PAGE_TAGS
    for _, attributes in page.elements:
        assert set(attributes) <= PAGE_ATTRIBUTES
    assert all(
        re.match(r"#[snp]-|https?://[^/@]+(?:/|$)", href) for href in page.attributes("href")
    )
    assert len(html.splitlines()) == 1
    html.encode()
    return page


@given(conversations(HOSTILE))
def test_any_conversation_is_safe_and_every_footnote_leads_to_one_sentence(answers):
    panel = check_safe(sources_html(answers))
    assert len(panel.attributes("id")) == len(set(panel.attributes("id")))
    for answer in answers:
        page = check_safe(answer_html(answer))
        inside = [href[1:] for href in page.attributes("href") if href.startswith("#")]
        assert all(panel.attributes("id").count(target) == 1 for target in inside)
        assert len(page.attributes("id")) == len(set(page.attributes("id")))


@pytest.mark.promise("inert-text")
@given(HOSTILE, papers_with(HOSTILE))
def test_records_of_any_text_are_safe(text, paper):
    merge = Merge(paper.id, text, text, 1, text)
    report = AddReport(1, merges=(merge,), absorbed=(merge,), rejected=(Rejection(text, 1, text),))
    evidence = Evidence(Sentence(paper.id, 0, 1, text), paper, 0.5, 0.5, 0.5, 0.5)
    for html in (
        partial_answer_html(text),
        partial_answer_html(text, Preview((evidence,), text), 3),
        failed_answer_html(text),
        paper_html(paper),
        add_report_html(report),
        health_html([Check(text, False, text, text)], 1, 1),
    ):
        check_safe(html)


@given(papers_with(PLAIN), st.data())
def test_highlight_is_exactly_the_quote(paper, data):
    start, end = sorted(data.draw(st.integers(0, len(paper.abstract))) for _ in range(2))
    citation = Citation(7, paper, paper.abstract[start:end], start, end)
    page = Parsed(sources_html([make_answer([quoted(citation.quote, 7)], [citation])]))

    def visible(text):
        return "".join(Parsed(prose_html(text)).text.split())

    assert "".join(page.texts.get("s-7", "").split()) == visible(citation.quote)
    assert visible(paper.abstract[:start]) in "".join(page.text.split())
    assert visible(paper.title) in "".join(page.text.split())
