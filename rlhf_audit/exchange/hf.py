"""A Hugging Face dataset: the flat tables as Parquet, and the card that says what they are.

``datasets.load_dataset("parquet", data_files="DIR/data/CartPole-v1.parquet")``, or
``datasets.load_dataset("DIR", "CartPole-v1")``.
"""

from rlhf_audit.exchange import flat
from rlhf_audit.exchange.base import Export, Files

_CARD = """\
---
pretty_name: Rated episodes of reinforcement learning agents
task_categories:
- reinforcement-learning
tags:
- rlhf
- human-feedback
configs:
{configs}
---

# Rated episodes of reinforcement learning agents

{episodes} episodes, {steps} steps, {rows} pieces of feedback by {raters} raters. Made by `rlhf-audit export`.

| table | environment | episodes | steps | feedback |
|---|---|---|---|---|
{tables}

One row a step and piece of feedback about it; a step that nobody rated has one row, without a rater. Every
rater whose feedback is in here had agreed to: {purpose}.

## Personal data

A rater's name is random and was made for this export alone, but what a person answered is personal data.
A rater may take their consent back. Whoever handed this out then tells you which name to delete, and you must
delete its rows.

## Playing it again

`export.json` holds each environment's record. Reset with `reset_seed` (where it is null the environment goes
on from the episode before, in the same `stream` of the session), then take `action` step by step: every
`observation`, `env_reward` and, after an episode's last row, its `final_observation` comes out the same.
"""


def write(export: Export) -> Files:
    """Yield ``data/<environment>.parquet`` and ``README.md``."""
    for one in export.environments:
        yield f"data/{one.name}.parquet", flat.parquet(one)
    yield "README.md", _card(export).encode()


def _card(export: Export) -> str:
    configs = [
        f"- config_name: {one.name}\n  data_files: data/{one.name}.parquet" for one in export.environments
    ]
    tables = [
        f"| `{one.name}` | {one.env.env_id} | {one.n_episodes} | {one.n_steps} | {one.feedback.num_rows} |"
        for one in export.environments
    ]
    return _CARD.format(
        configs="\n".join(configs),
        tables="\n".join(tables),
        episodes=export.episodes,
        steps=export.steps,
        rows=export.rows,
        raters=len(export.raters),
        purpose=export.purpose,
    )
