"""A log in a bucket gives the audits that the same log gives here; nothing else is done with it."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from rlhf_audit.cli.app import main
from rlhf_audit.errors import LogError, UsageError
from rlhf_audit.log import remote, views
from rlhf_audit.log.remote_files import Place, RemotePath
from rlhf_audit.log.store import Log, create

motoserver = pytest.importorskip("moto.server", reason="the extra dev's moto is not installed")

SAMPLE = Path(__file__).parents[2] / "sample_data" / "panel"
URI = "s3://studies/2026/panel"
FEW = ["severity", "agreement", "too_fast"]
SECRET = "not-to-be-told"


@pytest.fixture(scope="module")
def store() -> Iterator[fs.S3FileSystem]:
    """A store on this machine, and the variables that lead to it."""
    server = motoserver.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name in [one for one in os.environ if one.startswith("AWS_")]:
            patch.delenv(name)
        patch.delenv("RLHF_AUDIT_LOG", raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        system = fs.S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
        system.create_dir("studies")
        yield system
    server.stop()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's log without its keys: what may be copied."""
    folder = tmp_path_factory.mktemp("copy") / "panel"
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("keys"))
    return folder


@pytest.fixture(scope="module")
def there(store: fs.S3FileSystem, here: Path) -> str:
    upload(store, here, URI)
    return URI


def upload(store: fs.S3FileSystem, folder: Path, uri: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            put(store, f"{uri}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def put(store: fs.S3FileSystem, uri: str, data: bytes) -> None:
    with store.open_output_stream(uri.removeprefix("s3://")) as file:
        file.write(data)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    return code, told.out, told.err


def refused(told: tuple[int, str, str], code: int, *words: str) -> None:
    """Three lines, this exit code, these words, and nothing of where the store is."""
    assert told[0] == code, told[2]
    error = told[2][told[2].index("error: ") :]
    assert len(error.strip().splitlines()) == 3, error
    assert all(word in error for word in words), error
    assert "127.0.0.1" not in error and "Traceback" not in error


def audits(out: str) -> Any:
    return json.loads(out)["result"]["audits"]


def test_every_row_is_that_of_the_same_log_read_here(capsys, here, there):
    code, out, err = run(capsys, "audit", there, "--json")
    assert (code, json.loads(out)) == (1, json.loads(run(capsys, "audit", here, "--json")[1]))
    assert "Groups are not known here" in err and "keys/ was copied" not in err


def test_policies_are_found_where_they_lie_from_the_log(capsys, store, here):
    uri = "s3://studies/whole/sample_data/panel"
    upload(store, here, uri)
    upload(store, SAMPLE.parents[1] / "policies", "s3://studies/whole/policies")
    far, near = (audits(run(capsys, "audit", place, "policy_share", "--json")[1]) for place in (uri, SAMPLE))
    assert far == near and near[0]["rows"]


def test_groups_stay_with_the_keys(capsys, store, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "signing.key"))
    rows = [
        f"i{item},p{rater},{int((item + rater // 8) % 3 > 0)},{'ab'[rater // 8]}"
        for item in range(30)
        for rater in range(16)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["item,rater,label,group.site", *rows, ""]))
    (tmp_path / "terms.md").write_text("All of it.\n")
    log, uri = tmp_path / "log", "s3://studies/groups"
    assert run(capsys, "init", log, "--terms", tmp_path / "terms.md")[0] == 0
    given = ("--format", "ratings", "--consent-reference", "forms of 2026", "--purpose", "audit")
    told = run(capsys, "import", log, tmp_path / "ratings.csv", *given)
    assert told[0] == 0, told[2]
    upload(store, log, uri)
    far, near = (audits(run(capsys, "audit", one, "group_bias", *FEW, "--json")[1]) for one in (uri, log))
    assert far[1:] == near[1:]
    assert any(row["note"] != "insufficient" for row in near[0]["rows"])
    assert far[0]["rows"] and all(row["note"] == "insufficient" for row in far[0]["rows"])


