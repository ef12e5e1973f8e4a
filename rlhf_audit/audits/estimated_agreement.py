"""The audits of agreement whose intervals or tests SQL has no functions for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from rlhf_audit import seeds
from rlhf_audit.audits.panels import Array, Panel, panels
from rlhf_audit.estimators import bootstrap, complete_blocks, homogeneity, intervals

Row = dict[str, Any]


def bootstrap_agreement(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return alpha with two intervals, of each panel."""
    rows: list[Row] = []
    by_panel = panels(table)
    del table
    for panel in by_panel:
        generator = seeds.generator(0, "bootstrap_agreement", panel.number)
        n, n_raters = panel.n_rated, len(panel.names)
        scores = _scores(panel, parameters["max_ordinal"])
        draws = None
        if len(panel.scale) > 1:
            n_draws = int(parameters["draws"])
            draws = bootstrap.draw(panel.items, panel.raters, panel.labels, scores, n_draws, generator)
        enough = {"over items": True, "over items and raters": n_raters >= parameters["min_raters"]}
        for name, fit in enough.items():
            row = _row(f"alpha {name}{panel.suffix}", n)
            if draws is None:
                rows.append(row | {"note": "all answers are the same"})
                continue
            drawn = draws.over_items if name == "over items" else draws.over_both
            drawn = drawn[np.isfinite(drawn)]
            lower, upper = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
            row |= {"value": draws.alpha, "lower": lower, "upper": min(upper, 1.0)}
            if n < parameters["n_min"] or not fit or upper - lower > parameters["max_width"]:
                row["note"] = "insufficient"
            elif upper < parameters["threshold"]:
                row |= {"flagged": True, "note": "unreliable"}
            rows.append(row)
    return rows


def complete_block_agreement(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return Kendall's W and the intraclass correlations of each panel whose raters share items."""
    rows: list[Row] = []
    by_panel = panels(table)
    del table
    for panel in by_panel:
        items, place = np.unique(panel.items, return_inverse=True)
        x = np.empty((len(items), len(panel.names)))
        x[place.reshape(-1), panel.raters] = panel.scale[panel.labels]
        found: dict[str, complete_blocks.Estimate] = {}
        if min(x.shape) >= 2 and len(items) >= parameters["n_min"]:
            found = complete_blocks.intraclass(x)
            if found:
                found["Kendall W"] = complete_blocks.kendall(x)[0]
        for name in ("Kendall W", *(f"ICC({model},{of})" for model in "123" for of in "1k")):
            row = _row(f"{name}{panel.suffix}", len(items))
            if name in found:
                estimate = found[name]
                poor = name == "ICC(2,1)" and estimate.value < parameters["threshold"]
                ends = {"value": estimate.value, "lower": estimate.lower, "upper": estimate.upper}
                row |= ends | {"flagged": poor, "note": "poor" if poor else "ok"}
            else:
                row["note"] = (
                    "insufficient" if len(items) < parameters["n_min"] else "all answers are the same"
                )
            rows.append(row)
    return rows


def marginal_homogeneity(table: pa.Table, parameters: Mapping[str, float]) -> list[Row]:
    """Return a row a pair, and of more than two labels three more, for the other tests."""
    rows: list[Row] = []
    panel_of = table["panel"].to_numpy()
    for panel in np.unique(panel_of):
        own = table.take(pa.array(np.flatnonzero(panel_of == panel)))
        pairs = own["pair"].to_numpy()
        numbers, first, place = np.unique(pairs, return_index=True, return_inverse=True)
        scale = np.unique(np.concatenate([own["label_a"].to_numpy(), own["label_b"].to_numpy()]))
        tables = np.zeros((len(numbers), len(scale), len(scale)))
        a, b = (np.searchsorted(scale, own[name].to_numpy()) for name in ("label_a", "label_b"))
        tables[place.reshape(-1), a, b] = own["c"].to_numpy()
        names = own["subject"].take(pa.array(first)).to_pylist()
        rows += _homogeneity(names, tables, parameters)
    return rows


def _row(subject: str, n: int) -> Row:
    return {
        "subject": subject, "n": n, "value": None, "lower": None, "upper": None, "flagged": False,
        "note": "ok",
    }  # fmt: skip


def _scores(panel: Panel, max_ordinal: float) -> Array:
    """Each label's place on its scale: of few labels the midrank of their shares, else the value."""
    k = len(panel.scale)
    if k == 2:
        return np.array([0.0, 1.0])
    if k > max_ordinal:
        return np.asarray((panel.scale - panel.scale[0]) / (panel.scale[-1] - panel.scale[0]))
    share = np.bincount(panel.labels, minlength=k) / len(panel.labels)
    return np.asarray(np.cumsum(share) - share / 2)


def _homogeneity(names: list[str], tables: Array, parameters: Mapping[str, float]) -> list[Row]:
    n = tables.sum(axis=(1, 2))
    b, c = homogeneity.higher(tables)
    differ, bias = b + c, np.abs(b - c) / n
    half = intervals.Z * np.sqrt(np.maximum(differ / n - bias**2, 0) / n)
    between = bias, np.maximum(bias - half, 0.0), np.minimum(bias + half, 1.0)
    tests = [("", between, homogeneity.rater_bias)]
    if tables.shape[1] > 2:
        margins = homogeneity.largest_margin(tables)
        tests += [
            (" Stuart-Maxwell", margins, homogeneity.stuart_maxwell),
            (" Bhapkar", margins, homogeneity.bhapkar),
            (" Bowker", homogeneity.largest_mirrored(tables), homogeneity.bowker),
        ]
    rows = []
    for test, (effect, lower, upper), statistic_of in tests:
        statistic, freedom = statistic_of(tables)
        p = stats.chi2.sf(statistic, np.maximum(freedom, 1))
        for i, name in enumerate(names):
            subject, colon, panel = name.partition(":")
            enough = differ[i] >= parameters["n_min"]
            large = effect[i] >= parameters["threshold"]
            row = _row(f"{subject}{test}{colon}{panel}", int(differ[i])) | {
                "value": float(effect[i]),
                "lower": float(lower[i]),
                "upper": float(upper[i]),
                "note": "insufficient" if not enough else "answers otherwise" if large else "ok",
                "flagged": bool(enough and large and test in ("", " Stuart-Maxwell")),
                "p": float(p[i]),
                "test": test,
            }
            rows.append(row)
    return rows
