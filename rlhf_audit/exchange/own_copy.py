"""A rater's own copy: all that is held about them, in a folder that they can read (GDPR, articles 15 and 20).

It is no hand-out: it goes to nobody but the rater. So consent decides nothing, an erasure tells nobody of it,
and the ledger notes only that it was made.

Personal data:
    All of it. The folder is the operator's to hand over and then to delete; the log doesn't know where it is.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from rlhf_audit.clock import to_text
from rlhf_audit.consent import dpv, register, terms
from rlhf_audit.errors import UsageError
from rlhf_audit.log import artefacts, durable, keys, reader, recorded
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.meanings import action_in_words

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Their own id in lists of several, and what they are called in an export, stay; those of others go.
_OTHERS = ("rater_ids", "names")


def make(log: Log, rater_id: str, folder: Path) -> dict[str, int]:
    """Write a rater's own copy, readable by its owner alone; return how many of each thing it holds.

    Args:
        log: Whose.
        rater_id: Who asks; one who has withdrawn may ask as well.
        folder: A new or empty one, outside the log.

    Raises:
        UsageError: No such rater, or the folder is taken.
        LogError: What is held about them is damaged.
    """
    with log.writing():
        register.rater(log, rater_id)
        durable.check_writable(folder)
        files, counts = _content(log, rater_id)
        durable.make_folder(folder)
        folder.chmod(0o700)
        try:
            for name, data in files.items():
                durable.make_folder((folder / name).parent)
                durable.write(folder / name, data, mode=0o600)
            log.append("copy", {"rater_id": rater_id})
        except BaseException:
            for name in files:
                durable.destroy(folder / name)
            raise
    return counts


def check_free(log: Log, folder: Path) -> None:
    """Refuse a folder that lies inside the log or holds something.

    Raises:
        UsageError: It does.
    """
    inside = not log.layout.recorded(folder).startswith("../")
    taken = os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir()))
    if inside or taken:
        raise UsageError(
            "an export needs a folder of its own",
            seen="a place inside the log" if inside else "a folder that holds something, or no folder",
            needed="a new or empty folder, outside of the log",
            fix="--to ANOTHER-FOLDER",
        )


def _content(log: Log, rater_id: str) -> tuple[dict[str, bytes], dict[str, int]]:
    now = log.clock.now()
    key = keys.read(log.layout, rater_id)
    enrolment = next(e for e in log.ledger.of("enrolled") if e.body["rater_id"] == rater_id)
    rows = _feedback(log, rater_id)
    steps = _steps(log, rows)
    consents = dpv.document(log, rater_id, now)
    made = _made_from(log, rater_id)
    entries = [
        _only_theirs(entry.body, rater_id) | {"seq": entry.seq, "at": entry.at, "event": entry.event}
        for entry in log.ledger.entries
        if _names(entry.body, rater_id)
    ]
    you = {
        "rater_id": rater_id,
        "alias": key.alias,
        "groups": key.groups,
        "scripted": enrolment.body["scripted"],
        "enrolled_at": enrolment.at,
        "copied_at": to_text(now),
        "also_held": "a random key, and a slow hash of your withdrawal code: secrets that say nothing of you",
    }
    files = {
        "you.json": _json(you),
        "consents.jsonld": _json(consents),
        "feedback.json": _json(rows),
        "feedback.csv": _csv(rows),
        "steps.json": _json(steps),
        "made-from-it.json": _json(made),
        "ledger.json": _json(entries),
    }
    files |= _terms(log, rater_id)
    counts = {"consents": len(consents["@graph"]), "feedback": len(rows), "steps": len(steps)}
    counts |= {name: len(found) for name, found in made.items()} | {"ledger": len(entries)}
    return {"index.html": _page(you, counts, sorted(files)), **files}, counts


def _feedback(log: Log, rater_id: str) -> list[dict[str, Any]]:
    """Return every row that they gave, taken back or not, with the session it was given in."""
    found = []
    for session_id, facts in log.whereabouts.sessions.items():
        if facts["rater_id"] == rater_id:
            for number, row in enumerate(reader.session(log, session_id).feedback or ()):
                named = {name: _plain(getattr(row, name)) for name in row.__dataclass_fields__}
                found.append({"session_id": session_id, "row": number} | named)
    return found


def _steps(log: Log, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps that they were asked about: what the program saw and did."""
    about = {(row["episode_id"], row["step"]) for row in rows}
    about |= {(row["other_episode_id"], row["other_step"]) for row in rows if row["other_episode_id"]}
    found = []
    for session_id in sorted({episode.rpartition("-e")[0] for episode, _ in about}):
        facts = reader.session_facts(log, session_id)
        env = facts["env"]
        for episode in recorded.episodes(log, facts):
            for step in episode.steps if any(name == episode.episode_id for name, _ in about) else ():
                if (step.episode_id, step.step) in about:
                    said = action_in_words(env["env_id"], env["action_space"], step.action)
                    shown = {"episode_id": step.episode_id, "step": step.step, "env_id": env["env_id"]}
                    seen = {"observation": _plain(step.observation), "action": _plain(step.action)}
                    found.append(shown | seen | {"action_in_words": said, "env_reward": step.env_reward})
    return found


