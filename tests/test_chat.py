"""Conversation: which questions lean on earlier ones, what stays from turn to turn, and what does not."""

import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag import Answer, Assistant, Citation, Claim, Paper, Trace, UsageError
from rag.answering.conversation import Turn, rewrite_followup

KIVI = Paper(
    "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
    "The key-value cache grows with the batch. Keys are quantized per channel and values per token. Peak memory drops.",
    id="kivi",
)
FREEU = Paper(
    "FreeU: Free Lunch in Diffusion U-Net",
    "Two factors re-weight skip connections without retraining.",
    id="freeu",
)
DARTS = Paper(
    "PC-DARTS: Partial Channel Connections",
    "Operations are searched on a subset of channels. On ImageNet the top-1 error is 24.2%. Larger batches fit.",
    id="darts",
)
FORECAST = Paper(
    "Efficient Bayesian Learning Curve Extrapolation",
    "Learning curves are forecast quickly.",
    id="lc",
)


def turn(question, paper=None, rewritten_query=""):
    """A turn whose answer quotes a paper, or is refused."""
    citations = (Citation(1, paper, paper.abstract[:9], 0, 9),) if paper else ()
    claims = (
        (Claim(paper.abstract[:9], "quoted", (1,), supported=True, score=1.0),) if paper else ()
    )
    trace = Trace("hash", "none", "quote", "", "", rewritten_query=rewritten_query)
    return Turn(question, Answer(question, "", claims, citations, (), not paper, "", 0.5, trace))


ABOUT_KIVI = turn("How does KIVI quantize keys?", KIVI)

LEANING = [
    "And how much peak memory does that spare?",
    "how accurate were its predictions in the field, compared with older approaches?",
    "Is it better to grow them deeper or wider?",
    "does that hurt the scores on other tasks?",
    "What speedup do I get if I stop runs early with it?",
    "How many patches are in it?",
    "Does it need retraining?",
    "by how much?",
    "why?",
    "And for training?",
    "How many datasets?",
    "On which hardware was it tested?",
    "how much faster is that than DeepSpeed?",
    "what does the model gain on GLUE?",
    "How did they do in the DNS challenge?",
    "Compare that with SparseLoRA",
    "What accuracy does the biggest one reach on ImageNet-1K?",
    "does this work for GANs too?",
    "Does FreeU help as well?",
    "and on ImageNet?",
    "What about FreeU?",
    "Is the code available?",
    "How does GPT-4 compare to it?",
    "Are keys quantized per channel or per token?",
]


@pytest.mark.parametrize("question", LEANING)
def test_a_question_that_points_back_is_read_with_the_paper_or_the_question_before(question):
    rewritten_query = rewrite_followup(question, [ABOUT_KIVI])
    assert rewritten_query.startswith(f"{question} (on ")
    assert KIVI.title in rewritten_query or question in ("What about FreeU?",)


STANDING = [
    "What is the goldfish loss?",
    "And what is the goldfish loss?",
    "And which papers clean up noisy speech?",
    "How fast is YOLOv4 on a Tesla V100?",
    "How does FreeU improve samples, and does it need retraining?",
    "Is it possible to train a network in fp16?",
    "Why is it that leaving out unimportant parts of the picture hardly speeds up CNNs?",
    "Which papers look for the architecture and the bit-width assignment at the same time?",
    "Which one is faster, FP8 or INT8?",
    "Which papers quantize keys?",
    "In KIND, what are learngenes and tailors, and how are they told apart?",
    "16-bit training with floats or with integers: what is kept at 32 bits in either?",
    "lightweight 3D U-Net brain tumor",
    "thanks",
    "Thank you very much!",
    "",
]


@pytest.mark.parametrize("question", STANDING)
def test_a_question_that_names_its_own_subject_is_asked_as_it_is(question):
    assert rewrite_followup(question, [ABOUT_KIVI]) == ""


@pytest.mark.parametrize("question", LEANING)
def test_nothing_leans_on_an_empty_history(question):
    assert rewrite_followup(question, []) == ""
    assert rewrite_followup(question, [turn("thanks")]) == ""


def test_what_about_another_subject_keeps_the_question_and_drops_the_old_one():
    assert rewrite_followup("What about KIVI?", [turn("Does FreeU need retraining?", FREEU)]) == (
        "What about KIVI? (on need retraining)"
    )


