"""Saved pages of trending papers, as text and HTML: telling papers from boilerplate."""

import os
import textwrap
from itertools import islice
from pathlib import Path

import pytest

from rag.ingest.sources.source import open_source
from rag.records import Paper, Rejection

SHARED = Path(os.environ.get("FOOTNOTE_SHARED", Path(__file__).resolve().parents[2] / "shared"))

SENTENCES = (
    "Small moons are hard to see from the ground.",
    "We train a detector on simulated images of forty moons and test it on ten years of plates.",
    "It finds 31 of them, five more than an expert did.",
    "Where it fails the moons stand before their ring, and \\eg{} no method known to us sees them (p < 0.05).",
    "The simulated images and the detector are available to all.",
)


def abstract(number, sentences=5):
    return f"Study {number} is about moons. " + " ".join(SENTENCES[:sentences])


def papers(*numbers):
    return [(f"Finding Small Moons in Part {n} of the Sky", abstract(n)) for n in numbers]


@pytest.fixture
def read(tmp_path):
    def outcomes(text, name="page.txt", format_name=None):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with open_source(path, format_name) as source:
            return [outcome for _, outcome in source]

    return outcomes


def pairs(outcomes):
    assert all(isinstance(outcome, Paper) for outcome in outcomes), outcomes
    return [(paper.title, paper.abstract) for paper in outcomes]


def spaced(*lines):
    return (
        "\n\n".join(line for pair in lines for line in ([pair] if isinstance(pair, str) else pair))
        + "\n"
    )


HEAD_A = [
    "new",
    "Get trending papers in your email inbox!",
    "Subscribe",
    "byAK and the research community",
    "Mar 11",
]
HEAD_B = "Get trending papers in your email inbox once a day!\nGet trending papers in your email inbox!\nSubscribe"


# --- the real pages ------------------------------------------------------------------------------

COUNTS = {"000": 72, "001": 197, "002": 60, "003": 326, "004": 57}


@pytest.mark.parametrize("start", COUNTS)
def test_every_paper_of_real_pages_is_read(start):
    pages = sorted((SHARED / "seeds").glob(f"{start}_*.txt"))
    if not pages:
        pytest.skip(f"no saved pages under {SHARED / 'seeds'} (FOOTNOTE_SHARED)")
    with open_source(pages[0]) as source:
        outcomes = [outcome for _, outcome in source]
    assert len(pairs(outcomes)) == COUNTS[start]
    assert min(len(paper.abstract) for paper in outcomes) > 400
    assert max(len(paper.title) for paper in outcomes) < 150
    assert not any(paper.title.startswith(("Subscribe", "Get trending")) for paper in outcomes)


@pytest.mark.soak
def test_large_collection_is_read_without_rejections(times):
    path = SHARED / "data" / "acl" / "acl.jsonl"
    if not path.exists():
        pytest.skip(f"no {path} (FOOTNOTE_SHARED)")
    count = times(2_000, 24_094)
    with open_source(path) as source:
        outcomes = [outcome for _, outcome in islice(source, count)]
    assert len(outcomes) == count
    assert all(isinstance(outcome, Paper) for outcome in outcomes)


# --- the two layouts -----------------------------------------------------------------------------


def test_page_with_blank_lines_is_read(read):
    assert pairs(read(spaced(*HEAD_A, *papers(1, 2, 3)))) == papers(1, 2, 3)


def test_page_without_blank_lines_is_read(read):
    text = HEAD_B + "\n".join(line for pair in papers(1, 2, 3) for line in pair)
    assert pairs(read(text)) == papers(1, 2, 3)


def test_single_paper_is_read(read):
    assert pairs(read(spaced(*papers(1)))) == papers(1)
    assert pairs(read("\n".join(papers(1)[0]))) == papers(1)


