"""Measure how well follow-up questions are understood.

`python -m eval.benchmarks.followups [--set sample|acl] [--split dev|test] [--model NAME]`

`sample`: the curated follow-ups about the sample papers are put in three ways: in conversation
after their history, alone without it, and concatenated with the preceding question. A follow-up
that changes the topic must not cite papers of the old one, and a stand-alone question must not be
rewritten, whatever was asked before it.

`acl`: conversations about ACL abstracts (`eval/data/acl/chats.jsonl`). Their last question must be
answered from the papers that it refers to (`referents`), without repeating quotations of earlier
answers; if it asks for other papers, then from none of the first ones. Tune on `dev`; `test` is for
reporting.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.common import add_model_option, curated_questions, open_with_model
from eval.benchmarks.tables import Columns
from eval.harness.metrics import ANSWER_SENTENCES, counted_text, nugget_recall, right_paper_cited
from eval.harness.nuggets import nugget_share, vital_nugget_share
from eval.harness.question_sets import ACL_FOLDER, prepare_acl_library, read_rows, resolve_ids
from eval.harness.questions import SPLITS, Nugget, Question, build_nugget
from eval.harness.replies import Reply
from eval.harness.statistics import bootstrap, sign_flip_test
from rag import Answer, Assistant, Citation

_UNRELATED = "How does KIVI quantize the keys of the KV cache?"
_OTHER_PAPERS = "other_papers"

# --- follow-ups about the sample papers -----------------------------------------------------------


def ask_in_conversation(assistant: Assistant, question: Question) -> Answer:
    """Ask the history first, then the question."""
    return ask_turns(assistant, [*question.history, question.question])[-1]


def ask_turns(assistant: Assistant, turns: Iterable[str]) -> list[Answer]:
    """Ask questions in one conversation, and return all answers."""
    chat = assistant.chat()
    return [chat.ask(turn, sentences=ANSWER_SENTENCES) for turn in turns]


def ask_alone(assistant: Assistant, question: Question) -> Answer:
    """Ask the question without its history."""
    return assistant.ask(question.question, sentences=ANSWER_SENTENCES)


def ask_concatenated(assistant: Assistant, question: Question) -> Answer:
    """Ask the preceding question and the question as a single one."""
    text = f"{question.history[-1]} {question.question}"
    return assistant.ask(text, sentences=ANSWER_SENTENCES)


METHODS: dict[str, Callable[[Assistant, Question], Answer]] = {
    "in conversation": ask_in_conversation,
    "alone": ask_alone,
    "concatenated": ask_concatenated,
}


def changes_topic(question: Question) -> bool:
    """Return True if a follow-up starts a new topic, according to its note."""
    return question.note.startswith("topic change")


QuestionReply = tuple[Question, Reply]


def ask_all(
    assistant: Assistant, questions: Sequence[Question], method: str
) -> list[QuestionReply]:
    """Put the questions to the assistant by one of the `METHODS`."""
    ask = METHODS[method]
    return [(question, Reply.from_answer(ask(assistant, question))) for question in questions]


def print_methods(assistant: Assistant, questions: Sequence[Question]) -> None:
    """Print the quality of the replies for each method, then the nugget recall of each question.

    p tests the difference in nugget recall from asking in conversation.
    """
    columns = Columns("<20", "<22", "<6", "<22", "")
    columns.print_row("", "nugget recall", "p", "right paper", "abstained")
    replies = {method: ask_all(assistant, questions, method) for method in METHODS}
    in_conversation = _nugget_recalls(replies["in conversation"])
    for method, pairs in replies.items():
        recalls = _nugget_recalls(pairs)
        is_reference = method == "in conversation"
        p = "" if is_reference else f"{sign_flip_test(recalls, in_conversation):.3f}"
        abstained = [reply.abstained for _, reply in pairs]
        abstentions = f"{sum(abstained)} of {len(pairs)}"
        papers = bootstrap(list(map(_right_paper, pairs)))
        columns.print_row(method, bootstrap(recalls), p, papers, abstentions)
    for (question, reply), recall in zip(replies["in conversation"], in_conversation, strict=True):
        query = reply.rewritten_query or question.question
        print(f"  {question.id:4} nugget recall {recall:.2f}  {query}")


def _nugget_recalls(pairs: Sequence[QuestionReply]) -> list[float]:
    return [nugget_recall(question, reply, {}) or 0.0 for question, reply in pairs]


def _right_paper(pair: QuestionReply) -> float:
    question, reply = pair
    return right_paper_cited(question, reply, {}) or 0.0


def old_topic_share(assistant: Assistant, question: Question, reply: Reply) -> float:
    """Return the share of the cited papers that belong to the old topic.

    Papers of the old topic are those cited in the history, except the question's gold papers.
    """
    if not reply.cited_papers:
        return 0.0
    old_papers = set()
    for answer in ask_turns(assistant, question.history):
        for citation in answer.citations:
            old_papers.add(citation.paper.id)
    old_papers.difference_update(*question.gold)
    return statistics.mean(map(old_papers.__contains__, reply.cited_papers))


def print_topic_changes(assistant: Assistant, questions: Sequence[Question]) -> None:
    """Print for each method how often a change of topic leads to old papers, and to right ones."""
    print(f"{len(questions)} changes of topic")
    for method in METHODS:
        old_shares, right_papers = [], []
        for question, reply in ask_all(assistant, questions, method):
            old_shares.append(old_topic_share(assistant, question, reply))
            right_papers.append(_right_paper((question, reply)))
        old, right = statistics.mean(old_shares), statistics.mean(right_papers)
        print(f"{method:20} citations of the old topic's papers {old:.2f}, right paper {right:.2f}")


def print_false_followups(assistant: Assistant, questions: Sequence[Question]) -> None:
    """Print how many stand-alone questions are mistaken for follow-ups to an unrelated one."""
    mistaken = []
    for question in questions:
        chat = assistant.chat()
        chat.ask(_UNRELATED, sentences=1, style="quote")
        if chat.ask(question.question, sentences=1, style="quote").trace.rewritten_query:
            mistaken.append(question.question)
    count = f"{len(mistaken)} of {len(questions)}"
    print(f"stand-alone questions mistaken for follow-ups: {count}", *mistaken, sep="\n  ")


def print_sample_followups(split: str, model: str) -> None:
    """Print all measurements on the curated follow-ups about the sample papers."""
    standalone, dependent, topic_changes = [], [], []
    for question in curated_questions(split):
        if question.kind != "followup":
            standalone.append(question)
        elif changes_topic(question):
            topic_changes.append(question)
        else:
            dependent.append(question)
    library = Assistant.sample().library
    print(f"{len(dependent)} follow-ups, split {split}, at most {ANSWER_SENTENCES} quotations")
    assistant = open_with_model(library.folder, model)
    if dependent:
        print_methods(assistant, dependent)
    if topic_changes:
        print_topic_changes(assistant, topic_changes)
    print_false_followups(assistant, standalone)


# --- conversations about ACL abstracts ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chat:
    """Conversation whose last turn is the follow-up to score.

    `first_papers` answer the first question, `referents` are the papers that the follow-up is
    about; both hold ids of the library. `kind` is the manner of referring.
    """

    id: str
    turns: tuple[str, ...]
    first_papers: tuple[str, ...]
    referents: tuple[str, ...]
    kind: str
    answerable: bool
    nuggets: tuple[Nugget, ...]


@dataclass(frozen=True, slots=True)
class ChatScores:
    """Scores of the last answer of a conversation; None where they do not apply.

    `repeated` is the share of its quotations that an earlier answer showed, and
    `repeated_in_vain` of those among them that state none of the facts asked for.
    """

    repeated: float | None
    repeated_in_vain: float | None
    right_referent: float | None
    nugget_recall: float | None
    right_abstention: float


def load_chats(
    rows: Iterable[Mapping[str, Any]], split: str, library_ids: Mapping[str, str]
) -> list[Chat]:
    """Return the conversations of a split, with ids of the library in place of Anthology ids."""
    chats = []
    for row in rows:
        if row["split"] == split:
            chat = Chat(
                row["id"],
                tuple(row["turns"]),
                tuple(resolve_ids(row["first_papers"], library_ids)),
                tuple(resolve_ids(row["referents"], library_ids)),
                row["kind"],
                row["answerable"],
                tuple(map(build_nugget, row["nuggets"])),
            )
            chats.append(chat)
    return chats


def score_chat(chat: Chat, answers: Sequence[Answer]) -> ChatScores:
    """Score the last of the answers to a conversation's turns."""
    *earlier, answer = answers
    is_answered = not answer.abstained
    recall = None
    if chat.answerable:
        text = counted_text(Reply.from_answer(answer))
        recall = vital_nugget_share(chat.nuggets, text)
    return ChatScores(
        repeated=repeated_share(answer, earlier) if is_answered else None,
        repeated_in_vain=repeated_share(answer, earlier, chat.nuggets) if is_answered else None,
        right_referent=finds_referent(chat, answer),
        nugget_recall=recall,
        right_abstention=float(is_answered == chat.answerable),
    )


