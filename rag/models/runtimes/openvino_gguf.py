"""Convert a language model's GGUF file to OpenVINO, with the weights that the file holds.

In the layouts Q4_1 and Q4_K a weight is `scale * code - minimum`, with codes 0..15 and a scale and
a minimum for every 32 weights. OpenVINO's converter writes that as `scale * (code - zero)` and
rounds zero to an integer, which moves all 32 weights by up to half a step. Exact zeros would be
slow to compute with, so a matrix is split in two. Its 4-bit part is `scale * (code - 8)`, the form
that is fastest to multiply. The remainder, `8 * scale - minimum`, is the same for 32 neighbours, so
it is multiplied by the sum of 32 inputs. Matrices of 8 bits get one scale per row, for speed.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from gguf.quants import Q4_K

from rag.errors import ModelUnavailable
from rag.models.files import convert_once
from rag.models.gguf_files import CONVERSION, CONVERSION_SPACE, CONVERTED_MARKER, GgufFile
from rag.models.runtimes.openvino_offline import openvino, openvino_genai

_MODEL = "openvino_model"
_Q4_1_BLOCK_BYTES = 20
_Q4_K_BLOCK_BYTES = 144
_MIDDLE_CODE = 8
_MAX_INT8 = 127
# Limits the memory for float32 copies of rows.
_ROWS_AT_ONCE = 4096
_LOG = logging.getLogger("footnote")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """Quantized matrix in OpenVINO's graph: `scales * (codes - zeros)`, all (rows, groups, …)."""

    codes: Any
    zeros: Any
    scales: Any
    multiply: Any  # the node that multiplies by the scales
    user: Any  # the MatMul or Gather that uses the matrix

    @property
    def is_4_bit(self) -> bool:
        return bool(self.codes.get_element_type() == openvino.Type.u4)

    @property
    def is_multiplied(self) -> bool:
        return bool(self.user.get_type_name() == "MatMul")


def convert_gguf_to_openvino(source: GgufFile) -> Path:
    """Return the folder of the converted model, converting it on first use."""
    return convert_once(
        f"{source.fingerprint}-{CONVERSION}",
        CONVERTED_MARKER,
        f"the language model {source.title}",
        lambda scratch: _convert(source, scratch),
        needed_bytes=int(CONVERSION_SPACE * source.size),
    )


def _convert(source: GgufFile, scratch: Path) -> None:
    """Convert, correct the weights, and add the context length, which OpenVINO drops."""
    weights = scratch / "model.gguf"  # OpenVINO writes its files beside its input
    source.write(weights)
    reader = _open_reader(source, weights)
    openvino_genai().LLMPipeline(str(weights), "CPU", enable_save_ov_model=True)
    _LOG.info("restoring the exact weights")
    graph = openvino.Core().read_model(str(scratch / f"{_MODEL}.xml"))
    _correct_weights(graph, _read_minima(reader))
    openvino.save_model(graph, str(scratch / "exact.xml"), compress_to_fp16=False)
    settings = json.dumps(_read_config(reader))
    del graph, reader  # they hold their files open
    for suffix in ("xml", "bin"):
        (scratch / f"exact.{suffix}").replace(scratch / f"{_MODEL}.{suffix}")
    weights.unlink()
    (scratch / CONVERTED_MARKER).write_text(settings, encoding="utf-8")


def _open_reader(source: GgufFile, weights: Path) -> Any:  # noqa: ANN401 - gguf has no types
    """Open a GGUF file, and find damage in Python, because it can crash OpenVINO."""
    try:
        return GGUFReader(weights)
    except Exception as error:  # a damaged file can raise anything
        raise ModelUnavailable(
            f"cannot read the language model {source.title}: its GGUF file is damaged ({error})"
        ) from error


def _read_config(reader: Any) -> dict[str, int]:  # noqa: ANN401
    for name, field in reader.fields.items():
        if name.endswith(".context_length"):
            return {"max_position_embeddings": int(field.contents())}
    return {}


def _read_minima(reader: Any) -> dict[bytes, Any]:  # noqa: ANN401
    """Map the scales of each row of each Q4_1 or Q4_K matrix, as bytes, to the row's minima.

    The converter keeps the scales in half precision, so they identify a row in its graph.
    """
    minima = {}
    for tensor in reader.tensors:
        read = _READERS.get(tensor.tensor_type.name)
        if read is None:
            continue
        rows = tensor.data.shape[0]
        scales, row_minima = (part.reshape(rows, -1) for part in read(tensor.data))
        for row in range(rows):
            minima[scales[row].astype(np.float16).tobytes()] = row_minima[row]
    return minima


