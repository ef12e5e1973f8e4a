"""Reads a report's facts and points from the consented views of a log.

Determinism:
    DuckDB adds doubles in an order that depends on threads, so every sum here is over integers or decimals
    (residuals in units of 1e-9), and every quantile is exact. The connection may be locked: nothing is set.

Personal data:
    Feedback is read from ``usable_for_audit`` only; aliases and groups are not read at all.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import duckdb

from rlhf_audit.clock import to_text
from rlhf_audit.log.ledger import Head
from rlhf_audit.reports.consent_facts import Consents, moment, read_consents
from rlhf_audit.reports.facts import (
    Answers,
    Counts,
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

_STANDING = """
WITH standing AS (
  SELECT rater_id, session_n, "row", item, objective, episode_id, step, latency_s,
         TRY_CAST(value AS DECIMAL(18, 6)) AS label
  FROM usable_for_audit AS given
  WHERE kind = 'rating' AND TRY_CAST(value AS DECIMAL(18, 6)) IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM usable_for_audit AS later
    WHERE later.rater_id = given.rater_id AND later.session_id = given.session_id
      AND later.supersedes = given."row")
  QUALIFY row_number() OVER (PARTITION BY rater_id, item, objective ORDER BY session_n DESC, "row" DESC) = 1
)
"""
"""Ratings that were not taken back, the last of each rater on an item as in the audits; exact labels."""


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
    consents = read_consents(connection)
    listed = _raters(connection, consents)
    facts = LogFacts(
        log_id=log_id,
        head=log_head,
        format_version=FORMAT_VERSION,
        as_of=None if as_of is None else to_text(as_of),
        counts=_counts(connection, listed, len(consents.erased)),
        raters=listed,
        policies=_policies(connection, consents),
        exports=_exports(connection, consents),
        withdrawals=consents.pending,
        erased=consents.erased,
    )
    points = FigureData(
        drift=_drift(connection),
        latencies=_latencies(connection),
        answers=_answers(connection),
        episode=_episode(connection),
        spells=consents.spells,
    )
    return facts, points


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql).fetchall()


def _raters(connection: duckdb.DuckDBPyConnection, consents: Consents) -> tuple[RaterFacts, ...]:
    given = {
        rater_id: (rows, sessions)
        for rater_id, rows, sessions in _rows(
            connection,
            "SELECT rater_id, count(*), count(DISTINCT session_id) FROM usable_for_audit GROUP BY ALL",
        )
    }
    listed = []
    for rater_id, scripted in _rows(connection, "SELECT rater_id, scripted FROM raters ORDER BY rater_id"):
        if rater_id in consents.hidden:
            continue
        rows, sessions = given.get(rater_id, (0, 0))
        standing = consents.standing(rater_id)
        listed.append(
            RaterFacts(
                rater_id=rater_id,
                scripted=scripted,
                rows=rows,
                sessions=sessions,
                consent=standing.state,
                purposes=standing.purposes,
                expires_at=standing.expires_at,
                withdrawn=standing.withdrawn,
            )
        )
    return tuple(listed)


def _counts(connection: duckdb.DuckDBPyConnection, listed: Iterable[RaterFacts], erased: int) -> Counts:
    # A session that rates an older one again has feedback and no episodes.
    sessions, episodes, steps = _rows(
        connection,
        """SELECT (SELECT count(*) FROM (SELECT session_id FROM episodes UNION
                                        SELECT session_id FROM usable_for_audit)),
                  (SELECT count(*) FROM episodes), (SELECT count(*) FROM steps)""",
    )[0]
    raters = tuple(listed)
    return Counts(
        sessions=sessions,
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
    {_STANDING},
    beside AS (
      SELECT rater_id, label,
             (row_number() OVER (PARTITION BY rater_id ORDER BY session_n, "row") - 1) * 10
               // count(*) OVER (PARTITION BY rater_id) AS tenth,
             sum(label) OVER panel - label AS others, count(*) OVER panel - 1 AS n_others
      FROM standing
      WINDOW panel AS (PARTITION BY item, objective)
    )
    SELECT rater_id, tenth, count(*), sum(label), count(*) FILTER (n_others > 0),
           sum(CAST(round((CAST(label AS DOUBLE) - CAST(others AS DOUBLE) / nullif(n_others, 0)) * {_NANO})
             AS HUGEINT))
    FROM beside GROUP BY rater_id, tenth ORDER BY rater_id, tenth
    """
    return tuple(
        DriftBin(
            rater_id=rater_id,
            first=tenth,
            last=tenth + 1,
            n=n,
            mean=float(total) / n,
            n_shared=n_shared,
            residual=int(nano) / (_NANO * n_shared) if n_shared else None,
        )
        for rater_id, tenth, n, total, n_shared, nano in _rows(connection, sql)
    )


def _latencies(connection: duckdb.DuckDBPyConnection) -> tuple[Latency, ...]:
    sql = f"""
    {_STANDING}
    SELECT rater_id, count(*), quantile_cont(latency_s, [0.05, 0.25, 0.5, 0.75, 0.95])
    FROM standing WHERE isfinite(latency_s) GROUP BY rater_id ORDER BY rater_id
    """
    return tuple(
        Latency(rater_id, n, *(round(value, 6) for value in quantiles))
        for rater_id, n, quantiles in _rows(connection, sql)
    )


def _answers(connection: duckdb.DuckDBPyConnection) -> tuple[Answers, ...]:
    sql = f"""
    {_STANDING},
    tally AS (SELECT rater_id, label, count(*) AS n FROM standing GROUP BY rater_id, label)
    SELECT rater_id, CAST(sum(n) AS BIGINT), max(n) FROM tally GROUP BY rater_id ORDER BY rater_id
    """
    return tuple(Answers(*row) for row in _rows(connection, sql))


def _episode(connection: duckdb.DuckDBPyConnection) -> tuple[EpisodeBin, ...]:
    sql = f"""
    {_STANDING},
    tally AS (
      SELECT item, objective, episode_id, step, label, count(*) AS n FROM standing GROUP BY ALL
    ),
    pairs AS (
      SELECT episode_id, step, sum(n) * (sum(n) - 1) // 2 AS n_pairs, sum(n * (n - 1) // 2) AS n_agreeing
      FROM tally GROUP BY item, objective, episode_id, step
    )
    SELECT least(9, step * 10 // greatest(1, n_steps)) AS tenth,
           CAST(sum(n_pairs) AS BIGINT), CAST(sum(n_pairs - n_agreeing) AS BIGINT)
    FROM pairs JOIN episodes USING (episode_id) WHERE n_pairs > 0 GROUP BY tenth ORDER BY tenth
    """
    return tuple(
        EpisodeBin(tenth, tenth + 1, n_pairs, n_disagreeing)
        for tenth, n_pairs, n_disagreeing in _rows(connection, sql)
    )
