"""Load prompts from the Markdown files in `prompts/`, and make untrusted text safe to put in them.

A file has a section for each message: `## system` and `## user`.
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
_SECTION = re.compile(r"^## (.*)\n", re.MULTILINE)
_ROLES = ["system", "user"]
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
    """Templates of the two messages. Any change of the file alters `digest`."""

    system: str
    user: str
    digest: str

    def render(self, **fields: str) -> list[Message]:
        """Return the messages; `$names` inside field values stay as they are.

        Raises `KeyError` for a missing field.
        """
        user = Template(self.user).substitute(fields)
        return [Message("system", self.system), Message("user", user)]


@cache
def load_prompt(name: str) -> Prompt:
    """Load a prompt by name. Raises `FootnoteError` for a file without its two sections."""
    text = (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    before, *parts = _SECTION.split(text)
    if before or parts[::2] != _ROLES:
        raise FootnoteError(
            f"prompts/{name}.md must consist of the sections '## system' and '## user'"
        )
    system, user = map(str.strip, parts[1::2])
    return Prompt(system, user, hashlib.sha256(text.encode()).hexdigest()[:12])


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
