"""The command line, ``rlhf-audit VERB``: the one place where every error becomes three lines and a code."""

import contextlib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rlhf_audit import __version__
from rlhf_audit.cli import (
    _console,
    anchor,
    audit,
    compact,
    consent,
    demo,
    enroll,
    erase,
    evaluate,
    export,
    import_,
    init,
    record,
    replay,
    report,
    retrain,
    rotate_key,
    show,
    sql,
    terms,
    verify,
    withdraw,
)
from rlhf_audit.cli._options import LOG_VARIABLE, LogCommand
from rlhf_audit.cli._paths import as_typed
from rlhf_audit.errors import DamagedError, LogError, RlhfAuditError, StorageError, UsageError

VERBS = (
    demo,
    init,
    terms,
    enroll,
    consent,
    record,
    replay,
    retrain,
    evaluate,
    audit,
    report,
    withdraw,
    erase,
    export,
    import_,
    compact,
    verify,
    anchor,
    rotate_key,
    show,
    sql,
)
"""In the order of a study; each module has ``run``, whose docstring is the help, and ``EXAMPLE``."""

PROGRAM = "rlhf-audit"
DEBUG_VARIABLE = "RLHF_AUDIT_DEBUG"
EXIT_BUG, EXIT_STOPPED = 70, 130

_REFUSALS = {
    errno.ENOSPC: ("the disk is full", "free some space, then run this again"),
    errno.EDQUOT: ("your share of the disk is full", "free some space, then run this again"),
    errno.EROFS: ("that place is read-only", "choose a place that can be written"),
    errno.EACCES: ("you may not read or write that place", "choose another place, or ask for the permission"),
}

