"""``show``: list what a log holds."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import UsageError, near
from rlhf_audit.log.store import Log

EXAMPLE = "rlhf-audit show study feedback --session s-0001"

Row = dict[str, Any]

# Aliases are in no view, so nothing here can show one.
_QUERIES = {
    "sessions": "SELECT session_id, rater_id, env_id, kind, source, rates, learn, seed, n_episodes, n_steps,"
    " n_feedback, sealed_at FROM sessions WHERE {where} ORDER BY session_n",
    "raters": "SELECT rater_id, scripted, enrolled_at, groups FROM raters WHERE {where} ORDER BY enrolled_at",
    "consent": "SELECT grant_id, rater_id, state, asked_purposes, purposes, method,"
    " given_at, expires_at, terms_sha256"
    " FROM grants WHERE {where} ORDER BY grant_id",
    "episodes": "SELECT session_id, rater_id, episode_id, env_id, reset_seed, e.n_steps,"
    " (SELECT sum(env_reward ORDER BY step) FROM steps t WHERE t.episode_id = e.episode_id) AS return"
    " FROM episodes e JOIN (SELECT session_id, rater_id FROM sessions) USING (session_id)"
    " WHERE {where} ORDER BY session_n, episode",
    "policies": "SELECT name, path, state, algorithm, rows, rater_ids, weights_sha256, trained_at"
    " FROM policies",
    "reports": "SELECT path, state, rater_ids, made_at FROM reports",
    "ledger": "SELECT seq, noted_at, event, body FROM ledger ORDER BY seq",
}
_FEEDBACK = (
    "SELECT session_id, f.row, rater_id, episode_id, step, s.env_id, s.action, f.kind, f.value, f.supersedes,"
    " f.latency_s, f.answered_at FROM feedback f"
    " JOIN (SELECT episode_id, step, env_id, action FROM steps) s USING (episode_id, step)"
    " WHERE {where} ORDER BY session_n, f.row"
)
_BY_SESSION = ("sessions", "episodes", "feedback")
_BY_RATER = (*_BY_SESSION, "raters", "consent", "withdrawals")
_WHAT = (*_QUERIES, "feedback", "terms", "withdrawals")


@dataclass(frozen=True)
class _Wanted:
    what: str
    session: str | None
    rater: str | None


def run(
    log_path: LogPath,
    what: Annotated[
        str, typer.Argument(metavar="WHAT", show_default=False, help=f"One of {', '.join(sorted(_WHAT))}.")
    ],
    session: Annotated[str | None, typer.Option(metavar="S", help="Only of this session.")] = None,
    rater: Annotated[str | None, typer.Option(metavar="R", help="Only of this rater.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what a log holds.

    feedback says in words what each rater did, in the order in which they did it.
    """
    if what not in _WHAT:
        raise UsageError(
            f"there is nothing called {_console.printable(what)!r} to show",
            seen=near(what, _WHAT),
            needed=f"one of {', '.join(sorted(_WHAT))}",
            fix="rlhf-audit show LOG sessions",
        )
    log = open_log(log_path)
    _check(log, wanted := _Wanted(what, session, rater))
    rows = _LISTS.get(what, _listed)(log, wanted)
    head = log.ledger.head
    _console.emit("show", head, {"what": what, "rows": rows}, _text(what, rows), as_json)


def _check(log: Log, wanted: _Wanted) -> None:
    from rlhf_audit.consent import register
    from rlhf_audit.log import reader

    for option, given, whats in (
        ("--session", wanted.session, _BY_SESSION),
        ("--rater", wanted.rater, _BY_RATER),
    ):
        if given is not None and wanted.what not in whats:
            raise UsageError(
                f"{option} does not go with {wanted.what}",
                needed=f"one of {', '.join(sorted(whats))}",
                fix=f"rlhf-audit show LOG {wanted.what}",
            )
    if wanted.session is not None:
        reader.session_facts(log, wanted.session)
    if wanted.rater is not None:
        register.rater(log, wanted.rater)


def _query(log: Log, sql: str, wanted: _Wanted) -> list[Row]:
    from rlhf_audit.cli._query import fetch

    given = {"session_id": wanted.session, "rater_id": wanted.rater}
    chosen = {name: value for name, value in given.items() if value is not None}
    where = " AND ".join(f"{name} = ${name}" for name in chosen) or "true"
    return fetch(log, sql.format(where=where), chosen).mappings()


def _listed(log: Log, wanted: _Wanted) -> list[Row]:
    return _query(log, _QUERIES[wanted.what], wanted)


