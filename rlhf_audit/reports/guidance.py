"""What an audit means for a reader who is no statistician: what to do, and which figure shows it.

Audits are matched by words of their id, so that a new audit of a known kind reads well without an edit here;
an audit of no known kind still gets its own question, table and SQL.
"""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Picture(StrEnum):
    """Which figure belongs to an audit."""

    AGREEMENT = "agreement"
    HEAT_MAP = "heat_map"
    DRIFT = "drift"
    LATENCY = "latency"
    ANSWERS = "answers"
    EPISODE = "episode"
    CONSENT = "consent"
    INTERVALS = "intervals"


@dataclass(frozen=True)
class Topic:
    """A kind of audit.

    Attributes:
        words: Any of these in the id makes an audit of this kind.
        advice: What to do about a finding.
        picture: The figure that shows it.
        neutral: The value that means "nothing to see", drawn as a line.
    """

    words: tuple[str, ...]
    advice: str
    picture: Picture = Picture.INTERVALS
    neutral: float | None = None


_ANYTHING = Topic((), "Read the question and the table, and ask the raters concerned before acting.")

PENDING = Topic(
    ("pending", "overdue", "erasure"),
    "Erase now (`rlhf-audit erase LOG RATER --apply`), and give the rater the receipt. An erasure takes all"
    " that they gave: ask those first who took back only some purposes.",
    Picture.CONSENT,
)
"""The one kind of audit that names people who have withdrawn."""

_TOPICS = (
    PENDING,
    Topic(("sensitivity",), "State next to every result that it rests on feedback which has been withdrawn."),
    Topic(
        ("consent", "expir", "grant", "purpose"),
        "Stop using the rows concerned; ask for consent again, or erase them.",
        Picture.CONSENT,
    ),
    Topic(
        ("pair", "cohen"),
        "Look at what the flagged rater was shown, and whether the instructions were understood alike.",
        Picture.HEAT_MAP,
    ),
    Topic(
        ("copy", "copies", "collusion"),
        "Check whether the two are one person or sat together; then keep only one of the two.",
        neutral=0.0,
    ),
    Topic(("duplicate",), "Check whether rows were imported twice, or two pseudonyms are one person."),
    Topic(
        ("severity", "lenien"),
        "Ask what the rater took “correct” to mean; explain it again, or correct for severity, before "
        "leaving anyone out. A severe rater may have seen what the others missed.",
        neutral=0.0,
    ),
    Topic(
        ("drift",),
        "Compare the first and the last answers of the flagged sessions; make sessions shorter.",
        Picture.DRIFT,
    ),
    Topic(
        ("fatigue", "tire"),
        "Make sessions shorter, with breaks; consider leaving out the late answers.",
        neutral=0.0,
    ),
    Topic(
        ("action",),
        "Look at the steps where the flagged rater and the others part: is the action favoured, or the "
        "situation in which it is taken?",
        neutral=0.0,
    ),
    Topic(
        ("constant", "acquiesc"),
        "Ask the rater what they were shown. An answer that never changes tells nothing; the policy's card"
        " says how far training trusts it.",
        Picture.ANSWERS,
    ),
    Topic(
        ("random", "consensus"),
        "Check that the rater could see the environment, and whether it is the others who share a bias. The"
        " policy's card says how far training trusts the rater.",
        neutral=0.0,
    ),
    Topic(
        ("fast", "speed", "latency"),
        "Look at the answers that are both fast and unlike the others'; fast alone is no fault.",
        Picture.LATENCY,
    ),
    Topic(
        ("straight", "runs"),
        "Look at the longest run of equal answers: did the task change at all meanwhile?",
        neutral=1.0,
    ),
    Topic(("position", "side"), "Show the two sides in random order, and ask again.", neutral=0.5),
    Topic(("anchor", "sequence"), "Show the steps in a random order.", neutral=0.0),
    Topic(
        ("tie", "skip"), "Ask whether the question can be answered at all: look at the task before the rater."
    ),
    Topic(
        ("controvers", "entropy", "disagreement"),
        "Use the disputed steps to improve the instructions; they are nobody's error.",
        Picture.EPISODE,
    ),
    Topic(
        ("group", "cohesion"),
        "Report it beside every result that uses these answers; do not settle it by leaving a group out.",
        neutral=0.0,
    ),
    Topic(
        ("agreement", "alpha", "ac1", "ac2", "fleiss", "gwet", "kappa", "icc", "kendall", "scott"),
        "Improve the instructions, and collect more answers per step, before relying on these labels.",
        Picture.AGREEMENT,
    ),
)


def topic(audit_id: str) -> Topic:
    """Return the kind of an audit.

    >>> topic("severity").neutral, topic("pairwise-kappa").picture.value, topic("novel").neutral
    (0.0, 'heat_map', None)
    """
    plain = audit_id.lower().replace("-", "_")
    return next((kind for kind in _TOPICS if any(word in plain for word in kind.words)), _ANYTHING)


def header(sql: str) -> dict[str, Any]:
    """Return the header of an audit as it was run: the TOML in the opening comment of its SQL.

    ``audits.header.parse`` is for the file with its placeholders; here the parameters are already written in,
    and an older or foreign audit without a header is still worth a page.

    >>> header("/* caveats = ['small'] */ SELECT 1"), header("SELECT 1")
    ({'caveats': ['small']}, {})
    """
    opening = re.match(r"\s*/\*(.*?)\*/", sql, re.DOTALL)
    try:
        return tomllib.loads(opening[1].strip()) if opening else {}
    except tomllib.TOMLDecodeError:
        return {}
