"""What is taken in becomes a session under a grant, replays, and is refused without consent."""

import json

import exchange_world as world
import pyarrow.parquet as pq
import pytest

from rlhf_audit.cli.app import main
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.exchange.export import Format, export
from rlhf_audit.exchange.importing import ImportFormat, Request, take_in
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.replay import rollout
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Exports of a log of several environments, as CSV and for Minari, and what was recorded."""
    root = tmp_path_factory.mktemp("source")
    log = world.several(root / "log")
    export(log, Format.CSV, root / "csv")
    export(log, Format.MINARI, root / "minari")
    recorded = {}
    for entry in log.ledger.of("session"):
        if entry.body["n_steps"]:
            recorded[entry.body["env"]["env_id"]] = reader.session(log, entry.body["session_id"])
    return root, recorded


@pytest.fixture
def log(tmp_path):
    return world.new_log(tmp_path / "new")


def request(source, env_id, form=ImportFormat.CSV, **more):
    plain = env_id.rpartition(":")[2]
    path = source[0] / "csv" / f"{plain}.csv"
    if form is ImportFormat.MINARI:
        path = source[0] / "minari" / "rlhf_audit" / plain.lower()
    given = {
        "consent_reference": "form B",
        "env_id": env_id if form is ImportFormat.CSV or ":" in env_id else None,
    }
    return Request(path, form, **{**given, **more})


@pytest.mark.parametrize("form", ImportFormat)
@pytest.mark.parametrize("env_id", world.PLAYED)
def test_what_went_out_comes_in_the_same_and_replays(source, log, env_id, form):
    made = take_in(log, request(source, env_id, form))
    found, before = reader.session(log, made.session_id), source[1][env_id]
    assert [len(one.steps) for one in found.episodes] == [len(one.steps) for one in before.episodes]
    for one, other in zip(found.episodes, before.episodes, strict=True):
        assert one.reset_seed == other.reset_seed
        assert world.same(one.final_observation, other.final_observation)
        for step, like in zip(one.steps, other.steps, strict=True):
            assert world.same(step.observation, like.observation) and world.same(step.action, like.action)
            assert (step.env_reward, step.terminated, step.truncated) == (
                like.env_reward,
                like.terminated,
                like.truncated,
            )
    played = rollout.replay(log, made.session_id)
    assert played.difference is None and played.steps == made.steps == before.facts["n_steps"]
    assert verify(log.layout.root).ok


def test_a_wrong_value_is_found_by_replay(source, log, tmp_path):
    text = (source[0] / "csv" / "CartPole-v1.csv").read_text().splitlines(keepends=True)
    cells = text[3].split(",")
    column = text[0].split(",").index('"observation_2"')
    cells[column] = str(float(cells[column]) + 0.125)
    path = tmp_path / "altered.csv"
    path.write_text("".join([*text[:3], ",".join(cells), *text[4:]]))
    made = take_in(log, Request(path, ImportFormat.CSV, "form B", env_id=world.CART_POLE))
    difference = rollout.replay(log, made.session_id).difference
    assert difference is not None and difference.field == "observation"


def test_without_seeds_replay_says_what_it_can_not_compare(source, log, tmp_path):
    text = (source[0] / "csv" / "CartPole-v1.csv").read_text().replace('"reset_seed"', '"another"')
    (tmp_path / "seedless.csv").write_text(text)
    made = take_in(
        log, Request(tmp_path / "seedless.csv", ImportFormat.CSV, "form B", env_id=world.CART_POLE)
    )
    played = rollout.replay(log, made.session_id)
    assert made.unseeded == 2 and played.difference is None and played.steps == 0
    assert "2 of 2 episodes came without a seed" in played.note


@pytest.mark.parametrize("reference", ["", "   "])
def test_without_consent_nothing_comes_in(source, log, reference):
    before = world_tree(log)
    with pytest.raises(ConsentError, match="nothing is imported without consent"):
        take_in(log, request(source, world.CART_POLE, consent_reference=reference))
    assert world_tree(log) == before


def test_the_grant_says_where_consent_is_written_down(source, log):
    made = take_in(log, request(source, world.CART_POLE, purposes=(Purpose.AUDIT,)))
    grant = next(e.body for e in log.ledger.of("consent"))
    assert (grant["method"], grant["reference"], grant["purposes"]) == ("imported", "form B", ["audit"])
    assert (grant["grant_id"], grant["rater_id"]) == (made.grant_id, made.rater_id) and made.withdrawal_code
    noted = next(e.body for e in log.ledger.of("import"))
    assert noted["session_id"] == made.session_id and noted["reference"] == "form B"
    facts = reader.session_facts(log, made.session_id)
    assert facts["source"] == "imported:csv" and facts["grant_id"] == made.grant_id
    erase.apply(log, made.rater_id, lambda _: None)
    assert verify(log.layout.root).ok


@pytest.mark.parametrize("said", ["withdrew", "refused"])
def test_no_paper_overrules_what_a_rater_said_here(source, log, said):
    rater_id = world.enrolled(log, *(world.ALL if said == "withdrew" else ()))
    if said == "withdrew":
        register.withdraw(log, rater_id)
    else:
        register.refuse(log, rater_id, [Purpose.AUDIT], "terminal")
    before = len(log.ledger.entries)
    with pytest.raises(ConsentError):
        take_in(log, request(source, world.CART_POLE, rater_id=rater_id))
    assert len(log.ledger.entries) == before


def test_a_rater_with_a_grant_keeps_it(source, log):
    rater_id = world.enrolled(log, *world.ALL)
    made = take_in(log, request(source, world.CART_POLE, rater_id=rater_id))
    assert made.rater_id == rater_id and made.grant_id == "g-0001" and made.withdrawal_code is None
    assert len(list(log.ledger.of("consent"))) == 1


CSV = (
    "episode_id,step,"
    + ",".join(f"observation_{n}" for n in range(4))
    + ",action,env_reward,terminated,truncated"
)
FINAL = ",final_observation_0,final_observation_1,final_observation_2,final_observation_3"
ROW = "a,0,0.0,0.0,0.0,0.0,1,1.0,false,true"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "can't be read"),
        ("\x00\x01\x02", "can't be read|lacks columns"),
        (f"{CSV}\n{ROW}\n", "lacks columns"),
        (f"{CSV}{FINAL}\n{ROW},,,,\n", "no final observation"),
        (f"{CSV}{FINAL}\n{ROW.replace('0.0', 'high', 1)},0,0,0,0\n", "can't be read"),
        (f"{CSV}{FINAL}\n{ROW.replace(',1,', ',,')},0,0,0,0\n", "lacks values in action"),
        (f"{CSV}{FINAL}\n{ROW.replace('a,0', 'a,1')},0,0,0,0\n", "not in order"),
        (f"{CSV}{FINAL}\n", "holds no episode"),
    ],
)
def test_a_bad_file_is_told_and_changes_nothing(log, tmp_path, text, told):
    (tmp_path / "bad.csv").write_text(text)
    before = world_tree(log)
    with pytest.raises(UsageError, match=told):
        take_in(log, Request(tmp_path / "bad.csv", ImportFormat.CSV, "form B", env_id=world.CART_POLE))
    assert world_tree(log) == before


@pytest.mark.parametrize("harm", ["no metadata", "other spaces", "a lost episode", "a module"])
def test_a_bad_minari_dataset_is_told_and_changes_nothing(source, log, tmp_path, harm):
    import shutil

    data = tmp_path / "set" / "data"
    shutil.copytree(source[0] / "minari" / "rlhf_audit" / "cartpole-v1" / "data", data)
    metadata = json.loads((data / "metadata.json").read_text())
    if harm == "other spaces":
        metadata["env_spec"] = metadata["env_spec"].replace("CartPole-v1", "Acrobot-v1")
    if harm == "a module":
        metadata["env_spec"] = metadata["env_spec"].replace("CartPole-v1", "antigravity:CartPole-v1")
    (data / "metadata.json").write_text(json.dumps(metadata))
    if harm == "no metadata":
        (data / "metadata.json").unlink()
    if harm == "a lost episode":
        shutil.rmtree(data / "1")
    before = world_tree(log)
    asked = Request(tmp_path / "set", ImportFormat.MINARI, "form B")
    if harm == "a module":
        # A stranger's file names no module that is imported; its episodes come in all the same.
        assert take_in(log, asked).env_id == "antigravity:CartPole-v1"
        return
    with pytest.raises(UsageError):
        take_in(log, asked)
    assert world_tree(log) == before


def test_the_command(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "key"))
    folder, path = str(tmp_path / "log"), str(source[0] / "csv" / "CartPole-v1.csv")
    assert main(["init", folder]) == 0
    options = ["--format", "csv", "--env", "CartPole-v1"]
    assert main(["import", folder, path, *options]) == 3
    assert "--consent-reference" in capsys.readouterr().err
    assert main(["import", folder, path, *options, "--consent-reference", "form B", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["rows"] == result["steps"] and result["raters"] == [result["rater_id"]]
    assert (
        main(["import", folder, str(tmp_path / "none.csv"), *options, "--consent-reference", "form B"]) == 4
    )
    log = Log(tmp_path / "log")
    assert pq.ParquetFile(log.layout.steps_file("CartPole-v1", "s-0001")).metadata.num_rows == result["rows"]


def world_tree(log):
    root = log.layout.root
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
