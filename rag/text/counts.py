"""Counts in messages."""


def format_count(number: int, singular: str, plural: str = "") -> str:
    """Return `1 paper`, `1,204 papers` or, with its own plural, `2 replies`."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{number:,} {noun}"
