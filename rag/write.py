"""Writing the answer: literal sentences, each with its footnote; or that the library does not say."""

from dataclasses import dataclass

from rag.read import Reading
from rag.records import Answer, Citation, Claim, Evidence, Trace
from rag.retrieve import Retrieval

# Below this the library is said not to answer; the threshold of the fitted confidence.
THRESHOLD = 0.5
_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Written:
    """The body of an answer."""

    text: str
    claims: tuple[Claim, ...]
    citations: tuple[Citation, ...]


def answer(retrieval: Retrieval, reading: Reading, filtered: bool, trace: Trace) -> Answer:
    """The answer to a question from what was found and read, in the whole library or in what filters let through."""
    reason = _why_not(retrieval, reading, filtered)
    if reason:
        text = f"Your library does not say. {reason}"
        nearest = retrieval.hits[:_NEAREST]
        return Answer(retrieval.question, text, (), (), nearest, True, reason, reading.confidence, trace)
    written = quote(reading.evidence)
    return Answer(
        retrieval.question, written.text, written.claims, written.citations, retrieval.hits, False, "",
        reading.confidence, trace,
    )  # fmt: skip


def quote(evidence: tuple[Evidence, ...]) -> Written:
    """Literal sentences in a readable order: paper by paper, the best first, in the order of the abstract."""
    papers: dict[str, int] = {}
    for one in evidence:
        papers.setdefault(one.paper.id, len(papers))
    ordered = sorted(evidence, key=lambda one: (papers[one.paper.id], one.sentence.start))
    claims = tuple(
        Claim(one.sentence.text, "quote", (number,), supported=True, score=one.score)
        for number, one in enumerate(ordered, 1)
    )
    citations = tuple(_cite(one, number) for number, one in enumerate(ordered, 1))
    text = " ".join(f"“{claim.text}” [{claim.citations[0]}]" for claim in claims)
    return Written(text, claims, citations)


def _cite(evidence: Evidence, number: int) -> Citation:
    sentence = evidence.sentence
    return Citation(number, evidence.paper, sentence.text, sentence.start, sentence.end)


def _why_not(retrieval: Retrieval, reading: Reading, filtered: bool) -> str:
    if not retrieval.papers:
        return "No paper passes the filters." if filtered else "It holds no papers yet."
    if not reading.evidence or reading.confidence < THRESHOLD:
        passing = " that pass the filters" if filtered else ""
        return f"None of its {retrieval.papers:,} papers{passing} bears on the question."
    return ""
