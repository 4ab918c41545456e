"""Run the bundled language model in OpenVINO."""

from functools import cache

from rag.models.bundled_weights import NAME, SHA256, join_pieces
from rag.models.files import FINGERPRINT_LENGTH
from rag.models.runtimes.openvino_gguf import convert_gguf_to_openvino
from rag.models.runtimes.openvino_lm import OpenVinoLanguageModel


@cache
def open_language_model(_name: str) -> OpenVinoLanguageModel:
    """Return the bundled model. The process shares one copy."""
    fingerprint = SHA256[:FINGERPRINT_LENGTH]
    folder = convert_gguf_to_openvino(fingerprint, NAME, join_pieces)
    return OpenVinoLanguageModel(NAME, folder, fingerprint)
