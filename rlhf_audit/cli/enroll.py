"""``enroll``: add a rater."""

from typing import Annotated

import typer

from rlhf_audit.cli import _console
from rlhf_audit.cli._options import AsJson, LogPath, open_log, pairs

EXAMPLE = "rlhf-audit enroll study --group language=en"

# Has the most actions of those with an oracle: a name that is good here is good somewhere.
_WIDEST_ENV = "LunarLander-v3"


def run(
    log_path: LogPath,
    alias: Annotated[
        str, typer.Option(metavar="TEXT", help="What you call them; kept in their key file alone.")
    ] = "",
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A group that they told you; kept in their key file alone."),
    ] = None,
    scripted: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Not a person but this script: oracle, flip-20, always-yes, …"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enrol a rater.

    Prints the pseudonym, and once the code by which they may withdraw. If it can't be printed, the exit
    code is 4: erase that rater and enrol them again.
    """
    from rlhf_audit.consent import register
    from rlhf_audit.errors import StorageError
    from rlhf_audit.raters.scripted import scripted_source

    groups = pairs(group or [], "--group")
    if scripted is not None:
        scripted_source(scripted, _WIDEST_ENV, 0)
    if _console.results() is None:
        raise StorageError(
            "nobody was enrolled: their withdrawal code, which is shown only once, could not be shown",
            seen="a closed standard output",
            needed="a standard output that can be written",
            fix=f"rlhf-audit enroll {log_path} at a terminal",
        )
    log = open_log(log_path)
    rater_id, code = register.enrol(log, alias, groups, scripted)
    try:
        _console.emit(
            "enroll",
            log.ledger.head,
            {"rater_id": rater_id, "withdrawal_code": code, "scripted": scripted},
            f"rater            {rater_id}\nwithdrawal code  {code}\n"
            "The code is shown only now; give it to the rater.\n"
            f"Ask them: rlhf-audit consent {log_path} {rater_id} --purpose training --purpose audit",
            as_json,
            only_now=True,
        )
    except StorageError as error:
        # Only its hash was kept: it can be shown to nobody any more.
        raise StorageError(
            f"{rater_id} is enrolled, but their withdrawal code could not be shown and is lost",
            seen=error.seen,
            needed=error.needed,
            fix=f"rlhf-audit erase {log_path} {rater_id} --apply, then enrol them again",
        ) from error