@pytest.mark.parametrize(
    "line_template",
    ["{}\n\n{}\n\n", "{}\n{}\n\n", "## {}\n\n{}\n\n", "{}\n\n{}\n\n\n\n", "1. {}\n\n{}\n\n"],
)
def test_wrapped_abstracts_are_joined(read, line_template):
    text = "".join(
        line_template.format(title, textwrap.fill(body, 72)) for title, body in papers(1, 2, 3)
    )
    assert pairs(read(text)) == papers(1, 2, 3)


def test_hyphenated_words_at_line_ends_are_joined(read):
    wrapped = textwrap.fill(abstract(1), 72).replace("simulated", "simu-\nlated")
    text = f"Moons of the Outer Rings\n\n{wrapped}\n"
    assert "on simulated images of forty moons" in read(text)[0].abstract


def test_boilerplate_is_removed_anywhere(read):
    one, two, three = papers(1, 2, 3)
    text = spaced(
        *(
            *HEAD_A,
            one,
            "Upvote",
            "45",
            "1.2k",
            "·",
            "· 5 authors",
            "Submitted by moonwatcher",
            "Mar 12",
        ),
        *(
            "Tuesday, March 12, 2024",
            two,
            "Daily Papers",
            "by AK and the research community",
            "Subscribe",
            three,
        ),
        *("Previous", "Next", "1", "2", "Previous123Next", "© 2024 Invented Pages", "Privacy"),
    )
    assert pairs(read(text)) == [one, two, three]


def test_boilerplate_between_title_and_abstract_is_removed(read):
    (title, body), two = papers(1, 2)
    assert pairs(
        read(spaced(title, "Submitted by moonwatcher", "45", "· 3 authors", body, two))
    ) == papers(1, 2)


def test_glued_button_is_only_removed_after_boilerplate(read):
    title = "Subscribers of Lunar News: A Survey"
    assert pairs(read(HEAD_B + f"\n{title}\n{abstract(1)}\n"))[0][0] == title
    glued = "SubscribeMe: Newsletters of the Moon"
    outcomes = read(spaced(*papers(1), (glued, abstract(2))))
    assert pairs(outcomes)[1][0] == glued


def test_unusual_titles_are_recognized(read):
    odd = [
        ("HyperMoons", abstract(1)),
        ("Search Engines", abstract(8)),
        ("Hugging Faces of the Moon", abstract(9)),
        ("Is a Moon All You Need?", abstract(2)),
        ("3D-Moons: 2.5 Times Better.", abstract(3)),
    ]
    assert pairs(read(spaced(*odd, *papers(4, 5, 6, 7, 8, 9, 10)))) == odd + papers(
        4, 5, 6, 7, 8, 9, 10
    )


# --- incomplete papers ---------------------------------------------------------------------------


def test_title_without_abstract_is_rejected_and_shifts_nothing(read):
    one, two, three = papers(1, 2, 3)
    outcomes = read(spaced(one, "A Moon Without an Abstract", two, three, "Another at the End"))
    assert pairs([o for o in outcomes if isinstance(o, Paper)]) == [one, two, three]
    assert [(o.record, o.reason) for o in outcomes if isinstance(o, Rejection)] == [
        (2, "title without abstract: ‘A Moon Without an Abstract’"),
        (5, "title without abstract: ‘Another at the End’"),
    ]


def test_abstract_without_title_is_never_given_to_another_paper(read):
    one, two, three = papers(1, 2, 3)
    long = " ".join([abstract(9)] * 5)
    outcomes = read(spaced(one, long, two, three))
    assert pairs([o for o in outcomes if isinstance(o, Paper)]) == [one, two, three]
    assert [o.reason[:24] for o in outcomes if isinstance(o, Rejection)] == [
        "abstract without title: "
    ]
    first = read(spaced(long, one, two, three))
    assert [type(o) for o in first] == [Rejection, Paper, Paper, Paper]


