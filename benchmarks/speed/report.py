"""From figures to tables: on the screen, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from . import deployment, layers
from .clock import Spread, by_round, spread
from .estimation import FIRST, FLOOR, FLOOR_BESIDE, OURS, WAYS, floor_of
from .machine import facts, sentence
from .memory import PARAMETERS
from .networks import NETWORKS
from .penalty import BATCH, COPY, COPY_STREAMS, NONE, PLUGINS, STREAMS, network_for
from .rows import Settings

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
        f" that one in milliseconds. A timing is {deployment.BATCHES} batches, after which the "
        "importance is up to date."
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
                column[way] = _ratio(spread(times[way] / times[floor_of(way)]))
                if way in OURS and (note := _note(own, way)):
                    column[way] += f"; {note}"
            else:
                column[way] = _refusal(own, way)
        first = (times[FIRST] - times["exact"]) / times[FLOOR]
        column["exact, first batch: adds"] = _ratio(spread(first))
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
                "adds (ms)": _number(spread(1e3 * added)),
                "÷ bandwidth floor": _ratio(spread(added / floor)),
                "÷ Avalanche MASPlugin's": _ratio(spread(added / theirs)),
                "whole step ÷ without": _ratio(spread(steps[way] / steps[NONE])),
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
    """Ways down, networks across."""
    sections = _by_section(rows)
    return _table(
        {NETWORKS[name].title: _against(deployment.PLAIN, by_round(own)) for name, own in sections}
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
    """Every figure as median and quartiles over its rounds, in seconds or bytes."""
    keys = ["part", "section", "way", "x"]
    lines = []
    for key, own in rows.groupby(keys, sort=False):
        values = own["value"].dropna()
        figures = spread(values) if len(values) else Spread(*[float("nan")] * 3)
        unit = "bytes" if key[0] == "memory" else "seconds"
        lines.append(
            dict(zip(keys, key, strict=True))
            | {
                "unit": unit,
                **figures._asdict(),
                "rounds": len(values),
                "note": own["note"].iloc[0],
            }
        )
    return pd.DataFrame(lines)


def write_report(rows: pd.DataFrame, settings: Settings, folder: Path, console: Console) -> None:
    """Print the tables, and save them as ``table.md`` and ``table.csv``.

    :param rows: what was measured so far, of any parts.
    :param settings: what it was measured with.
    :param folder: where the files go.
    """
    lines = []
    for title, table, legend in _tables(rows, settings.quick):
        console.print(_rich_table(table, title))
        console.print(legend, style="dim")
        lines += [f"**{title}**", "", *_markdown_rows(table), "", legend, ""]
    notes = [*remarks(rows), f"Made with {sentence(facts(settings))}."]
    for note in notes:
        console.print(f"• {note}")
    lines += [*(f"- {note}" for note in notes), ""]
    (folder / "table.md").write_text("\n".join(lines), encoding="utf-8")
    summary(rows).to_csv(folder / "table.csv", index=False, float_format="%.6g")


def _tables(rows: pd.DataFrame, quick: bool) -> Iterator[tuple[str, pd.DataFrame, str]]:
    parts = {str(part): own for part, own in rows.groupby("part")}
    if "estimation" in parts:
        yield "Time per sample", estimation_table(parts["estimation"]), LEGENDS["estimation"]
    if "layers" in parts:
        yield "Σ|g| of one layer", layers_table(parts["layers"]), LEGENDS["layers"]
    if "penalty" in parts:
        for pages, own in _by_section(parts["penalty"]):
            title = f"A training step on {NETWORKS[network_for(quick)].title}, B={BATCH}, {pages}"
            yield title, penalty_table(own), LEGENDS["penalty"]
    if "memory" in parts:
        yield "Peak memory", memory_table(parts["memory"]), LEGENDS["memory"]
    if "deployment" in parts:
        table = deployment_table(parts["deployment"])
        yield "Watched inference", table, LEGENDS["deployment"]


def _by_section(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for section, own in rows.groupby("section", sort=False):
        yield str(section), own


def _against(plain: str, times: pd.DataFrame) -> dict[str, str]:
    """The time of one way, and what the others take of it."""
    first = times.pop(plain)
    others = {str(way): _ratio(spread(times[way] / first)) for way in times}
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


def _ratio(figures: Spread) -> str:
    return "{:.2f} ({:.2f}-{:.2f})".format(*figures)


def _number(figures: Spread) -> str:
    return "{:.1f} ({:.1f}-{:.1f})".format(*figures)


def _rich_table(frame: pd.DataFrame, title: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(frame.columns):
        table.add_column(str(column), justify="right" if number else "left")
    for row in frame.itertuples(index=False):
        table.add_row(*row)
    return table


def _markdown_rows(frame: pd.DataFrame) -> list[str]:
    ruler = [":--", *["--:"] * (len(frame.columns) - 1)]
    rows = [list(frame.columns), ruler, *frame.values.tolist()]
    return [f"| {' | '.join(row)} |" for row in rows]
