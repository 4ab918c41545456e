"""Hold a conversation: follow-up questions, filters that stay set, stable footnote numbers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from threading import Event

from rag.answering.followup_kinds import FollowUpKind
from rag.answering.followups import Turn, resolve_followup
from rag.answering.pipeline import AnswerRequest
from rag.library.filters import Filters, merge_filters
from rag.records import Answer, Citation, Paper, StreamEvent
from rag.retrieval.query_analysis import validate_question

# Yields a preview of the evidence, the pieces of an answer's text, then the answer.
StreamAnswer = Callable[[AnswerRequest, Event], Iterator[StreamEvent]]
# Tells, in an answer style, what kind a question is after an earlier one that papers answered.
FindKindInStyle = Callable[[str, str, Sequence[Paper], str], FollowUpKind | None]


class Conversation:
    """Questions that may refer to earlier ones. Created by `Assistant.chat`; not thread-safe."""

    def __init__(
        self,
        stream_answer: StreamAnswer,
        find_kind: FindKindInStyle,
        filters: Filters,
        answers: Iterable[Answer] = (),
    ) -> None:
        """Start with filters, and with the answers so far when a conversation is resumed."""
        self._stream_answer = stream_answer
        self._find_kind = find_kind
        self._filters = filters
        self._turns = [Turn(answer.question, answer) for answer in answers]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """Questions and answers so far, in order."""
        return tuple(self._turns)

    @property
    def filters(self) -> Filters:
        """Filters of the next question."""
        return self._filters

    def ask(
        self, question: str, *, sentences: int | None = None, style: str = "auto", **filters: str
    ) -> Answer:
        """Answer a question as `Assistant.ask` does.

        A filter applies to later questions too, until it is changed or set to the empty string.
        """
        *_, answer = self.stream(question, sentences=sentences, style=style, stop=None, **filters)
        assert isinstance(answer, Answer), "the answer comes last"  # noqa: S101 - for mypy
        return answer

    def stream(
        self,
        question: str,
        *,
        sentences: int | None = None,
        style: str = "auto",
        stop: Event | None = None,
        **filters: str,
    ) -> Iterator[StreamEvent]:
        """Yield a preview, the text of an answer, then the answer, as `Assistant.stream` does.

        The conversation does not change when this fails or is not exhausted.
        """
        question = validate_question(question)
        merged_filters = merge_filters(self._filters, filters)
        followup = resolve_followup(question, self._turns, partial(self._find_kind, style))
        followup = followup.with_shown(turn.answer for turn in self._turns)
        request = AnswerRequest(
            question,
            merged_filters,
            sentences,
            style,
            followup,
            self._citations(),
        )
        for event in self._stream_answer(request, stop or Event()):
            if isinstance(event, Answer):
                self._filters = merged_filters
                # A question that was stopped before the first sentence is not recorded.
                if event.claims or event.abstained:
                    self._turns.append(Turn(question, event))
            yield event

    def _citations(self) -> tuple[Citation, ...]:
        """Return all citations so far, one per number."""
        citations: dict[int, Citation] = {}
        for turn in self._turns:
            for citation in turn.answer.citations:
                citations[citation.number] = citation
        return tuple(citations.values())

    def to_markdown(self) -> str:
        """Return all questions and answers, followed by their footnotes, each once."""
        from rag.output.markdown import conversation_to_markdown

        return conversation_to_markdown(turn.answer for turn in self._turns)
