"""Benchmarks of follow-ups and of computed answers, on answers made by hand."""

from dataclasses import replace

import pytest

from eval.benchmarks import followups, records
from eval.benchmarks.followups import (
    Chat,
    finds_referent,
    load_chats,
    print_chats,
    repeated_share,
    score_chat,
)
from eval.benchmarks.records import (
    RecordQuestion,
    is_close,
    is_right,
    load_record_questions,
    stated_count,
)
from eval.harness.questions import Nugget
from rag import Assistant, UsageError
from rag.records import Answer, Citation, Claim, Paper, Trace

SALT = Paper("Salt", "Salt harms crops. Barley tolerates 8 grams.", id="salt")
RYE = Paper("Rye", "Rye stands the cold.", id="rye")
HARM, BARLEY = (SALT, 0, 17), (SALT, 18, 43)
COLD = (RYE, 0, 20)
IDS = {"W1": "salt", "W2": "rye"}


def answer(*spans, abstained=False, claims=None, **settings):
    citations, quoted = [], []
    for number, (paper, start, end) in enumerate(spans, 1):
        quote = paper.abstract[start:end]
        citations.append(Citation(number, paper, quote, start, end))
        quoted.append(Claim(quote, "quoted", (number,), True, 1.0))
    claims = tuple(quoted) if claims is None else claims
    trace = Trace("e", "none", "quote", "", "", settings=settings)
    return Answer("How?", "…", claims, tuple(citations), (), abstained, "", 0.9, trace)


# --- follow-ups -----------------------------------------------------------------------------------

NUGGETS = (Nugget("8 grams", ("8 grams",), ("8",), True),)
CHAT = Chat("c1", ("How?", "And barley?"), ("salt",), ("salt",), "pronoun", True, NUGGETS)
OTHERS = Chat("c2", ("How?", "Any others?"), ("salt",), ("rye",), "other_papers", True, ())


def test_quotations_of_earlier_answers_are_repeated():
    assert repeated_share(answer(HARM, BARLEY), [answer(COLD), answer(HARM)]) == 0.5
    assert repeated_share(answer(HARM), []) == 0
    assert repeated_share(answer((SALT, 0, 0)), [answer((SALT, 0, 0))]) is None


def test_a_quotation_that_states_what_is_asked_now_is_not_repeated_in_vain():
    both = answer(HARM, BARLEY)
    assert repeated_share(both, [both]) == 1
    assert repeated_share(both, [both], NUGGETS) == 0.5
    assert repeated_share(both, [answer(BARLEY)], NUGGETS) == 0


def test_a_generated_sentence_repeats_no_quotation():
    written = (Claim("Salt harms.", "generated", (1,), True, 1.0),)
    assert repeated_share(answer(HARM, claims=written), [answer(HARM)]) is None
    quoted = (*written, Claim("…", "quoted", (2,), True, 1.0))
    assert repeated_share(answer(HARM, BARLEY, claims=quoted), [answer(HARM)]) == 0
    assert repeated_share(answer(HARM, BARLEY, claims=quoted), [answer(BARLEY)]) == 1


def test_the_referent_must_be_cited():
    assert finds_referent(CHAT, answer(COLD, BARLEY)) == 1
    assert finds_referent(CHAT, answer(COLD)) == 0
    assert finds_referent(CHAT, answer(abstained=True)) == 0
    assert finds_referent(CHAT, answer(abstained=True, paper_ids=["salt"])) == 1


def test_the_referent_of_an_abstention_is_that_of_its_search():
    unanswerable = replace(CHAT, answerable=False)
    assert finds_referent(unanswerable, answer(abstained=True)) is None
    assert finds_referent(unanswerable, answer(abstained=True, paper_ids=["rye"])) == 0
    assert finds_referent(unanswerable, answer(BARLEY)) == 1


def test_other_papers_must_leave_out_the_first_ones():
    assert finds_referent(OTHERS, answer(COLD)) == 1
    assert finds_referent(OTHERS, answer(COLD, BARLEY)) == 0
    assert finds_referent(OTHERS, answer(abstained=True)) == 0


def test_scores_of_a_conversation():
    scores = score_chat(CHAT, [answer(HARM), answer(HARM, BARLEY)])
    assert (scores.repeated, scores.right_referent, scores.nugget_recall) == (0.5, 1, 1)
    assert scores.right_abstention == 1
    abstained = score_chat(CHAT, [answer(HARM), answer(abstained=True)])
    assert abstained.repeated is None
    assert (abstained.right_referent, abstained.nugget_recall) == (0, 0)
    assert abstained.right_abstention == 0


def test_chats_get_the_ids_of_the_library():
    row = {
        "id": "c1", "split": "dev", "turns": ["How?", "And barley?"], "first_papers": ["W1"],
        "referents": ["W1"], "kind": "pronoun", "answerable": True,
        "nuggets": [{"text": "8 grams", "any": ["8 grams"], "numbers": ["8"], "vital": True}],
    }  # fmt: skip
    assert load_chats([row, row | {"split": "test"}], "dev", IDS) == [CHAT]
    with pytest.raises(UsageError, match="none of the papers W9 is in the library"):
        load_chats([row | {"referents": ["W9"]}], "dev", IDS)


