"""The table of all networks that are measured, with what is wrong, refused or slow first."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from .measure import Row

LIMIT = 1e-8
"""Relative error in float64 that round-off explains."""
LIMIT_FLOAT32 = 1e-5
"""The same where the network computes in float32 itself."""
SLOW = 2.0
"""Forward and backward passes that a further batch may cost before it is called slow."""

VERDICTS = {
    "wrong": "Ω is off, and no error says so",
    "untrue": "Ω is right, but what is reported beside it is not, or the model was changed",
    "refused": "an error instead of Ω",
    "slow": f"right, at more than {SLOW:g} passes for a further batch",
    "exact": "right",
}

LEGEND = (
    "Random weights, small inputs, float64, eval mode. *Error*: the largest relative error of a "
    "parameter's Ω against a naive loop over single samples: the norm of the difference over that "
    f"of Ω. Round-off is below {LIMIT:g}, or {LIMIT_FLOAT32:g} in networks that compute in float32 "
    "themselves (marked f32). *Altered data*: the worst of three: blank samples first, unlike "
    "lengths or sizes, a last batch of one. *Rule, vmap, loop*: how parameters are measured, in "
    "percent; the rest is unused. *Cost*: time of a further batch over that of a plain forward and "
    "backward pass, both in turn in one process, the least of three each."
)

_PACKAGES = ("torch", "torchvision", "timm", "transformers", "peft")


def verdict(row: Row) -> str:
    """A key of :data:`VERDICTS`."""
    if _wrong(row):
        return "wrong"
    if row.reports:
        return "untrue"
    if row.refused:
        return "refused"
    return "slow" if row.cost is not None and row.cost > SLOW else "exact"


def remark(row: Row) -> str:
    """What there is to say of a network, in a few words."""
    wrong = [f"{data}: {row.where[data]} is off by {error:.1e}" for data, error in _wrong(row)]
    refused = [f"{tried}: {reason}" for tried, reason in row.refused.items()]
    return "; ".join([*wrong, *row.reports[:2], *refused, *row.fallbacks[:2]])


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One line for each network, as text; the worst first."""
    order = {name: k for k, name in enumerate(VERDICTS)}
    ranked = sorted(rows, key=lambda row: (order[verdict(row)], -(row.cost or 0.0)))
    return pd.DataFrame([_line(row) for row in ranked])


def write_report(rows: Sequence[Row], folder: Path) -> str:
    """Write ``table.md`` and ``table.csv``.

    :return: how many networks there are of each verdict, in a line.
    """
    lines = table(rows)
    counts = lines["verdict"].value_counts()
    summary = f"{len(rows)} networks: " + ", ".join(
        f"{counts[name]} {name}" for name in VERDICTS if name in counts
    )
    lines.to_csv(folder / "table.csv", index=False)
    shown = lines.map(lambda text: str(text).replace("|", "\\|").replace("\n", " "))
    ruler = [":--" if name in ("network", "verdict", "remark") else "--:" for name in shown]
    markdown = [
        f"**{summary}**",
        "",
        *(f"- {name}: {meaning}" for name, meaning in VERDICTS.items()),
        "",
        *(f"| {' | '.join(cells)} |" for cells in ([*shown], ruler, *shown.to_numpy(str))),
        "",
        LEGEND,
        "",
        f"Made with {', '.join(f'{package} {_version(package)}' for package in _PACKAGES)}.",
        "",
    ]
    (folder / "table.md").write_text("\n".join(markdown), encoding="utf-8")
    return summary


def _wrong(row: Row) -> list[tuple[str, float]]:
    """Data on which round-off does not explain the error, which may be NaN."""
    limit = LIMIT_FLOAT32 if row.casts else LIMIT
    return [(data, error) for data, error in row.errors.items() if not error <= limit]


def _line(row: Row) -> dict[str, str]:
    altered = [error for data, error in row.errors.items() if data != "as they are"]
    return {
        "network": f"{row.network} ({row.source})",
        "verdict": verdict(row),
        "parameters": f"{row.parameters:,}",
        "error": _scientific(row.errors.get("as they are")) + (" f32" if row.casts else ""),
        "altered data": _scientific(max(altered, default=None)),
        **{way: f"{100 * row.ways.get(way, 0):.0f}" for way in ("rule", "vmap", "loop")},
        "cost": "-" if row.cost is None else f"{row.cost:.2f}",
        "remark": remark(row),
    }


def _scientific(error: float | None) -> str:
    return "-" if error is None else f"{error:.0e}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
