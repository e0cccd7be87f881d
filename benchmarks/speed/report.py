"""The tables of what importance and penalty cost, and sentences on how it was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..report.writer import Part, Report, Table
from . import deployment, layers
from .clock import Quartiles, by_round, quartiles
from .estimation import FIRST, FLOOR, FLOOR_BESIDE, OURS, WAYS, floor_of
from .memory import PARAMETERS
from .networks import NETWORKS
from .penalty import BATCH, COPY, COPY_STREAMS, NONE, PLUGINS, STREAMS, network_for
from .plot import plot_costs, plot_growth

LEGENDS = {
    "estimation": (
        "Median (quartiles) of time per sample over that of a plain forward and backward pass over "
        "the same batch in the same round and process; the first line gives that pass in "
        "milliseconds. The last four ways have a process, and a floor, of their own. 'First "
        "batch' is what planning and checking add once to an estimate, in units of such passes "
        "over a batch. Avalanche's loop is not exact: it is what MASPlugin of avalanche-lib does."
    ),
    "layers": (
        "Median (quartiles) of the time to add Σ|g| of a layer's samples to Ω, over the time it "
        "takes with torch.mm in the same round; the first line gives that one in milliseconds per "
        "sample. The convolution is a product with the patches of its input, where it is not asked "
        "for its own backward pass."
    ),
    "penalty": (
        "Median (quartiles) over the rounds of what a plugin adds to a training step of "
        "Avalanche's Naive with SGD and momentum, everything included: the penalty's value in the "
        "loss, and its effect on the parameters. The bandwidth floor is the time of five passes "
        "over the parameters (read θ, θ*, Ω and the gradient, write the gradient) at the speed of "
        "a copy in the same round."
    ),
    "memory": (
        "Peak memory above the loaded network, data and code in MB, and over that of a plain "
        "forward and backward pass. Importance is included. The loop, vmap, Opacus and BackPACK "
        "are given no more than a few samples, as many as the remarks say."
    ),
    "deployment": (
        "Median (quartiles) of time per sample of inference under torch.inference_mode that is "
        "watched, over that of the same inference unwatched in the same round; the first line gives"
        " that one in milliseconds. A timing is as many calls as it takes until a group of "
        "samples is measured, so that it holds all that watching costs."
    ),
}


def estimation_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Ways down, networks across."""
    columns = {}
    for network, own in _by_section(rows):
        times = by_round(own)
        column = {FLOOR: f"{1e3 * times[FLOOR].median():.3g} ms"}
        for way in WAYS:
            if way in (FLOOR, FLOOR_BESIDE, FIRST):
                continue
            if way in times:
                column[way] = _ratio(quartiles(times[way] / times[floor_of(way)]))
                if way in OURS and (note := _note(own, way)):
                    column[way] += f"; {note}"
            else:
                column[way] = _refusal(own, way)
        first = (times[FIRST] - times["exact"]) / times[FLOOR]
        column["exact, first batch: adds"] = _ratio(quartiles(first))
        columns[NETWORKS[network].title] = column
    return _table(columns)


def penalty_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Plugins down; one table for each way that memory is allocated."""
    steps = by_round(rows)
    floor = STREAMS / COPY_STREAMS * steps[COPY]
    theirs = steps["Avalanche MASPlugin"] - steps[NONE]
    lines = []
    for way in PLUGINS:
        if way == NONE:
            continue
        added = steps[way] - steps[NONE]
        lines.append(
            {
                "plugin": way,
                "adds (ms)": _number(quartiles(1e3 * added)),
                "÷ bandwidth floor": _ratio(quartiles(added / floor)),
                "÷ Avalanche MASPlugin's": _ratio(quartiles(added / theirs)),
                "whole step ÷ without": _ratio(quartiles(steps[way] / steps[NONE])),
            }
        )
    return pd.DataFrame(lines)


def memory_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Ways down, networks and batch sizes across."""
    columns = {}
    for section, own in _by_section(rows):
        network, _, batch = section.partition(", ")
        peaks = own.set_index("way")["value"]
        floor = peaks[FLOOR]
        column = {PARAMETERS: f"{peaks[PARAMETERS] / 1e6:.0f}"}
        for way in WAYS:
            if way in peaks and pd.notna(peaks[way]):
                column[way] = f"{peaks[way] / 1e6:.0f} ({peaks[way] / floor:.2f}×)"
            else:
                column[way] = _refusal(own, way)
        columns[f"{NETWORKS[network].title}, {batch}"] = column
    return _table(columns)


def layers_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Ways down, layers across."""
    sections = _by_section(rows)
    return _table(
        {layers.LAYERS[name].title: _against(layers.MM, by_round(own)) for name, own in sections}
    )


def deployment_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Ways down, networks and batch sizes across."""
    sections = _by_section(rows)
    return _table(
        {_titled(name): _against(deployment.PLAIN, by_round(own)) for name, own in sections}
    )


