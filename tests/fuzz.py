"""What a fuzzer feeds, and what must hold whatever it feeds.

`python tests/fuzz.py TARGET FOLDER [options of libFuzzer]` runs a target with what it makes of the files in a folder;
`python tests/fuzz.py TARGET FILE` repeats one input. The tests of `test_fuzz.py` do the first, and tell of a finding
how to do the second. Only `main` needs atheris.
"""

import sys
import tempfile
import unicodedata
from dataclasses import replace
from functools import cache
from pathlib import Path

from rag.errors import FootnoteError, SourceError, UsageError
from rag.library.filters import Filters
from rag.records import Answer, Paper, Rejection, Trace

_INSTRUMENTED = [
    "rag.ingest.sources",
    "rag.text",
    "rag.retrieval.query_analysis",
    "rag.retrieval.typos",
    "rag.library.filters",
    "rag.output.replay",
]
_INSTRUMENTED += ["eval.harness.questions"]
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# Pieces of all formats, so that what is put together from them is broken in interesting places.
PIECES = [
    *(
        "Title",
        "Warm rings",
        "\n",
        "\r\n",
        "\n\n",
        ",",
        ";",
        "\t",
        '"',
        "{",
        "}",
        "[",
        "]",
        ":",
        "\\",
        "$",
        "%",
        "@",
    ),
    *(
        '{"title": "A1"}',
        '{"title": "A1", "abstract_inverted_index": {"a": [0, 2], "b": "x"}}',
        '{"paper": {"id": 1}}',
    ),
    *('"authors": ', '{"results": [', '"issued": {"date-parts": [[', "null", "1e999", '"\\ud800"'),
    *(
        "@article{a, title = {A1}, ",
        "author = {Okafor, Ada and ",
        "@string{j = ",
        "@comment{",
        "@misc{b,",
        "title = ",
    ),
    *(
        "\\emph{",
        "\\'{",
        "\\begin{x}",
        "\\(",
        "TY  - JOUR\n",
        "TI  - A1\n",
        "UK  - x\n",
        "ER  - \n",
        "AB  - ",
    ),
    *(
        "PMID- 1\n",
        "      more",
        "<PubmedArticleSet>",
        "<PubmedArticle>",
        "<ArticleTitle>A1",
        "</ArticleTitle>",
    ),
    *(
        "</PubmedArticle>",
        '<feed xmlns="http://www.w3.org/2005/Atom">',
        "<entry>",
        "<title>A1</title>",
        "</entry>",
    ),
    *(
        "<h3>",
        "</h3>",
        '<a href="/papers/2401.01234">',
        "<p>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<!DOCTYPE html>",
        "&lol;",
    ),
    *(
        "<",
        ">",
        "&",
        "&#xd800;",
        "\ufeff",
        "\u2028",
        "\x00",
        "Subscribe",
        "Mar 11",
        "We look at rings. " * 20,
        "sep=;",
    ),
    *(
        "Title,Abstract,Year\n",
        "é",
        "2021",
        "10.1234/a",
        "https://[",
        "😀",
        "\x1b[31m",
        "\u202e",
        "\u0301",
        " # ",
    ),
]

