"""The figures of a report, each made from plain data of the JSON document.

What is flagged is marked by shape and by a sign as well as by colour; the colours are those of Okabe and Ito
(2008), which colour-blind readers can tell apart. A figure shows only as many subjects as stay legible, and
tells how many there are.
"""

import textwrap
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from rlhf_audit.reports.document import is_insufficient, subject_raters
from rlhf_audit.reports.svg import Figure, draw, plain

Row = Mapping[str, Any]

MOST_ROWS = 30
MOST_COEFFICIENTS = 12
MOST_LINES = 5
_MOST_FAINT_LINES = 40
_LEAST_IN_BIN = 3
_BLUE, _ORANGE, _INK, _FAINT = "#0072B2", "#D55E00", "#222222", "#b4b4b4"
_LINES = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"), ("v", "-"))
_LINE_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#8a6d00")
_ROW_IN = 0.21


def named(subject: str, scripted: Collection[str]) -> str:
    """Return a subject as a figure names it: scripted raters are called so.

    >>> named("r-a:1", {"r-a"}), named("r-a/r-b", {"r-b"})
    ('r-a (scripted):1', 'r-a/r-b (scripted)')
    """
    for rater_id in dict.fromkeys(subject_raters(subject, scripted)):
        subject = subject.replace(rater_id, f"{rater_id} (scripted)")
    return subject


def intervals(
    uid: str, title: str, axis: str, rows: Sequence[Row], scripted: Collection[str], neutral: float | None
) -> Figure:
    """Return each subject's value with its 95 per cent interval, flagged ones as filled diamonds."""
    judged = [row for row in rows if _is_judged(row)]
    if not judged:
        return Figure(None, f"No figure: too few data to draw {title.lower()}.")
    shown = sorted(judged, key=lambda row: (not row["flagged"], _chance(row), row["subject"]))[:MOST_ROWS]
    shown.sort(key=lambda row: (row["value"], row["subject"]))

    def paint(axes: Axes) -> None:
        if neutral is not None:
            axes.axvline(neutral, color=_INK, linewidth=0.8)
        for height, row in enumerate(shown):
            if row["lower"] is not None and row["upper"] is not None:
                axes.plot(
                    [row["lower"], row["upper"]],
                    [height] * 2,
                    color=_ORANGE if row["flagged"] else _BLUE,
                    lw=1.4,
                )
        _points(axes, [(row["value"], height, row["flagged"]) for height, row in enumerate(shown)])
        _row_labels(axes, [(row["subject"], row["flagged"]) for row in shown], scripted)
        axes.set_xlabel(_wrapped(axis))

    flagged = [row for row in shown if row["flagged"]]
    spoken = (
        ", ".join(f"{named(row['subject'], scripted)} at {row['value']:.2f}" for row in flagged) or "none"
    )
    caption = (
        f"{title}: value and 95 % interval. {left_out(len(shown), len(judged), 'surest findings first')}"
    )
    text = (
        f"{len(shown)} subjects from {shown[0]['value']:.2f} to {shown[-1]['value']:.2f}. Flagged: {spoken}."
    )
    return Figure(draw(uid, title, text, _height(len(shown)), paint), caption)


def agreement(uid: str, rows: Sequence[Row]) -> Figure:
    """Return the panel's coefficients of agreement side by side, with intervals and Krippendorff's bands."""
    judged = [row for row in rows if _is_judged(row)]
    if not judged:
        return Figure(None, "No figure: too few steps were rated by two raters to speak of agreement.")
    shown = sorted(judged, key=lambda row: (not row["flagged"], row["subject"]))[:MOST_COEFFICIENTS]
    shown.sort(key=lambda row: row["subject"], reverse=True)

    def paint(axes: Axes) -> None:
        axes.axvspan(0.667, 0.8, color="#eeeeee", zorder=0)
        for limit in (0.667, 0.8):
            axes.axvline(limit, color=_INK, linewidth=0.8, linestyle=":")
        for height, row in enumerate(shown):
            if row["lower"] is not None and row["upper"] is not None:
                axes.plot([row["lower"], row["upper"]], [height] * 2, color=_INK, lw=1.4)
            axes.annotate(
                f"{row['value']:.2f}", (row["value"], height), (0, 6), textcoords="offset points", ha="center"
            )
        _points(axes, [(row["value"], height, row["flagged"]) for height, row in enumerate(shown)])
        _row_labels(axes, [(row["subject"], row["flagged"]) for row in shown], ())
        low = min([0.0, *(row["lower"] or row["value"] for row in shown)])
        axes.set_xlim(max(-1.0, low) - 0.03, 1.03)
        axes.set_ylim(-0.6, len(shown) - 0.2)
        axes.set_xlabel(_wrapped("agreement (1 perfect; alpha and AC1: 0 is chance)"))

    text = ", ".join(f"{row['subject']} {row['value']:.2f}" for row in shown) + "."
    caption = (
        "Agreement of the whole panel, with 95 % intervals. Grey band: alpha from .667 to .800 is tentative. "
        + left_out(len(shown), len(judged), "flagged first", "coefficients")
    )
    return Figure(draw(uid, "Agreement of the panel", text, 1.1 + 0.34 * len(shown), paint), caption)


