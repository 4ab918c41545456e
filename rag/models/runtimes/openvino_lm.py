"""Language models in OpenVINO: they write with its own pipeline, and read questions with a graph that is cut short.

The two are compiled apart, each on its first use, for who only quotes needs no pipeline.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from rag.config import cache_folder
from rag.errors import ModelFailed
from rag.models.files import context_length, read_json
from rag.models.language_model import (
    CONTEXT_TOKENS,
    QUESTION_TOKENS,
    GenerationLimits,
    Message,
    as_script,
    as_text,
    as_turns,
    check_fits,
)
from rag.models.runtimes.openvino_import import openvino, openvino_genai
from rag.models.runtimes.streaming import Emit, stream_from_thread

# What may stand between the last matrix product and the logits: it treats every position alike.
_PER_POSITION = frozenset({"Convert", "Multiply", "Divide", "Tanh", "Add"})
# For every length of text it meets OpenVINO keeps what it prepared, by default for 5,000 of them and half a megabyte
# each; with fewer it reads as fast.
_FEW_SHAPES = {"CPU_RUNTIME_CACHE_CAPACITY": "64"}
_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "beam_idx"})


class OpenVinoLanguageModel:
    """See `rag.models.LanguageModel`. Safe to use from several threads; they write one after the other."""

    def __init__(self, name: str, folder: Path, fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.context_tokens = context_length(read_json(folder / "config.json") or {})
        self._folder = folder
        self._genai = openvino_genai()
        self._tokenizer = self._genai.Tokenizer(str(folder))
        self._special = _special_tokens(self._tokenizer)
        self._pipeline: Any = None
        self._writing = threading.Lock()

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the messages as the model will see them, its chat template included."""
        return int(self._encode(messages).input_ids.shape[1])

    def stream(
        self, messages: Sequence[Message], limits: GenerationLimits, stop: Event
    ) -> Iterator[str]:
        """See `rag.models.LanguageModel`."""
        inputs = self._encode(messages)
        check_fits(self.name, int(inputs.input_ids.shape[1]), limits, self.context_tokens)

        def generate(emit: Emit) -> None:
            with self._writing:
                if emit(""):  # somebody may have left while another generation ran
                    self._generate(inputs, limits, emit)

        return stream_from_thread(self.name, generate, limits, stop, on_end=lambda: None)

    def _encode(self, messages: Sequence[Message]) -> Any:  # noqa: ANN401 - OpenVINO has no types
        """The messages as token ids, (1, tokens). A chat template brings its own first token, a script does not."""
        turns = as_turns(messages, self._special)
        if not self._tokenizer.chat_template:
            return self._tokenizer.encode(as_script(turns))
        try:
            text = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        except RuntimeError as error:  # a template is a program of strangers, and may refuse a role
            raise ModelFailed(
                self.name, f"its chat template does not take these messages: {error}"
            ) from error
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _generate(self, inputs: Any, limits: GenerationLimits, emit: Emit) -> None:  # noqa: ANN401
        if self._pipeline is None:
            # Loads in a fifth of the time of the other backend, and keeps nothing from one prompt to the next.
            settings = {"ATTENTION_BACKEND": "SDPA", "CACHE_DIR": _cache()}
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
    """A model in OpenVINO that also reads: see `rag.models.Reader`."""

    def __init__(self, name: str, folder: Path, fingerprint: str, graph: Any) -> None:  # noqa: ANN401
        super().__init__(name, folder, fingerprint)
        self._graph = graph
        self._request: Any = None
        self._inputs: set[str] = set()
        self._reading = threading.Lock()

    def question_likelihood(self, contexts: Sequence[str], question: str) -> list[list[float]]:
        """See `rag.models.Reader`. An empty context stands for the beginning of a text."""
        asked = self._tokens(f" {question}")[:QUESTION_TOKENS]
        room = max(1, min(CONTEXT_TOKENS, self.context_tokens - len(asked)))
        return [
            self._read(self._tokens(context)[-room:] or [self._first_token()], asked)
            for context in contexts
        ]

    def _read(self, context: list[int], asked: list[int]) -> list[float]:
        """One context at a time: reading four at once saves a tenth, and makes the likelihoods depend on the others."""
        if not asked:
            return []
        logits = self._logits(context + asked, keep=len(asked) + 1)[:-1]
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = logits[np.arange(len(asked)), asked]
        found: list[float] = (chosen - np.log(np.exp(logits).sum(axis=-1))).tolist()
        return found

    def _tokens(self, text: str) -> list[int]:
        encoded = self._tokenizer.encode(as_text(text, self._special), add_special_tokens=False)
        return [int(token) for token in encoded.input_ids.data[0]]

    def _first_token(self) -> int:
        """What the model has seen at the beginning of texts: its first token, or else the one that ends a text."""
        first, last = self._tokenizer.get_bos_token_id(), self._tokenizer.get_eos_token_id()
        return int(first if first >= 0 else max(last, 0))

    def _logits(self, tokens: list[int], keep: int) -> Any:  # noqa: ANN401
        """Logits of the last `keep` positions, (keep, vocabulary)."""
        feed = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, len(tokens)), np.int64),
            "position_ids": np.arange(len(tokens), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
            "keep": np.array([keep], np.int64),
        }
        with self._reading:
            try:
                request = self._compiled()
                request.reset_state()
                found = request.infer(
                    {name: value for name, value in feed.items() if name in self._inputs}
                )
            except RuntimeError as error:  # OpenVINO's error for all its failures
                raise ModelFailed(self.name, str(error)) from error
            return np.array(found[0][0], np.float32)  # the request's own buffer is used again

    def _compiled(self) -> Any:  # noqa: ANN401
        if self._request is None:
            core = openvino.Core()
            core.set_property({"CACHE_DIR": _cache()})
            self._inputs = {name for port in self._graph.inputs for name in port.names}
            self._request = core.compile_model(
                self._graph, "CPU", _FEW_SHAPES
            ).create_infer_request()
            self._graph = None
        return self._request


