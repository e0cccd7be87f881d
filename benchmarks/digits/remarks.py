"""Sentences under a table, each read off from the runs that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt
from statistics import fmean, variance

from ..training.result import StreamResult
from .cell import DigitsCell


def lambda_effect(
    results: Mapping[DigitsCell, StreamResult], low: DigitsCell, high: DigitsCell, none: DigitsCell
) -> str:
    """Say whether two λ of a method lead to the same weights, bit by bit.

    :param results: the results of the three cells.
    :param low: a cell of the method with a small λ.
    :param high: the same with a large λ.
    :param none: the same with plain finetuning.
    """
    weights = [results[cell].weights_sha256 for cell in (low, high, none)]
    return (
        f"{low.benchmark}: {low.method} on CPU: final weights "
        f"{_alike(weights[0], weights[1])} for λ = {low.lam:g} and λ = {high.lam:g}; "
        f"those for λ = {low.lam:g} and of finetuning are {_alike(weights[0], weights[2])} "
        f"(seed {low.seed})."
    )


def _alike(a: str, b: str) -> str:
    return "identical" if a == b else "different"


def forgets_less(results: Mapping[DigitsCell, StreamResult], method: str, other: str) -> list[str]:
    """Compare the forgetting of two methods seed by seed, a sentence for each benchmark.

    :param results: cells of both methods, with equal seeds.
    :param method: the one that should forget less.
    :param other: the one that should forget more.
    """
    sentences = []
    for benchmark in dict.fromkeys(cell.benchmark for cell in results):
        drops = {
            (cell.method, cell.seed): result.forgetting
            for cell, result in results.items()
            if cell.benchmark == benchmark and result.forgetting is not None
        }
        gains = {
            seed: 100 * (drops[other, seed] - drop)
            for (name, seed), drop in drops.items()
            if name == method and (other, seed) in drops
        }
        if not gains:
            continue  # one of the two was not run
        listed = ", ".join(f"{gain:.1f} (seed {seed})" for seed, gain in gains.items())
        sentences.append(
            f"{benchmark}: {method} forgets less than {other} on "
            f"{sum(gain > 0 for gain in gains.values())} of {len(gains)} seeds; "
            f"difference in points: {listed}."
        )
    return sentences


def accuracy_gap(pairs: Iterable[tuple[Mapping[DigitsCell, StreamResult], ...]]) -> list[str]:
    """Say by how much one row's final accuracy is above another's, and which pair differs most.

    :param pairs: the runs of two rows each. The difference is the first's mean minus the second's,
        and its unit the root of the mean of their variances over the seeds.
    """
    sentences, gaps = [], []
    for pair in pairs:
        a, b = ([100 * run.final_accuracy for run in row.values()] for row in pair)
        first, second = (next(iter(row)).label for row in pair)
        gap = fmean(a) - fmean(b)
        text = f"{first} minus {second}: {gap:+.1f} points of final accuracy"
        if len(a) > 1:
            deviation = sqrt((variance(a) + variance(b)) / 2)
            units = abs(gap) / deviation if deviation else float("inf") if gap else 0.0
            gaps.append((units, text))
            text += f", {units:.1f} standard deviations over the seeds"
        sentences.append(f"{text}.")
    if gaps:
        units, text = max(gaps)
        sentences.append(f"The largest difference, in standard deviations, is {units:.1f}: {text}.")
    return sentences


def first_experience_kept(
    results: Mapping[DigitsCell, StreamResult], tolerance: float
) -> list[str]:
    """Say how many runs of each row still know the first experience, and how many diverged.

    :param results: runs of any rows with one λ.
    :param tolerance: the accuracy that may be lost and still count as kept.
    """
    sentences = []
    for label in dict.fromkeys(cell.label for cell in results):
        runs = {cell: result for cell, result in results.items() if cell.label == label}
        ends = [(r.accuracy[0][0] or 0.0, r.accuracy[-1][0] or 0.0) for r in runs.values()]
        learned, kept = (100 * fmean(part) for part in zip(*ends, strict=True))
        sentences.append(
            f"λ = {next(iter(runs)).lam:g}, {label}: accuracy on experience 1 goes from "
            f"{learned:.1f} to {kept:.1f} %; kept within {100 * tolerance:g} points on "
            f"{sum(before - after <= tolerance for before, after in ends)} of {len(ends)} seeds, "
            f"diverged on {sum(run.diverged for run in runs.values())}."
        )
    return sentences
