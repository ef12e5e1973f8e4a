"""The figures of a report, each made from plain data of the JSON document.

What is flagged is marked by shape and by a sign as well as by colour. A figure shows only as many subjects as
stay legible, and tells how many there are.
"""

import textwrap
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes

from rlhf_audit.reports.document import is_insufficient, subject_raters
from rlhf_audit.reports.forest import MOST_DRAWN, MOST_LABELLED, MOST_NAMED, Mark, Scale, forest
from rlhf_audit.reports.guidance import Topic, in_short
from rlhf_audit.reports.svg import BAND, BLUE, FAINT, GREEN, INK, OLIVE, ORANGE, PINK, Figure, draw, plain

Row = Mapping[str, Any]

MOST_ROWS = 30
MOST_COEFFICIENTS = 12
MOST_LINES = 5
_MOST_FAINT_LINES = 40
_LEAST_IN_BIN = 3
_LONGEST = 28
_LONGEST_AXIS = 110
_LINES = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"), ("v", "-"))
_LINE_COLOURS = (ORANGE, BLUE, GREEN, PINK, OLIVE)


def named(subject: str, scripted: Collection[str]) -> str:
    """Return a subject as a figure names it: scripted raters are called so.

    >>> named("r-a:1", {"r-a"}), named("r-a/r-b", {"r-b"})
    ('r-a (scripted):1', 'r-a/r-b (scripted)')
    """
    for rater_id in dict.fromkeys(subject_raters(subject, scripted)):
        subject = subject.replace(rater_id, f"{rater_id} (scripted)")
    return subject


def intervals(uid: str, audit: Mapping[str, Any], topic: Topic, scripted: Collection[str]) -> Figure:
    """Return each subject's value with its 95 per cent interval, flagged ones as filled diamonds.

    Args:
        uid: Unique on the page.
        audit: One of the document's.
        topic: Its kind: the neutral value, and where its thresholds lie.
        scripted: Raters who are programs.
    """
    title, rows = audit["title"], [row for row in audit["rows"] if _is_judged(row)]
    if not rows:
        return Figure(None, f"No figure: too few data to draw {title[:1].lower()}{title[1:]}.")
    if any(row["lower"] is not None for row in rows):
        # What has no interval beside such as have is something else, a test of them all perhaps.
        rows = [row for row in rows if row["lower"] is not None or row["flagged"]]
    shown = _most_telling(rows, topic.neutral)
    shown.sort(key=lambda row: (-row["value"], row["subject"]))
    marks = [_mark(row, scripted) for row in shown]
    limits = topic.limits(audit["parameters"])
    lowest, highest = (row["value"] for row in (shown[-1], shown[0]))
    near = [limit for limit in limits if lowest - 1 <= limit <= highest + 1]
    scale = Scale(_axis(audit), topic.neutral, near)
    flagged = [row for row in shown if row["flagged"]]
    spoken = ", ".join(f"{named(row['subject'], scripted)} at {row['value']:.2f}" for row in flagged[:12])
    more = f" and {len(flagged) - 12} more" if len(flagged) > 12 else ""
    text = f"{len(shown)} subjects from {lowest:.2f} to {highest:.2f}. Flagged: {spoken or 'none'}{more}."
    caption = f"{title}: value and 95 % interval. "
    if len(rows) > MOST_DRAWN:
        caption += left_out(len(shown), len(rows), "what is flagged, then the most extreme")
    elif len(rows) > MOST_LABELLED:
        few = f", {MOST_NAMED} of them," if len(flagged) > MOST_NAMED else ""
        caption += f"All {len(rows)} subjects are drawn; what is flagged{few} is named."
    return Figure(forest(uid, title, text, marks, scale), caption.rstrip())


def agreement(uid: str, rows: Sequence[Row]) -> Figure:
    """Return the panel's coefficients of agreement side by side, with intervals and Krippendorff's bands."""
    judged = [row for row in rows if _is_judged(row)]
    if not judged:
        return Figure(None, "No figure: too few steps were rated by two raters to speak of agreement.")
    shown = sorted(judged, key=lambda row: (not row["flagged"], row["subject"]))[:MOST_COEFFICIENTS]
    shown.sort(key=lambda row: row["subject"])
    marks = [_mark(row, (), f" {row['value']:.2f}") for row in shown]
    words = ("agreement (1 is perfect; 0 is chance,", "but for the share of equal answers)")
    scale = Scale(words, 0.0, (0.667, 0.8), (0.667, 0.8), (-1.0, 1.0))
    text = ", ".join(f"{row['subject']} {row['value']:.2f}" for row in shown) + "."
    caption = (
        "Agreement of the whole panel, with 95 % intervals. Grey band: alpha from .667 to .800 is tentative. "
        + left_out(len(shown), len(judged), "flagged first", "coefficients")
    )
    return Figure(forest(uid, "Agreement of the panel", text, marks, scale), caption.rstrip())


