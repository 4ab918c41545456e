"""Conversations: follow-up questions, and filters and footnotes that carry over between turns."""

import json
import re
import threading

import pytest

from rag import Assistant, UsageError
from rag.records import Preview


@pytest.fixture(scope="module")
def small(small_library):
    from rag import Library

    return Assistant(Library(small_library), language_model="none")


LEDGERS = "How do Sliding Ledgers shrink the KV cache?"
VOLES = "When does IL-6 rise in bank voles?"
PERPLEXITY = "And by how much does perplexity rise?"


def ask(chat, question, **options):
    return chat.ask(question, style="quote", **options)


def cited_papers(answer):
    return {citation.paper.id for citation in answer.citations}


def footnote_numbers(answer):
    return [citation.number for citation in answer.citations]


def test_followup_is_answered_from_the_paper_and_shows_the_rewritten_query(small):
    chat = small.chat()
    first = ask(chat, LEDGERS)
    second = ask(chat, PERPLEXITY)
    assert first.trace.rewritten_query == ""
    assert second.question == PERPLEXITY
    assert second.trace.rewritten_query.startswith(f"{PERPLEXITY} (about “Sliding Ledgers")
    assert "perplexity rises by 0.08" in second.text
    assert [turn.question for turn in chat.turns] == [first.question, second.question]
    assert [turn.answer for turn in chat.turns] == [first, second]


def test_new_topic_does_not_cite_the_papers_of_the_old_one(small):
    chat = small.chat()
    old = ask(chat, LEDGERS)
    new = ask(chat, VOLES)
    assert new.trace.rewritten_query == ""
    assert cited_papers(new)
    assert cited_papers(new).isdisjoint(cited_papers(old))


def test_quotation_keeps_its_number_and_new_ones_continue(small):
    chat = small.chat()
    answers = [ask(chat, question) for question in (LEDGERS, VOLES, LEDGERS, PERPLEXITY)]
    numbers = list(map(footnote_numbers, answers))
    assert numbers[2] == numbers[0]
    assert numbers[1][0] == len(numbers[0]) + 1
    places = {}
    for answer in answers:
        for citation in answer.citations:
            place = (citation.paper.id, citation.start, citation.end)
            assert places.setdefault(citation.number, place) == place
    assert sorted(places) == list(range(1, len(set(places.values())) + 1))


def test_filter_lasts_until_it_is_changed_or_cleared(small):
    chat = small.chat(year=">=2024")

    def years(**filters):
        answer = ask(chat, "How does one shrink the KV cache?", **filters)
        return {hit.paper.year for hit in answer.hits}

    assert years() == {2024}
    assert years(venue="") == {2024}
    assert years(year="2023") == {2023}
    assert chat.filters.year == "2023"
    assert years() == {2023}
    assert len(years(year="")) > 2


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("", {}),
        ("x" * 2001, {}),
        ("Why?", {"year": "soon"}),
        ("Why?", {"colour": "red"}),
        ("Why?", {"style": "loud"}),
    ],
)
def test_invalid_question_leaves_the_conversation_unchanged(small, question, options):
    chat = small.chat()
    ask(chat, LEDGERS)
    before = chat.turns
    with pytest.raises(UsageError):
        chat.ask(question, **{"style": "quote"} | options)
    assert chat.turns == before
    assert not chat.filters


def test_unknown_filter_is_refused(small):
    with pytest.raises(UsageError, match="colour"):
        small.chat(colour="red")


def test_abandoned_stream_adds_no_turn(small):
    chat = small.chat()
    stream = chat.stream(LEDGERS, style="quote")
    assert isinstance(next(stream), Preview)
    assert isinstance(next(stream), str)
    stream.close()
    assert chat.turns == ()


def test_question_stopped_before_the_first_sentence_adds_no_turn(small):
    chat, stop = small.chat(), threading.Event()
    stop.set()
    preview, answer = chat.stream(LEDGERS, style="quote", stop=stop)
    assert (preview.rewritten_query, answer.text, chat.turns) == ("", "", ())


def test_streamed_pieces_are_the_text_of_the_answer(small):
    chat = small.chat()
    for question in (LEDGERS, "why?", "What is the capital of France?"):
        *events, answer = chat.stream(question, style="quote")
        assert "".join(event for event in events if isinstance(event, str)) == answer.text
        previews = [event for event in events if isinstance(event, Preview)]
        assert all(preview.rewritten_query == answer.trace.rewritten_query for preview in previews)
        assert len(previews) == 1


