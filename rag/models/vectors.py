"""Vectors as rows of single-precision numbers."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def normalize(vectors: Vectors) -> Vectors:
    """Scale vectors, (…, dimension), to unit length; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normalized: Vectors = vectors / np.maximum(lengths, 1e-12)
    return normalized
