"""Prints what an experiment found, and saves it as Markdown, CSV and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pandas as pd
from rich import table
from rich.console import Console


@dataclass(frozen=True)
class Table:
    """A table of text.

    :param title: what it shows; empty if its page says so.
    :param frame: the text.
    :param left: the columns that are aligned to the left.
    :param lines: whether rows are separated by lines on the screen, for long text.
    """

    title: str
    frame: pd.DataFrame
    left: Sequence[str] = ("method",)
    lines: bool = False

    def screen(self) -> table.Table:
        """The table as Rich prints it."""
        shown = table.Table(title=self.title or None, show_lines=self.lines)
        for i, column in enumerate(self.frame.columns):
            shown.add_column(
                str(column), justify="left" if column in self.left else "right", no_wrap=not i
            )
        for row in self.frame.itertuples(index=False):
            shown.add_row(*row)
        return shown

    def markdown(self) -> str:
        """The table as Markdown."""
        ruler = [":--" if column in self.left else "--:" for column in self.frame.columns]
        rows = [list(self.frame.columns), ruler, *self.frame.values.tolist()]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([f"**{self.title}**", "", *lines] if self.title else lines)


Part: TypeAlias = Table | str | list[str]
"""A table, a paragraph such as a legend, or a list of remarks."""


class Report:
    """What there is to see of an experiment."""

    def parts(self, origin: str) -> Iterable[Part]:
        """All that is printed and saved as ``table.md``, in this order.

        :param origin: a sentence on what made the results.
        """
        raise NotImplementedError

    def data(self) -> pd.DataFrame:
        """What is saved as ``table.csv``: the tables, one below the other."""
        tables = [part for part in self.parts("") if isinstance(part, Table)]
        return pd.concat([one.frame.assign(table=one.title) for one in tables])

    def draw(self, folder: Path) -> list[Path]:
        """Save pictures.

        :param folder: where they go; those of one experiment are called after it.
        :return: the files.
        """
        return []

    def write(self, folder: Path, console: Console, origin: str) -> list[Path]:
        """Print the parts, and save them, the data and the pictures.

        :param folder: where the files go.
        :param console: where the parts are printed.
        :param origin: a sentence on what made the results.
        :return: the files.
        """
        blocks = []
        for part in self.parts(origin):
            if isinstance(part, Table):
                console.print(part.screen())
                blocks.append(part.markdown())
            elif isinstance(part, str):
                console.print(part, style="dim", markup=False)
                blocks.append(part)
            elif part:
                for remark in part:
                    console.print(f"• {remark}", markup=False)
                blocks.append("\n".join(f"- {remark}" for remark in part))
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "table.md", folder / "table.csv"]
        files[0].write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
        self.data().to_csv(files[1], index=False)
        return [*files, *self.draw(folder)]