_BODY = (
    "We look at rings, and then we look at moons. Both were seen before by others, it is true; 30% were not. "
    * 3
)
_JSON = '{"title": "A1", "abstract": "We look.", "authors": ["Ada Okafor"], "year": 2021, "doi": "10.1234/a"}'
_ARTICLE = (
    "<PubmedArticle><MedlineCitation><PMID>1</PMID><Article><Journal><JournalIssue><PubDate><Year>2021</Year></PubDate>"
    "</JournalIssue><Title>J</Title></Journal><ArticleTitle>A1 10<sup>3</sup></ArticleTitle><Abstract><AbstractText "
    'Label="AIM">We look.</AbstractText></Abstract><AuthorList><Author><LastName>Okafor</LastName><ForeName>Ada'
    "</ForeName></Author></AuthorList></Article></MedlineCitation></PubmedArticle>"
)
_SAVED = (
    '{"question": "?", "text": "It is.", "abstained": false, "reason": "", "confidence": 0.5, "claims": [{"text": "It '
    'is.", "citations": [1]}], "citations": [{"number": 1, "paper_id": "a-1", "title": "A1", "quote": "It is."}], '
    '"hits": [{"paper_id": "a-1", "title": "A1"}], "trace": {"style": "quote", "fallback": "", "embedder": "e", '
    '"reranker": "none", "language_model": "none", "prompt_digest": "", "library_digest": "", "rewritten_query": "", '
    '"settings": {}}}'
)
# A sound input of each kind, from which the fuzzer goes on.
SEEDS: dict[str, list[str]] = {
    "listing": [
        f"Warm rings and cold moons\n{_BODY}\n\nMar 11\nMoons of the outer planets\n{_BODY}\n"
    ],
    "jsonl": [
        f"{_JSON}\n{_JSON}\n",
        '{"paper": {"id": "2401.01234", "title": "A1"}}\n{"display_name": "A", "authorships": [], '
        '"abstract_inverted_index": {"We": [0], "look.": [1]}}\n',
    ],
    "json": [
        f"[{_JSON}, {_JSON}]",
        f'{{"results": [{_JSON}]}}',
        f'{{"message": {{"items": [{_JSON}]}}}}',
        _JSON,
    ],
    "csv": [
        'Title;Abstract;Authors;Year\n"A ""1""";"We\nlook.";Okafor, A.;2021\nA2;;;\n',
        "Title\tDOI\nA1\t10.1234/a\n",
    ],
    "bibtex": [
        '@string{j = "Rings" # { and moons}}\n@comment{x}\n@article{a, title = {A {B} \\"o $x^2$}, author = {Li, Na '
        'and {The Group}}, journal = j, year = 2021, month = jan # "~1", abstract = "We \\emph{look}."}\n'
        "@misc{a, title={A2}, eprint={2401.01234}, archiveprefix={arXiv}}\n"
    ],
    "ris": [
        "TY  - JOUR\nTI  - A1\nAU  - Okafor, Ada\nPY  - 2021\nAB  - We look.\nand look\nDO  - 10.1234/a\nER  - \n"
    ],
    "medline": [
        "PMID- 1\nTI  - A1\n      and more\nAB  - We look.\nFAU - Okafor, Ada\nLID - 10.1234/a [doi]\nDP  - 2021\n"
    ],
    "pubmed-xml": [
        f"<?xml version='1.0'?><PubmedArticleSet>{_ARTICLE}{_ARTICLE}</PubmedArticleSet>"
    ],
    "atom": [
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/abs/2401.01234v1</id><title>A1</title>'
        "<summary>We look.</summary><author><name>Ada Okafor</name></author><published>2021-01-01</published></entry>"
        "</feed>"
    ],
    "html": [
        f'<!DOCTYPE html><html><body><article><h3><a href="/papers/2401.01234">A1</a></h3><p>{_BODY}</p></article>',
        f"<html><h2>Warm rings and cold moons</h2><p>{_BODY}</p><h2>Moons of planets</h2><p>{_BODY}</p></html>",
    ],
    "text": [
        "<jats:p>Net-\nworks shrink 10<sup>-3</sup>&amp;lt;</jats:p> e.g. $x_{i}^2$ \\alpha{} by Smith et al. (2019)."
    ],
    "question": [
        "Which papers shrink the KV-cache, and by how much?\n>=2023\nACL\nOkafor\nzotero.bib\n2026-01-31\nCaching"
    ],
    "answer": [_SAVED],
    "questions": [
        '{"id": "q1", "split": "dev", "kind": "base", "type": "fact", "question": "How?", "answerable": true, "gold": '
        '[["a-1"]], "nuggets": [{"text": "8 g", "any": ["8 g"], "numbers": ["8"]}]}\n'
    ],
}
SEEDS["any"] = [seed for seeds in SEEDS.values() for seed in seeds]
# Where a format is told from how a file begins, and one target that has to fail.
TARGETS = (*SEEDS, "canary")


def check_line(text):
    """One line that anything can show and store."""
    text.encode("utf-8")
    assert not [char for char in text if unicodedata.category(char) in _STEERING], ascii(text)


def outcomes_of(path, form):
    """Every outcome of a file is a Paper or a Rejection, in its place; none where the file is refused."""
    from rag.ingest.sources import open_source

    try:
        source = open_source(path, form)
    except SourceError as error:
        check_line(str(error))
        return []
    with source:
        numbered = list(source)
    assert numbered, "a file that was opened tells what became of it"
    for place, (number, outcome) in enumerate(numbered, start=1):
        assert number in (place, 0)
        if isinstance(outcome, Rejection):
            assert outcome.record == number
            assert outcome.reason
            check_line(outcome.reason)
        else:
            check_paper(outcome, path.name)
    return [outcome for _, outcome in numbered]


