"""The prompts: Markdown files in `prompts/`, filled in strictly, with text of strangers made harmless.

A file is a header (`name`, `version`) and sections; `## system`, `## user` and `## assistant` are messages,
`## text` is a text without a role.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from rag.errors import FootnoteError

# Beside this package, in the repository as well as where it is installed.
_FOLDER = Path(__file__).parent.parent.parent / "prompts"
_FILE = re.compile(
    r"---\nname: (?P<name>[a-z]+)\nversion: (?P<version>\d+)\n---\n(?P<body>.*)", re.DOTALL
)
_SECTION = re.compile(r"^## (system|user|assistant|text)\n", re.MULTILINE)
# What chat templates mark their turns with: <|im_start|>, <s>, <start_of_turn>, <｜User｜>, [INST], [|user|], …
# A "<" before a letter or a sign opens one; before a number or a space it compares.
_OPENS_TOKEN = re.compile(r"<(?=[<|｜/!\w])(?!\d)|\[(?=/?[gs]?[A-Z_]{3,}\]|\|)")
# Footnotes are ours alone to give.
_FOOTNOTE = re.compile(r"\[(\d{1,3}(?:\s*[,–-]\s*\d{1,3})*)\]")
_HARMLESS = {"<": "‹", "[": "⟦"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as its file has it: (role, template) for each section. `digest` changes with every byte."""

    name: str
    version: int
    sections: tuple[tuple[str, str], ...]
    digest: str

    def render(self, **fields: str) -> list[tuple[str, str]]:
        """(role, text) of each section; `KeyError` for a field that is missing. What fields hold is never filled in."""
        return [(role, Template(text).substitute(fields)) for role, text in self.sections]


@cache
def load_prompt(name: str) -> Prompt:
    """The prompt of that name. Raises `FootnoteError` for a file that is not in the form."""
    text = (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    parts = _FILE.fullmatch(text)
    if not parts or parts["name"] != name:
        raise FootnoteError(
            f"prompts/{name}.md does not begin with a header that names it and its version"
        )
    _, *rest = _SECTION.split(parts["body"])
    sections = tuple(zip(rest[::2], (body.strip() for body in rest[1::2]), strict=True))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Prompt(name, int(parts["version"]), sections, digest)


def neutralize_markers(text: str) -> str:
    """Text of strangers as one line in which nothing is a chat token or a footnote; it reads the same to people."""
    one_line = " ".join(text.split())
    return _OPENS_TOKEN.sub(lambda found: _HARMLESS[found[0]], _FOOTNOTE.sub(r"(\1)", one_line))
