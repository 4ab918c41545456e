"""Helpers that the parsers of several formats share.

Rules of a single format belong in its module.
"""
