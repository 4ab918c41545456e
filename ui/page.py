"""The page itself: a question, its answer, and the sources with the quoted sentences highlighted."""

import os
import socket

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio

from rag import Assistant, FootnoteError, UsageError
from ui.render import answer_html

_CSS = """
.answer { font-size: 1.15rem; line-height: 1.6 } .answer q { quotes: "“" "”" }
.mark { text-decoration: none; font-weight: 600; margin: 0 .3em }
.sources { list-style: none; padding: 0 } .sources li { margin: 1.2rem 0 }
.sources mark { background: #ffe08a; color: #1a1a1a; padding: .1em .15em; border-radius: .2em; scroll-margin: 4rem }
.sources mark:target { outline: 2px solid currentColor; outline-offset: .15em }
.abstained { border-left: 4px solid; padding-left: 1rem } .confidence { opacity: .7; font-size: .9rem }
"""
_LONGEST_QUEUE = 32


def build(assistant: Assistant) -> gradio.Blocks:
    """The page over one library."""

    def respond(question: str) -> str:
        try:
            return answer_html(assistant.ask(question))
        except FootnoteError as error:
            raise gradio.Error(str(error)) from error

    page: gradio.Blocks = gradio.Blocks(title="Footnote", analytics_enabled=False)
    with page:
        gradio.Markdown(f"# Footnote\nAsk {len(assistant.library):,} abstracts; every sentence carries a footnote.")
        question = gradio.Textbox(label="Question", placeholder="Does FP8 beat INT8 for inference?", submit_btn="Ask")
        answer = gradio.HTML(label="Answer")
        question.submit(respond, question, answer, api_name="ask", concurrency_limit=2)
    return page


def serve(assistant: Assistant, port: int) -> None:
    """Serve the page on this machine until it is stopped."""
    print(f"Footnote is at http://127.0.0.1:{port} (Ctrl+C stops it)", flush=True)  # noqa: T201 - for the terminal
    with socket.socket() as free:
        if free.connect_ex(("127.0.0.1", port)) == 0:
            raise UsageError(f"port {port} is taken; name another one with --port")
    build(assistant).queue(max_size=_LONGEST_QUEUE).launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        quiet=True,
        css=_CSS,
        footer_links=[],
        enable_monitoring=False,
        run_history=False,
        max_file_size="1mb",
        ssr_mode=False,
        mcp_server=False,
    )
