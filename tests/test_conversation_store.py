"""Stored conversations: equal after a restart, private to their owner, gone when deleted."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rag import Answer, Citation, Claim, FootnoteError, Hit, Paper, Passage, Trace, UsageError
from ui.services.conversations import (
    ConversationNotFound,
    ConversationStore,
    ConversationSummary,
    new_id,
)

TRACE = Trace("embedder", "none", "quote", "", "digest")
PAPER = Paper(
    "Tides of the North",
    "Gates open twice a day. They save 12 parts in a hundred.",
    ("Zoë Müller",),
    2021,
)


def answer(question, text="Your library does not say.", **changes):
    return replace(Answer(question, text, (), (), (), True, "", 0.5, TRACE), **changes)


def questions(store, conversation, owner=""):
    return [answer.question for answer in store.answers(conversation, owner)]


def titles(store, owner="", words="", limit=100):
    return [summary.title for summary in store.list_conversations(owner, words, limit)]


def bytes_in(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def change(path, *statements):
    """Change the file without `ConversationStore`."""
    with closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(*statement)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "conversations.sqlite"


@pytest.fixture
def store(path):
    return ConversationStore(path)


# --- round trip -----------------------------------------------------------------------------------


def test_real_answers_come_back_equal_after_a_restart(assistant, path):
    chat = assistant.chat()
    expected = [
        chat.ask("How much smaller does the KV cache become?", year=">=2000"),
        chat.ask("and by how much does it slow down decoding?", sentences=1),
        chat.ask("What is the capital of France?"),
    ]
    assert expected[0].citations, "the first answer must have sources"
    for position, answer in enumerate(expected):
        ConversationStore(path).save("chat", "ada", "/libraries/mine", position, answer)
    restored = ConversationStore(path).answers("chat", "ada")
    assert restored == expected
    for before, after in zip(expected, restored, strict=True):
        assert after.to_json() == before.to_json()
        assert after.to_markdown() == before.to_markdown()
    for citation in restored[0].citations:
        assert citation.paper.abstract[citation.start : citation.end] == citation.quote


def test_a_conversation_continues_from_stored_answers(assistant, store):
    store.save("chat", "", "lib", 0, assistant.ask("How much smaller does the KV cache become?"))
    follow_up = assistant.chat(store.answers("chat", "")).ask("and what about its accuracy?")
    assert follow_up.trace.rewritten_query
    store.save("chat", "", "lib", 1, follow_up)
    assert store.answers("chat", "")[1] == follow_up


texts = st.text(max_size=40)
integers = st.integers(-(2**70), 2**70)
numbers = st.floats(allow_nan=False)


def mappings(values):
    plain = st.dictionaries(texts, values, max_size=3)
    return plain | plain.map(MappingProxyType)


papers = st.builds(
    Paper, texts, texts, st.lists(texts, max_size=3).map(tuple), st.none() | integers, *[texts] * 6
)
traces = st.builds(
    Trace,
    *[texts] * 7,
    spelling=mappings(texts),
    left_out=st.lists(texts, max_size=3).map(tuple),
    settings=mappings(texts | integers),
    signals=mappings(numbers),
    seconds=mappings(numbers),
    tokens=mappings(integers),
)
claims = st.builds(
    Claim,
    texts,
    st.sampled_from(["quoted", "generated", "computed"]),
    st.lists(integers, max_size=3).map(tuple),
    st.booleans(),
    numbers,
    texts,
)
citations = st.builds(Citation, integers, papers, texts, integers, integers)
passages = st.builds(Passage, texts, texts, integers, integers)
hits = st.builds(Hit, papers, numbers, integers, passages, numbers, numbers, numbers)
answers = st.builds(
    Answer,
    texts,
    texts,
    *[st.lists(records, max_size=2).map(tuple) for records in (claims, citations, hits)],
    st.booleans(),
    texts,
    numbers,
    traces,
)
# All examples share the folder, and each of them overwrites the file.
property_test = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def types(value):
    """Return the types of a value and of everything in it; all mappings count as one type."""
    if is_dataclass(value):
        return [type(value), *(types(getattr(value, field.name)) for field in fields(value))]
    if isinstance(value, Mapping):
        return [Mapping, *map(types, value.keys()), *map(types, value.values())]
    return [type(value), *map(types, value)] if isinstance(value, tuple) else type(value)


@property_test
@given(st.lists(answers, min_size=1, max_size=3))
@example(
    [
        answer(
            "\x00",
            "’\u2028\x85",
            confidence=float("inf"),
            hits=(Hit(PAPER, -0.0, 1, Passage("", "", 0, 0)),),
        )
    ]
)
def test_any_answer_comes_back_equal_and_of_the_same_types(store, answers_to_save):
    for position, answer in enumerate(answers_to_save):
        store.save("chat", "", "lib", position, answer)
    restored = store.answers("chat", "")
    assert restored == answers_to_save
    for before, after in zip(answers_to_save, restored, strict=True):
        assert types(after) == types(before)
        assert str(after.confidence) == str(before.confidence)


def test_surrogates_are_stored_as_question_marks(store):
    store.save(
        "chat\ud800", "ada\udfff", "lib\ud800", 0, answer("odd \ud83d\ude00 name", "text \udc00")
    )
    (summary,) = store.list_conversations("ada\udfff", "odd \ud83d")
    assert (summary.title, summary.library) == ("odd ?? name", "lib?")
    (restored,) = store.answers("chat\ud800", "ada\udfff")
    assert restored.text == "text ?"
    store.rename("chat\ud800", "ada\udfff", "new \udbff")
    assert store.find(summary.id, "ada\udfff").title == "new ?"
    store.delete("chat\ud800", "ada\udfff")


# --- turns ----------------------------------------------------------------------------------------


def test_saving_replaces_a_turn_and_all_later_ones(store):
    for position in range(4):
        store.save("chat", "", "lib", position, answer(f"question {position}"))
    store.save("chat", "", "lib", 1, answer("another"))
    assert questions(store, "chat") == ["question 0", "another"]
    assert store.find("chat", "").turns == 2
    store.save("chat", "", "lib", 2, answer("the next"))
    assert questions(store, "chat") == ["question 0", "another", "the next"]


def test_replaced_turns_leave_nothing_in_the_file(store, path):
    store.save("chat", "", "lib", 0, answer("first"))
    store.save("chat", "", "lib", 1, answer("zebra", "quagga " * 2000))
    assert b"quagga" in bytes_in(path)
    store.save("chat", "", "lib", 1, answer("second"))
    assert b"quagga" not in bytes_in(path)


@pytest.mark.parametrize("position", [-1, 2, 10**30])
def test_a_position_that_leaves_a_gap_is_refused(store, position):
    store.save("chat", "", "lib", 0, answer("first"))
    with pytest.raises(UsageError, match="it now has 1 turn"):
        store.save("chat", "", "lib", position, answer("lost"))
    assert questions(store, "chat") == ["first"]


def test_a_deleted_conversation_cannot_continue_but_its_id_can_be_reused(store):
    store.save("chat", "", "lib", 0, answer("first"))
    store.delete("chat", "")
    with pytest.raises(ConversationNotFound, match="no longer exists"):
        store.save("chat", "", "lib", 1, answer("second"))
    store.save("chat", "", "lib", 0, answer("again"))
    assert questions(store, "chat") == ["again"]


def test_summaries_have_library_turns_and_time(store):
    before = datetime.now(UTC).replace(microsecond=0)
    store.save("chat", "", "/old/library", 0, answer("first"))
    store.save("chat", "", "/new/library", 1, answer("second"))
    (summary,) = store.list_conversations("")
    changed = datetime.fromisoformat(summary.changed)
    assert summary == ConversationSummary(
        "chat", "first", "/new/library", changed.isoformat(timespec="seconds"), 2
    )
    assert before <= changed <= datetime.now(UTC)


def test_recently_changed_conversations_come_first_within_a_second(store):
    for name in "abc":
        store.save(name, "", "lib", 0, answer(name))
    store.save("a", "", "lib", 1, answer("more"))
    store.rename("b", "", "b renamed")
    assert titles(store) == ["a", "c", "b renamed"]
    assert titles(store, limit=2) == ["a", "c"]


# --- owners ---------------------------------------------------------------------------------------


@pytest.mark.promise("login")
@pytest.mark.parametrize("user", ["", "Ada", "ada ", "%", "' OR 1=1 --"])
def test_owners_cannot_open_each_others_conversations(store, user):
    store.save("chat", "ada", "lib", 0, answer("private", "words"))
    assert store.list_conversations(user) == store.list_conversations(user, "private") == []
    attempts = (
        lambda: store.find("chat", user),
        lambda: store.answers("chat", user),
        lambda: store.save("chat", user, "lib", 0, answer("mine now")),
        lambda: store.save("chat", user, "lib", 1, answer("mine too")),
        lambda: store.rename("chat", user, "mine"),
        lambda: store.delete("chat", user),
    )
    for attempt in attempts:
        with pytest.raises(ConversationNotFound, match="no longer exists"):
            attempt()
    assert questions(store, "chat", "ada") == ["private"]
    assert titles(store, "ada") == ["private"]


def test_owners_search_and_delete_only_their_own(store):
    store.save("hers", "ada", "lib", 0, answer("tides at night"))
    store.save("his", "bob", "lib", 0, answer("tides at noon"))
    assert titles(store, "ada", "tides") == ["tides at night"]
    store.delete("hers", "ada")
    assert titles(store, "bob", "tides") == ["tides at noon"]


def test_ids_cannot_be_guessed():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert min(map(len, ids)) >= 20


# --- titles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What\n saves\u2028 tides?\x00\u202e", "What saves tides?"),
        ("a" * 79 + " b", "a" * 79 + "…"),
        ("a" * 40 + " " + "b" * 50, "a" * 40 + "…"),
        ("a" * 81, "a" * 79 + "…"),
        ("a" * 80, "a" * 80),
        ("word " * 16, "word " * 15 + "word"),
        ("word " * 17, "word " * 15 + "word…"),
        ("  \u200b ", "Untitled"),
        ("<b>%_'\"\\ ☃", "<b>%_'\"\\ ☃"),
    ],
)
def test_the_first_question_becomes_the_title(store, question, title):
    store.save("chat", "", "lib", 0, answer(question))
    store.save("chat", "", "lib", 1, answer("another"))
    assert titles(store) == [title]


def test_the_title_follows_the_first_question_until_renamed(store):
    store.save("chat", "", "lib", 0, answer("Wht is it?"))
    store.save("chat", "", "lib", 0, answer("What is it?"))
    assert titles(store) == titles(store, words="what") == ["What is it?"]
    assert titles(store, words="wht") == []
    store.rename("chat", "", "Tides")
    store.save("chat", "", "lib", 0, answer("Who is it?"))
    assert titles(store) == titles(store, words="tides") == ["Tides"]


def test_a_title_is_one_line_of_at_most_200_characters(store):
    store.save("chat", "", "lib", 0, answer("first"))
    store.rename("chat", "", "  two\r\nlines\t")
    assert titles(store) == ["two lines"]
    store.rename("chat", "", "long " * 50)
    assert titles(store) == ["long " * 39 + "long…"]
    for empty in ("", " \n", "\u200b\x00"):
        with pytest.raises(UsageError, match="enter a title"):
            store.rename("chat", "", empty)
    with pytest.raises(ConversationNotFound):
        store.rename("another", "", "title")


# --- search ---------------------------------------------------------------------------------------


def test_all_words_must_occur_somewhere_in_the_conversation(store):
    store.save("chat", "", "lib", 0, answer("How do tides turn?", "They turn twice."))
    store.save("chat", "", "lib", 1, answer("And owls?", "Owls hunt at dusk."))
    store.save("other", "", "lib", 0, answer("Do owls sleep?", "By day."))
    store.rename("chat", "", "Jutland")
    assert titles(store, words="owls") == ["Do owls sleep?", "Jutland"]
    assert titles(store, words="jutland tides twice dusk") == ["Jutland"]
    assert titles(store, words="tides sleep") == []
    assert titles(store, words=" wl ") == ["Do owls sleep?", "Jutland"]
    assert titles(store, words="How?") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Zoë MÜLLER’s Łódź", "zoe müller’s"),
        ("Zoe\u0308 Mu\u0308ller", "zoë MÜLLER"),
        ("Straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σισυφος"),
        ("İstanbul", "istanbul"),
        ("ﬁne-tuning", "fine"),
        ("𝐀 and Ⅷ", "a viii"),
        ("soft\u00adware", "software"),
        ("光合作用", "合作"),
        ("snow ☃ and 😀", "😀 ☃"),
        ('100% of [snake_case] is "quoted"', '100% _ "quoted" [snake'),
        ("C:\\ and it's --", "\\ it's --"),
        ("a\x00b", "ab"),
    ],
)
def test_search_ignores_case_and_accents(store, text, words):
    store.save("title", "", "lib", 0, answer(text, ""))
    store.save("text", "", "lib", 0, answer("title", text))
    store.save("neither", "", "lib", 0, answer("zzz", "zzz"))
    matches = {summary.id for summary in store.list_conversations("", words)}
    assert matches == {"title", "text"}


@pytest.mark.parametrize(
    "words", ["%", "_", "'", '"', "\\", "*", "tid_s", "t%s", "' OR 1=1 --", "tides\ud800"]
)
def test_search_words_are_taken_literally(store, words):
    store.save("chat", "", "lib", 0, answer("tides", "tides"))
    assert store.list_conversations("", words) == []


@property_test
@given(st.text(min_size=1, max_size=60), st.data())
def test_search_matches_any_part_of_a_question(store, question, data):
    start = data.draw(st.integers(0, len(question) - 1))
    part = question[start : data.draw(st.integers(start + 1, len(question)))]
    store.save("chat", "", "lib", 0, answer(question))
    (summary,) = store.list_conversations("", part)
    assert summary.id == "chat"


def test_search_takes_many_words(store):
    store.save("chat", "", "lib", 0, answer("tides"))
    assert titles(store, words="tides " * 5000) == ["tides"]


# --- deletion and damage --------------------------------------------------------------------------


def test_deleting_leaves_nothing_in_the_file(store, path):
    for name in ("kept", "gone"):
        for position in range(3):
            store.save(
                name,
                name,
                f"{name} library",
                position,
                answer(f"{name} question", f"{name} text " * 999),
            )
    assert b"gone" in bytes_in(path)
    store.delete("gone", "gone")
    assert b"gone" not in bytes_in(path)
    assert questions(store, "kept", "kept") == ["kept question"] * 3
    for attempt in (store.find, store.answers, store.delete):
        with pytest.raises(ConversationNotFound):
            attempt("gone", "gone")


@pytest.mark.promise("private-files")
def test_deleting_after_many_changes_leaves_nothing_in_the_file(store, path):
    # Without VACUUM, SQLite 3.40 left the id of the conversation that step 200 deletes.
    rng, turns = random.Random(46), {}
    for step in range(201):
        chance = rng.random()
        if turns and chance < 0.3:
            deleted = rng.choice(list(turns))
            del turns[deleted]
            store.delete(deleted, "")
            assert deleted.encode() not in bytes_in(path)
        elif turns and chance < 0.45:
            name = rng.choice(list(turns))
            position = rng.randrange(turns[name] + 1)
            turns[name] = position + 1
            store.save(name, "", "lib", position, make_answer(name, rng))
        elif turns and chance < 0.65:
            name = rng.choice(list(turns))
            store.rename(name, "", name * rng.choice([1, 5, 20]))
        else:
            name = f"secret{step:03}"
            turns[name] = 1
            store.save(name, "", "lib", 0, make_answer(name, rng))


def make_answer(name, rng):
    question = name + " q" * rng.randrange(40)
    text = name * rng.choice([1, 10, 60, 150, 400])
    return Answer(question, text, (), (), (), False, "", 0.5, Trace("e", "l", "s", "", ""))


def test_an_unreadable_answer_is_reported_and_others_still_open(store, path):
    for name in ("first", "second", "third"):
        store.save(name, "", "lib", 0, answer(name))
    broken = '{"question": "half an ans'
    change(path, ("UPDATE turn SET answer = ? WHERE conversation = 'first'", (broken,)))
    remove = "UPDATE turn SET answer = json_remove(answer, '$.trace.style') WHERE conversation = ?"
    change(path, (remove, ("second",)))
    with pytest.raises(FootnoteError, match="cannot read answer 1 of the conversation “first”"):
        store.answers("first", "")
    with pytest.raises(FootnoteError, match=r"“second” \(trace\.style: Field required\)"):
        store.answers("second", "")
    assert questions(store, "third") == ["third"]
    assert titles(store) == ["third", "second", "first"]


@pytest.mark.parametrize("value", ["'0.5'", "'high'", "NULL", "json('[]')"])
def test_fields_of_the_wrong_type_are_refused(store, path, value):
    store.save("chat", "", "lib", 0, answer("first"))
    change(path, (f"UPDATE turn SET answer = json_set(answer, '$.confidence', {value})",))
    with pytest.raises(FootnoteError, match=r"\(confidence: "):
        store.answers("chat", "")


@pytest.mark.parametrize("content", [b"no database at all, only some text " * 50, b"\x00" * 4096])
def test_a_damaged_file_is_named_and_left_as_it_is(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(
        FootnoteError,
        match=r"cannot read the conversations in .*conversations\.sqlite: .*move it away",
    ):
        ConversationStore(path)
    assert path.read_bytes() == content


def test_later_damage_is_reported_when_it_is_read(store, path):
    for number in range(20):
        store.save(f"chat {number}", "", "lib", 0, answer("question", "text " * 2000))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    opened = ConversationStore(path)
    with pytest.raises(
        FootnoteError, match=r"cannot read the conversations in .*conversations\.sqlite: "
    ):
        opened.list_conversations("", "text")


def test_a_newer_schema_is_refused_unchanged(store, path):
    store.save("chat", "", "lib", 0, answer("first"))
    change(path, ("PRAGMA user_version = 3",))
    with pytest.raises(FootnoteError, match="have schema 3, but this version of Footnote reads 2"):
        ConversationStore(path)
    change(path, ("PRAGMA user_version = 2",))
    assert questions(ConversationStore(path), "chat") == ["first"]


def test_answers_of_version_1_are_migrated(store, path):
    claim = Claim("Gates open twice a day.", "generated", (), supported=True, score=0.5)
    trace = replace(TRACE, rewritten_query="tides (on gates)")
    saved = answer("Which gates?", claims=(claim,), trace=trace)
    store.save("c", "", "library", 0, saved)
    old = (
        "UPDATE turn SET answer = replace(replace(answer, "
        """'"generated"', '"written"'), '"rewritten_query"', '"reader": "tiny", "read_as"')"""
    )
    change(path, (old,), ("PRAGMA user_version = 1",))
    assert ConversationStore(path).answers("c", "") == [saved]


def test_answers_stored_before_claims_had_headings_are_read(store, path):
    claim = Claim("2 papers are here.", "computed", (), supported=True, score=1.0)
    saved = answer("How many?", claims=(claim,))
    store.save("c", "", "library", 0, saved)
    old = (
        "UPDATE turn SET answer = replace(replace(answer, "
        """', "heading": ""', ''), '"rewritten_query"', '"reranker": "tiny", "rewritten_query"')"""
    )
    change(path, (old,))
    assert ConversationStore(path).answers("c", "") == [saved]


def test_other_databases_are_refused_unchanged(path):
    path.parent.mkdir()
    change(path, ("CREATE TABLE recipe (name TEXT)",))
    before = path.read_bytes()
    with pytest.raises(FootnoteError, match="not a file of conversations"):
        ConversationStore(path)
    assert path.read_bytes() == before


def test_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        FootnoteError, match=r"cannot store conversations in .*conversations\.sqlite"
    ):
        ConversationStore(tmp_path / "file" / "conversations.sqlite")
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(FootnoteError, match=r"cannot use the conversations in .*folder\.sqlite: "):
        ConversationStore(tmp_path / "folder.sqlite")


@pytest.mark.promise("private-files")
def test_only_the_owner_can_read_the_file(store, path):
    store.save("chat", "", "lib", 0, answer("first"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert {file.name for file in path.parent.iterdir()} <= {
        "conversations.sqlite",
        "conversations.sqlite.lock",
    }


# --- concurrency ----------------------------------------------------------------------------------


def test_threads_save_in_parallel(store):
    expected = [f"question {position}" for position in range(15)]

    def save_turns(name):
        for position, question in enumerate(expected):
            store.save(name, "", "lib", position, answer(question))

    threads = [threading.Thread(target=save_turns, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert questions(store, "one") == questions(store, "two") == expected


def test_processes_create_and_share_one_file(path):
    code = (
        "import sys; from pathlib import Path; from rag import Answer, Trace\n"
        "from ui.services.conversations import ConversationStore\n"
        "store = ConversationStore(Path(sys.argv[1]))\n"
        "for position in range(15):\n"
        "    trace = Trace('', '', '', '', '')\n"
        "    answer = Answer(f'question {position}', '', (), (), (), True, '', 0.5, trace)\n"
        "    store.save(sys.argv[2], '', 'lib', position, answer)\n"
    )
    root = Path(__file__).parent.parent
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], cwd=root)
        for name in ("one", "two")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    expected = [f"question {position}" for position in range(15)]
    assert (
        questions(ConversationStore(path), "one")
        == questions(ConversationStore(path), "two")
        == expected
    )


def test_readers_and_writers_do_not_block_each_other(store, path):
    store.save("chat", "", "lib", 0, answer("first"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM turn").fetchone() == (1,)
        store.save("chat", "", "lib", 1, answer("second"))
        assert other.execute("SELECT count(*) FROM turn").fetchone() == (1,)
        other.execute("COMMIT")
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM conversation")
        assert questions(store, "chat") == ["first", "second"]
