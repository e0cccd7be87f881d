"""Training strategies to compare continual learning with."""

from avalanche_mas.strategies.joint import JointTraining

__all__ = ["JointTraining"]
