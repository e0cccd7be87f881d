"""Training strategies: to compare continual learning with, and for several processes."""

from avalanche_mas.training.data_parallel import (
    DataParallel,
    DataParallelJointTraining,
    DataParallelNaive,
)
from avalanche_mas.training.joint import JointTraining

__all__ = ["DataParallel", "DataParallelJointTraining", "DataParallelNaive", "JointTraining"]
