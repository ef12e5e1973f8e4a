"""Minari's own layout, one dataset an environment: written as its parquet storage, read in all three.

``MINARI_DATASETS_PATH=DIR python -c "import minari; minari.load_dataset('rlhf_audit/cartpole-v1')"``

Episodes hold ``T + 1`` rows. ``infos["rating"][t + 1]`` is what the raters said of the action at ``t``: a
number for each rater in the metadata's ``raters``, NaN where there is none.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit.exchange import minari_reading, minari_spaces
from rlhf_audit.exchange.base import Export, Files, Trajectories, unsupported
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace

NAMESPACE = "rlhf_audit"
_MINARI_VERSION = "0.5.4"
_MOST_ROWS = 131_072
"""Minari takes an episode to be one batch, and Arrow makes no batch longer than this."""

read = minari_reading.read


def dataset_id(one: Trajectories) -> str:
    """Return what ``minari.load_dataset`` is given.

    Minari's names end in a version.
    """
    name = re.sub(r"[^a-z0-9-]", "-", one.name.lower())
    return f"{NAMESPACE}/{name}" if re.search(r"-v[0-9]+$", name) else f"{NAMESPACE}/{name}-v0"


def write(export: Export) -> Files:
    """Yield the files of each dataset.

    Raises:
        UsageError: A space that Minari can't serialise, or an episode that it would read back wrong.
    """
    for one in export.environments:
        root = f"{dataset_id(one)}/data"
        spaces = minari_spaces.described(one)
        size = 0
        for number, (session_id, episode) in enumerate(one.episodes()):
            n = len(episode.columns)
            if n >= _MOST_ROWS:
                raise unsupported("minari", one, f"an episode of {n} steps", f"fewer than {_MOST_ROWS}")
            data = _episode(one, episode, one.ratings(episode, export.raters))
            size += len(data)
            yield f"{root}/{number}/part-0.parquet", data
            yield f"{root}/{number}/metadata.json", _json(_metadata(number, session_id, episode))
        metadata = {
            "total_episodes": one.n_episodes,
            "total_steps": one.n_steps,
            "data_format": "parquet",
            "jpeg_encoding": False,
            "observation_space": spaces[0],
            "action_space": spaces[1],
            "env_spec": _env_spec(one),
            "dataset_id": dataset_id(one),
            "minari_version": _MINARI_VERSION,
            "dataset_size": round(size / 1e6, 1),
            "raters": list(export.raters),
            "purpose": export.purpose,
        }
        yield f"{root}/metadata.json", _json(metadata)


def _metadata(number: int, session_id: str, episode: RecordedEpisode) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": number,
        "total_steps": len(episode.columns),
        "session_id": session_id,
        "episode_id": episode.episode_id,
        "stream": episode.stream,
    }
    if episode.reset_seed is not None:
        told["seed"] = episode.reset_seed
    if episode.reset_options is not None:
        told["options"] = json.loads(episode.reset_options)
    return told


def _json(value: Mapping[str, Any]) -> bytes:
    # Infinite bounds are what Minari itself writes, in Python's way.
    return json.dumps(value, sort_keys=True).encode()


def _env_spec(one: Trajectories) -> str:
    """Return the environment as ``EnvSpec.from_json`` reads it."""
    spec = one.env.spec
    return json.dumps(
        {
            "id": one.env.env_id,
            "entry_point": spec["entry_point"],
            "reward_threshold": None,
            "nondeterministic": spec["nondeterministic"],
            "max_episode_steps": spec["max_episode_steps"],
            "order_enforce": True,
            "disable_env_checker": False,
            "kwargs": spec["kwargs"],
            "additional_wrappers": spec["additional_wrappers"],
            "vector_entry_point": None,
        }
    )


def _episode(one: Trajectories, episode: RecordedEpisode, ratings: Any) -> bytes:
    columns = episode.columns
    observations = [*columns.observations, episode.final_observation]
    probabilities = np.concatenate([[np.float32(np.nan)], np.asarray(columns.action_probabilities)])
    infos = {
        "rating": np.concatenate([np.full((1, ratings.shape[1]), np.nan, np.float32), ratings]),
        "action_probability": probabilities.reshape(-1, 1).astype(np.float32),
    }
    table = pa.table(
        {
            "observations": _column(one.env.observation_space, one.observation, observations, 0),
            "actions": _column(one.env.action_space, one.action, columns.actions, 1),
            "rewards": pa.array(np.append(columns.env_rewards, 0.0)),
            "terminations": pa.array(np.append(columns.terminated, False)),
            "truncations": pa.array(np.append(columns.truncated, False)),
            "infos": _infos(infos),
        }
    )
    sink = pa.BufferOutputStream()
    # One row group: Minari reads one batch an episode.
    pq.write_table(table, sink, compression="zstd", row_group_size=_MOST_ROWS)
    return bytes(sink.getvalue())


def _column(described: Mapping[str, Any], space: Space, values: Sequence[Any], pad: int) -> pa.Array:
    """Return values as Minari's arrow storage lays them out, with ``pad`` rows of nothing after them."""
    if isinstance(space, RecordSpace):
        members = [
            _column(inner, member, [value[space.key(name)] for value in values], pad)
            for (name, member), inner in zip(space.named(), minari_spaces.members(described), strict=True)
        ]
        return pa.StructArray.from_arrays(members, names=list(space.names))
    if isinstance(space, PlainSpace):
        array = np.asarray(values, space.dtype)
        if described["type"] == "Discrete":
            return pa.array(np.append(array, np.zeros(pad, space.dtype)))
        flat = array.reshape(len(array), space.n_items)
        padded = np.concatenate([flat, np.zeros((pad, space.n_items), space.dtype)])
        kind = pa.list_(pa.from_numpy_dtype(space.dtype), space.n_items)
        return pa.FixedSizeListArray.from_arrays(pa.array(padded.reshape(-1)), type=kind)
    return pa.array([*values, *[None] * pad], pa.string())


def _infos(infos: Mapping[str, Any]) -> pa.Array:
    arrays, fields = [], []
    for name, values in infos.items():
        if not values.shape[1]:
            # Nobody rated: a list of no numbers can't be stored.
            continue
        kind = pa.list_(pa.from_numpy_dtype(values.dtype), values.shape[1])
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind))
        fields.append(pa.field(name, kind, metadata={"shape": str(values.shape[1])}))
    return pa.StructArray.from_arrays(arrays, fields=fields)
