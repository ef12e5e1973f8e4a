"""The audits that SQL can't express: their SELECT reads the data, an estimator makes the rows."""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from rlhf_audit.audits import (
    estimated_agreement,
    estimated_groups,
    estimated_pairs,
    estimated_raters,
    estimated_truth,
    gold_rows,
    position_rows,
    rasch_rows,
)

Estimator = Callable[[pa.Table, Mapping[str, float]], list[dict[str, Any]]]
"""Takes the SELECT's columns and the audit's parameters; returns the rows that a SELECT alone would give."""

ESTIMATORS: Mapping[str, Estimator] = {
    "bootstrap_agreement": estimated_agreement.bootstrap_agreement,
    "complete_block_agreement": estimated_agreement.complete_block_agreement,
    "item_controversy": estimated_truth.item_controversy,
    "marginal_homogeneity": estimated_agreement.marginal_homogeneity,
    "truth_inference": estimated_truth.truth_inference,
    "group_bias": estimated_groups.group_bias,
    "group_cohesion": estimated_groups.group_cohesion,
    "position_bias": position_rows.rows,
    "rasch_severity": rasch_rows.severity_rows,
    "rater_fit": rasch_rows.fit_rows,
    "fatigue_onset": estimated_raters.fatigue_onset,
    "gold_accuracy": gold_rows.gold_accuracy,
    "copying": estimated_pairs.copying,
}
"""By the name that a header's ``estimator`` gives."""
