"""Rows a second of training, one thread: this project's XLA epochs, Keras ``fit``, and the article's loop.

Run from a checkout: ``python -m benchmarks.training``. All in one process, the same network, the same rows;
each is warmed up first, so that no compilation is counted. Those compared take turns, and the best of seven
runs of each is shown: what else the machine does falls on both.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rlhf_audit.determinism import tensorflow
from rlhf_audit.policy import epochs
from rlhf_audit.policy.as_keras import keras_model
from rlhf_audit.policy.network import NetworkSpec, initial_weights
from rlhf_audit.seeds import generator

SPEC = NetworkSpec(4, 2)
ROWS = 65_536
LOOP_ROWS = 200
RUNS = 7


def main() -> None:
    rows = _rows(ROWS)
    (loop,) = _rates([_article_loop(rows)], LOOP_ROWS)
    print(f"{'method':<34}{'batch':>6}{'rows/s':>12}{'x fit':>8}{'x loop':>9}")
    print(f"{'article: predict, train_on_batch':<34}{1:>6}{loop:>12,.0f}{'':>8}{1:>9}")
    for batch in (32, 256):
        fit, ours = _rates([_keras_fit(rows, batch), _epoch(rows, batch)], ROWS)
        print(f"{'Keras fit':<34}{batch:>6}{fit:>12,.0f}{1:>8}{fit / loop:>9,.0f}")
        print(f"{'whole epoch in XLA':<34}{batch:>6}{ours:>12,.0f}{ours / fit:>8.1f}{ours / loop:>9,.0f}")


def _rows(n: int) -> epochs.Rows:
    draws = generator(0, "benchmark")
    observations = draws.normal(size=(n, SPEC.observation_dim)).astype(np.float32)
    ones = np.ones(n, np.float32)
    answers = draws.integers(0, 2, n).astype(np.float32)
    return epochs.Rows(observations, draws.integers(0, 2, n), answers, 0.8 * ones, 0.2 * ones, ones)


def _rates(trainings: list[Callable[[], object]], n_rows: int) -> list[float]:
    seconds: list[list[float]] = [[] for _ in trainings]
    for run in range(1 + RUNS):
        for train, taken in zip(trainings, seconds, strict=True):
            begin = time.perf_counter()
            train()
            if run:
                taken.append(time.perf_counter() - begin)
    return [n_rows / min(taken) for taken in seconds]


def _epoch(rows: epochs.Rows, batch: int) -> Callable[[], object]:
    state = epochs.AdamState.fresh(initial_weights(SPEC, 0))
    return lambda: epochs.run(
        state,
        rows,
        spec=SPEC,
        loss="likelihood",
        batch_size=batch,
        n_steps=ROWS // batch,
        learning_rate=0.01,
        l2=0.001,
        sparsity=0.03,
    )


def _compiled() -> Any:
    keras = tensorflow().keras
    model = keras_model(SPEC, initial_weights(SPEC, 0))
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="categorical_crossentropy")
    return model


def _keras_fit(rows: epochs.Rows, batch: int) -> Callable[[], object]:
    model = _compiled()
    targets = np.eye(SPEC.n_actions, dtype=np.float32)[rows.actions]
    return lambda: model.fit(rows.observations, targets, batch_size=batch, epochs=1, shuffle=False, verbose=0)


def _article_loop(rows: epochs.Rows) -> Callable[[], object]:
    model = _compiled()
    identity = np.eye(SPEC.n_actions, dtype=np.float32)

    def loop() -> None:
        for index in range(LOOP_ROWS):
            observation = rows.observations[index : index + 1]
            probabilities = model.predict(observation, verbose=0)
            model.train_on_batch(
                observation, rows.values[index] * (identity[rows.actions[index]] - probabilities)
            )

    return loop


if __name__ == "__main__":
    main()
