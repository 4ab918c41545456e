"""Targets of a fuzzer, and the properties that must hold for any input.

`python tests/fuzz.py TARGET FOLDER [libFuzzer options]` runs a target on inputs derived from the
files in a folder, and `python tests/fuzz.py TARGET FILE` repeats a single input. The tests in
`test_fuzz.py` do the first, and report a failure with the command for the second. Only `main` needs
atheris.
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
    "eval.harness.questions",
]
_CONTROL_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# Pieces of all formats. Their combinations are broken in interesting places.
PIECES = [
    "Title", "Warm rings", "\n", "\r\n", "\n\n", ",", ";", "\t", '"', "{", "}", "[", "]", ":",
    "\\", "$", "%", "@", '{"title": "A1"}',
    '{"title": "A1", "abstract_inverted_index": {"a": [0, 2], "b": "x"}}', '{"paper": {"id": 1}}',
    '"authors": ', '{"results": [', '"issued": {"date-parts": [[', "null", "1e999", '"\\ud800"',
    "@article{a, title = {A1}, ", "author = {Okafor, Ada and ", "@string{j = ", "@comment{",
    "@misc{b,", "title = ", "\\emph{", "\\'{", "\\begin{x}", "\\(", "TY  - JOUR\n", "TI  - A1\n",
    "UK  - x\n", "ER  - \n", "AB  - ", "PMID- 1\n", "      more", "<PubmedArticleSet>",
    "<PubmedArticle>", "<ArticleTitle>A1", "</ArticleTitle>", "</PubmedArticle>",
    '<feed xmlns="http://www.w3.org/2005/Atom">', "<entry>", "<title>A1</title>", "</entry>",
    "<h3>", "</h3>", '<a href="/papers/2401.01234">', "<p>", "<!--", "-->", "<![CDATA[",
    "<!DOCTYPE html>", "&lol;", "<", ">", "&", "&#xd800;", "\ufeff", "\u2028", "\x00", "Subscribe",
    "Mar 11", "We look at rings. " * 20, "sep=;", "Title,Abstract,Year\n", "é", "2021",
    "10.1234/a", "https://[", "😀", "\x1b[31m", "\u202e", "\u0301", " # ",
]  # fmt: skip

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
_SAVED_ANSWER = (
    '{"question": "?", "text": "It is.", "abstained": false, "reason": "", "confidence": 0.5, "claims": [{"text": "It '
    'is.", "citations": [1]}], "citations": [{"number": 1, "paper_id": "a-1", "title": "A1", "quote": "It is."}], '
    '"hits": [{"paper_id": "a-1", "title": "A1"}], "trace": {"style": "quote", "fallback": "", "embedder": "e", '
    '"language_model": "none", "prompt_digest": "", "library_digest": "", "rewritten_query": "", '
    '"settings": {}}}'
)
# Valid inputs of each target, from which the fuzzer starts.
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
    "answer": [_SAVED_ANSWER],
    "questions": [
        '{"id": "q1", "split": "dev", "kind": "base", "type": "fact", "question": "How?", "answerable": true, "gold": '
        '[["a-1"]], "nuggets": [{"text": "8 g", "any": ["8 g"], "numbers": ["8"]}]}\n'
    ],
}
SEEDS["any"] = [seed for seeds in SEEDS.values() for seed in seeds]
# "any" detects the format; "canary" must fail.
TARGETS = (*SEEDS, "canary")


def assert_printable_line(text):
    """Assert that a text is a single line that can be shown and stored anywhere."""
    text.encode("utf-8")
    assert not [char for char in text if unicodedata.category(char) in _CONTROL_CATEGORIES], ascii(
        text
    )


def read_outcomes(path, format_name):
    """Return the outcomes of a file: papers and rejections in order, or none if it is refused."""
    from rag.ingest.sources.source import open_source

    try:
        source = open_source(path, format_name)
    except SourceError as error:
        assert_printable_line(str(error))
        return []
    with source:
        numbered = list(source)
    assert numbered, "a file that was opened has at least one outcome"
    for place, (number, outcome) in enumerate(numbered, start=1):
        assert number in (place, 0)
        if isinstance(outcome, Rejection):
            assert outcome.record == number
            assert outcome.reason
            assert_printable_line(outcome.reason)
        else:
            assert_valid_paper(outcome, path.name)
    return [outcome for _, outcome in numbered]


def assert_valid_paper(paper, source):
    """Assert that a paper has a title, and fields that can be shown as they are."""
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
        assert_printable_line(text)
    for author in paper.authors:
        assert author
        assert_printable_line(author)
    assert paper.url == "" or paper.url.lower().startswith(("http://", "https://"))
    assert paper.year is None or 1500 <= paper.year <= 2100


def fuzz_source(format_name, data):
    path = _temporary_folder() / "any"
    path.write_bytes(data)
    read_outcomes(path, format_name)


def fuzz_text(data):
    """Clean a field, split it into sentences and terms, and parse identifiers and names."""
    from rag.ingest.sources.common.author_names import parse_author_names
    from rag.ingest.sources.common.latex import decode_latex
    from rag.text import identifiers
    from rag.text.cleaning import clean, printable_path, title_key
    from rag.text.sentences import split_sentences
    from rag.text.terms import content_terms, index_text, query_terms

    text = data.decode("utf-8", "surrogateescape")
    cleaned = clean(text)
    for line in (
        cleaned,
        printable_path(text),
        clean(decode_latex(cleaned)),
        *parse_author_names(text),
    ):
        assert_printable_line(line)
    assert unicodedata.is_normalized("NFC", cleaned)
    end = 0
    for start, stop in split_sentences(cleaned):
        assert end <= start < stop <= len(cleaned)
        assert cleaned[start:stop] == cleaned[start:stop].strip()
        end = stop
    for term in [*query_terms(cleaned), *content_terms(cleaned), *index_text(cleaned).split()]:
        assert not set(term) & set(" \"'*:^()\x00")
    title_key(text)
    for parse in (
        identifiers.parse_doi,
        identifiers.parse_arxiv_id,
        identifiers.parse_pmid,
        identifiers.parse_url,
        identifiers.find_doi_in_url,
    ):
        assert_printable_line(parse(text))
    identifiers.parse_year(text)


def fuzz_question(data):
    """Analyze a question, with the lines after it as text and as five filters."""
    from rag.library.filters import parse_filters
    from rag.retrieval.query_analysis import analyze_query, title_names
    from rag.retrieval.typos import correct_typos, find_typos
    from rag.text.terms import index_text, query_terms

    question, *lines = data.decode("utf-8", "surrogateescape").split("\n")
    query = analyze_query(question)
    text = " ".join(lines)
    terms = set(index_text(text).split())
    assert set(query.missing_names(terms, text)) <= set(query.names)
    assert query.lacks_quantity([text]) in (True, False)
    assert query.lacks_target(terms, [text]) in (True, False)
    title_names(text)
    query_terms(question)
    correct_typos(question, find_typos(question, [text], lambda word: word in terms))
    try:
        parse_filters(Filters(*[*lines, "", "", "", "", ""][:5]))
    except UsageError as error:
        assert_printable_line(str(error))


def fuzz_answer(data):
    """Load a saved answer and compare it with another one."""
    from rag.errors import PaperNotFound
    from rag.output.replay import compare_answers, find_lost_quotations, load_answer

    def paper(name):
        raise PaperNotFound(name)

    try:
        saved = load_answer(data)
    except FootnoteError as error:
        assert_printable_line(str(error))
        return
    now = Answer("?", "It is.", (), (), (), True, "", 0.5, Trace("e", "none", "quote", "", ""))
    for change in (
        *find_lost_quotations(saved, paper),
        *compare_answers(saved, now),
        *compare_answers(saved, replace(now, confidence=0.25)),
    ):
        assert_printable_line(str(change))


def fuzz_questions(data):
    """Load a file of evaluation questions."""
    from eval.harness.questions import load_questions

    path = _temporary_folder() / "questions.jsonl"
    path.write_bytes(data)
    try:
        questions = load_questions(path)
    except UsageError as error:
        assert_printable_line(str(error))
        return
    for question in questions:
        question.question.encode("utf-8")
        assert question.question.strip()
        assert question.cluster


def fuzz_canary(data):
    """Fail for some inputs, to test that failures are reported."""
    assert b"}" not in data


@cache
def _temporary_folder():
    return Path(tempfile.mkdtemp(prefix="footnote-fuzz-"))


_TARGET_FUNCTIONS = {
    "text": fuzz_text,
    "question": fuzz_question,
    "answer": fuzz_answer,
    "questions": fuzz_questions,
    "canary": fuzz_canary,
}


def run_target(target, data):
    """Run a target on an input."""
    if target in _TARGET_FUNCTIONS:
        _TARGET_FUNCTIONS[target](data)
    else:
        fuzz_source(None if target == "any" else target, data)


def main():
    import atheris

    target, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        run_target(target, SEEDS.get(target, [""])[0].encode())
    atheris.Setup([sys.argv[0], *arguments], lambda data: run_target(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
