"""What an audit says about itself: the TOML in the opening comment of its .sql file."""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rlhf_audit.types import Severity

_FILE = re.compile(r"\A/\*(?P<header>.*?)\*/\s*(?P<body>.*?);?\s*\Z", re.DOTALL)
_PLACEHOLDER = re.compile(r"\$([a-z][a-z0-9_]*)")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)

FALSE_DISCOVERY_RATE = 0.05
"""Share of false findings that a family of tests is allowed."""

_REQUIRED = ("id", "question", "severity", "reads", "grain", "n_counts", "value", "flag")
_OPTIONAL = ("n_min", "params", "test", "estimator", "caveats", "references")


class Distribution(StrEnum):
    """What an audit's p-value is read from, and the columns that its SELECT gives for it."""

    NORMAL = "normal"
    STUDENT = "student"
    BINOMIAL = "binomial"
    CHI2 = "chi2"
    GIVEN = "given"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns beside the contract's: a statistic, a binomial's k of how many and share, or p itself."""
        return {
            Distribution.NORMAL: ("statistic",),
            Distribution.STUDENT: ("statistic", "df"),
            Distribution.BINOMIAL: ("k", "trials", "p0"),
            Distribution.CHI2: ("statistic", "df"),
            Distribution.GIVEN: ("p",),
        }[self]


@dataclass(frozen=True)
class Parameter:
    """A number that a reader may set: ``$name`` in the SQL.

    Attributes:
        kind: ``int`` or ``float``.
        meaning: With its unit, and where the default comes from.
    """

    name: str
    kind: type[int] | type[float]
    default: float
    meaning: str


@dataclass(frozen=True)
class Test:
    """How the runner makes a p-value, two-sided, and over which rows it corrects for many tests.

    Attributes:
        family: Column whose values part the rows into families; None for one family.
        hypothesis: What p is the probability under.
        rate: Largest q that is significant, where the audit asks for less than the usual .05.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    distribution: Distribution
    hypothesis: str
    family: str | None = None
    rate: float = FALSE_DISCOVERY_RATE


@dataclass(frozen=True)
class AuditFile:
    """One audit: its header, and its text.

    Attributes:
        reads: The views that it selects from.
        grain: What one row is.
        n_counts: What the column ``n`` counts, and ``n_min`` is compared with.
        value: What the column ``value`` holds, with its unit.
        flag: When a row is a finding, in words.
        parameters: By name; ``n_min`` is one of them where the audit estimates anything.
        estimator: What turns the SELECT's rows into the audit's, where SQL can't: a name in
            ``estimated.ESTIMATORS``; None where the SELECT is all.
        header: The opening comment, as in the file.
        body: The SELECT, with its placeholders.
    """

    id: str
    question: str
    severity: Severity
    reads: tuple[str, ...]
    grain: str
    n_counts: str
    value: str
    flag: str
    parameters: dict[str, Parameter]
    test: Test | None
    estimator: str | None
    caveats: tuple[str, ...]
    references: tuple[str, ...]
    header: str
    body: str


def parse(text: str) -> AuditFile:
    """Return the audit that a .sql file holds.

    Raises:
        ValueError: No opening comment, a key that is missing, unknown or of another type, or a ``$name`` that
            the header does not explain.
    """
    match = _FILE.match(text)
    if match is None:
        raise ValueError("an audit opens with a comment that holds its TOML header")
    fields = tomllib.loads(match["header"])
    missing = [key for key in _REQUIRED if key not in fields]
    unknown = [key for key in fields if key not in (*_REQUIRED, *_OPTIONAL)]
    if missing or unknown:
        raise ValueError(f"header of {fields.get('id', '?')}: missing {missing}, unknown {unknown}")
    audit = AuditFile(
        id=fields["id"],
        question=fields["question"],
        severity=Severity(fields["severity"]),
        reads=tuple(fields["reads"]),
        grain=fields["grain"],
        n_counts=fields["n_counts"],
        value=fields["value"],
        flag=fields["flag"],
        parameters=_parameters(fields),
        test=_test(fields.get("test")),
        estimator=fields.get("estimator"),
        caveats=tuple(fields.get("caveats", ())),
        references=tuple(fields.get("references", ())),
        header=f"/*{match['header']}*/",
        body=match["body"],
    )
    used, known = placeholders(audit.body), set(audit.parameters)
    # An estimator is given the parameters too.
    if used - known or (used != known and audit.estimator is None):
        raise ValueError(
            f"audit {audit.id}: the SQL uses {sorted(used)}, the header explains {sorted(known)}"
        )
    return audit


def placeholders(body: str) -> set[str]:
    """Return the names that the SQL asks for, comments left out.

    >>> sorted(placeholders("SELECT $n_min -- not $this"))
    ['n_min']
    """
    return set(_PLACEHOLDER.findall(_COMMENT.sub("", body)))


def substitute(body: str, values: dict[str, float], parameters: dict[str, Parameter]) -> str:
    """Return the SQL with each ``$name`` written out as a literal of its type.

    >>> p = Parameter("t", float, 0.25, "")
    >>> substitute("SELECT $t", {"t": 0.3}, {"t": p})
    'SELECT CAST(0.3 AS DOUBLE)'
    """

    def literal(match: re.Match[str]) -> str:
        name = match[1]
        if name not in parameters:  # in a comment
            return match[0]
        if parameters[name].kind is int:
            return str(int(values[name]))
        # a bare 0.3 would be a DECIMAL
        return f"CAST({float(values[name])!r} AS DOUBLE)"

    return _PLACEHOLDER.sub(literal, body)


def _parameters(fields: dict[str, Any]) -> dict[str, Parameter]:
    kinds: dict[str, type[int] | type[float]] = {"int": int, "float": float}
    found: dict[str, Parameter] = {}
    if "n_min" in fields:  # an audit that only counts needs none
        found["n_min"] = Parameter("n_min", int, fields["n_min"], f"fewest {fields['n_counts']}")
    for name, spec in fields.get("params", {}).items():
        if set(spec) != {"type", "default", "meaning"} or type(spec["default"]) is not kinds[spec["type"]]:
            raise ValueError(f"parameter {name} of {fields['id']}: needed type, default (of it) and meaning")
        found[name] = Parameter(name, kinds[spec["type"]], spec["default"], spec["meaning"])
    return found


def _test(spec: dict[str, Any] | None) -> Test | None:
    if spec is None:
        return None
    rate = spec.get("rate", FALSE_DISCOVERY_RATE)
    return Test(Distribution(spec["distribution"]), spec["hypothesis"], spec.get("family"), rate)
