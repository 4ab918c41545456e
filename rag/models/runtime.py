"""OpenVINO, imported so that it stays on this machine.

Its package counts every import and conversion over the network, unless the module that does so is missing.
"""

import sys
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - only after its telemetry is out of the way

__all__ = ["openvino", "openvino_genai"]


def openvino_genai() -> Any:  # noqa: ANN401 - OpenVINO has no types
    """The part of OpenVINO that runs language models. Raises `ImportError` where it is not installed."""
    import openvino_genai as genai

    return genai
