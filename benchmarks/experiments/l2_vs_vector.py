"""MAS by the sensitivity of ‖F‖², and by that of every output: forgetting, and its cost.

Ω of the vector output is of another size, by a factor of tens: with the same λ one of the two
would hardly protect. Its λ is that of ‖F‖² times the ratio of both ΣΩ over the shared weights, so
that the two differ in where they protect and not in how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas import estimate_importance

from ..objects.cell import ObjectCell
from ..objects.experiment import ObjectSettings, run_sequences
from ..objects.images import load
from ..objects.pairs import LEGEND, PairsReport, numbers
from ..objects.training import run_cell as run_as_usual
from ..objects.training import train
from ..report.formatter import listed, spread
from ..runs.cell import RunCells
from ..training.result import StreamResult

DESCRIPTION = "MAS by the squared norm of the output, and by the vector: forgetting and cost"
SETTINGS = ObjectSettings(("flowers-scenes", "flowers-birds"), ("MAS",))
FAST = SETTINGS.tiny()

_ROWS = {"norm": "‖F‖²", "vector": "vector"}
PAPER = {"norm": "0.47 ± 0.12", "vector": "0.51 ± 0.19"}  # %, first task's drop


@dataclass(frozen=True)
class SumsCell(ObjectCell):
    """A cell that measures ΣΩ of both outputs after the first task."""

    sums: bool = True


@dataclass(frozen=True)
class SumsResult(StreamResult):
    """What a run measured, and ΣΩ over the shared weights by output."""

    sums: dict[str, float] = field(default_factory=dict)


RESULT = SumsResult


class Sums(SupervisedPlugin):  # type: ignore[misc]
    """Measures Ω of the first task both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, float] = {}

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Measure, and leave the model as it was."""
        if self.found:
            return
        for output in ("norm", "vector"):
            omega = estimate_importance(
                strategy.model,
                strategy.experience.dataset.eval(),
                forward=lambda model, batch: model(batch[0], 0),
                output=output,
            )
            shared = (value for name, value in omega.items() if name.startswith("trunk."))
            self.found[output] = sum(float(value.sum()) for value in shared)


def run_cell(cell: ObjectCell) -> StreamResult:
    """Train and measure one cell."""
    if not isinstance(cell, SumsCell):
        return run_as_usual(cell)
    sums = Sums()
    result = train(cell, load(cell), cell.options, [sums])
    return SumsResult(**asdict(result), sums=sums.found)


def run(settings: ObjectSettings, run_cells: RunCells[Any, Any]) -> PairsReport:
    """Train and test by ‖F‖², then by the vector with the λ of equal ΣΩ."""
    outcome = run_sequences(
        "by the norm", settings, run_cells, {"": lambda cell: SumsCell(**vars(cell))}
    )
    (choice,) = (row.choice for row in outcome.rows.values())
    assert choice is not None
    norm = outcome.found["MAS", ""]
    cells: dict[tuple[str, int], ObjectCell] = {}
    ratios = []
    for sequence, seeds in outcome.seeds.items():
        for seed, result in zip(seeds, norm[sequence], strict=True):
            ratio = result.sums["norm"] / result.sums["vector"]
            ratios.append(ratio)
            cell = settings.cell(sequence, "MAS", choice.lam * ratio, seed)
            cells[sequence, seed] = SumsCell(**vars(replace(cell, output="vector")))
    results = run_cells("by the vector", cells.values())
    vector = {
        sequence: [results[cells[sequence, seed]] for seed in seeds]
        for sequence, seeds in outcome.seeds.items()
    }
    runs = {_ROWS["norm"]: norm, _ROWS["vector"]: vector}
    remarks = []
    for output, shown in _ROWS.items():
        of_row = [result for of_sequence in runs[shown].values() for result in of_sequence]
        drops = [float(numbers(result)[1]) for result in of_row]
        remarks.append(
            f"{shown}: the first task drops by {spread(drops)} points over {len(of_row)} runs; in "
            f"the paper {PAPER[output]}, a difference of "
            f"{np.mean(drops) - float(PAPER[output].split()[0]):+.1f}. Measuring Ω takes "
            f"{_seconds(of_row):.2f} s a task."
        )
    return PairsReport(
        "which output's sensitivity is the importance",
        runs,
        {},
        LEGEND.format(seeds=listed(settings.seeds))
        + f" For ‖F‖² λ = {choice}, the published one; for the vector the λ that makes ΣΩ of the "
        f"first task as large, {spread(ratios, '.3g')} times that.",
        [*remarks, *outcome.left_out],
    )


def _seconds(results: Sequence[StreamResult]) -> float:
    return float(np.mean([result.consolidation_seconds / 2 for result in results]))
