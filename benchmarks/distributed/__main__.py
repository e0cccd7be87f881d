"""The command of this package; it imports torch and Avalanche only to work, not to give help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..runs.silence import silence_libraries

if TYPE_CHECKING:
    from .show import Shown


def main(
    epochs: Annotated[int, typer.Option(min=1, help="Of training on each of five tasks.")] = 2,
    hidden: Annotated[int, typer.Option(min=1, help="Units of each hidden layer.")] = 1000,
) -> None:
    """Show that several processes learn and measure what one does."""
    silence_libraries()
    from .show import joined, show

    with joined() as (device, rank):
        shown = show(epochs, hidden, device)
        if rank == 0:
            Console().print(_table(shown))


def _table(shown: Shown) -> Table:
    table = Table("", f"{shown.processes} processes, {shown.device}", title="MAS on split digits")
    table.add_row("weights and Ω after training", "same bits" if shown.same_bits else "DIFFERENT")
    table.add_row("images measured", f"{shown.images:,}")
    table.add_row("Ω, one process", f"{shown.seconds_alone:.2f} s")
    table.add_row("Ω, all together", f"{shown.seconds_together:.2f} s")
    table.add_row("largest relative difference", f"{shown.difference:.1e}")
    return table


if __name__ == "__main__":
    typer.run(main)