def test_what_about_something_in_the_paper_keeps_the_paper():
    turns = [turn("What CIFAR-10 error does PC-DARTS reach?", DARTS)]
    for question in ("and on ImageNet?", "What about ImageNet?"):
        assert rewrite_followup(question, turns) == f"{question} (on {DARTS.title})"


def test_a_follow_up_to_a_follow_up_still_knows_the_subject():
    turns = [ABOUT_KIVI, turn("Does it need retraining?", None, rewritten_query="...")]
    assert rewrite_followup("and how much memory does it take?", turns).endswith(
        f"(on {KIVI.title})"
    )


def test_a_question_without_words_of_its_own_also_leans_on_the_one_just_before():
    turns = [ABOUT_KIVI, turn("Does that spare peak memory?", KIVI, rewritten_query="...")]
    assert (
        rewrite_followup("by how much?", turns)
        == f"by how much? (on {KIVI.title} spare peak memory)"
    )


def test_the_subject_is_that_of_the_latest_topic():
    turns = [
        ABOUT_KIVI,
        turn("Is there a quick Bayesian way to forecast learning curves?", FORECAST),
    ]
    assert (
        rewrite_followup("Does it need training?", turns)
        == f"Does it need training? (on {FORECAST.title})"
    )


def test_after_a_refusal_the_names_or_key_words_of_its_question_are_the_subject():
    assert rewrite_followup(
        "How fast is it?", [turn("Which tools does the Geo2SigMap pipeline join?")]
    ) == ("How fast is it? (on Geo2SigMap)")
    assert (
        rewrite_followup("Does it hurt?", [turn("What is the goldfish loss?")])
        == "Does it hurt? (on goldfish loss)"
    )


def test_other_papers_are_not_sought_under_the_title_of_the_one_known():
    rewritten_query = rewrite_followup("Are there any other papers on this?", [ABOUT_KIVI])
    assert rewritten_query == "Are there any other papers on this? (on KIVI)"


def test_thanks_between_two_questions_changes_nothing():
    assert rewrite_followup("why?", [ABOUT_KIVI, turn("Thanks!")]) == rewrite_followup(
        "why?", [ABOUT_KIVI]
    )


@given(st.text(max_size=300), st.lists(st.text(max_size=80), max_size=4))
@settings(max_examples=100, deadline=None)
def test_the_question_comes_first_whatever_is_asked(question, earlier):
    rewritten_query = rewrite_followup(
        question, [turn(one, KIVI if number % 2 else None) for number, one in enumerate(earlier)]
    )
    assert rewritten_query == "" or (
        rewritten_query.startswith(question.rstrip())
        and len(rewritten_query) > len(question.rstrip())
    )


# --- conversations with a library ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(small_library):
    from rag import Library

    return Assistant(Library(small_library), language_model="none")


def ask(chat, question, **options):
    return chat.ask(question, style="quote", **options)


def test_a_follow_up_is_answered_from_the_paper_talked_about_and_says_how_it_was_read(small):
    chat = small.chat()
    first = ask(chat, "How do Sliding Ledgers shrink the KV cache?")
    second = ask(chat, "And by how much does perplexity rise?")
    assert first.trace.rewritten_query == ""
    assert second.question == "And by how much does perplexity rise?"
    assert second.trace.rewritten_query.startswith(
        "And by how much does perplexity rise? (on Sliding Ledgers"
    )
    assert "perplexity rises by 0.08" in second.text
    assert [one.question for one in chat.turns] == [first.question, second.question]
    assert [one.answer for one in chat.turns] == [first, second]


def test_a_new_topic_does_not_cite_the_papers_of_the_old_one(small):
    chat = small.chat()
    old = {c.paper.id for c in ask(chat, "How do Sliding Ledgers shrink the KV cache?").citations}
    new = ask(chat, "When does IL-6 rise in bank voles?")
    assert new.trace.rewritten_query == ""
    assert new.citations
    assert not old & {c.paper.id for c in new.citations}


def test_a_quotation_keeps_its_number_and_new_ones_go_on_counting(small):
    chat = small.chat()
    questions = [
        "How do Sliding Ledgers shrink the KV cache?",
        "When does IL-6 rise in bank voles?",
        "How do Sliding Ledgers shrink the KV cache?",
        "And by how much does perplexity rise?",
    ]
    answers = [ask(chat, question) for question in questions]
    assert [c.number for c in answers[2].citations] == [c.number for c in answers[0].citations]
    assert answers[1].citations[0].number == len(answers[0].citations) + 1
    places = {}
    for citation in (citation for answer in answers for citation in answer.citations):
        place = (citation.paper.id, citation.start, citation.end)
        assert places.setdefault(citation.number, place) == place
    assert sorted(places) == list(range(1, len(set(places.values())) + 1))


