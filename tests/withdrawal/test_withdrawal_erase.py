"""An erased rater is gone from every byte, and the policy is the one that never knew them."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit import canonical
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, LockedError, UsageError
from rlhf_audit.log import keys, reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store as policies
from rlhf_audit.recording import Request, record
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan, receipt, residue

PANEL = ("oracle", "flip-20", "inverted", "oracle", "favours-1")
ALIASES = [f"Erika Musterfrau the {name}" for name in ("first", "second", "third", "fourth", "fifth")]


def panel(home: Path, leaves_out: int | None = None) -> tuple[Log, list[str]]:
    """Five scripted raters rate one session that a sixth recorded; one of them may never have been there."""
    log = small_log.empty(home / "log", seed=7 if leaves_out is None else 8 + leaves_out)
    sixth = small_log.join(log, alias="Somebody Else")
    first = small_log.acts(log, sixth, n=20)
    raters = []
    for number, name in enumerate(PANEL):
        if number != leaves_out:
            raters.append(small_log.join(log, name, ALIASES[number]))
            small_log.rates(log, raters[-1], first, name, seed=100 + number)
    return log, raters


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The panel's log, a policy trained from it, and a report in it."""
    from rlhf_audit.replay import retrain
    from rlhf_audit.reports import publish

    home = tmp_path_factory.mktemp("panel") / "home"
    log, raters = panel(home)
    with pytest.MonkeyPatch.context() as patched:
        small_log.cheap_training(patched)
        retrain.retrain(log, home / "policies" / "all", seed=11)
        publish.publish(log, home / "log" / "reports" / "one")
    assert verify(home / "log").ok
    return home, raters


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not matter what is learnt."""
    small_log.cheap_training(monkeypatch)


def copied(taught: tuple[Path, list[str]], tmp_path: Path) -> tuple[Log, list[str]]:
    shutil.copytree(taught[0], tmp_path / "home")
    return Log(tmp_path / "home" / "log"), taught[1]


# --- an independent search


def parts_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every structure of a file, by name: nothing of ``withdrawal.residue`` is used."""
    raw = path.read_bytes()
    yield "bytes", raw
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        yield "footer", repr((file.metadata.to_dict(), file.metadata.metadata, file.schema_arrow)).encode()
        for group in range(file.metadata.num_row_groups):
            for number in range(file.metadata.num_columns):
                chunk = file.metadata.row_group(group).column(number)
                yield "statistics", repr(chunk.statistics).encode()
        table = file.read()
        for name in table.column_names:
            yield "values", repr(table.column(name).to_pylist()).encode()
        flat = io.BytesIO()
        pq.write_table(table, flat, compression="none", use_dictionary=False)
        yield "flat", flat.getvalue()
    start = raw.find(b"\x28\xb5\x2f\xfd")
    while start >= 0:
        stream, held = pa.CompressedInputStream(pa.BufferReader(raw[start:]), "zstd"), b""
        try:
            while byte := stream.read(1):
                held += byte
        except OSError:
            held += b""
        yield "frame", held
        start = raw.find(b"\x28\xb5\x2f\xfd", start + 1)
    if path.suffix == ".npz":
        with np.load(path) as archive:
            yield "arrays", repr({name: archive[name].tobytes() for name in archive.files}).encode()


def found(home: Path, needles: list[bytes]) -> set[str]:
    """Names of the files and folders below ``home`` in which a needle is, or a name of which has one."""
    names = set()
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if any(needle in name.encode() for needle in needles) or (
            path.is_file() and any(needle in part for _, part in parts_of(path) for needle in needles)
        ):
            names.add(name)
    return names


def spelt(key: keys.RaterKey) -> list[bytes]:
    raw = [key.mac_key, key.code_hash, key.code_salt]
    return [key.alias.encode(), *raw, *(one.hex().encode() for one in raw)]


# --- erasure


@pytest.fixture(scope="module")
def truly_taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    from rlhf_audit.replay import retrain

    home = tmp_path_factory.mktemp("panel") / "home"
    log, raters = panel(home)
    retrain.retrain(log, home / "policies" / "all", seed=11)
    return home, raters