def check_paper(paper, source):
    """A paper as readers make it: a title, and lines that can be shown as they are."""
    assert isinstance(paper, Paper)
    assert (paper.id, paper.source) == ("", source)
    assert any(map(str.isalnum, paper.title))
    for text in (
        paper.title,
        paper.abstract,
        paper.venue,
        paper.url,
        paper.doi,
        paper.arxiv_id,
        paper.pmid,
    ):
        check_line(text)
    for author in paper.authors:
        assert author
        check_line(author)
    assert paper.url == "" or paper.url.lower().startswith(("http://", "https://"))
    assert paper.year is None or 1500 <= paper.year <= 2100


def feed_source(form, data):
    path = _folder() / "any"
    path.write_bytes(data)
    outcomes_of(path, form)


def feed_text(data):
    """Whatever a field holds: cleaning, sentences, terms, identifiers, names."""
    from rag.ingest.sources.latex import decode
    from rag.ingest.sources.names import author_names
    from rag.text import identify
    from rag.text.cleaning import clean, printable_path, title_key
    from rag.text.sentences import split_sentences
    from rag.text.terms import content_terms, index_text, query_terms

    text = data.decode("utf-8", "surrogateescape")
    cleaned = clean(text)
    for line in (cleaned, printable_path(text), clean(decode(cleaned)), *author_names(text)):
        check_line(line)
    assert unicodedata.is_normalized("NFC", cleaned)
    end = 0
    for start, stop in split_sentences(cleaned):
        assert end <= start < stop <= len(cleaned)
        assert cleaned[start:stop] == cleaned[start:stop].strip()
        end = stop
    for term in [*query_terms(cleaned), *content_terms(cleaned), *index_text(cleaned).split()]:
        assert not set(term) & set(" \"'*:^()\x00")
    title_key(text)
    for known in (
        identify.parse_doi,
        identify.parse_arxiv_id,
        identify.parse_pmid,
        identify.web_address,
        identify.doi_in_url,
    ):
        check_line(known(text))
    identify.parse_year(text)


def feed_question(data):
    """A question, five filters and a paper, line by line."""
    from rag.library.filters import parse_filters
    from rag.retrieval.query_analysis import analyze_query, title_names
    from rag.retrieval.typos import correct_typos, find_typos
    from rag.text.terms import index_text, query_terms

    question, *lines = data.decode("utf-8", "surrogateescape").split("\n")
    asked = analyze_query(question)
    text = " ".join(lines)
    terms = set(index_text(text).split())
    assert set(asked.missing_names(terms, text)) <= set(asked.names)
    assert asked.lacks_quantity([text]) in (True, False)
    assert asked.lacks_target(terms, [text]) in (True, False)
    title_names(text)
    query_terms(question)
    correct_typos(question, find_typos(question, [text], lambda word: word in terms))
    try:
        parse_filters(Filters(*[*lines, "", "", "", "", ""][:5]))
    except UsageError as error:
        check_line(str(error))


def feed_answer(data):
    """A saved answer, compared with another one."""
    from rag.errors import PaperNotFound
    from rag.output.replay import compare_answers, find_lost_quotations, load_answer

    def paper(name):
        raise PaperNotFound(name)

    try:
        saved = load_answer(data)
    except FootnoteError as error:
        check_line(str(error))
        return
    now = Answer("?", "It is.", (), (), (), True, "", 0.5, Trace("e", "none", "quote", "", ""))
    for change in (
        *find_lost_quotations(saved, paper),
        *compare_answers(saved, now),
        *compare_answers(saved, replace(now, confidence=0.25)),
    ):
        check_line(str(change))


def feed_questions(data):
    """A file of questions."""
    from eval.harness.questions import load_questions

    path = _folder() / "questions.jsonl"
    path.write_bytes(data)
    try:
        questions = load_questions(path)
    except UsageError as error:
        check_line(str(error))
        return
    for question in questions:
        question.question.encode("utf-8")
        assert question.question.strip()
        assert question.cluster


def feed_canary(data):
    """Fails, so that it can be seen that a failure is told."""
    assert b"}" not in data


@cache
def _folder():
    return Path(tempfile.mkdtemp(prefix="footnote-fuzz-"))


_FEEDS = {
    "text": feed_text,
    "question": feed_question,
    "answer": feed_answer,
    "questions": feed_questions,
    "canary": feed_canary,
}


def feed(target, data):
    """Give a target its bytes."""
    if target in _FEEDS:
        _FEEDS[target](data)
    else:
        feed_source(None if target == "any" else target, data)


def main():
    import atheris

    target, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        feed(target, SEEDS.get(target, [""])[0].encode())
    atheris.Setup([sys.argv[0], *arguments], lambda data: feed(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
