"""The claims of the paper, in its order, each read off the report of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avalanche_mas.evaluation import new_task_accuracy

from ..experiments import figure2, figure5, l2_vs_vector, table1, table2, table3, table4
from ..experiments.adaptation import CLASSES
from ..figure2.properties import PROPERTIES
from ..objects.accuracies import final_and_drop
from ..objects.pairs import numbers
from .claim import Claim, Read

_FIRST, _DROP, _SECOND = range(3)  # of what a run on two tasks gives, as the paper's tables have it
_PEERS = {"finetuning": "finetuning", "LwF": "LwF", "meanIMM": "IMM", "SI": "SI"}  # of two tasks
_LONG_PEERS = {"finetuning": "finetuning", "LwF": "LwF", "modeIMM": "IMM", "SI": "SI"}


def _against(
    paper: Mapping[str, Any], ours: str, other: str, column: int, form: str = ".1f"
) -> str:
    """A column of two of the paper's rows, mean over sequences."""
    a, b = (np.mean([sequence[column] for sequence in paper[row]]) for row in (ours, other))
    return f"{a:{form}} against {b:{form}}"


# Tables 1 and 2, ℓ2 and the vector: means over the sequences


def _pairs(row: str, column: int) -> Read:
    def read(report: Any) -> Sequence[float]:
        by_sequence = report.runs[row].values()
        if len({len(runs) for runs in by_sequence}) > 1:
            raise ValueError("another seed is left out of some sequences than of others")
        found = np.array([[numbers(run)[column] for run in runs] for runs in by_sequence])
        return list(found.mean(axis=0))

    return read


_TABLE_1 = [
    *(
        Claim(
            "Table 1",
            f"MAS forgets less of the first task than {name} (points)",
            _against(table1.PAPER, "MAS", row, _DROP),
            "table1",
            _pairs("MAS", _DROP),
            _pairs(row, _DROP),
            high=0,
        )
        for row, name in _PEERS.items()
    ),
    Claim(
        "Table 1",
        "MAS learns the second task almost as well as finetuning, at most 3 points below (%)",
        _against(table1.PAPER, "MAS", "finetuning", _SECOND),
        "table1",
        _pairs("MAS", _SECOND),
        _pairs("finetuning", _SECOND),
        low=-3,
    ),
]
_TABLE_2 = [
    Claim(
        "Table 2",
        "MAS forgets about 1 % of the first task: less than 1.5 points",
        f"{table2.PAPER_DROPS['MAS']:g}",
        "table2",
        _pairs("MAS, train", _DROP),
        high=1.5,
    ),
    Claim(
        "Table 2",
        "l-MAS forgets about 3 %: less than 3.5 points",
        f"{table2.PAPER_DROPS['LocalMAS']:g}",
        "table2",
        _pairs("LocalMAS, train", _DROP),
        high=3.5,
    ),
    Claim(
        "Table 2",
        "MAS forgets less than l-MAS (points)",
        _against(table2.PAPER, "MAS, train", "LocalMAS, train", _DROP),
        "table2",
        _pairs("MAS, train", _DROP),
        _pairs("LocalMAS, train", _DROP),
        high=0,
    ),
    *(
        Claim(
            "Table 2",
            f"MAS with Ω from {what} forgets as with Ω from training images, within 1 point",
            _against(table2.PAPER, row, "MAS, train", _DROP),
            "table2",
            _pairs(row, _DROP),
            _pairs("MAS, train", _DROP),
            low=-1,
            high=1,
        )
        for row, what in (("MAS, test", "test images"), ("MAS, train + test", "both"))
    ),
]
_OUTPUT = [
    Claim(
        "Output",
        "‖F‖² and the vector output forget equally little, within 1 point",
        f"{l2_vs_vector.PAPER['norm']} against {l2_vs_vector.PAPER['vector']}",
        "l2-vs-vector",
        _pairs("‖F‖²", _DROP),
        _pairs("vector", _DROP),
        low=-1,
        high=1,
    )
]


