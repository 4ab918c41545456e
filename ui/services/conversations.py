"""Conversations in one SQLite file: they survive a restart, with their sources as they were.

Every call has its own connection and transaction, so it is safe from several threads and processes.
The owner is a user's name, `""` where nobody signs in. Owners see only their own conversations.
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
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from rag import Answer, FootnoteError, UsageError

# How long a call waits for another one that writes.
_BUSY_TIMEOUT_SECONDS = 30.0
MAX_QUESTION_TITLE_CHARS = 80
MAX_TITLE_CHARS = 200
MAX_SEARCH_CHARS = 200
_SCHEMA_VERSION = 2
# `folded` is the searchable text, see `_fold`. `change` orders conversations: a counter, because
# clocks can be set back.
_SCHEMA = (
    """CREATE TABLE conversation (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, library TEXT NOT NULL, title TEXT NOT NULL,
        folded TEXT NOT NULL, renamed INTEGER NOT NULL DEFAULT 0, changed TEXT NOT NULL,
        change INTEGER NOT NULL
    )""",
    "CREATE INDEX conversation_change ON conversation (owner, change)",
    """CREATE TABLE turn (
        conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        position INTEGER NOT NULL, folded TEXT NOT NULL, answer TEXT NOT NULL,
        PRIMARY KEY (conversation, position)
    )""",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_SUMMARIES = """SELECT id, title, library, changed,
    (SELECT count(*) FROM turn WHERE conversation = conversation.id)
    FROM conversation WHERE owner = ?"""
# Each word must occur in the title or in one of the turns.
_CONTAINS_ALL_WORDS = """NOT EXISTS (
    SELECT 1 FROM json_each(?) AS word
    WHERE NOT instr(conversation.folded, word.value) AND NOT EXISTS (
        SELECT 1 FROM turn
        WHERE conversation = conversation.id AND instr(turn.folded, word.value)))"""
# The title follows the first question (position ?7 is 0) until the user sets one.
_UPSERT = """INSERT INTO conversation (id, owner, library, title, folded, changed, change)
    VALUES (?, ?, ?, ?, ?, ?, (SELECT coalesce(max(change), 0) + 1 FROM conversation))
    ON CONFLICT (id) DO UPDATE SET
    library = excluded.library, changed = excluded.changed, change = excluded.change,
    title = iif(?7 OR renamed, title, excluded.title),
    folded = iif(?7 OR renamed, folded, excluded.folded)"""
_ANSWER = TypeAdapter(Answer)
# Names in answers stored by version 1, and what they are called now.
_RENAMED_KINDS = {"quote": "quoted", "written": "generated"}
_RENAMED_TRACE_FIELDS = {"read_as": "rewritten_query"}


class ConversationNotFound(FootnoteError):
    """Raised when the owner has no such conversation: deleted, or owned by another user."""

    def __init__(self, conversation: str) -> None:
        super().__init__(conversation)
        self.conversation = conversation

    def __str__(self) -> str:
        return "this conversation no longer exists; start a new one"


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """Conversation in the list.

    `library` is the key of the library that answered last, `changed` the time of the last answer
    (ISO 8601, UTC, to the second), `turns` the number of answers.
    """

    id: str
    title: str
    library: str
    changed: str
    turns: int


def new_id() -> str:
    """Return an id for a new conversation that nobody can guess."""
    return secrets.token_urlsafe(16)


class ConversationStore:
    """Conversations in one file. Characters that UTF-8 cannot encode are stored as `?`.

    Every method raises `FootnoteError` if the file is damaged, cannot be written or stays locked.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or create it readable by its owner only."""
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One process at a time: SQLite does not wait while a new file is switched to WAL.
            with FileLock(f"{path}.lock", timeout=_BUSY_TIMEOUT_SECONDS, mode=0o600):
                # Do not open an existing file here: closing it would drop other threads' locks.
                with contextlib.suppress(FileExistsError):
                    path.touch(mode=0o600, exist_ok=False)
                self._prepare()
        except OSError as error:
            raise FootnoteError(f"cannot store conversations in {path}: {error}") from error

    def save(  # noqa: PLR0913, PLR0917 - none can be left out
        self,
        conversation: str,
        owner: str,
        library: str,
        position: int,
        answer: Answer,
        expected_turns: int | None = None,
    ) -> None:
        """Store an answer as the turn at a position (from 0), replacing the turns from there on.

        Saving the first turn creates the conversation, with the question as its title.
        `expected_turns` is the number of turns when the question was asked: turns that another
        window has added since are not replaced.

        Raises `ConversationNotFound`, and `UsageError` if another window added or removed turns.
        """
        title = _shorten(answer.question, MAX_QUESTION_TITLE_CHARS) or "Untitled"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        folded = _fold(f"{answer.question} {answer.text}")
        delete = "DELETE FROM turn WHERE conversation = ? AND position >= ?"
        insert = "INSERT INTO turn (conversation, position, folded, answer) VALUES (?, ?, ?, ?)"
        with self._transaction("BEGIN IMMEDIATE") as database:
            self._check_position(database, conversation, owner, position, expected_turns)
            upserted = (conversation, owner, library, title, _fold(title), now, position)
            _execute(database, _UPSERT, *upserted)
            _execute(database, delete, conversation, position)
            _execute(database, insert, conversation, position, folded, _to_json(answer))

    def answers(self, conversation: str, owner: str) -> list[Answer]:
        """Return the answers in order, equal to those that were saved.

        Raises `ConversationNotFound`, or `FootnoteError` if this version cannot read one of them.
        """
        with self._transaction() as database:
            summary = _find(database, conversation, owner)
            query = "SELECT answer FROM turn WHERE conversation = ? ORDER BY position"
            rows = _execute(database, query, conversation).fetchall()
        return [_from_json(row[0], summary, number) for number, row in enumerate(rows, start=1)]

    def find(self, conversation: str, owner: str) -> ConversationSummary:
        """Return the summary of a conversation. Raises `ConversationNotFound`."""
        with self._transaction() as database:
            return _find(database, conversation, owner)

    def list_conversations(
        self, owner: str, words: str = "", limit: int = 100
    ) -> list[ConversationSummary]:
        """Return up to `limit` conversations of the owner, most recently asked first.

        With `words`, return only those where each word occurs in the title, a question or an
        answer. Parts of words match, too; case and accents are ignored.
        """
        query = f"{_SUMMARIES} AND {_CONTAINS_ALL_WORDS} ORDER BY change DESC LIMIT ?"
        folded_words = json.dumps(_fold(words[:MAX_SEARCH_CHARS]).split(), ensure_ascii=False)
        with self._transaction() as database:
            rows = _execute(database, query, owner, folded_words, limit).fetchall()
        return [ConversationSummary(*row) for row in rows]

    def rename(self, conversation: str, owner: str, title: str) -> None:
        """Set the title. Raises `UsageError` if it is empty, and `ConversationNotFound`."""
        title = _shorten(title, MAX_TITLE_CHARS)
        if not title:
            raise UsageError("enter a title")
        query = (
            "UPDATE conversation SET title = ?, folded = ?, renamed = 1 WHERE id = ? AND owner = ?"
        )
        with self._transaction("BEGIN IMMEDIATE") as database:
            renamed = _execute(database, query, title, _fold(title), conversation, owner)
            if not renamed.rowcount:
                raise ConversationNotFound(conversation)

    def delete(self, conversation: str, owner: str) -> None:
        """Delete a conversation so that nothing of it stays in the file.

        Raises `ConversationNotFound`.
        """
        query = "DELETE FROM conversation WHERE id = ? AND owner = ?"
        with self._transaction("BEGIN IMMEDIATE") as database:
            if not _execute(database, query, conversation, owner).rowcount:
                raise ConversationNotFound(conversation)
        with self._connection() as database:
            # Rows that moved between pages can leave copies that `secure_delete` does not clear.
            database.execute("VACUUM")

    # --- the file -------------------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction("BEGIN IMMEDIATE") as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not version and not tables:
                for statement in _SCHEMA:
                    database.execute(statement)
            elif version == 1:
                _migrate_from_version_1(database)
            elif version != _SCHEMA_VERSION:
                raise FootnoteError(self._describe_wrong_version(version))
        with self._connection() as database:
            # A lasting property of the file; with it, readers never wait.
            database.execute("PRAGMA journal_mode = WAL")

    def _describe_wrong_version(self, version: int) -> str:
        if version > _SCHEMA_VERSION:
            return (
                f"the conversations in {self._path} have schema {version}, but this version of "
                f"Footnote reads {_SCHEMA_VERSION}; use the version that stored them or a newer one"
            )
        return f"{self._path} is not a file of conversations; move it away to start a new one"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        conversations = f"the conversations in {self._path}"
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=_BUSY_TIMEOUT_SECONDS
            )
            with contextlib.closing(connection):
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA secure_delete = ON")
                yield connection
        except sqlite3.OperationalError as error:
            raise FootnoteError(f"cannot use {conversations}: {error}") from error
        except sqlite3.Error as error:
            fix = "restore a copy of the file, or move it away to start a new one"
            raise FootnoteError(f"cannot read {conversations}: {error}; {fix}") from error

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        """Run one transaction. Closing the connection without COMMIT rolls it back."""
        with self._connection() as connection:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    @staticmethod
    def _check_position(
        database: sqlite3.Connection,
        conversation: str,
        owner: str,
        position: int,
        expected_turns: int | None,
    ) -> None:
        """Raise the errors of `save` unless the owner may store a turn at this position."""
        query = (
            "SELECT owner = ?, (SELECT count(*) FROM turn WHERE conversation = id) "
            "FROM conversation WHERE id = ?"
        )
        row = _execute(database, query, owner, conversation).fetchone()
        is_owner, turns = row or (position <= 0, 0)
        if not is_owner:
            raise ConversationNotFound(conversation)
        if not 0 <= position <= turns or expected_turns not in (None, turns):
            count = "1 turn" if turns == 1 else f"{turns} turns"
            raise UsageError(
                f"another window changed the conversation (it now has {count}); open it again"
            )


def _migrate_from_version_1(database: sqlite3.Connection) -> None:
    """Rename the fields of stored answers that had other names in version 1."""
    rows = database.execute("SELECT conversation, position, answer FROM turn").fetchall()
    update = "UPDATE turn SET answer = ? WHERE conversation = ? AND position = ?"
    for conversation, position, text in rows:
        answer = json.loads(text)
        for claim in answer.get("claims", ()):
            claim["kind"] = _RENAMED_KINDS.get(claim["kind"], claim["kind"])
        answer["trace"] = _rename_fields(answer.get("trace", {}))
        migrated = json.dumps(answer, ensure_ascii=False)
        database.execute(update, (migrated, conversation, position))
    database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _rename_fields(trace: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED_TRACE_FIELDS.get(name, name): value for name, value in trace.items()}


def _execute(database: sqlite3.Connection, query: str, *values: str | int) -> sqlite3.Cursor:
    """Run a query with values that SQLite can store: surrogates become question marks."""
    bound = [_encodable(value) if isinstance(value, str) else value for value in values]
    return database.execute(query, bound)


def _find(database: sqlite3.Connection, conversation: str, owner: str) -> ConversationSummary:
    row = _execute(database, f"{_SUMMARIES} AND id = ?", owner, conversation).fetchone()
    if row is None:
        raise ConversationNotFound(conversation)
    return ConversationSummary(*row)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _to_json(answer: Answer) -> str:
    """Return an answer with all its fields; `Answer.to_json` leaves some out."""
    # The trace's empty mappings are proxies, which pydantic does not know: `fallback` copies them.
    record = _ANSWER.dump_python(answer, fallback=dict, warnings=False)
    return json.dumps(record, ensure_ascii=False)


def _from_json(text: str, summary: ConversationSummary, number: int) -> Answer:
    try:
        return _ANSWER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "the whole answer"
        raise FootnoteError(
            f"this version of Footnote cannot read answer {number} of the conversation "
            f"“{summary.title}” ({name}: {first['msg']}); other conversations are not affected"
        ) from error


def _shorten(text: str, limit: int) -> str:
    """Return the text on one line of at most `limit` characters, cut between words if possible."""
    line = _visible(_encodable(text))
    if len(line) <= limit:
        return line
    words = line[:limit].rpartition(" ")[0]
    start = words if len(words) >= limit // 2 else line[: limit - 1]
    return f"{start}…"


def _fold(text: str) -> str:
    """Return the searchable form of a text: one line, without case and accents.

    Folding a part of a text gives a part of the folded text.
    """
    decomposed = unicodedata.normalize("NFKD", _encodable(text))
    letters = [letter for letter in decomposed if not unicodedata.combining(letter)]
    return _visible("".join(letters).casefold())


def _visible(text: str) -> str:
    """Return a text without control and format characters, and with single spaces."""
    return " ".join("".join(filter(_is_visible, text)).split())


def _is_visible(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) not in ("Cc", "Cf")
