"""Files behind a URI, read through pyarrow: what of a path readers of a log need, and no way to write.

What a store says of an error may hold an endpoint or a key: only its code is passed on.
"""

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyarrow import fs

from rlhf_audit.errors import LogError, UsageError

CONNECT_S, REQUEST_S, TRIES = 5, 30, 3
"""How long, in seconds, and how often a store is asked before it counts as unreachable."""

_OPTIONS = ("region", "scheme", "endpoint_override")
_CODE = re.compile(r"AWS Error ([A-Z_]+|UNKNOWN \(HTTP status [0-9]+\))")
_DENIED = ("ACCESS_DENIED", "HTTP status 401", "HTTP status 403")
_CREDENTIALS = (*_DENIED, "INVALID_ACCESS_KEY", "INVALID_CLIENT_TOKEN", "SIGNATURE", "TOKEN", "CREDENTIAL")


@dataclass(frozen=True)
class Place:
    """A folder behind a URI.

    Attributes:
        filesystem: What reads it.
        root: Its path there.
        name: As a message may name it: without what the URI says of users, keys and endpoints.
    """

    filesystem: fs.FileSystem
    root: str
    name: str

    @cached_property
    def _listings(self) -> dict[str, Mapping[str, bool]]:
        return {}

    def listing(self, key: str) -> Mapping[str, bool]:
        """Return what lies in the folder of the log that holds ``key``, and for each whether it is a file.

        Every folder is listed once: a copy is no log that grows, and each question costs a round trip.
        """
        inside = posixpath.relpath(key, self.root)
        if inside.startswith(".."):
            return {}
        top = posixpath.join(self.root, inside.partition("/")[0])
        if top not in self._listings:
            found = fs.FileSelector(top, recursive=True, allow_not_found=True)
            try:
                infos = self.filesystem.get_file_info(found)
            except (OSError, pa.ArrowException) as error:
                raise told(error, self.name) from error
            files = {info.path: True for info in infos if info.type == fs.FileType.File}
            # A bucket has no folders, only names with slashes in them.
            parents = {up for path in files for up in _above(path, self.root)}
            self._listings[top] = dict.fromkeys(parents, False) | files
        return self._listings[top]


@dataclass(frozen=True, order=True)
class RemotePath:
    """Stands for a ``pathlib.Path`` where a log is read; whatever else is tried with it fails.

    Attributes:
        key: The path in the filesystem.
        place: Of the log.
    """

    key: str
    place: Place = field(compare=False, repr=False)

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(posixpath.normpath(posixpath.join(self.key, name)), self.place)

    def __str__(self) -> str:
        inside = posixpath.relpath(self.key, self.place.root)
        return self.place.name if inside == "." else f"{self.place.name}/{inside}"

    @property
    def name(self) -> str:
        return posixpath.basename(self.key)

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(posixpath.dirname(self.key), self.place)

    def resolve(self) -> "RemotePath":
        return self

    def exists(self) -> bool:
        return self.key in self.place.listing(self.key)

    def is_file(self) -> bool:
        return self.place.listing(self.key).get(self.key, False)

    def is_dir(self) -> bool:
        return not self.place.listing(self.key).get(self.key, True)

    def is_symlink(self) -> bool:
        return False

    def iterdir(self) -> Iterator["RemotePath"]:
        found = sorted(self.place.listing(self.key))
        return (RemotePath(key, self.place) for key in found if posixpath.dirname(key) == self.key)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def stat(self) -> os.stat_result:
        """Ask the store itself, so that a file outside of the log may be meant.

        Raises:
            FileNotFoundError: There is none.
            LogError: The store doesn't say.
        """
        try:
            info = self.place.filesystem.get_file_info(self.key)
        except (OSError, pa.ArrowException) as error:
            raise self._told(error) from error
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "No such file", self.name)
        kind = stat.S_IFREG if info.type == fs.FileType.File else stat.S_IFDIR
        return os.stat_result((kind | 0o444, 0, 0, 1, 0, 0, info.size or 0, 0, 0, 0))

    def open(self, mode: str = "rb") -> pa.NativeFile:
        """Open for reading, anywhere in the file.

        Raises:
            FileNotFoundError: There is none.
            LogError: The store doesn't give it.
        """
        if mode != "rb":
            raise PermissionError(errno.EROFS, "A remote log is read only", self.name)
        try:
            return self.place.filesystem.open_input_file(self.key)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise self._told(error) from error

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return bytes(file.read())

    def _told(self, error: Exception) -> Exception:
        outside = posixpath.relpath(self.key, self.place.root).startswith("..")
        if outside and any(word in str(error) for word in _DENIED):
            # Who may read the log need not be allowed what lies beside it.
            return FileNotFoundError(errno.ENOENT, "No such file", self.name)
        return told(error, self.place.name)


