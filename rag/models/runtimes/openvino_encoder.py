"""Encoders in OpenVINO: from token ids to one vector per token, batched, from several threads."""

from collections.abc import Container, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from rag.config import cache_folder
from rag.models.runtimes.openvino_offline import openvino
from rag.models.vectors import Vectors

# Lengths are rounded up to a multiple of this because OpenVINO compiles parts of the model again
# for every new length.
_LENGTH_STEP = 16


class TokenIds(NamedTuple):
    """Token ids of one text. The first `first_segment` of them are of type 0, the others 1."""

    ids: Sequence[int]
    first_segment: int


class OpenVinoEncoder:
    """Compiled encoder. Thread-safe; `request_count` batches can run at a time."""

    def __init__(self, path: Path) -> None:
        """Compile the model in a file `*.xml`."""
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(cache_folder() / "openvino")})
        model = core.compile_model(path, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
        self._input_names = input_names(model)
        self.width = int(model.output(0).partial_shape[2].get_length())
        self.request_count = int(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._idle_requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.request_count):
            self._idle_requests.put(model.create_infer_request())

    def encode(self, texts: Sequence[TokenIds]) -> list[Vectors]:
        """Return the vectors of each text's tokens, (tokens, width), computed in one batch."""
        request = self._idle_requests.get()
        try:
            output = request.infer(model_inputs(texts, self._input_names))[0]
            return [output[row, : len(text.ids)].copy() for row, text in enumerate(texts)]
        finally:
            self._idle_requests.put(request)


def input_names(model: Any) -> set[str]:  # noqa: ANN401 - OpenVINO has no types
    """Return the names of a model's inputs."""
    names: set[str] = set()
    for port in model.inputs:
        names.update(port.names)
    return names


def model_inputs(texts: Sequence[TokenIds], names: Container[str]) -> dict[str, Any]:
    """Return a batch as model inputs, limited to the given names; shorter texts are padded."""
    longest = max(len(text.ids) for text in texts)
    padded_length = -(-longest // _LENGTH_STEP) * _LENGTH_STEP
    ids = np.zeros((len(texts), padded_length), np.int64)
    mask = np.zeros_like(ids)
    types = np.zeros_like(ids)
    for row, text in enumerate(texts):
        length = len(text.ids)
        ids[row, :length] = text.ids
        mask[row, :length] = 1
        types[row, text.first_segment : length] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: value for name, value in inputs.items() if name in names}
