"""What several verbs take: the log, a rater, ``--json``; and how a log is opened."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rlhf_audit.cli import _console
from rlhf_audit.errors import UsageError
from rlhf_audit.log.layout import is_remote
from rlhf_audit.log.store import Log

LOG_VARIABLE = "RLHF_AUDIT_LOG"
_LARGEST_SEED = 2**63 - 1

LogPath = Annotated[
    Path, typer.Argument(metavar="LOG", envvar=LOG_VARIABLE, show_default=False, help="The log's folder.")
]
LogPlace = Annotated[
    str,
    typer.Argument(
        metavar="LOG",
        envvar=LOG_VARIABLE,
        show_default=False,
        help="The log's folder, or where a copy lies: s3://BUCKET/PREFIX.",
    ),
]
RaterId = Annotated[
    str, typer.Argument(metavar="RATER", show_default=False, help="Pseudonym, as enroll printed it.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def checked_seed(seed: int | None) -> int | None:
    """Return a seed that a ledger entry can hold.

    Raises:
        UsageError: It is negative or too large.
    """
    if seed is not None and not 0 <= seed <= _LARGEST_SEED:
        raise UsageError(
            "that can't be a seed", seen=f"--seed {seed}", needed="0 to 2^63 - 1", fix="--seed 0"
        )
    return seed


Seed = Annotated[int, typer.Option(metavar="S", callback=checked_seed, help="Root of every random draw.")]


class LogCommand(TyperCommand):
    """A verb whose LOG, the first argument, may come from the environment instead."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        home = os.environ.get(LOG_VARIABLE)
        given = self._given(ctx, args)
        needed = sum(param.required for param in self.params if param.param_type_name == "argument")
        # The log itself counts as needed: with one argument too few, it is the log that was left out. Before
        # any number of sessions or audits, or a rater who may be left out, what is no folder is one of them.
        if home and (len(given) < needed or (self._open_ended() and not self._is_folder(given))):
            args, given = [home, *args], [home, *given]
        rest: list[str] = super().parse_args(ctx, args)
        if isinstance(ctx.params.get("log_path"), Path) and is_remote(given[0]):
            from rlhf_audit.log import remote

            raise remote.read_only()
        return rest

    def invoke(self, ctx: Any) -> Any:
        with _console.results_only():
            return super().invoke(ctx)

    def _given(self, ctx: Any, args: list[str]) -> list[str]:
        values = self.make_parser(ctx).parse_args(list(args))[0]
        given: list[str] = []
        for param in self.params:
            value = values.get(param.name) if param.param_type_name == "argument" else None
            if value is not None:
                given += [value] if isinstance(value, str) else value
        return given

    @staticmethod
    def _is_folder(given: Sequence[str]) -> bool:
        return bool(given) and "\0" not in given[0] and (is_remote(given[0]) or Path(given[0]).is_dir())

    def _open_ended(self) -> bool:
        arguments = [param for param in self.params if param.param_type_name == "argument"]
        behind = arguments[1:] if arguments and arguments[0].name == "log_path" else []
        return any(param.nargs == -1 or not param.required for param in behind)


def open_log(path: Path, repeat_erasures: bool = True) -> Log:
    """Open a log, and first finish in it what a crash cut short.

    Args:
        path: The log's folder.
        repeat_erasures: Erase again whom a restored backup brought back.

    Raises:
        LogError: There is no log, or it is damaged.
    """
    from rlhf_audit.withdrawal import erase

    log = Log(path)
    for sentence in erase.heal(log, repeat_erasures):
        _console.say(sentence)
    return log


def read_terms(file: Path) -> str:
    """Return the text that raters are to agree to.

    Raises:
        UsageError: It is no text, or an empty one.
    """
    from rlhf_audit import canonical

    try:
        text = canonical.read_file(file).decode()
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise UsageError(
            "the terms can't be read", seen=repr(str(file)), needed="a text file in UTF-8"
        ) from error
    if not text.strip():
        raise UsageError("the terms are empty", needed="the text that raters are to read")
    return text


def policy_folder(path: Path, log: Log) -> Path:
    """Return the folder of a policy that is to be written.

    Raises:
        UsageError: It has no name of its own, or lies inside the log.
    """
    inside = not log.layout.recorded(path).startswith("../")
    if inside or path.name in ("", ".."):
        raise UsageError(
            "that can't be a policy's folder",
            seen=repr(os.fspath(path)),
            needed="a folder of its own, outside of the log",
            fix="--to policies/NAME",
        )
    return path


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return what ``NAME=VALUE`` options say.

    Raises:
        UsageError: One is not of that form; what it held is not repeated, for it may be about a person.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise UsageError(
                f"a value of {option} can't be read",
                seen="no name, no =, or no value",
                needed=f"{option} NAME=VALUE",
                fix=f"{option} language=en",
            )
        found[name.strip()] = value.strip()
    return found
