"""Recording a session: opened under a grant, journalled, sealed to Parquet, entered in the ledger."""

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit import canonical, schema
from rlhf_audit.errors import ConsentError, LogError
from rlhf_audit.log import durable, journal, keys, sealing
from rlhf_audit.log.part import PartShape
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory, TrajectoryKind, finish, part_file, staged_files
from rlhf_audit.spaces import reading
from rlhf_audit.types import EpisodeFacts, Feedback, Grant, Transition

# No dictionary pages in what a rater gave: they would outlive a filtered row.
PARQUET: Mapping[str, Any] = {"compression": "zstd", "use_dictionary": False, "store_schema": False}
_SYNC_EVERY_S = 0.5


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
        info: Keys of ``info`` that are kept.
        observations: ``full``; or ``hashed``, where only a digest of each is kept.
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
    info: Sequence[str] = ()
    observations: str = "full"


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
        self._meta = asdict(facts) | {"rater_id": grant.rater_id, "grant_id": grant.grant_id}
        self._journal = journal.Journal(log.layout, self.session_id, self._meta)
        self._streams: dict[int, Trajectory] = {}
        self._beside = ThreadPoolExecutor(1, "rlhf-audit-sealing")
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="rlhf-audit-sync", daemon=True)
        self._failure: OSError | LogError | None = None

    def stream(self, number: int = 0) -> Trajectory:
        """Return where the steps of one of the session's environments go.

        Raises:
            OSError: There is no room for them on the disk.
        """
        if number not in self._streams:
            kind = kind_of(self._meta, self.session_id, number)
            folder = self._journal.folder
            self._streams[number] = Trajectory(folder, self._journal.put, self._beside, kind)
            if len(self._streams) == 1:
                self._ticker.start()
        return self._streams[number]

    def episode(self, facts: EpisodeFacts, observation: Any) -> None:
        """Begin an episode in its stream."""
        self.stream(facts.stream).begin(asdict(facts), observation)

    def step(self, step: Transition, next_observation: Any, stream: int = 0) -> None:
        """Record one step; it is there when this returns, whatever happens to the process."""
        self._streams[stream].append(
            step.action,
            next_observation,
            step.env_reward,
            step.terminated,
            step.truncated,
            step.action_probability,
            step.info,
        )

    def feedback(self, row: Feedback) -> None:
        """Record what the rater gave; it, and every step before it, is on the disk when this returns."""
        self._journal.feedback(row, self._marks())

    def weights(self, sha256: str) -> None:
        """Record the digest of the live weights."""
        self._journal.weights(sha256)

    def seal(self) -> bool:
        """Write the session's Parquet files and its ledger entry; say whether it held anything."""
        self._stopping.set()
        if self._streams:
            self._ticker.join()
        try:
            for trajectory in self._streams.values():
                trajectory.close()
        finally:
            self._beside.shutdown()
            self._journal.close()
        return seal(self._log, self.session_id)

    def _marks(self) -> list[Mapping[str, Any]]:
        if self._failure is not None:
            raise self._failure
        marks = (trajectory.mark() for trajectory in list(self._streams.values()))
        return [mark for mark in marks if mark is not None]

    def _tick(self) -> None:
        """Bring to the disk what nobody waits for, so that a power cut takes less than a second."""
        try:
            while not self._stopping.wait(_SYNC_EVERY_S):
                marks = self._marks()
                if marks:
                    self._journal.put({"event": "mark", "marks": marks}, sync=True)
        except (OSError, LogError) as error:
            # Told to whoever asks next: nobody listens here.
            self._failure = error


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
    erased_or_sealed = not events or events[0]["rater_id"] in erased
    worth = not erased_or_sealed and _enter(log, session_id, events)
    journal.discard(log.layout, session_id)
    return worth


def kind_of(meta: Mapping[str, Any], session_id: str, stream: int) -> TrajectoryKind:
    """Return what one of a session's trajectories holds, from what its first event says."""
    record = meta["env"]
    observation = reading.from_json(record["observation_space"])
    shape = PartShape(observation, reading.from_json(record["action_space"]), bool(meta["info"]))
    # From a policy that learnt, a few answers could be guessed.
    return TrajectoryKind(shape, session_id, record, meta["learn"] is not None, stream)


