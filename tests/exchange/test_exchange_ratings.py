"""A table of ratings becomes sessions of pseudonyms that audits, erasures and verification work on."""

import json

import exchange_world as world
import numpy as np
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.cli.app import main
from rlhf_audit.errors import ConsentError, RefusedError, UsageError
from rlhf_audit.exchange import ratings, ratings_reading
from rlhf_audit.log import keys, reader, views
from rlhf_audit.replay import rollout
from rlhf_audit.types import Purpose
from rlhf_audit.verification import verify
from rlhf_audit.withdrawal import erase

TABLE = """item,rater,label,gold,latency_s,order,group.language,note
tweet 1,Ada Lovelace,yes,yes,1.5,2,en,x
tweet 2,Ada Lovelace,no,,2.5,1,en,x
tweet 1,Grace Hopper,no,yes,0.5,1,,x
tweet 2,Grace Hopper,no,,0.25,2,,x
tweet 3,Grace Hopper,yes,no,4,3,de,x
tweet 1,Grace Hopper,yes,yes,0.75,4,,x
"""


@pytest.fixture
def log(tmp_path):
    return world.new_log(tmp_path / "new")


def written(tmp_path, text=TABLE):
    path = tmp_path / "ratings.csv"
    path.write_text(text)
    return path


def read(log, sql):
    with views.connect(log, log.clock.now()) as connection:
        return connection.execute(sql).fetchall()


def tree(log):
    return {str(path): path.read_bytes() for path in log.layout.root.rglob("*") if path.is_file()}


def test_every_rating_is_there_under_a_pseudonym(log, tmp_path):
    made = ratings.take_in(log, written(tmp_path), "study 12, form B")
    ada, grace = made.codes
    assert (made.rows, made.items, made.words, made.n_gold) == (6, 3, ("no", "yes"), 2)
    found = read(
        log,
        "SELECT u.rater_id, s.observation, u.value, u.latency_s FROM usable_for_audit u"
        ' JOIN "steps_of_rated_elsewhere" s USING (episode_id, step) ORDER BY u.session_n, u.row',
    )
    # Each rater's own order, not the file's.
    assert found == [
        (ada, "tweet 2", 0.0, 2.5),
        (ada, "tweet 1", 1.0, 1.5),
        (grace, "tweet 1", 0.0, 0.5),
        (grace, "tweet 2", 0.0, 0.25),
        (grace, "tweet 3", 1.0, 4.0),
        (grace, "tweet 1", 1.0, 0.75),
    ]
    gold = read(log, "SELECT s.info FROM steps s JOIN episodes e USING (episode_id) ORDER BY e.episode")
    assert [json.loads(info) for (info,) in gold] == [{"gold": 1.0}, {}, {"gold": 0.0}]
    assert not read(log, "SELECT item FROM usable_for_training")
    assert verify(log.layout.root).ok


def test_names_and_groups_are_in_the_key_files_alone(log, tmp_path):
    made = ratings.take_in(log, written(tmp_path), "form B")
    ada, grace = made.codes
    assert reader.aliases(log) == {ada: "Ada Lovelace", grace: "Grace Hopper"}
    assert keys.read(log.layout, grace).groups == {"language": "de"}
    for name, data in tree(log).items():
        assert "/keys/" in name or not any(word in data for word in (b"Lovelace", b"Hopper", b"language"))
    assert read(log, f"SELECT groups['language'] FROM raters WHERE rater_id = '{grace}'") == [("de",)]
    noted = next(log.ledger.of("import")).body
    assert (noted["labels"], noted["reference"]) == (["no", "yes"], "form B")
    assert {e.body["method"] for e in log.ledger.of("consent")} == {"imported"}
    assert {tuple(e.body["purposes"]) for e in log.ledger.of("consent")} == {("audit",)}


def test_an_imported_rater_is_erased_as_any_other(log, tmp_path):
    made = ratings.take_in(log, written(tmp_path), "form B")
    ada, grace = made.codes
    # The session that holds the items is Ada's.
    erase.apply(log, ada, lambda _: None)
    assert verify(log.layout.root).ok
    assert {row[0] for row in read(log, "SELECT rater_id FROM usable_for_audit")} == {grace}
    assert len(read(log, "SELECT * FROM steps")) == 3
    with pytest.raises(UsageError, match="taken in before"):
        ratings.take_in(log, tmp_path / "ratings.csv", "form B")


def test_a_sealed_log_takes_them_too(tmp_path):
    from rlhf_audit.consent import terms
    from rlhf_audit.log import store
    from rlhf_audit.seeds import SeededEntropy

    log = store.create(tmp_path / "sealed", world.Clock(), SeededEntropy(3), world.KEY, sealed=True)
    terms.add(log)
    ratings.take_in(log, written(tmp_path), "form B")
    assert len(read(log, "SELECT item FROM usable_for_audit")) == 6 and verify(log.layout.root).ok


