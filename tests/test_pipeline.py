"""Answers with a language model: styles, failing models, streams, and abstentions."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from conftest import PAPERS
from fakes import JudgingModel, ScriptedModel, WordVerifier, repeat_forever
from hypothesis import given, settings
from hypothesis import strategies as st
from test_answers import open_library
from test_generation import HOSTILE, answer_task

from rag import Answer, Assistant, ModelFailed, UsageError
from rag.answering.pipeline import ABSTENTION_THRESHOLD
from rag.answering.prompts import load_prompt
from rag.records import Preview
from rag.verification.verifier import Source

QUESTION = "How much does the KV cache shrink with Sliding Ledgers?"
GENERATED = "On average the KV cache shrinks by 71%."
DIGESTS = f"{load_prompt('judge').digest} {load_prompt('write').digest}"
QUOTED = "The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only."


@pytest.fixture(scope="module")
def model():
    return ScriptedModel()


@pytest.fixture(scope="module")
def scripted(small_library, model):
    """Assistant with the scripted model as generator."""
    return Assistant.open(small_library, language_model=model)


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture(scope="module")
def bundled_assistant(small_library, bundled):
    return Assistant.open(small_library, language_model=bundled)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))


def keeps_promises(answer):
    """Assert the promises about citations, quotations and support; return True."""
    citations = {citation.number: citation for citation in answer.citations}
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end] != ""
    cited_numbers = set()
    for claim in answer.claims:
        assert claim.supported
        assert claim.citations
        assert claim.text in answer.text
        cited_numbers.update(claim.citations)
        cited = [citations[number] for number in claim.citations]
        if claim.kind == "quoted":
            assert claim.text == cited[0].quote
        elif claim.kind == "extracted":
            assert claim.text in cited[0].quote
        else:
            asked = f"{answer.question} {answer.trace.rewritten_query}"
            sources = [
                Source(each.quote, each.paper.title, asked, each.paper.year) for each in cited
            ]
            text = re.sub(r"^(?:yes|no)[,.:;] ", "", claim.text, flags=re.IGNORECASE)
            assert WordVerifier().check(text, sources).supported
    assert cited_numbers == set(citations)
    shown_numbers = set(map(int, re.findall(r"\[(\d+)\]$", answer.text, re.MULTILINE)))
    assert answer.abstained or shown_numbers <= set(citations)
    json.loads(answer.to_json())
    return True


def kinds(answer):
    return {claim.kind for claim in answer.claims}


def without_seconds(answer):
    return replace(answer, trace=replace(answer.trace, seconds={}))


# --- styles -----------------------------------------------------------------------------------


def test_write_style_generates(scripted, model):
    model.reply = f"{GENERATED} [1]"
    answer = scripted.ask(QUESTION, style="write")
    written, *quotations = answer.claims
    assert (written.kind, written.text) == ("generated", GENERATED)
    assert {claim.kind for claim in quotations} == {"quoted"}
    assert answer.text.startswith(f"{GENERATED} [1]\n\n")
    assert answer.citations[0].quote == QUOTED
    assert (answer.trace.style, answer.trace.language_model) == ("write", "scripted")
    assert "instead" not in answer.trace.fallback
    assert answer.trace.settings["style"] == "write"
    assert answer.trace.tokens["reply"] > 0
    assert answer.trace.prompt_digest == DIGESTS
    assert set(answer.trace.seconds) == {"retrieval", "evidence", "judgement", "generation"}
    assert keeps_promises(answer)


def test_same_question_gets_the_same_answer(scripted, model):
    model.reply = f"{GENERATED} [1] Upkeep is free."
    answer, again = (scripted.ask(QUESTION, style="write") for _ in range(2))
    assert without_seconds(answer) == without_seconds(again)


def test_quote_style_does_not_use_the_generator(scripted, model):
    model.reply = [RuntimeError("must not be used")]
    prompts = len(model.prompts)
    answer = scripted.ask(QUESTION, style="quote")
    assert kinds(answer) == {"quoted"}
    assert (answer.trace.language_model, len(model.prompts)) == ("none", prompts)
    assert "instead" not in answer.trace.fallback


def test_missing_generator_is_named_and_replaced_by_quotations(small_library, tmp_path):
    assistant = Assistant.open(small_library, language_model=str(tmp_path))
    answer = assistant.ask(QUESTION, style="quote")
    assert str(tmp_path) not in answer.trace.fallback
    assert answer.claims
    for style in ("write", "auto", "write"):
        answer = assistant.ask(QUESTION, style=style)
        assert kinds(answer) == {"quoted"}
        assert str(tmp_path) in answer.trace.fallback
        assert "direct quotes instead" in answer.trace.fallback
        assert (answer.trace.style, answer.trace.language_model) == ("quote", "none")
        assert keeps_promises(answer)


def test_auto_style_generates_with_a_model_that_passed_the_check(scripted, model, own_cache):
    model.reply = lambda messages: (
        [GENERATED] if "Ledgers" in messages[-1].content else answer_task(messages)
    )
    assert kinds(scripted.ask(QUESTION)) == {"generated", "quoted"}


def test_auto_style_quotes_with_a_model_that_failed_the_check(scripted, model, own_cache):
    model.reply = "As an AI I love birds."
    answer = scripted.ask(QUESTION)
    assert kinds(answer) == {"quoted"}
    assert answer.trace.style == "quote"
    assert "instead" not in answer.trace.fallback, "nothing went wrong"


def shape(value):
    """Return the keys and types of JSON data, without what depends on the style."""
    if isinstance(value, dict):
        varying = ("tokens", "settings", "seconds")
        return {key: shape(item) for key, item in value.items() if key not in varying}
    return [shape(value[0])] if isinstance(value, list) and value else type(value)


def test_answer_has_the_same_shape_with_and_without_a_model(quoting, scripted, model):
    model.reply = GENERATED
    quoted = quoting.ask(QUESTION).to_dict()
    generated = scripted.ask(QUESTION, style="write").to_dict()
    assert shape(quoted) == shape(generated)
    assert quoted["trace"]["language_model"] == "none"


def test_none_loads_no_language_model_in_any_style(small_library):
    code = """
