"""The rater-by-rater matrix: who agrees with whom, in an order in which blocks show."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import median

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from rlhf_audit.reports.document import is_insufficient
from rlhf_audit.reports.figures import Row, left_out, marked, named
from rlhf_audit.reports.svg import Figure, draw

MOST_RATERS = 400
MOST_NAMED = 24
_MOST_LABELS = 22
_MOST_WITH_NUMBERS = 12
_DARK_FROM = 0.6
# Purple against orange, in steps that can be told apart when printed in grey, too.
_COLOURS = (
    *("#7f3b08", "#b35806", "#e08214", "#fdb863", "#fee0b6"),
    *("#d8daeb", "#b2abd2", "#8073ac", "#542788", "#2d004b"),
)

Grid = npt.NDArray[np.float64]


def heat_map(uid: str, rows: Sequence[Row], scripted: Collection[str]) -> Figure:
    """Return the matrix of Cohen's kappa; a subject is a pair ``r-a/r-b``, or one rater."""
    kappas = _kappas(rows)
    if not kappas:
        return Figure(None, "No figure: no two raters share enough steps to compare them.")
    of_rater: dict[str, list[float]] = defaultdict(list)
    for (rater_id, _), kappa in kappas.items():
        of_rater[rater_id].append(kappa)
    middle = {rater_id: median(several) for rater_id, several in of_rater.items()}
    ranked = sorted(middle, key=lambda rater_id: (middle[rater_id], sorted(of_rater[rater_id]), rater_id))
    shown = _side_by_side(ranked[:MOST_RATERS], kappas)
    flagged = {row["subject"] for row in rows if row["flagged"]}
    labels = [marked(rater_id, rater_id in flagged, scripted) for rater_id in shown]
    if len(shown) > MOST_NAMED:
        wanted = [rater_id for rater_id in ranked if rater_id in flagged] or ranked
        labels = _thinned(shown, labels, wanted[:_MOST_LABELS])
    grid = np.array([[kappas.get((a, b), np.nan) for b in shown] for a in shown])
    text = (
        f"Kappa of {len(kappas) // 2} pairs of raters, from {min(kappas.values()):.2f} to "
        f"{max(kappas.values()):.2f}. Lowest median: {named(ranked[0], scripted)} at {middle[ranked[0]]:.2f}."
    )
    caption = (
        "Agreement of each two raters beyond chance (Cohen's kappa); raters who answer alike stand side by "
        "side, so that groups show as blocks. Empty: the same rater, or too few shared steps. "
        + (
            "Named, as far as there is room, are the raters that are flagged, or else agree least. "
            if len(shown) > MOST_NAMED
            else ""
        )
        + left_out(len(shown), len(ranked), "lowest median first", "raters")
    )
    height = 1.9 + min(2.6, 0.2 * len(shown) + 0.6) if len(shown) <= MOST_NAMED else 3.6
    svg = draw(uid, "Agreement rater by rater", text, height, lambda axes: _paint(axes, grid, labels))
    return Figure(svg, caption.rstrip())


def _kappas(rows: Sequence[Row]) -> Mapping[tuple[str, str], float]:
    """Return the kappa of each pair that has enough data, in both orders."""
    kappas: dict[tuple[str, str], float] = {}
    for row in rows:
        pair = row["subject"].split("/")
        if len(pair) == 2 and row["value"] is not None and not is_insufficient(row):
            kappas[pair[0], pair[1]] = kappas[pair[1], pair[0]] = row["value"]
    return kappas


def _side_by_side(ranked: Sequence[str], kappas: Mapping[tuple[str, str], float]) -> list[str]:
    """Return the raters in the order of the leaves of a tree of how differently they agree with each other.

    Average linkage, its branches turned so that neighbours are alike (Bar-Joseph et al. 2001). The pairs that
    share too little count as the median pair.
    """
    if len(ranked) < 3:
        return list(ranked)
    usual = median(kappas.values())
    apart = np.array([[0.0 if a == b else 1.0 - kappas.get((a, b), usual) for b in ranked] for a in ranked])
    tree = hierarchy.linkage(squareform(apart, checks=False), "average", optimal_ordering=True)
    order = [int(leaf) for leaf in hierarchy.leaves_list(tree)]
    # Either end might come first: the rater who agrees least is nearer to the top.
    if order.index(0) > len(order) // 2:
        order.reverse()
    return [ranked[place] for place in order]


def _thinned(shown: Sequence[str], labels: Sequence[str], wanted: Collection[str]) -> list[str]:
    """Return the labels of those wanted, as far as none comes too near to the one before."""
    least = max(1, -(-len(shown) // 24))
    kept, last = [], -least
    for place, (rater_id, label) in enumerate(zip(shown, labels, strict=True)):
        near = place - last < least
        kept.append("" if near or rater_id not in wanted else label)
        last = last if near or rater_id not in wanted else place
    return kept


def _paint(axes: Axes, grid: Grid, labels: Sequence[str]) -> None:
    axes.grid(False)
    size = len(labels)
    steps = [step / 5 for step in range(-5, 6)]
    colours, norm = ListedColormap(_COLOURS), BoundaryNorm(steps, 10)
    pixels = colours(norm(np.clip(np.nan_to_num(grid), -1, 0.9999)), bytes=True)
    pixels[np.isnan(grid), 3] = 0
    axes.imshow(pixels, interpolation="none", aspect="auto" if size < 4 else "equal")
    if size <= _MOST_WITH_NUMBERS:
        for y, line in enumerate(grid):
            for x, kappa in enumerate(line):
                colour = "white" if abs(kappa) >= _DARK_FROM else "#111111"
                if not np.isnan(kappa):
                    text = f"{kappa:.2f}".replace("0.", ".")
                    axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
    places = [place for place, label in enumerate(labels) if label]
    axes.set_yticks(places, [labels[place] for place in places], fontsize=7)
    if size <= MOST_NAMED:
        axes.set_xticks(places, [labels[place] for place in places], rotation=90, fontsize=7)
    else:
        axes.set_xticks([])
    axes.tick_params(length=2 if size > MOST_NAMED else 0)
    bar = axes.figure.colorbar(ScalarMappable(norm, colours), ax=axes, shrink=0.8, ticks=steps[::2])
    bar.set_label("Cohen's kappa")
