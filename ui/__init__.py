"""The page: ask a library in the browser. It knows only the public names of `rag` and of `eval`."""

import os

# Read by gradio when it is imported: with it, gradio would ask for its newest version and tell of each start.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
