"""Language models in OpenVINO: its pipeline generates, and a modified graph scores questions.

Each is compiled on first use, because quoting answers needs no pipeline.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from rag.config import cache_folder
from rag.errors import ModelFailed
from rag.models.files import fingerprint_folder, read_context_length, read_json
from rag.models.language_model import (
    MAX_CONTEXT_TOKENS,
    MAX_QUESTION_TOKENS,
    GenerationLimits,
    Message,
    check_prompt_fits,
    escape_special_tokens,
    format_chat,
    format_transcript,
)
from rag.models.runtimes.openvino_offline import openvino, openvino_genai
from rag.models.runtimes.streaming import Emit, stream_from_thread

# Operations that may follow the last matrix product: they treat every position alike.
_PER_POSITION = frozenset({"Convert", "Multiply", "Divide", "Tanh", "Add"})
# OpenVINO caches its preparations for each text length, half a megabyte each, by default for 5,000
# lengths. A smaller cache is as fast.
_SMALL_CACHE = {"CPU_RUNTIME_CACHE_CAPACITY": "64"}
_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "beam_idx"})
_REQUIRED_INPUTS = frozenset({"input_ids", "attention_mask"})


def open_language_model(name: str) -> "OpenVinoLanguageModel":
    """Open the model in a folder of OpenVINO files."""
    folder = Path(name).resolve()
    return open_openvino_folder(folder.name, folder, fingerprint_folder(folder))


def open_openvino_folder(name: str, folder: Path, fingerprint: str) -> "OpenVinoLanguageModel":
    """Open a model; it can also score questions if its graph has the usual structure."""
    graph = _read_scoring_graph(folder / "openvino_model.xml")
    if graph is None:
        return OpenVinoLanguageModel(name, folder, fingerprint)
    return OpenVinoQueryLikelihoodModel(name, folder, fingerprint, graph)


class OpenVinoLanguageModel:
    """Language model that runs in OpenVINO. Thread-safe; replies are generated one at a time."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.context_tokens = read_context_length(read_json(folder / "config.json") or {})
        self._folder = folder
        self._genai = openvino_genai()
        self._tokenizer = self._genai.Tokenizer(str(folder))
        self._special_tokens = _special_tokens(self._tokenizer)
        self._pipeline: Any = None
        self._generation_lock = threading.Lock()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, its chat template included."""
        return int(self._encode(messages).input_ids.shape[1])

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """Yield the reply in pieces; see `LanguageModel.stream`."""
        inputs = self._encode(messages)
        prompt_tokens = int(inputs.input_ids.shape[1])
        check_prompt_fits(self.name, prompt_tokens, limits, self.context_tokens)

        def generate(emit: Emit) -> None:
            with self._generation_lock:
                if emit(""):  # the consumer may have left while another generation ran
                    self._generate(inputs, limits, emit)

        return stream_from_thread(self.name, generate, limits, stop)

    def _encode(self, messages: Sequence[Message]) -> Any:  # noqa: ANN401 - OpenVINO has no types
        """Return the prompt's token ids, (1, tokens).

        A chat template includes the first token; a transcript does not.
        """
        turns = format_chat(messages, self._special_tokens)
        if not self._tokenizer.chat_template:
            return self._tokenizer.encode(format_transcript(turns))
        try:
            text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        except RuntimeError as error:  # a template is untrusted code, and may refuse a role
            raise ModelFailed(self.name, f"cannot apply its chat template: {error}") from error
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _generate(self, inputs: Any, limits: GenerationLimits, emit: Emit) -> None:  # noqa: ANN401
        if self._pipeline is None:
            # This backend loads five times as fast. It caches nothing between prompts.
            settings = {"ATTENTION_BACKEND": "SDPA", "CACHE_DIR": _cache_path()}
            self._pipeline = self._genai.LLMPipeline(
                str(self._folder), self._tokenizer, "CPU", **settings
            )
        status = self._genai.StreamingStatus
        config = self._pipeline.get_generation_config()
        config.max_new_tokens = limits.tokens
        config.do_sample = False
        self._pipeline.generate(
            inputs, config, lambda piece: status.RUNNING if emit(piece) else status.CANCEL
        )


class OpenVinoQueryLikelihoodModel(OpenVinoLanguageModel):
    """Language model in OpenVINO that also scores questions; see `QueryLikelihoodModel`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        fingerprint: str,
        graph: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(name, folder, fingerprint)
        self._graph = graph
        self._request: Any = None
        self._input_names: set[str] = set()
        self._scoring_lock = threading.Lock()

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """Return the log-probabilities (nats) of the question's tokens after each context."""
        question_ids = self._tokenize(f" {question}")[:MAX_QUESTION_TOKENS]
        free_tokens = self.context_tokens - len(question_ids)
        max_context = max(1, min(MAX_CONTEXT_TOKENS, free_tokens))
        rows = []
        for context in contexts:
            context_ids = self._tokenize(context)[-max_context:] or [self._first_token()]
            rows.append(self._score(context_ids, question_ids))
        return rows

    def _score(self, context_ids: list[int], question_ids: list[int]) -> list[float]:
        """Score one context. Batches would be 10% faster, but scores would depend on the batch."""
        if not question_ids:
            return []
        logits = self._logits(context_ids + question_ids, keep=len(question_ids) + 1)[:-1]
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = logits[np.arange(len(question_ids)), question_ids]
        log_probs: list[float] = (chosen - np.log(np.exp(logits).sum(axis=-1))).tolist()
        return log_probs

    def _tokenize(self, text: str) -> list[int]:
        text = escape_special_tokens(text, self._special_tokens)
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return list(map(int, encoded.input_ids.data[0]))

    def _first_token(self) -> int:
        """Return the token that begins a text, or else the one that ends it."""
        first, last = self._tokenizer.get_bos_token_id(), self._tokenizer.get_eos_token_id()
        return int(first if first >= 0 else max(last, 0))

    def _logits(self, tokens: list[int], keep: int) -> Any:  # noqa: ANN401
        """Return the logits of the last `keep` positions, (keep, vocabulary)."""
        inputs = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            "position_ids": np.arange(len(tokens), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
            "keep": np.array([keep], np.int64),
        }
        with self._scoring_lock:
            try:
                request = self._compiled_request()
                request.reset_state()
                accepted = {name: inputs[name] for name in inputs if name in self._input_names}
                outputs = request.infer(accepted)
            except RuntimeError as error:  # OpenVINO raises RuntimeError for everything
                raise ModelFailed(self.name, str(error)) from error
            return np.array(outputs[0][0], np.float32)  # a copy: the request reuses its buffer

    def _compiled_request(self) -> Any:  # noqa: ANN401
        if self._request is None:
            core = openvino.Core()
            core.set_property({"CACHE_DIR": _cache_path()})
            self._input_names = _input_names(self._graph)
            model = core.compile_model(self._graph, "CPU", _SMALL_CACHE)
            self._request = model.create_infer_request()
            self._graph = None
        return self._request


