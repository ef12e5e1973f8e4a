"""Logs of several raters, made by one list of commands."""

from pathlib import Path

from session_world import BOTH, START, Presses, enrolled, new_log, rate, script

from rlhf_audit.clock import TickingClock
from rlhf_audit.log.store import Log
from rlhf_audit.seeds import Entropy


def panel(root: Path, entropy: Entropy | None = None, without: str = "") -> tuple[Log, dict[str, str]]:
    """Record a base session and have three more raters rate its steps; ``without`` leaves one of them out."""
    log = new_log(root / "log", TickingClock(START), entropy)
    raters = {"base": enrolled(log, "oracle", alias="base")}
    script(log, raters["base"], ask_every=3, max_feedback=30, seed=7)
    for number, name in enumerate(("flip-20", "always-yes", "inverted")):
        if name != without:
            raters[name] = enrolled(log, name, BOTH, alias=name)
            script(log, raters[name], name, rates="s-0001", ask_every=3, max_feedback=20, seed=20 + number)
    raters["person"] = enrolled(log, alias="a person")
    rate(log, raters["person"], Presses("1su0s1u1u0"), seed=30)
    return log, raters
