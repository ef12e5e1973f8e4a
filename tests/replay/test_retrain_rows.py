"""What is trained on: usable rows alone, in the ledger's order, whatever the raters are called."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from retrain_world import panel
from session_world import START, Presses, SetClock, enrolled, feedback_rows, new_log, rate, script, step_rows

from rlhf_audit.consent import register
from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.log import reader, views
from rlhf_audit.log.store import Log
from rlhf_audit.policy.interface import Interface
from rlhf_audit.replay import dataset, retrain
from rlhf_audit.seeds import SeededEntropy
from rlhf_audit.types import Purpose


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return new_log(tmp_path / "log", SetClock())


def _data(log: Log, env_id: str = "CartPole-v1") -> dataset.TrainingData:
    connection = views.connect(log, log.clock.now())
    try:
        assert dataset.environment(connection, env_id) == env_id
        env = next(e.body["env"] for e in log.ledger.of("session") if e.body["env"]["env_id"] == env_id)
        return dataset.load(log, connection, env_id, Interface.of(env))
    finally:
        connection.close()


def _naive(log: Log) -> list[tuple[str, str, int, float]]:
    """Read the standing ratings of every session, by episode and step, with no database."""
    found = []
    for session_id in reader.session_ids(log):
        session = reader.session(log, session_id)
        rows = session.feedback or ()
        gone = {row.supersedes for row in rows}
        kept = [row for n, row in enumerate(rows) if n not in gone and row.value is not None]
        kept.sort(key=lambda row: (row.episode_id, row.step))
        found += [
            (str(session.facts["rater_id"]), row.episode_id, row.step, float(row.value or 0)) for row in kept
        ]
    return found


def test_episodes_that_nobody_rated_are_passed_over(log: Log) -> None:
    script(log, enrolled(log, "oracle"), ask_every=70, max_feedback=3)
    session = reader.session(log, "s-0001")
    rows = session.feedback or ()
    assert len(session.episodes) > 1 + len({row.episode_id for row in rows})
    steps = {(step.episode_id, step.step): step for episode in session.episodes for step in episode.steps}
    seen = [steps[row.episode_id, row.step].observation for row in rows]
    assert _data(log).rated.observations.tobytes() == np.array(seen).tobytes()


def test_rows_come_in_the_ledgers_order_then_episode_then_step(tmp_path: Path) -> None:
    log, raters = panel(tmp_path)
    data = _data(log)
    expected = _naive(log)
    steps = {}
    for session_id in reader.session_ids(log):
        for episode in reader.session(log, session_id).episodes:
            steps |= {(step.episode_id, step.step): step for step in episode.steps}
    rated = data.rated
    assert len(rated) == len(expected) == 30 + 3 * 20 + 3
    assert [rated.rater_ids[index] for index in rated.raters] == [row[0] for row in expected]
    assert rated.values.tolist() == [row[3] for row in expected]
    played = [steps[row[1], row[2]] for row in expected]
    assert rated.observations.tobytes() == np.array([step.observation for step in played]).tobytes()
    assert rated.actions.tolist() == [step.action for step in played]
    assert rated.action_probabilities.tolist() == [np.float32(step.action_probability) for step in played]
    assert rated.rater_ids == tuple(raters.values())
    assert data.sessions == tuple(reader.session_ids(log))
    numbers = rated.episodes.tolist()
    assert numbers[0] == 0 and set(np.diff(sorted(set(numbers)))) <= {1}
    assert (rated.observations.dtype, rated.actions.dtype, rated.values.dtype) == (
        "float32",
        "int64",
        "float32",
    )


def test_steps_of_which_only_digests_were_kept_teach_nothing(log: Log) -> None:
    script(log, enrolled(log, "oracle"), max_feedback=4, observations="hashed")
    with pytest.raises(UsageError, match="nothing can be learnt from s-0001") as refused:
        _data(log)
    assert "digest" in refused.value.seen


def test_sessions_of_other_spaces_are_not_mixed(log: Log) -> None:
    script(log, enrolled(log, "oracle"), max_feedback=4)
    record = reader.session_facts(log, "s-0001")["env"]
    wider = Interface(record["observation_space"] | {"shape": [5]}, record["action_space"])
    connection = views.connect(log, log.clock.now())
    with pytest.raises(UsageError, match="other spaces than the latest session"):
        dataset.load(log, connection, "CartPole-v1", wider)
    connection.close()


def test_pseudonyms_do_not_touch_the_weights(tmp_path: Path) -> None:
    digests, names = set(), set()
    for number, entropy in enumerate((None, None, SeededEntropy(1))):
        log, raters = panel(tmp_path / str(number), entropy)
        names.add(tuple(np.argsort(list(raters.values())).tolist()))
        digests.add(retrain.retrain(log, tmp_path / str(number) / "policy", seed=4).weights_sha256)
        assert _data(log).rated.raters[0] == 0
    assert len(digests) == 1


def test_leaving_a_rater_out_is_the_same_as_never_having_had_them(tmp_path: Path) -> None:
    log, raters = panel(tmp_path / "with")
    control, _ = panel(tmp_path / "without", without="always-yes")
    before = retrain.retrain(log, tmp_path / "before").weights_sha256
    register.withdraw(log, raters["always-yes"])
    after = retrain.retrain(log, tmp_path / "after")
    assert after.weights_sha256 == retrain.retrain(control, tmp_path / "control").weights_sha256 != before
    assert (after.rows, after.excluded) == (73, 20)
    assert raters["always-yes"] not in after.raters


def test_a_withdrawn_purpose_leaves_only_that_purpose(log: Log) -> None:
    one, two = enrolled(log), enrolled(log)
    rate(log, one, Presses("1111"))
    rate(log, two, Presses("000"), seed=5)
    assert _data(log).rated.values.tolist() == [1.0] * 4 + [0.0] * 3
    register.withdraw(log, one, [Purpose.AUDIT])
    assert len(_data(log).rated) == 7
    register.withdraw(log, two, [Purpose.TRAINING])
    assert _data(log).rated.values.tolist() == [1.0] * 4
    assert _data(log).rated.rater_ids == (one,)


def test_rows_under_a_grant_for_something_else_are_not_trained_on(log: Log) -> None:
    audit_only, both = enrolled(log, purposes=[Purpose.AUDIT]), enrolled(log)
    rate(log, audit_only, Presses("0000"))
    rate(log, both, Presses("11"), seed=5)
    assert _data(log).rated.values.tolist() == [1.0, 1.0]
    # A later grant covers what is made from then on.
    register.give(log, audit_only, [Purpose.TRAINING], "terminal")
    assert len(_data(log).rated) == 2
    rate(log, audit_only, Presses("0"), seed=6)
    assert _data(log).rated.values.tolist() == [1.0, 1.0, 0.0]


def test_consent_given_again_does_not_revive_old_rows(log: Log) -> None:
    rater_id = enrolled(log)
    rate(log, rater_id, Presses("1111"))
    register.withdraw(log, rater_id)
    register.give(log, rater_id, [Purpose.TRAINING], "terminal")
    with pytest.raises(ConsentError):
        _data(log)
    rate(log, rater_id, Presses("00"), seed=5)
    assert _data(log).rated.values.tolist() == [0.0, 0.0]


def test_expired_rows_are_out_to_the_microsecond(log: Log) -> None:
    clock = log.clock
    assert isinstance(clock, SetClock)
    early = enrolled(log)
    rate(log, early, Presses("11"))
    clock.move(days=1)
    late = enrolled(log)
    rate(log, late, Presses("0"), seed=5)
    clock.time = START + timedelta(days=register.GRANT_DAYS) - timedelta(microseconds=1)
    assert len(_data(log).rated) == 3
    clock.move(microseconds=1)
    assert _data(log).rated.values.tolist() == [0.0]
    clock.move(days=1)
    with pytest.raises(ConsentError, match="3 of 3 ratings may not be used for training"):
        _data(log)


def test_undone_and_skipped_rows_are_out(log: Log) -> None:
    rater_id = enrolled(log)
    rate(log, rater_id, Presses("1su0s1u1u0"))
    rows = feedback_rows(log, rater_id)
    superseded = {row["supersedes"] for row in rows}
    standing = [row for row in rows if row["row"] not in superseded and row["kind"] == "rating"]
    data = _data(log).rated
    assert data.values.tolist() == [row["value"] for row in sorted(standing, key=lambda row: row["step"])]
    observations = [step_rows(log)[row["step"]]["observation"] for row in standing]
    assert data.observations.tolist() == sorted(observations, key=observations.index)


def test_a_session_of_skips_alone_is_nothing_to_train_on(log: Log) -> None:
    rate(log, enrolled(log), Presses("sss"))
    with pytest.raises(UsageError, match="holds no ratings to train on"):
        _data(log)


def test_an_empty_log_is_nothing_to_train_on(log: Log, tmp_path: Path) -> None:
    size = log.ledger.head.size
    with pytest.raises(UsageError, match="holds no ratings to train on"):
        retrain.retrain(log, tmp_path / "policy")
    assert log.ledger.head.size == size
    assert not (tmp_path / "policy").exists()


def test_ratings_that_may_not_be_used_are_counted(log: Log, tmp_path: Path) -> None:
    rater_id = enrolled(log, purposes=[Purpose.AUDIT])
    rate(log, rater_id, Presses("11s0"))
    size = log.ledger.head.size
    with pytest.raises(ConsentError, match="3 of 3 ratings may not be used for training") as refused:
        retrain.retrain(log, tmp_path / "policy")
    assert refused.value.exit_code == 3
    assert rater_id not in str(refused.value)
    assert log.ledger.head.size == size
    assert not (tmp_path / "policy").exists()


def test_of_several_environments_one_is_to_be_named(log: Log, tmp_path: Path) -> None:
    robot = enrolled(log, "oracle")
    for env_id in ("CartPole-v1", "Acrobot-v1"):
        script(log, robot, env_id=env_id, max_feedback=6)
    with pytest.raises(UsageError, match="which environment") as refused:
        retrain.retrain(log, tmp_path / "policy")
    assert refused.value.seen == "Acrobot-v1, CartPole-v1"
    with pytest.raises(UsageError, match="which environment"):
        retrain.retrain(log, tmp_path / "policy", env_id="LunarLander-v3")
    assert not (tmp_path / "policy").exists()
    done = retrain.retrain(log, tmp_path / "policy", "article", env_id="Acrobot-v1")
    assert done.rows == 6
    assert _data(log, "Acrobot-v1").rated.observations.shape == (6, 6)
    assert _data(log).rated.observations.shape == (6, 4)