def remarks(rows: pd.DataFrame) -> list[str]:
    """How each way was altered, and how many samples it was given, network by network."""
    noted = rows[rows["part"].isin(["estimation", "memory"]) & rows["value"].notna()]
    noted = noted[(noted["note"] != "") & ~noted["way"].isin(OURS)]
    if noted.empty:
        return []
    noted = noted.assign(network=noted["section"].str.partition(", ")[0])
    found = []
    for way, own in noted.groupby("way", sort=False):
        notes = own.drop_duplicates(["network", "note"])[["network", "note"]]
        each = [f"{NETWORKS[network].title}: {note}" for network, note in notes.values.tolist()]
        found.append(f"{way}. {'. '.join(each)}.")
    return found


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Every figure as median and quartiles over its rounds, in seconds or bytes, as text."""
    keys = ["part", "section", "way", "x"]
    lines = []
    for key, own in rows.groupby(keys, sort=False):
        values = own["value"].dropna()
        figures = quartiles(values)._asdict() if len(values) else {}
        lines.append(
            {
                name: f"{part:g}" if name == "x" else part
                for name, part in zip(keys, key, strict=True)
            }
            | {"unit": "bytes" if key[0] == "memory" else "seconds"}
            | {name: f"{figures[name]:.6g}" if figures else "" for name in Quartiles._fields}
            | {"rounds": len(values), "note": own["note"].iloc[0]}
        )
    return pd.DataFrame(lines)


@dataclass(frozen=True)
class SpeedReport(Report):
    """What was measured so far, of any parts.

    :param rows: every timing and every peak.
    :param quick: whether it was measured on tiny sizes.
    """

    rows: pd.DataFrame
    quick: bool

    def parts(self, origin: str) -> Iterator[Part]:
        """Each table with its legend, then the remarks."""
        parts = {str(part): own for part, own in self.rows.groupby("part")}
        if "estimation" in parts:
            table = estimation_table(parts["estimation"])
            yield from _explained("estimation", "Time per sample", table)
        if "layers" in parts:
            yield from _explained("layers", "Σ|g| of one layer", layers_table(parts["layers"]))
        if "penalty" in parts:
            network = NETWORKS[network_for(self.quick)].title
            for pages, own in _by_section(parts["penalty"]):
                title = f"A training step on {network}, B={BATCH}, {pages}"
                yield from _explained("penalty", title, penalty_table(own))
        if "memory" in parts:
            yield from _explained("memory", "Peak memory", memory_table(parts["memory"]))
        if "deployment" in parts:
            table = deployment_table(parts["deployment"])
            yield from _explained("deployment", "Watched inference", table)
        yield [*remarks(self.rows), origin]

    def data(self) -> pd.DataFrame:
        """Every figure as median and quartiles."""
        return summary(self.rows)

    def draw(self, folder: Path) -> list[Path]:
        """Costs side by side, and how they grow, of the parts that were measured."""
        pictures = {"speed.png": plot_costs, "growth.png": plot_growth}
        return [folder / name for name, plot in pictures.items() if plot(self.rows, folder / name)]


def _explained(part: str, title: str, table: pd.DataFrame) -> tuple[Table, str]:
    return Table(title, table, left=("way", "plugin")), LEGENDS[part]


def _by_section(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for section, own in rows.groupby("section", sort=False):
        yield str(section), own


def _titled(section: str) -> str:
    network, comma, rest = section.partition(",")
    return NETWORKS[network].title + comma + rest


def _against(plain: str, times: pd.DataFrame) -> dict[str, str]:
    """The time of one way, and what the others take of it."""
    first = times.pop(plain)
    others = {str(way): _ratio(quartiles(times[way] / first)) for way in times}
    return {plain: f"{1e3 * first.median():.3g} ms"} | others


def _table(columns: dict[str, dict[str, str]]) -> pd.DataFrame:
    table = pd.DataFrame(columns).fillna("-")
    table = table[(table != "-").any(axis="columns")]
    return table.rename_axis("way").reset_index()


def _note(rows: pd.DataFrame, way: str) -> str:
    """What was noted of a way; nothing if it was not tried."""
    return str(next(iter(rows.loc[rows["way"] == way, "note"]), ""))


def _refusal(rows: pd.DataFrame, way: str) -> str:
    note = _note(rows, way)
    if not note:
        return "-"
    return note if note.startswith(("incomplete", "not installed")) else f"refused: {note}"


def _ratio(figures: Quartiles) -> str:
    return "{:.2f} ({:.2f}-{:.2f})".format(*figures)


def _number(figures: Quartiles) -> str:
    return "{:.1f} ({:.1f}-{:.1f})".format(*figures)
