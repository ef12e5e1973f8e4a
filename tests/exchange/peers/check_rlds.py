"""``check_rlds.py DIR``: tfds.builder_from_directory on every dataset of an export."""

import os
import re
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow_datasets as tfds
from resimulating import check, environments, tell

root = Path(sys.argv[1])
steps, ratings = {}, {}


def observation(step):
    seen = step["observation"]
    return tuple(seen[str(n)] for n in range(len(seen))) if isinstance(seen, dict) else seen


for name, record in environments(root).items():
    folder = root / re.sub(r"[^a-z0-9]+", "_", name.lower()) / "1.0.0"
    episodes = []
    for episode in tfds.builder_from_directory(str(folder)).as_dataset(split="train"):
        told = list(episode["steps"].as_numpy_iterator())
        acted = told[:-1]
        assert [step["is_first"] for step in told] == [True] + [False] * len(acted)
        assert [step["is_last"] for step in told] == [False] * len(acted) + [True]
        terminated = [bool(step["is_terminal"]) for step in told[1:]]
        truncated = [False] * (len(acted) - 1) + [bool(episode["truncated"])]
        seen = [observation(step) for step in told]
        actions = [step["action"] for step in acted]
        env_rewards = [step["reward"] for step in acted]
        episodes.append((int(episode["reset_seed"]), seen, actions, env_rewards, terminated, truncated))
        if name not in ratings:
            ratings[name] = [[str(one) for one in step["rating"].tolist()] for step in told[:2]]
    steps[name] = check(record, episodes)
tell(steps=steps, ratings=ratings)
