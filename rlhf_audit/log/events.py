"""The events of an open session's journal: which there are, and which can follow one another."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_audit import canonical
from rlhf_audit.clock import from_text
from rlhf_audit.errors import UsageError
from rlhf_audit.log import encryption
from rlhf_audit.log.encryption import Cipher
from rlhf_audit.log.layout import Layout, checked_rater_id
from rlhf_audit.types import Feedback, Kind

_FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "session": {
        "rater_id": (str,),
        "grant_id": (str,),
        "kind": (str,),
        "source": (str,),
        "env": (dict,),
        "seed": (int,),
        "ask_every": (int,),
        "rates": (str, type(None)),
        "policy": (dict, type(None)),
        "learn": (dict, type(None)),
        "limits": (dict,),
        "info": (list,),
        "observations": (str,),
    },
    "part": {
        "stream": (int,),
        "part": (int,),
        "slots": (int,),
        "boot": (str,),
    },
    "sealed": {
        "stream": (int,),
        "part": (int,),
        "parts": (int,),
        "steps_sha256": (str,),
        "episodes_sha256": (str,),
    },
    "episode": {
        "stream": (int,),
        "episode": (int,),
        "reset_options": (str, type(None)),
        "behaviour_policy_sha256": (str, type(None)),
    },
    "mark": {"marks": (list,)},
    "feedback": {
        "episode_id": (str,),
        "step": (int,),
        "kind": (str,),
        "value": (int, float, type(None)),
        "objective": (str,),
        "other_episode_id": (str, type(None)),
        "other_step": (int, type(None)),
        "n_steps": (int,),
        "action": (int, type(None)),
        "consent": (bool,),
        "grant_id": (str,),
        "shown_at": (str,),
        "answered_at": (str,),
        "latency_s": (int, float, type(None)),
        "position": (int,),
        "supersedes": (int, type(None)),
        "marks": (list,),
    },
    "weights": {"sha256": (str,)},
}
_MARK: Mapping[str, tuple[type, ...]] = {
    "stream": (int,),
    "part": (int,),
    "from": (int,),
    "slots": (int,),
    "crc32": (int,),
    "side": (list, type(None)),
}


def feedback_row(body: Mapping[str, Any]) -> Feedback:
    """Return a feedback event's row."""
    known = {name: body[name] for name in Feedback.__dataclass_fields__}
    known |= {"kind": Kind(body["kind"])}
    if known["latency_s"] is None:
        # Nobody knows it; the column has no null.
        known["latency_s"] = math.nan
    known |= {name: from_text(body[name]) for name in ("shown_at", "answered_at")}
    return Feedback(**known)


class Checker:
    """Checks the events of one session, in their order.

    A checksum tells a torn line; it does not tell who wrote the line.
    """

    def __init__(self, layout: Layout, session_id: str) -> None:
        self._layout = layout
        self._session_id = session_id
        self._begun = False
        self._rater_id = ""
        self._cipher: Cipher | None = None
        self._parts: dict[int, int] = {}

    def event(self, data: bytes) -> dict[str, Any]:
        """Return an event that ``log.writer`` can seal.

        Raises:
            ValueError: It is none, or not one that can follow; nothing of it is repeated.
            LogError: It is encrypted, and its rater's key is missing or damaged.
        """
        body = canonical.parse_object(data)
        event = body.get("event")
        if self._begun and isinstance(body.get("encrypted"), str):
            body = canonical.parse_object(self._opened(body["encrypted"]))
        if not isinstance(event, str) or event not in _FIELDS:
            raise ValueError("an event that nobody writes")
        if (event == "session") == self._begun:
            raise ValueError("a session that begins twice, or not at all")
        _check_fields(event, body, _FIELDS[event])
        try:
            self._follow(event, body)
        except (ValueError, KeyError, TypeError, OverflowError, UsageError) as error:
            raise ValueError(f"a {event} with a value that can't be") from error
        return body

    def _opened(self, text: str) -> bytes:
        if self._cipher is None:
            self._cipher = encryption.of_rater(self._layout, self._rater_id)
        return self._cipher.decrypt(text, self._session_id)

    def _follow(self, event: str, body: Mapping[str, Any]) -> None:
        if event == "session":
            self._begun = True
            self._rater_id = checked_rater_id(body["rater_id"])
            self._layout.steps_file(body["env"]["env_id"], self._session_id)
        elif event == "part":
            # The newest one may begin twice: the first time was interrupted.
            turn = self._parts.get(body["stream"], 0)
            if body["part"] not in (turn, max(0, turn - 1)) or not 0 < body["slots"] < 1 << 32:
                raise ValueError("a part out of turn")
            self._parts[body["stream"]] = body["part"] + 1
        elif event == "sealed":
            first, turn = body["part"], self._parts[body["stream"]]
            if first < 0 or not 0 < body["parts"] <= turn - first:
                raise ValueError("other parts")
        elif event == "episode":
            if not self._parts[body["stream"]] or body["episode"] < 0:
                raise ValueError("an episode of no part")
        elif event == "mark":
            self._check_marks(body["marks"])
        elif event == "feedback":
            feedback_row(body)
            self._check_marks(body["marks"])

    def _check_marks(self, marks: Sequence[Any]) -> None:
        for mark in marks:
            _check_fields("mark", mark, _MARK)
            # One that was begun before its part's end may come after it.
            if not 0 <= mark["part"] < self._parts[mark["stream"]] or not 0 <= mark["from"] <= mark["slots"]:
                raise ValueError("a mark of another part")
            side = mark["side"] or [0, 0]
            whole = len(side) == 2 and all(isinstance(one, int) and 0 <= one < 1 << 63 for one in side)
            if not whole or not 0 <= mark["crc32"] < 1 << 32 or mark["slots"] > 1 << 33:
                raise ValueError("a mark of something else")


def _check_fields(event: str, body: Any, fields: Mapping[str, tuple[type, ...]]) -> None:
    for name, kinds in fields.items():
        if not isinstance(body, dict) or name not in body or not _fits(body[name], kinds):
            raise ValueError(f"a {event} whose {name} is missing or of another type")


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return False
    return isinstance(value, kinds)