def test_paragraphs_of_one_abstract_are_joined(read):
    (title, body), two, three = papers(1, 2, 3)
    second = "Our code is on a server of the observatory. It needs no more than a laptop and an evening of patience."
    outcomes = read(spaced(title, body, second, two, three))
    assert pairs(outcomes) == [(title, f"{body} {second}"), two, three]
    code = "Code is available at https://observatory.example/moons"
    assert pairs(read(spaced(title, body, code, two, three))) == [
        (title, f"{body} {code}"),
        two,
        three,
    ]


def test_short_abstract_is_accepted_after_a_title(read):
    short = "We list all known moons of small planets with their rings and gaps, and say who found them."
    rest = papers(1, 2, 3, 4)
    assert pairs(read(spaced(("A List of Moons", short), *rest))) == [
        ("A List of Moons", short),
        *rest,
    ]


def test_author_line_is_not_a_title(read):
    (title, body), two = papers(1, 2)
    first, second = read(spaced(title, "Ada Okafor, Mei Lin, Jan van der Berg", body, two))
    assert (first.title, first.authors) == (title, ("Ada Okafor", "Mei Lin", "Jan van der Berg"))
    assert second.authors == ()


# --- other texts ---------------------------------------------------------------------------------

PROSE = "\n\n".join(
    [
        "A Walk by the Sea",
        *(f"On day {n} we walked along the shore. " + " ".join(SENTENCES) for n in range(12)),
    ]
)
DIALOGUE = "\n\n".join(
    f"“Are you there?” he asked for the {n}th time.\n\nNobody answered him, and he sat down."
    for n in range(40)
)
LOG = "\n".join(
    f"2024-03-11 12:00:{n % 60:02d} INFO worker[{n}] took job {n} from the queue and finished it"
    for n in range(300)
)
CODE = "\n\n\n".join(
    f'def moon_{n}(ring: int, gap: int = 3) -> int:\n    """Tell moon {n}."""\n    total = 0\n'
    f"    for step in range(ring):\n        total += step * gap[{n}]  # one step\n    if total > {n}:\n"
    f'        raise ValueError(f"too far: {{total}}")\n    return total'
    for n in range(30)
)
PAPER = "\n\n".join(
    f"{section}\n\n{' '.join(SENTENCES)}\n\n{' '.join(SENTENCES)}"
    for section in (
        "Abstract",
        "1 Introduction",
        "2 Methods",
        "3 Results",
        "4 Discussion",
        "References",
    )
)
READ_ME = (
    "# moonlib\n\nFinds moons.\n\n## Installation\n\n```\npip install moonlib\n```\n\n## Usage\n\n"
    + " ".join(SENTENCES)
    + "\n\n## License\n\nMIT\n"
)
LETTERS = "\n\n".join(f"dear all,\n\n{abstract(n)}\n\nyours,\n\nAda" for n in range(5))


@pytest.mark.parametrize(
    "text", [PROSE, DIALOGUE, LOG, CODE, PAPER, READ_ME, LETTERS, "hello\n", "one\ntwo\nthree\n"]
)
def test_text_that_is_not_a_listing_is_rejected_as_a_whole(read, text):
    (rejection,) = read(text)
    assert isinstance(rejection, Rejection)
    assert rejection.record == 0
    assert rejection.reason.startswith("no papers found: this is plain text")
    assert "--format listing" in rejection.reason


def test_given_format_is_not_questioned(read):
    outcomes = read(PAPER, format_name="listing")
    assert any(isinstance(outcome, Paper) for outcome in outcomes)


# --- HTML ----------------------------------------------------------------------------------------


def card(number, title, body):
    return f"""<article class="flex">
      <a href="/papers/2401.{number:05d}"><img src="thumb.png"></a>
      <div><h3 class="text-xl"><a href="/papers/2401.{number:05d}" class="cursor">{title}</a></h3>
        <p class="line-clamp">{body}</p>
        <ul><li>5 authors</li></ul><div>Submitted by <b>moonwatcher</b></div><div>Upvote 45</div></div>
    </article>"""


