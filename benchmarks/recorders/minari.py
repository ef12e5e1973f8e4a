"""Minari's DataCollector, in each of its storages."""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym

from benchmarks.recorders.base import Episode, Opened, bytes_in

_NAME = "bench/recorded-v0"


class Minari:
    """Minari's collector.

    Args:
        form: Its storage: ``hdf5`` or ``arrow``.
        share: How much shorter than ours its recordings are.
        raw: Images are kept as they are, not as JPEG, which is its default.
    """

    package = "minari"

    def __init__(self, form: str, share: int, *, raw: bool = False) -> None:
        self.name = f"Minari {form}{' raw' if raw else ''}"
        self.share, self.images, self._form, self._raw = share, raw, form, raw

    def absent(self) -> str | None:
        needed = ("minari", "jax", "h5py" if self._form == "hdf5" else "pyarrow", "PIL")
        missing = [name for name in needed if find_spec(name) is None]
        return f"no {missing[0]}" if missing else None

    def open(self, env: gym.Env[Any, Any], folder: Path) -> Opened:
        os.environ["MINARI_DATASETS_PATH"] = str(folder)
        import minari

        # It says that there are no author and no reference score.
        warnings.filterwarnings("ignore", module="minari")
        logging.getLogger("minari").setLevel(logging.ERROR)
        collector = minari.DataCollector(env, data_format=self._form, jpeg_encoding=not self._raw)
        # The same episodes for all: no seed of its own for each.
        options = {"minari_autoseed": False}

        def close() -> None:
            collector.create_dataset(_NAME, algorithm_name="random")
            collector.close()

        def reset(seed: int | None = None) -> Any:
            return collector.reset(seed=seed, options=options)

        return Opened(SimpleNamespace(step=collector.step, reset=reset, close=close))

    def size(self, folder: Path) -> int:
        return bytes_in(folder)

    def episodes(self, folder: Path) -> Iterator[Episode]:
        os.environ["MINARI_DATASETS_PATH"] = str(folder)
        import minari

        for one in minari.load_dataset(_NAME).iterate_episodes():
            yield Episode(one.observations, one.actions, one.rewards, one.terminations, one.truncations)

    def loads(self, folder: Path, env_id: str) -> Mapping[str, Callable[[], int]]:
        del env_id
        return {"load_dataset, iterate_episodes": lambda: sum(len(e.actions) for e in self.episodes(folder))}
