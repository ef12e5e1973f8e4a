"""Recorders to kill, and what must be true of their logs afterwards: run as a script, prints JSON lines.

``python kill_driver.py WORK KIND:HOW:COUNT…``: HOW is ``kill`` (COUNT at random moments) or one of
``crash_points`` (at every COUNT-th point).
"""

import functools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import crash_rig
import kill_acts as acts
import kill_worlds as world
import small_log
from crash_points import torn
from crash_rig import Scenario

from rlhf_audit import determinism
from rlhf_audit.log import checkpoint, reader
from rlhf_audit.log.store import Log
from rlhf_audit.spaces.hashed import HASHED
from rlhf_audit.verification import verify

PART = re.compile(r"part-\d+-\d+$")

# --- what is there before ---


def nobody_recorded(act: acts.Act) -> Callable[[Path], None]:
    """Build a log of one rater, and know beforehand what ``act`` will be told in it."""

    def build(home: Path) -> None:
        small_log.join(small_log.empty(home / "log"))
        there = home.parent / "undisturbed"
        shutil.copytree(home, there)
        reference: list[Any] = []
        parts = set()
        sys.addaudithook(lambda event, args: event == "open" and parts.update(PART.findall(str(args[0]))))
        act(there, reference.append)
        reference = [fact for fact in reference if fact != crash_rig.BEGUN]
        assert len(parts) > 2, "no part was ever full"
        (home / "facts.json").write_text(json.dumps({"reference": reference, "told": []}))

    return build


def killed_before(act: acts.Act) -> Callable[[Path], None]:
    """The same, where ``act`` was then killed with nearly everything done and nothing sealed at its end."""

    def build(home: Path) -> None:
        nobody_recorded(act)(home)
        reference = json.loads((home / "facts.json").read_text())["reference"]
        told: list[Any] = []

        def note(fact: Any) -> None:
            told.append(fact)
            if len(told) == len(reference) - 3:
                (home / "facts.json").write_text(json.dumps({"reference": reference, "told": told}))
                os.kill(os.getpid(), signal.SIGKILL)

        pid = crash_rig.forked(lambda: act(home, note), home.parent / "error")
        assert crash_rig.waited(pid) == -signal.SIGKILL

    return build


def sealed_before(act: acts.Act) -> Callable[[Path], None]:
    """The same, where everything is done and sealed."""

    def build(home: Path) -> None:
        nobody_recorded(act)(home)
        facts = json.loads((home / "facts.json").read_text())
        act(home, facts["told"].append)
        (home / "facts.json").write_text(json.dumps(facts))

    return build


# --- what must be true afterwards ---


def account(home: Path, told: list[Any], complete: bool, in_flight: int = 1) -> dict[str, int]:
    """Count what was acknowledged and is not there, what is there twice, and what is not as it was told.

    Args:
        home: Holds the log, opened again.
        told: What this run acknowledged.
        complete: Nothing cut it short.
        in_flight: How much may be there that nobody was told of.
    """
    facts, log = json.loads((home / "facts.json").read_text()), Log(home / "log")
    known = {key(fact): fact for fact in facts["reference"]}
    acknowledged = [key(fact) for fact in facts["told"] + told]
    kept = [fact for session_id in reader.session_ids(log) for fact in held(log, session_id)]
    there = Counter(map(key, kept))
    assert not any(log.layout.journal.iterdir())
    assert all(fact == known[key(fact)] for fact in told), "the acts differ from run to run"
    assert len(set(there) - set(acknowledged)) <= in_flight, "more is there than was ever on its way"
    assert not complete or facts["told"] or set(there) == set(known)
    owed = len(acknowledged)
    while owed and torn(home).exists() and acknowledged[owed - 1][0] != "rating":
        owed -= 1
    return {
        "acknowledged": len(acknowledged),
        "lost": sum(name not in there for name in acknowledged[:owed]),
        "duplicated": sum(count - 1 for count in there.values()),
        "wrong": sum(fact != known.get(key(fact)) for fact in kept),
    }


def check(home: Path, told: list[Any], complete: bool, in_flight: int = 1) -> dict[str, int]:
    found = account(home, told, complete, in_flight)
    if len(told) % 4 == 0:
        goes_on(home)
    return found