def test_a_filter_holds_until_it_is_changed_or_taken_back(small):
    chat = small.chat(year=">=2024")
    question = "How does one shrink the KV cache?"

    def years(**filters):
        return {hit.paper.year for hit in ask(chat, question, **filters).hits}

    assert years() == {2024}
    assert years(venue="") == {2024}
    assert years(year="2023") == {2023}
    assert chat.filters.year == "2023"
    assert years() == {2023}
    assert len(years(year="")) > 2


def test_what_cannot_be_asked_leaves_the_conversation_as_it_was(small):
    chat = small.chat()
    ask(chat, "How do Sliding Ledgers shrink the KV cache?")
    before = chat.turns
    for question, options in [
        ("", {}),
        ("x" * 2001, {}),
        ("Why?", {"year": "soon"}),
        ("Why?", {"colour": "red"}),
    ]:
        with pytest.raises(UsageError):
            ask(chat, question, **options)
    with pytest.raises(UsageError, match="no style"):
        chat.ask("Why?", style="loud")
    assert chat.turns == before
    assert not chat.filters
    with pytest.raises(UsageError):
        small.chat(colour="red")


def test_an_answer_nobody_waits_for_is_no_turn(small):
    chat = small.chat()
    stream = chat.stream("How do Sliding Ledgers shrink the KV cache?", style="quote")
    assert isinstance(next(stream), str)
    stream.close()
    assert chat.turns == ()


def test_a_question_stopped_before_its_first_sentence_is_no_turn(small):
    chat, stop = small.chat(), threading.Event()
    stop.set()
    *pieces, answer = chat.stream(
        "How do Sliding Ledgers shrink the KV cache?", style="quote", stop=stop
    )
    assert (pieces, answer.text, chat.turns) == ([], "", ())


def test_the_pieces_of_the_stream_are_the_text(small):
    chat = small.chat()
    for question in (
        "How do Sliding Ledgers shrink the KV cache?",
        "why?",
        "What is the capital of France?",
    ):
        *pieces, answer = chat.stream(question, style="quote")
        assert "".join(pieces) == answer.text


def test_ten_turns_end_where_the_talk_has_gone(small):
    chat = small.chat()
    for question in [
        "How do Sliding Ledgers shrink the KV cache?",
        *["and how much does that cost?"] * 8,
    ]:
        ask(chat, question)
    last = ask(chat, "How long was the effect of heat on corals?")
    assert len(chat.turns) == 10
    assert last.trace.rewritten_query == ""
    assert "Corals" in last.hits[0].paper.title


def test_two_conversations_know_nothing_of_each_other(small):
    one, other = small.chat(), small.chat()
    ask(one, "How do Sliding Ledgers shrink the KV cache?")
    assert ask(other, "And by how much does perplexity rise?").trace.rewritten_query == ""


def test_a_conversation_goes_on_from_earlier_answers(small):
    one = small.chat()
    first = ask(one, "How do Sliding Ledgers shrink the KV cache?")
    other = small.chat([first])
    assert other.turns == one.turns
    again, there = ask(other, "And by how much?"), ask(one, "And by how much?")
    assert (again.text, again.citations, again.trace.rewritten_query) == (
        there.text,
        there.citations,
        there.trace.rewritten_query,
    )
    assert again.trace.rewritten_query


def test_the_markdown_of_a_conversation_defines_each_footnote_once(small):
    chat = small.chat()
    for question in (
        "How do Sliding Ledgers shrink the KV cache?",
        "When does IL-6 rise in bank voles?",
    ) * 2:
        ask(chat, question)
    text = chat.to_markdown()
    defined = re.findall(r"^\[\^(\d+)\]: ", text, re.MULTILINE)
    used = re.findall(r"\[\^(\d+)\](?!:)", text)
    assert len(defined) == len(set(defined))
    assert set(defined) == set(used)
    assert (
        text.count("**When does IL\\-6 rise in bank voles?**") + text.count("**When does IL-6") == 2
    )
    assert small.chat().to_markdown() == "\n"
