"""Browser page over one or more libraries: chat, library and evaluations.

Answering belongs to `rag` and metrics belong to `eval`; neither of them knows about the page.
"""

import os

# Read by Gradio on import; otherwise it reports each start and checks for new versions online.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
