"""Shared by the middlewares: the path of Gradio's API, and refusals."""

from starlette.responses import JSONResponse

API = "/gradio_api/"


def refusal(status: int, detail: str) -> JSONResponse:
    """Return a response that refuses a request."""
    return JSONResponse({"detail": detail}, status)
