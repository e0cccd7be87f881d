"""The table of all networks that are measured, with what is wrong, refused or slow first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from .measure import UNALTERED, Row

LIMIT = 1e-8
"""Relative error in float64 that round-off explains."""
LIMIT_FLOAT32 = 1e-5
"""The same where the network computes in float32 itself."""
SLOW = 2.0
"""Forward and backward passes that a further batch may cost before it is called slow."""

WAYS = ("rule", "vmap", "loop")

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
    "backward pass, both in turn in one process, the least of three each. Most networks are made "
    "thin for this table, so that much of their cost is Python between operations; what whole "
    "networks cost is in the table of speed."
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
    """One line for each network, the worst first; what is not known is NaN."""
    order = {name: k for k, name in enumerate(VERDICTS)}
    ranked = sorted(rows, key=lambda row: (order[verdict(row)], -(row.cost or 0.0)))
    return pd.DataFrame(
        {
            "network": row.network,
            "source": row.source,
            "verdict": verdict(row),
            "parameters": row.parameters,
            "float32": row.casts,
            "error": row.errors.get(UNALTERED),
            "altered data": max((e for d, e in row.errors.items() if d != UNALTERED), default=None),
            **{way: row.ways.get(way, 0.0) for way in WAYS},
            "cost": row.cost,
            "remark": remark(row),
        }
        for row in ranked
    )


def write_report(rows: Sequence[Row], folder: Path) -> str:
    """Write ``table.md`` and ``table.csv``.

    :return: how many networks there are of each verdict, in a line.
    """
    values = table(rows)
    values.to_csv(folder / "table.csv", index=False, float_format="%.3g")
    counts = values["verdict"].value_counts()
    summary = f"{len(rows)} networks: " + ", ".join(
        f"{counts[name]} {name}" for name in VERDICTS if name in counts
    )
    markdown = [
        f"**{summary}**",
        "",
        *(f"- {name}: {meaning}" for name, meaning in VERDICTS.items()),
        "",
        *_markdown(values),
        "",
        LEGEND,
        "",
        f"Made with {', '.join(f'{package} {_version(package)}' for package in _PACKAGES)}.",
        "",
    ]
    (folder / "table.md").write_text("\n".join(markdown), encoding="utf-8")
    return summary


def _markdown(values: pd.DataFrame) -> list[str]:
    def text(form: str) -> Callable[[float], str]:
        return lambda value: "-" if pd.isna(value) else form.format(value)

    shown = pd.DataFrame(
        {
            "network": values["network"] + " (" + values["source"] + ")",
            "verdict": values["verdict"],
            "parameters": values["parameters"].map("{:,}".format),
            "error": values["error"].map(text("{:.0e}"))
            + values["float32"].map({True: " f32", False: ""}),
            "altered data": values["altered data"].map(text("{:.0e}")),
            **{f"{way} (%)": (100 * values[way]).map("{:.0f}".format) for way in WAYS},
            "cost": values["cost"].map(text("{:.2f}")),
            "remark": values["remark"].str.replace("|", "\\|"),
        }
    )
    left = ("network", "verdict", "remark")
    ruler = [":--" if column in left else "--:" for column in shown]
    return [f"| {' | '.join(cells)} |" for cells in ([*shown], ruler, *shown.to_numpy())]


def _wrong(row: Row) -> list[tuple[str, float]]:
    """Data on which round-off does not explain the error, which may be NaN."""
    limit = LIMIT_FLOAT32 if row.casts else LIMIT
    return [(data, error) for data, error in row.errors.items() if not error <= limit]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
