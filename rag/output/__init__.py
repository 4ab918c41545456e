"""Answers and papers for people and programs: Markdown, exports, the terminal, saved answers.

Nothing here retrieves or answers; a replay asks through the assistant that it is given.
"""
