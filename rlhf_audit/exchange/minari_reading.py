"""Reading a Minari dataset in any of its three storages: hdf5, arrow, parquet."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.dataset as arrow_dataset

from rlhf_audit import canonical, envs
from rlhf_audit.envs import EnvRecord
from rlhf_audit.errors import RlhfAuditError, UsageError
from rlhf_audit.exchange import minari_spaces
from rlhf_audit.exchange.base import ImportedEpisode, Reading, damaged
from rlhf_audit.spaces import describing

_HDF5 = "main_data.hdf5"


def read(path: Path, env_id: str | None) -> Reading:
    """Read a dataset: its folder, or the ``data`` folder in it.

    Args:
        path: Where it is.
        env_id: The environment that its spec does not name, or that is called otherwise here.

    Raises:
        UsageError: It is no dataset of Minari's, or holds what can't be read.
    """
    data = path / "data" if (path / "data").is_dir() else path
    try:
        metadata = json.loads(canonical.read_file(data / "metadata.json"))
        told = [json.loads(metadata[f"{name}_space"]) for name in ("observation", "action")]
        form, n_episodes = metadata["data_format"], int(metadata["total_episodes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_dataset("no metadata.json of Minari's") from error
    observation, action = (minari_spaces.space(one) for one in told)
    record = _record(metadata, env_id, observation, action)
    try:
        if form == "hdf5":
            episodes = list(_hdf5(data / _HDF5, n_episodes, observation, action))
        else:
            episodes = [_arrow(data / str(n), form, observation, action) for n in range(n_episodes)]
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise _no_dataset(f"{type(error).__name__} in its {form} files") from error
    digests = {
        file.relative_to(data).as_posix(): canonical.file_sha256(file)
        for file in sorted(data.rglob("*"))
        if file.is_file()
    }
    return Reading(record, tuple(episodes), digests)


def _no_dataset(seen: str) -> UsageError:
    return damaged(
        "that is no Minari dataset that can be read", seen, "a folder that minari.load_dataset opens"
    )


def _record(
    metadata: Mapping[str, Any], env_id: str | None, observation: gym.Space[Any], action: gym.Space[Any]
) -> EnvRecord:
    """Return the environment as it is here; or, where it is not, as the dataset tells of it."""
    spec = json.loads(metadata.get("env_spec") or "{}")
    named = env_id or spec.get("id")
    if named is None:
        raise UsageError(
            "the dataset does not say which environment it is of",
            seen="no env_spec",
            needed="--env ID",
            fix="rlhf-audit import LOG FILE --format minari --env ID --consent-reference TEXT",
        )
    spaces = (describing.describe(observation), describing.describe(action))
    kept = {"max_episode_steps": spec.get("max_episode_steps"), **(spec.get("kwargs") or {})}
    try:
        if env_id is None and ":" in named:
            # A stranger's file names no module that is imported.
            raise UsageError("a module")
        env = envs.open_env(named, **{key: value for key, value in kept.items() if value is not None})
    except (RlhfAuditError, TypeError, ValueError) as error:
        if env_id is not None:
            raise
        del error
        behaviour: dict[str, Any] = {"id": named, "entry_point": str(spec.get("entry_point")), "kwargs": {}}
        rest = {"max_episode_steps": spec.get("max_episode_steps"), "nondeterministic": False}
        return EnvRecord(named, {**behaviour, **rest, "additional_wrappers": []}, *spaces, {})
    record = envs.describe(env)
    env.close()
    here = (record.observation_space, record.action_space)
    if [_shape(one) for one in here] != [_shape(one) for one in spaces]:
        raise UsageError(
            f"the dataset is not of {named} as it is here",
            seen="other spaces",
            needed="the environment that was recorded",
            fix="--env ID of the environment whose spaces these are",
        )
    return record


def _shape(space: Mapping[str, Any]) -> Any:
    """Return what of a space decides how its values look; Minari takes every Discrete to be int64."""
    if "spaces" in space:
        return [space["type"], *map(_shape, minari_spaces.members(space))]
    return [space["type"], space.get("shape"), space.get("n"), space.get("nvec")]


def _episode(columns: Mapping[str, Any], facts: Mapping[str, Any]) -> ImportedEpisode:
    seed, options = facts.get("seed"), facts.get("options")
    return ImportedEpisode(
        int(facts.get("stream", 0)),
        None if seed is None else int(seed),
        None if options is None else json.dumps(options, sort_keys=True),
        columns["observations"],
        columns["actions"],
        np.asarray(columns["rewards"], np.float64),
        np.asarray(columns["terminations"], np.bool_),
        np.asarray(columns["truncations"], np.bool_),
    )


def _arrow(folder: Path, form: str, observation: gym.Space[Any], action: gym.Space[Any]) -> ImportedEpisode:
    facts = json.loads(canonical.read_file(folder / "metadata.json"))
    files = sorted(str(path) for path in folder.iterdir() if path.name != "metadata.json")
    table = arrow_dataset.dataset(files, format=form).to_table()
    n = table.num_rows - 1
    columns = {
        name: table.column(name).slice(0, n).to_numpy() for name in ("rewards", "terminations", "truncations")
    }
    seen = _values(observation, table.column("observations").combine_chunks())
    done = _values(action, table.column("actions").slice(0, n).combine_chunks())
    return _episode({**columns, "observations": seen, "actions": done}, facts)


def _values(space: gym.Space[Any], column: pa.Array) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return _records([(name, _values(one, column.field(name))) for name, one in space.spaces.items()])
    if isinstance(space, gym.spaces.Tuple):
        inner = [_values(one, column.field(str(number))) for number, one in enumerate(space.spaces)]
        return list(zip(*inner, strict=True))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [_picture(one.as_py()) for one in column]
    if isinstance(space, gym.spaces.Text):
        return list(column.to_pylist())
    if isinstance(space, gym.spaces.Discrete):
        return np.asarray(column.to_numpy(zero_copy_only=False), space.dtype)
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False), space.dtype).reshape(
        len(column), *(space.shape or ())
    )


def _records(columns: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
    names = [name for name, _ in columns]
    rows = zip(*(values for _, values in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _picture(data: bytes) -> Any:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _hdf5(
    path: Path, n_episodes: int, observation: gym.Space[Any], action: gym.Space[Any]
) -> Iterator[ImportedEpisode]:
    with _h5py().File(path, "r") as file:
        for number in range(n_episodes):
            group = file[f"episode_{number}"]
            columns = {name: group[name][()] for name in ("rewards", "terminations", "truncations")}
            columns["observations"] = _stored(observation, group["observations"])
            columns["actions"] = _stored(action, group["actions"])
            facts: dict[str, Any] = {"seed": group.attrs.get("seed"), "stream": 0}
            options = {key[8:]: _plain(value) for key, value in group.attrs.items() if key[:8] == "options/"}
            yield _episode(columns, {**facts, "options": options or None})


def _stored(space: gym.Space[Any], stored: Any) -> Any:
    if isinstance(space, gym.spaces.Dict):
        return _records([(name, _stored(one, stored[name])) for name, one in space.spaces.items()])
    if isinstance(space, gym.spaces.Tuple):
        inner = [_stored(one, stored[f"_index_{number}"]) for number, one in enumerate(space.spaces)]
        return list(zip(*inner, strict=True))
    values = stored[()]
    if isinstance(space, gym.spaces.Text):
        return [text.decode() for text in values]
    shape = space.shape or ()
    if values.ndim != 1 + len(shape):
        # Minari keeps images as JPEG: rows of bytes.
        return [_picture(bytes(row)) for row in values]
    return np.asarray(values, space.dtype)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            "this Minari dataset is stored as hdf5",
            seen="h5py is not installed",
            needed="the extra `minari`",
            fix="pip install 'rlhf-audit[minari]'",
        ) from error
    module: ModuleType = h5py
    return module
