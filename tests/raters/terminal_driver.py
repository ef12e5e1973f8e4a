"""Asks five questions about a real episode at this terminal, and prints the answers as JSON on stdout.

python terminal_driver.py [ENV_ID] [--numbers] [--fail] [--ticks]
"""

import itertools
import json
import sys
import time

import numpy as np

from rlhf_audit.envs import open_env
from rlhf_audit.meanings import action_meanings, observation_meanings
from rlhf_audit.raters.oracles import oracle_action
from rlhf_audit.raters.terminal import TerminalSource
from rlhf_audit.types import AnswerKind, Question

N_QUESTIONS = 5


def main() -> None:
    env_id = next((word for word in sys.argv[1:] if not word.startswith("-")), "CartPole-v1")
    frames = "--numbers" not in sys.argv
    env = open_env(env_id, frames=frames)
    observation, _ = env.reset(seed=7)
    meanings = action_meanings(env_id, env.action_space.n)
    clock = itertools.count().__next__ if "--ticks" in sys.argv else time.monotonic
    source = TerminalSource(observation_meanings(env_id, len(observation)), monotonic=clock)
    answers, total, step, position = [], 0.0, 0, 0
    try:
        while len([a for a in answers if a["kind"] in ("answer", "skip")]) < N_QUESTIONS:
            action = oracle_action(env_id, observation)
            question = Question(
                f"e{1}", step, np.array(observation), action, meanings[action], position, total,
                (lambda: env.render()) if frames else None,
            )  # fmt: skip
            answer = source.ask(question)
            answers.append({"kind": str(answer.kind), "value": answer.value, "latency_s": answer.latency_s})
            if answer.kind in (AnswerKind.QUIT, AnswerKind.WITHDRAW):
                break
            if "--fail" in sys.argv:
                raise ZeroDivisionError
            position += 1
            if answer.kind is not AnswerKind.UNDO:
                for _ in range(3):
                    observation, reward, *_ = env.step(oracle_action(env_id, observation))
                    total, step = total + float(reward), step + 1
    finally:
        if "--fail" not in sys.argv:
            source.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
