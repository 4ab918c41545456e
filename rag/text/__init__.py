"""Text processing that knows nothing of libraries or models, from cleaning to index terms."""
