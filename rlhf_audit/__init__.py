"""Record, replay, retrain, audit and erase human feedback on a reinforcement-learning agent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf_audit.recording.recorder import Recorder as Recorder

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Here, so that a verb that reads never imports Gymnasium.
    if name == "Recorder":
        return import_module("rlhf_audit.recording.recorder").Recorder
    raise AttributeError(name)
