"""A film of a session: its pictures made again, with what raters said of each step.

Determinism:
    The same log at the same moment gives the same GIF to the byte: Pillow's own bitmap letters, no clock.

Personal data:
    Only feedback that may be used for audits, under its pseudonym. Who is shown is in the film for good: no
    erasure reaches a file outside of the log.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit import meanings
from rlhf_audit.errors import StorageError, UsageError
from rlhf_audit.log import durable, reader, recorded, views
from rlhf_audit.log.store import Log
from rlhf_audit.replay import resimulate

Pixels = npt.NDArray[np.uint8]
_SAID = {1.0: ("yes", (46, 160, 67)), 0.0: ("no", (218, 54, 51)), None: ("skip", (140, 140, 140))}
_MIXED = (210, 153, 34)
_LEAST_WIDTH, _LINE, _EDGE = 320, 14, 4
_READ_S = 0.6
"""How long a step with feedback stands still."""
_SLOWEST_FPS, _FASTEST_FPS, _USUAL_FPS = 1, 50, 30
# What usable_for_audit asks of an answer, asked of skips too, which it leaves out.
_ROWS = """
SELECT f.session_id, f.row, f.rater_id, f.episode_id, f.step, f.kind, f.value, f.supersedes,
       f.consent AND g.state = 'given' AND list_contains(g.purposes, 'audit')
       AND g.given_at <= f.answered_at AND f.answered_at < g.expires_at AS usable
FROM feedback f
JOIN sessions s ON s.session_id = f.session_id
JOIN grants g ON g.grant_id = f.grant_id AND g.rater_id = f.rater_id
WHERE coalesce(s.rates, s.session_id) = ?
ORDER BY f.session_n, f.row
"""


@dataclass(frozen=True)
class Remark:
    """What a rater said of a step: 1 yes, 0 no, None skipped."""

    rater_id: str
    value: float | None


@dataclass(frozen=True)
class Film:
    """What was made.

    Attributes:
        steps: How many were made again, and agreed.
        frames: How many pictures.
        remarks: How many answers and skips are in it.
        raters: Whose.
    """

    session_id: str
    steps: int
    frames: int
    remarks: int
    raters: tuple[str, ...]


def film(log: Log, session_id: str, path: Path, as_of: datetime) -> Film:
    """Make a film of the steps of a session, or of those that it rates.

    Args:
        log: Where it is.
        session_id: Which.
        path: A ``.gif`` or ``.mp4``; what is there is replaced.
        as_of: When consent is judged.

    Raises:
        AstrayError: Something comes out otherwise than recorded.
        NoPictureError: The environment has no pictures here.
        UsageError: Another ending, no steps, or a package is missing.
        StorageError: The film can't be written.
    """
    write = _writer(path)
    facts = reader.session_facts(log, session_id)
    facts = reader.session_facts(log, facts["rates"] or session_id)
    if not facts["n_steps"]:
        raise UsageError(
            f"{session_id} has no steps to show", seen="0 steps", needed="a session in which something acted"
        )
    remarks = _remarks(log, facts["session_id"], as_of)
    shown: list[Remark] = []
    pictures = _pictures(log, facts, remarks, shown)
    # Opened before anything is written: not every environment has pictures.
    first = next(pictures)
    try:
        with durable.replacing(path) as temporary:
            n_frames = write(temporary, first, pictures, _fps(facts))
    except OSError as error:
        raise StorageError(
            "the film can't be written",
            seen=error.strerror or type(error).__name__,
            needed="a file in a folder that is there, and room for it",
        ) from error
    raters = tuple(sorted({remark.rater_id for remark in shown}))
    return Film(facts["session_id"], facts["n_steps"], n_frames, len(shown), raters)


def _remarks(log: Log, session_id: str, as_of: datetime) -> dict[tuple[str, int], list[Remark]]:
    """Return what stands and may be shown, by step, in the ledger's order of sessions."""
    connection = views.connect(log, as_of)
    try:
        rows = views.query(connection, _ROWS, [session_id]).to_pylist()
    finally:
        connection.close()
    found: dict[tuple[str, int], list[Remark]] = {}
    for name in dict.fromkeys(row["session_id"] for row in rows):
        own = [row for row in rows if row["session_id"] == name]
        numbers = {row["row"]: place for place, row in enumerate(own)}
        gone = reader.undos((row["kind"], numbers.get(row["supersedes"])) for row in own)
        superseded = {row["supersedes"] for row in own}
        for place, row in enumerate(own):
            if row["usable"] and row["row"] not in superseded and place not in gone:
                remark = Remark(row["rater_id"], row["value"])
                found.setdefault((row["episode_id"], row["step"]), []).append(remark)
    return found


