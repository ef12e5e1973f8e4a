"""What a policy says of itself, and what it refuses to be put over."""

import json
from pathlib import Path

import pytest
from retrain_world import panel
from session_world import tree

from rlhf_audit import canonical
from rlhf_audit.errors import DigestMismatchError, LogError, RlhfAuditError, UsageError
from rlhf_audit.log import reader
from rlhf_audit.log.store import Log
from rlhf_audit.policy import store
from rlhf_audit.policy.network import weights_sha256
from rlhf_audit.replay import retrain


class _World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.log, self.raters = panel(root)
        self.folder = root / "policies" / "one"
        self.head = self.log.ledger.head
        self.done = retrain.retrain(self.log, self.folder, seed=9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> _World:
    return _World(tmp_path_factory.mktemp("manifest"))


def test_the_manifest_is_complete(world: _World) -> None:
    manifest = json.loads((world.folder / "manifest.json").read_bytes())
    policy = store.load(world.folder)
    assert manifest["log_id"] == world.log.log_id
    assert manifest["log_head"] == world.head.to_json()
    assert manifest["weights_sha256"] == policy.weights_sha256 == world.done.weights_sha256
    assert weights_sha256(policy.weights) == manifest["weights_sha256"]
    assert (manifest["name"], manifest["mode"], manifest["algorithm"]) == ("one", "offline", "likelihood")
    assert manifest["seed"] == manifest["parameters"]["seed"] == 9
    for parameter in ("learning_rate", "n_steps", "batch_size", "l2", "folds", "rounds", "sparsity"):
        assert parameter in manifest["parameters"]
    for version in ("tensorflow", "keras", "numpy"):
        assert manifest["recipe"][version][0].isdigit()
    assert manifest["recipe"]["XLA_FLAGS"] and manifest["env"]["versions"]["gymnasium"]
    assert manifest["env"]["env_id"] == "CartPole-v1"
    assert {share["rater_id"]: share["rows"] for share in manifest["raters"]} == dict(
        zip(world.raters.values(), (30, 20, 20, 20, 3), strict=True)
    )
    assert manifest["rows"] == world.done.rows == 93
    assert manifest["sessions"] == reader.session_ids(world.log)
    assert canonical.json_bytes(manifest) + b"\n" == (world.folder / "manifest.json").read_bytes()


def test_the_manifest_names_every_file_by_its_digest(world: _World) -> None:
    manifest = json.loads((world.folder / "manifest.json").read_bytes())
    named = {file["path"]: file for file in manifest["files"]}
    assert len(named) == len(manifest["files"]) == 2 + 4 + 3
    for path, file in named.items():
        if "sha256" in file:
            assert canonical.file_sha256(world.log.layout.root / path) == file["sha256"]
        else:
            assert path.startswith("feedback/") and len(file["rows_mac"]) == 64


def test_the_ledger_names_the_policy_and_its_raters(world: _World) -> None:
    body = next(e.body for e in world.log.ledger.of("training") if e.body["name"] == "one")
    assert body["weights_sha256"] == world.done.weights_sha256
    assert body["rater_ids"] == list(world.raters.values())
    assert body["files"] == {path.name: canonical.file_sha256(path) for path in world.folder.iterdir()}


def test_the_manifest_of_those_who_rated_again_names_no_file_of_the_base_rater(tmp_path: Path) -> None:
    from rlhf_audit.consent import register

    log, raters = panel(tmp_path)
    register.withdraw(log, raters["base"])
    done = retrain.retrain(log, tmp_path / "policy", "article")
    manifest = (tmp_path / "policy" / "manifest.json").read_text()
    assert raters["base"] not in done.raters
    assert raters["base"] not in manifest
    assert "episodes/s-0001.parquet" in manifest


def test_the_card_can_be_read(world: _World) -> None:
    card = (world.folder / "CARD.md").read_text()
    assert card.startswith("# Policy one\n")
    for words in (
        world.done.weights_sha256,
        "CartPole-v1",
        "93, from 5 raters in 5 sessions",
        world.log.log_id,
    ):
        assert words in card
    for rater_id in world.raters.values():
        assert f"| {rater_id} |" in card
    assert "None" not in card and "\n\n\n" not in card
    assert "a person" not in card and "always-yes" not in card


def test_trained_again_it_is_the_same_to_the_byte(world: _World, tmp_path: Path) -> None:
    before = tree(world.folder)
    assert retrain.retrain(world.log, world.folder, seed=9) == world.done
    after = tree(world.folder)
    assert after["weights.npz"] == before["weights.npz"]
    # The head of the ledger has moved on: the first training is an entry of its own.
    policy = store.load(world.folder)
    manifest = json.loads(before["manifest.json"])
    assert {k: v for k, v in policy.manifest.items() if k != "log_head"} == {
        k: v for k, v in manifest.items() if k != "log_head"
    }
    assert not [path for path in world.folder.parent.iterdir() if path.name.startswith(".")]


def test_saving_twice_gives_identical_bytes(world: _World) -> None:
    from rlhf_audit.policy.manifest import Manifest, RaterShare

    loaded = store.load(world.folder)
    values = {name: value for name, value in loaded.manifest.items() if name != "schema"}
    values["raters"] = [RaterShare(**share) for share in values["raters"]]
    manifest = Manifest(**values)
    made = [store.files(loaded.weights, manifest) for _ in range(3)]
    assert made[0] == made[1] == made[2] == tree(world.folder)


def test_another_seed_or_algorithm_is_another_policy(world: _World, tmp_path: Path) -> None:
    made = {
        retrain.retrain(world.log, tmp_path / f"{algorithm}{seed}", algorithm, seed).weights_sha256
        for algorithm, seed in (("article", 1), ("article", 2), ("trusting", 1))
    }
    assert len(made | {world.done.weights_sha256}) == 4


@pytest.mark.parametrize("expected", ["0" * 64, "", "likelihood"])
def test_another_digest_than_expected_writes_nothing(world: _World, tmp_path: Path, expected: str) -> None:
    before = tree(world.root)
    for folder in (world.folder, world.root / "policies" / "two"):
        with pytest.raises(DigestMismatchError) as refused:
            retrain.retrain(world.log, folder, "article", seed=1, expect=expected)
        assert refused.value.exit_code == 1
    assert tree(world.root) == before


def test_the_digest_expected_may_be_spelt_large(world: _World, tmp_path: Path) -> None:
    made = retrain.retrain(world.log, tmp_path / "a", "article", seed=1)
    again = retrain.retrain(world.log, tmp_path / "b", "article", seed=1, expect=made.weights_sha256.upper())
    assert again.weights_sha256 == made.weights_sha256


def test_each_flipped_byte_of_the_weights_is_detected(world: _World) -> None:
    path = world.folder / "weights.npz"
    good = path.read_bytes()
    needed = store.load(world.folder).weights
    n_detected = 0
    try:
        for position in range(0, len(good), len(good) // 120):
            bad = bytearray(good)
            bad[position] ^= 0x10
            path.write_bytes(bytes(bad))
            try:
                loaded = store.load(world.folder)
            except (DigestMismatchError, LogError):
                n_detected += 1
                continue
            # A byte of the archive that is no weight, such as a date: the policy is still the same one.
            assert weights_sha256(loaded.weights) == weights_sha256(needed)
    finally:
        path.write_bytes(good)
    assert n_detected > 110


@pytest.mark.parametrize("name", ["manifest.json", "weights.npz"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b"null"])
def test_a_damaged_policy_is_refused_in_words(world: _World, tmp_path: Path, name: str, data: bytes) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in world.folder.iterdir():
        (folder / path.name).write_bytes(data if path.name == name else path.read_bytes())
    with pytest.raises(LogError, match="the policy damaged can't be read"):
        store.load(folder)


def test_nothing_is_put_over_what_is_no_policy(world: _World, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.mkdir()
    (diary / "monday.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(diary)
    size = world.log.ledger.head.size
    before = tree(tmp_path)
    for folder in (diary, diary / "monday.txt", link, diary / "monday.txt" / "below"):
        with pytest.raises(RlhfAuditError) as refused:
            retrain.retrain(world.log, folder, "article")
        assert isinstance(refused.value, UsageError), folder
    assert tree(tmp_path) == before
    assert world.log.ledger.head.size == size


def test_a_note_beside_the_weights_is_neither_overwritten_nor_destroyed(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in (store.WEIGHTS, store.MANIFEST, store.CARD, "note.txt"):
        (folder / name).write_text("kept")
    with pytest.raises(UsageError):
        store.check_free(folder)
    store.destroy(folder)
    assert [path.name for path in folder.iterdir()] == ["note.txt"]


def test_an_empty_folder_may_be_filled(world: _World, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    made = retrain.retrain(world.log, folder, "article")
    assert store.load(folder).weights_sha256 == made.weights_sha256


def test_what_was_learnt_live_is_kept_with_its_lineage(tmp_path: Path) -> None:
    from session_world import Presses, enrolled, new_log, rate

    log: Log = new_log(tmp_path / "log")
    person = enrolled(log, alias="Ann")
    folder = tmp_path / "policies" / "live"
    done = rate(log, person, Presses("10u1s0"), learn="likelihood", to=folder, seed=5)
    policy = store.load(folder)
    assert policy.weights_sha256 == done.weights_sha256
    manifest = policy.manifest
    assert (manifest["mode"], manifest["rows"], manifest["sessions"]) == ("live", 3, ["s-0001"])
    assert [share["rater_id"] for share in manifest["raters"]] == [person]
    assert manifest["log_head"] == log.ledger.head_at(log.ledger.head.size - 1).to_json()
    assert manifest["parameters"]["learning_rate"] > 0
    assert "Ann" not in (folder / "CARD.md").read_text()
