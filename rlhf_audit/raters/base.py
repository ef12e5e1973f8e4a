"""What the recorder needs of a rater, whether a person, a browser or a script."""

from typing import Protocol

from rlhf_audit.types import Answer, Question


class FeedbackSource(Protocol):
    """Answers one question at a time.

    Attributes:
        simulated_time: The latency of an answer was drawn, not measured; nobody waited for it.
    """

    simulated_time: bool

    def ask(self, question: Question) -> Answer:
        """Return what the rater answered. A source may be asked the same question again, after an undo."""
        ...

    def close(self) -> None:
        """Give back what the source holds; may be called twice."""
        ...
