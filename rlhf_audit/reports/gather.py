"""Reads a report's facts and points from the consented views of a log.

Determinism:
    DuckDB adds doubles in an order that depends on threads, so every sum here is over integers or decimals
    (residuals in units of 1e-9), and every quantile is exact. The connection may be locked: nothing is set.

Personal data:
    Feedback is read from ``usable_for_audit`` only, and from what ``audits.prepared`` makes of it; aliases
    and groups are not read at all.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import duckdb

from rlhf_audit.audits import prepared
from rlhf_audit.audits.engines import DuckDBEngine
from rlhf_audit.clock import to_text
from rlhf_audit.log.ledger import Head
from rlhf_audit.reports.consent_facts import Consents, moment, read_consents
from rlhf_audit.reports.facts import (
    Counts,
    DisputedStep,
    DriftBin,
    EpisodeBin,
    ExportFacts,
    FigureData,
    Latency,
    LogFacts,
    PolicyFacts,
    RaterFacts,
)
from rlhf_audit.schema import FORMAT_VERSION
from rlhf_audit.types import Purpose

_NANO = 1_000_000_000

_MOST_DISPUTED, _LEAST_APART = 6, 5
"""How many disputed steps are shown, and how many steps of one episode lie between two of them at least."""


def gather(
    connection: duckdb.DuckDBPyConnection, log_id: str, log_head: Head, as_of: datetime | None = None
) -> tuple[LogFacts, FigureData]:
    """Return what ``document.build`` needs beside the audits.

    Args:
        connection: Holds the views of DESIGN.md section 3 and of the ledger.
        log_id: The log's own name.
        log_head: Size and root, as of which the views were made.
        as_of: The moment that consent was judged at, for the page to name; the views have judged already.
    """
    _prepare(connection)
    consents = read_consents(connection)
    sessions = _rows(
        connection,
        "SELECT rater_id, session_id, count(*) FROM usable_for_audit GROUP BY rater_id, session_id",
    )
    listed = _raters(connection, consents, sessions)
    facts = LogFacts(
        log_id=log_id,
        head=log_head,
        format_version=FORMAT_VERSION,
        as_of=None if as_of is None else to_text(as_of),
        counts=_counts(connection, listed, sessions, len(consents.erased)),
        raters=listed,
        policies=_policies(connection, consents),
        exports=_exports(connection, consents),
        withdrawals=consents.pending,
        erased=consents.erased,
    )
    points = FigureData(
        drift=_drift(connection),
        latencies=_latencies(connection),
        episode=_episode(connection),
        disputed=_disputed(connection),
        spells=consents.spells,
    )
    return facts, points


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables that the audits read, unless they have been made for the audits already."""
    known = {name for (name,) in _rows(connection, "SELECT table_name FROM information_schema.tables")}
    if not {"ratings", "items"} <= known:
        engine = DuckDBEngine(connection)
        for one in prepared.needed(["ratings"]):
            engine.prepare(one)


def _raters(
    connection: duckdb.DuckDBPyConnection, consents: Consents, sessions: Sequence[tuple[str, str, int]]
) -> tuple[RaterFacts, ...]:
    given: dict[str, list[int]] = defaultdict(list)
    for rater_id, _, rows in sessions:
        given[rater_id].append(rows)
    listed = []
    for rater_id, scripted in _rows(connection, "SELECT rater_id, scripted FROM raters ORDER BY rater_id"):
        if rater_id in consents.hidden:
            continue
        standing = consents.standing(rater_id)
        listed.append(
            RaterFacts(
                rater_id=rater_id,
                scripted=scripted,
                rows=sum(given[rater_id]),
                sessions=len(given[rater_id]),
                consent=standing.state,
                purposes=standing.purposes,
                expires_at=standing.expires_at,
                withdrawn=standing.withdrawn,
            )
        )
    return tuple(listed)


def _counts(
    connection: duckdb.DuckDBPyConnection,
    raters: Sequence[RaterFacts],
    sessions: Sequence[tuple[str, str, int]],
    erased: int,
) -> Counts:
    episodes, steps = _rows(
        connection, "SELECT (SELECT count(*) FROM episodes), (SELECT count(*) FROM steps)"
    )[0]
    # A session that rates an older one again has feedback and no episodes.
    acted = {name for (name,) in _rows(connection, "SELECT DISTINCT session_id FROM episodes")}
    return Counts(
        sessions=len(acted | {session_id for _, session_id, _ in sessions}),
        episodes=episodes,
        steps=steps,
        feedback=sum(rater.rows for rater in raters),
        raters=len(raters),
        scripted=sum(rater.scripted is not None for rater in raters),
        erased=erased,
    )


