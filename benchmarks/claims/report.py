"""The table of all claims, and the short one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..report.formatter import spread
from ..report.writer import Part, Report, Table
from .claim import Claim
from .results import Results, command
from .verdict import LEAST, LEVEL, NOT_RUN, OPEN, WORDS, Verdict, judge

SHORT = "in short"
_PARTS = {
    "abilities: Figure 2": ("Figure 2",),
    "objects: Tables 1, 2, Figures 5, 6": ("Table 1", "Table 2", "Output", "Figure 5", "Figure 6"),
    "facts: Tables 3, 4": ("Table 3", "Table 4"),
    "adaptation: Section 5.1, Figure 7": ("Adaptation", "Figure 7"),
}
LEGEND = (
    "Ours: mean ± standard deviation over the seeds, whose number is n. p: of the paired t-test, "
    "seed by seed, or of a t-test against the margin that the claim names; -: all seeds give the "
    f"same number. A claim holds, or does not, with p < {LEVEL:g} and at least {LEAST} seeds; all "
    "else is not decided. No p is corrected for the number of claims. Without --data the pictures "
    "are a drawn miniature, so it is what is claimed that is compared, not the paper's numbers."
)


@dataclass(frozen=True)
class Finding:
    """What is known of a claim.

    :param claim: the claim.
    :param verdict: what became of it.
    :param ours: what was measured, as text; or what is to be done.
    :param seeds: how many.
    """

    claim: Claim
    verdict: Verdict
    ours: str
    seeds: int = 0


@dataclass(frozen=True)
class ClaimsReport(Report):
    """Every claim, with its verdict."""

    findings: tuple[Finding, ...]

    def parts(self, origin: str) -> Iterator[Part]:
        """The short table, all claims and the legend."""
        yield Table(SHORT, self.short(), left=("from the paper",))
        rows = [
            {
                "source": found.claim.source,
                "claim": found.claim.says,
                "paper": found.claim.paper,
                "ours": found.ours,
                "n": str(found.seeds or "-"),
                "p": "-" if found.verdict.p is None else f"{found.verdict.p:.2g}",
                "verdict": found.verdict.word,
            }
            for found in self.findings
        ]
        left = ("source", "claim", "paper", "ours", "verdict")
        yield Table("claim by claim", pd.DataFrame(rows), left, lines=True)
        yield LEGEND
        yield [origin]

    def data(self) -> pd.DataFrame:
        """A row for each claim."""
        return pd.DataFrame(
            {
                "source": found.claim.source,
                "claim": found.claim.says,
                "paper": found.claim.paper,
                "ours": found.ours,
                "seeds": found.seeds,
                "p": found.verdict.p,
                "verdict": found.verdict.word,
            }
            for found in self.findings
        )

    def short(self) -> pd.DataFrame:
        """How many claims of each part of the paper hold."""
        data = self.data()
        of_parts = {part: data[data["source"].isin(own)] for part, own in _PARTS.items()}
        rows = []
        for part, claims in {**of_parts, "all": data}.items():
            counts = claims["verdict"].value_counts()
            row = {"from the paper": part, "claims": str(len(claims))}
            rows.append(row | {word: str(counts.get(word, 0)) for word in WORDS})
        return pd.DataFrame(rows)


def check_claims(claims: Iterable[Claim], results: Results) -> tuple[ClaimsReport, str]:
    """Judge claims by the results that there are.

    :return: the report, and a sentence on what made the results.
    """
    claims = tuple(claims)
    names = dict.fromkeys(claim.experiment for claim in claims)
    reports = {name: results.report(name) for name in names}
    origins = dict.fromkeys(found[1] for found in reports.values() if found)
    findings = tuple(_find(claim, reports) for claim in claims)
    return ClaimsReport(findings), " ".join(origins) or "Nothing has been run."


def _find(claim: Claim, reports: Mapping[str, tuple[Any, str] | None]) -> Finding:
    found = reports[claim.experiment]
    not_run = Finding(claim, Verdict(NOT_RUN), f"`{command(claim.experiment)}`")
    if found is None:
        return not_run
    try:
        ours = np.asarray(claim.ours(found[0]))
        than = None if claim.than is None else np.asarray(claim.than(found[0]))
    except KeyError:  # a method that the claim is about
        return not_run
    except ValueError as error:  # seeds cannot be paired
        return Finding(claim, Verdict(OPEN), str(error))
    verdict = judge(ours if than is None else ours - than, claim.low, claim.high)
    shown = [spread(values, claim.form) for values in (ours, than) if values is not None]
    return Finding(claim, verdict, " against ".join(shown), len(ours))