def test_topic_can_change_after_ten_turns(small):
    chat = small.chat()
    for question in [LEDGERS, *["and how much does that cost?"] * 8]:
        ask(chat, question)
    last = ask(chat, "How long was the effect of heat on corals?")
    assert len(chat.turns) == 10
    assert last.trace.rewritten_query == ""
    assert "Corals" in last.hits[0].paper.title


def test_conversations_are_independent(small):
    ask(small.chat(), LEDGERS)
    assert ask(small.chat(), PERPLEXITY).trace.rewritten_query == ""


def test_conversation_resumes_from_earlier_answers(small):
    chat = small.chat()
    first = ask(chat, LEDGERS)
    resumed = small.chat([first])
    assert resumed.turns == chat.turns
    answer, expected = ask(resumed, "And by how much?"), ask(chat, "And by how much?")
    assert (answer.text, answer.citations) == (expected.text, expected.citations)
    assert answer.trace.rewritten_query == expected.trace.rewritten_query != ""


def test_markdown_defines_each_footnote_once(small):
    chat = small.chat()
    for question in (LEDGERS, VOLES) * 2:
        ask(chat, question)
    text = chat.to_markdown()
    defined = re.findall(r"^\[\^(\d+)\]: ", text, re.MULTILINE)
    used = re.findall(r"\[\^(\d+)\](?!:)", text)
    assert len(defined) == len(set(defined))
    assert set(defined) == set(used)
    assert text.count("**When does IL-6") == 2
    assert small.chat().to_markdown() == "\n"


def test_followup_without_words_of_its_own_quotes_new_sentences_until_nothing_is_new(small):
    chat = small.chat()
    shown = set()
    answer = ask(chat, LEDGERS, sentences=1)
    while not answer.abstained:
        quotes = {citation.quote for citation in answer.citations}
        assert quotes.isdisjoint(shown)
        shown |= quotes
        answer = ask(chat, "why?", sentences=1)
    assert answer.reason == "The abstract says no more about this than what is quoted above."
    assert len(shown) > 1


def test_other_papers_are_listed_by_closeness(small):
    chat = small.chat()
    first = ask(chat, LEDGERS)
    others = ask(chat, "any other papers on this?")
    [claim] = others.claims
    assert claim.kind == "computed"
    assert claim.text == "Besides the papers cited so far, these are closest in meaning:"
    assert 1 <= len(claim.citations) <= 5
    assert cited_papers(others).isdisjoint(cited_papers(first))
    for citation in others.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end] != ""


def test_other_papers_are_not_those_cited_before(small):
    chat = small.chat()
    cited = cited_papers(ask(chat, "How does one shrink the KV cache?"))
    others = ask(chat, "any other papers on this?")
    assert set(others.trace.settings["excluded_ids"]) == cited
    assert cited_papers(others).isdisjoint(cited)


def test_record_of_the_paper_is_read_and_the_interpretation_is_shown_first(small):
    chat = small.chat()
    title = ask(chat, LEDGERS).citations[0].paper.title
    preview, *_, answer = chat.stream("who wrote it?", style="quote")
    assert preview.rewritten_query == f"who wrote it? (about “{title}”)"
    assert answer.trace.rewritten_query == preview.rewritten_query
    assert answer.trace.style == "computed"
    assert [citation.quote for citation in answer.citations] == [""]


def test_followup_says_what_the_paper_lacks(small):
    chat = small.chat()
    ask(chat, LEDGERS)
    answer = ask(chat, "under which licence can I get it?")
    assert answer.abstained
    assert answer.reason == "That paper does not mention “licence”."


def test_title_does_not_raise_the_confidence(tmp_path):
    file = tmp_path / "gates.jsonl"
    text = "Gates open at dusk. They save a third of the power."
    file.write_text(json.dumps({"title": "Who would need gates that open?", "abstract": text}))
    assistant = Assistant.open(tmp_path / "library", language_model="none")
    assistant.add(file)
    chat = assistant.chat()
    ask(chat, "When do gates open?")
    followup = ask(chat, "who would need them?")
    assert followup.trace.rewritten_query.endswith("(about “Who would need gates that open?”)")
    assert followup.confidence <= ask(assistant, followup.trace.settings["query"]).confidence
    assert followup.confidence < ask(assistant, followup.trace.rewritten_query).confidence