def drift(uid: str, bins: Sequence[Row], flagged: Collection[str], scripted: Collection[str]) -> Figure:
    """Return how each rater's answers move from their first to their last, against the other raters."""
    shared = any(point["n_shared"] >= _LEAST_IN_BIN for point in bins)
    key, count = ("residual", "n_shared") if shared else ("mean", "n")
    lines = _lines(bins, key, count)
    if not lines:
        return Figure(None, "No figure: no rater has answered often enough to see a drift.")
    moved = {rater_id: abs(line[-1][1] - line[0][1]) for rater_id, line in lines.items()}
    bold = sorted((one for one in lines if one in flagged), key=lambda one: (-moved[one], one))[:MOST_LINES]
    others = sorted(one for one in lines if one not in flagged)
    # Two hundred lines are a blot: their range says more.
    faint = others if len(others) <= _MOST_FAINT_LINES else []
    columns: dict[float, list[float]] = defaultdict(list)
    for line in lines.values():
        for x, y in line:
            columns[x].append(y)
    middle = [(x, median(columns[x])) for x in sorted(columns)]

    def paint(axes: Axes) -> None:
        axes.grid(True, axis="y")
        if shared:
            axes.axhline(0, color=INK, linewidth=0.8)
        if not faint and others:
            xs, low, high = zip(*_range([lines[one] for one in others]), strict=True)
            axes.fill_between(xs, low, high, color=BAND, linewidth=0, label="nine in ten not flagged")
        for rater_id in faint:
            axes.plot(*zip(*lines[rater_id], strict=True), color=FAINT, linewidth=0.7)
        axes.plot(*zip(*middle, strict=True), color=INK, linewidth=2, label="median of all raters")
        for number, rater_id in enumerate(bold):
            marker, dashes = _LINES[number]
            axes.plot(
                *zip(*lines[rater_id], strict=True),
                color=_LINE_COLOURS[number],
                marker=marker,
                linestyle=dashes,
                markersize=4.5,
                label=marked(rater_id, True, scripted),
            )
        axes.set_xlim(0, 10)
        axes.set_xticks([0, 5, 10], ["first answer", "half way", "last answer"])
        axes.set_ylabel("answer minus the others' mean" if shared else "mean answer (share of yes)")
        legend_below(axes)

    spoken = ", ".join(
        f"{named(r, scripted)} from {lines[r][0][1]:.2f} to {lines[r][-1][1]:.2f}" for r in bold
    )
    grey = "raters not flagged" if faint or not others else f"where nine in ten of {len(others)} others lie"
    caption = f"How answers move from each rater's first to last; grey: {grey}. " + left_out(
        len(bold), len(lines) - len(others), "those that move most", "flagged raters"
    )
    text = f"{len(lines)} raters. Flagged: {spoken or 'none'}."
    return Figure(draw(uid, "Drift from first to last answer", text, 3.2, paint), caption.rstrip())


def _lines(bins: Sequence[Row], key: str, count: str) -> dict[str, list[tuple[float, float]]]:
    """Return each rater's line, of the places with enough answers; of two such places at least."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in bins:
        if point[count] >= _LEAST_IN_BIN:
            lines[point["rater_id"]].append(((point["first"] + point["last"]) / 2, point[key]))
    return {rater_id: line for rater_id, line in lines.items() if len(line) >= 2}


def _range(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float, float]]:
    """Return the fifth and the ninety-fifth percentile at each place, the nearest rank of each."""
    columns: dict[float, list[float]] = defaultdict(list)
    for line in lines:
        for x, y in line:
            columns[x].append(y)
    return [
        (x, ys[len(ys) // 20], ys[len(ys) - 1 - len(ys) // 20])
        for x, ys in sorted((x, sorted(ys)) for x, ys in columns.items())
    ]


def latency(uid: str, rows: Sequence[Row], flagged: Collection[str], scripted: Collection[str]) -> Figure:
    """Return each rater's answering times: median, middle half, and 5th to 95th percentile."""
    if not rows:
        return Figure(None, "No figure: no answering times were recorded.")
    shown = sorted(rows, key=lambda row: (row["rater_id"] not in flagged, row["p50"], row["rater_id"]))
    shown = sorted(shown[:MOST_DRAWN], key=lambda row: (-row["p50"], row["rater_id"]))
    marks = [
        Mark(
            _spoken(row["rater_id"], scripted),
            row["p50"],
            row["p05"],
            row["p95"],
            row["rater_id"] in flagged,
            (row["p25"], row["p75"]),
        )
        for row in shown
    ]
    medians = [row["p50"] for row in rows]
    text = f"Medians from {min(medians):.2g} to {max(medians):.2g} seconds."
    caption = "Answering time: point median, thick bar middle half, line 5th to 95th percentile. "
    if len(shown) > MOST_LABELLED:
        caption += f"{len(shown)} of {len(rows)} raters are drawn; what is flagged is named."
    scale = Scale(("seconds from shown to answered",), log=True)
    return Figure(forest(uid, "Answering time", text, marks, scale), caption.rstrip())


