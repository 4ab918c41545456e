"""Conversations kept in one SQLite file: they come back after a restart with their sources as they were.

Every call has a connection and a transaction of its own, so it is safe from several threads and processes. The owner
is a login name, `""` where nobody logs in; nobody finds the conversations of another.
"""

import contextlib
import json
import secrets
import sqlite3
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from rag import Answer, FootnoteError, UsageError

# How long a call waits for another one that writes, in seconds.
_PATIENCE = 30.0
_LONGEST_QUESTION = 80
_LONGEST_TITLE = 200
_LONGEST_SEARCH = 200
_SCHEMA_VERSION = 1
# `folded` is what is searched, see `_folded`. `change` puts the conversations in order: a clock can be set back.
_SCHEMA = (
    """CREATE TABLE conversation (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, library TEXT NOT NULL, title TEXT NOT NULL, folded TEXT NOT NULL,
        renamed INTEGER NOT NULL DEFAULT 0, changed TEXT NOT NULL, change INTEGER NOT NULL
    )""",
    "CREATE INDEX conversation_change ON conversation (owner, change)",
    """CREATE TABLE turn (
        conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        folded TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (conversation, position)
    )""",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_KEPT = """SELECT id, title, library, changed, (SELECT count(*) FROM turn WHERE conversation = conversation.id)
    FROM conversation WHERE owner = ?"""
# A word may stand in the title or in any turn: none of the words is missing from all of them.
_HOLDS_ALL_WORDS = """NOT EXISTS (
    SELECT 1 FROM json_each(?) AS word WHERE NOT instr(conversation.folded, word.value) AND NOT EXISTS (
        SELECT 1 FROM turn WHERE conversation = conversation.id AND instr(turn.folded, word.value)))"""
# The title follows the first question (position ?7 is 0) until the user gives another.
_TOUCH = """INSERT INTO conversation (id, owner, library, title, folded, changed, change)
    VALUES (?, ?, ?, ?, ?, ?, (SELECT coalesce(max(change), 0) + 1 FROM conversation))
    ON CONFLICT (id) DO UPDATE SET library = excluded.library, changed = excluded.changed, change = excluded.change,
    title = iif(?7 OR renamed, title, excluded.title), folded = iif(?7 OR renamed, folded, excluded.folded)"""
_ANSWER = TypeAdapter(Answer)


class ConversationNotFound(FootnoteError):
    """The owner has no conversation of that id: it was deleted, or it is another's."""

    def __init__(self, conversation: str) -> None:
        super().__init__(conversation)
        self.conversation = conversation

    def __str__(self) -> str:
        return "this conversation is no longer there; begin a new one"


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation in the list.

    `library` is the key of the library that was asked last. `changed` is when its last answer was kept: ISO 8601,
    UTC, to the second. `turns` is how many answers it holds.
    """

    id: str
    title: str
    library: str
    changed: str
    turns: int


def new_id() -> str:
    """The id of a conversation to come, which nobody can guess."""
    return secrets.token_urlsafe(16)


class History:
    """The conversations in one file. What cannot be encoded in UTF-8 is kept as `?`.

    Every method raises `FootnoteError` when the file is damaged, cannot be written, or stays locked.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; make it, for the eyes of its user only, where there is none."""
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One at a time: SQLite does not wait for its turn where a new file is switched to WAL.
            with FileLock(f"{path}.lock", timeout=_PATIENCE, mode=0o600):
                # An existing file is not opened here: closing it would take SQLite's locks away from other threads.
                with contextlib.suppress(FileExistsError):
                    path.touch(mode=0o600, exist_ok=False)
                self._prepare()
        except OSError as error:
            raise FootnoteError(f"conversations cannot be kept in {path}: {error}") from error

    def save(  # noqa: PLR0913, PLR0917 - whose answer goes where
        self,
        conversation: str,
        owner: str,
        library: str,
        position: int,
        answer: Answer,
        seen: int | None = None,
    ) -> None:
        """Keep the answer as the turn at a position (from 0); the turns from there on give way to it.

        `seen` is how many turns there were when it was asked for: nothing gives way that came since then.

        A conversation begins with its first turn, and is called by the question. Raises `ConversationNotFound`, or
        `UsageError` when turns came or went meanwhile in another window.
        """
        title = _one_line(answer.question, _LONGEST_QUESTION) or "Untitled"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._transaction("BEGIN IMMEDIATE") as database:
            self._check_place(database, conversation, owner, position, seen)
            _run(
                database, _TOUCH, conversation, owner, library, title, _folded(title), now, position
            )
            _run(
                database,
                "DELETE FROM turn WHERE conversation = ? AND position >= ?",
                conversation,
                position,
            )
            turn = (
                conversation,
                position,
                _folded(f"{answer.question} {answer.text}"),
                _to_json(answer),
            )
            _run(
                database,
                "INSERT INTO turn (conversation, position, folded, answer) VALUES (?, ?, ?, ?)",
                *turn,
            )

    def answers(self, conversation: str, owner: str) -> list[Answer]:
        """The answers in order, equal to those that were saved.

        Raises `ConversationNotFound`, or `FootnoteError` when this version cannot read one of them.
        """
        with self._transaction() as database:
            kept = _find(database, conversation, owner)
            query = "SELECT answer FROM turn WHERE conversation = ? ORDER BY position"
            rows = _run(database, query, conversation).fetchall()
        return [_from_json(row[0], kept, number) for number, row in enumerate(rows, start=1)]

    def find(self, conversation: str, owner: str) -> Kept:
        """The conversation of an id. Raises `ConversationNotFound`."""
        with self._transaction() as database:
            return _find(database, conversation, owner)

    def listed(self, owner: str, words: str = "", limit: int = 100) -> list[Kept]:
        """The owner's conversations, the one asked last first, at most `limit`.

        With `words`, those in which each of them occurs, also as a part of a word, in the title, a question or the
        text of an answer, whatever the case and the accents.
        """
        query = f"{_KEPT} AND {_HOLDS_ALL_WORDS} ORDER BY change DESC LIMIT ?"
        wanted = json.dumps(_folded(words[:_LONGEST_SEARCH]).split(), ensure_ascii=False)
        with self._transaction() as database:
            return [Kept(*row) for row in _run(database, query, owner, wanted, limit)]

    def rename(self, conversation: str, owner: str, title: str) -> None:
        """Give the conversation another title. Raises `UsageError` for an empty one, and `ConversationNotFound`."""
        title = _one_line(title, _LONGEST_TITLE)
        if not title:
            raise UsageError(
                "the title is empty; give the conversation one that you will find again"
            )
        query = (
            "UPDATE conversation SET title = ?, folded = ?, renamed = 1 WHERE id = ? AND owner = ?"
        )
        with self._transaction("BEGIN IMMEDIATE") as database:
            if not _run(database, query, title, _folded(title), conversation, owner).rowcount:
                raise ConversationNotFound(conversation)

    def delete(self, conversation: str, owner: str) -> None:
        """Delete the conversation, so that no word of it stays in the file. Raises `ConversationNotFound`."""
        with self._transaction("BEGIN IMMEDIATE") as database:
            if not _run(
                database, "DELETE FROM conversation WHERE id = ? AND owner = ?", conversation, owner
            ).rowcount:
                raise ConversationNotFound(conversation)
        with self._connection() as database:
            # Rows that were moved between pages can leave copies that `secure_delete` does not know of.
            database.execute("VACUUM")

    # --- the file ------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction("BEGIN IMMEDIATE") as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not version and not tables:
                for statement in _SCHEMA:
                    database.execute(statement)
            elif version != _SCHEMA_VERSION:
                raise FootnoteError(self._wrong_version(version))
        with self._connection() as database:
            # The file remembers it; from then on nobody waits for those who read.
            database.execute("PRAGMA journal_mode = WAL")

    def _wrong_version(self, version: int) -> str:
        if version > _SCHEMA_VERSION:
            why = f"have schema {version}, this version of Footnote reads {_SCHEMA_VERSION}"
            return f"the conversations in {self._path} {why}; use the version that kept them, or a newer one"
        return f"{self._path} holds no conversations but something else; move it away to begin anew"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=_PATIENCE)
            with contextlib.closing(connection):
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA secure_delete = ON")
                yield connection
        except sqlite3.OperationalError as error:
            raise FootnoteError(
                f"the conversations in {self._path} cannot be used now: {error}"
            ) from error
        except sqlite3.Error as error:
            mend = "restore a copy of the file, or move it away to begin anew"
            raise FootnoteError(
                f"the conversations in {self._path} cannot be read: {error}; {mend}"
            ) from error

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        """All or nothing, and all of one moment: a connection that closes without its COMMIT takes everything back."""
        with self._connection() as connection:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    @staticmethod
    def _check_place(
        database: sqlite3.Connection, conversation: str, owner: str, position: int, seen: int | None
    ) -> None:
        """Raise what `save` raises when the owner may not keep a turn there."""
        query = "SELECT owner = ?, (SELECT count(*) FROM turn WHERE conversation = id) FROM conversation WHERE id = ?"
        is_own, turns = _run(database, query, owner, conversation).fetchone() or (position <= 0, 0)
        if not is_own:
            raise ConversationNotFound(conversation)
        if not 0 <= position <= turns or seen not in (None, turns):
            change = "it has 1 turn now" if turns == 1 else f"it has {turns} turns now"
            raise UsageError(f"the conversation was changed elsewhere ({change}); open it again")


def _run(database: sqlite3.Connection, query: str, *values: str | int) -> sqlite3.Cursor:
    """Execute with values that can always be bound: half a surrogate pair is no text."""
    return database.execute(
        query, [_encodable(value) if isinstance(value, str) else value for value in values]
    )


def _find(database: sqlite3.Connection, conversation: str, owner: str) -> Kept:
    row = _run(database, f"{_KEPT} AND id = ?", owner, conversation).fetchone()
    if row is None:
        raise ConversationNotFound(conversation)
    return Kept(*row)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _to_json(answer: Answer) -> str:
    """The answer with all its fields; `Answer.to_json` is for people and leaves some out."""
    # The trace's empty mappings are proxies, which pydantic does not know: `fallback` makes them plain.
    record = _ANSWER.dump_python(answer, fallback=dict, warnings=False)
    return json.dumps(record, ensure_ascii=False)


def _from_json(text: str, kept: Kept, number: int) -> Answer:
    try:
        return _ANSWER.validate_json(text, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the whole"
        raise FootnoteError(
            f"answer {number} of the conversation “{kept.title}” cannot be read by this version of Footnote "
            f"({place}: {fault['msg']}); the other conversations are not affected"
        ) from error


def _one_line(text: str, most: int) -> str:
    """The text on one line, of `most` characters at most, shortened at a word where there is one."""
    line = _visible(_encodable(text))
    if len(line) <= most:
        return line
    words = line[:most].rpartition(" ")[0]
    return (words if len(words) >= most // 2 else line[: most - 1]) + "…"


def _folded(text: str) -> str:
    """The text as it is searched: on one line, without case and accents; of a part, it is a part."""
    letters = unicodedata.normalize("NFKD", _encodable(text))
    return _visible(
        "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
    )


def _visible(text: str) -> str:
    """Without control and format characters, which are not seen, and with single spaces."""
    kept = (
        char for char in text if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf")
    )
    return " ".join("".join(kept).split())
