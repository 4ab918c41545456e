"""The page: ask a library in the browser.

It uses the public names of `rag` and `eval`; neither of them knows about the page.
"""

import os

# Read by Gradio on import; otherwise it reports each start and checks for new versions online.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