# Figure 2: entries of a row that are not as in the paper


def _unlike(method: str) -> Read:
    def read(report: Any) -> Sequence[float]:
        data = report.data()
        own = data[(data["method"] == method) & data["paper"].isin(("yes", "no"))]
        return list((own["holds"] != own["paper"]).groupby(own["seed"]).sum().astype(float))

    return read


def _abilities(method: str) -> str:
    said = figure2.PAPER[method]
    words = {True: "yes", False: "no", None: "n/a"}
    names = (name.lower() for name in PROPERTIES)
    return ", ".join(f"{name}: {words[one]}" for name, one in zip(names, said, strict=True))


_FIGURE_2 = [
    Claim(
        "Figure 2",
        f"what {name} is able to do is what the paper says (entries that differ)",
        _abilities(name),
        "figure2",
        _unlike("modeIMM" if name == "IMM" else name),
        high=0.5,
        form=".0f",
    )
    for name in figure2.PAPER
]


# Figures 5 and 6: eight tasks


def _eight(method: str, part: int, tasks: slice) -> Read:
    """Final accuracies (part 0) or drops (part 1), mean over some of the tasks."""
    return lambda report: [
        float(np.mean(final_and_drop(run)[part][tasks])) for run in report.tests[method]
    ]


_ALL, _BUT_LAST, _LAST = slice(None), slice(None, -1), slice(-1, None)
_EARLY, _LATE = slice(None, 4), slice(4, -1)


def _memory_above_least(report: Any) -> Sequence[float]:
    """KB that MAS needs more than the method of the paper that needs least, where it is worst."""
    others = [report.memory[name] for name in ("LwF", "EBLL", "EWC", "SI", "modeIMM")]
    above = float((report.memory["MAS"] - np.min(others, axis=0)).max()) / 1000
    return [above] * len(report.seeds)


_FIGURE_5 = [
    Claim(
        "Figure 5",
        "MAS forgets less than 1 point on average",
        f"{figure5.PAPER_DROP:g}",
        "figure5",
        _eight("MAS", 1, _BUT_LAST),
        high=1,
        form=".2f",
    ),
    *(
        Claim(
            "Figure 5",
            f"MAS forgets less than {method} on average (points)",
            f"{figure5.PAPER_DROP:g} against more",
            "figure5",
            _eight("MAS", 1, _BUT_LAST),
            _eight(method, 1, _BUT_LAST),
            high=0,
        )
        for method in ("finetuning", "LwF", "SI")
    ),
    *(
        Claim(
            "Figure 5",
            f"MAS ends with a higher mean accuracy than {name} (%)",
            f"{figure5.PAPER_LEAD:+g} points" if name == "SI" else "higher",
            "figure5",
            _eight("MAS", 0, _ALL),
            _eight(method, 0, _ALL),
            low=0,
        )
        for method, name in _LONG_PEERS.items()
    ),
    Claim(
        "Figure 5",
        "LwF builds up errors: it forgets more of the first four tasks than of the next three",
        "more",
        "figure5",
        _eight("LwF", 1, _EARLY),
        _eight("LwF", 1, _LATE),
        low=0,
    ),
    Claim(
        "Figure 5",
        "IMM's last task suffers: its accuracy is below that of MAS (%)",
        "below",
        "figure5",
        _eight("modeIMM", 0, _LAST),
        _eight("MAS", 0, _LAST),
        high=0,
    ),
]
_FIGURE_6 = [
    Claim(
        "Figure 6",
        "while learning, no method but finetuning holds less than MAS (KB that MAS holds more)",
        "least",
        "figure6",
        _memory_above_least,
        high=0.5,
    )
]


# Adaptation: means over the classes


def _adapted(report: Any) -> list[list[Any]]:
    """The runs of each class, with Ω measured anew after every task."""
    return [report.adapted[kept, True] for kept in CLASSES]


