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
    new_code: Annotated[
        str | None,
        typer.Option(
            metavar="RATER", help="Enrol nobody: a new withdrawal code for this rater; voids the old."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Enrol a rater.

    Prints the pseudonym, and once the code by which they may withdraw. A code that was lost, or
    could not be printed (exit code 4), is replaced by --new-code. A group called age, of fewer than
    18 years or minor, says that they are under age: see consent --by.
    """
    from rlhf_audit.consent import people
    from rlhf_audit.errors import StorageError, UsageError
    from rlhf_audit.raters.scripted import scripted_source

    groups = pairs(group or [], "--group")
    if new_code is not None and (alias or groups or scripted):
        raise UsageError(
            "--new-code enrols nobody",
            seen="--alias, --group or --scripted beside it",
            needed="--new-code RATER alone",
            fix=f"rlhf-audit enroll {log_path} --new-code RATER",
        )
    if scripted is not None:
        scripted_source(scripted, _WIDEST_ENV, 0)
    if _console.results() is None:
        raise StorageError(
            "nothing was done: a withdrawal code, which is shown only once, could not be shown",
            seen="a closed standard output",
            needed="a standard output that can be written",
            fix=f"rlhf-audit enroll {log_path} at a terminal",
        )
    log = open_log(log_path)
    if new_code is None:
        rater_id, code = people.enrol(log, alias, groups, scripted)
        after = f"Ask them: rlhf-audit consent {log_path} {rater_id} --purpose training --purpose audit"
    else:
        rater_id, code = new_code, people.renew_code(log, new_code)
        scripted = people.rater(log, rater_id)["scripted"]
        after = "Codes that they were given before open nothing any more."
    try:
        _console.emit(
            "enroll",
            log.ledger.head,
            {"rater_id": rater_id, "withdrawal_code": code, "scripted": scripted},
            f"rater            {rater_id}\nwithdrawal code  {code}\n"
            f"The code is shown only now; give it to the rater.\n{after}",
            as_json,
            only_now=True,
        )
    except StorageError as error:
        # Only a slow hash of it was kept: it can be shown to nobody any more.
        raise StorageError(
            f"{rater_id} is enrolled, but their withdrawal code could not be shown and is lost",
            seen=error.seen,
            needed=error.needed,
            fix=f"rlhf-audit enroll {log_path} --new-code {rater_id}",
        ) from error