app = typer.Typer(
    name=PROGRAM,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        _console.out(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _wants_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Record, replay, retrain, audit and erase the human feedback that teaches a Gymnasium agent.

    LOG, the first argument of most verbs, may come from RLHF_AUDIT_LOG. With --json a verb prints one JSON
    document; what it tells meanwhile goes to standard error.

    Exit codes: 0 clean; 1 findings, or a check that failed; 2 wrong usage; 3 refused (consent, lock);
    4 unreadable, damaged or unwritable; 70 our own bug; 130 stopped.
    """
    if context.invoked_subcommand is None:
        _console.say(context.get_help())
        raise typer.Exit(UsageError.exit_code)


for _verb in VERBS:
    # Python keeps some names for itself: import_.
    _name = _verb.__name__.rpartition(".")[2].removesuffix("_").replace("_", "-")
    # \b keeps the line as it is, so that it can be copied.
    app.command(_name, cls=LogCommand, epilog=f"\b\nExample:\n  {_verb.EXAMPLE}")(_verb.run)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; no traceback reaches a user."""
    arguments = sys.argv[1:] if args is None else list(args)
    for stream in (sys.stdout, sys.stderr):
        # A name in another script must not end a verb under LANG=C.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signals = _Signals()
    try:
        with signals:
            _check_text(arguments)
            # Typer returns a verb's own code, or that of typer.Exit; of a Ctrl-C it makes 130.
            code = app(args=arguments, prog_name=PROGRAM, standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_STOPPED
    except Exception as error:  # noqa: BLE001 - the one place: a bug of ours ends here too
        # A library that is stopped may make an error of its own of that.
        if not signals.came:
            return _explain(error, arguments)
        code = EXIT_STOPPED
    if code == EXIT_STOPPED:
        _console.say("stopped; what was acknowledged is kept")
    return int(code)


def _explain(error: Exception, arguments: Sequence[str]) -> int:
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exception(error)
    told = _told(error, arguments)
    if told is None:
        _console.say(
            "error: rlhf-audit failed: this is our bug, not a mistake of yours\n"
            # Not the message: it may hold anything.
            f"  seen: {type(error).__name__} in {_where(error)}\n"
            f"  to fix: run it again with {DEBUG_VARIABLE}=1 and report what it prints"
        )
        return EXIT_BUG
    damaged, help_text = isinstance(told, DamagedError), f"{_command(arguments)} --help"
    told.seen = told.seen or "something else"
    told.needed = told.needed or ("what rlhf-audit wrote, as it was" if damaged else f"what {help_text} says")
    told.fix = told.fix or (f"{PROGRAM} verify LOG" if damaged else help_text)
    _console.say(f"error: {told}")
    return told.exit_code


def _told(error: Exception, arguments: Sequence[str]) -> RlhfAuditError | None:
    """Return what a user is told of an error; None for a bug of ours."""
    if isinstance(error, RlhfAuditError):
        return error
    if isinstance(error, typer.TyperException):
        message = error.format_message()
        # An argument too many may be the second half of somebody's name.
        seen = re.sub(r"^(Got unexpected extra arguments?)\b.*", "an argument too many", message, flags=re.S)
        return UsageError(
            "that command line can't be understood",
            seen=seen.rstrip(". \n").replace("\n", " "),
            needed="a verb, its arguments and its options",
            fix=f"{_command(arguments)} --help",
        )
    if isinstance(error, OSError):
        number = error.errno or _errno_in(str(error))
        known = (error.strerror or "it gave no reason", "look at the place that is named above")
        what, fix = _REFUSALS.get(number or 0, known)
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        seen = f" at {as_typed(os.fspath(named), arguments)!r}" if named is not None else ""
        name = errno.errorcode.get(number or 0, type(error).__name__)
        needed = "a place that can be read and written"
        return StorageError(
            f"the operating system refused: {what}", seen=f"{name}{seen}", needed=needed, fix=fix
        )
    if isinstance(error, RecursionError) and _in_json(error):
        return LogError(
            "a JSON file can't be read",
            seen="lists or objects nested too deep",
            needed="the file as rlhf-audit wrote it",
            fix=f"{PROGRAM} verify LOG",
        )
    if isinstance(error, _duckdb_errors()):
        from rlhf_audit.log import views

        return views.told(error)
    return None


def _in_json(error: Exception) -> bool:
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent.name == "json"


def _duckdb_errors() -> Any:
    """Return the errors by which DuckDB tells of damaged files; none where no verb has used it."""
    found = sys.modules.get("duckdb")
    return (found.IOException, found.InvalidInputException, found.DataError) if found else ()


def _errno_in(message: str) -> int | None:
    # Arrow gives the number in words only.
    match = re.search(r"\[errno (\d+)\]", message, re.IGNORECASE)
    return int(match[1]) if match else None


def _command(arguments: Sequence[str]) -> str:
    verbs = {command.name for command in app.registered_commands}
    return next((f"{PROGRAM} {word}" for word in arguments if word in verbs), PROGRAM)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "rlhf_audit" in frame.filename]
    last = (inside or frames)[-1]
    return f"{os.path.basename(last.filename)}:{last.lineno}"  # noqa: PTH119 - only a name to print


def _check_text(arguments: Sequence[str]) -> None:
    """Refuse what is no text: neither JSON nor Parquet nor SQL could hold it."""
    home = os.environ.get(LOG_VARIABLE, "")
    for number, argument in enumerate([home, *arguments]):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            # Not the argument itself: it may be a name.
            which = f"argument {number}" if number else LOG_VARIABLE
            raise UsageError(
                f"{which} is not text",
                seen=f"a byte that is not UTF-8, after {error.start} characters",
                needed="text in UTF-8",
                fix="type it again in a UTF-8 terminal; a file or folder may have to be renamed",
            ) from error


class _Signals:
    """Lets Ctrl-C, a closed terminal and a polite kill end a verb alike: with everything sealed.

    Attributes:
        came: One of them did.
    """

    def __init__(self) -> None:
        self.came = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # Under nohup a closed terminal is to be survived; in a thread no signal can be set.
            if number is not None and signal.getsignal(number) in (
                signal.SIG_DFL,
                signal.default_int_handler,
            ):
                with contextlib.suppress(ValueError):
                    self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, _number: int, _frame: Any) -> None:
        self.came = True
        raise KeyboardInterrupt