def _policies(connection: duckdb.DuckDBPyConnection, consents: Consents) -> tuple[PolicyFacts, ...]:
    found = _rows(
        connection,
        "SELECT name, weights_sha256, algorithm, rows, rater_ids, epoch_us(trained_at), state FROM policies",
    )
    return tuple(
        PolicyFacts(
            name=name,
            weights_sha256=digest,
            algorithm=algorithm,
            rows=rows,
            n_raters=len(set(rater_ids or ())),
            n_withdrawn=len(set(rater_ids or ()) & consents.without(Purpose.TRAINING)),
            trained_at=None if trained_us is None else moment(trained_us),
            state=state,
        )
        for name, digest, algorithm, rows, rater_ids, trained_us, state in found
    )


def _exports(connection: duckdb.DuckDBPyConnection, consents: Consents) -> tuple[ExportFacts, ...]:
    found = _rows(connection, "SELECT path, rater_ids, epoch_us(made_at), state FROM exports")
    return tuple(
        ExportFacts(
            path=path,
            n_raters=len(set(rater_ids or ())),
            n_withdrawn=len(set(rater_ids or ()) & consents.without(*Purpose)),
            made_at=None if made_us is None else moment(made_us),
            state=state,
        )
        for path, rater_ids, made_us, state in found
    )


def _drift(connection: duckdb.DuckDBPyConnection) -> tuple[DriftBin, ...]:
    sql = f"""
    WITH given AS (SELECT rater_id, count(*) AS n_all FROM ratings GROUP BY rater_id)
    SELECT rater_id, (t - 1) * 10 // n_all AS tenth, count(*), sum(CAST(round(value * {_NANO}) AS HUGEINT)),
           count(e), sum(CAST(round(e * {_NANO}) AS HUGEINT))
    FROM ratings JOIN given USING (rater_id) GROUP BY rater_id, tenth ORDER BY rater_id, tenth
    """
    return tuple(
        DriftBin(
            rater_id=rater_id,
            first=tenth,
            last=tenth + 1,
            n=n,
            mean=int(total) / (_NANO * n),
            n_shared=n_shared,
            residual=int(nano) / (_NANO * n_shared) if n_shared else None,
        )
        for rater_id, tenth, n, total, n_shared, nano in _rows(connection, sql)
    )


def _latencies(connection: duckdb.DuckDBPyConnection) -> tuple[Latency, ...]:
    sql = """
    SELECT rater_id, count(*), quantile_cont(latency_s, [0.05, 0.25, 0.5, 0.75, 0.95])
    FROM ratings WHERE isfinite(latency_s) GROUP BY rater_id ORDER BY rater_id
    """
    return tuple(
        Latency(rater_id, n, *(round(value, 6) for value in quantiles))
        for rater_id, n, quantiles in _rows(connection, sql)
    )


_PAIRS = """
WITH tally AS (SELECT item, value, count(*) AS n FROM ratings WHERE kind = 'rating' GROUP BY item, value),
pairs AS (SELECT item, sum(n) AS m, sum(n * n) AS squares FROM tally GROUP BY item HAVING sum(n) > 1)
"""
"""Of each step how many ratings it has, and the squares of how many agree."""


def _episode(connection: duckdb.DuckDBPyConnection) -> tuple[EpisodeBin, ...]:
    sql = f"""
    {_PAIRS}
    SELECT least(9, step * 10 // greatest(1, episodes.n_steps)) AS tenth,
           CAST(sum(m * (m - 1) // 2) AS BIGINT), CAST(sum((m * m - squares) // 2) AS BIGINT)
    FROM pairs JOIN items USING (item) JOIN episodes USING (episode_id) GROUP BY tenth ORDER BY tenth
    """
    return tuple(
        EpisodeBin(tenth, tenth + 1, n_pairs, n_disagreeing)
        for tenth, n_pairs, n_disagreeing in _rows(connection, sql)
    )


def _disputed(connection: duckdb.DuckDBPyConnection) -> tuple[DisputedStep, ...]:
    """Return the steps of most disagreement, no two of them next to each other.

    The measure is Gini and Simpson's ``1 - sum p²``, which does not call a step of two raters more disputed
    than one of ten; of equal ones the step that more have rated comes first.
    """
    sql = f"""
    {_PAIRS},
    worst AS (
      SELECT item, m, (m * m - squares) / (m * m) AS disagreement FROM pairs
      WHERE m * m > squares ORDER BY disagreement DESC, m DESC, item LIMIT 400
    )
    SELECT item, episodes.session_id, episode_id, step, episodes.env_id, CAST(m AS BIGINT), disagreement
    FROM worst JOIN items USING (item) JOIN episodes USING (episode_id)
    ORDER BY disagreement DESC, m DESC, item
    """
    chosen: list[DisputedStep] = []
    for item, session_id, episode_id, step, env_id, n, disagreement in _rows(connection, sql):
        if any(one.episode_id == episode_id and abs(one.step - step) < _LEAST_APART for one in chosen):
            continue
        labels = f"SELECT value, count(*) FROM ratings WHERE item = {item} GROUP BY value ORDER BY value"
        tallies = tuple(_rows(connection, labels))
        chosen.append(DisputedStep(session_id, episode_id, step, env_id, n, disagreement, tallies))
        if len(chosen) == _MOST_DISPUTED:
            break
    return tuple(chosen)
