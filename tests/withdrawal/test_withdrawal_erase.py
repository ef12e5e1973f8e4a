"""An erased rater is gone from every byte, and the policy is the one that never knew them."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.consent import register
from rlhf_audit.errors import UsageError
from rlhf_audit.log import keys, reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store as policies
from rlhf_audit.recording.record import Request, record
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan, receipt

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
    raw = [key.mac_key]
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
        "log/reports/one/report.md",
        "log/reports/one/report-rows.csv",
        "log/reports/one/report-raters.csv",
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
