"""The table of the experiment on deployment, sentences read off it, and its plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avalanche_mas.evaluation import plots

from ..report.formatter import listed, spread
from ..report.writer import Part, Report, Table
from .cell import EVERYTHING, DeploymentCell, DeploymentResult, DeploymentSettings, name_of

LEGEND = (
    "In %, mean ± standard deviation over the seeds ({seeds}), on test images of the first task "
    "after {tasks} further tasks. Changed: ‖F_after − F_before‖ / ‖F_before‖ of its outputs. "
    "Accuracy: on the digits named, among all ten. Further tasks: mean accuracy on each just after "
    "it was learnt. Ω of all digits is measured on the training images, Ω of two digits on images "
    "of them that the network has not been trained on. λ is not chosen: all are shown."
)
_Digits = tuple[int, ...] | None  # None: nothing is protected
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "marker": "o"},
    {"color": "#E69F00", "marker": "s"},
)
_ALL: dict[str, Any] = {"color": "#000000", "marker": "x", "linestyle": "--"}


@dataclass(frozen=True)
class DeploymentReport(Report):
    """What was measured as images arrived, and after further tasks."""

    settings: DeploymentSettings
    arriving: Sequence[DeploymentResult]
    keeping: Mapping[DeploymentCell, DeploymentResult]

    def parts(self, origin: str) -> Iterator[Part]:
        """The table, the legend and the remarks."""
        used = self.settings.used
        rows = []
        for digits, lam in [*product((EVERYTHING, *used), self.settings.lambdas), (None, 0.0)]:
            row = {"Ω of": name_of(digits) if digits else "finetuning", "λ": f"{lam:g}"}
            for what, measured in (("changed", "changed"), ("accuracy", "after")):
                row |= {
                    f"{what}, {name_of(u)}": spread(self.of(digits, lam, measured, u)) for u in used
                }
            rows.append({**row, "further tasks": spread(self.further(digits, lam))})
        yield Table("what is kept of the first task", pd.DataFrame(rows))
        seeds, tasks = listed(self.settings.seeds), self.settings.further_tasks
        yield LEGEND.format(seeds=seeds, tasks=tasks)
        yield [*self.remarks(), origin]

    def draw(self, folder: Path) -> list[Path]:
        """What adaptation gains, and Ω as images arrive."""
        picture = folder / f"{folder.name}.png"
        with plots.style():
            figure = Figure(figsize=(plots.PAGE, 2.7))
            left, right = figure.subplots(1, 2)
            self.draw_gains(left)
            self.draw_arriving(right)
            figure.savefig(picture)
        return [picture]

    def of(self, digits: _Digits, lam: float, measured: str, on: tuple[int, ...]) -> list[float]:
        """What was measured on some test images with Ω of ``digits``, for each seed, in %."""
        return [100 * getattr(r, measured)[name_of(on)] for r in self._runs(digits, lam)]

    def further(self, digits: _Digits, lam: float) -> list[float]:
        """Accuracy on further tasks with Ω of ``digits``, for each seed, in %."""
        return [100 * (result.further or 0.0) for result in self._runs(digits, lam)]

    def remarks(self) -> list[str]:
        """Where Ω moves, and whether what was used is kept better."""
        learnt = listed(
            f"{name_of(u)} {spread([100 * r.before[name_of(u)] for r in self.arriving])}"
            for u in self.settings.used
        )
        found = [f"Accuracy on the first task before any further one (%): {learnt}."]
        for number, digits in enumerate(self.settings.used):
            correlations = listed(
                f"{name} {np.mean([self._at_end(r, name, number) for r in self.arriving]):.3f}"
                for name in self.arriving[0].rank_correlation
            )
            found.append(
                f"After use on {name_of(digits)}: rank correlation of Ω so far with Ω of "
                f"{correlations}."
            )
        cases = list(product(self.settings.used, self.settings.lambdas))
        gains = {
            "Outputs for what was used change less": [
                np.mean(self.of(EVERYTHING, lam, "changed", u))
                - np.mean(self.of(u, lam, "changed", u))
                for u, lam in cases
            ],
            "Accuracy on what was used is higher": [
                np.mean(self.of(u, lam, "after", u)) - np.mean(self.of(EVERYTHING, lam, "after", u))
                for u, lam in cases
            ],
            "Further tasks are learnt better": [
                np.mean(self.further(u, lam)) - np.mean(self.further(EVERYTHING, lam))
                for u, lam in cases
            ],
        }
        for what, by in gains.items():
            found.append(
                f"{what} with Ω of the use than with Ω of all digits, at the same λ, in "
                f"{sum(gain > 0 for gain in by)} of {len(by)} cases; mean gain {np.mean(by):+.2f} "
                "points."
            )
        return found

    def draw_arriving(self, ax: Axes) -> None:
        """Rank correlations as samples arrive: a line for the mean, a band for all seeds."""
        plots.tidy(ax)
        for (name, look), number in zip(self._looks().items(), (0, 1, 2), strict=False):
            lines = np.array([result.rank_correlation[name] for result in self.arriving])
            seen = np.mean([result.seen for result in self.arriving], axis=0)
            every: dict[str, Any] = {"markevery": (2 * number, 6)}
            ax.plot(seen, lines.mean(axis=0), label=f"Ω of {name}", **look, **every)
            ax.fill_between(seen, lines.min(0), lines.max(0), color=look["color"], alpha=0.15, lw=0)
        switch = self.arriving[0].ends[0]
        ax.axvline(switch, color="#999999", linewidth=0.8)
        first, second, *_ = map(name_of, self.settings.used)
        ax.set_title(f"used on {first}, then on {second}")
        ax.set_xlabel("images seen in use")
        ax.set_ylabel("rank correlation with Ω so far")
        ax.legend()

    def draw_gains(self, ax: Axes) -> None:
        """What Ω of the use gains over Ω of all digits at the same λ, mean over the uses."""
        plots.tidy(ax)
        at = np.arange(len(self.settings.lambdas))
        gains = {
            f"accuracy on {self.settings.further_tasks} further tasks": self.further_gains,
            "accuracy on what was used": self.used_gains,
        }
        for number, (name, gain) in enumerate(gains.items()):
            found = np.array([gain(lam) for lam in self.settings.lambdas])
            bars = found.std(axis=1, ddof=1) if found.shape[1] > 1 else None
            line = {**_LOOKS[number], "capsize": 2}
            ax.errorbar(at + 0.1 * number - 0.05, found.mean(axis=1), bars, label=name, **line)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xticks(at, [f"{lam:g}" for lam in self.settings.lambdas])
        ax.set_title("what Ω of the use gains over Ω of all digits")
        ax.set_xlabel("λ")
        ax.set_ylabel("gain (points)")
        ax.margins(y=0.25)  # for the legend
        ax.legend(loc="upper left")

    def further_gains(self, lam: float) -> list[float]:
        """How much better further tasks are learnt with Ω of the use, for each seed, in points."""
        uses = [self.further(used, lam) for used in self.settings.used]
        return list(np.mean(uses, axis=0) - self.further(EVERYTHING, lam))

    def used_gains(self, lam: float) -> list[float]:
        """How much better what was used is kept with Ω of it, for each seed, in points."""
        gains = [
            np.subtract(self.of(used, lam, "after", used), self.of(EVERYTHING, lam, "after", used))
            for used in self.settings.used
        ]
        return list(np.mean(gains, axis=0))

    def _looks(self) -> dict[str, dict[str, Any]]:
        own = {name_of(u): look for u, look in zip(self.settings.used, _LOOKS, strict=False)}
        return {**own, name_of(EVERYTHING): _ALL}

    def _runs(self, digits: _Digits, lam: float) -> list[DeploymentResult]:
        used = () if digits is None else (digits,)
        return [r for cell, r in self.keeping.items() if (cell.used, cell.lam) == (used, lam)]

    @staticmethod
    def _at_end(result: DeploymentResult, name: str, use: int) -> float:
        return result.rank_correlation[name][result.seen.index(result.ends[use])]
