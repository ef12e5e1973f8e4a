"""``record_minari.py DIR``: datasets as Minari's own collector makes them, in each of its storages."""

import os
import sys
from pathlib import Path

root = Path(sys.argv[1])
root.mkdir(parents=True)
os.environ["MINARI_DATASETS_PATH"] = str(root)

import gymnasium as gym  # noqa: E402
import minari  # noqa: E402
from resimulating import tell  # noqa: E402

folders, steps = [], {}
for form in ("hdf5", "arrow", "parquet"):
    for env_id in ("CartPole-v1", "Blackjack-v1", "Pendulum-v1"):
        env = minari.DataCollector(gym.make(env_id, max_episode_steps=30), data_format=form)
        env.action_space.seed(1)
        for number in range(3):
            env.reset(seed=number)
            while True:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                if terminated or truncated:
                    break
        name = f"{form}/{env_id.lower()}"
        made = env.create_dataset(
            name, algorithm_name="random", code_permalink="none", author="nobody", author_email="none"
        )
        folders.append(str(root / name))
        steps[folders[-1]] = int(made.total_steps)
        env.close()
tell(folders=folders, steps=steps)
