"""What several audits read: each a SELECT of its own on the consented views, in sql/prepared/.

An engine keeps most as tables, once for all audits; in a shell they are plain views.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources

_CHAIN = ("answers", "numbered", "items", "labels", "totals", "ratings")
"""Each reads some of those before it."""
_ON_RATINGS = ("rater_groups", "compositions", "same_answers", "pair_answers")
"""Each reads the last of the chain, and none of the others here."""


class Parts(StrEnum):
    """How a table may be made in pieces: of what each row follows from rows of the same."""

    WHOLE = "whole"
    RATERS = "rater_id"
    ITEMS = "item"
    BLOCKS = "block"
    """Each of so many items, by their numbers: for what is counted over the items."""


BLOCK = 125_000
"""Items of a block, as the SQL has it."""

_PARTS = {
    "items": Parts.ITEMS,
    "labels": Parts.RATERS,
    "totals": Parts.ITEMS,
    "ratings": Parts.RATERS,
    "compositions": Parts.BLOCKS,
    "same_answers": Parts.BLOCKS,
    "pair_answers": Parts.BLOCKS,
}

_NOT_KEPT = frozenset({"answers"})

_SPENDS = {"items": ("numbered",), "ratings": ("labels", "totals")}


@dataclass(frozen=True)
class Prepared:
    """One of them.

    Attributes:
        sql: The file: a comment that explains the columns, and one SELECT.
        kept: It is worth a table: others read it more often than it takes to write it.
        parts: How it may be made in pieces.
        spends: What nobody reads any more once this is made.
    """

    name: str
    sql: str
    kept: bool = True
    parts: Parts = Parts.WHOLE
    spends: tuple[str, ...] = ()


@cache
def load() -> dict[str, Prepared]:
    """Return all of them by name, in the order in which they are made."""
    folder = resources.files("rlhf_audit.audits") / "sql" / "prepared"
    return {
        name: Prepared(
            name,
            (folder / f"{name}.sql").read_text("utf-8").strip(),
            name not in _NOT_KEPT,
            _PARTS.get(name, Parts.WHOLE),
            _SPENDS.get(name, ()),
        )
        for name in (*_CHAIN, *_ON_RATINGS)
    }


def needed(reads: Iterable[str]) -> tuple[Prepared, ...]:
    """Return what must be made before a SELECT that reads these views, in order."""
    names = set(reads)
    beside = [name for name in _ON_RATINGS if name in names]
    last = len(_CHAIN) if beside else max((_CHAIN.index(name) + 1 for name in names & {*_CHAIN}), default=0)
    return tuple(load()[name] for name in (*_CHAIN[:last], *beside))


def script() -> str:
    """Return the SQL that makes them in any DuckDB shell that has the views."""
    return "\n".join(f"CREATE VIEW {one.name} AS\n{one.sql};" for one in load().values())
