"""A policy without a rater is the policy that an erasure of that rater leaves; nothing is left behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from retrain_world import panel
from session_world import BOTH, enrolled

from rlhf_audit.cli.app import main
from rlhf_audit.errors import ConsentError, UsageError
from rlhf_audit.log import artefacts, views
from rlhf_audit.log.artefacts import ArtefactKind
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.interface import Interface
from rlhf_audit.replay import dataset, influence, retrain, trainer
from rlhf_audit.types import Purpose, RatedSteps
from rlhf_audit.withdrawal import erase

World = tuple[Log, dict[str, str], Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("influence")
    log, raters = panel(root)
    retrain.retrain(log, root / "policies" / "p", "trusting")
    return log, raters, root


def _data(log: Log, folder: Path) -> RatedSteps:
    manifest = store.load(folder).manifest
    interface = Interface.of(manifest["env"], manifest["network"]["hidden"])
    with views.connect(log, log.clock.now()) as connection:
        return dataset.load(log, connection, "CartPole-v1", interface).rated


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_move_is_measured_and_nothing_is_written(world: World) -> None:
    log, raters, root = world
    before, told = _tree(root), set[str]()
    found = influence.measure(
        log, [raters["inverted"], raters["flip-20"]], progress=lambda what, *_: told.add(what)
    )
    assert _tree(root) == before
    assert told == {
        "p with all", f"p without {raters['inverted']}", f"p without {raters['flip-20']}",
    }  # fmt: skip
    data = _data(log, root / "policies" / "p")
    n_states = len(np.unique(data.observations, axis=0))
    assert [row.subject for row in found.rows] == sorted(
        f"{raters[name]}:p" for name in ("inverted", "flip-20")
    )
    for row in found.rows:
        assert row.n == n_states and row.value is not None and row.lower is not None
        assert 0 <= row.lower <= row.value <= (row.upper or 0) <= 1
        assert row.flagged == (row.value >= influence.THRESHOLD) and "trained now" not in row.note
    assert found.rows == influence.measure(log, [raters["flip-20"], raters["inverted"]]).rows


def test_the_share_is_that_of_states_with_another_likeliest_action(world: World) -> None:
    log, raters, root = world
    folder = root / "policies" / "p"
    data, spec = _data(log, folder), store.load(folder).spec
    others = influence.without(data, data.rater_ids.index(raters["inverted"]))
    left = trainer.train(others, spec, "trusting", 0)
    from rlhf_audit.policy.network import probabilities

    states = np.unique(data.observations, axis=0)
    pairs = zip(
        probabilities(store.load(folder).weights, states), probabilities(left.weights, states), strict=True
    )
    share = np.mean([a.argmax() != b.argmax() for a, b in pairs])
    (row,) = influence.measure(log, [raters["inverted"]]).rows
    assert row.value == share


def test_who_may_not_be_audited_is_refused(world: World) -> None:
    log, _, _ = world
    with pytest.raises(ConsentError, match="may not be audited"):
        influence.measure(log, [enrolled(log, "oracle", (Purpose.TRAINING,))])
    with pytest.raises(UsageError):
        influence.measure(log, ["Ada"])
    assert not influence.measure(log, [enrolled(log, "oracle", BOTH)]).rows


def test_without_a_rater_is_what_an_erasure_leaves(tmp_path: Path) -> None:
    log, raters = panel(tmp_path)
    folder = tmp_path / "policies" / "p"
    retrain.retrain(log, folder, "trusting")
    data, spec = _data(log, folder), store.load(folder).spec
    others = influence.without(data, data.rater_ids.index(raters["inverted"]))
    erase.apply(log, raters["inverted"], lambda _: None)
    assert artefacts.current(log, ArtefactKind.POLICY)[0].facts["rows"] == len(others)
    assert trainer.train(others, spec, "trusting", 0).weights_sha256 == store.load(folder).weights_sha256


def test_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    log, raters, _ = world
    given = ["audit", str(log.layout.root), "policy_share", "--json", "--fail-on", "never"]
    assert main([*given, "--influence", raters["inverted"], "--influence", "flagged"]) == 0
    listed = json.loads(capsys.readouterr().out)["result"]["audits"]
    assert [one["id"] for one in listed] == ["policy_share", "policy_influence"]
    assert f"{raters['inverted']}:p" in {row["subject"] for row in listed[1]["rows"]}
    assert main([*given, "--influence", "nobody"]) == 2
