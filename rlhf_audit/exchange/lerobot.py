"""LeRobot's layout, version 3.0: one dataset an environment.

``LeRobotDataset("rlhf_audit/CartPole-v1", root="DIR/CartPole-v1")``

A vector is ``observation.state``, a picture ``observation.image`` (PNG, so without loss), a member of a Dict
``observation.<key>``; ``rating`` holds a number for each rater, in the order of its names, NaN where there is
none. Seeds and final observations stand in ``meta/episodes``.
"""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_audit.exchange.base import Export, Files, Trajectories, unsupported
from rlhf_audit.log.recorded import Columns, RecordedEpisode
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace

_FPS = 30
"""Nominal: Gymnasium's steps have no length in time."""
_FILE = "chunk-000/file-000.parquet"
_Played = Sequence[tuple[str, RecordedEpisode]]
_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class _Feature:
    """One column of a dataset.

    Attributes:
        values: ``(n, *shape)``.
        names: Of the items of a vector.
        picture: Kept as PNG.
    """

    values: Any
    names: Sequence[str] | None = None
    picture: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """As LeRobot counts it: a number has shape (1,)."""
        return tuple(self.values.shape[1:]) or (1,)

    @property
    def described(self) -> dict[str, Any]:
        if self.picture:
            return {"dtype": "image", "shape": list(self.shape), "names": ["height", "width", "channels"]}
        names = list(self.names) if self.names is not None else None
        return {"dtype": str(self.values.dtype), "shape": list(self.shape), "names": names}

    @property
    def column(self) -> pa.Array:
        if self.picture:
            return pa.array([{"bytes": _png(one), "path": None} for one in self.values], _PICTURE)
        if self.shape == (1,):
            return pa.array(self.values.reshape(-1))
        kind = pa.list_(pa.from_numpy_dtype(self.values.dtype), self.shape[0])
        return pa.FixedSizeListArray.from_arrays(pa.array(self.values.reshape(-1)), type=kind)

    @property
    def statistics(self) -> dict[str, Any]:
        """What LeRobot scales by: for a picture per channel, between 0 and 1; NaN is left out."""
        flat = np.asarray(self.values, np.float64)
        if self.picture:
            flat = np.moveaxis(flat, -1, 1).reshape(len(flat), flat.shape[-1], -1) / 255
            flat = np.moveaxis(flat, 1, 2).reshape(-1, self.shape[-1])
        else:
            flat = flat.reshape(len(flat), prod(self.shape))
        known = [one[np.isfinite(one)] for one in flat.T]
        around = [[1, 1]] if self.picture else []
        told: dict[str, Any] = {}
        for name in ("min", "max", "mean", "std"):
            found = [float(getattr(one, name)()) if len(one) else 0.0 for one in known]
            told[name] = [[[value]] for value in found] if around else found
        return told | {"count": [len(self.values)]}


def write(export: Export) -> Files:
    """Yield the files of each dataset.

    Raises:
        UsageError: A space that is no number, vector or picture, or a record of those.
    """
    for one in export.environments:
        # All of them: what LeRobot scales by is reckoned over every step.
        played = list(one.episodes())
        features = _features(one, export, played)
        columns = {name: feature.column for name, feature in features.items()}
        yield f"{one.name}/data/{_FILE}", _parquet(pa.table(columns))
        yield f"{one.name}/meta/episodes/{_FILE}", _parquet(_episodes(one, played))
        yield f"{one.name}/meta/tasks.parquet", _parquet(_tasks(one))
        yield f"{one.name}/meta/info.json", _json(_info(one, features))
        told = {name: feature.statistics for name, feature in features.items()}
        yield f"{one.name}/meta/stats.json", _json(told)


