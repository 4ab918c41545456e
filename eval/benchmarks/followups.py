"""Measure how well follow-up questions are understood.

`python -m eval.benchmarks.followups [--split dev|test]`

The curated follow-ups are put to the sample library in three ways: in conversation after their
history, alone without it, and concatenated with the preceding question. A follow-up that changes
the topic must not cite papers of the old one, and a stand-alone question must not be rewritten,
whatever was asked before it. Tune on `dev`; `test` is for reporting.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence

from eval.benchmarks.common import curated_questions
from eval.benchmarks.tables import Columns
from eval.harness.metrics import ANSWER_SENTENCES, nugget_recall, right_paper_cited
from eval.harness.questions import SPLITS, Question
from eval.harness.replies import Reply
from eval.harness.statistics import bootstrap, sign_flip_test
from rag import Answer, Assistant

_UNRELATED = "How does KIVI quantize the keys of the KV cache?"


def ask_in_conversation(assistant: Assistant, question: Question) -> Answer:
    """Ask the history first, then the question."""
    chat = assistant.chat()
    for earlier in question.history:
        chat.ask(earlier, sentences=ANSWER_SENTENCES, style="quote")
    return chat.ask(question.question, sentences=ANSWER_SENTENCES, style="quote")


def ask_alone(assistant: Assistant, question: Question) -> Answer:
    """Ask the question without its history."""
    return assistant.ask(question.question, sentences=ANSWER_SENTENCES, style="quote")


def ask_concatenated(assistant: Assistant, question: Question) -> Answer:
    """Ask the preceding question and the question as a single one."""
    text = f"{question.history[-1]} {question.question}"
    return assistant.ask(text, sentences=ANSWER_SENTENCES, style="quote")


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
    chat = assistant.chat()
    old_papers = set()
    for earlier in question.history:
        answer = chat.ask(earlier, sentences=ANSWER_SENTENCES, style="quote")
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


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    split = parser.parse_args().split
    standalone, dependent, topic_changes = [], [], []
    for question in curated_questions(split):
        if question.kind != "followup":
            standalone.append(question)
        elif changes_topic(question):
            topic_changes.append(question)
        else:
            dependent.append(question)
    sample = Assistant.sample()
    print(f"{len(dependent)} follow-ups, split {split}, at most {ANSWER_SENTENCES} sentences")
    print_methods(sample, dependent)
    if topic_changes:
        print_topic_changes(sample, topic_changes)
    without_model = Assistant(sample.library, language_model="none")
    print_false_followups(without_model, standalone)


if __name__ == "__main__":
    main()
