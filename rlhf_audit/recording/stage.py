"""Where the policy acts while a session is recorded: in a recorder."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_audit.recording.recorder import Recorder
from rlhf_audit.session import picture
from rlhf_audit.types import EpisodeFacts, Observation


class RecordedStage:
    """The stage of a session that is recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def begin(self, facts: EpisodeFacts) -> Observation:
        self._recorder.policy_sha256 = facts.behaviour_policy_sha256
        observation: Observation = self._recorder.reset(seed=facts.reset_seed)[0]
        return observation

    def act(self, action: Any, probability: float) -> tuple[Observation, float, bool]:
        after, env_reward, terminated, truncated, _ = self._recorder.act(action, probability)
        return after, float(env_reward), bool(terminated or truncated)

    def picture(self) -> npt.NDArray[np.uint8] | None:
        return picture(self._recorder)
