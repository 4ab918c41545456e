"""The truth: what papers there are, what they say, and which records are one paper."""

from rag.library.filters import Condition, parse_filters
from rag.library.library import Library
from rag.library.soundness import Faults
from rag.library.writer import Stored, Writer

__all__ = ["Condition", "Faults", "Library", "Stored", "Writer", "parse_filters"]
