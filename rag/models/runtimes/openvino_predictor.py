"""Predict tokens with a model in OpenVINO that remembers the tokens it has read.

A prompt that begins like the one before is read from where they part, in steps of fixed length.
The kept beginning always ends where a step ends, so every step computes the same numbers whether
the model was cold, warm or busy with other prompts, and the same prompt gets the same reply.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import ModelUnavailable
from rag.models.language_model import STATE_DEPTH
from rag.models.runtimes.openvino_offline import openvino

# Shorter steps keep more of a shared beginning; longer ones are hardly faster.
_STEP_TOKENS = 32
# Some processors would round to bfloat16: a little faster, but less exact and another reply.
# Half precision keeps the same numbers when kept tokens are copied.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"}
# Operations that may follow the last matrix product: they treat every position alike.
_PER_POSITION = frozenset({"Convert", "Multiply", "Divide", "Tanh", "Add"})
_KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids", "beam_idx"})
_REQUIRED_INPUTS = frozenset({"input_ids", "attention_mask"})
_TOKEN_AXIS = 2
# Names that OpenVINO gives to the sums that end a layer, in models that it converted from GGUF.
_LAYER_OUTPUT = re.compile(r"model\.layers\.self_attn\.add1\.layer(\d+)")


class TokenPredictor:
    """Compiled model and what it has read: keys and values of tokens. Not thread-safe.

    A model that keeps something else cannot forget single tokens (`can_forget`).
    """

    def __init__(self, name: str, path: Path) -> None:
        core = openvino.Core()
        graph = _read_graph(name, path)
        self._input_names = _input_names(graph)
        self.can_forget = _has_only_kept_tokens(graph)
        self.has_hidden_state = len(graph.outputs) > 1
        self._request = core.compile_model(graph, "CPU", _SETTINGS).create_infer_request()
        self._prompt: list[int] = []
        self._mask: list[int] = []
        # OpenVINO rearranges the weights the first time. Do that now.
        self._infer([0], keep=1)
        self._forget_all_but(0)

    def read_prompt(self, tokens: Sequence[int], go_on: Callable[[], bool]) -> Any:  # noqa: ANN401
        """Return the logits, (vocabulary), after a prompt; None once `go_on()` is false."""
        self._forget_all_but(self._count_shared(tokens))
        logits = None
        for start in range(len(self._prompt), len(tokens), _STEP_TOKENS):
            if not go_on():
                return None
            step = tokens[start : start + _STEP_TOKENS]
            logits = self._infer(step, keep=1)[0]
            self._prompt += step
        return logits

    def hidden_state(self) -> Any:  # noqa: ANN401
        """Return the state of a middle layer, (width,), after the last token that was read."""
        return np.array(self._request.get_output_tensor(1).data, np.float32).ravel()

    def read(self, tokens: Sequence[int]) -> Any:  # noqa: ANN401 - an array
        """Read more tokens after the prompt; return the logits after each, (tokens, vocabulary)."""
        return self._infer(tokens, keep=len(tokens))

    def forget_last(self, count: int) -> None:
        """Forget the last tokens that were read: they stay, but nothing attends to them."""
        if count:
            self._mask[-count:] = [0] * count

    def _count_shared(self, tokens: Sequence[int]) -> int:
        """Count the tokens that the prompt shares with the last one, in whole steps.

        The last token is always read, for its logits.
        """
        shared = 0
        if not self.can_forget:
            return shared
        for kept, token in zip(self._prompt, tokens[:-1], strict=False):
            if kept != token:
                break
            shared += 1
        return shared - shared % _STEP_TOKENS

    def _forget_all_but(self, count: int) -> None:
        self._prompt = self._prompt[:count]
        self._mask = self._mask[:count]
        if count == 0:
            self._request.reset_state()
            return
        for state in self._request.query_state():
            kept = np.ascontiguousarray(state.state.data[:, :, :count])
            state.state = openvino.Tensor(kept)

    def _infer(self, tokens: Sequence[int], keep: int) -> Any:  # noqa: ANN401
        """Read tokens; return the logits after the last `keep` of them."""
        position = sum(self._mask)
        self._mask += [1] * len(tokens)
        inputs = {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.array([self._mask], np.int64),
            "position_ids": np.arange(position, position + len(tokens), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
            "keep": np.array([keep], np.int64),
        }
        accepted = {name: inputs[name] for name in inputs if name in self._input_names}
        logits = self._request.infer(accepted)[0][0]
        return np.array(logits, np.float32)  # a copy: the request reuses its buffer


def _input_names(model: Any) -> set[str]:  # noqa: ANN401
    names: set[str] = set()
    for port in model.inputs:
        names.update(port.names)
    return names


def _has_only_kept_tokens(model: Any) -> bool:  # noqa: ANN401
    """Return True if all states of a model are (batch, heads, tokens, width)."""
    states = [node for node in model.get_ops() if node.get_type_name() == "ReadValue"]
    shapes = [node.get_output_partial_shape(0) for node in states]
    return all(shape.rank == 4 and shape[_TOKEN_AXIS].is_dynamic for shape in shapes)


def _read_graph(name: str, path: Path) -> Any:  # noqa: ANN401
    """Read the model with an extra input `keep`: logits are computed for the last positions only.

    Otherwise a prompt would spend a fifth of its time on logits that nobody reads.
    """
    model = openvino.Core().read_model(str(path))
    names = _input_names(model)
    product = _last_product(model)
    if product is None or not _REQUIRED_INPUTS <= names <= _KNOWN_INPUTS:
        raise ModelUnavailable(
            f"the language model '{name}' is not a text-generation model with a state; "
            "convert it with: optimum-cli export openvino --task text-generation-with-past"
        )
    ops = openvino.opset13
    keep = ops.parameter([1], np.int64, name="keep")
    keep.output(0).set_names({"keep"})
    end, step, axis = _integers(2**31 - 1), _integers(1), _integers(1)
    last = ops.slice(product.input_value(0), ops.negative(keep), end, step, axis)
    product.input(0).replace_source_output(last.output(0))
    model.add_parameters([keep])
    if layers := _layer_outputs(model):
        state = layers[round(STATE_DEPTH * len(layers)) - 1]
        model.add_results([ops.result(ops.slice(state, _integers(-1), end, step, axis))])
    model.validate_nodes_and_infer_types()
    return model


def _layer_outputs(model: Any) -> list[Any]:  # noqa: ANN401
    """Return the hidden states, (batch, positions, width), after each layer, as far as known."""
    outputs = {}
    for node in model.get_ops():
        if match := _LAYER_OUTPUT.fullmatch(node.get_friendly_name()):
            outputs[int(match[1])] = node.output(0)
    return [outputs[number] for number in sorted(outputs)]


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


def _integers(*values: int) -> Any:  # noqa: ANN401
    return openvino.opset13.constant(np.array(values, np.int64))
