"""The options of record and replay about what is kept, brought back and shown."""

import json
from pathlib import Path

from conftest import Cli, Study
from gymnasium.envs.classic_control import CartPoleEnv

from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder


def _thin(cli: Cli, study: Study) -> str:
    who = ("--rater", study.raters["oracle"], "--source", "scripted:oracle", "--max-feedback", 9)
    kept = ("--observations", "hashed", "--info", "lives", "--info", "x")
    return str(cli("record", study.log, "--env", "CartPole-v1", *who, *kept, "--json").result["session_id"])


def test_a_thin_session_is_recorded_replayed_and_brought_back(cli: Cli, study: Study, tmp_path: Path) -> None:
    name = _thin(cli, study)
    facts = reader.session_facts(Log(study.log), name)
    assert (facts["observations"], facts["info"]) == ("hashed", ["lives", "x"])
    assert cli("replay", study.log, name, "--json").result["identical"] is True
    back = tmp_path / "back"
    result = cli("replay", study.log, name, "--materialise", back, "--json").result
    assert (result["identical"], result["steps"]) == (True, facts["n_steps"])
    assert all((back / path).is_file() for path in result["materialised"]["files"])
    again = cli("replay", study.log, name, "--materialise", back)
    assert again.code == 2 and "ANOTHER-FOLDER" in again.err
    assert cli("verify", study.log).code == 0


def test_a_film_names_pseudonyms_only(cli: Cli, study: Study, tmp_path: Path) -> None:
    told = cli("replay", study.log, "s-0001", "--video", tmp_path / "film.gif")
    assert told.code == 0 and (tmp_path / "film.gif").read_bytes()[:6] == b"GIF89a"
    assert all(rater in told.out for rater in study.raters.values())
    assert "Ada" not in told.out and "no erasure reaches a film" in told.out
    result = cli("replay", study.log, "s-0002", "--video", tmp_path / "film.gif", "--json").result
    assert result["video"]["raters"] == sorted(study.raters.values())
    assert result["video"]["feedback"] == 3 * 60


def test_one_session_at_a_time(cli: Cli, study: Study, tmp_path: Path) -> None:
    both = ("--video", tmp_path / "a.gif", "--materialise", tmp_path / "b")
    for arguments in (("--video", tmp_path / "a.gif"), ("s-0001", "s-0002", *both[:2]), ("s-0001", *both)):
        refused = cli("replay", study.log, *arguments)
        assert refused.code == 2 and "about one session" in refused.err
    assert cli("replay", study.log, "s-0001", "--video", tmp_path / "a.avi").code == 2
    assert not [*tmp_path.glob("[ab]*")]


def test_a_difference_is_told_as_replay_tells_it(cli: Cli, study: Study, tmp_path: Path) -> None:
    name = _thin(cli, study)
    log = Log(study.log)
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = log.layout.steps_file("CartPole-v1", name)
    table = pq.ParquetFile(path).read()
    place = table.column_names.index("env_reward")
    values = [0.5, *table.column("env_reward").to_pylist()[1:]]
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values)), path)
    for option in (("--materialise", tmp_path / "back"), ("--video", tmp_path / "film.gif")):
        told = cli("replay", study.log, name, *option, "--json")
        assert told.code == 1
        assert json.loads(told.out)["result"]["first_difference"]["field"] == "env_reward"
    assert not (tmp_path / "back").exists() and not (tmp_path / "film.gif").exists()


def test_rating_again_keeps_no_steps(cli: Cli, study: Study) -> None:
    who = ("--rater", study.raters["oracle"], "--source", "scripted:oracle", "--rate", "s-0001")
    refused = cli("record", study.log, *who, "--observations", "hashed")
    assert refused.code == 2 and "--observations" in refused.err


def test_one_session_that_cant_be_played_keeps_no_other_from_it(
    cli: Cli, study: Study, tmp_path: Path
) -> None:
    class Nowhere(CartPoleEnv):
        pass

    log = Log(study.log)
    with Recorder(Nowhere(), log, study.raters["oracle"]) as env:
        env.reset()
        env.step(0)
    told = cli("replay", study.log)
    assert told.code == 1 and "s-0001: identical" in told.out
    assert f"{env.session_id}: can't be played here" in told.out
    result = cli("replay", study.log, "--json").result
    assert (result["identical"], result["first_difference"]) == (False, None)
    assert list(result["unplayed"]) == [env.session_id]
    assert cli("replay", study.log, env.session_id).code == 1
    assert cli("replay", study.log, "s-0001").code == 0
