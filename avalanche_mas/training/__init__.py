"""Training strategies: to compare continual learning with, and for several processes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche_mas.training.data_parallel import (
        DataParallel,
        DataParallelJointTraining,
        DataParallelNaive,
    )
    from avalanche_mas.training.joint import JointTraining
else:

    def __getattr__(name):
        """The strategies, which load Avalanche's."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from avalanche_mas.training import data_parallel

        return getattr(data_parallel, name)

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = ["DataParallel", "DataParallelJointTraining", "DataParallelNaive", "JointTraining"]
