"""OpenVINO without its telemetry: the only module that imports OpenVINO's packages.

OpenVINO reports every import and conversion over the network unless its telemetry package is
missing, so that package is hidden before the first import.
"""

import sys
from typing import Any

import numpy as np

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - only after its telemetry is hidden

__all__ = ["nncf", "openvino", "openvino_genai"]

# OpenVINO's Python side initializes itself when a tensor is first read. Two threads that do so at
# once deadlock: one holds the interpreter and waits for the initialization, which waits for the
# interpreter. Reading a tensor during the import avoids that.
_INITIALIZED = openvino.Tensor(np.zeros(1, np.int64)).data


def openvino_genai() -> Any:  # noqa: ANN401 - OpenVINO has no types
    """Import OpenVINO's package for language models. Raises `ImportError` if it is missing."""
    import openvino_genai as genai

    return genai


def nncf() -> Any:  # noqa: ANN401 - NNCF has no types either
    """Import NNCF, OpenVINO's package for quantization."""
    import nncf as compression

    return compression
