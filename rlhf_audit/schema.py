"""Arrow schemas of log format 1: the one place where columns are named and typed."""

import pyarrow as pa

FORMAT_VERSION = 1

_WHEN = pa.timestamp("us", tz="UTC")


def steps(observation: pa.DataType, action: pa.DataType) -> pa.Schema:
    """Return the schema of ``steps/``, given the types of the environment's two spaces."""
    return pa.schema(
        [
            pa.field("session_id", pa.string(), nullable=False),
            pa.field("episode_id", pa.string(), nullable=False),
            pa.field("step", pa.int64(), nullable=False),
            pa.field("observation", observation, nullable=False),
            pa.field("action", action, nullable=False),
            pa.field("action_probability", pa.float32()),
            pa.field("env_reward", pa.float64(), nullable=False),
            pa.field("terminated", pa.bool_(), nullable=False),
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("info", pa.string()),
        ]
    )


def episodes(observation: pa.DataType) -> pa.Schema:
    """Return the schema of ``episodes/``: the observation T+1 is ``final_observation``."""
    return pa.schema(
        [
            pa.field("session_id", pa.string(), nullable=False),
            pa.field("episode_id", pa.string(), nullable=False),
            pa.field("episode", pa.int64(), nullable=False),
            pa.field("env_id", pa.string(), nullable=False),
            pa.field("env_spec", pa.string(), nullable=False),
            pa.field("stream", pa.int64(), nullable=False),
            pa.field("reset_seed", pa.int64()),
            pa.field("reset_options", pa.string()),
            pa.field("n_steps", pa.int64(), nullable=False),
            pa.field("final_observation", observation, nullable=False),
            pa.field("behaviour_policy_sha256", pa.string()),
        ]
    )


FEEDBACK = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("episode_id", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("objective", pa.string(), nullable=False),
        pa.field("other_episode_id", pa.string()),
        pa.field("other_step", pa.int64()),
        pa.field("n_steps", pa.int64(), nullable=False),
        pa.field("action", pa.int64()),
        pa.field("consent", pa.bool_(), nullable=False),
        pa.field("grant_id", pa.string(), nullable=False),
        pa.field("shown_at", _WHEN, nullable=False),
        pa.field("answered_at", _WHEN, nullable=False),
        pa.field("latency_s", pa.float64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("supersedes", pa.int64()),
    ]
)
"""What a rater gave; ``row`` counts from 0 within the session, and ``supersedes`` names one."""