@pytest.mark.parametrize("which", [0, 2, 4], ids=["first", "middle", "last"])
def test_the_policy_is_the_one_of_a_log_that_never_knew_them(
    which: int, truly_taught: tuple[Path, list[str]], tmp_path: Path
) -> None:
    from rlhf_audit.replay import retrain

    log, raters = copied(truly_taught, tmp_path)
    before = policies.load(tmp_path / "home" / "policies" / "all").weights_sha256
    erased = erase.apply(log, raters[which]).to_json()
    control, _ = panel(tmp_path / "control", leaves_out=which)
    never = retrain.retrain(control, tmp_path / "control" / "policies" / "all", seed=11)
    after = policies.load(tmp_path / "home" / "policies" / "all").weights_sha256
    assert after == never.weights_sha256 != before
    assert erased["policies"] == [{"name": "all", "before": before, "after": after}]
    assert verify(log.layout.root).ok


@pytest.mark.usefixtures("cheap")
def test_nothing_is_left_and_the_same_search_found_it_before(
    taught: tuple[Path, list[str]], tmp_path: Path
) -> None:
    log, raters = copied(taught, tmp_path)
    home, rater_id = tmp_path / "home", raters[1]
    secrets = spelt(keys.read(log.layout, rater_id))
    folder = f"log/feedback/rater_id={rater_id}"
    # The positive control: one of each structure.
    assert found(home, secrets) == {f"log/keys/{rater_id}.key"}
    assert found(home, [rater_id.encode()]) == {
        f"log/keys/{rater_id}.key",
        folder,
        f"{folder}/s-0003.parquet",
        "log/ledger/entries.jsonl",
        "log/reports/one/report.json",
        "log/reports/one/report.html",
        "policies/all/manifest.json",
        "policies/all/CARD.md",
    }
    done = erase.apply(log, rater_id)
    assert found(home, secrets) == set()
    assert found(home, [rater_id.encode()]) == {
        "log/ledger/entries.jsonl",
        "log/receipts/receipt-0001.json",
        "log/receipts/receipt-0001.html",
    }
    told = json.loads(done.receipt.read_bytes())
    assert told["residue_scan"]["found"] == 0 and told["residue_scan"]["alias_and_key_searched"]
    assert receipt.signature_holds(done.receipt, log.public_key)
    tampered = done.receipt.read_bytes().replace(b'"rows":', b'"rows":1')
    (tmp_path / "false.json").write_bytes(tampered)
    assert not receipt.signature_holds(tmp_path / "false.json", log.public_key)


