"""Record, replay, retrain, audit and erase human feedback on a reinforcement-learning agent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlhf_audit.recording.recorder import Recorder as Recorder
    from rlhf_audit.recording.vector import VectorRecorder as VectorRecorder

__version__ = "0.1.0"
_RECORDERS = {
    "Recorder": "rlhf_audit.recording.recorder",
    "VectorRecorder": "rlhf_audit.recording.vector",
}


def __getattr__(name: str) -> Any:
    # Here, so that a verb that reads never imports Gymnasium.
    if name in _RECORDERS:
        return getattr(import_module(_RECORDERS[name]), name)
    raise AttributeError(name)
