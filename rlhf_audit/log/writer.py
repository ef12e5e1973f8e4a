"""Recording a session: opened under a grant, journalled, sealed to Parquet, entered in the ledger."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical, schema
from rlhf_audit.errors import ConsentError, LogError
from rlhf_audit.log import durable, journal, keys
from rlhf_audit.log.store import Log
from rlhf_audit.types import Feedback, Grant, Observation, Transition

# No dictionary pages: they would outlive a filtered row.
PARQUET: Mapping[str, Any] = {"compression": "zstd", "use_dictionary": False, "store_schema": False}


@dataclass(frozen=True)
class SessionFacts:
    """What is known of a session before its first step.

    Attributes:
        kind: What the rater is asked for.
        source: ``terminal``, ``web`` or ``scripted:NAME``.
        env: ``EnvRecord`` as JSON.
        seed: Root of every random draw in the session.
        ask_every: Every how manieth step is asked about.
        rates: The session whose episodes are rated again; None when the agent acts.
        policy: Digest, path and network of the behaviour policy; None when rating again.
        learn: Algorithm and parameters of the live update; None without one.
        limits: ``episodes`` and ``max_feedback``, as given.
    """

    kind: str
    source: str
    env: Mapping[str, Any]
    seed: int
    ask_every: int
    rates: str | None
    policy: Mapping[str, Any] | None
    learn: Mapping[str, Any] | None
    limits: Mapping[str, int | None]


class SessionWriter:
    """One open session. Made only under a ``Grant``, inside ``log.writing()``.

    Raises:
        ConsentError: ``grant`` is not one that the ledger holds.
        LogError: The rater's key is missing or damaged, so that the session could not be sealed.
    """

    def __init__(self, log: Log, grant: Grant, facts: SessionFacts) -> None:
        if not isinstance(grant, Grant) or not any(
            (entry.body["grant_id"], entry.body["rater_id"], entry.body["terms_sha256"], entry.body["state"])
            == (grant.grant_id, grant.rater_id, grant.terms_sha256, "given")
            for entry in log.ledger.of("consent")
        ):
            raise ConsentError("no grant in the ledger covers this session")
        keys.read(log.layout, grant.rater_id)
        self._log = log
        self._grant = grant
        self.session_id = _next_session_id(log)
        meta = asdict(facts) | {"rater_id": grant.rater_id, "grant_id": grant.grant_id}
        self._journal = journal.Journal(log.layout, self.session_id, meta)

    def episode(self, **facts: Any) -> None:
        """Begin an episode: ``episode_id, episode, reset_seed, behaviour_policy_sha256, observation``."""
        self._journal.episode(**facts)

    def step(self, step: Transition, next_observation: Observation) -> None:
        """Record one step."""
        self._journal.step(step, next_observation)

    def feedback(self, row: Feedback) -> None:
        """Record what the rater gave; on the disk when this returns."""
        self._journal.feedback(row)

    def weights(self, sha256: str) -> None:
        """Record the digest of the live weights."""
        self._journal.weights(sha256)

    def seal(self) -> bool:
        """Write the session's Parquet files and its ledger entry; say whether it held anything."""
        self._journal.close()
        return seal(self._log, self.session_id)


def recover(log: Log) -> list[str]:
    """Seal every session that a crash left open; return their ids. Call inside ``log.writing()``.

    One that can't be sealed, because its journal or its rater's key is damaged, is left as it is, for
    ``verify`` to name.
    """
    journal.drop_half_made(log.layout)
    sealed = []
    for session_id in journal.open_sessions(log.layout):
        with contextlib.suppress(LogError):
            sealed += [session_id] * seal(log, session_id)
    return sealed


def seal(log: Log, session_id: str) -> bool:
    """Turn a journal into sealed files and one ledger entry; idempotent at every step.

    Returns:
        False when the session held no step and no answer, or had been sealed before, or its rater was erased.

    Raises:
        LogError: The journal or the rater's key is damaged; nothing is changed then.
    """
    sealed = {entry.body["session_id"] for entry in log.ledger.of("session")}
    events = [] if session_id in sealed else list(journal.read(log.layout, session_id))
    erased = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    worth = any(event["event"] in ("step", "feedback") for event in events)
    worth = worth and events[0]["rater_id"] not in erased
    if worth:
        _enter(log, session_id, events)
    journal.discard(log.layout, session_id)
    return worth