def drift(uid: str, bins: Sequence[Row], flagged: Collection[str], scripted: Collection[str]) -> Figure:
    """Return how each rater's answers move from their first to their last, against the other raters."""
    shared = any(point["n_shared"] >= _LEAST_IN_BIN for point in bins)
    key, count = ("residual", "n_shared") if shared else ("mean", "n")
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in bins:
        if point[count] >= _LEAST_IN_BIN:
            lines[point["rater_id"]].append(((point["first"] + point["last"]) / 2, point[key]))
    lines = {rater_id: line for rater_id, line in lines.items() if len(line) >= 2}
    if not lines:
        return Figure(None, "No figure: no rater has answered often enough to see a drift.")
    bold = [rater_id for rater_id in sorted(lines) if rater_id in flagged][:MOST_LINES]
    faint = [rater_id for rater_id in sorted(lines) if rater_id not in flagged][:_MOST_FAINT_LINES]
    columns: dict[float, list[float]] = defaultdict(list)
    for line in lines.values():
        for x, y in line:
            columns[x].append(y)
    middle = [(x, median(columns[x])) for x in sorted(columns)]

    def paint(axes: Axes) -> None:
        axes.grid(True, axis="y")
        if shared:
            axes.axhline(0, color=_INK, linewidth=0.8)
        for rater_id in faint:
            axes.plot(*zip(*lines[rater_id], strict=True), color=_FAINT, linewidth=0.7)
        axes.plot(*zip(*middle, strict=True), color=_INK, linewidth=2, label="median of all raters")
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
    caption = "How answers move from each rater's first to last; grey: raters not flagged. " + left_out(
        len(bold) + len(faint), len(lines), "flagged first", "raters"
    )
    text = f"Lines of {len(bold) + len(faint)} raters. Flagged: {spoken or 'none'}."
    return Figure(draw(uid, "Drift from first to last answer", text, 3.2, paint), caption)


def answers(uid: str, tallies: Sequence[Row], flagged: Collection[str], scripted: Collection[str]) -> Figure:
    """Return the share of each rater's commonest answer: 1 is somebody who always answers the same."""
    judged = [(row["n_commonest"] / row["n"], row) for row in tallies if row["n"]]
    if not judged:
        return Figure(None, "No figure: no answer may be audited yet.")
    judged.sort(key=lambda pair: (pair[1]["rater_id"] not in flagged, -pair[0], pair[1]["rater_id"]))
    shown = sorted(judged[:MOST_ROWS], key=lambda pair: (pair[0], pair[1]["rater_id"]))
    middle = median(share for share, _ in judged)

    def paint(axes: Axes) -> None:
        axes.axvline(middle, color=_INK, linestyle="--", linewidth=0.9)
        _points(
            axes, [(share, height, row["rater_id"] in flagged) for height, (share, row) in enumerate(shown)]
        )
        _row_labels(axes, [(row["rater_id"], row["rater_id"] in flagged) for _, row in shown], scripted)
        axes.set_xlim(right=1.02)
        axes.set_xlabel(_wrapped("share of the commonest answer (dashed: median rater)"))

    top_share, top = max(judged, key=lambda pair: (pair[0], pair[1]["rater_id"]))
    text = f"Median {middle:.2f}; highest {named(top['rater_id'], scripted)} at {top_share:.2f}."
    caption = "Share of each rater's commonest answer. " + left_out(
        len(shown), len(judged), "flagged, then the highest", "raters"
    )
    return Figure(draw(uid, "Share of the commonest answer", text, _height(len(shown)), paint), caption)


