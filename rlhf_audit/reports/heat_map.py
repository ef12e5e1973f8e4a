"""The rater-by-rater matrix: who agrees with whom."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm

from rlhf_audit.reports.document import is_insufficient
from rlhf_audit.reports.figures import Row, left_out, marked, named
from rlhf_audit.reports.svg import Figure, draw

MOST_RATERS = 20
_MOST_WITH_NUMBERS = 12
_DARK_FROM = 0.6


def heat_map(uid: str, rows: Sequence[Row], scripted: Collection[str]) -> Figure:
    """Return the matrix of Cohen's kappa; a subject is a pair ``r-a/r-b``, or one rater."""
    kappas = _kappas(rows)
    if not kappas:
        return Figure(None, "No figure: no two raters share enough steps to compare them.")
    of_rater: dict[str, list[float]] = defaultdict(list)
    for (rater_id, _), kappa in kappas.items():
        of_rater[rater_id].append(kappa)
    middle = {rater_id: median(several) for rater_id, several in of_rater.items()}
    ranked = sorted(middle, key=lambda rater_id: (middle[rater_id], rater_id))
    shown = ranked[:MOST_RATERS]
    flagged = {row["subject"] for row in rows if row["flagged"]}
    labels = [marked(rater_id, rater_id in flagged, scripted) for rater_id in shown]
    grid = [[kappas.get((a, b)) for b in shown] for a in shown]
    text = (
        f"Kappa of {len(kappas) // 2} pairs of raters, from {min(kappas.values()):.2f} to "
        f"{max(kappas.values()):.2f}. Lowest median: {named(shown[0], scripted)} at {middle[shown[0]]:.2f}."
    )
    caption = (
        "Agreement of each two raters beyond chance (Cohen's kappa). A point: the same rater, or too few "
        "shared steps. " + left_out(len(shown), len(ranked), "lowest median first", "raters")
    )
    height = 1.9 + min(3.6, 0.2 * len(shown) + 0.6)
    svg = draw(uid, "Agreement rater by rater", text, height, lambda axes: _paint(axes, grid, labels))
    return Figure(svg, caption)


def _kappas(rows: Sequence[Row]) -> Mapping[tuple[str, str], float]:
    """Return the kappa of each pair that has enough data, in both orders."""
    kappas: dict[tuple[str, str], float] = {}
    for row in rows:
        pair = row["subject"].split("/")
        if len(pair) == 2 and row["value"] is not None and not is_insufficient(row):
            kappas[pair[0], pair[1]] = kappas[pair[1], pair[0]] = row["value"]
    return kappas


def _paint(axes: Axes, grid: Sequence[Sequence[float | None]], labels: Sequence[str]) -> None:
    axes.grid(False)
    axes.set_facecolor("#ececec")
    filled = [[float("nan") if kappa is None else kappa for kappa in line] for line in grid]
    norm = BoundaryNorm([step / 5 for step in range(-5, 6)], 10)
    colours = colormaps["PuOr"].resampled(10)
    mesh = axes.pcolormesh(filled, cmap=colours, norm=norm, edgecolors="white", linewidth=0.8)
    for y, line in enumerate(grid):
        for x, kappa in enumerate(line):
            colour = "white" if kappa is not None and abs(kappa) >= _DARK_FROM else "#222222"
            axes.text(
                x + 0.5, y + 0.5, _cell(kappa, len(grid)), ha="center", va="center", fontsize=7, color=colour
            )
    places = [place + 0.5 for place in range(len(labels))]
    axes.set_xticks(places, labels, rotation=90, fontsize=7)
    axes.set_yticks(places, labels, fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.figure.colorbar(mesh, ax=axes, label="Cohen's kappa", shrink=0.8)


def _cell(kappa: float | None, size: int) -> str:
    if kappa is None:
        return "·"
    return f"{kappa:.2f}".replace("0.", ".") if size <= _MOST_WITH_NUMBERS else ""
