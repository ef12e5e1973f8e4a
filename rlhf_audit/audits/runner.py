"""Run audits: write the parameters into the SQL, query, add p and q, and decide what is a finding."""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
from scipy import stats

from rlhf_audit.audits import catalogue, causes, marks, memory, prepared
from rlhf_audit.audits.engines import DuckDBEngine, Engine
from rlhf_audit.audits.estimated import ESTIMATORS
from rlhf_audit.audits.header import AuditFile, Distribution, Parameter, Test, substitute
from rlhf_audit.errors import UsageError, near
from rlhf_audit.types import AuditResult, AuditRow

Overrides = Mapping[str, Mapping[str, float]]
"""Parameter values by audit id, then by name."""

_CONTRACT = ("subject", "n", "value", "lower", "upper", "flagged", "note")


def run(
    connection: duckdb.DuckDBPyConnection,
    ids: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[AuditResult, ...]:
    """Run audits on the views of a log.

    Args:
        connection: Holds the consented views; may be locked and read-only.
        ids: Which audits, in the order wanted; all, in reading order, if None.
        overrides: Parameters that differ from their defaults.
        progress: Told the name of what is made, and the id of each audit, before it runs.

    Raises:
        UsageError: An audit or a parameter that does not exist, or a value of another type.

    Determinism:
        The same rows give the same bits, in whatever order they are stored and with however many threads.
    """
    return run_on(DuckDBEngine(connection), ids, overrides, progress)


def run_on(
    engine: Engine,
    ids: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[AuditResult, ...]:
    """Run audits on any engine; else as ``run``."""
    audits = [catalogue.find(name) for name in (catalogue.load() if ids is None else dict.fromkeys(ids))]
    for name in overrides or {}:
        catalogue.find(name)
    for one in prepared.needed(view for audit in audits for view in audit.reads):
        if progress is not None:
            progress(one.name)
        engine.prepare(one)
    results = []
    for audit in audits:
        if progress is not None:
            progress(audit.id)
        results.append(_run_one(engine, audit, overrides))
    return marks.taught_by_flagged(causes.attribute(results))


def reads_answers(ids: Sequence[str] | None = None) -> bool:
    """Return whether any of these audits, or of all, asks for more than the ledger."""
    audits = [catalogue.find(name) for name in (catalogue.load() if ids is None else ids)]
    reads = {view for audit in audits for view in audit.reads}
    return "feedback" in reads or bool(prepared.needed(reads))


def printable_sql(audit: AuditFile, overrides: Overrides | None = None) -> str:
    """Return the very text that is run, header included, for any DuckDB shell that has the views.

    Raises:
        UsageError: An override for a parameter that this audit lacks, or a value of another type.
    """
    body = substitute(audit.body, _values(audit, overrides), audit.parameters)
    return f"{audit.header}\n{body.rstrip()}\n;\n"  # on its own line: the body may end in a comment


def parse_overrides(settings: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return what ``--set ID.param=V`` asks for; of two settings of the same parameter the last holds.

    Raises:
        UsageError: Not of that form, or an unknown audit or parameter, or a value of another type.
    """
    found: dict[str, dict[str, float]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        audit_id, dot, parameter_name = name.strip().partition(".")
        if not (equals and dot):
            raise UsageError(
                "a setting could not be read",
                seen=repr(setting),
                needed="ID.param=V",
                fix="for example --set severity.threshold=0.3",
            )
        parameter = _parameter(catalogue.find(audit_id), parameter_name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        found.setdefault(audit_id, {})[parameter_name] = _checked(audit_id, parameter, value, text.strip())
    return found


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return q, the smallest false discovery rate at which each p is still a discovery.

    References:
        Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57:289.

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    return [float(q) for q in stats.false_discovery_control(p_values, method="bh")] if p_values else []


def _run_one(engine: Engine, audit: AuditFile, overrides: Overrides | None) -> AuditResult:
    sql = printable_sql(audit, overrides)
    values = _values(audit, overrides)
    if audit.estimator is None:
        found = engine.query(sql)
    else:
        found = ESTIMATORS[audit.estimator](engine.table(sql), values)
        memory.give_back()
    raw = sorted(found, key=lambda row: str(row["subject"]))
    p_values = _p_values(raw, audit.test)
    q_values = _q_values(raw, p_values, audit.test)
    rows = tuple(_row(one, p, q, audit.test) for one, p, q in zip(raw, p_values, q_values, strict=True))
    return AuditResult(audit.id, audit.question, audit.severity, rows, sql, values)


def _row(raw: Mapping[str, Any], p: float | None, q: float | None, test: Test | None) -> AuditRow:
    subject, n, value, lower, upper, flagged, note = (raw[name] for name in _CONTRACT)
    large = bool(flagged) and note != "insufficient"
    significant = test is None or (q is not None and q <= test.rate)
    return AuditRow(
        subject=subject,
        n=int(n),
        value=_number(value),
        lower=_number(lower),
        upper=_number(upper),
        p=p,
        q=q,
        flagged=large and significant,
        note=f"{note}; not significant" if large and not significant else note,
    )


def _p_values(rows: Sequence[Mapping[str, Any]], test: Test | None) -> list[float | None]:
    """The p of each row, two-sided but for a χ²; None without a test or enough data, or if undefined."""
    p_values: list[float | None] = [None] * len(rows)
    if test is None:
        return p_values
    names = test.distribution.columns
    tested = [
        index
        for index, row in enumerate(rows)
        if row["note"] != "insufficient"
        and not any(row[name] is None or math.isnan(row[name]) for name in names)
    ]
    # All at once: SciPy takes far longer to be called than to compute.
    given = [np.array([rows[index][name] for index in tested], float) for name in names]
    for index, p in zip(tested, _tail(test.distribution, given).tolist(), strict=True):
        p_values[index] = p
    return p_values


def _tail(distribution: Distribution, given: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    if distribution is Distribution.NORMAL:
        found = 2 * stats.norm.sf(abs(given[0]))
    elif distribution is Distribution.STUDENT:
        found = 2 * stats.t.sf(abs(given[0]), given[1])
    elif distribution is Distribution.CHI2:
        found = stats.chi2.sf(*given)
    elif distribution is Distribution.GIVEN:
        found = given[0]
    else:
        tests = zip(*(column.tolist() for column in given), strict=True)
        found = np.array([_binomial(int(k), int(n), share) for k, n, share in tests])
    return np.asarray(found, float)


@functools.cache
def _binomial(k: int, n: int, share: float) -> float:
    """Return SciPy's exact p, kept: many raters of a panel have the same three numbers."""
    return float(stats.binomtest(k, n, share).pvalue)


def _q_values(
    rows: Sequence[Mapping[str, Any]], p_values: Sequence[float | None], test: Test | None
) -> list[float | None]:
    families: dict[Any, list[int]] = defaultdict(list)
    for index, (row, p) in enumerate(zip(rows, p_values, strict=True)):
        if test is not None and p is not None:
            families[row[test.family] if test.family else None].append(index)
    q_values: list[float | None] = [None] * len(rows)
    for members in families.values():
        adjusted = benjamini_hochberg([p for i in members if (p := p_values[i]) is not None])
        for index, q in zip(members, adjusted, strict=True):
            q_values[index] = q
    return q_values


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _values(audit: AuditFile, overrides: Overrides | None) -> dict[str, float]:
    values = {name: parameter.default for name, parameter in audit.parameters.items()}
    for name, value in (overrides or {}).get(audit.id, {}).items():
        values[name] = _checked(audit.id, _parameter(audit, name), value, str(value))
    return values


def _parameter(audit: AuditFile, name: str) -> Parameter:
    if name not in audit.parameters:
        raise UsageError(
            f"audit {audit.id} has no parameter {name!r}",
            seen=name,
            needed=f"one of {', '.join(audit.parameters)}",
            fix=near(name, audit.parameters),
        )
    return audit.parameters[name]


def _checked(audit_id: str, parameter: Parameter, value: float, seen: str) -> float:
    whole = parameter.kind is int
    if not math.isfinite(value) or (whole and (value != int(value) or value < 0)):
        raise UsageError(
            f"{audit_id}.{parameter.name} cannot be that",
            seen=seen,
            needed="a whole number, 0 or more" if whole else "a finite number",
            fix=f"--set {audit_id}.{parameter.name}={parameter.default}",
        )
    return int(value) if whole else float(value)
