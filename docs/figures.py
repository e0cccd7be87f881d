"""Draws the pictures of figures.md from runs on real digits: `python docs/figures.py`, a minute."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import torch
from avalanche.models import SimpleMLP
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from tqdm import tqdm

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import AccuracyMatrix, MethodMemory, plots
from avalanche_mas.plugins.registry import METHODS

IMAGES = Path(__file__).parent / "images" / "plots"
LAMBDAS: Mapping[str, Sequence[float]] = {
    "MAS": (1e-4, 1e-3, 1e-2, 1e-1, 1e0),
    "EWC": (1e-1, 1e0, 1e1, 1e2, 1e3),
    "SI": (1e-2, 1e-1, 1e0, 1e1, 1e2),
}
CHOSEN = {
    "finetuning": None,
    "MAS": 1e-1,
    "EWC": 1e1,
    "SI": 1e0,
    "LwF": 1e0,
    "modeIMM": 1e-2,
}


def learn(
    method: str, lam: float | None, *, epochs: int = 6, experiences: int = 5
) -> tuple[AccuracyMatrix, list[int], SupervisedTemplate]:
    """Train on a few orders of pixels: accuracies, bytes after each, and the trained strategy."""
    torch.manual_seed(0)
    model = SimpleMLP(input_size=64, hidden_size=100, hidden_layers=2, drop_rate=0.0)
    matrix, memory, benchmark = AccuracyMatrix(), MethodMemory(), permuted_digits(experiences)
    sizes = []
    strategy = METHODS[method].strategy(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=epochs,
        eval_mb_size=500,
        plugins=METHODS[method].plugins(lam),
        evaluator=EvaluationPlugin(matrix, memory, loggers=[]),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)
        sizes.append(int(memory.result()))
    return matrix, sizes, strategy


def draw(
    folder: Path, lambdas: Mapping[str, Sequence[float]] = LAMBDAS, **options: int
) -> list[Path]:
    """Train, and draw every figure.

    :param folder: where the pictures go.
    :param lambdas: of each method in the picture of stability and plasticity.
    :param options: of :func:`learn`, to spend less time.
    :return: the pictures.
    """
    runs = dict.fromkeys([*CHOSEN.items(), *((m, lam) for m in lambdas for lam in lambdas[m])])
    done = {run: learn(*run, **options) for run in tqdm(runs, desc="runs", unit="run")}
    chosen = {method: done[method, lam] for method, lam in CHOSEN.items()}
    _, _, strategy = chosen["MAS"]
    images = torch.stack([image for image, *_ in permuted_digits(1).train_stream[0].dataset])
    both = {
        "MAS": estimate_importance(strategy.model, [images]),
        "LocalMAS": estimate_local_importance(strategy.model, [images]),
    }
    final = {method: 100 * matrix.result()[-1] for method, (matrix, _, _) in chosen.items()}
    front = {m: {lam: done[m, lam][0] for lam in grid} for m, grid in lambdas.items()}
    figures = {
        "accuracy-matrix": plots.plot_accuracy_matrix(chosen["MAS"][0]),
        "forgetting": plots.plot_forgetting(chosen["finetuning"][0]),
        "task-bars": plots.plot_task_bars(final),
        "memory": plots.plot_memory({method: sizes for method, (_, sizes, _) in chosen.items()}),
        "importance-by-layer": plots.plot_importance_by_layer(both),
        "importance-histogram": plots.plot_importance_histogram(both),
        "stability-plasticity": plots.plot_stability_plasticity(front),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, ax in figures.items():
        ax.get_figure().savefig(folder / f"{name}.png", dpi=200)
    return [folder / f"{name}.png" for name in figures]


if __name__ == "__main__":
    matplotlib.use("agg")
    torch.set_num_threads(1)
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