def episode(uid: str, bins: Sequence[Row]) -> Figure:
    """Return where in an episode raters disagree: the share of pairs of answers that differ."""
    if not bins:
        return Figure(None, "No figure: no step was rated by two raters.")
    shares = [point["n_disagreeing"] / point["n_pairs"] for point in bins]

    def paint(axes: Axes) -> None:
        axes.grid(False, axis="x")
        axes.grid(True, axis="y")
        axes.bar([point["first"] + 0.5 for point in bins], shares, width=0.85, color=BLUE)
        axes.set_xlim(0, 10)
        axes.set_xticks([0, 5, 10], ["first step", "half way", "last step"])
        axes.set_ylim(0, max(0.1, *shares) * 1.15)
        axes.set_ylabel("share of pairs that differ")

    place = shares.index(max(shares))
    text = (
        f"From {min(shares):.2f} to {max(shares):.2f}; "
        f"highest in tenth {bins[place]['first'] + 1} of the episode."
    )
    caption = "Disagreement along the episode: the share of pairs of raters who answered a step differently."
    return Figure(draw(uid, "Disagreement along the episode", text, 2.4, paint), caption)


def legend_below(axes: Axes) -> None:
    """Explain the marks under the axes, where they hide nothing."""
    sheet = axes.get_figure(root=True)
    if sheet is not None:
        sheet.legend(loc="outside lower center", ncols=2)


def marked(subject: str, flagged: bool, scripted: Collection[str]) -> str:
    """Return a subject's label, with a sign if it is flagged."""
    return ("▲ " if flagged else "") + _spoken(subject, scripted)


def left_out(n_shown: int, n_all: int, which: str, noun: str = "subjects") -> str:
    """Return a sentence that says what is not drawn; nothing if all is."""
    return (
        ""
        if n_shown == n_all
        else f"Only {n_shown:,} of {n_all:,} {noun} are drawn ({which}); report.json and the CSV have all."
    )


def _most_telling(rows: Sequence[Row], neutral: float | None) -> list[Row]:
    """Return all rows if they can be drawn, else those flagged and those furthest from the neutral value."""
    if len(rows) <= MOST_DRAWN:
        return list(rows)
    centre = median(row["value"] for row in rows) if neutral is None else neutral
    flagged = sorted((row for row in rows if row["flagged"]), key=lambda row: (_chance(row), row["subject"]))
    shown = flagged[: MOST_ROWS * 2 // 3]
    others = [row for row in rows if not row["flagged"]]
    others.sort(key=lambda row: (-abs(row["value"] - centre), row["subject"]))
    return shown + others[: MOST_ROWS - len(shown)]


def _mark(row: Row, scripted: Collection[str], behind: str = "") -> Mark:
    label = _spoken(row["subject"], scripted) + behind
    return Mark(label, row["value"], row["lower"], row["upper"], row["flagged"])


def _spoken(subject: str, scripted: Collection[str]) -> str:
    whole = named(subject, scripted)
    # Of a pair both names are worth more than what they are.
    return plain(whole if len(whole) <= _LONGEST else subject, _LONGEST)


def _is_judged(row: Row) -> bool:
    return row["value"] is not None and not is_insufficient(row)


def _chance(row: Row) -> tuple[float, float]:
    chance = row["q"] if row["q"] is not None else row["p"]
    return (1.0 if chance is None else chance, -abs(row["value"]))


def _axis(audit: Mapping[str, Any]) -> list[str]:
    """Return what the value is, in at most three lines; in short where the whole does not fit."""
    whole = audit["measures"] or "value of the statistic"
    said = whole if len(whole) <= _LONGEST_AXIS else in_short(audit["id"]) or whole
    return textwrap.wrap(plain(said, _LONGEST_AXIS), 42)[:3]
