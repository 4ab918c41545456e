"""The truth: what papers there are, what they say, and which records are one paper."""

from rag.library.filters import Condition, parse_filters
from rag.library.integrity import IntegrityReport
from rag.library.library import Library
from rag.library.transaction import StoredPaper, Transaction

__all__ = ["Condition", "IntegrityReport", "Library", "StoredPaper", "Transaction", "parse_filters"]
