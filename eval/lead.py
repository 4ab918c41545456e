"""Does a sentence of the embedded model help? `python -m eval.lead [--show 30]`.

The curated questions of the dev split are answered from the sample library in three ways: (a) by at most three
quoted sentences, as the assistant does; (b) in sentences that the embedded model wrote, each checked, replaced by the
quotation where the check fails; (c) by the quotations of (a) under a lead: one sentence that the model wrote from
them, put before them when `LexicalVerifier` finds it carried by them. Only questions that the assistant answers are
counted, and facts only in those that the library answers.
A lead adds words and takes no quotation away, so that (c) cannot lose against (a); what tells is whether the lead
alone holds a fact, against the one quotation that scores best, and whether it misleads, which has to be read.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eval.answers import Scored, ask_all
from eval.questions import Question, load_questions, sample_questions
from eval.statistics import bootstrap, sign_flip
from rag import Assistant, LexicalVerifier, Source, Support

_INSTRUCTION = "Answer in one short sentence from these sentences."
_LEAD_TOKENS = 80
# What follows the first sentence is cut off; a sentence without an end was cut off by the model's limit.
_FIRST_SENTENCE = re.compile(r".+?[.!?](?=\s+[A-Z“\"]|\s*$)", re.DOTALL)
# A lead repeats the question, or one of its sentences, when that carries so much of its content.
_REPEATED = 0.8
_WORD = re.compile(r"[^\W_]+")
_VERIFIER = LexicalVerifier()

Complete = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Lead:
    """A sentence written from the quotations of an answer, and what the check says; seconds of wall-clock time.

    `text` is empty when the model wrote no whole sentence.
    """

    quoted: Scored
    text: str
    support: Support
    seconds: float

    @property
    def passes(self) -> bool:
        return bool(self.text) and self.support.supported

    @property
    def alone(self) -> Scored:
        """The lead as if it were the answer."""
        return self._saying(self.text)

    @property
    def before(self) -> Scored:
        """The answer as it would be shown: the lead, when it passes, then the quotations."""
        return self._saying(f"{self.text} {self.quoted.answer.text}") if self.passes else self.quoted

    @property
    def best_quotation(self) -> Scored:
        """The quotation that scores best, as if it were the answer."""
        return self._saying(max(self.quoted.answer.claims, key=lambda claim: claim.score).text)

    @property
    def repeats_question(self) -> bool:
        """Whether the question holds most of the lead's content words."""
        return carried(self.text, self.quoted.question.question) >= _REPEATED

    @property
    def copies(self) -> bool:
        """Whether the lead stands in one of the quotations, word for word."""
        return any(_words(self.text) in _words(citation.quote) for citation in self.quoted.answer.citations)

    def _saying(self, text: str) -> Scored:
        return replace(self.quoted, answer=replace(self.quoted.answer, text=text))


def carried(sentence: str, text: str) -> float:
    """Share of the sentence's content words that the text holds, in 0..1."""
    return LexicalVerifier(threshold=0.0).check(sentence, [Source(text)]).score


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def first_sentence(reply: str) -> str:
    """The first sentence of a reply, in one line; empty when none comes to its end."""
    found = _FIRST_SENTENCE.match(reply.strip())
    return " ".join(found[0].split()) if found else ""


def lead(scored: Scored, complete: Complete) -> Lead:
    """Let a model write one sentence from the quotations of an answer, and check it against them."""
    started = time.perf_counter()
    citations = scored.answer.citations
    quotations = "\n".join(citation.quote for citation in citations)
    reply = complete(f"{quotations}\n\nQuestion: {scored.question.question}\n{_INSTRUCTION}")
    text = first_sentence(reply)
    support = _VERIFIER.check(text, [Source(citation.quote, citation.paper.title) for citation in citations])
    return Lead(scored, text, support, time.perf_counter() - started)


def report_facts(name: str, scored: Sequence[Scored], quoted: Sequence[Scored]) -> None:
    """Print the share of vital facts in one kind of answer, and whether it differs from that of the quotations."""
    facts, theirs = ([one.facts for one in which if one.question.answerable] for which in (scored, quoted))
    p = "" if scored is quoted else f"{sign_flip(facts, theirs):.3f}"
    words = statistics.median(len(one.answer.text.split()) for one in scored)
    seconds = statistics.median(one.seconds for one in scored)
    print(f"{name:32} {bootstrap(facts)!s:22} {p:6} {words:5.0f} {seconds:7.2f}")


