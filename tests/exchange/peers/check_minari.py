"""``check_minari.py DIR``: minari.load_dataset on every dataset of an export."""

import os
import sys

root = sys.argv[1]
os.environ["MINARI_DATASETS_PATH"] = root

import minari  # noqa: E402 - it reads the variable when it is imported
from resimulating import check, environments, tell  # noqa: E402

records = {name.lower(): record for name, record in environments(root).items()}
steps, ratings = {}, {}
for name in minari.list_local_datasets():
    dataset = minari.load_dataset(name)
    record = records[name.rpartition("/")[2]]
    seeds = [facts["seed"] for facts in dataset.storage.get_episode_metadata(range(dataset.total_episodes))]
    listed = list(dataset.iterate_episodes())

    def at(values, step):
        return tuple(one[step] for one in values) if isinstance(values, tuple) else values[step]

    episodes = [
        (
            seed,
            [at(episode.observations, step) for step in range(len(episode) + 1)],
            episode.actions,
            episode.rewards,
            episode.terminations,
            episode.truncations,
        )
        for seed, episode in zip(seeds, listed, strict=True)
    ]
    steps[name] = check(record, episodes)
    ratings[name] = [[str(one) for one in row] for row in listed[0].infos["rating"][1:3].tolist()]
tell(steps=steps, ratings=ratings, raters=dataset.storage.metadata["raters"])
