"""``check_lerobot.py DIR CACHE``: LeRobotDataset on every dataset of an export."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = sys.argv[2]

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from resimulating import check, environments, tell

root = Path(sys.argv[1])
steps, ratings = {}, {}


def picture(tensor):
    return np.rint(tensor.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)


def decoded(stored):
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(stored["bytes"]))) if "bytes" in stored else stored


for name, record in environments(root).items():
    dataset = LeRobotDataset(f"rlhf_audit/{name}", root=root / name)
    # What __getitem__ gives went through torch, which makes every float one of 32 bits.
    table = dataset.hf_dataset.data.table
    exact = {
        key: table.column(key).to_pylist()
        for key in ("action", "next.reward", "next.terminated", "next.truncated")
    }
    space = record["observation_space"]
    names = [f"observation.{n}" for n in range(len(space["spaces"]))] if space["type"] == "Tuple" else []
    episodes = []
    for facts in dataset.meta.episodes:
        rows = range(facts["dataset_from_index"], facts["dataset_to_index"])
        items = [dataset[row] for row in rows]
        if names:
            seen = [tuple(item[key].item() for key in names) for item in items]
            seen.append(tuple(facts[f"final.{key}"] for key in names))
        elif "observation.image" in dataset.features:
            seen = [picture(item["observation.image"]) for item in items]
            final = facts["final.observation.image"]
            seen.append(decoded(final) if isinstance(final, dict) else np.asarray(final))
        else:
            seen = [item["observation.state"].numpy() for item in items] + [facts["final.observation.state"]]
            seen = [np.asarray(one, space["dtype"]).reshape(space["shape"]) for one in seen]
        actions = [np.reshape(exact["action"][row], record["action_space"]["shape"]) for row in rows]
        columns = [[exact[key][row] for row in rows] for key in list(exact)[1:]]
        episodes.append((facts["reset_seed"], seen, actions, *columns))
    steps[name] = check(record, episodes)
    ratings[name] = [[str(one) for one in dataset[row]["rating"].tolist()] for row in range(2)]
tell(steps=steps, ratings=ratings, raters=dataset.meta.features["rating"]["names"])