def report_written(written: Sequence[Scored]) -> None:
    """Print what became of the sentences that the model wrote in answers of its own."""
    claims = [claim for one in written for claim in one.answer.claims]
    kept = sum(claim.kind == "written" for claim in claims)
    replaced = sum(claim.kind == "quote" and bool(claim.note) for claim in claims)
    dropped = sum(one.answer.trace.tokens.get("dropped_sentences", 0) for one in written)
    fell_back = sum(bool(one.answer.trace.fallback) for one in written)
    declined = sum(one.answer.abstained for one in written)
    seconds = statistics.median(one.answer.trace.seconds.get("write", 0.0) for one in written)
    print(f"written: {kept} sentences kept, {dropped} not carried, of which {replaced} replaced by a quotation")
    print(f"  nothing kept, quoted instead: {fell_back} of {len(written)} answers; declined: {declined}")
    print(f"  seconds to write, median {seconds:.2f}")


def report_leads(leads: Sequence[Lead]) -> None:
    """Print how often leads pass, what those that pass hold, and what they cost."""
    passing = [one for one in leads if one.passes]
    facts = [one for one in passing if one.quoted.question.answerable]
    print(f"leads that pass: {_share([one.passes for one in leads])}")
    print(f"  no whole sentence: {_share([not one.text for one in leads])}")
    for answerable, told in ((True, "the library answers"), (False, "the library does not answer")):
        of_kind = [one.passes for one in leads if one.quoted.question.answerable is answerable]
        print(f"  of questions that {told}: {_share(of_kind)}")
    print(f"  seconds, median {statistics.median(one.seconds for one in leads):.2f}")
    print("of the leads that pass")
    print(f"  a vital fact in the lead: {_share([one.alone.facts > 0 for one in facts])}")
    print(f"  a vital fact in the best quotation: {_share([one.best_quotation.facts > 0 for one in facts])}")
    none = [one for one in facts if not one.alone.facts]
    print(f"  no vital fact though the quotations hold one: {_share([one.quoted.facts > 0 for one in none])}")
    print(f"  without a fact and repeats the question: {_share([one.repeats_question for one in none])}")
    print(f"  stands in a quotation word for word: {_share([one.copies for one in passing])}")
    print(f"  holds words of a wrong answer (must_not): {_share([_is_wrong(one) for one in passing if _judged(one)])}")
    both = [[one.facts for one in map(kind, facts)] for kind in (_alone, _best)]
    print(f"  share of vital facts, lead {bootstrap(both[0])}, best quotation {bootstrap(both[1])}", end="")
    print(f", p {sign_flip(*both):.3f}")


def _alone(one: Lead) -> Scored:
    return one.alone


def _best(one: Lead) -> Scored:
    return one.best_quotation


def _judged(one: Lead) -> bool:
    return bool(one.quoted.question.must_not)


def _is_wrong(one: Lead) -> bool:
    return any(_words(bad) in _words(one.text) for bad in one.quoted.question.must_not)


def _share(outcomes: Sequence[bool]) -> str:
    return f"{sum(outcomes)} of {len(outcomes)}" + (f", {bootstrap(list(map(float, outcomes)))}" if outcomes else "")


def show(leads: Sequence[Lead], count: int) -> None:
    """Print leads that pass, evenly from all of them, with their questions and quotations, to be read."""
    passing = [one for one in leads if one.passes]
    for one in passing[:: max(1, len(passing) // count)][:count]:
        answerable = "" if one.quoted.question.answerable else " (not answered by the library)"
        print(f"\n{one.quoted.question.id}{answerable} {one.quoted.question.question}\n  LEAD {one.text}")
        for citation in one.quoted.answer.citations:
            print(f"  [{citation.number}] {citation.quote}")


def _asked() -> list[Question]:
    return [one for one in load_questions(sample_questions()) if one.split == "dev" and one.kind != "followup"]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="also print so many leads that pass")
    options = parser.parse_args()
    assistant = Assistant(Assistant.sample().library, language_model="embedded")
    model = assistant.as_llm()
    model.tokens = _LEAD_TOKENS
    questions = _asked()
    ask_all(assistant, questions[:1], "write")  # models are loaded before anything is timed
    quoted = [one for one in ask_all(assistant, questions) if not one.answer.abstained]
    written = ask_all(assistant, [one.question for one in quoted], "write")
    leads = [lead(one, lambda prompt: model.complete(prompt).text) for one in quoted]
    answerable = sum(one.question.answerable for one in quoted)
    print(f"{len(questions)} questions, split dev; {len(quoted)} answered, of which the library answers {answerable}")
    print(f"{'':32} {'facts':22} {'p':6} words seconds")
    report_facts("(a) quoted", quoted, quoted)
    report_facts("(b) written by the model", written, quoted)
    led = [replace(one.before, seconds=one.quoted.seconds + one.seconds) for one in leads]
    report_facts("(c) a lead, then quoted", led, quoted)
    report_written(written)
    report_leads(leads)
    if options.show:
        show(leads, options.show)


if __name__ == "__main__":
    main()
