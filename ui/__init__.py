"""The page: ask a library in the browser. It knows only the public names of `rag`."""
