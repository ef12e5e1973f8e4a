"""What may be handed out now, and under which names: consent decides, and nothing else."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlhf_audit import canonical
from rlhf_audit.envs import EnvRecord
from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.exchange.base import FEEDBACK, Export, Trajectories
from rlhf_audit.log import views
from rlhf_audit.log.store import Log
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.hashed import HASHED
from rlhf_audit.types import Purpose

_ROWS = """
SELECT rater_id, episode_id, step, kind, value, objective, action AS named_action, other_episode_id,
       other_step, n_steps, latency_s, position
FROM usable WHERE list_contains(purposes, ?) ORDER BY session_n, "row"
"""
_OWN = """
SELECT session_id FROM sessions s JOIN grants g USING (grant_id, rater_id)
WHERE g.state = 'given' AND list_contains(g.purposes, ?)
"""


def select(log: Log, purpose: Purpose) -> tuple[Export, dict[str, str]]:
    """Return what raters agreed to for ``purpose``, as it stands now, and the name of each in this export.

    A session's steps go if its own rater, or one whose feedback on them goes, agreed. Those of a policy that
    learnt go only if the rater who taught it agreed: answers could be worked out of what it did.

    Returns:
        The export; and the names of the raters in it by pseudonym, fresh ones at every call.

    Raises:
        ConsentError: Nobody has agreed, or there is nothing of theirs.
        UsageError: Only digests of the observations were kept of all that might go.
    """
    connection = views.connect(log, log.clock.now())
    try:
        rows = views.query(connection, _ROWS, [purpose.value])
        heads = views.query(connection, "SELECT session_id, episode_id FROM episodes").to_pylist()
        own = set(views.query(connection, _OWN, [purpose.value]).column("session_id").to_pylist())
    finally:
        connection.close()
    found = _sessions(log, own, rows)
    thin = [facts["session_id"] for facts in found if facts["observations"] == HASHED]
    sessions = [facts for facts in found if facts["observations"] != HASHED]
    if thin and not sessions:
        raise UsageError(
            f"the observations of {thin[0]} are not in the log",
            seen="their digests only",
            needed="observations",
            fix=f"rlhf-audit replay LOG {thin[0]} --materialise DIR makes Parquet files of them",
        )
    if not sessions:
        raise ConsentError(
            f"nothing may be handed out for {purpose}",
            seen=f"no step or feedback whose grant covers {purpose} now",
            needed="a rater who has agreed to it",
            fix=f"rlhf-audit consent LOG RATER --purpose {purpose}",
        )
    going = {facts["session_id"] for facts in sessions}
    known = {row["episode_id"] for row in heads if row["session_id"] in going}
    kept = [
        row["episode_id"] in known and row["other_episode_id"] in {None, *known} for row in rows.to_pylist()
    ]
    rows = rows.filter(pa.array(kept, pa.bool_()))
    given = rows.column("rater_id").to_pylist()
    theirs = {*given, *(facts["rater_id"] for facts in sessions if facts["learn"])}
    names = _names(log, theirs)
    named = rows.append_column("rater", pa.array([names[rater] for rater in given], pa.string()))
    named = named.select(["episode_id", "step", *FEEDBACK.names])
    by_environment = _by_environment(log, sessions, named)
    return Export(purpose.value, tuple(sorted(names.values())), by_environment, tuple(thin)), names


def _sessions(log: Log, own: set[str], rows: pa.Table) -> list[Mapping[str, Any]]:
    about = {text for name in ("episode_id", "other_episode_id") for text in rows.column(name).to_pylist()}
    rated = {text.rpartition("-e")[0] for text in about if text is not None}
    found = []
    for entry in log.ledger.of("session"):
        facts = entry.body
        allowed = facts["session_id"] in own or (facts["session_id"] in rated and not facts["learn"])
        if allowed and facts["n_steps"]:
            found.append(facts)
    return found


def _names(log: Log, raters: set[str]) -> dict[str, str]:
    """Return a fresh random name for each rater, so that two exports share none."""
    names: dict[str, str] = {}
    for rater_id in sorted(raters):
        name = f"rater-{log.entropy.token(4).hex()}"
        while name in names.values():
            name = f"rater-{log.entropy.token(4).hex()}"
        names[rater_id] = name
    return names


def _by_environment(
    log: Log, sessions: Sequence[Mapping[str, Any]], feedback: pa.Table
) -> tuple[Trajectories, ...]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for facts in sessions:
        # Versions apart: the same environment under another numpy is still that one.
        kind = canonical.json_bytes({**facts["env"], "versions": {}}).decode()
        groups.setdefault(kind, []).append(facts)
    about = feedback.column("episode_id").to_pylist()
    found: list[Trajectories] = []
    for group in groups.values():
        env = EnvRecord.from_json(canonical.json_bytes(group[0]["env"]).decode())
        own = {facts["session_id"] for facts in group}
        theirs = pa.array([text.rpartition("-e")[0] in own for text in about], pa.bool_())
        found.append(
            Trajectories(
                _free_name(env.env_id, {one.name for one in found}),
                env,
                reading.from_json(env.observation_space),
                reading.from_json(env.action_space),
                log,
                tuple(group),
                feedback.filter(theirs),
            )
        )
    return tuple(sorted(found, key=lambda one: one.name))


def _free_name(env_id: str, taken: set[str]) -> str:
    plain = env_id.rpartition(":")[2].replace("/", "-")
    numbered = (f"{plain}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([plain], numbered) if name not in taken)
