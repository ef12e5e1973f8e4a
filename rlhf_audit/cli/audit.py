"""``audit``: run the SQL audits."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlhf_audit.cli import _console, _tables
from rlhf_audit.cli._options import AsJson, LogPlace, open_log
from rlhf_audit.errors import CheckFailedError, LogChangedError, UsageError
from rlhf_audit.log.layout import is_remote
from rlhf_audit.log.store import Log
from rlhf_audit.types import AuditResult, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rlhf_audit.audits.runner import Overrides

_TRIES = 4
"""How often audits begin, where the log is merged under them."""

EXAMPLE = "rlhf-audit audit study severity drift --set severity.threshold=0.3"


_Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", show_default=False, help="Which; all if none is named.")
]
_Listing = Annotated[bool, typer.Option("--list", help="Say which audits there are; run none.")]
_Level = Literal["info", "warning", "error", "never"]
_FailOn = Annotated[_Level, typer.Option(help="Exit with 1 at findings of this severity or above.")]
_Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="ID.param=V", help="Set a parameter of an audit.")
]
_Engine = Annotated[Literal["duckdb", "spark"], typer.Option(help="What runs the SQL.")]
_Master = Annotated[
    str | None,
    typer.Option(metavar="URL", show_default=False, help="Where Spark runs; on this machine if not told."),
]
_PrintSql = Annotated[
    bool, typer.Option("--print-sql", help="Print the text for any DuckDB shell; run nothing.")
]

_Influence = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RATER",
        help="Also train each policy again without this rater and compare its actions;"
        " `flagged` for all raters with a finding. Takes as long as retrain, each.",
    ),
]


def run(
    log_path: LogPlace,
    ids: _Ids = None,
    listing: _Listing = False,
    fail_on: _FailOn = "warning",
    settings: _Settings = None,
    engine: _Engine = "duckdb",
    master: _Master = None,
    print_sql: _PrintSql = False,
    influence: _Influence = None,
    as_json: AsJson = False,
) -> int:
    """Run the SQL audits on the consented feedback.

    Exits with 1 when there are findings.
    """
    from rlhf_audit.audits import runner
    from rlhf_audit.log import remote

    if master is not None and engine != "spark":
        raise UsageError(
            "only Spark has a master",
            seen=f"--master, and the engine {engine}",
            needed="--engine spark",
            fix="leave --master out",
        )
    far = is_remote(log_path)
    log = _open_remote(log_path, engine, influence) if far else open_log(Path(log_path))
    if listing:
        return _list(log, ids or None, as_json)
    overrides = runner.parse_overrides(settings or [])
    if print_sql:
        return _print_sql(log, ids or None, overrides, as_json)
    with _console.Progress() as progress, remote.telling(log) if far else nullcontext():
        where = ("local[*]" if master is None else master) if engine == "spark" else None
        results = _results(log, where, ids or None, overrides, progress.show)
        results = (*results, *_influence(log, influence or [], results, progress))
    text = "\n\n".join([*map(_told, results), *_in_all(results)])
    _console.emit("audit", log.ledger.head, _document(results), text, as_json)
    return CheckFailedError.exit_code if _fails(results, fail_on) else 0


def _open_remote(uri: str, engine: str, influence: list[str] | None) -> Log:
    from rlhf_audit.log import remote

    if engine == "spark" or influence:
        raise UsageError(
            "that needs a log on this machine",
            seen=f"a URI, and {'--engine spark' if engine == 'spark' else '--influence'}",
            needed="the log's folder, or DuckDB's audits alone",
            fix="leave the option out, or run this where the log was recorded",
        )
    log = remote.open_log(uri)
    _console.say("Groups are not known here: they are in the raters' keys, which stay with the recorder.")
    if log.has_keys:
        _console.say(
            "keys/ was copied with this log: remove it there; who has it can forge and link answers."
        )
    return log


def _influence(
    log: Log, asked: list[str], results: "Sequence[AuditResult]", progress: _console.Progress
) -> "tuple[AuditResult, ...]":
    from rlhf_audit.audits import marks

    if not asked:
        return ()
    from rlhf_audit.replay import influence

    found = list(marks.flagged_raters(results)) if "flagged" in asked else []
    raters = dict.fromkeys([*(name for name in asked if name != "flagged"), *found])
    return (influence.measure(log, list(raters), progress=progress.count),)


def _results(
    log: Log,
    master: str | None,
    ids: "Sequence[str] | None",
    overrides: "Overrides",
    progress: "Callable[[str], None]",
) -> "Sequence[AuditResult]":
    """Run audits, and run them again where a writer beside has merged a file that they were to read.

    Spark does it where there is a master, else DuckDB.
    """
    for _ in range(_TRIES - 1):
        try:
            return _run(log, master, ids, overrides, progress)
        except LogChangedError:
            log.refreshed()
    return _run(log, master, ids, overrides, progress)


def _run(
    log: Log,
    master: str | None,
    ids: "Sequence[str] | None",
    overrides: "Overrides",
    progress: "Callable[[str], None]",
) -> "Sequence[AuditResult]":
    from rlhf_audit.audits import runner, spark
    from rlhf_audit.log import views

    if master is not None:
        progress("Spark, which takes a while to start")
        with spark.SparkEngine(log, log.clock.now(), master) as engine:
            return runner.run_on(engine, ids, overrides, progress)
    once = runner.reads_answers(ids)
    connection = views.connect(log, log.clock.now(), read_once=once, progress=progress)
    try:
        return runner.run(connection, ids, overrides, progress)
    finally:
        connection.close()


def _document(results: "Sequence[AuditResult]") -> dict[str, Any]:
    return {
        "findings": [
            {"audit": one.id, "severity": one.severity.value, **asdict(row)}
            for one in results
            for row in one.findings
        ],
        "audits": [
            {
                "id": one.id,
                "question": one.question,
                "severity": one.severity.value,
                "parameters": one.parameters,
                "rows": [asdict(row) for row in one.rows],
            }
            for one in results
        ],
    }


def _fails(results: "Sequence[AuditResult]", fail_on: str) -> bool:
    if fail_on == "never":
        return False
    order = list(Severity)
    least = order.index(Severity(fail_on))
    return any(one.findings and order.index(one.severity) >= least for one in results)


def _told(one: AuditResult) -> str:
    """Return an audit as people read it: findings first, then raters, then pairs of them."""
    columns = ("subject", "n", "value", "lower", "upper", "p", "q", "flagged", "note")
    found = _console.many(len(one.findings), "finding") if one.findings else "no finding"
    head = f"{_tables.prose(f'{one.id} ({one.severity.value}): {one.question}')}\n{found}"
    rows = [
        [
            row.subject,
            row.n,
            *(None if number is None else _number(number) for number in (row.value, row.lower, row.upper)),
            *(None if chance is None else _chance(chance) for chance in (row.p, row.q)),
            row.flagged,
            row.note,
        ]
        for row in sorted(one.rows, key=lambda row: (not row.flagged, "/" in row.subject))
    ]
    return f"{head}\n{_tables.table(columns, rows, right=columns[1:7])}" if rows else head


def _number(value: float) -> str:
    text = f"{value:.0f}" if value == round(value) else f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _chance(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _in_all(results: "Sequence[AuditResult]") -> list[str]:
    """Return what to remember when the tables have scrolled by."""
    if len(results) == 1:
        return []
    flagged = [f"{one.id} {len(one.findings)}" for one in results if one.findings]
    if not flagged:
        return [_tables.prose(f"In all: no finding in {len(results)} audits.")]
    count = _console.many(sum(len(one.findings) for one in results), "finding")
    told = f"In all: {count} in {len(flagged)} of {len(results)} audits ({', '.join(flagged)})."
    meant = "A finding is a reason to look, not a verdict on a person."
    chance = "q is the probability of such a value by chance, corrected for the number of rows tested."
    return [_tables.prose(f"{told} {meant} {chance}")]


def _list(log: Log, ids: list[str] | None, as_json: bool) -> int:
    from rlhf_audit.audits import catalogue

    chosen = [catalogue.find(name) for name in ids or catalogue.load()]
    listed: list[dict[str, Any]] = [
        {
            "id": audit.id,
            "severity": audit.severity.value,
            "question": audit.question,
            "parameters": {name: parameter.default for name, parameter in audit.parameters.items()},
        }
        for audit in chosen
    ]
    text = "\n".join(
        f"{one['id']} ({one['severity']})\n  {one['question']}\n  "
        + ", ".join(f"{name}={value}" for name, value in one["parameters"].items())
        for one in listed
    )
    _console.emit("audit", log.ledger.head, {"findings": [], "audits": listed}, text, as_json)
    return 0


def _print_sql(log: Log, ids: list[str] | None, overrides: "Overrides", as_json: bool) -> int:
    from rlhf_audit.audits import catalogue, prepared, runner
    from rlhf_audit.log import view_sql

    chosen = [catalogue.find(name) for name in ids or catalogue.load()]
    # Without groups: they are the raters' own, and a printed text goes anywhere.
    made = [view_sql.script(log, log.clock.now()), prepared.script()]
    parts = [*made, *(runner.printable_sql(one, overrides) for one in chosen)]
    text = "\n".join(parts)
    _console.emit("audit", log.ledger.head, {"sql": text}, text, as_json)
    return 0
