"""Training strategies: to compare continual learning with, and for several processes."""

from avalanche_mas.strategies.data_parallel import (
    DataParallel,
    DataParallelJointTraining,
    DataParallelNaive,
)
from avalanche_mas.strategies.joint import JointTraining

__all__ = ["DataParallel", "DataParallelJointTraining", "DataParallelNaive", "JointTraining"]