def open_openvino_model(name: str, folder: Path, fingerprint: str) -> OpenVinoLanguageModel:
    """The model in the folder; it is a `Reader` where its graph has the usual shape."""
    graph = _reading_graph(folder / "openvino_model.xml")
    if graph is None:
        return OpenVinoLanguageModel(name, folder, fingerprint)
    return OpenVinoQueryLikelihoodModel(name, folder, fingerprint, graph)


def _cache() -> str:
    return str(cache_folder() / "openvino")


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:  # noqa: ANN401
    """The tokens that the tokeniser itself leaves out of text; they look like `<|end|>`, `<s>` or `[INST]`."""
    looks = [
        (bytes(token), number)
        for token, number in tokenizer.get_vocab().items()
        if token[:1] in (b"<", b"[") and token[-1:] in (b">", b"]") and len(token) > 2
    ]
    return tuple(
        token.decode("utf-8", "replace")
        for token, number in looks
        if not tokenizer.decode([number])
    )


def _reading_graph(path: Path) -> Any:  # noqa: ANN401
    """The model with one input more: logits are made for the last `keep` positions only.

    None where the graph has another shape. Nearly all the time of short texts goes into the logits otherwise.
    """
    model = openvino.Core().read_model(str(path))
    names = {name for port in model.inputs for name in port.names}
    product = _last_product(model)
    if product is None or not names <= _INPUTS or not {"input_ids", "attention_mask"} <= names:
        return None
    ops = openvino.opset13
    keep = ops.parameter([1], np.int64, name="keep")
    keep.output(0).set_names({"keep"})
    end, step, axis = (ops.constant(np.array([number], np.int64)) for number in (2**31 - 1, 1, 1))
    last = ops.slice(product.input_value(0), ops.negative(keep), end, step, axis)
    product.input(0).replace_source_output(last.output(0))
    model.add_parameters([keep])
    model.validate_nodes_and_infer_types()
    return model


def _last_product(model: Any) -> Any:  # noqa: ANN401
    """The matrix product of hidden states, (batch, positions, width), with the vocabulary; None if it is not there."""
    if len(model.outputs) != 1:
        return None
    node = model.get_results()[0].input_value(0).get_node()
    while node.get_type_name() in _PER_POSITION:
        node = node.input_value(0).get_node()
    if (
        node.get_type_name() != "MatMul"
        or node.input_value(0).get_partial_shape().rank.get_length() != 3
    ):
        return None
    return node