def repeated_share(
    answer: Answer, earlier: Iterable[Answer], asked: Sequence[Nugget] = ()
) -> float | None:
    """Return the share of the quotations that an earlier answer showed; None without any.

    A quotation that states a fact that is `asked` for now may be shown again. What the language
    model writes may rest on a sentence that was quoted before.
    """
    shown: set[tuple[str, int, int]] = set()
    for previous in earlier:
        shown |= _places(previous.citations)
    quoted: set[int] = set()
    for claim in answer.claims:
        if claim.kind == "quoted":
            quoted.update(claim.citations)
    quotations = [item for item in answer.citations if item.number in quoted and item.quote]
    needed = _places(item for item in quotations if nugget_share(asked, item.quote))
    places = _places(quotations)
    return len((places & shown) - needed) / len(places) if places else None


def _places(citations: Iterable[Citation]) -> set[tuple[str, int, int]]:
    """Return where the quotations stand; a footnote to a record quotes nothing."""
    places = set()
    for citation in citations:
        if citation.quote:
            places.add((citation.paper.id, citation.start, citation.end))
    return places


def finds_referent(chat: Chat, answer: Answer) -> float | None:
    """Return 1 if a paper that the follow-up refers to is cited, else 0.

    An answer that cites none is judged by the papers to which its search was restricted; None if
    there are none and it had to abstain. An answer about other papers must leave out the first
    ones.
    """
    papers = {citation.paper.id for citation in answer.citations}
    papers = papers or set(answer.trace.settings.get("paper_ids", ()))
    if not chat.referents or not (papers or chat.answerable):
        return None
    if chat.kind == _OTHER_PAPERS and not papers.isdisjoint(chat.first_papers):
        return 0.0
    return 0.0 if papers.isdisjoint(chat.referents) else 1.0


