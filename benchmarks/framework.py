"""λ and learning rate of each experience by the framework of De Lange et al. (TPAMI 2021)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from avalanche.benchmarks import CLExperience
from avalanche.training.templates import SupervisedTemplate
from rich.console import Console

from avalanche_mas.plugins.registry import Method
from avalanche_mas.training.hyperparameters import DivergedError, continual_hyperparameters

from .cell import Cell, Result, short_digest
from .report import Outcome, markdown_rows, print_table

CAPTION = (
    "Medians over the seeds. The first experience has nothing to protect, so its λ is where the "
    "search begins; each further one begins with the λ that the one before has taken."
)


@dataclass(frozen=True)
class Framework:
    """What the framework needs to know; see :func:`.continual_hyperparameters`."""

    learning_rates: tuple[float, ...]
    strength: float  # the λ that the first experience begins with, the same for all methods
    max_trials: int  # values of λ that are tried at most, for each experience
    drop_margin: float = 0.2  # p and α as published
    decay: float = 0.5
    held_out: float = 0.2  # share of each experience's training images to judge by, never learnt


@dataclass(frozen=True)
class FrameworkCell(Cell):
    """A cell whose λ and learning rate are found on the way."""

    framework: Framework

    @property
    def name(self) -> str:
        """What a file is called."""
        return f"{self.benchmark}-framework-{self.label}-seed{self.seed}-{short_digest(self)}"


class Learner:
    """Learns one experience after the other, each with what the framework finds for it.

    The search for λ begins where that of the experience before has ended, as in the code that De
    Lange et al. released. To begin with the largest one each time takes many more trials.

    :param method: how; one without a plugin has no λ, but a learning rate.
    :param framework: what the framework needs to know.
    :param held_out: for each experience, the data to judge by.
    """

    def __init__(
        self, method: Method, framework: Framework, held_out: Iterable[CLExperience]
    ) -> None:
        self.method = method
        self.framework = framework
        self.held_out = {part.current_experience: part for part in held_out}
        self.found: list[dict[str, Any]] = []
        """What was found for each experience, as plain values; None for NaN."""

    def __call__(self, strategy: SupervisedTemplate, step: list[CLExperience]) -> bool:
        """Learn an experience.

        :return: whether any of the trials that count has led to finite weights.
        """
        (experience,) = step
        choosing = self.method.plugin is not None
        begin = self.found[-1]["strength"] if self.found else self.framework.strength
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="with all strengths")  # it is in the record
            try:
                found = continual_hyperparameters(
                    strategy,
                    experience,
                    self.held_out[experience.current_experience],
                    set_strength=self.method.set_strength if choosing else None,
                    strength=begin if choosing else None,
                    learning_rates=self.framework.learning_rates,
                    drop_margin=self.framework.drop_margin,
                    decay=self.framework.decay,
                    max_trials=self.framework.max_trials,
                )
            except DivergedError:
                return False
        record = asdict(found)
        for trial in record["trials"]:
            trial["accuracy"] = None if math.isnan(trial["accuracy"]) else trial["accuracy"]
        self.found.append(record)
        return True


@dataclass(frozen=True)
class FrameworkOutcome(Outcome):
    """An outcome that also says what was chosen for each experience."""

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Also print a table of λ, append it to ``table.md``, and save ``hyperparameters.csv``."""
        files = super().write(folder, console, origin)
        lines = []
        for benchmark in dict.fromkeys(cell.benchmark for cell in self.tests):
            table = strengths_table(self.tests, benchmark)
            title = f"{benchmark} digits: λ of each experience"
            print_table(table, title, console)
            lines += [f"**{title}**", "", *markdown_rows(table), ""]
        console.print(CAPTION, style="dim")
        with (folder / "table.md").open("a", encoding="utf-8") as report:
            report.write("\n".join(["", *lines, CAPTION, ""]))
        chosen_table(self.tests).to_csv(folder / "hyperparameters.csv", index=False)
        return [*files, folder / "hyperparameters.csv"]


def chosen_table(tests: Mapping[Cell, Result]) -> pd.DataFrame:
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


def strengths_table(tests: Mapping[Cell, Result], benchmark: str) -> pd.DataFrame:
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


def remarks(framework: Framework, tests: Mapping[Cell, Result]) -> list[str]:
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
