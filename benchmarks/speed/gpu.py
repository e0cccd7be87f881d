"""``python -m benchmarks speed --gpu``: the engine on a GPU, within eight minutes.

It needs torch, torchvision, numpy and pandas alone, so that it runs on a bare machine, and writes
its table after every network. Only Avalanche's own loop is left out where Avalanche is missing.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch

from . import deployment
from .clock import by_round, interleave, quartiles
from .estimation import EXACT, FIRST, FLOOR, WAYS, check
from .machine import facts, sentence
from .networks import NETWORKS, Case, make_case
from .rows import Refused, Row, SpeedSettings

PATIENCE = 400.0
"""Seconds after which no further network is begun."""

TRIAL = ("mlp", "small-cnn", "bert")
"""What is tried on a CPU, in miniature."""

AVALANCHE = "Avalanche MASPlugin"
_LEFT_OUT = "vector output", "Opacus", "BackPACK", "exact, in quarters of the batch"


def main(arguments: Sequence[str]) -> int:
    """Measures all networks, and prints and writes a table of ratios to forward and backward.

    :param arguments: of the command line, after ``speed``.
    :return: the exit code: 1 without CUDA, or if a way of ours is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks speed --gpu", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="this part of the suite")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=0, help="5 on a GPU, 1 in a trial")
    parser.add_argument("--model", action="append", choices=tuple(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path("results/speed-gpu"))
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("--gpu needs CUDA, and torch finds none here: try --gpu --device cpu")
        return 1
    trial = given.device == "cpu"
    if trial:
        torch.set_num_threads(1)
    settings = SpeedSettings(given.rounds or (1 if trial else 5), 1, given.device, trial)
    networks = given.model or (TRIAL if trial else tuple(NETWORKS))
    started, lines, wrong = time.monotonic(), list[dict[str, str]](), False
    for network in networks:
        if time.monotonic() - started > PATIENCE:
            print(f"no time is left for {network}")
            continue
        line = measure(network, settings)
        lines.append(line)
        wrong |= any(line.get(way, "").startswith("wrong") for way in ("exact", "l-MAS"))
        print(line, flush=True)
        write(given.out, lines, facts(settings))
    return int(wrong)


def measure(network: str, settings: SpeedSettings) -> dict[str, str]:
    """One line of the table."""
    case = make_case(network, settings.device, settings.quick)
    line, calls, samples = {"network": NETWORKS[network].title}, {}, {}
    for way, make in WAYS.items():
        missing = way == AVALANCHE and find_spec("avalanche") is None
        if missing or way in _LEFT_OUT or way.endswith("beside others' ways"):
            continue
        try:
            ready = make(case)
            ready.call()  # what it cannot do shows here
            if way in EXACT:
                check(way, case)
            calls[way], samples[way] = ready.call, ready.samples
        except (Refused, RuntimeError) as error:  # such as too little memory
            line[way] = str(error).partition("\n")[0][:90]
    shortest = 0.02 if settings.quick else 0.1
    rows = [
        Row(way, number, seconds / samples[way])
        for number, way, seconds in interleave(calls, settings.rounds, shortest)
    ]
    times = by_round(pd.DataFrame(map(vars, rows)))
    line[FLOOR] = f"{1e3 * len(case.x) * times[FLOOR].median():.3g} ms"
    for way in times.columns.drop(FLOOR):
        line[way] = "{:.2f} ({:.2f}-{:.2f})".format(*quartiles(times[way] / times[FLOOR]))
    if settings.device == "cuda":
        line["waits in a batch"] = str(count_waits(calls["exact"]))
        for way in (FLOOR, "exact"):
            line[f"peak, {way}"] = f"{peak(calls[way]) / 1e6:.0f} MB"
    if network == "mlp":
        line |= watched(case, settings)
    return line


def watched(case: Case, settings: SpeedSettings) -> dict[str, str]:
    """Inference of calls of 1, 8 and 32 samples that is watched, over the same unwatched."""
    line = {}
    for size in deployment.BATCH_SIZES[:1] if settings.quick else deployment.BATCH_SIZES:
        few = replace(case, x=case.x[:size])
        samples = 2 * size if settings.quick else 2560
        calls = {way: make(few, samples) for way, make in deployment.WAYS.items()}
        found = interleave(calls, settings.rounds, 0.01)
        times = by_round(pd.DataFrame([vars(Row(way, k, t)) for k, way, t in found]))
        for way in times.columns.drop(deployment.PLAIN):
            ratio = (times[way] / times[deployment.PLAIN]).median()
            line[f"watched, B={size}: {way}"] = f"{ratio:.2f}"
    return line


def count_waits(call: Callable[[], object]) -> int:
    """How often the CPU waits for the GPU in a call of which all has been planned."""
    call()
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def peak(call: Callable[[], object]) -> int:
    """Bytes of the GPU's memory that a call needs at once, beside what was there before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def write(folder: Path, lines: list[dict[str, str]], made_with: dict[str, str]) -> None:
    """Writes what there is so far as ``table.csv`` and ``table.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(lines).set_index("network").T.fillna("")
    table.to_csv(folder / "table.csv", index_label="way")
    text = [
        "# Speed on a GPU" if "GPU" in made_with else "# A trial on a CPU, in miniature",
        "",
        "Time per sample over that of a plain forward and backward pass: median (quartiles). "
        f"*{FIRST}* has planning and checks in it.",
        "",
        f"| way | {' | '.join(table.columns)} |",
        f"| :-- |{' --: |' * len(table.columns)}",
        *(f"| {way} | {' | '.join(map(str, row))} |" for way, *row in table.itertuples()),
        "",
        f"Made with {sentence(made_with)}.",
    ]
    (folder / "table.md").write_text("\n".join(text) + "\n", encoding="utf-8")