def _enter(log: Log, session_id: str, events: list[dict[str, Any]]) -> bool:
    meta = {name: value for name, value in events[0].items() if name != "event"}
    key = keys.read(log.layout, meta["rater_id"])
    files = _place_trajectories(log, session_id, meta, events)
    n_steps = sum(file["rows"] for file in files if file["path"].startswith("steps/"))
    rows = [journal.feedback_row(event) for event in events if event["event"] == "feedback"]
    if not n_steps and not rows:
        return False
    if rows:
        files.append(_write_feedback(log, session_id, key, rows))
    told = [event for event in events if event["event"] in ("feedback", "weights")]
    # After a kill the last answer may be there without the weights that it led to.
    whole = meta["learn"] and told and told[-1]["event"] == "weights"
    learnt = [event["sha256"] for event in told if event["event"] == "weights"] if whole else None
    body = meta | {
        "session_id": session_id,
        "n_episodes": sum(file["rows"] for file in files if file["path"].startswith("episodes/")),
        "n_steps": n_steps,
        "n_feedback": len(rows),
        "files": files,
        # Weights follow from a few answers: a plain digest of them could be guessed after an erasure.
        "weights_mac": key.mac("weights", canonical.json_bytes(learnt)) if learnt else None,
    }
    log.append("session", body)
    return True


def _place_trajectories(
    log: Log, session_id: str, meta: Mapping[str, Any], events: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put the sealed parts where they belong; the ledger's facts of each. May be done again after a crash."""
    layout, folder = log.layout, log.layout.journal_folder(session_id)
    parts = sorted((event["stream"], event["part"]) for event in events if event["event"] == "part")
    places = {
        part: (
            layout.episodes_file(session_id, number),
            layout.steps_file(meta["env"]["env_id"], session_id, number),
        )
        for number, part in enumerate(parts)
    }
    for stream in sorted({stream for stream, _ in parts}):
        moved = {part for (of, part), (_, steps) in places.items() if of == stream and steps.exists()}
        finish(folder, events, kind_of(meta, session_id, stream), moved)
    facts = []
    for (stream, part), (episodes, steps) in places.items():
        staged_steps, staged_episodes = staged_files(part_file(folder, stream, part))
        # The steps last: where they are, both are.
        for staged, place in ((staged_episodes, episodes), (staged_steps, steps)):
            facts += [fact] if (fact := _placed(log, staged, place)) else []
    return facts


def _placed(log: Log, staged: Path, place: Path) -> dict[str, Any] | None:
    """Move one sealed file to its place and return its facts; None when it holds no row."""
    rows = pq.ParquetFile(staged if staged.exists() else place).metadata.num_rows
    if not rows:
        return None
    if staged.exists():
        durable.make_folder(place.parent)
        staged.rename(place)
        durable.sync_folder(place.parent)
    return {"path": log.layout.relative(place), "rows": rows, "sha256": canonical.file_sha256(place)}


def _write_feedback(
    log: Log, session_id: str, key: keys.RaterKey, rows: Iterable[Feedback]
) -> dict[str, Any]:
    listed = [
        asdict(row) | {"session_id": session_id, "row": number, "kind": row.kind.value}
        for number, row in enumerate(rows)
    ]
    table = pa.Table.from_pylist(listed, schema=schema.FEEDBACK)
    path = log.layout.feedback_file(key.rater_id, session_id)
    sealing.write(path, table, **PARQUET)
    return {
        "path": log.layout.relative(path),
        "rows": table.num_rows,
        "rows_mac": canonical.hmac_hex(key.mac_key, "rows", canonical.table_bytes(table)),
        "file_mac": key.file_mac(path),
    }


def _next_session_id(log: Log) -> str:
    known = [entry.body["session_id"] for entry in log.ledger.of("session")]
    known += journal.open_sessions(log.layout)
    numbers = [int(name[2:]) for name in known]
    return f"s-{max(numbers, default=0) + 1:04d}"
