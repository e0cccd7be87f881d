"""Sentences under a table, each read off from the runs that made it."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.cell import Cell, Result


def lambda_effect(results: Mapping[Cell, Result], low: Cell, high: Cell, none: Cell) -> str:
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


def forgets_less(results: Mapping[Cell, Result], method: str, other: str) -> list[str]:
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
            if name == method
        }
        listed = ", ".join(f"{gain:.1f} (seed {seed})" for seed, gain in gains.items())
        sentences.append(
            f"{benchmark}: {method} forgets less than {other} on "
            f"{sum(gain > 0 for gain in gains.values())} of {len(gains)} seeds; "
            f"difference in points: {listed}."
        )
    return sentences
