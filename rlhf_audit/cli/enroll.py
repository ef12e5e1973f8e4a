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

    Prints the pseudonym, and once the code by which they may withdraw.
    """
    from rlhf_audit.consent import register
    from rlhf_audit.raters.scripted import scripted_source

    groups = pairs(group or [], "--group")
    if scripted is not None:
        scripted_source(scripted, _WIDEST_ENV, 0)
    log = open_log(log_path)
    rater_id, code = register.enrol(log, alias, groups, scripted)
    _console.emit(
        "enroll",
        log.ledger.head,
        {"rater_id": rater_id, "withdrawal_code": code, "scripted": scripted},
        f"rater            {rater_id}\nwithdrawal code  {code}\n"
        "The code is shown only now; give it to the rater.\n"
        f"Ask them: rlhf-audit consent {log_path} {rater_id} --purpose training --purpose audit",
        as_json,
    )