def _features(one: Trajectories, export: Export, played: _Played) -> dict[str, _Feature]:
    episodes = [episode for _, episode in played]
    lengths = [len(episode.columns) for episode in episodes]
    frames = np.concatenate([np.arange(n) for n in lengths])
    n = len(frames)

    steps = Columns.joined([episode.columns for episode in episodes])
    found = dict(_spread(one, "observation", "state", one.observation, steps.observations))
    found |= dict(_spread(one, "action", "", one.action, steps.actions))
    terminated, truncated = np.asarray(steps.terminated), np.asarray(steps.truncated)
    found |= {
        "next.reward": _Feature(np.asarray(steps.env_rewards)),
        "next.done": _Feature(terminated | truncated),
        "next.terminated": _Feature(terminated),
        "next.truncated": _Feature(truncated),
        "action_probability": _Feature(np.asarray(steps.action_probabilities, np.float32)),
    }
    if export.raters:
        matrix = np.concatenate([one.ratings(episode, export.raters) for episode in episodes])
        found["rating"] = _Feature(matrix, export.raters)
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    return found | {
        "timestamp": _Feature((frames / _FPS).astype(np.float32)),
        "frame_index": _Feature(frames),
        "episode_index": _Feature(numbers),
        "index": _Feature(np.arange(n)),
        "task_index": _Feature(np.zeros(n, np.int64)),
    }


def _spread(
    one: Trajectories, name: str, own: str, space: Space, values: Sequence[Any]
) -> Iterator[tuple[str, _Feature]]:
    """Yield the columns of a space: ``own`` is what a vector is called."""
    if isinstance(space, RecordSpace):
        for inner, member in space.named():
            yield from _spread(
                one, f"{name}.{inner}", "", member, [value[space.key(inner)] for value in values]
            )
        return
    if not isinstance(space, PlainSpace):
        raise unsupported("lerobot", one, f"{name} varies in size", "numbers, vectors and pictures")
    array = np.asarray(values, space.dtype).reshape(len(values), *space.shape)
    picture = space.dtype == np.uint8 and len(space.shape) in (2, 3)
    if picture:
        array = array.reshape(*array.shape[:3], -1)
    if (
        (picture and array.shape[-1] not in (1, 3, 4))
        or (not picture and len(space.shape) > 1)
        or 0 in space.shape
    ):
        raise unsupported(
            "lerobot", one, f"{name} of shape {space.shape}", "vectors, or pictures of 1, 3 or 4 channels"
        )
    last = "image" if picture and own else own
    yield (f"{name}.{last}" if last else name), _Feature(array, picture=picture)


def _episodes(one: Trajectories, played: _Played) -> pa.Table:
    lengths = np.array([len(episode.columns) for _, episode in played], np.int64)
    ends = np.cumsum(lengths)
    zeros = pa.array(np.zeros(len(lengths), np.int64))
    finals = [episode.final_observation for _, episode in played]
    last = _spread(one, "observation", "state", one.observation, finals)
    columns = {
        "episode_index": pa.array(np.arange(len(lengths))),
        "tasks": pa.array([[one.env.env_id]] * len(lengths), pa.list_(pa.string())),
        "length": pa.array(lengths),
        "data/chunk_index": zeros,
        "data/file_index": zeros,
        "dataset_from_index": pa.array(ends - lengths),
        "dataset_to_index": pa.array(ends),
        "meta/episodes/chunk_index": zeros,
        "meta/episodes/file_index": zeros,
        "session_id": pa.array([session_id for session_id, _ in played]),
        "episode_id": pa.array([episode.episode_id for _, episode in played]),
        "stream": pa.array([episode.stream for _, episode in played], pa.int64()),
        "reset_seed": pa.array([episode.reset_seed for _, episode in played], pa.int64()),
        "reset_options": pa.array([episode.reset_options for _, episode in played], pa.string()),
    }
    return pa.table(columns | {f"final.{name}": feature.column for name, feature in last})


def _tasks(one: Trajectories) -> pa.Table:
    """Return the tasks as pandas leaves a table whose index is their text."""
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": pa.array([one.env.env_id])})
    kinds = {"task_index": "int64", "task": "unicode"}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "metadata": None}
        | {"numpy_type": "int64" if kind == "int64" else "object"}
        for name, kind in kinds.items()
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    return table.replace_schema_metadata(
        {"pandas": json.dumps(pandas | {"creator": {}, "pandas_version": "2"})}
    )


def _info(one: Trajectories, features: Mapping[str, _Feature]) -> dict[str, Any]:
    return {
        "codebase_version": "v3.0",
        "robot_type": one.env.env_id,
        "total_episodes": one.n_episodes,
        "total_frames": one.n_steps,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": _FPS,
        "splits": {"train": f"0:{one.n_episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": {name: feature.described for name, feature in features.items()},
    }


def _png(frame: Any) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(sink, "PNG")
    return sink.getvalue()


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2).encode()