def _made_from(log: Log, rater_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the policies and reports that hold them, the exports and who has those, and the withdrawals."""

    def told(kind: ArtefactKind, names: tuple[str, ...]) -> list[dict[str, Any]]:
        held = [one for one in artefacts.current(log, kind) if one.holds(rater_id)]
        return [{"name": one.folder.name} | {name: one.facts[name] for name in names} for one in held]

    exports = [
        {
            "made_at": entry.at,
            "purpose": entry.body["purpose"],
            "format": entry.body["format"],
            "recipient": entry.body["recipient"] or "not written down",
            "your_name_in_it": entry.body["names"].get(rater_id),
        }
        for entry in log.ledger.of("export")
        if rater_id in entry.body["rater_ids"]
    ]
    withdrawals = [
        {"withdrawn_at": e.at, "purposes": e.body["purposes"], "erase_by": e.body["erase_by"]}
        for e in log.ledger.of("withdrawal")
        if e.body["rater_id"] == rater_id
    ]
    sessions = [
        {name: facts[name] for name in ("session_id", "kind", "source", "grant_id", "n_steps", "n_feedback")}
        for facts in log.whereabouts.sessions.values()
        if facts["rater_id"] == rater_id
    ]
    return {
        "sessions": sessions,
        "policies": told(ArtefactKind.POLICY, ("algorithm", "weights_sha256")),
        "reports": told(ArtefactKind.REPORT, ()),
        "exports": exports,
        "withdrawals": withdrawals,
    }


def _names(body: Mapping[str, Any], rater_id: str) -> bool:
    return body.get("rater_id") == rater_id or rater_id in body.get("rater_ids", ())


def _only_theirs(body: Mapping[str, Any], rater_id: str) -> dict[str, Any]:
    """Return an entry without the other raters that it names: those are other people's data."""
    own: dict[str, Any] = {name: value for name, value in body.items() if name not in _OTHERS}
    if "rater_ids" in body:
        own["rater_ids"] = [rater_id]
    if "names" in body:
        own["names"] = {rater_id: body["names"].get(rater_id)}
    return own


def _terms(log: Log, rater_id: str) -> dict[str, bytes]:
    """Return the texts that they were asked about, exactly as shown."""
    asked = {e.body["terms_sha256"] for e in log.ledger.of("consent") if e.body["rater_id"] == rater_id}
    return {f"terms/{digest}.md": terms.text(log, digest).encode() for digest in sorted(asked)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, bytes):
        return value.hex()
    return _plain(value.tolist()) if hasattr(value, "tolist") else value


def _json(value: Any) -> bytes:
    # ASCII: nothing in it can fool an editor or a terminal.
    return (json.dumps(value, indent=1) + "\n").encode()


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _page(you: Mapping[str, Any], counts: Mapping[str, int], names: list[str]) -> bytes:
    return "".join(_lines(you, counts, names)).encode("ascii", "xmlcharrefreplace")


def _lines(you: Mapping[str, Any], counts: Mapping[str, int], names: list[str]) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Your own copy</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield "<style>body{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
    yield "dt{font-weight:bold}</style></head><body><h1>Your own copy</h1>"
    yield f"<p>All that is held about you, as of {escape(you['copied_at'][:16])} UTC. You need no reason to"
    yield " ask for it, and it may be copied on to anybody you like.</p><dl>"
    facts = [("random name", you["rater_id"]), ("what you are called", you["alias"] or "nothing")]
    for name, value in [*facts, *you["groups"].items()]:
        yield f"<dt><bdi>{escape(_visible(name))}</bdi></dt><dd><bdi>{escape(_visible(value))}</bdi></dd>"
    yield "</dl><h2>How much there is</h2><ul>"
    for name, count in counts.items():
        yield f"<li>{escape(name)}: {count}</li>"
    yield "</ul><h2>The files</h2><dl>"
    for name in names:
        said = _SAID.get(name, "a text that you were asked about, exactly as it was shown")
        yield f'<dt><a href="{escape(name)}">{escape(name)}</a></dt><dd>{said}.</dd>'
    yield "</dl><p>To stop all use of it you need no reason either: your withdrawal code, or a word to"
    yield " whoever runs the study. Within a month all of this is then deleted.</p></body></html>\n"


def _visible(text: str) -> str:
    """Return text with what can't be seen, or would turn a line around, by its code."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


_SAID = {
    "you.json": "what you are called, your groups, and when you joined",
    "consents.jsonld": "what you agreed to, refused and took back, in the terms of W3C DPV",
    "feedback.json": "every answer that you gave, taken back or not",
    "feedback.csv": "the same for a spreadsheet; a text that would be a formula begins with '",
    "steps.json": "the steps that you were asked about: what the program saw and did",
    "made-from-it.json": "your sessions, and the policies, reports and exports that hold your answers, and"
    " who has those",
    "ledger.json": "every entry of the list of events that names you; other people are left out",
}