def page(body):
    return f"""<!-- saved from url=(0027)https://pages.example/papers -->
<!doctype html><html><head><title>Daily Papers</title><style>p {{ color: red }}</style>
<script>if (a < b) {{ document.write("<h3>Not a title at all here</h3>") }}</script></head>
<body><nav><a href="/models">Models</a></nav><h1>Daily Papers</h1><p>by AK and the research community</p>
<form><p>Get trending papers in your email inbox!</p><button>Subscribe</button></form>
{body}
<footer><h2>Company</h2><p>About us and our terms, which are long and which nobody has ever read to the end of them.</p>
</footer></body></html>"""


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


def test_headings_that_link_to_papers_are_titles(read):
    body = "".join(
        card(n, f"<span>{title}</span>", escaped(text))
        for n, (title, text) in enumerate(papers(1, 2, 3), 1)
    )
    outcomes = read(page(body), "page.html")
    assert pairs(outcomes) == papers(1, 2, 3)
    assert [paper.arxiv_id for paper in outcomes] == ["2401.00001", "2401.00002", "2401.00003"]


def test_linked_heading_without_abstract_takes_no_other_abstract(read):
    text = (
        card(1, "A Moon Without an Abstract", "")
        + f"<p>{escaped(abstract(7))}</p>"
        + card(2, *map(escaped, papers(2)[0]))
    )
    outcomes = read(page(text), "page.html")
    assert [(p.title, bool(p.abstract)) for p in outcomes] == [
        ("A Moon Without an Abstract", False),
        (papers(2)[0][0], True),
    ]


def test_paragraphs_and_inline_markup_are_joined(read):
    link = "https://arxiv.org/abs/2301.12345v2"
    second = "We also find that the rings <i>H<sub>2</sub>O</i> melt. They do so slowly, over a hundred years at least."
    body = f"""<h2><a href='{link}'>Moons at 10<sup>-3</sup> K</a></h2><div>5 authors</div>
      <p>{escaped(abstract(1))}</p><p>{second}</p><div>Upvote 5</div><p>{escaped(abstract(2))}</p>"""
    (paper,) = read(page(body), "page.html")
    assert (paper.title, paper.arxiv_id) == ("Moons at 10^-3 K", "2301.12345")
    assert paper.abstract.endswith(
        "rings H2O melt. They do so slowly, over a hundred years at least."
    )
    assert "Study 2" not in paper.abstract


@pytest.mark.parametrize(
    "template",
    ["<div>{}</div><div>{}</div>", "<h3>{}</h3><p>{}</p>", "{}<br>{}<br><br>", "<dt>{}<dd>{}"],
)
def test_page_without_links_is_read_as_a_listing(read, template):
    body = "".join(template.format(title, escaped(text)) for title, text in papers(1, 2, 3))
    assert pairs(read(page(body), "page.html")) == papers(1, 2, 3)


def test_ordinary_page_is_rejected(read):
    body = "".join(
        f"<h2>{name}</h2><p>{' '.join(SENTENCES)}</p><p>{' '.join(SENTENCES)}</p>"
        for name in ("Usage", "Features")
    )
    (rejection,) = read(page(body), "page.html")
    assert rejection.record == 0
    assert rejection.reason.startswith("no papers found")


def test_title_may_start_in_lower_case(tmp_path):
    abstract = (
        "Herons were counted on forty canals over two wet years. Numbers rose by a tenth in each of them, and fell "
        "after the sluices had been shut for repairs in spring. The counts agree with the wardens' to three birds."
    )
    names = ["k-NN Counts of Herons", "Herons at Sluices", "wav2vec for Herons"]
    path = tmp_path / "page.txt"
    path.write_text("\n\n".join(f"{title}\n\n{abstract}" for title in names))
    with open_source(path) as source:
        titles = [paper.title for _, paper in source]
    assert titles == names
