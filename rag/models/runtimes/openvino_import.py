"""OpenVINO, imported so that it stays on this machine.

Its package counts every import and conversion over the network, unless the module that does so is missing.
"""

import sys
from typing import Any

import numpy as np

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - only after its telemetry is out of the way

__all__ = ["nncf", "openvino", "openvino_genai"]

# Its Python side gets ready when a tensor is first looked into. Two threads that do so at once wait for each other for
# ever: one holds the interpreter and waits for the other to be ready, which waits for the interpreter.
_READY = openvino.Tensor(np.zeros(1, np.int64)).data


def openvino_genai() -> Any:  # noqa: ANN401 - OpenVINO has no types
    """The part of OpenVINO that runs language models. Raises `ImportError` where it is not installed."""
    import openvino_genai as genai

    return genai


def nncf() -> Any:  # noqa: ANN401 - it has no types either
    """The part of OpenVINO that makes models of whole numbers."""
    import nncf as compression

    return compression
