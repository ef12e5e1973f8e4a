"""Our own search finds a rater in every structure that could hold one."""

import base64
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "log"))

import small_log
from small_log import signing_key  # noqa: F401 - for every test here

from rlhf_audit.log import keys
from rlhf_audit.withdrawal import residue


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