def _class_drop(report: Any) -> Sequence[float]:
    drops = [
        [100 * (r.class_accuracy[0][kept] - r.class_accuracy[-1][kept]) for r in runs]
        for kept, runs in zip(CLASSES, _adapted(report), strict=True)
    ]
    return list(np.mean(drops, axis=0))


def _adapted_mean(part: int, task: int) -> Read:
    return lambda report: list(
        np.mean(
            [[final_and_drop(run)[part][task] for run in runs] for runs in _adapted(report)], axis=0
        )
    )


def _learnt(runs: Sequence[Any]) -> list[float]:
    """Accuracy on the later tasks, each just after it was learnt."""
    return [100 * new_task_accuracy(run.accuracy) for run in runs]


_ADAPTATION = [
    Claim(
        "Adaptation",
        "with Ω of one class alone, it drops by at most about 2 %: less than 2.5 points",
        "2",
        "adaptation",
        _class_drop,
        high=2.5,
    ),
    Claim(
        "Adaptation",
        "it drops less than all Flowers (points)",
        "2 against 8",
        "adaptation",
        _class_drop,
        _adapted_mean(1, 0),
        high=0,
    ),
    Claim(
        "Adaptation",
        "the last task is learnt better than without adaptation (%)",
        "84 against 69",
        "adaptation",
        _adapted_mean(0, -1),
        lambda report: [final_and_drop(run)[0][-1] for run in report.without],
        low=0,
    ),
    Claim(
        "Adaptation",
        "later tasks are learnt better than without adaptation (%)",
        "better",
        "adaptation",
        lambda report: list(np.mean([_learnt(runs) for runs in _adapted(report)], axis=0)),
        lambda report: _learnt(report.without),
        low=0,
    ),
]


# Facts: mean average precisions after the last task


def _facts(row: str, column: int) -> Read:
    """A column of the report's first table."""
    return lambda report: [columns[column] for columns in report.panels[0].values[row]]


def _fact_claim(
    table: int, row: str, other: str, column: int, names: tuple[str, str], what: str
) -> Claim:
    paper: Mapping[str, Any] = {3: table3.PAPER, 4: table4.PAPER}[table]
    return Claim(
        f"Table {table}",
        f"{names[0]} {what} than {names[1]} (mAP)",
        f"{paper[row][column]:g} against {paper[other][column]:g}",
        f"table{table}",
        _facts(row, column),
        _facts(other, column),
        low=0,
        form=".3f",
    )


_TABLES_3_4 = [
    _fact_claim(table, row, other, column, (row, other), what)
    for table, row, other, column, what in (
        (3, "MAS", "finetuning", 0, "keeps the first of two tasks better"),
        *((3, "MAS", other, -1, "ends higher over all facts") for other in ("finetuning", "SI")),
        (3, "MAS", "l-MAS", -1, "ends higher over all facts"),
        (4, "MAS", "finetuning", 0, "keeps the first of four tasks better"),
        *((4, "MAS", other, -1, "ends higher over all facts") for other in ("finetuning", "SI")),
        (4, "MAS, train and test", "MAS", -1, "ends higher over all facts"),
    )
]
_FIGURE_7 = [
    Claim(
        "Figure 7",
        f"MAS adapted to the sports facts keeps them better than {other} (mAP)",
        "0.50 against about 0.20",
        "figure7",
        _facts("MAS, sports only", -1),
        _facts(other, -1),
        low=0,
        form=".3f",
    )
    for other in ("finetuning", "SI")
]

CLAIMS = (
    *_FIGURE_2,
    *_TABLE_1,
    *_TABLE_2,
    *_OUTPUT,
    *_FIGURE_5,
    *_FIGURE_6,
    *_ADAPTATION,
    *_TABLES_3_4,
    *_FIGURE_7,
)