def check_compacted(home: Path, told: list[Any], complete: bool) -> dict[str, int]:
    """The same, and once more when the log is compacted to the end."""
    found = account(home, told, complete)
    acts.by_compacting(home, told.append)
    assert verify(home / "log").ok
    again = account(home, told, complete)
    goes_on(home)
    return {name: max(found[name], again[name]) for name in found}


def goes_on(home: Path) -> None:
    """Whatever was left behind is in nobody's way."""
    acts.by_library(home, lambda fact: None, sessions=1, n_steps=3)
    found = verify(home / "log")
    assert found.ok, found.problems


def key(fact: list[Any]) -> tuple[Any, ...]:
    return tuple(fact[:4])


def held(log: Log, session_id: str) -> Iterator[list[Any]]:
    """Yield what a session holds, as it was told of; its episodes must hang together."""
    session = reader.session(log, session_id)
    ids = [episode.episode_id for episode in session.episodes]
    assert len(set(ids)) == len(ids), "an episode is there twice"
    for episode in session.episodes:
        steps, options = list(episode.steps), episode.reset_options
        assert [step.step for step in steps] == list(range(len(steps))), "a gap, or a step twice"
        begun = episode.reset_seed, None if options is None else json.loads(options)
        afters = [*(step.observation for step in steps), episode.final_observation][1:]
        for step, after in zip(steps, afters, strict=True):
            info = None if step.info is None else json.loads(step.info)
            outcome = step.env_reward, step.terminated, step.truncated, info
            where = session_id, step.episode_id, step.step
            yield world.step_fact(where, begun, step.observation, step.action, after, outcome)
    for row in session.feedback or ():
        yield ["rating", session_id, row.episode_id, row.step, row.value]


def recording(act: acts.Act, in_flight: int = 1, **how: Any) -> Scenario:
    checked = functools.partial(check, in_flight=in_flight)
    return Scenario(nobody_recorded(act), act, checked, acts.small_and_quick, **how)


def compacting(act: acts.Act) -> Scenario:
    return Scenario(sealed_before(act), acts.by_compacting, check_compacted, acts.small_and_quick, rounds=2)


def opening(act: acts.Act, in_flight: int = 1) -> Scenario:
    """Cut short twice, one after another."""
    checked = functools.partial(check, in_flight=in_flight)
    return Scenario(killed_before(act), acts.by_opening, checked, acts.small_and_quick, rounds=2)


TELLING = functools.partial(acts.by_library, make=world.Telling, info="left", n_steps=40)
HASHES = functools.partial(acts.by_library, observations=HASHED)
LONG = functools.partial(acts.by_library, sessions=1, n_steps=120)
TAUGHT = functools.partial(acts.by_command, learn="likelihood", answers=5)

SCENARIOS = {
    "library": recording(acts.by_library),
    "vector": recording(acts.by_vector, in_flight=world.N_STREAMS),
    "varying": recording(TELLING),
    "hashed": recording(HASHES),
    "record": recording(acts.by_command, announces=True),
    "learn": recording(TAUGHT, announces=True, warm=determinism.tensorflow),
    "learn-cheaply": recording(acts.by_command_cheaply, announces=True),
    "boasting": replace(recording(acts.by_library), act=acts.boasting),
    "seal": opening(LONG),
    "seal-varying": opening(functools.partial(TELLING, sessions=1, n_steps=100)),
    "seal-vector": opening(acts.by_vector, in_flight=world.N_STREAMS),
    "compact": compacting(acts.by_library),
    "compact-varying": compacting(TELLING),
}


def main(work: str, *series: str) -> None:
    tempfile.tempdir = work  # a child that is killed sweeps nothing up
    os.environ[checkpoint.SIGNING_KEY_VARIABLE] = str(small_log.write_key(Path(work)))
    for number, one in enumerate(series):
        name, how, count = one.split(":")
        folder = Path(work) / str(number)
        folder.mkdir()
        rig = crash_rig.Rig(SCENARIOS[name], folder, functools.partial(say, one))
        crash_rig.told(rig.kills(int(count)) if how == "kill" else rig.faults(how, int(count)))


def say(one: str, text: str) -> None:
    print(f"{one}: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
