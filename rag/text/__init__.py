"""Text: cleaning it, splitting it into sentences, reading identifiers off it, and the terms of the full-text index."""
