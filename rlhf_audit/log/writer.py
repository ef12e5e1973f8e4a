"""Recording a session: opened under a grant, journalled, sealed to Parquet, entered in the ledger."""

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rlhf_audit import canonical
from rlhf_audit.errors import ConsentError, LogError, RlhfAuditError
from rlhf_audit.log import answers, durable, encryption, journal, keys, reopened
from rlhf_audit.log.part import PartShape, part_file, staged_files
from rlhf_audit.log.reopened import LeftOpen
from rlhf_audit.log.store import Log
from rlhf_audit.log.trajectory import Trajectory
from rlhf_audit.log.unsealed import Mark, TrajectoryKind
from rlhf_audit.spaces import reading
from rlhf_audit.spaces.hashed import observation_space
from rlhf_audit.types import EpisodeFacts, Feedback, Grant, Transition

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
        key = keys.read(log.layout, grant.rater_id)
        self._log = log
        self._grant = grant
        self.session_id = _next_session_id(log)
        self._meta = asdict(facts) | {"rater_id": grant.rater_id, "grant_id": grant.grant_id}
        self._journal = journal.Journal(
            log.layout, self.session_id, self._meta, encryption.of(key) if log.is_sealed else None
        )
        self._streams: dict[int, Trajectory] = {}
        self._beside = ThreadPoolExecutor(1, "rlhf-audit-sealing")
        self._stopping = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="rlhf-audit-sync", daemon=True)
        self._marking = threading.Lock()
        self._failure: Exception | None = None
        self._stopped = False
        self._sealed: bool | None = None

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
        self.stream(facts.stream).begin(
            facts.episode,
            facts.reset_seed,
            observation,
            facts.reset_options,
            facts.behaviour_policy_sha256,
        )

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
        if self._failure is not None:
            raise self._failure
        with self._marking:
            marks = self._marks()
            self._journal.feedback(row, marks)
            self._noted(marks)

    def feedback_elsewhere(self, rows: Iterable[Feedback]) -> None:
        """Record what was given elsewhere: all of it is on the disk when this returns, not row by row."""
        for row in rows:
            self._journal.feedback(row, (), sync=False)
        self._journal.sync()

    def disown(self) -> None:
        """Store nothing any more: in a process that was forked off."""
        for trajectory in self._streams.values():
            trajectory.disown()

    def weights(self, sha256: str) -> None:
        """Record the digest of the live weights."""
        self._journal.weights(sha256)

    def seal(self) -> bool:
        """Write the session's Parquet files and its ledger entry; say whether it held anything.

        May be called again: what was sealed stays so, and what failed is tried again.

        Raises:
            OSError: The disk refused; what is stored stays, for the next opening of the log to seal.
        """
        if self._sealed is None:
            self.stop()
            self._sealed = seal(self._log, self.session_id)
        return self._sealed

    def stop(self) -> None:
        """End what is open, and the threads: nothing of this goes on behind what comes next. May be repeated.

        Raises:
            OSError: The disk refused; what is stored stays.
        """
        if self._stopped:
            return
        with contextlib.ExitStack() as ending:
            ending.callback(setattr, self, "_stopped", True)
            # Whatever fails or is interrupted, the others end.
            ending.callback(self._journal.close)
            ending.callback(self._beside.shutdown)
            for trajectory in self._streams.values():
                ending.callback(trajectory.close)
            self._stopping.set()
            if self._ticker.ident is not None:
                self._ticker.join()

    def _marks(self) -> list[Mark]:
        return [mark for trajectory in list(self._streams.values()) for mark in trajectory.marks()]

    def _noted(self, marks: Sequence[Mark]) -> None:
        for trajectory in list(self._streams.values()):
            trajectory.noted(marks)

    def _tick(self) -> None:
        """Bring to the disk what nobody waits for, so that a power cut takes less than a second."""
        try:
            while not self._stopping.wait(_SYNC_EVERY_S):
                # An answer must not pass a mark that is only being written.
                with self._marking:
                    marks = self._marks()
                    if marks:
                        self._journal.put({"event": "mark", "marks": marks}, sync=True)
                        self._noted(marks)
        except (OSError, RlhfAuditError, ValueError) as error:
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
    left = None if session_id in sealed else reopened.read(log.layout, session_id)
    erased = {entry.body["rater_id"] for entry in log.ledger.of("erasure-intent")}
    worth = left is not None and left.meta["rater_id"] not in erased and _enter(log, left)
    journal.discard(log.layout, session_id)
    return worth


def kind_of(meta: Mapping[str, Any], session_id: str, stream: int) -> TrajectoryKind:
    """Return what one of a session's trajectories holds, from what its first event says."""
    record = meta["env"]
    shape = PartShape(observation_space(meta), reading.from_json(record["action_space"]), bool(meta["info"]))
    # From a policy that learnt, a few answers could be guessed.
    return TrajectoryKind(shape, session_id, record, meta["learn"] is not None, stream)