def _cache_path() -> str:
    return str(cache_folder() / "openvino")


def _input_names(model: Any) -> set[str]:  # noqa: ANN401
    names: set[str] = set()
    for port in model.inputs:
        names.update(port.names)
    return names


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the tokens that the tokenizer omits from decoded text, such as `<s>` or `[INST]`."""
    special = []
    for token, number in tokenizer.get_vocab().items():
        is_bracketed = token[:1] in (b"<", b"[") and token[-1:] in (b">", b"]") and len(token) > 2
        if is_bracketed and not tokenizer.decode([number]):
            special.append(bytes(token).decode("utf-8", "replace"))
    return tuple(special)


def _read_scoring_graph(path: Path) -> Any:  # noqa: ANN401
    """Read the model with an extra input `keep`: logits are computed for the last positions only.

    Otherwise short texts would spend nearly all their time on logits. Returns None for a graph of
    another structure.
    """
    model = openvino.Core().read_model(str(path))
    names = _input_names(model)
    product = _last_product(model)
    if product is None or not _REQUIRED_INPUTS <= names <= _KNOWN_INPUTS:
        return None
    ops = openvino.opset13
    keep = ops.parameter([1], np.int64, name="keep")
    keep.output(0).set_names({"keep"})
    end = ops.constant(np.array([2**31 - 1], np.int64))
    step = ops.constant(np.array([1], np.int64))
    axis = ops.constant(np.array([1], np.int64))
    last = ops.slice(product.input_value(0), ops.negative(keep), end, step, axis)
    product.input(0).replace_source_output(last.output(0))
    model.add_parameters([keep])
    model.validate_nodes_and_infer_types()
    return model


def _last_product(model: Any) -> Any:  # noqa: ANN401
    """Return the product of hidden states, (batch, positions, width), and vocabulary, or None."""
    if len(model.outputs) != 1:
        return None
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in _PER_POSITION:
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul":
        return None
    rank = node.input_value(0).get_partial_shape().rank.get_length()
    return node if rank == 3 else None
