"""RLDS as TensorFlow Datasets lays it out: one dataset an environment, one record an episode.

``tfds.builder_from_directory("DIR/cartpole_v1/1.0.0").as_dataset(split="train")``

An episode of T steps has T + 1: the last (``is_last``) holds the final observation, and an action, a reward
and ratings that mean nothing. What TensorFlow's records would round, since they know floats of 32 bits only,
is stored as bytes.
"""

import io
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_audit.determinism import tensorflow
from rlhf_audit.exchange.base import Export, Files, Trajectories, unsupported
from rlhf_audit.log.recorded import RecordedEpisode
from rlhf_audit.spaces.base import Space
from rlhf_audit.spaces.fixed import PlainSpace, RecordSpace

_VERSION = "1.0.0"
_FEATURES = "tensorflow_datasets.core.features"
_DICT = f"{_FEATURES}.features_dict.FeaturesDict"


@dataclass(frozen=True)
class _Feature:
    """A number, an array, a picture or a text of every step.

    Attributes:
        space: Of its values; None for text.
    """

    space: PlainSpace | None

    @property
    def picture(self) -> bool:
        shape = self.space.shape if self.space else ()
        return bool(
            self.space
            and self.space.dtype == np.uint8
            and len(shape) == 3
            and shape[2] in (1, 3, 4)
            and 0 not in shape
        )

    @property
    def raw(self) -> bool:
        """Whether it is stored as bytes: floats but of 32 bits, and what is larger than int64."""
        dtype = self.space.dtype if self.space else np.dtype(np.float32)
        return dtype == np.uint64 or (dtype.kind == "f" and dtype != np.float32)

    @property
    def described(self) -> dict[str, Any]:
        """As ``features.json`` says it."""
        if self.space is None:
            return {"pythonClassName": f"{_FEATURES}.text_feature.Text", "text": {}}
        dtype = str(self.space.dtype)
        shape = {"dimensions": [str(size) for size in self.space.shape]} if self.space.shape else {}
        if self.picture:
            image = {"dtype": dtype, "encodingFormat": "png", "shape": shape}
            return {"pythonClassName": f"{_FEATURES}.image_feature.Image", "image": image}
        tensor = {"dtype": dtype, "encoding": "bytes" if self.raw else "none", "shape": shape}
        return {"pythonClassName": f"{_FEATURES}.tensor_feature.Tensor", "tensor": tensor}

    def packed(self, values: Sequence[Any]) -> tuple[str, Any]:
        """Return which list of a ``tf.train.Feature`` holds these values, and what is in it."""
        if self.space is None:
            return "bytes_list", [str(value).encode() for value in values]
        array = np.asarray(values, self.space.dtype)
        if self.picture:
            return "bytes_list", [_png(one) for one in array]
        if self.raw:
            little = array.astype(array.dtype.newbyteorder("<"))
            return "bytes_list", [one.tobytes() for one in little]
        flat = array.reshape(-1)
        return ("float_list", flat) if array.dtype.kind == "f" else ("int64_list", flat.astype(np.int64))


