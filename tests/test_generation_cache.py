"""Cache of generations: replies are replayed in their pieces, and speed is not measured on them."""

import json
from threading import Event

import pytest
from fakes import ScriptedModel, repeat_forever

from eval.harness.generation_cache import GenerationCache, cache_generations
from rag.errors import ModelFailed
from rag.models.language_model import ChoiceModel, GenerationLimits, Message

QUESTION = [Message("user", "How salty?")]
LIMITS = GenerationLimits(tokens=20, seconds=10.0)
PIECES = ["Barley ", "tolerates ", "8 ", "grams."]


class ChoosingModel(ScriptedModel):
    """Scripted model that gives the first choice a probability; `choices` are those it got."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability
        self.choices = []

    def choice_probability(self, messages, choices, limits, stop):
        self.choices.append(choices)
        return self.probability


@pytest.fixture
def cache(tmp_path):
    return GenerationCache(tmp_path)


def read(model, messages=QUESTION, limits=LIMITS, stop=None):
    return list(model.stream(messages, limits, stop or Event()))


def test_a_reply_is_generated_once_and_replayed_in_its_pieces(cache, tmp_path):
    model = ScriptedModel(PIECES)
    cached = cache_generations(model, cache)
    assert (cached.name, cached.fingerprint, cached.context_tokens) == (
        "scripted",
        "scripted-1",
        8192,
    )
    assert cached.count_tokens(QUESTION) == 2
    assert read(cached) == PIECES
    assert cache.hits == 0
    assert read(cached) == PIECES
    assert cache.hits == 1
    # Another process, another object of the same model.
    again = ScriptedModel("something else")
    assert read(cache_generations(again, GenerationCache(tmp_path))) == PIECES
    assert (len(model.prompts), len(again.prompts)) == (1, 0)


@pytest.mark.parametrize(
    ("fingerprint", "messages", "limits"),
    [
        ("scripted-2", QUESTION, LIMITS),
        ("scripted-1", [Message("system", "How salty?")], LIMITS),
        ("scripted-1", [*QUESTION, Message("assistant", "Very.")], LIMITS),
        ("scripted-1", QUESTION, GenerationLimits(tokens=21, seconds=10.0)),
        ("scripted-1", QUESTION, GenerationLimits(tokens=20, seconds=11.0)),
    ],
)
def test_another_model_prompt_or_limit_is_another_reply(cache, fingerprint, messages, limits):
    read(cache_generations(ScriptedModel(PIECES), cache))
    other = cache_generations(ScriptedModel("Other.", fingerprint), cache)
    assert read(other, messages, limits) == ["Other."]
    assert cache.hits == 0


def test_a_reply_that_its_reader_ended_is_replayed_and_continued(cache):
    model = ScriptedModel(PIECES)
    cached = cache_generations(model, cache)
    stream = cached.stream(QUESTION, LIMITS, Event())
    assert [next(stream), next(stream)] == PIECES[:2]
    stream.close()
    stream = cached.stream(QUESTION, LIMITS, Event())
    assert [next(stream), next(stream)] == PIECES[:2]
    stream.close()
    assert len(model.prompts) == 1
    assert read(cached) == PIECES
    assert len(model.prompts) == 2
    assert read(cached) == PIECES
    assert len(model.prompts) == 2


def test_a_continued_reply_may_come_in_other_pieces(cache):
    stream = cache_generations(ScriptedModel(PIECES), cache).stream(QUESTION, LIMITS, Event())
    next(stream)
    stream.close()
    other_pieces = cache_generations(ScriptedModel(["Bar", "ley toler", "ates 8 grams."]), cache)
    assert read(other_pieces) == ["Barley ", "toler", "ates 8 grams."]


def test_a_stopped_reply_is_not_taken_for_a_complete_one(cache):
    stop = Event()
    stream = cache_generations(ScriptedModel(repeat_forever("more ")), cache).stream(
        QUESTION, LIMITS, stop
    )
    next(stream)
    stop.set()
    list(stream)
    assert read(cache_generations(ScriptedModel(["more ", "and less"]), cache))[-1] == "and less"
    assert read(cache_generations(ScriptedModel("x"), cache), stop=stop) == []


def test_errors_are_not_cached(cache):
    failing = cache_generations(ScriptedModel(["Barley ", ModelFailed("m", "broken")]), cache)
    for _ in range(2):
        with pytest.raises(ModelFailed, match="broken"):
            read(failing)
    assert read(cache_generations(ScriptedModel(PIECES), cache)) == PIECES


def test_probabilities_of_choices_are_cached(cache):
    model = ChoosingModel(0.25)
    cached = cache_generations(model, cache)
    assert isinstance(cached, ChoiceModel)
    for _ in range(2):
        assert cached.choice_probability(QUESTION, ("Yes", "No"), LIMITS, Event()) == 0.25
    assert cached.choice_probability(QUESTION, ("No", "Yes"), LIMITS, Event()) == 0.25
    assert model.choices == [("Yes", "No"), ("No", "Yes")]
    assert cache.hits == 1


def test_a_model_without_choices_stays_one(cache):
    assert not isinstance(cache_generations(ScriptedModel(), cache), ChoiceModel)


@pytest.mark.parametrize("content", ["", '{"pieces": ["Bar', "[]"])
def test_a_damaged_entry_is_generated_again(cache, tmp_path, content):
    cached = cache_generations(ScriptedModel(PIECES), cache)
    read(cached)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(content)
    assert read(cached) == PIECES
    assert cache.hits == 0
    assert json.loads(file.read_text())["pieces"] == PIECES
    assert not list(tmp_path.rglob("*.part"))
