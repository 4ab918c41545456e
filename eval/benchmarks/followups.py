"""Are follow-up questions understood? `python -m eval.benchmarks.followups [--split dev|test]`.

The curated follow-ups are put to the sample library in three ways: in conversation after their history, alone without
it, and as one question together with the one before. A question that changes the topic must not cite the old topic's
papers; and questions that stand alone, asked after a foreign one, must be read as they are. Tuning looks at `dev`
only; `test` is for reporting.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence

from eval.harness.metrics import SENTENCES, facts, right_paper
from eval.harness.questions import SPLITS, Question, load_questions, sample_questions
from eval.harness.replies import Reply, reply_of
from eval.harness.statistics import bootstrap, sign_flip
from rag import Answer, Assistant

_UNRELATED = "How does KIVI quantize the keys of the KV cache?"


def in_conversation(assistant: Assistant, question: Question) -> Answer:
    """Ask the history first, then the question."""
    chat = assistant.chat()
    for earlier in question.history:
        chat.ask(earlier, sentences=SENTENCES, style="quote")
    return chat.ask(question.question, sentences=SENTENCES, style="quote")


def alone(assistant: Assistant, question: Question) -> Answer:
    """Ask the question as if nothing had been said before."""
    return assistant.ask(question.question, sentences=SENTENCES, style="quote")


def concatenated(assistant: Assistant, question: Question) -> Answer:
    """Ask the question together with the one before it."""
    return assistant.ask(
        f"{question.history[-1]} {question.question}", sentences=SENTENCES, style="quote"
    )


WAYS: dict[str, Callable[[Assistant, Question], Answer]] = {
    "in conversation": in_conversation,
    "alone": alone,
    "concatenated": concatenated,
}


def changes_topic(question: Question) -> bool:
    """Whether a follow-up has a topic of its own; its note says so."""
    return question.note.startswith("topic change")


QuestionReplies = list[tuple[Question, Reply]]


def ask_all(assistant: Assistant, questions: Sequence[Question], way: str) -> QuestionReplies:
    """Put the questions to the assistant in one of the `WAYS`."""
    return [(question, reply_of(WAYS[way](assistant, question))) for question in questions]


def report(name: str, asked: QuestionReplies, used: QuestionReplies) -> None:
    """Print one way's figures, and whether its facts differ from those in conversation."""
    p = "" if asked is used else f"{sign_flip(_facts(asked), _facts(used)):.3f}"
    right = bootstrap([right_paper(*one, {}) or 0.0 for one in asked])
    abstained = sum(reply.abstained for _, reply in asked)
    print(
        f"{name:20} {bootstrap(_facts(asked))!s:22} {p:6} {right!s:22} {abstained} of {len(asked)}"
    )


def _facts(asked: QuestionReplies) -> list[float]:
    return [facts(*one, {}) or 0.0 for one in asked]


def old_topic_share(assistant: Assistant, question: Question, reply: Reply) -> float:
    """Share of the citations that go to papers which the history cites and the question's gold does not hold."""
    chat = assistant.chat()
    old = {
        citation.paper.id
        for earlier in question.history
        for citation in chat.ask(earlier, sentences=SENTENCES, style="quote").citations
    }
    old -= {paper for group in question.gold for paper in group}
    return statistics.mean(paper in old for paper in reply.cited) if reply.cited else 0.0


def report_changes(assistant: Assistant, questions: Sequence[Question]) -> None:
    """Print what becomes of questions that change the topic, in each of the ways."""
    for way in WAYS:
        asked = ask_all(assistant, questions, way)
        old = statistics.mean(old_topic_share(assistant, *one) for one in asked)
        right = statistics.mean(right_paper(*one, {}) or 0.0 for one in asked)
        print(f"{way:20} citations of the old topic's papers {old:.2f}, right paper {right:.2f}")


def report_mistaken(assistant: Assistant, questions: Sequence[Question]) -> None:
    """Print how many questions that stand alone are taken for follow-ups of an unrelated one."""
    mistaken = []
    for question in questions:
        chat = assistant.chat()
        chat.ask(_UNRELATED, sentences=1, style="quote")
        if chat.ask(question.question, sentences=1, style="quote").trace.rewritten_query:
            mistaken.append(question.question)
    print(
        f"taken for a follow-up though they stand alone: {len(mistaken)} of {len(questions)}",
        *mistaken,
        sep="\n  ",
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    options = parser.parse_args()
    every = [
        question
        for question in load_questions(sample_questions())
        if question.split == options.split
    ]
    followups = [question for question in every if question.kind == "followup"]
    leaning = [question for question in followups if not changes_topic(question)]
    changing = [question for question in followups if changes_topic(question)]
    sample = Assistant.sample()
    print(f"{len(leaning)} follow-ups, split {options.split}, at most {SENTENCES} sentences")
    print(f"{'':20} {'facts':22} {'p':6} {'right paper':22} refused")
    used = ask_all(sample, leaning, "in conversation")
    report("in conversation", used, used)
    for way in ("alone", "concatenated"):
        report(way, ask_all(sample, leaning, way), used)
    for question, reply in used:
        print(
            f"  {question.id:4} facts {facts(question, reply, {}):.2f}  {reply.rewritten_query or question.question}"
        )
    if changing:
        print(f"{len(changing)} changes of topic")
        report_changes(sample, changing)
    quick = Assistant(sample.library, language_model="none")
    report_mistaken(quick, [question for question in every if question.kind != "followup"])


if __name__ == "__main__":
    main()