def find(uri: str) -> RemotePath:
    """Return the folder that a URI names; nothing is asked of the store yet, but for its region perhaps.

    Raises:
        UsageError: pyarrow knows no such kind of store, or the URI holds a secret.
        LogError: What the store needs is not here.
    """
    try:
        parts = urlsplit(uri)
        secret = parts.password is not None or (parts.scheme == "s3" and parts.username is not None)
    except ValueError as error:
        raise _not_a_place("another text") from error
    if secret or "key" in parts.query.lower():
        raise UsageError(
            "LOG holds a secret",
            seen="a user or a key in the URI: others on this machine can read it",
            needed="a URI without",
            fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    try:
        system, root = _s3(parts) if parts.scheme == "s3" else fs.FileSystem.from_uri(uri)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise _not_a_place(f"a URI that begins with {parts.scheme[:20]!a}") from error
    except (OSError, ImportError, pa.ArrowException) as error:
        raise told(error, f"{parts.scheme}://") from error
    root = root.rstrip("/")
    if not root:
        raise _not_a_place("a URI without a bucket or a folder")
    # The machine of a share or a cluster is part of neither path nor name.
    return RemotePath(root, Place(system, root, f"{parts.scheme}://{root}"))


def told(error: Exception, name: str) -> LogError:
    """Return what a user is told of a store's error."""
    code = _CODE.search(str(error))
    seen = f"the store's answer {code[1]}" if code else f"{type(error).__name__} at the store"
    if code and any(word in code[1] for word in _CREDENTIALS):
        return LogError(
            f"{name} may not be read with these credentials",
            seen=seen,
            needed="the right to list the prefix and to read what is in it",
            fix="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and AWS_REGION",
        )
    return LogError(
        f"{name} can't be reached",
        seen=seen,
        needed=f"a store that answers within {CONNECT_S} s",
        fix="look at the network, AWS_ENDPOINT_URL and AWS_REGION, then run this again",
    )


def _s3(parts: Any) -> tuple[fs.FileSystem, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if set(options) - set(_OPTIONS) or parts.fragment:
        raise ValueError("an option that a reader doesn't need")
    # pyarrow itself leaves these to its caller.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_override" not in options:
        options["endpoint_override"] = endpoint
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region and "region" not in options:
        options["region"] = region
    system = fs.S3FileSystem(
        **options,
        connect_timeout=CONNECT_S,
        request_timeout=REQUEST_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=TRIES),
    )
    return system, posixpath.normpath(parts.netloc + parts.path) if parts.netloc else ""


def _above(path: str, root: str) -> Iterator[str]:
    """Yield the folders over ``path`` that lie in ``root``."""
    folder = posixpath.dirname(path)
    while len(folder) > len(root):
        yield folder
        folder = posixpath.dirname(folder)


def _not_a_place(seen: str) -> UsageError:
    return UsageError(
        "LOG is no place that can be read",
        seen=seen,
        needed="a folder, s3://BUCKET/PREFIX, or another URI that pyarrow reads",
        fix="rlhf-audit audit s3://BUCKET/PREFIX",
    )
