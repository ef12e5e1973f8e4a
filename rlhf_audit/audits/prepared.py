"""What several audits read: each a SELECT of its own on the consented views, in sql/prepared/.

An engine keeps the larger ones as tables, once for all audits; in a shell they are plain views.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

_IN_ORDER = ("answers", "items", "ratings", "rater_groups")
"""Each reads those before it."""

_VIEWS = frozenset({"answers"})
"""Read too seldom, and too large, to be kept."""


@dataclass(frozen=True)
class Prepared:
    """One of them.

    Attributes:
        sql: The file: a comment that explains the columns, and one SELECT.
        kept: Worth keeping as a table while audits run.
    """

    name: str
    sql: str
    kept: bool


@cache
def load() -> dict[str, Prepared]:
    """Return all of them by name, in the order in which they are made."""
    folder = resources.files("rlhf_audit.audits") / "sql" / "prepared"
    return {
        name: Prepared(name, (folder / f"{name}.sql").read_text("utf-8").strip(), name not in _VIEWS)
        for name in _IN_ORDER
    }


def needed(reads: Iterable[str]) -> tuple[Prepared, ...]:
    """Return what must be made before a SELECT that reads these views, in order."""
    names = set(reads) & set(_IN_ORDER)
    last = max((_IN_ORDER.index(name) for name in names), default=-1)
    return tuple(list(load().values())[: last + 1])


def script() -> str:
    """Return the SQL that makes them in any DuckDB shell that has the views."""
    return "\n".join(f"CREATE VIEW {one.name} AS\n{one.sql};" for one in load().values())