def _ledger(log: Log, wanted: _Wanted) -> list[Row]:
    rows = _listed(log, wanted)
    own = ("seq", "at", "event", "prev")
    for row in rows:
        row["body"] = {name: value for name, value in json.loads(row["body"]).items() if name not in own}
    return rows


def _terms(log: Log, _wanted: _Wanted) -> list[Row]:
    from rlhf_audit.consent import terms

    digest, version, text = terms.current(log)
    return [{"version": version, "terms_sha256": digest, "text": text}]


def _withdrawals(log: Log, wanted: _Wanted) -> list[Row]:
    """Return all there were: the views know nothing of a rater any more once an erasure has begun."""
    from rlhf_audit.clock import from_text

    erased = {entry.body["rater_id"]: from_text(entry.at) for entry in log.ledger.of("erasure-done")}
    shown = []
    for entry in log.ledger.of("withdrawal"):
        rater_id, due = entry.body["rater_id"], from_text(entry.body["erase_by"])
        if wanted.rater in (None, rater_id):
            row = {"rater_id": rater_id, "purposes": entry.body["purposes"]}
            row |= {"withdrawn_at": from_text(entry.at), "erase_by": due, "erased_at": erased.get(rater_id)}
            shown.append(row | {"overdue": rater_id not in erased and due < log.clock.now()})
    return shown


def _feedback(log: Log, wanted: _Wanted) -> list[Row]:
    """Return each row with what was done in words: an undo and a skip look alike in the file."""
    found = _query(log, _FEEDBACK, wanted)
    undos: set[tuple[str, int]] = set()
    taken_back: set[tuple[str, int]] = set()
    for row in found:
        target = (row["session_id"], row["supersedes"])
        # A skip that supersedes takes something back, unless what it follows is itself an undo.
        if row["kind"] == "skip" and row["supersedes"] is not None and target not in undos:
            undos.add((row["session_id"], row["row"]))
            taken_back.add(target)
    meanings = _meanings(log)
    shown = []
    for row in found:
        place = (row["session_id"], row["row"])
        plain = ("session_id", "row", "rater_id", "episode_id", "step", "action")
        shown.append(
            {name: row[name] for name in plain}
            | {
                "action_meaning": meanings[row["env_id"]][row["action"]],
                "did": _did(row, place in undos),
                "stands": place not in undos | taken_back,
                "latency_s": row["latency_s"],
                "answered_at": row["answered_at"],
            }
        )
    return shown


def _meanings(log: Log) -> dict[str, tuple[str, ...]]:
    from rlhf_audit.envs import action_meanings

    envs = [entry.body["env"] for entry in log.ledger.of("session")]
    return {env["env_id"]: action_meanings(env["env_id"], env["action_space"]["n"]) for env in envs}


def _did(row: Mapping[str, Any], undo: bool) -> str:
    if undo:
        return f"took back row {row['supersedes']}"
    if row["kind"] == "skip":
        return "skipped"
    return {1.0: "yes", 0.0: "no"}.get(row["value"], f"{row['kind']} {row['value']}")


_LISTS: dict[str, Callable[[Log, _Wanted], list[Row]]] = {
    "feedback": _feedback,
    "ledger": _ledger,
    "terms": _terms,
    "withdrawals": _withdrawals,
}


def _text(what: str, rows: Sequence[Row]) -> str:
    if what == "terms":
        first = rows[0]
        # Line by line: the text is the operator's own, and its lines are to stay lines.
        lines = [_console.printable(line) for line in first["text"].splitlines()]
        return "\n".join([*lines, "", f"version {first['version']}, SHA-256 {first['terms_sha256']}"])
    if not rows:
        return f"no {what}"
    text = _console.table(list(rows[0]), [[_brief(value) for value in row.values()] for row in rows])
    return f"{text}\n\n{_summary(rows)}" if what == "feedback" else text


def _brief(value: Any) -> Any:
    """Return what a table has room for: a digest's first digits, a ledger entry's plain values."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}…"
    if isinstance(value, dict):
        plain = {name: inner for name, inner in value.items() if isinstance(inner, str | int | float)}
        return {name: _brief(inner) for name, inner in list(plain.items())[:6]}
    return value


def _summary(rows: Sequence[Row]) -> str:
    """Return what the rows come to."""
    standing = [row["did"] for row in rows if row["stands"]]
    n_undone = sum(row["did"].startswith("took back") for row in rows)
    counts = {word: standing.count(word) for word in ("yes", "no", "skipped")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"{len(rows)} rows: {told}; {n_undone} taken back"