def _enter(log: Log, left: LeftOpen) -> bool:
    key = keys.read(log.layout, left.meta["rater_id"])
    files = _place_trajectories(log, left)
    n_steps = sum(file["rows"] for file in files if file["path"].startswith("steps/"))
    if not n_steps and not left.n_feedback:
        return False
    if left.n_feedback:
        files.append(answers.write(log, left.session_id, key, left.feedback()))
    body = {
        **left.meta,
        "session_id": left.session_id,
        "n_episodes": sum(file["rows"] for file in files if file["path"].startswith("episodes/")),
        "n_steps": n_steps,
        "n_feedback": left.n_feedback,
        "files": files,
        # Weights follow from a few answers: a plain digest of them could be guessed after an erasure.
        "weights_mac": key.mac("weights", canonical.json_bytes(left.learnt)) if left.learnt else None,
    }
    log.append("session", body)
    return True


def _place_trajectories(log: Log, left: LeftOpen) -> list[dict[str, Any]]:
    """Put the sealed parts where they belong; the ledger's facts of each. May be done again after a crash."""
    layout, session_id, env_id = log.layout, left.session_id, left.meta["env"]["env_id"]
    folder = layout.journal_folder(session_id)
    parts = [(stream, part) for stream in sorted(left.parts) for part in range(len(left.parts[stream]))]
    places = {
        part: (layout.steps_file(env_id, session_id, number), layout.episodes_file(session_id, number))
        for number, part in enumerate(parts)
    }
    files: list[tuple[Path, Path, str | None]] = []
    for (stream, part), place in places.items():
        staged = staged_files(part_file(folder, stream, part))
        sealed = left.parts[stream][part].sealed or {}
        digests = sealed.get("steps_sha256"), sealed.get("episodes_sha256")
        # The steps last: where they are, both are.
        for at, to, digest in reversed(list(zip(staged, place, digests, strict=True))):
            # Of what is only sealed below, no digest is taken on trust.
            files.append((at, to, digest if at.exists() or to.exists() else None))
    for file in files:
        # All of them first: of a damaged session nothing is changed.
        _checked(log, *file)
    for stream, known in left.parts.items():
        moved = {part for (of, part), (steps, _) in places.items() if of == stream and steps.exists()}
        reopened.finish(folder, known, kind_of(left.meta, session_id, stream), moved)
    there = [staged if staged.exists() else place for staged, place, _ in files]
    n_steps = sum(_rows(log, path) for path in there[1::2] if path.exists())
    n_told = sum(_n_steps(path) for path in there[::2] if path.exists())
    if n_steps != n_told:
        raise LogError(
            f"journal/{session_id} is damaged",
            seen=f"{n_steps} steps, and {n_told} in its episodes",
            needed="every step in an episode",
            fix="put the files back from a copy, or erase its rater",
        )
    if not left.n_feedback and not n_steps:
        # Episodes that nobody has made a step in.
        return []
    return [fact for file in files if (fact := _placed(log, *file))]


def _checked(log: Log, staged: Path, place: Path, digest: str | None) -> None:
    there = staged if staged.exists() else place
    if digest is not None and there.exists() and canonical.file_sha256(there) != digest:
        raise LogError(
            f"{log.layout.relative(there)} is damaged",
            seen="other bytes",
            needed="the file as it was sealed",
            fix="put the file back from a copy, or erase its rater",
        )


def _placed(log: Log, staged: Path, place: Path, digest: str | None) -> dict[str, Any] | None:
    """Move one sealed file to its place and return its facts; None when it holds no row."""
    there = staged if staged.exists() else place
    # A power cut may have taken the part.
    rows = _rows(log, there) if there.exists() else 0
    if not rows:
        return None
    if there is staged:
        durable.make_folder(place.parent)
        staged.rename(place)
        durable.sync_folder(place.parent)
    sha256 = digest or canonical.file_sha256(place)
    return {"path": log.layout.relative(place), "rows": rows, "sha256": sha256}


def _rows(log: Log, path: Path) -> int:
    try:
        return int(pq.ParquetFile(path).metadata.num_rows)
    except pa.ArrowException as error:
        raise LogError(f"{log.layout.relative(path)} is damaged", seen="no Parquet") from error


def _n_steps(path: Path) -> int:
    return int(pc.sum(pq.ParquetFile(path).read(["n_steps"]).column(0)).as_py() or 0)


def _next_session_id(log: Log) -> str:
    known = [entry.body["session_id"] for entry in log.ledger.of("session")]
    known += journal.open_sessions(log.layout)
    numbers = [int(name[2:]) for name in known]
    return f"s-{max(numbers, default=0) + 1:04d}"
