"""A language model's GGUF file in OpenVINO's form, converted once and with its weights as they are.

In the layout Q4_1 a weight is `scale * code + minimum`, code 0..15, with a scale and a minimum for every 32 weights.
OpenVINO's converter writes that as `scale * (code - zero)` and rounds zero to an integer, which moves all 32 weights by
up to half a step: with SmolLM2-135M single log-probabilities were off by up to 3.6 nats. Here zero is put right, and
the exact weights are rounded to eight bits, one scale for a row, which a CPU multiplies fastest.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from rag.models.files import digest_of, prepared
from rag.models.runtimes.openvino_import import openvino, openvino_genai

# The converted form may change with the version of the converter.
_CONVERTED = f"openvino-{openvino.__version__.split('-')[0]}-language-2"
# Bytes of a Q4_1 block: two half floats, then 32 codes of four bits.
_BLOCK_BYTES = 20
_MODEL = "openvino_model"


def openvino_from_gguf(weights: Path) -> Path:
    """The folder with the converted model, made on first use."""
    return prepared(
        f"{digest_of([weights])}-{_CONVERTED}",
        "config.json",
        f"the language model {weights.stem}",
        lambda scratch: _convert(weights, scratch),
    )


def _convert(weights: Path, scratch: Path) -> None:
    """OpenVINO writes its form beside the file that it reads; the size of the context, which it drops, is added."""
    copy = scratch / weights.name
    shutil.copyfile(weights, copy)
    openvino_genai().LLMPipeline(str(copy), "CPU", enable_save_ov_model=True)
    copy.unlink()
    reader = GGUFReader(weights)
    graph = openvino.Core().read_model(str(scratch / f"{_MODEL}.xml"))
    _restore_zeros(graph, _minima(reader))
    _round_to_bytes(graph)
    openvino.save_model(graph, str(scratch / "exact.xml"), compress_to_fp16=False)
    del graph  # it holds the old file open
    for kind in ("xml", "bin"):
        (scratch / f"exact.{kind}").replace(scratch / f"{_MODEL}.{kind}")
    (scratch / "config.json").write_text(json.dumps(_settings(reader)), encoding="utf-8")


def _settings(reader: Any) -> dict[str, int]:  # noqa: ANN401 - gguf has no types
    lengths = [
        int(field.contents())
        for name, field in reader.fields.items()
        if name.endswith(".context_length")
    ]
    return {"max_position_embeddings": lengths[0]} if lengths else {}


def _minima(reader: Any) -> dict[bytes, Any]:  # noqa: ANN401
    """The minima of each row of each Q4_1 matrix, by the bytes of the row's scales: the converter keeps these."""
    found = {}
    for tensor in reader.tensors:
        if tensor.tensor_type.name == "Q4_1":
            blocks = tensor.data.reshape(tensor.data.shape[0], -1, _BLOCK_BYTES)
            for row in blocks[:, :, :4].copy().view(np.float16):
                found[row[:, 0].tobytes()] = row[:, 1]
    return found


def _restore_zeros(graph: Any, minima: dict[bytes, Any]) -> None:  # noqa: ANN401
    """Replace the rounded zeros of the graph, (rows, blocks, 1), by `-minimum / scale` in half precision."""
    for node in graph.get_ordered_ops():
        scales = _scales_of(node)
        if scales is None:
            continue
        rows = scales.reshape(scales.shape[0], -1)
        own = [minima[row.tobytes()] for row in rows if row.tobytes() in minima]
        if len(own) < len(rows):
            continue  # a matrix of another layout
        zeros = np.zeros(rows.shape, np.float32)
        np.divide(-np.stack(own).astype(np.float32), rows, out=zeros, where=rows != 0)
        constant = openvino.opset13.constant(zeros.reshape(scales.shape).astype(np.float16))
        node.input(1).replace_source_output(constant.output(0))


def _scales_of(node: Any) -> Any:  # noqa: ANN401
    """The scales by which `codes - zeros` of four bits is multiplied in this node's place; None for other nodes."""
    if node.get_type_name() != "Subtract":
        return None
    zeros = node.input_value(1).get_node()
    if (
        zeros.get_type_name() != "Convert"
        or zeros.input_value(0).get_element_type() != openvino.Type.u4
    ):
        return None
    (user, *_) = node.output(0).get_target_inputs()
    scales = user.get_node().input_value(1).get_node()
    return scales.data if scales.get_type_name() == "Constant" else None


def _round_to_bytes(graph: Any) -> None:  # noqa: ANN401
    """Replace every matrix that is made of codes and scales by one of eight bits, (rows, columns), and row scales."""
    ops = openvino.opset13
    for node in graph.get_ordered_ops():
        for port in node.inputs() if node.get_type_name() in ("MatMul", "Gather") else ():
            weights = _decoded(port.get_source_output())
            if weights is None or weights.ndim != 2:
                continue
            scales = (
                np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
                / 127
            )
            codes = np.round(weights / scales).astype(np.int8)
            rounded = ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scales))
            port.replace_source_output(rounded.output(0))


def _decoded(output: Any) -> Any:  # noqa: ANN401
    """The matrix that a chain of constants stands for, in float32; None where it is no such chain or no codes."""
    node = output.get_node()
    kind, inputs = node.get_type_name(), [port.get_source_output() for port in node.inputs()]
    if kind == "Constant":
        return _codes(node)
    if kind not in ("Convert", "Reshape", "Subtract", "Multiply"):
        return None
    values = [_decoded(one) for one in inputs]
    if any(value is None for value in values):
        return None
    if kind == "Reshape":
        return values[0].reshape(values[1].astype(int))
    first, *others = (value.astype(np.float32) for value in values)
    return {
        "Convert": lambda: first,
        "Subtract": lambda: first - others[0],
        "Multiply": lambda: first * others[0],
    }[kind]()


def _codes(node: Any) -> Any:  # noqa: ANN401
    """What a constant holds; codes of four bits, two in a byte, the lower first, are taken apart."""
    if node.get_element_type() != openvino.Type.u4:
        return np.asarray(node.data)
    packed = np.asarray(node.data).view(np.uint8).ravel()
    codes = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    return codes[: int(np.prod(list(node.shape)))].reshape(list(node.shape))
