"""What raters gave, row by row, as ``show`` tells it."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rlhf_audit.errors import LogError
from rlhf_audit.log.store import Log

Row = dict[str, Any]


def told(log: Log, found: Sequence[Row]) -> list[Row]:
    """Return each row with what was done in words: an undo and a skip look alike in the file.

    Raises:
        LogError: A step that was rated can't be read.
    """
    undone, taken_back = _undone(found)
    actions = _actions(log, found)
    shown = []
    for row, (action, meaning) in zip(found, actions, strict=True):
        place = (row["session_id"], row["row"])
        plain = ("session_id", "row", "rater_id", "episode_id", "step")
        shown.append(
            {name: row[name] for name in plain}
            | {
                "action": action,
                "action_meaning": meaning,
                "did": _did(row, place in undone),
                "stands": place not in undone | taken_back,
                "latency_s": row["latency_s"],
                "answered_at": row["answered_at"],
            }
        )
    return shown


def _undone(rows: Sequence[Row]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Return the session and number of each row that takes another back, and of those taken back."""
    from rlhf_audit.log import reader

    undone, taken_back = set(), set()
    for session_id, own in by_session(rows):
        for number in reader.undos((row["kind"], row["supersedes"]) for row in own):
            undone.add((session_id, number))
            taken_back.add((session_id, own[number]["supersedes"]))
    return undone, taken_back


def by_session(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows of each session, in the order given."""
    groups = groupby(rows, key=lambda row: str(row["session_id"]))
    return [(session_id, list(own)) for session_id, own in groups]


def _actions(log: Log, rows: Sequence[Row]) -> list[tuple[Any, str]]:
    """Return each rated action, as JSON can say it, and in words."""
    from rlhf_audit.log import reader
    from rlhf_audit.meanings import action_in_words
    from rlhf_audit.spaces.holding import holds

    acted = {name: reader.session_facts(log, name)["env"] for name in {row["acted_in"] for row in rows}}
    read = _read_actions(log, rows, acted)
    found = []
    for row in rows:
        env = acted[row["acted_in"]]
        action = read.get((row["episode_id"], row["step"]), row["action"])
        if action is None or not holds(env["action_space"], action):
            raise LogError(
                f"a step that {row['session_id']} rates can't be read",
                seen=f"action {action} at step {row['step']} of {row['episode_id']}",
                needed=_needed(env["action_space"]),
                fix="rlhf-audit verify LOG",
            )
        said = action_in_words(env["env_id"], env["action_space"], action)
        found.append((_plain(action), said))
    return found


def _read_actions(
    log: Log, rows: Sequence[Row], acted: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, int], Any]:
    """Return the actions that the view of all steps doesn't hold: those that are no single whole number."""
    from rlhf_audit.log import reader, recorded

    wanted = {(row["episode_id"], row["step"]) for row in rows if row["action"] is None}
    sessions = {row["acted_in"] for row in rows if row["action"] is None}
    found = {}
    for name in sorted(sessions):
        if acted[name]["action_space"]["type"] == "Discrete":
            continue
        for episode in recorded.episodes(log, reader.session_facts(log, name)):
            for number in range(len(episode.columns)):
                if (episode.episode_id, number) in wanted:
                    found[episode.episode_id, number] = episode.columns.actions[number]
    return found


def _needed(space: Mapping[str, Any]) -> str:
    if space["type"] == "Discrete":
        return f"an action from {space['start']} to {space['start'] + space['n'] - 1}"
    return f"an action of its {space['type']} space"


def _plain(action: Any) -> Any:
    if isinstance(action, Mapping):
        return {name: _plain(member) for name, member in action.items()}
    if isinstance(action, tuple):
        return [_plain(member) for member in action]
    return action.tolist() if hasattr(action, "tolist") else action


def _did(row: Mapping[str, Any], undo: bool) -> str:
    if undo:
        return f"took back row {row['supersedes']}"
    if row["kind"] == "skip":
        return "skipped"
    return {1.0: "yes", 0.0: "no"}.get(row["value"], f"{row['kind']} {row['value']}")
