"""Adapters between Footnote and other libraries, each imported only when it is used."""