def dataset_name(one: Trajectories) -> str:
    """Return the name as TensorFlow Datasets allows it."""
    name = re.sub(r"[^a-z0-9]+", "_", one.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"env_{name}"


def write(export: Export) -> Files:
    """Yield the files of each dataset.

    Raises:
        UsageError: A space whose values vary in size.
    """
    for one in export.environments:
        name = dataset_name(one)
        root = f"{name}/{_VERSION}"
        features = _features(one, export)
        examples = (
            _example(features, one, session_id, episode, one.ratings(episode, export.raters))
            for session_id, episode in one.episodes()
            # Nothing but a reset: there is no action that could stand beside its observation.
            if len(episode.columns)
        )
        records, sizes = _records(examples)
        yield f"{root}/{name}-train.tfrecord-00000-of-00001", records
        yield f"{root}/features.json", _json(_described(features))
        yield f"{root}/dataset_info.json", _json(_info(one, name, export, sizes))


def _scalar(dtype: Any) -> _Feature:
    return _Feature(PlainSpace(np.dtype(dtype), ()))


def _features(one: Trajectories, export: Export) -> dict[str, _Feature]:
    """Return the features of a step, those of Dict spaces by a path."""
    found = dict(_spread(one, "observation", one.observation)) | dict(_spread(one, "action", one.action))
    found |= {name: _scalar(np.bool_) for name in ("is_first", "is_last", "is_terminal")}
    found |= {"reward": _scalar(np.float64), "discount": _scalar(np.float32)}
    found |= {"action_probability": _scalar(np.float32)}
    if export.raters:
        found["rating"] = _Feature(PlainSpace(np.dtype(np.float32), (len(export.raters),)))
    return found


def _spread(one: Trajectories, name: str, space: Space) -> Iterator[tuple[str, _Feature]]:
    if isinstance(space, RecordSpace):
        for inner, member in space.named():
            yield from _spread(one, f"{name}/{inner}", member)
    elif isinstance(space, PlainSpace):
        yield name, _Feature(space)
    elif type(space).__name__ == "TextSpace":
        yield name, _Feature(None)
    else:
        raise unsupported("rlds", one, f"{name} varies in size", "numbers, arrays, text, and records of them")


def _values(name: str, space: Space, values: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    if isinstance(space, RecordSpace):
        for inner, member in space.named():
            yield from _values(f"{name}/{inner}", member, [value[space.key(inner)] for value in values])
    else:
        yield name, values


def _example(
    features: Mapping[str, _Feature],
    one: Trajectories,
    session_id: str,
    episode: RecordedEpisode,
    ratings: Any,
) -> bytes:
    """Return an episode as a ``tf.train.Example``: every feature's values, one step after the other."""
    columns = episode.columns
    n = len(columns)
    terminated = bool(columns.terminated[n - 1])
    nothing = np.full(1, np.nan, np.float32)
    acted = [*columns.actions, columns.actions[n - 1]]
    values: dict[str, Any] = {
        **dict(_values("observation", one.observation, [*columns.observations, episode.final_observation])),
        **dict(_values("action", one.action, acted)),
        "reward": np.append(columns.env_rewards, 0.0),
        "discount": np.append(np.where(columns.terminated, 0.0, 1.0), 0.0 if terminated else 1.0),
        "is_first": np.arange(n + 1) == 0,
        "is_last": np.arange(n + 1) == n,
        "is_terminal": (np.arange(n + 1) == n) & terminated,
        "action_probability": np.append(columns.action_probabilities, nothing),
        "rating": np.concatenate([ratings, np.full((1, ratings.shape[1]), np.nan, np.float32)]),
    }
    packed = {f"steps/{name}": feature.packed(values[name]) for name, feature in features.items()}
    seed = -1 if episode.reset_seed is None else episode.reset_seed
    return _serialised(
        packed
        | {
            "session_id": ("bytes_list", [session_id.encode()]),
            "episode_id": ("bytes_list", [episode.episode_id.encode()]),
            "reset_options": ("bytes_list", [(episode.reset_options or "").encode()]),
            "stream": ("int64_list", [episode.stream]),
            "reset_seed": ("int64_list", [seed]),
            "truncated": ("int64_list", [int(columns.truncated[n - 1])]),
        }
    )


def _serialised(packed: Mapping[str, tuple[str, Any]]) -> bytes:
    tf = tensorflow()

    lists = {
        "bytes_list": tf.train.BytesList,
        "float_list": tf.train.FloatList,
        "int64_list": tf.train.Int64List,
    }
    features = {
        name: tf.train.Feature(**{kind: lists[kind](value=values)}) for name, (kind, values) in packed.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    data: bytes = example.SerializeToString(deterministic=True)
    return data


def _records(examples: Iterable[bytes]) -> tuple[bytes, list[int]]:
    """Return a TFRecord file, which TensorFlow writes to the disk only, and the size of each example."""
    tf = tensorflow()

    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples:
                writer.write(example)
                sizes.append(len(example))
        return path.read_bytes(), sizes


def _described(features: Mapping[str, _Feature]) -> dict[str, Any]:
    step: dict[str, Any] = {}
    for name, feature in features.items():
        where = step
        *above, last = name.split("/")
        for part in above:
            where = where.setdefault(part, {})
        where[last] = feature
    text, number = _Feature(None), _scalar(np.int64)
    steps = {
        "pythonClassName": f"{_FEATURES}.dataset_feature.Dataset",
        "sequence": {"feature": _tree(step), "length": "-1"},
    }
    told = {name: text.described for name in ("session_id", "episode_id", "reset_options")}
    told |= {"stream": number.described, "reset_seed": number.described, "steps": steps}
    told["truncated"] = _scalar(np.bool_).described
    return {"pythonClassName": _DICT, "featuresDict": {"features": told}}


def _tree(features: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name: _tree(one) if isinstance(one, dict) else one.described for name, one in features.items()}
    return {"pythonClassName": _DICT, "featuresDict": {"features": inner}}


def _info(one: Trajectories, name: str, export: Export, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        "name": name,
        "version": _VERSION,
        "description": f"{one.env.env_id}, recorded by rlhf_audit. reset_seed is -1 where the environment"
        f" went on from the episode before. rating is by: {', '.join(export.raters)}.",
        "fileFormat": "tfrecord",
        "releaseNotes": {_VERSION: "As exported."},
        "splits": [
            {
                "name": "train",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(sum(sizes)),
                "shardLengths": [str(len(sizes))],
            }
        ],
    }


def _png(frame: Any) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(sink, "PNG")
    return sink.getvalue()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode()
