"""The audits there are: one .sql file each, in the order in which a report is read."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

from rlhf_audit.audits.header import AuditFile, Distribution, Parameter, parse
from rlhf_audit.errors import UsageError, near

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "consent": (
        "consent_validity",
        "use_without_consent",
        "pending_withdrawals",
        "erased_returned",
        "terms_changed",
        "withdrawal_sensitivity",
    ),
    "panel": (
        "agreement",
        "scaled_agreement",
        "bootstrap_agreement",
        "complete_block_agreement",
        "pairwise_kappa",
        "marginal_homogeneity",
        "truth_inference",
        "item_controversy",
    ),
    "raters": (
        "constant_rater",
        "random_rater",
        "too_fast",
        "straight_lining",
        "central_tendency",
        "action_bias",
        "severity",
        "drift",
        "fatigue",
        "fatigue_onset",
        "anchoring",
        "halo",
        "position_bias",
        "tie_excess",
        "gold_accuracy",
        "rasch_severity",
        "rater_fit",
    ),
    "pairs": (
        "copying",
        "duplicate_raters",
        "intra_rater",
    ),
    "groups": (
        "group_bias",
        "group_cohesion",
        "simpson",
    ),
    "policies": ("policy_share",),
}
"""A folder of sql/ each: consent first; then the panel; then single raters, the plainest cause before the
subtler ones it trips; pairs of raters; groups of them; and what became of it all in the policies."""

READING_ORDER = tuple(name for names in FAMILIES.values() for name in names)


@cache
def _all() -> tuple[AuditFile, ...]:
    folder = resources.files("rlhf_audit.audits") / "sql"
    return tuple(
        parse((folder / family / f"{name}.sql").read_text(encoding="utf-8"))
        for family, names in FAMILIES.items()
        for name in names
    )


def load() -> dict[str, AuditFile]:
    """Return every audit by id, in reading order.

    Raises:
        ValueError: A header that ``header.parse`` refuses: our own bug.
    """
    return {audit.id: audit for audit in _all()}


def find(audit_id: str) -> AuditFile:
    """Return one audit.

    Raises:
        UsageError: There is none of that name.
    """
    known = load()
    if audit_id not in known:
        raise UsageError(
            f"there is no audit {audit_id!r}",
            seen=audit_id,
            needed=f"one of {', '.join(known)}",
            fix=near(audit_id, known) or "rlhf-audit audit LOG --list",
        )
    return known[audit_id]


def markdown() -> str:
    """Return ``docs/audits.md``, made from the headers alone."""
    parts = [_PREFACE]
    parts += [_section(audit) for audit in _all()]
    return "\n".join(parts)


_PREFACE = """# The audits

<!-- Made from the headers of rlhf_audit/audits/sql/*/*.sql; a test compares. To make it again:
python -c "from rlhf_audit.audits import catalogue; print(catalogue.markdown(), end='')" > docs/audits.md -->

Each audit is one SELECT on the consented views, and on some that are made of them for all audits, such as
`items` and `ratings`, in rlhf_audit/audits/sql/prepared/. Its rows hold
`subject, n, value, lower, upper, p, q, flagged, note`.
A row is a **finding** (`flagged`) only if the effect reaches the audit's threshold *and* there are at least
`n_min` data *and*, where the audit has a test, the p-value corrected for all rows of the audit (Benjamini and
Hochberg 1995) is at most .05. Too few data read `insufficient`: such a row is never flagged and has no p.
Intervals are at 95 per cent. A note other than `ok` describes the effect;
`not significant` behind it says why it is no finding.
Set a parameter with `--set ID.param=V`; print the text for any DuckDB shell with `--print-sql`.
A threshold marked *(ours)* is our own proposal, not one from the literature.
"""

_TWO_SIDED = (Distribution.NORMAL, Distribution.STUDENT, Distribution.BINOMIAL)


def _section(audit: AuditFile) -> str:
    lines = [f"## {audit.id}", "", f"*{audit.question}*", ""]
    lines += [
        f"- Severity: {audit.severity.value}. Reads: {', '.join(f'`{view}`' for view in audit.reads)}.",
        f"- One row: {audit.grain}. `n`: {audit.n_counts}. `value`: {audit.value}.",
        f"- Flagged: {audit.flag}.",
    ]
    if audit.test is not None:
        sides = ", two-sided" if audit.test.distribution in _TWO_SIDED else ""
        lines.append(f"- Test: {audit.test.distribution.value}{sides}; {audit.test.hypothesis}.")
    if audit.parameters:
        lines += ["", "| parameter | type | default | meaning |", "|---|---|---|---|"]
        lines += [_parameter_row(parameter) for parameter in audit.parameters.values()]
    lines.append("")
    lines += [f"- {caveat}" for caveat in audit.caveats]
    if audit.references:
        lines += ["", f"References: {'; '.join(audit.references)}."]
    return "\n".join(lines) + "\n"


def _parameter_row(parameter: Parameter) -> str:
    return f"| `{parameter.name}` | {parameter.kind.__name__} | {parameter.default} | {parameter.meaning} |"
