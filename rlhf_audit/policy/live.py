"""Learn while a rater answers: a few compiled steps after each answer, each of which can be taken back."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.errors import UsageError, near
from rlhf_audit.policy import epochs
from rlhf_audit.policy.interface import Interface
from rlhf_audit.policy.network import NetworkSpec, weights_sha256
from rlhf_audit.seeds import generator
from rlhf_audit.types import FloatArray, Weights

YES_WHEN_RIGHT, YES_WHEN_WRONG = 0.8, 0.2
"""The live learner does not tell raters apart: one is there, and EM needs more answers than it has."""

_KEPT_STATES = 64


@dataclass(frozen=True)
class _Method:
    """How one answer is learned from.

    Attributes:
        batch_size: The newest answer, and up to this many less one of those before it.
        n_steps: Adam steps on that batch.
    """

    loss: str
    learning_rate: float
    batch_size: int
    n_steps: int
    l2: float


_METHODS = {
    "likelihood": _Method("likelihood", learning_rate=0.01, batch_size=64, n_steps=20, l2=0.001),
    "article": _Method("article", learning_rate=0.01, batch_size=1, n_steps=1, l2=0.0),
}


@dataclass(frozen=True)
class _Answered:
    observation: FloatArray
    action: npt.NDArray[Any]
    value: float


class LiveLearner:
    """A policy that learns from one session's answers as they come.

    ``likelihood`` takes Adam steps on the newest answer together with answers drawn from those before it;
    ``article`` takes one step of the article's exact update on the newest alone (see ``losses.article``).

    Args:
        spec: Shape of the network.
        weights: Where to start.
        algorithm: ``likelihood`` or ``article``.
        seed: Root seed of the draws.
        learning_rate: Adam's; the algorithm's own by default.
        interface: What makes rows of observations and numbers of actions; by default both are that already.

    Raises:
        UsageError: No such algorithm.

    Determinism:
        The weights depend on the arguments and the standing answers only, bit for bit, however many updates
        were made and undone in between.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Weights,
        algorithm: str = "likelihood",
        seed: int = 0,
        learning_rate: float | None = None,
        interface: Interface | None = None,
    ) -> None:
        if algorithm not in _METHODS:
            raise UsageError(
                f"nothing learns live by {algorithm!r}",
                needed=f"one of {', '.join(_METHODS)}",
                fix=near(algorithm, _METHODS),
            )
        self._spec = spec
        self._start = weights
        self._interface = interface
        self._method = _METHODS[algorithm]
        self._seed = seed
        self._learning_rate = self._method.learning_rate if learning_rate is None else learning_rate
        self._answers: list[_Answered] = []
        self._state = epochs.AdamState.fresh(weights)
        self._before: deque[epochs.AdamState] = deque(maxlen=_KEPT_STATES)
        # Compiled now, so that the first answer doesn't wait.
        single = isinstance(spec.n_actions, int)
        action = np.zeros((), np.int64) if single else np.zeros(len(spec.heads), np.float32)
        self._step(self._state, [_Answered(np.zeros(spec.observation_dim, np.float32), action, 1.0)])

    @property
    def weights(self) -> Weights:
        """The policy as it is now."""
        return self._state.named(self._start)

    @property
    def weights_sha256(self) -> str:
        """Their digest."""
        return weights_sha256(self.weights)

    @property
    def parameters(self) -> dict[str, Any]:
        """What the live update was set to, JSON values."""
        return {
            **asdict(self._method),
            "learning_rate": self._learning_rate,
            "yes_when_right": YES_WHEN_RIGHT,
            "yes_when_wrong": YES_WHEN_WRONG,
            "seed": self._seed,
        }

    def update(self, observation: Any, action: Any, value: float) -> None:
        """Learn from one answer.

        Args:
            observation: What the agent saw.
            action: What it did.
            value: 1 for yes, 0 for no.
        """
        if self._interface is None:
            row, choice = np.array(observation, np.float32), np.asarray(action)
        else:
            row = self._interface.encode(observation).astype(np.float32)
            choice = self._interface.choices([action])[0]
        answered = _Answered(row, choice, float(value))
        after = self._step(self._state, [*self._answers, answered])
        self._before.append(self._state)
        self._answers.append(answered)
        self._state = after

    def undo(self) -> None:
        """Take the last standing answer back: weights and Adam's moments are those from before it.

        Raises:
            UsageError: No answer stands.
        """
        if not self._answers:
            raise UsageError("there is no answer to take back")
        self._answers.pop()
        self._state = self._before.pop() if self._before else self._replayed()

    def _replayed(self) -> epochs.AdamState:
        # Only the newest states are kept; older ones are made again, to the same bits.
        state = epochs.AdamState.fresh(self._start)
        for count in range(1, len(self._answers) + 1):
            state = self._step(state, self._answers[:count])
        return state

    def _step(self, state: epochs.AdamState, answers: list[_Answered]) -> epochs.AdamState:
        chosen = self._drawn(answers)
        ones = np.ones(len(chosen), np.float32)
        rows = epochs.Rows(
            np.stack([answered.observation for answered in chosen]),
            np.array([answered.action for answered in chosen]),
            np.array([answered.value for answered in chosen], np.float32),
            YES_WHEN_RIGHT * ones,
            YES_WHEN_WRONG * ones,
            ones,
        )
        return epochs.run(
            state,
            rows,
            spec=self._spec,
            loss=self._method.loss,
            batch_size=self._method.batch_size,
            n_steps=self._method.n_steps,
            learning_rate=self._learning_rate,
            l2=self._method.l2,
        )

    def _drawn(self, answers: list[_Answered]) -> list[_Answered]:
        *earlier, newest = answers
        room = self._method.batch_size - 1
        if len(earlier) <= room:
            return answers if room else [newest]
        picks = generator(self._seed, "live", len(answers)).choice(len(earlier), room, replace=False)
        return [*(earlier[index] for index in picks), newest]
