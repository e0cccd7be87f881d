"""What each process of ``torchrun`` runs: all checks, whose results it writes; then one fails."""

import faulthandler
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from avalanche.training.plugins import SupervisedPlugin
from every_method import ManyHeads
from omega import alone, estimates, network, of_plugins
from quarrels import broken, quarrels
from tiny_avalanche import clusters, split
from training import avalanches_own_way, drifting, evaluation, methods, situations, strategy_of

from avalanche_mas import estimate_importance
from avalanche_mas.importance.team import Team
from benchmarks.distributed.show import show


def results():
    """Everything that is asserted on, by kind and name."""
    importances = {**estimates(), **{f"plugin: {name}": o for name, o in of_plugins().items()}}
    mine, all_alone = alone()
    two = dist.get_world_size() == 2
    return {
        "omega": {
            name: (dict(omega.items()), omega.samples, omega.standard_errors)
            for name, omega in importances.items()
        },
        "alone": (dict(mine.items()), [dict(omega.items()) for omega in all_alone]),
        "quarrels": quarrels(),
        "methods": methods(),
        "situations": situations(),
        "drifting": drifting(),
        "evaluation": evaluation(),
        "benchmark": tuple(show(1, 20, torch.device("cpu"))) if two else None,
        "Avalanche's own way": avalanches_own_way(),
    }


class Fails(SupervisedPlugin):
    """The last process meets bad data in the second experience."""

    def before_forward(self, strategy, **kwargs):
        last = Team.of("split").rank == dist.get_world_size() - 1
        if last and strategy.clock.train_exp_counter == 1 and strategy.clock.train_exp_iterations:
            raise OSError("cannot read image 5")


def fail(where):
    """Never returns normally."""
    if where == "training":
        strategy = strategy_of(ManyHeads(), [Fails()])
        for experience in split(task_labels=True).train_stream:
            strategy.train(experience)
    else:
        x, _ = clusters(dtype=torch.float64)
        estimate_importance(network(), broken(x, dist.get_rank()))


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # asks where a process hangs
    folder, where = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.save(results(), folder / f"{dist.get_rank()}.pt")
    dist.barrier()
    (folder / "failing").touch()
    fail(where)
