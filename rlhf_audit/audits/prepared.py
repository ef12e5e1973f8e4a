"""What several audits read: each a SELECT of its own on the consented views, in sql/prepared/.

An engine keeps them as tables, once for all audits; in a shell they are plain views.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

_IN_ORDER = ("answers", "items", "labels", "totals", "ratings", "rater_groups")
"""Each reads those before it."""

_BY_RATER = frozenset({"answers", "labels", "ratings"})

_SPENDS = {"ratings": ("labels", "totals")}


@dataclass(frozen=True)
class Prepared:
    """One of them.

    Attributes:
        sql: The file: a comment that explains the columns, and one SELECT.
        by_rater: A rater's rows follow from those that it reads of the same rater (and from what is not by
            rater): it may be made in pieces, some raters at a time.
        spends: What nobody reads any more once this is made.
    """

    name: str
    sql: str
    by_rater: bool = False
    spends: tuple[str, ...] = ()


@cache
def load() -> dict[str, Prepared]:
    """Return all of them by name, in the order in which they are made."""
    folder = resources.files("rlhf_audit.audits") / "sql" / "prepared"
    return {
        name: Prepared(
            name,
            (folder / f"{name}.sql").read_text("utf-8").strip(),
            name in _BY_RATER,
            _SPENDS.get(name, ()),
        )
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
