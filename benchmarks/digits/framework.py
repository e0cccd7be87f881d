"""Cells and tables of runs whose λ is found by the framework of De Lange et al. (TPAMI 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd

from ..report.writer import Part, Table
from ..runs.cell import short_digest
from ..training.framework import Framework
from ..training.result import StreamResult
from .cell import DigitsCell
from .report import DigitsReport

CAPTION = (
    "Medians over the seeds. The first experience has nothing to protect, so its λ is where the "
    "search begins; each further one begins with the λ that the one before has taken."
)


@dataclass(frozen=True)
class FrameworkCell(DigitsCell):
    """A cell whose λ and learning rate are found on the way."""

    framework: Framework

    @property
    def name(self) -> str:
        """The name of its file: readable, and different for any two different cells."""
        return f"{self.benchmark}-framework-{self.label}-seed{self.seed}-{short_digest(self)}"


@dataclass(frozen=True)
class FrameworkReport(DigitsReport):
    """A report that also says what was chosen for each experience."""

    def parts(self, origin: str) -> Iterator[Part]:
        """Also a table of λ for each benchmark."""
        yield from super().parts(origin)
        for benchmark in dict.fromkeys(cell.benchmark for cell in self.tests):
            title = f"{benchmark} digits: λ of each experience"
            yield Table(title, strengths_table(self.tests, benchmark))
        yield CAPTION

    def draw(self, folder: Path) -> list[Path]:
        """Also save ``hyperparameters.csv``."""
        chosen_table(self.tests).to_csv(folder / "hyperparameters.csv", index=False)
        return [*super().draw(folder), folder / "hyperparameters.csv"]


def chosen_table(tests: Mapping[DigitsCell, StreamResult]) -> pd.DataFrame:
    """One row for each run and experience: what was taken, and by how many trials."""
    return pd.DataFrame(
        {
            "benchmark": cell.benchmark,
            "method": cell.label,
            "seed": cell.seed,
            "experience": i + 1,
            "learning_rate": found["learning_rate"],
            "lambda": found["strength"],
            "accuracy_percent": 100 * found["accuracy"],
            "finetuning_percent": 100 * found["best_accuracy"],
            "within_margin": found["within_margin"],
            "trials": len(found["trials"]),
        }
        for cell, result in tests.items()
        for i, found in enumerate(result.found)
    )


def strengths_table(tests: Mapping[DigitsCell, StreamResult], benchmark: str) -> pd.DataFrame:
    """One row for each method that has a λ, with its λ of each experience, ready to be read."""
    taken: dict[str, dict[int, list[float]]] = {}
    for cell, result in tests.items():
        for i, found in enumerate(result.found):
            if cell.benchmark == benchmark and found["strength"] is not None:
                taken.setdefault(cell.label, {}).setdefault(i + 1, []).append(found["strength"])
    return pd.DataFrame(
        {
            "method": method,
            **{str(i): f"{median(strengths):.2g}" for i, strengths in of_method.items()},
        }
        for method, of_method in taken.items()
    ).fillna("-")


def remarks(framework: Framework, tests: Mapping[DigitsCell, StreamResult]) -> list[str]:
    """How λ was chosen, and where that did not come out."""
    found = [record for result in tests.values() for record in result.found]
    chosen = [record for record in found if record["strength"] is not None]
    outside = sum(not record["within_margin"] for record in chosen)
    trials = sum(len(record["trials"]) for record in found)
    rates = ", ".join(f"{rate:g}" for rate in framework.learning_rates)
    return [
        f"λ and learning rate were chosen for each experience by the framework of De Lange et al. "
        f"(TPAMI 2021) on {100 * framework.held_out:g} % of its own training images, which were "
        f"not learnt: learning rates {rates}; λ from {framework.strength:g} on, multiplied by "
        f"{framework.decay:g} while accuracy is below {1 - framework.drop_margin:g} of "
        f"finetuning's, at most {framework.max_trials} values for each experience.",
        f"{trials} trainings for {len(found)} experiences; seconds are those of all of them. With "
        f"{outside} of {len(chosen)} choices of λ, the last value tried was still below the "
        f"margin. Joint training has the fixed learning rate, and learns all training images.",
    ]
