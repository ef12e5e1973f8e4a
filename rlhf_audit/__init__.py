"""Record, replay, retrain, audit and erase human feedback on a reinforcement-learning agent."""

__version__ = "0.1.0"
