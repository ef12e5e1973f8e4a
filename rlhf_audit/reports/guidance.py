"""What an audit means for a reader who is no statistician: what to do, and which figure shows it.

Audits are matched by words of their id, so that a new audit of a known kind reads well without an edit here;
an audit of no known kind still gets its own question, table and SQL.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Picture(StrEnum):
    """Which figure belongs to an audit, beside that of its own rows."""

    AGREEMENT = "agreement"
    HEAT_MAP = "heat_map"
    DRIFT = "drift"
    LATENCY = "latency"
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
        apart: The threshold is a distance from the neutral value, to both sides, not a value itself.
        compared: Names of parameters that the value is compared with, of whichever there are.
    """

    words: tuple[str, ...]
    advice: str
    picture: Picture = Picture.INTERVALS
    neutral: float | None = None
    apart: bool = False
    compared: tuple[str, ...] = ("threshold", "low", "high")

    def limits(self, parameters: Mapping[str, float]) -> list[float]:
        """Return where the audit's thresholds lie on the axis of its value.

        >>> Topic((), "", neutral=0.5, apart=True).limits({"threshold": 0.05, "n_min": 30})
        [0.45, 0.55]
        """
        given = [parameters[name] for name in self.compared if name in parameters]
        if not self.apart:
            return given
        centre = self.neutral or 0.0
        return [round(centre + sign * limit, 12) for limit in given for sign in (-1, 1)]


FAMILIES: Mapping[str, str] = {
    "consent": "Consent and withdrawal",
    "panel": "The panel as a whole",
    "raters": "Single raters",
    "pairs": "Pairs of raters",
    "groups": "Groups of raters",
    "policies": "The policies that were trained",
    "other": "Other audits",
}
"""The title of each family of audits, in reading order."""

_ANYTHING = Topic((), "Read the question and the table, and ask the raters concerned before acting.")

PENDING = Topic(
    ("pending", "overdue", "erasure"),
    "Erase now (`rlhf-audit erase LOG RATER --apply`), and give the rater the receipt. An erasure takes all"
    " that they gave: ask those first who took back only some purposes.",
    Picture.CONSENT,
)
"""The one kind of audit that names people who have withdrawn."""

_COLLECT_MORE = "Improve the instructions, and collect more answers per step, before relying on these labels."
_SHORTER = "Make sessions shorter, with breaks; consider leaving out the late answers."