def _enter(log: Log, session_id: str, events: list[dict[str, Any]]) -> None:
    meta = {name: value for name, value in events[0].items() if name != "event"}
    key = keys.read(log.layout, meta["rater_id"])
    files = []
    steps = [journal.transition(event) for event in events if event["event"] == "step"]
    if steps:
        files += _write_trajectory(log, session_id, meta, events, steps)
    rows = [journal.feedback_row(event) for event in events if event["event"] == "feedback"]
    if rows:
        files.append(_write_feedback(log, session_id, key, rows))
    told = [event for event in events if event["event"] in ("feedback", "weights")]
    # After a kill the last answer may be there without the weights that it led to.
    whole = meta["learn"] and told and told[-1]["event"] == "weights"
    learnt = [event["sha256"] for event in told if event["event"] == "weights"] if whole else None
    body = meta | {
        "session_id": session_id,
        "n_episodes": len({step.episode_id for step, _ in steps}),
        "n_steps": len(steps),
        "n_feedback": len(rows),
        "files": files,
        # Weights follow from a few answers: a plain digest of them could be guessed after an erasure.
        "weights_mac": key.mac("weights", canonical.json_bytes(learnt)) if learnt else None,
    }
    log.append("session", body)


def _write_trajectory(
    log: Log,
    session_id: str,
    meta: Mapping[str, Any],
    events: list[dict[str, Any]],
    steps: list[tuple[Transition, Observation]],
) -> list[dict[str, Any]]:
    first = steps[0][0].observation
    kind = pa.list_(pa.from_numpy_dtype(first.dtype), first.size)
    last = {step.episode_id: (step.step + 1, after) for step, after in steps}
    begun = [event for event in events if event["event"] == "episode" and event["episode_id"] in last]
    episodes = {
        "session_id": [session_id] * len(begun),
        **{name: [e[name] for e in begun] for name in ("episode_id", "episode", "reset_seed")},
        "behaviour_policy_sha256": [e["behaviour_policy_sha256"] for e in begun],
        "env_id": [meta["env"]["env_id"]] * len(begun),
        "env_spec": [canonical.json_bytes(meta["env"]).decode()] * len(begun),
        "n_steps": [last[e["episode_id"]][0] for e in begun],
        "final_observation": _observations([last[e["episode_id"]][1] for e in begun], kind),
    }
    rows = [step for step, _ in steps]
    columns: dict[str, Any] = {
        "session_id": [session_id] * len(rows),
        "observation": _observations([row.observation for row in rows], kind),
    }
    for name in ("episode_id", "step", "action", "action_probability", "env_reward"):
        columns[name] = [getattr(row, name) for row in rows]
    columns |= {"terminated": [row.terminated for row in rows], "truncated": [row.truncated for row in rows]}
    episodes_path = log.layout.episodes_file(session_id)
    steps_path = log.layout.steps_file(meta["env"]["env_id"], session_id)
    written = []
    for path, data, shape in (
        (episodes_path, episodes, schema.episodes(kind)),
        (steps_path, columns, schema.steps(kind)),
    ):
        write_parquet(path, _table(data, shape))
        facts = {"path": log.layout.relative(path), "rows": len(data["session_id"])}
        written.append(facts | {"sha256": canonical.file_sha256(path)})
    return written


def _write_feedback(
    log: Log, session_id: str, key: keys.RaterKey, rows: Iterable[Feedback]
) -> dict[str, Any]:
    listed = [
        asdict(row) | {"session_id": session_id, "row": number, "kind": row.kind.value}
        for number, row in enumerate(rows)
    ]
    table = pa.Table.from_pylist(listed, schema=schema.FEEDBACK)
    path = log.layout.feedback_file(key.rater_id, session_id)
    write_parquet(path, table)
    return {
        "path": log.layout.relative(path),
        "rows": table.num_rows,
        "rows_mac": canonical.hmac_hex(key.mac_key, "rows", canonical.table_bytes(table)),
        "file_mac": key.file_mac(path),
    }


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write one sealed file, atomically."""
    durable.make_folder(path.parent)
    with durable.replacing(path) as temporary:
        pq.write_table(table, temporary, **PARQUET)


def _observations(arrays: list[Observation], kind: pa.DataType) -> pa.Array:
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)


def _table(columns: Mapping[str, Any], shape: pa.Schema) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, shape.field(name).type)
        for name, column in ((name, columns[name]) for name in shape.names)
    ]
    return pa.Table.from_arrays(arrays, schema=shape)


def _next_session_id(log: Log) -> str:
    known = [entry.body["session_id"] for entry in log.ledger.of("session")]
    known += journal.open_sessions(log.layout)
    numbers = [int(name[2:]) for name in known]
    return f"s-{max(numbers, default=0) + 1:04d}"
