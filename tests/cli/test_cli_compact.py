"""``compact`` at the command line: what it prints, and how it is stopped."""

import shutil

from rlhf_audit.log import compaction
from rlhf_audit.log.store import Log


def test_compact_merges_says_so_and_has_nothing_to_do_then(cli, study, tmp_path):
    log = tmp_path / "log"
    shutil.copytree(study.log, log)
    rater = study.raters["oracle"]
    for seed in (21, 22):
        options = ["--source", "scripted:oracle", "--kind", "rating", "--max-feedback", 3, "--seed", seed]
        assert cli("record", log, "--env", "CartPole-v1", "--rater", rater, *options).code == 0
    asked = ("sql", log, "SELECT * FROM feedback ORDER BY ALL", "--json")
    before = cli(*asked).result
    reply = cli("compact", log, "--json")
    result = reply.result
    assert reply.code == 0 and reply.document["schema"] == "rlhf_audit.compact/1"
    assert set(result) == {"files_before", "files_after", "bytes_before", "bytes_after", "files", "apart"}
    assert result["files_after"] == result["files_before"] - sum(f["merged"] - 1 for f in result["files"])
    assert result["bytes_after"] < result["bytes_before"]
    assert all(set(file) == {"path", "rows", "bytes", "merged"} for file in result["files"])
    assert cli(*asked).result == before and cli("verify", log).code == 0
    entries = len(Log(log).ledger.entries)
    again = cli("compact", log)
    assert again.code == 0 and again.out.startswith("nothing to merge: ")
    assert len(Log(log).ledger.entries) == entries
    assert cli("compact", log, "--json").result["files"] == []


def test_compact_is_stopped_with_the_log_whole(cli, study, tmp_path, monkeypatch):
    log = tmp_path / "log"
    shutil.copytree(study.log, log)
    rater = study.raters["oracle"]
    options = ["--source", "scripted:oracle", "--kind", "rating", "--max-feedback", 3]
    assert cli("record", log, "--env", "CartPole-v1", "--rater", rater, *options).code == 0
    entries = len(Log(log).ledger.entries)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "_write", stopped)
        assert cli("compact", log).code == 130
    assert cli("verify", log).code == 0 and len(Log(log).ledger.entries) == entries
    told = cli("compact", log)
    assert told.code == 0 and told.out.startswith("merged ")
    with Log(log).writing():
        assert cli("compact", log).code == 3


def test_a_damaged_file_is_named_by_compact(cli, study, tmp_path):
    log = tmp_path / "log"
    shutil.copytree(study.log, log)
    rater = study.raters["oracle"]
    options = ["--source", "scripted:oracle", "--kind", "rating", "--max-feedback", 3]
    assert cli("record", log, "--env", "CartPole-v1", "--rater", rater, *options).code == 0
    path = log / "episodes" / "s-0001.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    reply = cli("compact", log)
    assert reply.code == 4 and "episodes/s-0001.parquet" in reply.err and str(tmp_path) not in reply.err
