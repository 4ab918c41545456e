"""Runtimes: one module for each way to run a model, listed in `rag.models.registry`.

Helpers that runtimes share belong here, too: streaming, quiet libraries, OpenVINO offline.
"""