def test_options_and_the_variable(capsys, monkeypatch, here, there):
    assert run(capsys, "audit", there, "--list")[1] == run(capsys, "audit", here, "--list")[1]
    options = ("severity", "--set", "severity.threshold=5", "--fail-on", "error", "--json")
    far = run(capsys, "audit", there, *options)
    assert far[:2] == run(capsys, "audit", here, *options)[:2]
    monkeypatch.setenv("RLHF_AUDIT_LOG", there)
    assert run(capsys, "audit", *options)[:2] == far[:2]
    # What is named on the command line counts, not the variable.
    monkeypatch.setenv("RLHF_AUDIT_LOG", "s3://studies/nowhere")
    assert run(capsys, "audit", there, *options)[:2] == far[:2]


def test_printed_sql_names_the_files_in_the_bucket(capsys, here, there):
    far = run(capsys, "audit", there, "severity", "--print-sql")[1]
    near = run(capsys, "audit", here, "severity", "--print-sql")[1]
    when = re.compile(r"TIMESTAMPTZ '[^']*'")
    assert f"'{there}/ledger/entries.jsonl'" in far
    assert when.sub("", far.replace(there, str(here))) == when.sub("", near)


def test_other_uris_are_read(capsys, here):
    far = run(capsys, "audit", here.as_uri(), *FEW, "--json")
    assert far[:2] == run(capsys, "audit", here, *FEW, "--json")[:2]


