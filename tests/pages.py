"""Server of the page for tests."""

import socket
import threading

import uvicorn

from rag import Assistant
from ui.server.application import application
from ui.services.conversations import ConversationStore
from ui.services.library_registry import LibraryRegistry


class Site:
    """Page over some libraries, with its data in a folder; it can be stopped and started again.

    `models` maps the name of a library's folder to its language model; other libraries have none.
    """

    def __init__(self, folder, libraries, models=None):
        self.folder = folder
        self.libraries = libraries
        self.models = models or {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self, users=None):
        from ui.app import build_page, theme

        self.registry = LibraryRegistry(self.libraries, self.open_library)
        self.store = ConversationStore(self.folder / "conversations.sqlite")
        page = build_page(self.registry, self.store, self.folder / "runs")
        app = application(page, "127.0.0.1", self.port, users or {}, **theme())
        config = uvicorn.Config(
            app,
            port=self.port,
            log_level="error",
            timeout_graceful_shutdown=1,
            ws="none",
            proxy_headers=False,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.02)
            assert self.thread.is_alive()

    def open_library(self, folder, model):
        if folder.name == "damaged":
            (folder / "library.sqlite").write_bytes(b"no library")
        language_model = self.models.get(folder.name, model or "none")
        return Assistant.open(folder, language_model=language_model, create=False)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()
