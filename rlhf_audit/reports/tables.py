"""The tables of a report, for a spreadsheet: one CSV each, made from report.json alone.

A spreadsheet runs what begins with =, +, - or @; such text, and text that begins with an apostrophe, gets an
apostrophe in front, as in ``exchange.csv``. Numbers are numbers.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import NoneType
from typing import Any

from rlhf_audit.reports.words import visible

_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "'")
_ROW = ("subject", "n", "value", "lower", "upper", "p", "q", "flagged", "note")

_AS_THEY_ARE = frozenset({int, float, NoneType})
"""Which Python's csv writes as they should be; of all others one is a list."""

Line = Sequence[Any]


def csv_files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return each table's file by name; always the same names.

    ``findings`` holds the flagged rows with what to do about each; ``rows`` every row of every audit.
    """
    return {f"report-{name}.csv": _csv(head, lines) for name, (head, lines) in _tables(document).items()}


def _tables(document: Mapping[str, Any]) -> Mapping[str, tuple[Line, Iterator[Line]]]:
    audits = document["audits"]
    before = ("family", "audit", "severity")

    def rows(flagged_only: bool) -> Iterator[Line]:
        for audit in audits:
            for row in audit["rows"]:
                if row["flagged"] or not flagged_only:
                    told = [audit["family"], audit["id"], audit["severity"], *(row[name] for name in _ROW)]
                    yield [*told, audit["advice"]] if flagged_only else told

    def listed(name: str, columns: Line) -> tuple[Line, Iterator[Line]]:
        return columns, ([one[column] for column in columns] for one in document[name])

    return {
        "findings": ((*before, *_ROW, "advice"), rows(True)),
        "rows": ((*before, *_ROW), rows(False)),
        "raters": listed(
            "raters",
            ("rater_id", "scripted", "rows", "sessions", "consent", "purposes", "expires_at", "withdrawn"),
        ),
        "policies": listed(
            "policies",
            ("name", "algorithm", "rows", "n_raters", "n_withdrawn", "state", "trained_at", "weights_sha256"),
        ),
        "exports": listed("exports", ("path", "n_raters", "n_withdrawn", "state", "made_at")),
        "withdrawals": listed(
            "withdrawals", ("rater_id", "purposes", "withdrawn_at", "erase_by", "overdue", "held")
        ),
    }


def _csv(head: Line, lines: Iterator[Line]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows(
        [value if type(value) in _AS_THEY_ARE else _cell(value) for value in line] for line in lines
    )
    return sink.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(" ".join(map(str, value)))


@lru_cache(4096)
def _text(text: str) -> str:
    shown = visible(text)
    return f"'{shown}" if shown.startswith(_DANGEROUS) else shown