def _read_q4_1(data: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return scales and minima of Q4_1 blocks, each (blocks). There the minimum is added."""
    blocks = data.reshape(-1, _Q4_1_BLOCK_BYTES)
    halves = blocks[:, :4].copy().view(np.float16).astype(np.float32)
    return halves[:, 0], -halves[:, 1]


def _read_q4_k(data: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return scales and minima of Q4_K blocks, each (blocks, 8)."""
    blocks = data.reshape(-1, _Q4_K_BLOCK_BYTES)
    halves = blocks[:, :4].copy().view(np.float16).astype(np.float32)
    scales, minima = Q4_K.get_scale_min(blocks[:, 4:16])
    return halves[:, :1] * scales, halves[:, 1:] * minima


_READERS = {"Q4_1": _read_q4_1, "Q4_K": _read_q4_k}


# --- the graph -------------------------------------------------------------------------------


def _correct_weights(graph: Any, minima: dict[bytes, Any]) -> None:  # noqa: ANN401
    sums: dict[tuple[str, int], Any] = {}
    for matrix in list(_find_matrices(graph)):
        if matrix.is_4_bit:
            remainder = _find_remainder(matrix, minima)
            _center_codes(matrix)
            if remainder.any():
                _add_remainder(matrix, remainder, sums)
        elif matrix.is_multiplied:
            _round_to_int8(matrix)
    graph.validate_nodes_and_infer_types()


def _find_matrices(graph: Any) -> Iterator[_Matrix]:  # noqa: ANN401
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Subtract":
            continue
        codes, zeros = (_constant_below(node.input_value(port)) for port in (0, 1))
        if codes is None or zeros is None:
            continue
        multiply = user = _only_user(node)
        scales = multiply.input_value(1).get_node()
        while user.get_type_name() in ("Multiply", "Reshape", "Convert"):
            user = _only_user(user)
        yield _Matrix(codes, zeros, scales, multiply, user)


def _constant_below(output: Any) -> Any:  # noqa: ANN401
    """Return the codes or zeros that a conversion to floats reads; None for anything else."""
    node = output.get_node()
    if node.get_type_name() != "Convert":
        return None
    constant = node.input_value(0).get_node()
    is_quantized = constant.get_element_type() in (openvino.Type.u4, openvino.Type.u8)
    return constant if constant.get_type_name() == "Constant" and is_quantized else None


def _only_user(node: Any) -> Any:  # noqa: ANN401
    (user,) = node.output(0).get_target_inputs()
    return user.get_node()


def _find_remainder(matrix: _Matrix, minima: dict[bytes, Any]) -> Any:  # noqa: ANN401
    """Return what is added to the weights of each group besides `scale * (code - 8)`."""
    halves = matrix.scales.data.reshape(matrix.scales.shape[0], -1)
    scales = halves.astype(np.float32)
    zeros = _unpack(matrix.zeros).reshape(scales.shape)
    remainder = (_MIDDLE_CODE - zeros) * scales
    for row, half in enumerate(halves):
        exact = minima.get(half.tobytes())
        if exact is not None:
            remainder[row] = _MIDDLE_CODE * scales[row] - exact
    return remainder


def _center_codes(matrix: _Matrix) -> None:
    """Replace `codes - zeros` by signed codes, -8..7. That only flips the highest bit of each."""
    packed = np.asarray(matrix.codes.data).view(np.uint8)
    tensor = openvino.Tensor(openvino.Type.i4, openvino.Shape(list(matrix.codes.shape)))
    np.asarray(tensor.data).view(np.uint8).ravel()[:] = packed.ravel() ^ 0x88
    codes = openvino.op.Constant(tensor, shared_memory=False)
    centered = openvino.opset13.convert(codes, "f16")
    matrix.multiply.input(0).replace_source_output(centered.output(0))


def _add_remainder(
    matrix: _Matrix,
    remainder: Any,  # noqa: ANN401
    sums: dict[tuple[str, int], Any],
) -> None:
    """Add the remainder's part to a product or to gathered rows.

    `sums` collects the sums of groups of inputs, because matrices share them.
    """
    ops = openvino.opset13
    user = matrix.user
    targets = list(user.output(0).get_target_inputs())
    constant = ops.convert(ops.constant(remainder.astype(np.float16)), "f32")
    split = _integers(0, 0, remainder.shape[1], -1)
    if matrix.is_multiplied:
        inputs = user.input_value(0)
        key = (inputs.get_node().get_friendly_name(), inputs.get_index())
        if key not in sums:
            groups = ops.reshape(inputs, split, special_zero=True)
            sums[key] = ops.reduce_sum(groups, _integers(-1), keep_dims=False)
        total = ops.add(user, ops.matmul(sums[key], constant, False, True))
    else:
        gathered = ops.gather(constant, user.input_value(1), user.input_value(2))
        groups = ops.reshape(user, split, special_zero=True)
        moved = ops.add(groups, ops.unsqueeze(gathered, _integers(-1)))
        total = ops.reshape(moved, _integers(0, 0, -1), special_zero=True)
    for target in targets:
        target.replace_source_output(total.output(0))


def _round_to_int8(matrix: _Matrix) -> None:
    """Replace a matrix by 8-bit codes, (rows, columns), and one scale per row."""
    zeros, scales = np.asarray(matrix.zeros.data), np.asarray(matrix.scales.data)
    codes = np.asarray(matrix.codes.data)
    rounded = np.empty((codes.shape[0], codes[0].size), np.int8)
    row_scales = np.empty((codes.shape[0], 1), np.float32)
    for start in range(0, codes.shape[0], _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        weights = codes[rows].astype(np.float32)
        weights = (weights - zeros[rows]) * scales[rows].astype(np.float32)
        weights = weights.reshape(len(weights), -1)
        largest = np.abs(weights).max(axis=1, keepdims=True)
        row_scales[rows] = np.maximum(largest, np.finfo(np.float32).tiny) / _MAX_INT8
        rounded[rows] = np.round(weights / row_scales[rows])
    ops = openvino.opset13
    floats = ops.multiply(ops.convert(ops.constant(rounded), "f32"), ops.constant(row_scales))
    matrix.user.input(1).replace_source_output(floats.output(0))


def _unpack(constant: Any) -> Any:  # noqa: ANN401
    """Return 4-bit codes as floats; the lower half of a byte comes first."""
    packed = np.asarray(constant.data).view(np.uint8).ravel()
    codes = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    shape = list(constant.shape)
    return codes[: int(np.prod(shape))].reshape(shape).astype(np.float32)


def _integers(*values: int) -> Any:  # noqa: ANN401
    return openvino.opset13.constant(np.array(values, np.int64))