def test_conversations_are_asked_and_printed(small_library, capsys):
    turns = ("How much does the KV cache shrink with Sliding Ledgers?", "And by how much?")
    ledgers = ("sliding-ledgers-shrinking-the-ef3e7d",)
    nuggets = (Nugget("71%", ("71%",), ("71",), True),)
    chat = Chat("c1", turns, ledgers, ledgers, "ellipsis", True, nuggets)
    print_chats(Assistant.open(small_library, language_model="none"), [chat])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in printed[1:3]] == [
        ["ellipsis", "1", "0.000"],
        ["all", "1", "0.000"],
    ]
    assert printed[3].startswith("  c1 ")
    assert "right referent" in printed[0]


# --- records --------------------------------------------------------------------------------------

COUNT = RecordQuestion("r1", "count", "How many papers from 2019 are about salt?", (), count=30)
AUTHORS = RecordQuestion(
    "r2", "record", "Who wrote Salt?", ("salt",), all_of=("Okafor", "Lindqvist")
)
YEAR = RecordQuestion(
    "r3", "record", "When was Salt published?", ("salt",), any_of=("2021", "2022")
)
VENUE = RecordQuestion("r4", "record", "Where was Salt published?", ("salt",), not_recorded=True)


def computed(text, kind="computed"):
    return answer(BARLEY, claims=(Claim(text, kind, (1,), True, 1.0, heading="Salt"),))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Of 2,000 papers, 12 are on salt.", 2000),
        ("In 2019, 12 papers are on salt.", 12),
        ("No paper is about salt.", 0),
        ("One paper is about salt.", 1),
        ("Papers about U2 and 3D.", None),
        ("", None),
    ],
)
def test_the_count_is_the_first_number_that_the_question_does_not_give(text, count):
    assert stated_count(text, COUNT.question) == count


@pytest.mark.parametrize(
    ("stated", "gold", "close"),
    [
        (27, 30, True),
        (33, 30, True),
        (26, 30, False),
        (34, 30, False),
        (3, 2, True),
        (4, 2, False),
        (0, 1, True),
    ],
)
def test_counts_may_differ_by_a_tenth_or_by_one(stated, gold, close):
    assert is_close(stated, gold) is close


@pytest.mark.parametrize(
    ("question", "text", "right"),
    [
        (COUNT, "32 papers from 2019 are about salt.", True),
        (COUNT, "40 papers from 2019 are about salt.", False),
        (AUTHORS, "Ada Okafor and Bo Lindqvist wrote it.", True),
        (AUTHORS, "Ada Okafor wrote it.", False),
        (YEAR, "It was published in 2022.", True),
        (YEAR, "It was published in 2020.", False),
        (VENUE, "The venue is not recorded.", True),
        (VENUE, "The library has no venue on record.", True),
        (VENUE, "It was published in Pond.", False),
    ],
)
def test_computed_claims_state_what_the_records_say(question, text, right):
    assert is_right(question, computed(text)) is right


def test_only_computed_claims_count():
    assert not is_right(COUNT, computed("30 papers.", kind="generated"))
    assert not is_right(AUTHORS, answer(abstained=True))
    assert is_right(VENUE, answer(abstained=True))


def test_record_questions_get_the_ids_of_the_library():
    row = {"id": "r2", "split": "dev", "type": "record", "question": "Who wrote Salt?",
           "papers": ["W1"], "answer": {"all": ["Okafor", "Lindqvist"]}}  # fmt: skip
    assert load_record_questions([row, row | {"split": "test"}], "dev", IDS) == [AUTHORS]
    (count,) = load_record_questions([row | {"answer": {"count": 3}, "papers": []}], "dev", IDS)
    assert (count.count, count.papers, count.not_recorded) == (3, (), False)


def test_record_questions_are_asked_and_wrong_answers_listed(small_library, capsys):
    assistant = Assistant.open(small_library, language_model="none")
    records.print_questions(assistant, [COUNT])
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].split()[:2] == ["count", "1"]
    assert printed[4].startswith("  r1 How many papers from 2019")
    records.print_ordinary_questions(assistant, [{"question": "Who won the football cup?"}])
    assert "with a computed answer: 0 of 1" in capsys.readouterr().out


def test_the_shipped_files_name_papers_of_the_set():
    papers = set((followups.ACL_FOLDER / "papers.txt").read_text(encoding="utf-8").split())
    ids = {name: name for name in papers}
    for split in ("dev", "test"):
        for name, load in (("chats", load_chats), ("records", load_record_questions)):
            file = followups.ACL_FOLDER / f"{name}.jsonl"
            if not file.exists():
                pytest.skip(f"{file.name} is not shipped")
            loaded = load(followups.read_rows(file), split, ids)
            assert len({item.id for item in loaded}) == len(loaded)
