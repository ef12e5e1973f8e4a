"""``check_hf.py DIR CACHE``: datasets.load_dataset on every table of an export."""

import itertools
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import numpy as np
from resimulating import check, environments, tell

root, cache = Path(sys.argv[1]), sys.argv[2]
datasets.disable_progress_bars()
steps, ratings = {}, {}


def value(space, plain):
    if space["type"] == "Tuple":
        return tuple(value(inner, plain[str(n)]) for n, inner in enumerate(space["spaces"]))
    if isinstance(plain, bytes):
        return np.frombuffer(plain, space["dtype"]).reshape(space["shape"])
    return np.array(plain, space["dtype"]).reshape(space["shape"])


for name, record in environments(root).items():
    table = datasets.load_dataset(
        "parquet", data_files=str(root / "data" / f"{name}.parquet"), cache_dir=cache
    )
    by_card = datasets.load_dataset(str(root), name, cache_dir=cache)
    assert table["train"].features == by_card["train"].features and len(table["train"]) == len(
        by_card["train"]
    )
    rows = table["train"].to_list()
    space = record["observation_space"]
    episodes = []
    for _, group in itertools.groupby(rows, key=lambda row: row["episode_id"]):
        once = [next(of_step) for _, of_step in itertools.groupby(group, key=lambda row: row["step"])]
        seen = [value(space, row["observation"]) for row in once]
        final = value(space, once[-1]["final_observation"])
        columns = [[row[key] for row in once] for key in ("action", "env_reward", "terminated", "truncated")]
        episodes.append((once[0]["reset_seed"], [*seen, final], *columns))
    steps[name] = check(record, episodes)
    ratings[name] = [[row["rater"], row["value"]] for row in rows[:3]]
tell(steps=steps, ratings=ratings)
