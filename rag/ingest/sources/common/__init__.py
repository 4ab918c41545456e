"""Helpers that the parsers of several formats share. A rule of one format belongs in its module."""
