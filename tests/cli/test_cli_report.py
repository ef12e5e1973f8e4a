"""``report``: its files, what it compares with, and that an erasure reaches every file of it."""

import base64
import csv
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, Study

from rlhf_audit.log import reader, recorded
from rlhf_audit.log.store import Log
from rlhf_audit.replay import resimulate
from rlhf_audit.reports import frames
from rlhf_audit.reports.facts import DisputedStep

FILES = {
    *("report.html", "report.json", "report.md", "report-findings.csv", "report-rows.csv"),
    *("report-raters.csv", "report-policies.csv", "report-exports.csv", "report-withdrawals.csv"),
}


@pytest.fixture(autouse=True)
def _in_a_terminal_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_file_is_told_in_the_ledger_and_the_same_again(study: Study, cli: Cli) -> None:
    result = cli("report", study.log, "--to", "out", "--json").result
    told = {
        Path(path).name for path in (result["html"], result["json"], result["markdown"], *result["tables"])
    }
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert told == FILES == set(before)
    (entry,) = Log(study.log).ledger.of("report")
    assert set(entry.body["files"]) == FILES
    for name in (name for name in FILES if name.endswith(".csv")):
        lines = list(csv.reader(io.StringIO(before[name].decode(), newline="")))
        assert lines and {len(line) for line in lines} == {len(lines[0])}
    cli("report", study.log, "--to", "out")
    assert before == {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert len(list(Log(study.log).ledger.of("report"))) == 1, "the same report is no new entry"
    assert cli("verify", study.log).code == 0
    Path("out", "report-rows.csv").write_text("forged")
    reply = cli("verify", study.log)
    assert reply.code == 1 and "report-rows.csv" in reply.out + reply.err


def test_disputed_steps_have_the_pictures_of_those_very_steps(study: Study, cli: Cli) -> None:
    cli("report", study.log, "--to", "out")
    report = json.loads(Path("out", "report.json").read_bytes())
    steps, note = report["figures"]["disputed"], report["figures"]["pictures_note"]
    assert steps and note == "" and all(step["picture"] for step in steps)
    log = Log(study.log)
    facts = reader.session_facts(log, "s-0001")
    every = {
        (made.episode.episode_id, made.number): made.picture
        for made in resimulate.moments(facts, recorded.episodes(log, facts), frames=True)
    }
    for step in steps:
        shown = pixels(base64.b64decode(step["picture"]))
        seen = every[step["episode_id"], step["step"]]
        halved = seen.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3)).round()
        assert np.array_equal(shown, halved), "CartPole's 600 pixels, halved"
    page = Path("out", "report.html").read_text()
    assert page.count("data:image/png;base64,") >= len(steps)


def pixels(png: bytes) -> np.ndarray:
    """Decode an RGB PNG with a reader of our own."""
    place, data, size = 8, b"", (0, 0)
    while place < len(png):
        length, kind = int.from_bytes(png[place : place + 4]), png[place + 4 : place + 8]
        body = png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            size = (int.from_bytes(body[4:8]), int.from_bytes(body[:4]))
        data += body if kind == b"IDAT" else b""
        assert kind in (b"IHDR", b"IDAT", b"IEND"), "no note of who wrote it, or when"
        place += 12 + length
    height, width = size
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 3 * width)
    made = np.zeros((height, width, 3), np.int64)
    for y in range(height):
        made[y] = unfiltered(int(lines[y, 0]), lines[y, 1:].reshape(width, 3).astype(int), made, y)
    return made


def unfiltered(kind: int, line: np.ndarray, made: np.ndarray, y: int) -> np.ndarray:
    above = made[y - 1] if y else np.zeros_like(line)
    if kind in (0, 2):
        return (line + (above if kind else 0)) % 256
    out, left, corner = np.zeros_like(line), np.zeros(3, int), np.zeros(3, int)
    for x, value in enumerate(line):
        up = above[x]
        guess = left + up - corner
        apart = np.stack([abs(guess - one) for one in (left, up, corner)])
        paeth = np.stack([left, up, corner])[apart.argmin(axis=0), range(3)]
        left = (value + {1: left, 3: (left + up) // 2, 4: paeth}[kind]) % 256
        out[x], corner = left, up
    return out


def test_what_cannot_be_drawn_is_said(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(study.log)
    step = DisputedStep("s-0001", "s-0001-e0000", 3, "CartPole-v1", 3, 0.5, ((0.0, 1), (1.0, 2)))
    other = DisputedStep("s-0001", "s-0001-e0000", 9, "CartPole-v1", 3, 0.4, ((0.0, 1), (1.0, 2)))
    (drawn, second), note = frames.pictured(log, [step, other])
    assert drawn.picture and second.picture and note == "" and drawn.step == 3
    with monkeypatch.context() as patched:
        patched.setattr(frames, "_MOST_STEPS", 3)
        left, note = frames.pictured(log, [step])
        assert left == (step,) and note == "more than 3 steps would have to be played again"
    with monkeypatch.context() as patched:
        patched.setattr(frames, "_is_gymnasium_s", lambda env_id: False)
        assert "--frames" in frames.pictured(log, [step])[1]
        assert frames.pictured(log, [step], every_environment=True)[0][0].picture == drawn.picture
    with monkeypatch.context() as patched:
        patched.setattr(resimulate, "same_number", lambda one, other: False)
        left, note = frames.pictured(log, [other])
        assert left == (other,) and "does not come out as it was recorded" in note


@pytest.mark.parametrize(
    ("env_id", "own"),
    [("CartPole-v1", True), ("ALE/Pong-v5", True), ("evil:CartPole-v1", False), ("No-v0", False)],
)
def test_a_stranger_s_environment_is_not_run(env_id: str, own: bool) -> None:
    assert frames._is_gymnasium_s(env_id) is own


def test_against_the_report_it_replaces_and_after_an_erasure(study: Study, cli: Cli) -> None:
    gone = study.raters["always-yes"]
    cli("report", study.log, "--to", "out")
    old = Path("old.json")
    old.write_bytes(Path("out", "report.json").read_bytes())
    assert cli("withdraw", study.log, gone).code == 0
    assert cli("report", study.log, "--to", "out", "--against", "out").code == 0
    change = json.loads(Path("out", "report.json").read_bytes())["against"]
    assert change["n_raters_gone"] == 1 and change["same_log"] and not change["sql"]
    assert any(one["n_gone_unnamed"] for one in change["findings"])
    assert "Since the older report" in Path("out", "report.html").read_text()

    assert any(gone in path.read_text() for path in Path("out").iterdir()), "the erasure is pending"
    assert cli("erase", study.log, gone, "--apply").code == 0
    assert {path.name for path in Path("out").iterdir()} == FILES, "made again, every file of it"
    assert gone in old.read_text()
    assert cli("report", study.log, "--to", "new", "--against", old).code == 0
    for path in (*Path("out").iterdir(), *Path("new").iterdir()):
        assert gone not in path.read_text(), path
    assert cli("verify", study.log).code == 0


def test_what_is_no_report_is_refused_before_anything_is_written(study: Study, cli: Cli) -> None:
    for name, content in (("none.json", None), ("receipt.json", '{"schema": "rlhf_audit.receipt/1"}')):
        if content is not None:
            Path(name).write_text(content)
        reply = cli("report", study.log, "--to", "out", "--against", name)
        assert reply.code == 4 and len(reply.err.strip().splitlines()) == 3 and reply.out == ""
        assert "error: that is no report to compare with" in reply.err
        assert not Path("out").exists()
