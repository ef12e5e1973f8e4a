"""Each export in the peer library that it is for: opened there, and played again there from its seeds.

The libraries live in environments of their own, which ``make peers`` builds; ``RLHF_AUDIT_PEERS`` names
their folder.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import exchange_world as world
import pytest

from rlhf_audit.exchange.export import Format, export
from rlhf_audit.exchange.importing import ImportFormat, Request, take_in
from rlhf_audit.log import reader
from rlhf_audit.replay import rollout
from rlhf_audit.verification import verify

HERE = Path(__file__).parent
PEERS = os.environ.get("RLHF_AUDIT_PEERS", "")


def ask(peer: str, script: str, *args: object) -> Any:
    """Run a script in a peer's own Python; return what it tells."""
    python = Path(PEERS) / peer / "bin" / "python"
    if not PEERS or not python.exists():
        pytest.skip(f"{peer} has no environment of its own here: `make peers` builds it and runs this test")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE / "peers")])}
    command = [str(python), str(HERE / "peers" / script), *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return world.several(tmp_path_factory.mktemp("several") / "log")


def n_steps(log) -> list[int]:
    return sorted(e.body["n_steps"] for e in log.ledger.of("session") if e.body["n_steps"])


@pytest.mark.parametrize("form", [Format.MINARI, Format.HF, Format.LEROBOT, Format.RLDS])
def test_the_peer_opens_it_and_plays_it_again_to_the_bit(log, tmp_path, form):
    made = export(log, form, tmp_path / "out")
    told = ask(form.value, f"check_{form.value}.py", tmp_path / "out", tmp_path / "cache")
    assert sorted(told["steps"].values()) == n_steps(log)
    assert set(told.get("raters", made.content.raters)) == set(made.names.values())
    first = next(rows for name, rows in told["ratings"].items() if "cart" in name.lower())
    if form is Format.HF:
        # Steps 0, 0 and 1: the first rater's yes, then the second's no and, of the next step, yes.
        assert [value for _, value in first] == [0.0, 0.0, 1.0]
    else:
        assert sorted(first[0]) == ["0.0", "0.0"] and sorted(first[1]) == ["1.0", "nan"]


def test_what_minari_recorded_comes_in_and_replays(tmp_path):
    """In each of its three storages; observations that are a vector, and a Tuple; continuous actions."""
    told = ask("minari", "record_minari.py", tmp_path / "theirs")
    log = world.new_log(tmp_path / "log")
    for folder in told["folders"]:
        made = take_in(log, Request(Path(folder), ImportFormat.MINARI, "form B"))
        played = rollout.replay(log, made.session_id)
        assert (played.difference, played.steps, made.unseeded) == (None, told["steps"][folder], 0)
        assert len(reader.session(log, made.session_id).episodes) == 3
    assert verify(log.layout.root).ok