def print_chats(assistant: Assistant, chats: Sequence[Chat]) -> None:
    """Print the scores of each kind of follow-up and of all together, then each conversation."""
    scored = []
    for chat in chats:
        answers = ask_turns(assistant, chat.turns)
        scored.append((chat, score_chat(chat, answers), answers[-1]))
    columns = Columns("<20", "<5", "<22", "<22", "<22", "<22", "")
    columns.print_row(
        "",
        "n",
        "quotations repeated",
        "repeated in vain",
        "right referent",
        "nugget recall",
        "abstains rightly",
    )
    kinds = sorted({chat.kind for chat in chats})
    for kind in (*kinds, ""):
        scores = [each for chat, each, _ in scored if kind in ("", chat.kind)]
        cells = map(_mean_of(scores), ChatScores.__slots__)
        columns.print_row(kind or "all", len(scores), *cells)
    for chat, scores_of_chat, answer in scored:
        query = answer.trace.rewritten_query or chat.turns[-1]
        print(f"  {chat.id} {_short_scores(scores_of_chat)}  {query}")


def _mean_of(scores: Sequence[ChatScores]) -> Callable[[str], str]:
    """Return a function that formats the mean of a score, with its interval."""

    def format_mean(name: str) -> str:
        values = [value for each in scores if (value := getattr(each, name)) is not None]
        return str(bootstrap(values)) if values else "-"

    return format_mean


def _short_scores(scores: ChatScores) -> str:
    texts = []
    for name in ChatScores.__slots__:
        value = getattr(scores, name)
        texts.append("   -" if value is None else f"{value:.2f}")
    return " ".join(texts)


def print_acl_chats(split: str, model: str) -> None:
    """Print all measurements on the conversations about ACL abstracts."""
    library, library_ids, _ = prepare_acl_library()
    chats = load_chats(read_rows(ACL_FOLDER / "chats.jsonl"), split, library_ids)
    print(f"{len(chats)} conversations, split {split}, language model {model}")
    print_chats(open_with_model(library, model), chats)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("sample", "acl"), default="sample", dest="question_set")
    parser.add_argument("--split", choices=SPLITS, default="dev")
    add_model_option(parser)
    options = parser.parse_args()
    print_set = print_acl_chats if options.question_set == "acl" else print_sample_followups
    print_set(options.split, options.model)


if __name__ == "__main__":
    main()
