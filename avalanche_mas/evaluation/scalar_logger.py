"""A logger that keeps every number of every metric, in one CSV file."""

import csv
import os
from pathlib import Path
from typing import Any

from avalanche.logging import BaseLogger


class ScalarCSVLogger(BaseLogger):  # type: ignore[misc]
    """Writes a row ``iteration,name,value`` for every number that a metric emits.

    Avalanche's ``CSVLogger`` writes accuracy, loss and forgetting, drops all other metrics, and
    begins its files anew when a run resumes. This one appends each row as it comes, also to a file
    that exists. A run that resumes from a checkpoint repeats the rows after it: keep the last. ::

        table = pandas.read_csv(path).drop_duplicates(["iteration", "name"], keep="last")
        table.pivot(index="iteration", columns="name", values="value").plot(subplots=True)

    Pictures, histograms and other values that are no numbers are left out.

    :param path: the file; its folder is made if it does not exist.
    :raises ValueError: if the file exists and is another table.
    """

    _HEADER = ("iteration", "name", "value")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or not self.path.stat().st_size:
            self._append(self._HEADER)
            return
        with self.path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file))
        if tuple(header) != self._HEADER:
            raise ValueError(
                f"{self.path} has the columns {', '.join(header)}, not {', '.join(self._HEADER)}: "
                "it is another table. Give another path"
            )

    def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
        """Append one number.

        :param name: the metric's, as in all loggers.
        :param value: what it emitted.
        :param x_plot: after how many training iterations.
        """
        if isinstance(value, (int, float)):
            self._append((x_plot, name, value))

    def _append(self, row: tuple[Any, ...]) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)
