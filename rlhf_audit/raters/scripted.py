"""Scripted raters: known, plantable faults, so that every audit can be held to a truth.

A rater sees (the oracle's view, blurred by how often this one errs), says (what its character makes of that)
and takes its time (log-normal). Nothing waits: the latency is drawn and written down.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlhf_audit import seeds
from rlhf_audit.errors import UsageError, near
from rlhf_audit.raters.oracles import ORACLES, n_oracle_actions, oracle_action
from rlhf_audit.types import Answer, AnswerKind, Question

SCRIPTED_NAMES: tuple[str, ...] = (
    "oracle",
    "flip-20",
    "always-yes",
    "always-no",
    "inverted",
    "favours-1",
    "tires",
    "fast",
    "copies",
)
"""One example of each: ``flip-`` takes any per cent from 0 to 100, ``favours-`` any action."""

_TIRED_AFTER = 150
_TIRED_ERROR_RATE = 0.45


@dataclass(frozen=True)
class _Character:
    """What sets one scripted rater apart from another.

    Attributes:
        says: The answer, given the question and what the rater sees (True where it thinks the action right).
        error_rate: How often it sees wrong, at the given position of the session.
        slowness: Factor on the median latency, at the given position.
        needs_oracle: Whether ``says`` looks at what the rater sees.
    """

    says: Callable[[Question, bool], float]
    error_rate: Callable[[int], float]
    slowness: Callable[[int], float] = lambda _position: 1.0
    median_latency_s: float = 1.5
    latency_spread: float = 0.4
    needs_oracle: bool = True


class ScriptedSource:
    """A FeedbackSource that plays a character; answers depend on seed, name and position only.

    Determinism:
        Every question has its own generator, so no answer depends on how many were asked before.
    """

    simulated_time = True

    def __init__(self, name: str, env_id: str, seed: int, character: _Character) -> None:
        self._name = name
        self._env_id = env_id
        self._seed = seed
        self._character = character

    def ask(self, question: Question) -> Answer:
        character, position = self._character, question.position
        generator = seeds.generator(self._seed, "rater", self._name, position)
        errs = bool(generator.random() < character.error_rate(position))
        sees = character.needs_oracle and errs != (
            oracle_action(self._env_id, question.observation) == question.action
        )
        says = character.says(question, sees)
        spread = math.exp(character.latency_spread * float(generator.standard_normal()))
        latency_s = character.median_latency_s * character.slowness(position) * spread
        # Milliseconds: finer digits could differ between two machines' exp.
        return Answer(AnswerKind.ANSWER, float(says), round(latency_s, 3))

    def close(self) -> None:
        """Nothing is held."""


def scripted_source(
    name: str, env_id: str, seed: int, peers: Mapping[tuple[str, int], float] | None = None
) -> ScriptedSource:
    """Return the scripted rater of that name.

    Args:
        name: One of ``SCRIPTED_NAMES``, with any per cent after ``flip-`` and any action after ``favours-``.
        env_id: Environment to be judged; needs an oracle unless the rater never looks.
        seed: Two raters with the same seed and name err at the same positions: give each its own.
        peers: For ``copies``: another rater's values by ``(episode_id, step)``.

    Raises:
        UsageError: The name, or the environment's oracle, does not exist.
    """
    character = _character(name, env_id, peers or {})
    if character.needs_oracle and env_id not in ORACLES:
        raise _blind(name, env_id)
    return ScriptedSource(name, env_id, seed, character)


def _blind(name: str, env_id: str) -> UsageError:
    return UsageError(
        f"scripted rater {name!r} can't judge {env_id!r}: it has no oracle",
        seen=env_id,
        needed=f"one of {', '.join(ORACLES)}; or always-yes or always-no, which never look",
        fix="--source scripted:always-yes, or --source terminal",
    )


def _character(name: str, env_id: str, peers: Mapping[tuple[str, int], float]) -> _Character:
    flip = re.fullmatch(r"flip-([0-9]{1,3})", name)
    if flip and int(flip[1]) <= 100:
        return _Character(_sees, _always(int(flip[1]) / 100))
    favours = re.fullmatch(r"favours-([0-9]{1,3})", name)
    if favours:
        return _favours(int(favours[1]), name, env_id)
    match name:
        case "oracle":
            return _Character(_sees, _always(0.0))
        case "always-yes":
            return _Character(lambda _question, _sees: True, _always(0.0), needs_oracle=False)
        case "always-no":
            return _Character(lambda _question, _sees: False, _always(0.0), needs_oracle=False)
        case "inverted":
            return _Character(lambda _question, sees: not sees, _always(0.05))
        case "tires":
            return _Character(_sees, _tired_errors, _tired_slowness)
        case "fast":
            return _Character(_sees, _always(0.4), median_latency_s=0.15, latency_spread=0.25)
        case "copies":
            return _Character(lambda question, sees: _copied(peers, question, sees), _always(0.1))
    raise UsageError(
        f"no scripted rater {name!r}",
        seen=name,
        needed=f"one of {', '.join(SCRIPTED_NAMES)} (any per cent up to 100, any action)",
        fix=near(name, SCRIPTED_NAMES) or "--source scripted:oracle",
    )


def _sees(_question: Question, sees: bool) -> bool:
    return sees


def _always(error_rate: float) -> Callable[[int], float]:
    return lambda _position: error_rate


def _favours(action: int, name: str, env_id: str) -> _Character:
    if env_id not in ORACLES:
        raise _blind(name, env_id)
    n_actions = n_oracle_actions(env_id)
    if action >= n_actions:
        raise UsageError(
            f"scripted rater {name!r} favours an action that {env_id} does not have",
            seen=f"action {action}",
            needed=f"an action from 0 to {n_actions - 1}",
            fix=f"favours-{n_actions - 1}",
        )
    return _Character(lambda question, sees: question.action == action or sees, _always(0.05))


def _copied(peers: Mapping[tuple[str, int], float], question: Question, sees: bool) -> float:
    return peers.get((question.episode_id, question.step), float(sees))


def _tiredness(position: int) -> float:
    return min(position / _TIRED_AFTER, 1.0)


def _tired_errors(position: int) -> float:
    return 0.05 + (_TIRED_ERROR_RATE - 0.05) * _tiredness(position)


def _tired_slowness(position: int) -> float:
    """Twice as slow at half way, then ever more careless, to half the first latency."""
    tiredness = _tiredness(position)
    return 1.0 + 2.0 * tiredness if tiredness < 0.5 else 2.0 - 3.0 * (tiredness - 0.5)
