"""OpenVINO, imported so that it stays on this machine.

Its package counts every import and conversion over the network, unless the module that does so is missing.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402 - only after its telemetry is out of the way

__all__ = ["openvino"]