def _pictures(
    log: Log, facts: Mapping[str, Any], remarks: Mapping[tuple[str, int], list[Remark]], shown: list[Remark]
) -> Iterator[tuple[Pixels, bool]]:
    """Yield each picture with what was said drawn on it, and whether anything was."""
    lines = 2 + max(map(len, remarks.values()), default=0)
    space = facts["env"]["action_space"]
    whole = space["type"] == "Discrete"
    words = meanings.action_meanings(facts["env"]["env_id"], int(space["n"])) if whole else ()
    total = 0.0
    for made in resimulate.moments(facts, recorded.episodes(log, facts), frames=True):
        step, said = made.step, list[Remark]()
        if step is None:
            doing, number = "the end", len(made.episode.steps)
        else:
            number, said = step.step, remarks.get((step.episode_id, step.step), [])
            doing = words[step.action - int(space["start"])] if whole else _short(step.action)
            total = 0.0 if number == 0 else total
        heads = (f"episode {made.episode.episode}  step {number}  return {total:g}", f"action: {doing}")
        shown += said
        yield _drawn(np.asarray(made.picture, np.uint8), heads, said, lines), bool(said)
        total = 0.0 if step is None else total + step.env_reward


def _short(action: Any) -> str:
    flat = np.asarray(action, object).reshape(-1)[:6] if isinstance(action, np.ndarray) else [action]
    return " ".join(f"{value:.3g}" if isinstance(value, float) else str(value)[:40] for value in flat)


def _drawn(picture: Pixels, heads: Sequence[str], said: Sequence[Remark], lines: int) -> Pixels:
    """Return the picture, framed in the colour of what was said, with a line for each rater on it."""
    image, draw, font = _pillow("Image"), _pillow("ImageDraw"), _pillow("ImageFont")
    times = -(-_LEAST_WIDTH // picture.shape[1])
    picture = picture.repeat(times, axis=0).repeat(times, axis=1)
    height, width = picture.shape[:2]
    # mp4 takes even sizes only.
    canvas = image.new("RGB", (width + width % 2, height + height % 2 + 2 * ((lines * _LINE + 7) // 2)))
    canvas.paste(image.fromarray(picture), (0, 0))
    pen, letters = draw.Draw(canvas), font.load_default_imagefont()
    below = canvas.size[1] - 2 * ((lines * _LINE + 7) // 2)
    for number, text in enumerate(heads):
        pen.text((_EDGE, below + 2 + number * _LINE), text.encode("latin-1", "replace"), "white", letters)
    for number, remark in enumerate(said, len(heads)):
        word, colour = _SAID[remark.value]
        top = below + 2 + number * _LINE
        pen.rectangle((_EDGE, top + 1, _EDGE + 9, top + 10), colour)
        pen.text((_EDGE + 16, top), f"{remark.rater_id} {word}", "white", letters)
    colours = {_SAID[remark.value][1] for remark in said}
    if colours:
        frame = (0, 0, width - 1, height - 1)
        pen.rectangle(frame, None, colours.pop() if len(colours) == 1 else _MIXED, _EDGE)
    return np.asarray(canvas)


def _fps(facts: Mapping[str, Any]) -> int:
    with contextlib.closing(resimulate.opened(facts)) as env:
        fps = env.metadata.get("render_fps") or _USUAL_FPS
    return int(min(max(fps, _SLOWEST_FPS), _FASTEST_FPS))


def _writer(path: Path) -> Any:
    writers = {".gif": _gif, ".mp4": _mp4}
    if path.suffix.lower() not in writers:
        raise UsageError(
            "that film can't be made",
            seen=repr(os.fspath(path.suffix)),
            needed=".gif or .mp4",
            fix="--video session.gif",
        )
    _pillow("Image")
    if path.suffix.lower() == ".mp4":
        _extra("imageio_ffmpeg")
    return writers[path.suffix.lower()]


def _gif(path: Path, first: tuple[Pixels, bool], rest: Iterator[tuple[Pixels, bool]], fps: int) -> int:
    image = _pillow("Image")
    # Pillow wants to know how long each stands before it has seen them all.
    durations: list[int] = []

    def taken(picture: Pixels, said: bool) -> Any:
        durations.append(int(_READ_S * 1000) if said else max(20, 1000 // fps // 10 * 10))
        return image.fromarray(picture).quantize(256, image.Quantize.FASTOCTREE, dither=image.Dither.NONE)

    one = taken(*first)
    others = [taken(*each) for each in rest]
    one.save(path, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return len(durations)


def _mp4(path: Path, first: tuple[Pixels, bool], rest: Iterator[tuple[Pixels, bool]], fps: int) -> int:
    height, width = first[0].shape[:2]
    # It asks for the ending.
    target = path.with_name(f"{path.name}.mp4")
    film_file = _extra("imageio_ffmpeg").write_frames(
        os.fspath(target), (width, height), fps=fps, macro_block_size=2, ffmpeg_log_level="error"
    )
    film_file.send(None)
    count = 0
    try:
        for picture, said in (pair for source in ([first], rest) for pair in source):
            for _ in range(max(1, round(_READ_S * fps)) if said else 1):
                film_file.send(np.ascontiguousarray(picture))
            count += 1
        film_file.close()
        target.replace(path)
    finally:
        target.unlink(missing_ok=True)
    return count


def _pillow(name: str) -> Any:
    return _extra(f"PIL.{name}")


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            "a film needs a package that is not installed",
            seen=f"no module {module.partition('.')[0]}",
            needed="Pillow for .gif, and imageio-ffmpeg for .mp4",
            fix="pip install 'rlhf-audit[video]'",
        ) from error
