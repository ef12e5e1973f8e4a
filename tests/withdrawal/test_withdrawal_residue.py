"""Our own search finds a rater in every structure that could hold one."""

import base64
import gzip
import html
import io
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.log import keys, views
from rlhf_audit.withdrawal import erase, residue


def test_our_own_search_sees_what_is_hidden_in_each_structure(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    key = replace(keys.read(log.layout, raters[0]), alias="Zoë Quite-Unusual")
    needles = residue.needles_of(key)
    assert residue.scan(log, needles).found == tuple(
        sorted(
            [
                f"feedback/rater_id={raters[0]}",
                f"feedback/rater_id={raters[0]}/s-0001.parquet",
                f"keys/{raters[0]}.key",
            ]
        )
    )
    filler = [f"filler {n}" for n in range(999)]
    hidden: dict[str, Callable[[str], bytes]] = {
        "value": lambda word: parquet({"x": [*filler, word]}, write_statistics=False),
        "first value": lambda word: parquet({"x": [word, *filler]}, write_statistics=False),
        "dictionary": lambda word: parquet({"x": [word, *filler]}, use_dictionary=True),
        "statistics": lambda word: parquet({"x": [word]}),
        "small pages": lambda word: parquet(
            {"x": [*filler, word]}, data_page_size=64, write_statistics=False
        ),
        "column name": lambda word: parquet({word: [1]}),
        "metadata": lambda word: parquet({"x": [1]}, {word.encode(): b""}),
        "hex": lambda word: b"..." + word.encode().hex().encode(),
        "HEX": lambda word: b"..." + word.encode().hex().upper().encode(),
        "percent": lambda word: quote(word).encode(),
        "utf-16": lambda word: word.encode("utf-16-le"),
        "escaped": lambda word: json.dumps(word).encode(),
    }
    for shift in range(3):
        hidden[f"base64 {shift}"] = lambda word, shift=shift: base64.b64encode(
            b"xyz"[:shift] + word.encode() + b"!!"
        )
    for structure, write in hidden.items():
        for word in (key.alias, raters[0]):
            path = log.layout.episodes / "hidden.bin"
            path.write_bytes(write(word))
            assert "episodes/hidden.bin" in residue.scan(log, needles).found, (structure, word)
            path.write_bytes(write("nothing of the kind"))
            assert "episodes/hidden.bin" not in residue.scan(log, needles).found, structure
            path.unlink()


def parquet(columns: dict[str, Any], metadata: dict[bytes, bytes] | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    table = pa.table(columns).replace_schema_metadata(metadata)
    settings = {"compression": "zstd", "use_dictionary": False} | options
    pq.write_table(table, buffer, **settings)
    return buffer.getvalue()


ALIAS = "Zoë Quite-Unusual & Co"
SPELT: dict[str, Callable[[bytes], bytes]] = {
    "utf-8": lambda word: word,
    "utf-16-le": lambda word: word.decode().encode("utf-16-le"),
    "utf-16-be": lambda word: word.decode().encode("utf-16-be"),
    "hex": lambda word: word.hex().encode(),
    "HEX": lambda word: word.hex().upper().encode(),
    "base64 at 0": lambda word: base64.b64encode(word + b"!!"),
    "base64 at 1": lambda word: base64.b64encode(b"x" + word + b"!!"),
    "base64 at 2": lambda word: base64.b64encode(b"xy" + word + b"!!"),
    "percent": lambda word: "".join(f"%{byte:02X}" for byte in word).encode(),
    "percent, as urllib has it": lambda word: quote(word.decode()).encode(),
    "reversed": lambda word: word[::-1],
    "JSON": lambda word: json.dumps(word.decode()).encode(),
    "HTML": lambda word: html.escape(word.decode()).encode(),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
    "zip": lambda data: zipped(data, zipfile.ZIP_DEFLATED),
    "npz": lambda data: saved(np.frombuffer(data, np.uint8)),
}


def zipped(data: bytes, method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("inside.txt", b"filler " * 99 + data)
    return buffer.getvalue()


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, array)
    return buffer.getvalue()


def test_every_encoding_in_every_container_is_found(tmp_path: Path) -> None:
    log, raters = small_log.plain(tmp_path / "log", 2)
    key = replace(keys.read(log.layout, raters[0]), alias=ALIAS)
    needles = replace(residue.needles_of(key), pseudonym=b"nobody of this name")
    before = set(residue.scan(log, needles).found)
    places = {}
    for number, (spelling, spell) in enumerate(SPELT.items()):
        for packing, pack in PACKED.items():
            name = f"steps/{number}-{packing}.bin"
            places[name] = (spelling, packing)
            (log.layout.root / name).write_bytes(pack(b"... " + spell(ALIAS.encode()) + b" ..."))
            (log.layout.root / f"{name}.not").write_bytes(
                pack(b"... " + spell(b"of nobody at all") + b" ...")
            )
    found = set(residue.scan(log, needles).found) - before
    assert {place: told for place, told in places.items() if place not in found} == {}
    assert found == set(places)


def test_every_place_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each folder, in names, behind links, in temporary files: one canary in each; and none besides."""
    from rlhf_audit.replay import retrain
    from rlhf_audit.reports import publish

    small_log.cheap_training(monkeypatch)
    log, raters = small_log.plain(tmp_path / "log", 3)
    publish.publish(log, log.layout.reports / "one")
    erase.apply(log, raters[2])
    retrain.retrain(log, tmp_path / "policies" / "offline")
    key = replace(keys.read(log.layout, raters[0]), alias=ALIAS)
    needles = replace(residue.needles_of(key), pseudonym=b"nobody of this name")
    before = set(residue.scan(log, needles).found)
    layout = log.layout
    inside = [*layout.folders, layout.root, layout.journal / "s-0009", layout.rater_folder("r-12345678")]
    inside += [layout.reports / "one", tmp_path / "policies" / "offline"]
    planted = []
    for folder in inside:
        folder.mkdir(exist_ok=True)
        for name in ("planted.txt", "half.parquet.tmp", ".hidden.old"):
            (folder / name).write_bytes(b"... " + ALIAS.encode())
            planted.append(folder / name)
    (layout.steps / ALIAS).mkdir()
    (layout.episodes / f"{ALIAS}.parquet").touch()
    (layout.terms / "link").symlink_to(f"nowhere/{ALIAS}")
    planted += [layout.steps / ALIAS, layout.episodes / f"{ALIAS}.parquet", layout.terms / "link"]
    for path, data in (
        ("ledger/entries.jsonl", layout.entries.read_bytes()),
        ("ledger/checkpoint", layout.checkpoint.read_bytes()),
        ("receipts/receipt-0001.html", b""),
        ("log.json", layout.header.read_bytes()),
    ):
        (layout.root / path).write_bytes(data + ALIAS.encode())
        planted.append(layout.root / path)
    for name, options in {
        "page index": {"write_page_index": True},
        "dictionary": {"use_dictionary": True, "write_statistics": False},
        "delta": {"column_encoding": {"x": "DELTA_BYTE_ARRAY"}, "write_statistics": False},
    }.items():
        planted.append(layout.steps / f"{name}.parquet")
        planted[-1].write_bytes(parquet({"x": [*map(str, range(99)), ALIAS]}, **options))
    found = set(residue.scan(log, needles).found) - before
    wanted = {
        path.relative_to(layout.root).as_posix()
        if path.is_relative_to(layout.root)
        else f"../{path.relative_to(tmp_path).as_posix()}"
        for path in planted
    }
    assert found == wanted


def test_no_structure_of_ours_can_hide_an_answer(tmp_path: Path) -> None:
    """What a rater gave has no dictionary that outlives a row, and no bloom filter."""
    log, _ = small_log.plain(tmp_path / "log", 2)
    seen = 0
    for path in log.layout.feedback.rglob("*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        for group in range(metadata.num_row_groups):
            for number in range(metadata.num_columns):
                column = metadata.row_group(group).column(number)
                assert not column.has_dictionary_page, (path, column.path_in_schema)
                assert getattr(column, "bloom_filter_offset", None) is None
                seen += 1
    assert seen


def test_what_duckdb_can_not_hold_in_memory_is_not_written_down(tmp_path: Path) -> None:
    """No folder for temporary files: what is too large fails; the control spills."""
    log, _ = small_log.plain(tmp_path / "log", 2)
    before = set(tmp_path.rglob("*"))
    with views.connect(log, log.clock.now()) as connection:
        assert connection.sql("SELECT current_setting('temp_directory')").fetchall() == [("",)]
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            connection.execute("SET temp_directory = 'spilt'")
    with duckdb.connect(config={"temp_directory": str(tmp_path / "spilt"), "threads": 1}) as control:
        control.execute("SET memory_limit = '60MB'; SET preserve_insertion_order = false")
        control.execute("CREATE TABLE t AS SELECT range::VARCHAR || repeat('x', 90) AS x FROM range(1000000)")
        assert any((tmp_path / "spilt").iterdir())
    assert set(tmp_path.rglob("*")) == before
