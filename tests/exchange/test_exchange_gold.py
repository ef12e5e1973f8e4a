"""Ratings with known labels, taken in from a file and audited: as a user does it, on real crowds too."""

import csv
from pathlib import Path

import exchange_world as world
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.exchange import ratings
from rlhf_audit.log import views
from rlhf_audit.withdrawal import erase

REAL = Path(__file__).parents[3] / "shared" / "ground_truth" / "real"


def audited(log):
    with views.connect(log, log.clock.now()) as connection:
        (result,) = runner.run(connection, ["gold_accuracy"])
    return {row.subject: row for row in result.rows}


def test_published_accuracies_from_import_to_audit(tmp_path):
    source = REAL / "welinder2010_bluebirds.csv"
    if not source.exists():
        pytest.skip(f"{source.name} stays in the shared folder, which is absent here")
    given = tmp_path / "given.csv"
    given.write_text(source.read_text().replace("label,truth", "label,gold", 1))
    log = world.new_log(tmp_path / "new")
    made = ratings.take_in(log, given, "study 12, form B")
    rows = audited(log)
    assert rows["majority:label"].n == made.n_gold == made.items
    assert round(rows["majority:label"].value, 4) == 0.7593
    assert round(rows["Dawid-Skene:label"].value, 4) == 0.8981
    with source.open(newline="") as stream:
        answers = list(csv.DictReader(stream))
    right = sum(row["label"] == row["truth"] for row in answers)
    assert rows["all answers:label"].value == pytest.approx(right / len(answers))
    flagged = [row for row in rows.values() if row.flagged]
    assert 5 <= len(flagged) <= 15
    # A rater is compared with the others, not with all.
    assert max(row.value for row in flagged) < rows["all answers:label"].value - 0.095


def table(n=30):
    lines = ["item,rater,label,gold"]
    for item in range(n):
        truth = item % 2
        known = truth if item % 3 else ""
        lines += [f"i{item},{rater},{truth},{known}" for rater in ("Ada", "Grace")]
        lines.append(f"i{item},Charles,{1 - truth if item % 5 else truth},{known}")
    return "\n".join(lines) + "\n"


def test_known_labels_outlive_the_rater_whose_session_holds_the_items(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(table())
    log = world.new_log(tmp_path / "new")
    ada, grace, charles = ratings.take_in(log, path, "study 12, form B").codes
    before = audited(log)
    assert (before[f"{charles}:label"].n, before[f"{charles}:label"].flagged) == (20, True)
    erase.apply(log, ada, lambda _: None)
    after = audited(log)
    assert f"{ada}:label" not in after
    assert after[f"{grace}:label"].value == 1.0 and after[f"{charles}:label"].value == pytest.approx(
        before[f"{charles}:label"].value
    )


def test_what_an_environment_calls_gold_is_no_known_label(tmp_path):
    log = world.new_log(tmp_path / "new")
    rater = world.enrolled(log, *world.INTERNAL)
    world.play(log, rater, world.CART_POLE)
    assert audited(log) == {}
    with views.connect(log, log.clock.now()) as connection:
        assert connection.execute("SELECT count(*) FROM gold").fetchone() == (0,)
