"""Verifying a sentence with the language model that wrote it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import JudgingModel

from rag.answering.answer_models import AnswerModels
from rag.answering.prompts import load_prompt
from rag.answering.support import FittedSupport, SupportVerifier, load_support, verifying_prompt
from rag.models.bundled_weights import bundled_gguf
from rag.verification.verifier import Source

TITLE = "Heron: counting boats on canals"
MISSES = Source("Heron misses one boat in forty, while people miss one in nine.", TITLE)
CANALS = Source("It was tried on 12 canals in Friesland.", TITLE)
COUNTS = Source("Heron counts boats with a camera, and misses fewer of them than people do.", TITLE)
TRIED = Source("It was tried on 12 canals in Friesland, but not on rivers.", TITLE)
FITTED = load_support()
PROBE = FITTED.probe


class StateModel(JudgingModel):
    """Scripted model with a hidden state that a test sets."""

    def __init__(self, state, **options):
        super().__init__(fingerprint=PROBE.fingerprint, **options)
        self.state = state

    def hidden_state(self, messages, limits, stop):
        self.prompts.append(list(messages))
        return self.state


def state_with_probability(probability):
    log_odds = np.log(probability / (1 - probability))
    factor = (log_odds - PROBE.intercept) / (PROBE.weights @ PROBE.weights)
    return (PROBE.weights * factor).astype(np.float32)


# The log-odds of a sentence are those of the probe, less 1 for each doubling of its fragments.
THRESHOLD = {"state": 0.75, "entailment": 0.75}
BY_FRAGMENTS = (1.0, 1.0, -1 / math.log(2), 0.0, 0.0)
EVEN = FittedSupport(PROBE, {"state": BY_FRAGMENTS, "entailment": BY_FRAGMENTS}, THRESHOLD)


def check(sentence, *sources, probability=0.999):
    model = StateModel(state_with_probability(probability))
    return SupportVerifier(model, EVEN).check(sentence, sources), model


@pytest.mark.parametrize(("probability", "supported"), [(0.76, True), (0.74, False)])
def test_probability_has_to_reach_the_threshold(probability, supported):
    support, _ = check("Heron misses one boat.", MISSES, probability=probability)
    assert support.supported == supported
    assert support.score == pytest.approx(probability, abs=1e-3)
    assert bool(support.reason) != supported


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("Heron was tried on 13 canals.", "does not contain the number 13"),
        ("Heron beats Osprey on canals.", "does not mention Osprey"),
        ("It is.", "too short"),
    ],
)
def test_numbers_and_names_are_checked_before_the_model_is_asked(sentence, reason):
    support, model = check(sentence, CANALS)
    assert not support.supported
    assert reason in support.reason
    assert model.prompts == []


def test_more_fragments_make_a_sentence_less_probable():
    one, _ = check("Heron misses one boat.", MISSES, probability=0.5)
    # "Heron", "miss", "boat" and "people" are apart in the quotation.
    four, _ = check("Boats miss people, Heron.", MISSES, probability=0.5)
    assert one.score == pytest.approx(0.5, abs=1e-3)
    assert four.score == pytest.approx(1 / (1 + 2.5 ** (1 / math.log(2))), abs=1e-2)


@pytest.mark.parametrize(
    ("weights", "source", "log_odds"),
    [
        # Two of the three new terms, "miss", "boat" and "river", are in the quotation.
        ((0.0, 0.0, 0.0, 3.0, 0.0), replace(MISSES, question="What does Heron do?"), 2.0),
        ((0.0, 0.0, 0.0, 0.0, 0.5), replace(MISSES, log_odds=-4.0), -2.0),
    ],
)
def test_new_terms_and_the_quality_of_the_source_count(weights, source, log_odds):
    model = StateModel(state_with_probability(0.5))
    verifier = SupportVerifier(model, FittedSupport(PROBE, {"state": weights}, THRESHOLD))
    support = verifier.check("Heron misses boats on rivers.", [source])
    assert support.score == pytest.approx(1 / (1 + math.exp(-log_odds)), abs=1e-3)


def test_names_may_come_from_the_question():
    source = Source(CANALS.text, TITLE, "Does Heron beat Osprey?")
    support, _ = check("Heron beats Osprey on canals.", source)
    assert support.supported


def test_number_may_be_the_year_of_the_paper():
    dated = Source(CANALS.text, TITLE, year=2021)
    assert check("In 2021, Heron was tried on canals.", dated)[0].supported
    assert not check("In 2022, Heron was tried on canals.", dated)[0].supported


def test_copy_of_a_source_is_supported_without_the_model():
    support, model = check(CANALS.text, MISSES, CANALS)
    assert support.supported
    assert model.prompts == []


def test_prompt_names_a_title_once():
    [_, message] = verifying_prompt("Boats are missed.", [MISSES, CANALS])
    lines = message.content.split("\n")
    assert lines[:3] == [TITLE, f"[1] {MISSES.text}", f"[2] {CANALS.text}"]
    assert "Statement: Boats are missed." in lines


@pytest.mark.parametrize("model", [StateModel(None), JudgingModel()], ids=["silent", "other"])
def test_entailment_model_tells_where_there_is_no_state(model):
    verifier = AnswerModels("none").load_verifier(model)
    true = verifier.check("Heron misses one boat in forty.", [replace(MISSES, log_odds=3.0)])
    false = verifier.check("Heron misses people because boats are slow.", [MISSES])
    assert (true.supported, false.supported) == (True, False)
    assert false.reason == "the source does not say this"


def test_fitted_probe_is_that_of_the_bundled_language_model_and_prompt():
    assert PROBE.fingerprint == bundled_gguf().fingerprint
    assert load_prompt("verify").digest == PROBE.prompt_digest, "fit the probe again"
    assert all(0.5 <= threshold < 1 for threshold in FITTED.threshold.values())


@pytest.mark.parametrize(
    ("sentence", "source", "supported"),
    [
        ("Heron uses a camera to count boats.", COUNTS, True),
        ("Heron counts boats with microphones.", COUNTS, False),
        ("Heron misses boats because the water shines.", COUNTS, False),
        ("Heron misses more boats than people.", COUNTS, False),
        ("Heron was tested on twelve canals in Friesland.", TRIED, True),
        ("Heron was not tested on rivers.", TRIED, True),
        ("Heron was tested on rivers.", TRIED, False),
    ],
)
def test_bundled_model_tells_what_a_source_supports(bundled, sentence, source, supported):
    verifier = AnswerModels(bundled).load_verifier(bundled)
    assert verifier.check(sentence, [source]).supported == supported
