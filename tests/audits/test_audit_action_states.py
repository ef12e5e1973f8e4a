"""action_bias against Simpson's reversal: the difference within the parts of an episode, the naive way."""

from random import Random
from statistics import mean
from typing import Any

import audit_oracle
import audit_panel
import pytest

from rlhf_audit.audits import runner
from rlhf_audit.types import AuditRow

TURNED = "turns round within situations: not the action"


def audited(rows: list[dict[str, Any]]) -> dict[str, AuditRow]:
    with audit_panel.connect(rows) as connection:
        (result,) = runner.run(
            connection, ["action_bias"], {"action_bias": {"n_min": 5, "n_other": 5, "threshold": 0}}
        )
    return {row.subject: row for row in result.rows}


def within(rows: list[dict[str, Any]], rater: str, action: int) -> float | None:
    """Return the weighted mean of the differences in each env and third of an episode."""
    own = audit_oracle.with_peers(audit_oracle.last_ratings(rows))[rater]
    env = {row["item"].rpartition(":")[0]: row["env_id"] for row in rows}
    last = {
        episode: max(int(row["item"].rpartition(":")[2]) for row in rows if row["item"].startswith(episode))
        for episode in env
    }
    cells: dict[Any, tuple[list[float], list[float]]] = {}
    for rating, peers in own:
        episode, _, step = rating.item.rpartition(":")
        here = cells.setdefault((env[episode], 3 * int(step) // (last[episode] + 1)), ([], []))
        here[rating.action != action].append(audit_oracle.residual(rating, peers))
    both = [(one, other) for one, other in cells.values() if one and other]
    weights = [len(one) * len(other) / (len(one) + len(other)) for one, other in both]
    if not both:
        return None
    return sum(w * (mean(one) - mean(other)) for w, (one, other) in zip(weights, both, strict=True)) / sum(
        weights
    )


@pytest.mark.parametrize("seed", range(6))
def test_turned_as_the_naive_difference_within_situations_says(seed: int) -> None:
    random = Random(seed)
    rows = []
    for episode in range(4):
        n_steps = random.randrange(7, 25)
        for step in range(n_steps):
            # action and label both hang on where in the episode it is
            late = step / n_steps
            action = int(random.random() < 0.1 + 0.8 * late)
            for rater in range(3):
                lean = (0.9 - 0.8 * late + 0.1 * action) if rater == 0 else 0.5
                rows.append(
                    {
                        "rater": f"r-{rater}",
                        "item": f"e{episode}:{step}",
                        "action": action,
                        "value": float(random.random() < lean),
                        "env_id": f"Env-v{episode % 2}",
                    }
                )
    seen = audited(rows)
    judged = 0
    for rater in range(3):
        for action in (0, 1):
            row, inside = seen[f"r-{rater}:{action}"], within(rows, f"r-{rater}", action)
            if row.value is None or inside is None or row.note in ("insufficient", "ok"):
                continue
            judged += 1
            assert row.note.startswith(TURNED) == (row.value * inside < 0), (row, inside)
            assert not (row.flagged and row.value * inside < 0)
    assert judged
