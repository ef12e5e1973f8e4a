"""The consent time line: from when to when each rater's feedback may be used."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from matplotlib.axes import Axes

from rlhf_audit.clock import from_text
from rlhf_audit.reports.figures import left_out, legend_below, named
from rlhf_audit.reports.svg import BLUE, GREY, INK, OLIVE, ORANGE, PINK, Figure, draw, plain

Spell = Mapping[str, Any]

MOST_ROWS = 18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOOKS = {
    "given": (BLUE, "-", "|", "given, until it expires"),
    "expired": (GREY, "-", "x", "expired"),
    "withdrawn": (PINK, "-", "D", "given, then withdrawn"),
    "refused": (INK, "-", "s", "refused"),
    "invalidated": (INK, ":", "X", "invalidated"),
    "erasure due": (OLIVE, "--", "^", "withdrawn, erasure due"),
    "erasure overdue": (ORANGE, "--", "*", "withdrawn, erasure OVERDUE"),
}
_URGENT_FIRST = ("erasure overdue", "erasure due", "invalidated", "expired", "withdrawn", "refused", "given")


def consent(uid: str, spells: Sequence[Spell], scripted: Collection[str], as_of: str | None) -> Figure:
    """Return one line a rater, from each grant to its end and from each withdrawal to its deadline."""
    known = [spell for spell in spells if spell["state"] in _LOOKS]
    if not known:
        return Figure(None, "No figure: nobody has been asked for consent yet.")
    ranked = _most_urgent_first(known)
    shown = ranked[:MOST_ROWS]
    heights = {rater_id: -place for place, rater_id in enumerate(shown)}
    drawn = [spell for spell in known if spell["rater_id"] in heights]

    counts = {state: sum(spell["state"] == state for spell in known) for state in _URGENT_FIRST}
    text = ", ".join(f"{n} {state}" for state, n in counts.items() if n) + "."
    caption = "Consent over time: each line runs from a grant, or a withdrawal, to its end."
    caption += " " + left_out(len(shown), len(ranked), "overdue first, then the soonest ends", "raters")
    height = 1.7 + 0.21 * max(2, len(shown))

    def paint(axes: Axes) -> None:
        _paint_spells(axes, drawn, heights)
        if as_of is not None:
            axes.axvline(_days(as_of), color=INK, linestyle=":", linewidth=1, label="this report")
        labels = [plain(named(rater_id, scripted)) for rater_id in shown]
        axes.set_yticks([heights[rater_id] for rater_id in shown], labels, fontsize=8)
        axes.set_ylim(-len(shown) + 0.3, 0.7)
        axes.tick_params(axis="y", length=0)
        _date_axis(axes, drawn)
        legend_below(axes)

    return Figure(draw(uid, "Consent over time", text, height, paint), caption.rstrip())


def _most_urgent_first(spells: Sequence[Spell]) -> list[str]:
    """Return the raters, each by their most urgent spell, then by when it ends."""
    urgency: dict[str, tuple[int, str]] = {}
    for spell in spells:
        rank = (_URGENT_FIRST.index(spell["state"]), spell["ends_at"])
        urgency[spell["rater_id"]] = min(rank, urgency.get(spell["rater_id"], rank))
    return sorted(urgency, key=lambda rater_id: (urgency[rater_id], rater_id))


def _paint_spells(axes: Axes, spells: Sequence[Spell], heights: Mapping[str, float]) -> None:
    explained = set()
    for spell in spells:
        colour, dashes, marker, name = _LOOKS[spell["state"]]
        axes.plot(
            [_days(spell["starts_at"]), _days(spell["ends_at"])],
            [heights[spell["rater_id"]]] * 2,
            color=colour,
            linestyle=dashes,
            linewidth=2,
            marker=marker,
            markevery=[1],
            markersize=6,
            label=None if spell["state"] in explained else name,
        )
        explained.add(spell["state"])


def _days(text: str) -> float:
    return (from_text(text) - _EPOCH) / timedelta(days=1)


def _date_axis(axes: Axes, drawn: Sequence[Spell]) -> None:
    first = min(_days(spell["starts_at"]) for spell in drawn)
    last = max(_days(spell["ends_at"]) for spell in drawn)
    span = max(last - first, 1.0)
    ticks = [round(first + span * part / 3) for part in range(4)]
    axes.set_xlim(first - 0.04 * span, first + 1.06 * span)
    axes.set_xticks(ticks, [f"{_EPOCH + timedelta(days=tick):%Y-%m-%d}" for tick in ticks], fontsize=8)