def test_without_latency_order_and_gold(log, tmp_path):
    made = ratings.take_in(log, written(tmp_path, "rater,label,item\na,3,x\nb,1e0,x\na,-2.5,y\n"), "form B")
    assert made.words == () and made.n_gold == 0
    assert [row[0] for row in read(log, "SELECT value FROM usable_for_audit ORDER BY session_n, row")] == [
        3.0,
        -2.5,
        1.0,
    ]
    with views.connect(log, log.clock.now()) as connection:
        results = runner.run(connection)
        assert connection.execute("SELECT count(*) FROM answers WHERE latency_s IS NULL").fetchall() == [(3,)]
    assert not any(result.findings for result in results)
    assert verify(log.layout.root).ok


def test_replay_says_that_nothing_was_played(log, tmp_path):
    made = ratings.take_in(log, written(tmp_path), "form B")
    played = [rollout.replay(log, session) for session in made.sessions]
    assert all(one.difference is None and one.steps == 0 for one in played)
    assert "rated elsewhere" in played[0].note


def test_a_killed_import_leaves_whole_sessions(log, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def killed(*_):
        raise KilledError

    with pytest.raises(KilledError):
        ratings.take_in(log, written(tmp_path), "form B", progress=killed)
    assert len(read(log, "SELECT item FROM usable_for_audit")) == 2 and verify(log.layout.root).ok


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "can't be read"),
        ("item,rater,label\n", "holds no rating"),
        ("item,rater\nx,a\n", "columns are not those"),
        ("item,rater,label,label\nx,a,1,2\n", "columns are not those"),
        ("item,rater,label\nx,a\n", "can't be read"),
        ("item,rater,label\nx,,1\n", "lacks values in rater"),
        ("item,rater,label\nx,a,\n", "lacks values in label"),
        ("item,rater,label\nx,a,1\ny,a,secret\n", "neither all numbers nor all words"),
        ("item,rater,label\nx,a,nan\n", None),
        ("item,rater,label,gold\nx,a,1,0\nx,b,1,1\n", "two things of one item"),
        ("item,rater,label,group.g\nx,a,1,u\ny,a,1,v\n", "two things of one rater"),
        ("item,rater,label,latency_s\nx,a,1,-1\n", "lacks values in latency_s"),
        ("item,rater,label,latency_s\nx,a,1,\n", "lacks values in latency_s"),
        ("item,rater,label,latency_s\nx,a,1,secret\n", "can't be read"),
        ("item,rater,label\n" + "".join(f"x,a,word {n}\n" for n in range(51)), "free text"),
        ("item,rater,label\nx,a,\xff\n".encode("latin-1"), "can't be read"),
    ],
)
def test_bad_tables_are_refused_and_nothing_is_written(log, tmp_path, text, told):
    path = tmp_path / "bad.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = tree(log)
    if told is None:
        # A word as any other.
        assert ratings.take_in(log, path, "form B").words == ("nan",)
        return
    with pytest.raises(UsageError, match=told) as caught:
        ratings.take_in(log, path, "form B")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and "secret" not in str(caught.value) and caught.value.exit_code == 2
    assert tree(log) == before


def test_what_may_not_be_is_refused_and_nothing_is_written(log, tmp_path):
    before = tree(log)
    with pytest.raises(ConsentError, match="without consent"):
        ratings.take_in(log, written(tmp_path), "  ")
    with pytest.raises(UsageError, match="nothing can be learnt"):
        ratings.take_in(log, written(tmp_path), "form B", [Purpose.TRAINING])
    with pytest.raises(RefusedError, match="under age"):
        ratings.take_in(log, written(tmp_path, "item,rater,label,group.age\nx,a,1,17\n"), "form B")
    assert tree(log) == before


def test_rows_are_read_in_batches(tmp_path):
    """More than one block of Arrow's reader, 1 MiB: names and codes go on across them."""
    n = 60_000
    lines = [f"item {i // 3},rater {i % 7},{['a', 'b', 'c'][i % 3]},{i % 11}" for i in range(n)]
    path = written(tmp_path, "item,rater,label,latency_s\n" + "\n".join(lines) + "\n")
    assert path.stat().st_size > 1 << 20
    found = ratings_reading.read(path)
    numbers = np.arange(n)
    assert (found.item == numbers // 3).all() and (found.rater == numbers % 7).all()
    assert (found.label == numbers % 3).all() and (found.latency_s == numbers % 11).all()
    assert [len(places) for _, places in found.by_rater()] == np.bincount(numbers % 7).tolist()


def test_the_command_line(log, tmp_path, capsys):
    root, path = str(log.layout.root), str(written(tmp_path))
    given = ["import", root, path, "--format", "ratings", "--json", "--consent-reference"]
    assert main([*given[:3], "--format", "ratings"]) == 3
    assert main([*given, "form B", "--rater", "r-00000000"]) == 2
    assert main([*given[:2], str(tmp_path / "nothing.csv"), *given[3:], "form B"]) == 4
    capsys.readouterr()
    assert not log.ledger.of("import") or not [*log.ledger.of("import")]


def test_the_command_line_tells_the_codes_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    root, path = str(tmp_path / "log"), str(written(tmp_path))
    assert main(["init", root]) == 0
    capsys.readouterr()
    assert main(["import", root, path, "--format", "ratings", "--json", "--consent-reference", "form B"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["rows"], result["items"], result["labels"], result["gold"]) == (6, 3, ["no", "yes"], 2)
    assert [*result["withdrawal_codes"]] == result["raters"] and len(result["sessions"]) == 2
    assert main(["verify", root]) == 0
