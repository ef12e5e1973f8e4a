"""What is handed out, to whom, under which names; and that nothing else is."""

import csv
import io
import json

import exchange_world as world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlhf_audit import envs
from rlhf_audit.cli.app import main
from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.exchange import csv as csv_format
from rlhf_audit.exchange import flat, selection
from rlhf_audit.exchange.export import Format, export
from rlhf_audit.log import reader, sealing
from rlhf_audit.log.store import Log
from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase, plan


@pytest.fixture
def log(tmp_path):
    return world.new_log(tmp_path / "log")


@pytest.fixture(scope="module")
def _several(tmp_path_factory):
    return world.several(tmp_path_factory.mktemp("several") / "log")


def table(folder, env_id=world.CART_POLE):
    return pq.read_table(folder / f"{env_id}.parquet")


def entry(log):
    return [found.body for found in log.ledger.of("export")][-1]


def test_the_flat_table_holds_every_step_and_every_answer(log, tmp_path):
    first, second = world.enrolled(log, *world.ALL), world.enrolled(log, *world.ALL)
    session_id = world.play(log, first, world.CART_POLE)
    world.rate(log, second, session_id, {0: 1.0, 1: 0.0})
    made = export(log, Format.PARQUET, tmp_path / "out", recipient="Lab B")
    rows = table(tmp_path / "out").to_pylist()
    recorded = reader.session(log, session_id)
    steps = {(row["episode_id"], row["step"]): row for row in rows}
    assert len(steps) == made.content.steps == recorded.facts["n_steps"]
    for episode in recorded.episodes:
        for step in episode.steps:
            row = steps[episode.episode_id, step.step]
            assert np.array(row["observation"], np.float32).tobytes() == step.observation.tobytes()
            assert (row["action"], row["env_reward"], row["terminated"], row["truncated"]) == (
                step.action,
                step.env_reward,
                step.terminated,
                step.truncated,
            )
            assert row["reset_seed"] == episode.reset_seed
            last = step.step == len(episode.steps) - 1
            final = episode.final_observation.tolist() if last else None
            assert row["final_observation"] == final
    given = [(row["rater"], row["episode_id"], row["step"], row["value"]) for row in rows if row["rater"]]
    assert len(given) == len(set(given)) == made.content.rows == recorded.facts["n_feedback"] + 2
    theirs = made.names[second], recorded.episodes[0].episode_id
    assert [one[2:] for one in given if one[:2] == theirs] == [(0, 1.0), (1, 0.0)]


def test_the_ledger_says_what_went_to_whom(log, tmp_path):
    rater_id = world.enrolled(log, *world.ALL)
    world.play(log, rater_id, world.CART_POLE)
    made = export(log, Format.CSV, tmp_path / "out", recipient="Lab B")
    noted = entry(Log(log.layout.root))
    assert noted["path"] == "../out" and noted["recipient"] == "Lab B" and noted["format"] == "csv"
    assert noted["rater_ids"] == [rater_id] and noted["names"] == dict(made.names)
    assert set(noted["files"]) == {"CartPole-v1.csv", "export.json"} and noted["rows"] == made.content.rows
    assert verify(log.layout.root).ok


def test_only_what_was_agreed_to_goes(log, tmp_path):
    free, bound = world.enrolled(log, *world.ALL), world.enrolled(log, *world.INTERNAL)
    seen_by_both = world.play(log, free, world.CART_POLE)
    world.rate(log, bound, seen_by_both, {0: 1.0, 2: 1.0})
    world.play(log, bound, world.CART_POLE)
    made = export(log, Format.PARQUET, tmp_path / "out")
    rows = table(tmp_path / "out").to_pylist()
    assert set(made.names) == {free}
    assert {row["session_id"] for row in rows} == {seen_by_both}
    assert {row["rater"] for row in rows} == {None, made.names[free]}
    # What all of them agreed to may be named instead.
    assert set(export(log, Format.PARQUET, tmp_path / "more", Purpose.AUDIT).names) == {free, bound}


def test_steps_go_with_whoever_rated_them_and_agreed(log, tmp_path):
    bound, free = world.enrolled(log, *world.INTERNAL), world.enrolled(log, *world.ALL)
    session_id = world.play(log, bound, world.CART_POLE)
    world.rate(log, free, session_id, {0: 1.0})
    made = export(log, Format.PARQUET, tmp_path / "out")
    rows = table(tmp_path / "out").to_pylist()
    assert made.content.rows == 1 and set(made.names) == {free}
    assert {row["session_id"] for row in rows} == {session_id}


