"""Convert a language model's GGUF file to OpenVINO, with exact weights.

In the Q4_1 layout a weight is `scale * code + minimum`, with codes 0..15 and a scale and a minimum
for every 32 weights. OpenVINO's converter writes that as `scale * (code - zero)` and rounds zero to
an integer, which moves all 32 weights by up to half a step. In SmolLM2-135M, that changed single
log-probabilities by up to 3.6 nats. This module corrects the zeros and then rounds the exact
weights to 8 bits with one scale per row, the fastest form to multiply on a CPU.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader

from rag.models.files import convert_once
from rag.models.runtimes.openvino_offline import openvino, openvino_genai

# Part of the cached folder's name because the result may change with the converter's version.
_CONVERSION = f"openvino-{openvino.__version__.split('-')[0]}-language-3"
# A Q4_1 block: two half-precision floats, then 32 codes of four bits.
_BLOCK_BYTES = 20
_MAX_INT8 = 127
_MODEL = "openvino_model"
# Operations that turn codes and scales into weights, apart from "Reshape".
_OPERATIONS = {"Convert": np.positive, "Subtract": np.subtract, "Multiply": np.multiply}


def convert_gguf_to_openvino(fingerprint: str, title: str, provide: Callable[[Path], None]) -> Path:
    """Return the folder of the converted model, converting it on first use.

    `provide` writes the GGUF file to a path. That file is deleted after the conversion.
    """
    return convert_once(
        f"{fingerprint}-{_CONVERSION}",
        "config.json",
        f"the language model {title}",
        lambda scratch: _convert(scratch, provide),
    )


def _convert(scratch: Path, provide: Callable[[Path], None]) -> None:
    """Convert, and add the context length, which OpenVINO drops."""
    weights = scratch / "model.gguf"  # OpenVINO writes its files beside its input
    provide(weights)
    openvino_genai().LLMPipeline(str(weights), "CPU", enable_save_ov_model=True)
    reader = GGUFReader(weights)
    (scratch / "config.json").write_text(json.dumps(_read_config(reader)), encoding="utf-8")
    del reader
    weights.unlink()


def _read_config(reader: Any) -> dict[str, int]:  # noqa: ANN401 - gguf has no types
    for name, field in reader.fields.items():
        if name.endswith(".context_length"):
            return {"max_position_embeddings": int(field.contents())}
    return {}


def _read_minima(reader: Any) -> dict[bytes, Any]:  # noqa: ANN401
    """Map the scales of each row of each Q4_1 matrix, as bytes, to the minima of that row.

    The converter keeps the scales, so they identify a row in its graph.
    """
    minima = {}
    for tensor in reader.tensors:
        if tensor.tensor_type.name == "Q4_1":
            blocks = tensor.data.reshape(tensor.data.shape[0], -1, _BLOCK_BYTES)
            for row in blocks[:, :, :4].copy().view(np.float16):
                minima[row[:, 0].tobytes()] = row[:, 1]
    return minima


def _restore_zeros(graph: Any, minima: dict[bytes, Any]) -> None:  # noqa: ANN401
    """Replace the rounded zeros, (rows, blocks, 1), by `-minimum / scale` in half precision."""
    for node in graph.get_ordered_ops():
        scales = _find_scales(node)
        if scales is None:
            continue
        rows = scales.reshape(scales.shape[0], -1)
        row_keys = [row.tobytes() for row in rows]
        if not minima.keys() >= set(row_keys):
            continue  # a matrix in another layout
        row_minima = [minima[key] for key in row_keys]
        zeros = np.zeros(rows.shape, np.float32)
        np.divide(-np.stack(row_minima).astype(np.float32), rows, out=zeros, where=rows != 0)
        constant = openvino.opset13.constant(zeros.reshape(scales.shape).astype(np.float16))
        node.input(1).replace_source_output(constant.output(0))


def _find_scales(node: Any) -> Any:  # noqa: ANN401
    """Return the scales that a 4-bit `codes - zeros` is multiplied by; None for other nodes."""
    if node.get_type_name() != "Subtract":
        return None
    zeros = node.input_value(1).get_node()
    if zeros.get_type_name() != "Convert":
        return None
    if zeros.input_value(0).get_element_type() != openvino.Type.u4:
        return None
    (user, *_) = node.output(0).get_target_inputs()
    scales = user.get_node().input_value(1).get_node()
    return scales.data if scales.get_type_name() == "Constant" else None


def _round_to_int8(graph: Any) -> None:  # noqa: ANN401
    """Replace every quantized matrix by 8-bit codes, (rows, columns), and one scale per row."""
    ops = openvino.opset13
    for node in graph.get_ordered_ops():
        if node.get_type_name() not in ("MatMul", "Gather"):
            continue
        for port in node.inputs():
            weights = _decode_weights(port.get_source_output())
            if weights is None or weights.ndim != 2:
                continue
            largest = np.abs(weights).max(axis=1, keepdims=True)
            scales = np.maximum(largest, np.finfo(np.float32).tiny) / _MAX_INT8
            codes = np.round(weights / scales).astype(np.int8)
            rounded = ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scales))
            port.replace_source_output(rounded.output(0))


def _decode_weights(output: Any) -> Any:  # noqa: ANN401
    """Compute the float32 matrix that a chain of constants stands for; None for anything else."""
    node = output.get_node()
    kind = node.get_type_name()
    if kind == "Constant":
        return _unpack_codes(node)
    if kind != "Reshape" and kind not in _OPERATIONS:
        return None
    values = [_decode_weights(port.get_source_output()) for port in node.inputs()]
    if any(value is None for value in values):
        return None
    if kind == "Reshape":
        return values[0].reshape(values[1].astype(int))
    numbers = [value.astype(np.float32) for value in values]
    return _OPERATIONS[kind](*numbers)


def _unpack_codes(node: Any) -> Any:  # noqa: ANN401
    """Return a constant's values; 4-bit codes are unpacked, the lower half of a byte first."""
    if node.get_element_type() != openvino.Type.u4:
        return np.asarray(node.data)
    packed = np.asarray(node.data).view(np.uint8).ravel()
    codes = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    shape = list(node.shape)
    return codes[: int(np.prod(shape))].reshape(shape)