def test_our_own_search_sees_what_is_hidden_in_each_structure(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    key = replace(keys.read(log.layout, raters[0]), alias="Zoë Quite-Unusual")
    needles = residue.needles_of(key)
    assert residue.scan(log, needles).found == tuple(
        sorted(
            [
                f"feedback/rater_id={raters[0]}",
                f"feedback/rater_id={raters[0]}/s-0001.parquet",
                f"keys/{raters[0]}.key",
            ]
        )
    )
    filler = [f"filler {n}" for n in range(999)]
    hidden: dict[str, Callable[[str], bytes]] = {
        "value": lambda word: parquet({"x": [*filler, word]}, write_statistics=False),
        "first value": lambda word: parquet({"x": [word, *filler]}, write_statistics=False),
        "dictionary": lambda word: parquet({"x": [word, *filler]}, use_dictionary=True),
        "statistics": lambda word: parquet({"x": [word]}),
        "small pages": lambda word: parquet(
            {"x": [*filler, word]}, data_page_size=64, write_statistics=False
        ),
        "column name": lambda word: parquet({word: [1]}),
        "metadata": lambda word: parquet({"x": [1]}, {word.encode(): b""}),
        "hex": lambda word: b"..." + word.encode().hex().encode(),
        "HEX": lambda word: b"..." + word.encode().hex().upper().encode(),
        "percent": lambda word: quote(word).encode(),
        "utf-16": lambda word: word.encode("utf-16-le"),
        "escaped": lambda word: json.dumps(word).encode(),
    }
    for shift in range(3):
        hidden[f"base64 {shift}"] = lambda word, shift=shift: base64.b64encode(
            b"xyz"[:shift] + word.encode() + b"!!"
        )
    for structure, write in hidden.items():
        for word in (key.alias, raters[0]):
            path = log.layout.episodes / "hidden.bin"
            path.write_bytes(write(word))
            assert "episodes/hidden.bin" in residue.scan(log, needles).found, (structure, word)
            path.write_bytes(write("nothing of the kind"))
            assert "episodes/hidden.bin" not in residue.scan(log, needles).found, structure
            path.unlink()


def parquet(columns: dict[str, Any], metadata: dict[bytes, bytes] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata(metadata)
    settings = {"compression": "zstd", "use_dictionary": False} | options
    pq.write_table(table, buffer, **settings)
    return buffer.getvalue()


@pytest.mark.usefixtures("cheap")
def test_the_plan_is_the_act(taught: tuple[Path, list[str]], tmp_path: Path) -> None:
    log, raters = copied(taught, tmp_path)
    files = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    planned = plan.make(log, raters[2]).to_json()
    assert files == {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    done = erase.apply(log, raters[2]).to_json()
    for name in ("rater_id", "rows", "files", "reports", "exports"):
        assert planned[name] == done[name], name
    assert [(p["name"], p["before"]) for p in planned["policies"]] == [
        (p["name"], p["before"]) for p in done["policies"]
    ]
    gone = {path.relative_to(tmp_path / "home/log").as_posix() for path in files if not path.exists()}
    assert gone == set(done["files"])


@pytest.mark.usefixtures("cheap")
def test_an_erased_rater_is_answered_like_one_who_never_was(
    taught: tuple[Path, list[str]], tmp_path: Path
) -> None:
    log, raters = copied(taught, tmp_path)
    erase.apply(log, raters[0])
    size = len(log.ledger.entries)
    acts: list[Callable[[str], Any]] = [
        lambda rater_id: erase.apply(log, rater_id),
        lambda rater_id: plan.make(log, rater_id),
        lambda rater_id: register.withdraw(log, rater_id),
        lambda rater_id: register.give(log, rater_id, [Purpose.AUDIT], "scripted"),
        lambda rater_id: register.grant_for(log, rater_id, log.clock.now()),
        lambda rater_id: record(log, Request(rater_id, "scripted:oracle", rates="s-0001")),
    ]
    never = "r-" + "".join("0123456789abcdef"[15 - int(digit, 16)] for digit in raters[0][2:])
    for act in acts:
        told = []
        for rater_id in (raters[0], never):
            with pytest.raises(UsageError) as caught:
                act(rater_id)
            # Whom it suggests depends on what was typed, not on whom there was.
            told.append(re.sub(r"seen: [^;]*;", "", str(caught.value).replace(rater_id, "R")))
        assert told[0] == told[1]
    assert len(log.ledger.entries) == size
    for wrong in ("../x", "r-1", "", "r-0000000g", "R-00000000", "r-00000000\n", "r-00000000/../../x"):
        with pytest.raises(UsageError, match="not a rater id"):
            erase.apply(log, wrong)


@pytest.mark.usefixtures("cheap")
def test_erasing_all_one_after_the_other(taught: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Until nobody is left who taught the policy: then there is none."""
    log, raters = copied(taught, tmp_path)
    shutil.rmtree(log.layout.reports / "one")
    sixth = log.ledger.entries[2].body["rater_id"]
    for number, rater_id in enumerate([*raters[:1], sixth]):
        done = erase.apply(log, rater_id)
        assert done.receipt.name == f"receipt-{number + 1:04d}.json"
        assert verify(log.layout.root).ok
    for rater_id in raters[1:]:
        register.withdraw(log, rater_id, [Purpose.TRAINING])
    done = erase.apply(log, raters[1])
    assert [policy["after"] for policy in done.to_json()["policies"]] == [None]
    assert not (tmp_path / "home" / "policies" / "all").exists()
    for rater_id in raters[2:]:
        erase.apply(log, rater_id)
    assert verify(log.layout.root).ok
    assert not any(log.layout.keys.iterdir()) and not any(log.layout.feedback.iterdir())
    assert erase.heal(Log(log.layout.root)) == []


@pytest.mark.usefixtures("cheap")
def test_the_only_rater_of_a_live_policy_takes_it_along(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    live = next(
        entry.body["session_id"] for entry in log.ledger.of("session") if entry.body["learn"] is not None
    )
    old = reader.session(log, live)
    assert all(step.action_probability is not None for episode in old.episodes for step in episode.steps)
    digests = {episode.behaviour_policy_sha256 for episode in old.episodes}
    assert digests and None not in digests
    done = erase.apply(log, full.raters[1])
    after = {policy["name"]: policy["after"] for policy in done.to_json()["policies"]}
    assert after["live"] is None and after["offline"] is not None
    assert not (full.home / "policies" / "live").exists()
    new = reader.session(log, live)
    assert new.feedback is None
    steps = [step for episode in new.episodes for step in episode.steps]
    assert all(step.action_probability is None for step in steps)
    assert all(episode.behaviour_policy_sha256 is None for episode in new.episodes)
    assert [step.action for step in steps] == [s.action for e in old.episodes for s in e.steps]
    for step, was in zip(steps, [s for e in old.episodes for s in e.steps], strict=True):
        assert np.array_equal(step.observation, was.observation) and step.env_reward == was.env_reward
    assert verify(full.root).ok
    assert not list(full.root.rglob("*.old"))
    told = json.loads(done.receipt.read_bytes())
    assert any("learnt from" in stays["what"] and live in stays["what"] for stays in told["stays"])


def test_a_restored_backup_is_refused_and_erased_again(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 3)
    shutil.copytree(log.layout.root, tmp_path / "backup")
    erase.apply(log, raters[1])
    old = Log(tmp_path / "backup").layout
    for what in ("key", "rows", "both"):
        if what != "rows":
            shutil.copy(old.key_file(raters[1]), log.layout.key_file(raters[1]))
        if what != "key":
            shutil.copytree(old.rater_folder(raters[1]), log.layout.rater_folder(raters[1]))
        problems = {one.file for one in verify(log.layout.root).problems}
        assert (f"keys/{raters[1]}.key" in problems) == (what != "rows")
        assert any(name.startswith(f"feedback/rater_id={raters[1]}/") for name in problems) == (what != "key")
        # An auditor sees them first; everybody else's program erases them again.
        assert erase.heal(Log(log.layout.root), repeat=False) == []
        assert not verify(log.layout.root).ok
        assert len(erase.heal(Log(log.layout.root))) == 1
        assert verify(log.layout.root).ok
        assert found(log.layout.root, [raters[1].encode()]) <= {
            "ledger/entries.jsonl",
            "receipts/receipt-0001.json",
            "receipts/receipt-0001.html",
        }
    # The whole log from before is a log that is right: only its owner can know that it is old.
    assert verify(tmp_path / "backup").ok


def test_a_journal_from_a_backup_seals_nothing_of_an_erased_rater(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    journal = log.layout.journal / "s-0009"
    facts = dict(log.ledger.entries[-1].body) | {
        "rater_id": raters[1],
        "grant_id": "g-0002",
        "event": "session",
    }
    lines = [facts, {"event": "feedback"}]
    raw = [canonical.json_bytes(line) for line in lines]
    data = b"".join(b"%08x %s\n" % (zlib.crc32(line), line) for line in raw)
    erase.apply(log, raters[1])
    journal.mkdir()
    (journal / "events.jsonl").write_bytes(data)
    erase.heal(Log(log.layout.root))
    assert not any(log.layout.journal.iterdir())
    assert [e.body["session_id"] for e in Log(log.layout.root).ledger.of("session")] == ["s-0001", "s-0002"]
    assert verify(log.layout.root).ok


RECORDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from rlhf_audit.errors import ConsentError
from rlhf_audit.log.store import Log
from rlhf_audit.raters import scripted
from rlhf_audit import recording
from rlhf_audit.types import Answer, AnswerKind
class Slow:
    def ask(self, question):
        print("asked", flush=True)
        sys.stdin.readline()
        return Answer(AnswerKind.ANSWER, 1.0, 0.5)
    def close(self): pass
recording._source = lambda *_: Slow()
try:
    request = recording.Request(sys.argv[2], "scripted:oracle", rates="s-0001")
    recording.record(Log(Path(sys.argv[1])), request)
except ConsentError as error:
    print("stopped", error, flush=True)
"""


def test_withdrawal_works_while_a_recorder_writes(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    arguments = [str(log.layout.root), raters[0], str(Path(small_log.__file__).parent)]
    process = subprocess.Popen(
        [sys.executable, "-c", RECORDER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None and process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "asked\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "asked\n"
    other = Log(log.layout.root)
    with pytest.raises(LockedError):
        erase.apply(other, raters[1])
    assert erase.heal(other) == []
    assert verify(log.layout.root).ok
    began = time.monotonic()
    register.withdraw(other, raters[0])
    assert time.monotonic() - began < 30
    process.stdin.write("\n")
    process.stdin.close()
    told = process.stdout.read()
    assert process.wait() == 0 and told.startswith("stopped") and "consent withdrawn" in told
    again = Log(log.layout.root)
    rows = reader.session(again, "s-0003").feedback
    assert rows is not None and len(rows) == 3, "what was given before stays, until it is erased"
    with views.connect(again, again.clock.now()) as connection:
        used = connection.execute("SELECT DISTINCT rater_id FROM usable").fetchall()
    assert used == [(raters[1],)]
    assert verify(log.layout.root).ok
    erase.apply(again, raters[0])
    assert verify(log.layout.root).ok


def test_one_purpose_may_be_withdrawn_alone(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)

    def used(purpose: str) -> set[str]:
        with views.connect(log, log.clock.now()) as connection:
            query = f"SELECT DISTINCT rater_id FROM usable_for_{purpose}"
            return {row[0] for row in connection.execute(query).fetchall()}

    assert used("training") == used("audit") == set(raters)
    withdrawn, first = register.withdraw(log, raters[0], [Purpose.TRAINING])
    assert withdrawn == [Purpose.TRAINING]
    assert used("training") == {raters[1]} and used("audit") == set(raters)
    size = len(log.ledger.entries)
    assert register.withdraw(log, raters[0], [Purpose.TRAINING]) == ([Purpose.TRAINING], first)
    assert len(log.ledger.entries) == size, "said again it is no new entry"
    register.withdraw(log, raters[0])
    assert used("training") == used("audit") == {raters[1]}
    with pytest.raises(ConsentError):
        register.grant_for(log, raters[0], log.clock.now())


HOSTILE = [
    "../../../etc/passwd",
    "nul\x00inside",
    "x" * 300,
    "é" * 150,
    "\u202egnihtyna\u202c",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "'; DROP TABLE feedback; --\"",
    "line\nbreak\r\n\x1b[2J",
    '{"rater_id":"r-00000000"}',
    "\ud7ff\U0001f9d1\u200d\U0001f680",
    "rater_id=r-*/[a-z]?{b}",
]


@pytest.mark.parametrize("alias", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_aliases_are_kept_and_erased_like_any_other(alias: str, tmp_path: Path) -> None:
    log = small_log.empty(tmp_path / "log")
    other = small_log.join(log, alias="Somebody Else")
    first = small_log.acts(log, other, n=5)
    rater_id, _ = register.enrol(log, alias, {"group": alias.replace("\x00", ""), alias: "x"}, "oracle")
    register.give(log, rater_id, small_log.BOTH, "scripted")
    small_log.rates(log, rater_id, first)
    key = keys.read(log.layout, rater_id)
    assert key.alias == alias
    with views.connect(log, log.clock.now()) as connection:
        groups = connection.sql("SELECT rater_id, groups FROM raters").to_arrow_table().to_pylist()
    assert {row["rater_id"]: dict(row["groups"]) for row in groups}[rater_id] == dict(key.groups)
    assert verify(log.layout.root).ok
    assert not list(tmp_path.glob("*/../etc")) and {p.name for p in tmp_path.iterdir()} == {"log"}
    done = erase.apply(log, rater_id)
    assert found(log.layout.root, spelt(key)) == set()
    assert json.loads(done.receipt.read_bytes())["residue_scan"]["found"] == 0
    assert verify(log.layout.root).ok


# --- what is damaged elsewhere keeps nobody from being erased


def test_a_damaged_key_keeps_nobody_from_being_erased(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 3)
    log.layout.key_file(raters[0]).write_bytes(b"damaged")
    log.layout.key_file(raters[1]).unlink()
    for rater_id in raters[:2]:
        done = erase.apply(log, rater_id)
        assert not json.loads(done.receipt.read_bytes())["residue_scan"]["alias_and_key_searched"]
        assert not log.layout.rater_folder(rater_id).exists()
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("how", ["missing", "damaged"])
@pytest.mark.usefixtures("cheap")
def test_damaged_steps_of_a_live_session_keep_nobody_from_being_erased(how: str, tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    live = next(entry.body for entry in log.ledger.of("session") if entry.body["learn"])
    path = log.layout.steps_file("CartPole-v1", live["session_id"])
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])
    erase.apply(log, full.raters[1])
    assert not path.exists(), "what can't be blanked can't stay"
    problems = verify(full.root).problems
    assert [one.file for one in problems] == [f"steps/env=CartPole-v1/{live['session_id']}.parquet"]
    assert erase.heal(Log(full.root)) == []


@pytest.mark.usefixtures("cheap")
def test_what_can_not_be_finished_keeps_nobody_from_reading_or_withdrawing(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    log = Log(full.root)
    path = log.layout.feedback_file(full.raters[0], "s-0001")
    raw = path.read_bytes()
    path.write_bytes(raw[:-30])
    with pytest.raises(Exception, match="can't be read"):
        erase.apply(log, full.raters[1])
    assert not log.layout.key_file(full.raters[1]).exists(), "their own rows are gone all the same"
    said = erase.heal(Log(full.root))
    assert len(said) == 1 and "could not all be finished" in said[0]
    register.withdraw(Log(full.root), full.raters[0])
    path.write_bytes(raw)
    assert erase.heal(Log(full.root)) == ["completed an erasure that had been cut short"]
    assert verify(full.root).ok


@pytest.mark.usefixtures("cheap")
def test_another_logs_policy_in_the_same_place_is_left_alone(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    folder = full.home / "policies" / "offline"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"log_id": "0" * 16}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    log = Log(full.root)
    assert [dict(p)["found"] for p in plan.make(log, full.raters[0]).policies] == [False]
    done = erase.apply(log, full.raters[0])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    told = json.loads(done.receipt.read_bytes())
    assert [policy["outcome"] for policy in told["deleted"]["policies"]] == ["not found"]
    assert verify(full.root).ok


@pytest.mark.usefixtures("cheap")
def test_a_copy_of_a_policy_made_by_hand_is_told_of(tmp_path: Path) -> None:
    full = small_log.full().copy(tmp_path / "home")
    shutil.copytree(full.home / "policies" / "offline", full.home / "policies" / "my copy")
    done = erase.apply(Log(full.root), full.raters[0])
    told = json.loads(done.receipt.read_bytes())
    assert told["residue_scan"]["places"] == [
        "../policies/my copy/CARD.md",
        "../policies/my copy/manifest.json",
    ]


def test_an_enrolment_cut_short_leaves_nobody(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    key = replace(keys.read(log.layout, raters[0]), rater_id="r-0000abcd", alias="Half Enrolled")
    keys.write(log.layout, key)
    assert [one.file for one in verify(log.layout.root).problems] == ["keys/r-0000abcd.key"]
    erase.heal(Log(log.layout.root))
    assert not log.layout.key_file("r-0000abcd").exists()
    assert verify(log.layout.root).ok


def test_folders_and_reports_that_end_like_half_made_files_are_left_alone(tmp_path: Path) -> None:
    from rlhf_audit.reports import publish

    log, _ = small_log.plain(tmp_path / "log", 2)
    publish.publish(log, log.layout.reports / "one.tmp")
    (log.layout.episodes / "half.parquet.tmp").write_bytes(b"half")
    assert erase.heal(Log(log.layout.root)) == []
    assert verify(log.layout.root).ok
    assert (log.layout.reports / "one.tmp" / "report.json").exists()