def latency(uid: str, rows: Sequence[Row], flagged: Collection[str], scripted: Collection[str]) -> Figure:
    """Return each rater's answering times: median, middle half, and 5th to 95th percentile."""
    if not rows:
        return Figure(None, "No figure: no answering times were recorded.")
    ranked = sorted(rows, key=lambda row: (row["rater_id"] not in flagged, row["p50"], row["rater_id"]))
    shown = sorted(ranked[:MOST_ROWS], key=lambda row: (-row["p50"], row["rater_id"]))

    def paint(axes: Axes) -> None:
        for height, row in enumerate(shown):
            colour = _ORANGE if row["rater_id"] in flagged else _BLUE
            axes.plot([row["p05"], row["p95"]], [height] * 2, color=colour, linewidth=1)
            axes.plot([row["p25"], row["p75"]], [height] * 2, color=colour, linewidth=5, alpha=0.45)
        _points(axes, [(row["p50"], h, row["rater_id"] in flagged) for h, row in enumerate(shown)])
        _row_labels(axes, [(row["rater_id"], row["rater_id"] in flagged) for row in shown], scripted)
        least, most = min(row["p05"] for row in shown), max(row["p95"] for row in shown)
        if least > 0 and most / least > 20:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("seconds from shown to answered")

    medians = [row["p50"] for row in rows]
    text = f"Medians from {min(medians):.2g} to {max(medians):.2g} seconds."
    caption = "Answering time: point median, thick bar middle half, line 5th to 95th percentile. " + left_out(
        len(shown), len(rows), "flagged, then the fastest", "raters"
    )
    return Figure(draw(uid, "Answering time", text, _height(len(shown)), paint), caption)


def episode(uid: str, bins: Sequence[Row]) -> Figure:
    """Return where in an episode raters disagree: the share of pairs of answers that differ."""
    if not bins:
        return Figure(None, "No figure: no step was rated by two raters.")
    shares = [point["n_disagreeing"] / point["n_pairs"] for point in bins]

    def paint(axes: Axes) -> None:
        axes.grid(False, axis="x")
        axes.grid(True, axis="y")
        axes.bar([point["first"] + 0.5 for point in bins], shares, width=0.85, color=_BLUE)
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


def _points(axes: Axes, points: Sequence[tuple[float, float, bool]]) -> None:
    for wanted, marker, face, edge, name in (
        (False, "o", "white", _BLUE, "not flagged"),
        (True, "D", _ORANGE, _ORANGE, "▲ flagged"),
    ):
        chosen = [(x, y) for x, y, flagged in points if flagged is wanted]
        if chosen:
            xs, ys = zip(*chosen, strict=True)
            axes.scatter(xs, ys, marker=marker, facecolor=face, edgecolor=edge, s=26, zorder=3, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.1)


def _row_labels(axes: Axes, subjects: Sequence[tuple[str, bool]], scripted: Collection[str]) -> None:
    axes.set_yticks(
        range(len(subjects)),
        [marked(subject, flagged, scripted) for subject, flagged in subjects],
        fontsize=8,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(subjects) - 0.3)


def marked(subject: str, flagged: bool, scripted: Collection[str]) -> str:
    """Return a subject's label, with a sign if it is flagged."""
    return ("▲ " if flagged else "") + plain(named(subject, scripted))


def _is_judged(row: Row) -> bool:
    return row["value"] is not None and not is_insufficient(row)


def left_out(n_shown: int, n_all: int, which: str, noun: str = "subjects") -> str:
    """Return a sentence that says what is not drawn; nothing if all is."""
    return (
        ""
        if n_shown == n_all
        else f"Only {n_shown} of {n_all} {noun} are drawn ({which}); the table has more."
    )


def _height(n_rows: int) -> float:
    return 1.0 + _ROW_IN * max(n_rows, 2)


def _chance(row: Row) -> tuple[float, float]:
    chance = row["q"] if row["q"] is not None else row["p"]
    return (1.0 if chance is None else chance, -abs(row["value"]))


def _wrapped(axis: str) -> str:
    return "\n".join(textwrap.wrap(plain(axis, 140), 42))