def test_what_a_policy_did_that_learnt_goes_only_if_its_teacher_agreed(log, tmp_path):
    bound, free = world.enrolled(log, *world.INTERNAL), world.enrolled(log, *world.ALL)
    taught = world.play(log, bound, world.CART_POLE, learn=True)
    world.rate(log, free, taught, {0: 1.0})
    with pytest.raises(ConsentError):
        export(log, Format.PARQUET, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", ["withdrawn", "expired", "erased", "never asked"])
def test_nothing_goes_of_who_has_not_agreed_now(log, tmp_path, how):
    rater_id = world.enrolled(log, *(world.INTERNAL if how == "never asked" else world.ALL))
    world.play(log, rater_id, world.CART_POLE)
    if how == "withdrawn":
        register.withdraw(log, rater_id, [Purpose.PUBLICATION])
    if how == "expired":
        log.clock.time = log.clock.time.replace(year=2028)
    if how == "erased":
        erase.apply(log, rater_id, lambda _: None)
    before = len(log.ledger.entries)
    with pytest.raises(ConsentError, match="nothing may be handed out for publication"):
        export(log, Format.PARQUET, tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(log.ledger.entries) == before


def test_names_are_new_in_each_export_and_nothing_else_names_a_rater(log, tmp_path):
    rater_id = world.enrolled(log, *world.ALL)
    world.play(log, rater_id, world.CART_POLE)
    names = set()
    for form in (Format.PARQUET, Format.CSV, Format.MINARI, Format.HF, Format.LEROBOT):
        made = export(log, form, tmp_path / form)
        names |= set(made.names.values())
        for path in (tmp_path / form).rglob("*"):
            if path.is_file():
                held = path.read_bytes()
                if path.suffix == ".parquet":
                    held += str(pq.read_table(path).to_pylist()).encode()
                assert rater_id.encode() not in held and b"Lovelace" not in held
                assert b"g-0001" not in held and b"2026-03" not in held
    assert len(names) == 5


def test_an_erasure_says_who_has_a_copy_and_what_they_were_called_there(log, tmp_path):
    rater_id, other = world.enrolled(log, *world.ALL), world.enrolled(log, *world.ALL)
    world.play(log, rater_id, world.CART_POLE)
    made = export(log, Format.PARQUET, tmp_path / "out", recipient="Lab B")
    told = [{"path": "../out", "recipient": "Lab B", "name": made.names[rater_id]}]
    assert list(plan.make(log, rater_id).exports) == told
    assert list(plan.make(log, other).exports) == []
    erase.apply(log, rater_id, lambda _: None)
    receipt = json.loads((log.layout.receipts / "receipt-0001.json").read_text())
    assert receipt["exports"] == told
    page = (log.layout.receipts / "receipt-0001.html").read_text()
    assert "Lab B" in page and made.names[rater_id] in page
    assert verify(log.layout.root).ok


def test_a_taken_folder_or_one_in_the_log_is_refused(log, tmp_path):
    world.play(log, world.enrolled(log, *world.ALL), world.CART_POLE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "mine", tmp_path / "file", log.layout.root / "out", log.layout.root):
        with pytest.raises(UsageError, match="folder of its own"):
            export(log, Format.PARQUET, place)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "mine" and not list(log.ledger.of("export"))


@pytest.mark.parametrize("entered", [False, True])
def test_a_kill_leaves_files_and_entry_or_neither(log, tmp_path, monkeypatch, entered):
    world.play(log, world.enrolled(log, *world.ALL), world.CART_POLE)

    class Killed(BaseException):
        pass

    def end(self, *_):
        if self.layout.placing.exists():
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Log, "_resolve", end)
        if not entered:
            patch.setattr(Log, "append", end)
        with pytest.raises(Killed):
            export(log, Format.MINARI, tmp_path / "out")
    again = Log(log.layout.root, log.clock, signing_key=world.KEY)
    with again.writing():
        pass
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    if entered:
        assert {name for name in found if not name.endswith(".new")} >= set(entry(again)["files"])
        assert not any(name.endswith(".new") for name in found)
    else:
        assert not (tmp_path / "out").exists() and not list(again.ledger.of("export"))
    assert verify(again.layout.root).ok


def test_a_spreadsheet_runs_nothing():
    texts = ["=1+1", "+1", "-1", "@A1", "\tx", "'quoted", "plain", "", None, "a=b"]
    armed = ["'=1+1", "'+1", "'-1", "'@A1", "'\tx", "''quoted", "plain", "", None, "a=b"]
    defused = csv_format._defused(pa.array(texts, pa.string())).to_pylist()
    assert defused == armed
    assert [csv_format._unarmed(text) for text in defused] == texts


def test_csv_says_numbers_to_the_bit(_several, tmp_path):
    export(_several, Format.CSV, tmp_path / "out")
    text = (tmp_path / "out" / "Pendulum-v1.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    session = next(
        reader.session(_several, e.body["session_id"])
        for e in _several.ledger.of("session")
        if e.body["env"]["env_id"] == "Pendulum-v1"
    )
    steps = [step for episode in session.episodes for step in episode.steps]
    assert len(rows) == len(steps)
    for row, step in zip(rows, steps, strict=True):
        seen = np.array([np.float32(row[f"observation_{n}"]) for n in range(3)])
        assert seen.tobytes() == step.observation.tobytes()
        assert np.float32(row["action_0"]) == step.action[0] and float(row["env_reward"]) == step.env_reward


def test_pictures_are_raw_bytes_with_their_shape_beside(_several, tmp_path):
    export(_several, Format.PARQUET, tmp_path / "out")
    made = table(tmp_path / "out", "Pictures-v0")
    field = made.schema.field("observation")
    assert field.type == pa.large_binary() and field.metadata[b"dtype"] == b"uint8"
    assert json.loads(field.metadata[b"shape"]) == [40, 36, 3]
    picture = made.column("observation")[0].as_py()
    assert len(picture) == 40 * 36 * 3


@pytest.mark.parametrize("form", [Format.MINARI, Format.LEROBOT])
def test_a_space_that_a_format_can_not_hold_is_named(log, tmp_path, form):
    import gymnasium as gym

    space = gym.spaces.Sequence(gym.spaces.Discrete(3), stack=True)

    class Odd(gym.Env):
        observation_space = space
        action_space = gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.array([1, 2]), {}

        def step(self, action):
            return np.array([1]), 0.0, True, False, {}

    if "Oddly-v0" not in gym.registry:
        gym.register("Oddly-v0", entry_point=Odd)
    world.play(log, world.enrolled(log, *world.ALL), "Oddly-v0", n_episodes=1)
    with pytest.raises(UsageError, match=f"can't be written as {form.value}"):
        export(log, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = export(log, Format.PARQUET, tmp_path / "flat")
    assert table(tmp_path / "flat", "Oddly-v0").column("observation").to_pylist() == [[1, 2]]
    assert made.content.steps == 1


def test_the_flat_table_of_steps_without_feedback_is_the_steps(log, tmp_path):
    rater_id = world.enrolled(log, *world.ALL)
    session_id = world.play(log, rater_id, world.CART_POLE)
    export(log, Format.PARQUET, tmp_path / "out")
    made = flat.distinct_steps(table(tmp_path / "out"))
    assert made.num_rows == reader.session_facts(log, session_id)["n_steps"]
    assert made.column("observation").null_count == 0


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "key"))
    folder = str(tmp_path / "log")
    assert main(["init", folder]) == 0
    assert main(["export", folder, "--format", "parquet", "--to", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().err
    assert "nothing may be handed out for publication" in told and "Traceback" not in told
    assert main(["export", folder, "--format", "papyrus", "--to", str(tmp_path / "out")]) == 2


@pytest.mark.parametrize("form", [Format.PARQUET, Format.CSV])
def test_it_is_the_same_however_much_is_made_at_a_time(_several, monkeypatch, form):
    content = selection.select(_several, Purpose.PUBLICATION)[0]
    whole = sealing.trajectory_options
    monkeypatch.setattr(sealing, "trajectory_options", lambda made: whole(made) | {"row_group_size": 7})
    together = dict(form.writer(content))
    monkeypatch.setattr(flat, "_BYTES", 1)
    assert dict(form.writer(content)) == together


@pytest.mark.parametrize("form", list(Format))
def test_an_episode_without_a_step_is_no_obstacle(log, tmp_path, form):
    rater_id = world.enrolled(log, *world.ALL)
    with Recorder(envs.open_env(world.CART_POLE), log, rater_id) as env:
        env.reset(seed=3)
        env.step(0)
        env.reset()
        env.reset()
        env.step(1)
    assert [len(episode.steps) for episode in reader.session(log, "s-0001").episodes] == [1, 0, 1]
    made = export(log, form, tmp_path / "out")
    assert (made.content.steps, made.content.episodes) == (2, 3)
    if form is Format.PARQUET:
        assert table(tmp_path / "out").column("episode").to_pylist() == [0, 2]


def test_thin_sessions_are_left_out_and_named(log, tmp_path):
    rater_id = world.enrolled(log, *world.ALL)
    world.play(log, rater_id, world.CART_POLE)
    with Recorder(envs.open_env(world.CART_POLE), log, rater_id, observations="hashed") as env:
        env.reset()
        env.step(0)
    made = export(log, Format.PARQUET, tmp_path / "out", Purpose.PUBLICATION, "")
    assert made.content.left_out == (env.session_id,)
    assert made.content.steps == reader.session_facts(log, "s-0001")["n_steps"]
