"""λ as it was chosen for the published table: the table itself is where they are kept."""

from __future__ import annotations

import csv
from pathlib import Path

TABLE = Path(__file__).parents[1] / "results" / "digits" / "table.csv"


def chosen_lambdas(table: Path = TABLE) -> dict[tuple[str, str], float]:
    """Read λ by benchmark and method from a table's data.

    :param table: as :meth:`.DigitsReport.data` is saved; each of its rows is a run.
    :return: those of the methods that have one.
    """
    with table.open(encoding="utf-8", newline="") as file:
        return {
            (run["benchmark"], run["method"]): float(run["lambda"])
            for run in csv.DictReader(file)
            if run["lambda"]
        }
