"""The case folders: ``tests/audits/<id>/<case>/given.csv`` (and other views' rows) with ``expected.csv``.

To accept what the audits say now, and then to read the difference: ``python tests/audits/audit_cases.py``.
"""

import csv
from functools import cache
from pathlib import Path

import audit_panel

from rlhf_audit.audits import runner
from rlhf_audit.types import AuditResult, AuditRow

HERE = Path(__file__).parent
CASES = sorted(path.parent for path in HERE.glob("*/*/given.csv"))
_COLUMNS = tuple(AuditRow.__dataclass_fields__)


def name(case: Path) -> str:
    return f"{case.parent.name}/{case.name}"


@cache
def run_case(case: Path) -> AuditResult:
    """Run the case's audit on its rows, with default parameters."""
    tables = {
        path.stem: audit_panel.read_csv(path)
        for path in sorted(case.glob("*.csv"))
        if path.stem not in ("given", "expected")
    }
    with audit_panel.connect(audit_panel.read_csv(case / "given.csv"), **tables) as connection:
        return runner.run(connection, [case.parent.name])[0]


def read_expected(case: Path) -> list[AuditRow]:
    """Return the contract's rows; an empty cell is None."""
    with (case / "expected.csv").open(newline="", encoding="utf-8") as stream:
        return [_row(cells) for cells in csv.DictReader(stream)]


def _row(cells: dict[str, str]) -> AuditRow:
    value, lower, upper, p, q = (
        float(cells[name]) if cells[name] else None for name in ("value", "lower", "upper", "p", "q")
    )
    flagged = {"yes": True, "no": False}[cells["flagged"]]
    return AuditRow(cells["subject"], int(cells["n"]), value, lower, upper, p, q, flagged, cells["note"])


def accept() -> None:
    """Write every ``expected.csv`` anew."""
    for case in CASES:
        with (case / "expected.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for row in run_case(case).rows:
                cells = [getattr(row, column) for column in _COLUMNS]
                writer.writerow([{True: "yes", False: "no"}[c] if isinstance(c, bool) else c for c in cells])


if __name__ == "__main__":
    accept()