_TOPICS = (
    Topic(
        ("erased", "returned", "come_back"),
        "Somebody who was erased is in the log again, most likely from a backup: run `rlhf-audit verify LOG`,"
        " which names the files, and `rlhf-audit erase LOG RATER --apply`, which removes them once more.",
        Picture.CONSENT,
    ),
    PENDING,
    Topic(
        ("sensitivity",),
        "State next to every result that it rests on withdrawn feedback, and how far it moves without.",
        neutral=0.0,
        compared=(),
    ),
    Topic(
        ("terms",),
        "Ask the raters concerned for consent to the new terms before anything new is recorded; what they"
        " gave under the old terms stays under those.",
        Picture.CONSENT,
    ),
    Topic(
        ("share", "influence", "left_out", "leave_out", "policy", "policies"),
        "Train the policy again without the flagged raters (`rlhf-audit retrain LOG --to policies/NAME`), and"
        " compare how it acts, before anybody relies on it.",
        neutral=0.0,
    ),
    Topic(
        ("consent", "expir", "grant", "purpose", "after_withdrawal"),
        "Stop using the rows concerned; ask for consent again, or erase them.",
        Picture.CONSENT,
    ),
    Topic(
        ("pairwise", "cohen"),
        "Look at what the flagged rater was shown, and whether the instructions were understood alike.",
        Picture.HEAT_MAP,
    ),
    Topic(
        ("copy", "copies", "collusion"),
        "Check whether the two are one person or sat together; then keep only one of the two.",
    ),
    Topic(
        ("duplicate",), "Check whether rows were imported twice, or two pseudonyms are one person; keep one."
    ),
    Topic(
        ("homogeneity", "marginal"),
        "The two use the labels differently often: let them rate some steps together, and settle what each"
        " label means.",
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("rasch", "facet"),
        "Correct for severity rather than leave anyone out, and explain again what the labels mean. A severe"
        " rater may have seen what the others missed.",
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("severity", "lenien"),
        "Ask what the rater took “correct” to mean; explain it again, or correct for severity, before "
        "leaving anyone out. A severe rater may have seen what the others missed.",
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("fit", "infit", "outfit"),
        "Too much noise: look at the steps where the rater surprises. Too little: see whether the rater "
        "judged each step, or followed a rule of thumb.",
        neutral=1.0,
    ),
    Topic(
        ("drift",),
        "Compare the first and the last answers of the flagged sessions; make sessions shorter.",
        Picture.DRIFT,
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("gold",),
        "Look at the answers that contradict the known labels: is the rater wrong, or the label? Explain the"
        " task again, with these items as examples, before leaving anyone out.",
        # Of the others' share, which is another for each rater.
        compared=(),
    ),
    Topic(("fatigue", "tire"), _SHORTER, neutral=0.0),
    Topic(("central", "extreme_use"), "Show examples of both ends of the scale, and ask again.", neutral=1.0),
    Topic(
        ("halo",),
        "Ask for one criterion at a time, in sessions apart: the answers to one colour the others.",
        neutral=1.0,
    ),
    Topic(
        ("action",),
        "Look at the steps where the flagged rater and the others part: is the action favoured, or the "
        "situation in which it is taken?",
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("constant", "acquiesc"),
        "Ask the rater what they were shown. An answer that never changes tells nothing; the policy's card"
        " says how far training trusts it.",
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
    Topic(
        ("position", "side"), "Show the two sides in random order, and ask again.", neutral=0.5, apart=True
    ),
    Topic(("anchor", "sequence"), "Show the steps in a random order.", neutral=0.0, apart=True),
    Topic(
        ("tie", "skip"), "Ask whether the question can be answered at all: look at the task before the rater."
    ),
    Topic(
        ("intra", "repeat", "self_"),
        "The rater contradicts earlier answers: ask whether the question is clear; count repeats once.",
    ),
    Topic(
        ("controvers", "entropy", "disagreement", "disputed"),
        "Use the disputed steps to improve the instructions; they are nobody's error.",
        Picture.EPISODE,
    ),
    Topic(
        ("simpson",),
        "Do not report the pooled difference: it turns round within the strata. Report each stratum.",
        neutral=0.0,
    ),
    Topic(
        ("group", "cohesion"),
        "Report it beside every result that uses these answers; do not settle it by leaving a group out.",
        neutral=0.0,
        apart=True,
    ),
    Topic(
        ("truth", "dawid", "skene"),
        "Use the inferred labels with their uncertainty, and look at the raters who are least reliable.",
    ),
    Topic(("icc", "kendall"), _COLLECT_MORE, neutral=0.0),
    Topic(
        ("agreement", "alpha", "ac1", "ac2", "fleiss", "gwet", "kappa", "scott", "bootstrap"),
        _COLLECT_MORE,
        Picture.AGREEMENT,
    ),
)


_IN_SHORT: Mapping[str, str] = {
    "constant_rater": "share of one and the same answer",
    "random_rater": "correlation with the others",
    "too_fast": "share of answers given too fast",
    "straight_lining": "changes of answer, of those to be expected",
    "central_tendency": "spread of the answers, of the usual one",
    "action_bias": "answers to this action against those to others",
    "severity": "answers above the others' by",
    "drift": "shift from first to last answer",
    "fatigue": "rise of the disagreement, first to last",
    "fatigue_onset": "rise of the disagreement at one point",
    "anchoring": "correlation with the answer before",
    "halo": "correlation between criteria",
    "position_bias": "chance to prefer what is shown first",
    "tie_excess": "share left undecided",
    "gold_accuracy": "share right, where that is known",
    "rasch_severity": "severity in logits",
    "rater_fit": "surprise, of the usual one",
    "pairwise_kappa": "agreement (kappa)",
    "marginal_homogeneity": "difference in how often a label is given",
    "truth_inference": "accuracy",
    "copying": "share of equal answers beyond honest ones",
    "duplicate_raters": "share of the very same answers",
    "intra_rater": "agreement with oneself (kappa)",
    "group_bias": "answers above the others' by",
    "simpson": "answers above the others' by",
    "policy_share": "share of the training rows",
}
"""What a row's value is, in words that stand before it."""


def in_short(audit_id: str) -> str:
    """Return what an audit's values are in a few words; nothing for what counts, or is named by its subject.

    >>> in_short("too_fast"), in_short("novel")
    ('share of answers given too fast', '')
    """
    return _IN_SHORT.get(audit_id, "")


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