import sys
from rag import Assistant
assistant = Assistant.open(sys.argv[1], language_model="none")
for style in ("auto", "quote", "write"):
    answer = assistant.ask(sys.argv[2], style=style)
    assert answer.claims and answer.trace.style == "quote"
heavy = ("openvino_genai", "torch", "transformers", "openai")
print([name for name in heavy if name in sys.modules])
"""
    command = [sys.executable, "-c", code, str(small_library), QUESTION]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_unknown_style_is_refused(quoting):
    with pytest.raises(UsageError, match="unknown style 'poem'; choose from: auto, quote, write"):
        quoting.ask(QUESTION, style="poem")


def test_bundled_model_keeps_the_promises_when_it_writes(bundled_assistant):
    answer = bundled_assistant.ask(QUESTION, style="write")
    assert answer.claims
    assert keeps_promises(answer)


# --- failing models ---------------------------------------------------------------------------


def test_generator_that_fails_at_once_is_replaced_by_quotations(scripted, model):
    model.reply = [RuntimeError("out of memory")]
    answer = scripted.ask(QUESTION, style="write")
    assert kinds(answer) == {"quoted"}
    assert "out of memory" in answer.trace.fallback
    assert answer.trace.style == "quote"
    assert keeps_promises(answer)


def test_generator_that_fails_midway_leaves_an_incomplete_answer(scripted, model):
    model.reply = [f"{GENERATED} [1] And then ", "it ", RuntimeError("out of memory")]
    answer = scripted.ask(QUESTION, style="write")
    assert answer.text.startswith(f"{GENERATED} [1]\n\n")
    assert kinds(answer) == {"generated", "quoted"}
    assert "out of memory" in answer.trace.fallback
    assert "the answer is incomplete" in answer.trace.fallback
    assert answer.trace.style == "write"
    assert answer.trace.prompt_digest == DIGESTS
    assert keeps_promises(answer)


@pytest.mark.parametrize("reply", ["", "Parliament sings of railways.", HOSTILE])
def test_useless_draft_is_replaced_by_quotations(scripted, model, reply):
    model.reply = reply
    answer = scripted.ask(QUESTION, style="write")
    assert kinds(answer) == {"quoted"}
    assert keeps_promises(answer)


def test_quotation_that_an_unsupported_draft_rests_on_comes_first(scripted, quoting, model):
    first, second, *_ = quoting.ask(QUESTION).claims
    model.reply = f"{second.text.rstrip('.')} 999 times."
    answer = scripted.ask(QUESTION, style="write")
    assert [claim.text for claim in answer.claims[:2]] == [second.text, first.text]


def test_fallback_says_that_the_draft_was_not_supported(scripted, model):
    model.reply = "Parliament sings of railways."
    trace = scripted.ask(QUESTION, style="write").trace
    expected = "showing direct quotes instead: your papers did not support the generated text"
    assert expected in trace.fallback
    assert trace.tokens["dropped_sentences"] == 1


def test_evidence_that_a_model_judges_insufficient_leads_to_an_abstention(small_library):
    model = JudgingModel(GENERATED, judgement=0.01)
    assistant = Assistant.open(small_library, language_model=model)
    answer = assistant.ask(QUESTION, style="write")
    assert answer.abstained
    assert answer.reason == "The abstracts of the closest papers do not state the answer."
    assert answer.claims == answer.citations == ()
    assert len(answer.hits) == 3
    assert len(model.prompts) == 1, "nothing is written"
    assert answer.trace.signals["judgement"] == 0.01


def test_evidence_that_a_model_judges_sufficient_raises_the_confidence(small_library, quoting):
    model = JudgingModel(GENERATED, judgement=0.99)
    answer = Assistant.open(small_library, language_model=model).ask(QUESTION, style="write")
    assert kinds(answer) == {"generated", "quoted"}
    assert answer.confidence > ABSTENTION_THRESHOLD
    assert keeps_promises(answer)


def test_model_that_fails_to_judge_is_replaced_by_quotations(small_library):
    model = JudgingModel(GENERATED, judgement=ModelFailed("scripted", "out of memory"))
    answer = Assistant.open(small_library, language_model=model).ask(QUESTION, style="write")
    assert kinds(answer) == {"quoted"}
    assert "out of memory" in answer.trace.fallback
    assert keeps_promises(answer)


def test_trace_names_papers_that_did_not_fit_into_the_context(small_library):
    narrow = ScriptedModel(GENERATED, context_tokens=1)
    answer = Assistant.open(small_library, language_model=narrow).ask(QUESTION, style="write")
    assert answer.claims
    assert answer.trace.left_out
    assert set(answer.trace.left_out) <= {hit.paper.id for hit in answer.hits}


# --- streams and stops ------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["quote", "write"])
@pytest.mark.parametrize(
    "reply",
    [
        f"{GENERATED} Recall stays above 98%.",
        "",
        [f"{GENERATED} Bees ", ValueError("x")],
        HOSTILE,
    ],
)
def test_streamed_pieces_are_the_text_of_the_answer(scripted, model, style, reply):
    model.reply = reply
    preview, *pieces, answer = scripted.stream(QUESTION, style=style)
    assert isinstance(answer, Answer)
    assert preview == Preview(preview.evidence)
    assert preview.evidence
    assert "".join(pieces) == answer.text
    assert without_seconds(answer) == without_seconds(scripted.ask(QUESTION, style=style))


def test_sentence_is_streamed_while_the_next_is_generated(scripted, model):
    released = threading.Event()

    def reply(_messages):
        yield f"{GENERATED} [1] Recall "
        released.wait(20)
        yield "stays above 98%. "

    model.reply = reply
    events = scripted.stream(QUESTION, style="write")
    assert isinstance(next(events), Preview)
    assert next(events) == f"{GENERATED} [1]"
    released.set()
    assert isinstance(list(events)[-1], Answer)


def test_stop_midway_keeps_the_claims_so_far(scripted, model):
    model.reply = lambda _: [f"{GENERATED} [1] And ", *["so on "] * 2_000]
    stop = threading.Event()
    events = scripted.stream(QUESTION, style="write", stop=stop)
    next(events)
    first = next(events)
    stop.set()
    *_, answer = events
    assert first.startswith(GENERATED)
    assert [claim.text for claim in answer.claims] == [GENERATED]
    assert "the answer is incomplete: it was stopped early" in answer.trace.fallback
    assert keeps_promises(answer)


@pytest.mark.parametrize("style", ["quote", "write"])
def test_stop_beforehand_gives_an_empty_answer(scripted, model, style):
    model.reply = lambda _: repeat_forever("and so on ")
    stop = threading.Event()
    stop.set()
    _, *pieces, answer = scripted.stream(QUESTION, style=style, stop=stop)
    assert (pieces, answer.claims, answer.text) == ([], (), "")
    assert "stopped early" in answer.trace.fallback


def test_closing_a_stream_frees_the_model(scripted, model):
    ended = threading.Event()

    def reply(_messages):
        try:
            yield f"{GENERATED} [1] "
            yield from repeat_forever("and so on ")
        finally:
            ended.set()

    model.reply = reply
    events = scripted.stream(QUESTION, style="write")
    next(events)
    next(events)
    events.close()
    assert ended.wait(10)


# --- abstentions ------------------------------------------------------------------------------


def test_abstention_of_an_empty_library(tmp_path):
    answer = Assistant.open(tmp_path / "empty", language_model="none").ask("Anything?")
    assert (answer.abstained, answer.reason, answer.hits) == (
        True,
        "There are no papers here yet.",
        (),
    )


def test_abstention_when_no_paper_matches_the_filters(quoting):
    assert quoting.ask(QUESTION, year="1901").reason == "No papers match your filters."


def test_abstention_on_an_unrelated_question(quoting):
    question = "Who won the football cup?"
    answer = quoting.ask(question)
    assert answer.reason == "No paper here answers this."
    filtered = quoting.ask(question, year=">=2023")
    assert filtered.reason == "No paper that matches your filters answers this."
    assert filtered.text == f"Your library does not say. {filtered.reason}"


def test_abstention_explains_a_question_in_another_script(quoting):
    answer = quoting.ask("Ποια είναι η πρωτεύουσα της Γαλλίας;")
    assert answer.abstained
    assert "bundled models read English only" in answer.reason


def test_abstention_of_a_library_with_one_paper(tmp_path):
    paper = {"title": "Salt marsh", "abstract": "Salt marshes store carbon. They grow."}
    assistant = open_library(tmp_path, paper)
    answer = assistant.ask("Who won the football cup?")
    assert answer.reason == "The only paper here does not answer this."
    assert not assistant.ask("Do salt marshes store carbon?").abstained


def test_abstention_says_what_the_closest_papers_lack(quoting):
    answer = quoting.ask("Which GPU did the cranes of GPT-9 use on ImageNet?")
    assert answer.abstained
    assert answer.reason.startswith("The closest papers do not mention ")
    assert "ImageNet" in answer.reason


def test_abstention_does_not_use_the_generator(scripted, model):
    prompts = len(model.prompts)
    assert scripted.ask("Who won the football cup?", style="write").abstained
    assert len(model.prompts) == prompts


def test_paper_without_an_abstract_is_found_but_not_quoted(tmp_path):
    title = "An open letter on reading abstracts only"
    answer = open_library(tmp_path, {"title": title}).ask("Which letter is about abstracts?")
    assert answer.abstained
    assert [hit.paper.title for hit in answer.hits] == [title]


# --- promises, whatever the model writes --------------------------------------------------------


def kv_sentences():
    """Return the sentences of the test papers about the KV cache."""
    sentences = []
    for line in PAPERS.read_text(encoding="utf-8").splitlines():
        if "KV" in line:
            sentences += json.loads(line).get("abstract", "").split(". ")
    return [f"{sentence.rstrip('.')}." for sentence in sentences if sentence]


WORDS = (
    "KV cache shrinks by 71% 17% not no perplexity GPT-4 keys two bits. [1] [2] [9] [1234] [^1]"
).split()
word_lists = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9)
lines = st.sampled_from([*kv_sentences(), HOSTILE])
outputs = st.lists(lines | word_lists.map(" ".join), max_size=5)
separators = st.sampled_from([" ", " [1] ", " [2]. ", " [1-3]\n", "\n- "])


@pytest.mark.promise("literal-citations")
@settings(max_examples=40, deadline=None)
@given(outputs, separators)
def test_promises_hold_whatever_a_model_writes(scripted, model, pieces, separator):
    model.reply = [piece + separator for piece in pieces]
    answer = scripted.ask(QUESTION, style="write")
    assert answer.abstained or answer.claims
    assert keeps_promises(answer)
