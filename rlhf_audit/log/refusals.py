"""Why a step is not stored."""

from rlhf_audit.errors import LogError, UsageError


def not_begun() -> UsageError:
    """Return the error for a step where no episode has begun, or after one that failed."""
    return UsageError(
        "no episode has begun", seen="a step before reset, or after one that failed", needed="reset() first"
    )


def another_thread() -> UsageError:
    """Return the error for a step that another thread made than the one that began the episode."""
    return UsageError(
        "a step from another thread than the one that reset",
        seen="two threads in one environment",
        needed="one",
        fix="give each thread an environment of its own, or use VectorRecorder",
    )


def closed(session_id: str) -> LogError:
    """Return the error for a step after the end."""
    return LogError(
        "the session is closed",
        seen=f"a step of {session_id} after its end",
        needed="an open session",
        fix="record a new one",
    )
