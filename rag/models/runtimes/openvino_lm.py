"""Language models in OpenVINO."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

from rag.errors import ModelFailed
from rag.models.files import fingerprint_folder, read_context_length, read_json
from rag.models.language_model import (
    GenerationLimits,
    Message,
    check_prompt_fits,
    compare_logits,
    find_draft,
    format_chat,
    format_transcript,
    split_choices,
)
from rag.models.runtimes.openvino_offline import openvino_genai
from rag.models.runtimes.openvino_predictor import TokenPredictor
from rag.models.runtimes.streaming import Emit, run_in_thread, stream_from_thread
from rag.models.vectors import Vectors


def open_language_model(name: str) -> "OpenVinoLanguageModel":
    """Open the model in a folder of OpenVINO files."""
    folder = Path(name).resolve()
    return OpenVinoLanguageModel(folder.name, folder, fingerprint_folder(folder))


class OpenVinoLanguageModel:
    """Language model that runs in OpenVINO. Thread-safe; it does one thing at a time."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.context_tokens = read_context_length(read_json(folder / "config.json") or {})
        self._genai = openvino_genai()
        self._tokenizer = self._genai.Tokenizer(str(folder))
        self._special_tokens = _special_tokens(self._tokenizer)
        self._end_tokens = _end_tokens(self._tokenizer, folder)
        self._predictor = TokenPredictor(name, folder / "openvino_model.xml")
        self._lock = threading.Lock()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, its chat template included."""
        return len(self._encode(messages))

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in pieces; see `LanguageModel.stream`."""
        prompt = self._encode(messages)
        check_prompt_fits(self.name, len(prompt), limits, self.context_tokens)

        def generate(emit: Emit) -> None:
            with self._lock:
                if emit(""):  # the consumer may have left while another generation ran
                    self._generate(prompt, limits, emit)

        return stream_from_thread(self.name, generate, limits, stop)

    def choice_probability(
        self,
        messages: Sequence[Message],
        choices: tuple[str, str],
        limits: GenerationLimits,
        stop: Event,
    ) -> float | None:
        """Return how probable the first choice is; see `ChoiceModel.choice_probability`."""
        shared, first, second = split_choices(*map(self._tokenize, choices))
        prompt = self._encode(messages) + shared
        check_prompt_fits(self.name, len(prompt), limits, self.context_tokens)

        def compare(emit: Emit) -> float | None:
            with self._lock:
                logits = self._predictor.read_prompt(prompt, lambda: emit(""))
            return None if logits is None else compare_logits(logits[first], logits[second])

        return run_in_thread(self.name, compare, limits, stop)

    def hidden_state(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Vectors | None:
        """Return the state after a prompt; see `HiddenStateModel.hidden_state`."""
        if not self._predictor.has_hidden_state:
            return None
        prompt = self._encode(messages)
        check_prompt_fits(self.name, len(prompt), limits, self.context_tokens)

        def read(emit: Emit) -> Vectors | None:
            with self._lock:
                logits = self._predictor.read_prompt(prompt, lambda: emit(""))
                return None if logits is None else self._predictor.hidden_state()

        return run_in_thread(self.name, read, limits, stop)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt's token ids.

        A chat template includes the first token; a transcript does not.
        """
        turns = format_chat(messages, self._special_tokens)
        if not self._tokenizer.chat_template:
            return self._tokenize(format_transcript(turns), add_special_tokens=True)
        try:
            text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        except RuntimeError as error:  # a template is untrusted code, and may refuse a role
            raise ModelFailed(self.name, f"cannot apply its chat template: {error}") from error
        return self._tokenize(text)

    def _tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        encoded = self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return list(map(int, encoded.input_ids.data[0]))

    def _generate(self, prompt: list[int], limits: GenerationLimits, emit: Emit) -> None:
        streamer = self._genai.TextStreamer(self._tokenizer, lambda text: not emit(text))
        tokens = _generate_greedily(self._predictor, prompt, lambda: emit(""))
        for token in islice(tokens, limits.tokens):
            if token in self._end_tokens:
                break
            streamer.write(token)
        streamer.end()


def _generate_greedily(
    predictor: TokenPredictor, prompt: Sequence[int], go_on: Callable[[], bool]
) -> Iterator[int]:
    """Yield the likeliest tokens after a prompt, without end, until `go_on()` is false.

    A reply repeats many words of its prompt. So when its last tokens occurred before, the tokens
    that followed there are read along as a draft, and kept as far as they are the likeliest ones.
    """
    logits = predictor.read_prompt(prompt, go_on)
    if logits is None:
        return
    text = [*prompt, int(logits.argmax())]
    yield text[-1]
    while go_on():
        draft = find_draft(text) if predictor.can_forget else []
        likeliest = predictor.read([text[-1], *draft]).argmax(axis=-1).tolist()
        accepted = 0
        while accepted < len(draft) and draft[accepted] == likeliest[accepted]:
            accepted += 1
        predictor.forget_last(len(draft) - accepted)
        text += likeliest[: accepted + 1]
        yield from likeliest[: accepted + 1]


def _end_tokens(tokenizer: Any, folder: Path) -> frozenset[int]:  # noqa: ANN401
    """Return the tokens that end a reply according to the tokenizer or the model's settings."""
    settings = read_json(folder / "generation_config.json") or {}
    tokens = settings.get("eos_token_id")
    listed = tokens if isinstance(tokens, list) else [tokens]
    return frozenset([tokenizer.get_eos_token_id(), *filter(None, listed)])


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401 - OpenVINO has no types
    """Return the tokens that the tokenizer omits from decoded text, such as `<s>` or `[INST]`."""
    special = []
    for token, number in tokenizer.get_vocab().items():
        is_bracketed = token[:1] in (b"<", b"[") and token[-1:] in (b">", b"]") and len(token) > 2
        if is_bracketed and not tokenizer.decode([number]):
            special.append(bytes(token).decode("utf-8", "replace"))
    return tuple(special)