def test_nothing_is_written_and_duckdb_has_no_access(there, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    log = remote.open_log(there)
    with views.connect(log, log.clock.now()) as connection:
        asked = "SELECT current_setting('enable_external_access'), current_setting('allowed_directories')"
        assert connection.execute(asked).fetchone() == (False, [])
        assert connection.execute("SELECT count(*) FROM usable_for_audit").fetchone()[0] > 0
        # One rater's rows are asked for, not all rows filtered afterwards.
        plan = connection.execute("EXPLAIN SELECT value FROM feedback_rows WHERE rater_id = 'r-0'").fetchall()
        assert "rater_id" in str(plan) and "latency_s" not in str(plan)
    for act in (log.writing, log.holding):
        with pytest.raises(UsageError, match="not changed"), act():
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("record", URI, "--env", "CartPole-v1", "--rater", "r-00000000", "--source", "scripted:oracle"),
        ("init", URI),
        ("enroll", URI),
        ("consent", URI, "r-00000000"),
        ("withdraw", URI, "r-00000000"),
        ("erase", URI, "r-00000000"),
        ("compact", URI),
        ("verify", URI),
        ("show", URI, "raters"),
        ("sql", URI, "SELECT 1"),
        ("replay", URI),
        ("report", URI, "--to", "report"),
        ("retrain", URI, "--to", "policies/p"),
        ("export", URI, "--format", "csv", "--to", "out"),
    ],
    ids=lambda words: words[0],
)
def test_other_verbs_refuse(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    refused(run(capsys, *words), 2, "a remote log can be audited, not changed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [("--engine", "spark"), ("--influence", "flagged")])
def test_what_needs_a_folder_is_refused(capsys, there, option):
    refused(run(capsys, "audit", there, *option), 2, option[0])


@pytest.mark.parametrize("uri", ["s3://no-such-bucket/panel", "s3://studies/2025", "s3://studies"])
def test_no_log_there(capsys, there, uri):
    refused(run(capsys, "audit", uri), 4, f"there is no log at {uri}")


@pytest.mark.parametrize("uri", ["s3://", "ftps://host/x", "s3://studies/x?acl=all", "file://"])
def test_no_place(capsys, store, uri):
    refused(run(capsys, "audit", uri), 2, "LOG is no place")


@pytest.mark.parametrize("uri", [f"s3://me:{SECRET}@studies/x", f"s3://studies/x?secret_key={SECRET}"])
def test_a_secret_in_the_uri_is_refused_and_not_told(capsys, store, uri):
    refused(run(capsys, "audit", uri), 2, "LOG holds a secret")


def test_no_store_answers(capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET}@127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    refused(run(capsys, "audit", URI), 4, f"{URI} can't be reached")


def test_credentials_are_refused(capsys, monkeypatch, there):
    import requests

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    # moto checks keys from the next request on.
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=5)
    try:
        refused(run(capsys, "audit", there), 4, "may not be read with these credentials", "AWS_ACCESS_KEY_ID")
    finally:
        requests.post(f"{endpoint}/moto-api/reset-auth", data="1000000", timeout=5)


@pytest.mark.parametrize("damage", ["junk", "torn", "gone-columns"])
def test_damaged_answers(capsys, store, here, damage):
    uri = f"s3://studies/{damage}"
    upload(store, here, uri)
    path = sorted((here / "feedback").rglob("*.parquet"))[-1]
    raw = path.read_bytes()
    bad = {
        "junk": b"junk" * 50,
        "torn": raw[:4] + bytes(len(raw) // 2) + raw[4 + len(raw) // 2 :],
        "gone-columns": sorted((here / "episodes").glob("*.parquet"))[0].read_bytes(),
    }
    name = path.relative_to(here).as_posix()
    put(store, f"{uri}/{name}", bad[damage])
    refused(run(capsys, "audit", uri, *FEW), 4, name, "verify LOG where it was recorded")


def test_damaged_ledger(capsys, store, here):
    uri = "s3://studies/forged"
    upload(store, here, uri)
    lines = (here / "ledger" / "entries.jsonl").read_bytes()
    put(store, f"{uri}/ledger/entries.jsonl", lines.replace(b'"audit"', b'"tidua"', 1))
    refused(run(capsys, "audit", uri), 4, "ledger", "verify LOG where it was recorded")
    store.delete_file(f"{uri}/ledger/checkpoint".removeprefix("s3://"))
    refused(run(capsys, "audit", uri), 4, "ledger/checkpoint is missing")


def test_copied_keys_are_told_of_and_not_read(capsys, store, there):
    uri = "s3://studies/with-keys"
    upload(store, SAMPLE, uri)
    _, out, err = run(capsys, "audit", uri, *FEW, "group_bias", "--json")
    assert "keys/ was copied with this log" in err
    assert audits(out) == audits(run(capsys, "audit", there, *FEW, "group_bias", "--json")[1])


class Denying:
    """A store whose credentials are good for the log's own prefix, or not even for that."""

    def get_file_info(self, _path):
        raise OSError(f"AWS Error ACCESS_DENIED during HeadObject operation: {SECRET}")


def test_what_lies_beside_the_log_may_be_out_of_reach():
    root = RemotePath("studies/panel", Place(Denying(), "studies/panel", "s3://studies/panel"))
    with pytest.raises(FileNotFoundError):
        (root / "../policies/first/manifest.json").stat()
    with pytest.raises(LogError, match="may not be read with these credentials") as told:
        (root / "log.json").stat()
    assert SECRET not in str(told.value)


def test_a_sealed_log_is_refused(capsys, store, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "signing.key"))
    create(tmp_path / "log", sealed=True)
    upload(store, tmp_path / "log", "s3://studies/sealed")
    refused(run(capsys, "audit", "s3://studies/sealed"), 2, "a sealed log")


def test_an_empty_log_is_read(capsys, store, here, tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_AUDIT_SIGNING_KEY", str(tmp_path / "signing.key"))
    create(tmp_path / "log", terms=b"All of it.\n")
    upload(store, tmp_path / "log", "s3://studies/empty")
    far = run(capsys, "audit", "s3://studies/empty", *FEW, "--json")
    assert far[:2] == run(capsys, "audit", tmp_path / "log", *FEW, "--json")[:2]
    assert Log(tmp_path / "log").ledger.head == remote.open_log("s3://studies/empty").ledger.head
