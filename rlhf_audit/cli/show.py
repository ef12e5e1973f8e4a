"""``show``: list what a log holds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rlhf_audit.cli import _console, _feedback_rows, _tables
from rlhf_audit.cli._options import AsJson, LogPath, open_log
from rlhf_audit.errors import UsageError, near
from rlhf_audit.log.store import Log

EXAMPLE = "rlhf-audit show study feedback --session s-0001"

Row = dict[str, Any]

_QUERIES = {
    "sessions": "SELECT session_id, rater_id, env_id, kind, source, rates, learn, seed, n_episodes, n_steps,"
    " n_feedback, sealed_at FROM sessions WHERE {where} ORDER BY session_n",
    "raters": "SELECT rater_id, scripted, enrolled_at, groups FROM raters WHERE {where} ORDER BY enrolled_at",
    "consent": "SELECT grant_id, rater_id, state, asked_purposes,"
    " CASE WHEN state <> 'refused' THEN purposes ELSE [] END AS purposes, method, given_by,"
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
    "SELECT session_id, f.row, rater_id, episode_id, step, s.acted_in, s.action, f.kind, f.value,"
    " f.supersedes, f.latency_s, f.answered_at FROM feedback f"
    " JOIN (SELECT episode_id, step, session_id AS acted_in, action FROM steps) s USING (episode_id, step)"
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
    jsonld: Annotated[
        bool, typer.Option("--jsonld", help="consent of one rater: a JSON-LD document in W3C DPV terms.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what a log holds.

    feedback says in words what each rater did, in the order in which they did it; raters tells the
    alias that you gave them, which no report holds. On a terminal long digests are cut short, and a
    wide table goes on below; --json and a pipe have everything whole.
    """
    if what not in _WHAT:
        raise UsageError(
            f"there is nothing called {_console.printable(what)!r} to show",
            seen=near(what, _WHAT) or "a word that names nothing",
            needed=f"one of {', '.join(sorted(_WHAT))}",
            fix="rlhf-audit show LOG sessions",
        )
    log = open_log(log_path)
    _check(log, wanted := _Wanted(what, session, rater))
    if jsonld:
        _jsonld(log, wanted, as_json)
        return
    rows = _LISTS.get(what, _listed)(log, wanted)
    head = log.ledger.head
    _console.emit("show", head, {"what": what, "rows": rows}, _text(what, rows), as_json)


def _jsonld(log: Log, wanted: _Wanted, as_json: bool) -> None:
    from rlhf_audit.consent import dpv

    if wanted.what != "consent" or wanted.rater is None or as_json:
        raise UsageError(
            "--jsonld is the consents of one rater",
            seen=f"show LOG {wanted.what}{' --json' if as_json else ''}",
            needed="consent, --rater R, and no --json",
            fix="rlhf-audit show LOG consent --rater R --jsonld",
        )
    document = dpv.document(log, wanted.rater, log.clock.now())
    _console.out(json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False))


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
                seen=f"show LOG {wanted.what} {option}",
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


def _raters(log: Log, wanted: _Wanted) -> list[Row]:
    """Return who takes part, with what the operator calls them: the one list that names a person."""
    from rlhf_audit.log import reader

    aliases = reader.aliases(log)
    rows = _listed(log, wanted)
    return [{"rater_id": row["rater_id"], "alias": aliases.get(row["rater_id"], "")} | row for row in rows]


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
    from rlhf_audit.withdrawal import hold

    erased = {entry.body["rater_id"]: from_text(entry.at) for entry in log.ledger.of("erasure-done")}
    shown = []
    for entry in log.ledger.of("withdrawal"):
        rater_id, due = entry.body["rater_id"], from_text(entry.body["erase_by"])
        if wanted.rater in (None, rater_id):
            row = {"rater_id": rater_id, "purposes": entry.body["purposes"]}
            row |= {"withdrawn_at": from_text(entry.at), "erase_by": due, "erased_at": erased.get(rater_id)}
            held = rater_id not in erased and hold.of(log, rater_id) is not None
            late = rater_id not in erased and due < log.clock.now()
            shown.append(row | {"overdue": late and not held, "held": held})
    return shown


def _feedback(log: Log, wanted: _Wanted) -> list[Row]:
    return _feedback_rows.told(log, _query(log, _FEEDBACK, wanted))


_LISTS: dict[str, Callable[[Log, _Wanted], list[Row]]] = {
    "feedback": _feedback,
    "ledger": _ledger,
    "raters": _raters,
    "terms": _terms,
    "withdrawals": _withdrawals,
}


def _text(what: str, rows: Sequence[Row]) -> str:
    if what == "terms":
        first = rows[0]
        # The text is the operator's own.
        digest = f"version {first['version']}, SHA-256 {first['terms_sha256']}"
        return f"{_console.shown(first['text'])}\n\n{digest}"
    if not rows:
        return f"no {what}"
    if what != "feedback":
        return _table(rows)
    if _tables.room() is None:
        return f"{_table(rows)}\n\n{_summary(rows)}"
    # What is the same in every row of a session is said once.
    parts = []
    for session_id, own in _feedback_rows.by_session(rows):
        said = {"session_id", "rater_id", "action"}
        shown = [{name: value for name, value in row.items() if name not in said} for row in own]
        parts.append(f"{session_id}, by {own[0]['rater_id']}\n{_table(shown)}")
    return "\n\n".join([*parts, _summary(rows)])


def _table(rows: Sequence[Row]) -> str:
    written = _whole if _tables.room() is None else _brief
    return _tables.table(list(rows[0]), [[written(value) for value in row.values()] for row in rows])


def _whole(value: Any) -> Any:
    """Return what a file or a pipe is given: everything."""
    nested = isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values())
    return json.dumps(_console.jsonable(value), ensure_ascii=False) if nested else value


def _brief(value: Any) -> Any:
    """Return what a window has room for: a digest's first digits, a ledger entry's plain values."""
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:12]}…"
    if isinstance(value, dict):
        known = {name: inner for name, inner in value.items() if inner is not None}
        plain = {name: _within(inner) for name, inner in known.items() if not _is_nested(inner)}
        return [plain, "…"] if len(plain) < len(known) else plain
    return value


def _within(value: Any) -> Any:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else _brief(value)


def _is_nested(value: Any) -> bool:
    inner = value if isinstance(value, list) else ()
    return isinstance(value, dict) or any(isinstance(one, dict | list) for one in inner)


def _summary(rows: Sequence[Row]) -> str:
    """Return what the rows come to."""
    standing = [row["did"] for row in rows if row["stands"]]
    n_undone = sum(row["did"].startswith("took back") for row in rows)
    counts = {word: standing.count(word) for word in ("yes", "no", "skipped")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"{len(rows)} rows: {told}; {n_undone} taken back"
