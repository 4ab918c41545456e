"""Text: cleaning it, splitting it into sentences, and the terms of the full-text index."""
