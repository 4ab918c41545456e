"""Load prompts from the Markdown files in `prompts/`, and make untrusted text safe to put in them.

A file is a header (`name`, `version`) followed by sections: `## system`, `## user` and
`## assistant` are messages, `## text` is plain text without a role.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from rag.errors import FootnoteError
from rag.models.language_model import Message

# Next to the package, both in the repository and in an installation.
_FOLDER = Path(__file__).parent.parent.parent / "prompts"
_FILE = re.compile(
    r"---\nname: (?P<name>[a-z]+)\nversion: (?P<version>\d+)\n---\n(?P<body>.*)", re.DOTALL
)
_SECTION = re.compile(r"^## (system|user|assistant|text)\n", re.MULTILINE)
# Start of a chat template's token: <|im_start|>, <s>, <｜User｜>, [INST], [|user|].
# A "<" before a digit or a space is a comparison.
_TOKEN_START = re.compile(r"<(?=[<|｜/!\w])(?!\d)|\[(?=/?[gs]?[A-Z_]{3,}\]|\|)")
# Only Footnote itself may number footnotes.
_FOOTNOTE = re.compile(r"\[(\d{1,3}(?:\s*[,–-]\s*\d{1,3})*)\]")
_LOOKALIKES = {"<": "‹", "[": "⟦"}
_LOOKALIKE_START = re.compile(r"‹(?=[<|｜/!\w])(?!\d)|⟦(?=/?[gs]?[A-Z_]{3,}\]|\|)")
_ORIGINALS = {"‹": "<", "⟦": "["}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Prompt as its file defines it: (role, template) per section. Any change alters `digest`."""

    name: str
    version: int
    sections: tuple[tuple[str, str], ...]
    digest: str

    def render(self, **fields: str) -> list[tuple[str, str]]:
        """Return (role, text) per section; `$names` inside field values stay as they are.

        Raises `KeyError` for a missing field.
        """
        return [(role, Template(text).substitute(fields)) for role, text in self.sections]


def render_messages(name: str, **fields: str) -> list[Message]:
    """Return the messages of a prompt. Raises `KeyError` for a missing field."""
    messages = []
    for role, text in load_prompt(name).render(**fields):
        messages.append(Message(role, text))  # type: ignore[arg-type]
    return messages


@cache
def load_prompt(name: str) -> Prompt:
    """Load a prompt by name. Raises `FootnoteError` for a file with an invalid header."""
    text = (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    match = _FILE.fullmatch(text)
    if not match or match["name"] != name:
        raise FootnoteError(
            f"prompts/{name}.md must begin with a header that gives its name and version"
        )
    _, *parts = _SECTION.split(match["body"])
    roles, bodies = parts[::2], map(str.strip, parts[1::2])
    sections = tuple(zip(roles, bodies, strict=True))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Prompt(name, int(match["version"]), sections, digest)


def neutralize_markers(text: str) -> str:
    """Return untrusted text as one line without chat tokens and footnotes.

    It stays readable: "<" and "[" at the start of a token become similar characters, and "[7]"
    becomes "(7)".
    """
    one_line = " ".join(text.split())
    without_footnotes = _FOOTNOTE.sub(r"(\1)", one_line)
    return _TOKEN_START.sub(lambda match: _LOOKALIKES[match[0]], without_footnotes)


def restore_markers(text: str) -> str:
    """Return what a model wrote with the characters that `neutralize_markers` replaced."""
    return _LOOKALIKE_START.sub(lambda match: _ORIGINALS[match[0]], text)
