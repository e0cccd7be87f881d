"""From settings to results: λ is chosen on validation pictures, then every row is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from avalanche_mas.plugins.registry import METHODS

from ..runs.cell import RunCells
from ..training.learnt import learnt_seeds
from ..training.selection import Choice, choose_lambdas
from .cell import PAPER_LAMBDA, FactCell, FactData, FactResult, FactTraining, Row
from .data import check
from .network import make_network

# Learning rates as objects' and the authors' last layers; epochs by the time they take.
PRETRAINED = FactTraining(
    "pretrained", 64, "adam", 2e-4, 0.0, 0.0, 35, 15, last_rate=10.0, last_bias_rate=10.0
)

# Settled by finetuning, which has to forget, and by joint training, which has to learn all splits.
# With SGD on 32 pixels the sports facts of the clusters are hardly told apart.
SMALL = FactTraining("small", 64, "adam", 1e-3, 0.0, 0.0, 35, 60)

# Batch, epochs and λ are the paper's, which does not say the rest. That is from the code of its
# authors' next paper (Elhoseiny et al., ACCV 2018): 2 · 5e-5, a tenth after 250 epochs.
PAPER = FactTraining(
    "vgg16",
    224,
    "sgd",
    1e-4,
    0.9,
    5e-4,
    35,
    300,
    decay_after=250,
    last_rate=10.0,
    last_bias_rate=20.0,
    bias_rate=4.0,
)


@dataclass(frozen=True)
class FactSettings:
    """Every hyper-parameter of an experiment. Each result file holds a copy."""

    split: str
    rows: tuple[Row, ...]
    data: FactData = field(default_factory=FactData)
    training: FactTraining = PRETRAINED
    trainings: tuple[FactTraining, ...] = (PRETRAINED, SMALL, PAPER)  # to choose from, by network
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    # For rows that are not given one, λ is chosen by the mean over the tasks of what is kept of
    # them after the last, on a part of the training pictures, and with seeds that are not among
    # those reported. Rows that differ only in where Ω is measured share it, and so do experiments
    # on random tasks, whatever their number.
    given: tuple[tuple[str, float], ...] = ()  # method, λ
    lambdas: tuple[float, ...] = (1e-1, 1e0, 1e1, 1e2)
    extensions: int = 2  # decades added at most, while the best lies at the grid's edge
    selection_split: str = "random-4"
    selection_seeds: tuple[int, ...] = (100,)
    selection_validation: float = 0.25

    cells: ClassVar[str] = "facts"  # the folder of the cells, which experiments share

    def tiny(self) -> FactSettings:
        """To see that all parts work; its numbers mean nothing."""
        sides = {"pretrained": 32, "small": 16, "vgg16": 224}
        pretrained, small, paper = (
            replace(t, image_size=sides[t.network], epochs=1) for t in self.trainings
        )
        return replace(
            self,
            data=FactData(most=6),
            training=small,
            trainings=(pretrained, small, paper),
            seeds=(0,),
            lambdas=(1.0, 10.0),
            extensions=0,
        )

    def configure(
        self,
        data: Path | None = None,
        vectors: Path | None = None,
        model: str | None = None,
        epochs: int | None = None,
    ) -> FactSettings:
        """Apply the options of the command line.

        :param data: the folder of 6DS; then the settings are the paper's.
        :param vectors: a file of word vectors, in place of the embeddings that are in the folder.
        :param model: ``pretrained``, ``small``, ``vgg16``, or a file of VGG-16's weights; each is
            trained as it needs.
        :param epochs: passes over each task.
        :raises ValueError: if there are word vectors, but no data.
        """
        if vectors is not None and data is None:
            raise ValueError(
                "the miniature has word vectors of its own: give --data with --vectors"
            )
        settings, training = self, self.training
        known = {training.network: training for training in self.trainings}
        if data is not None:
            words = None if vectors is None else str(vectors.resolve())
            settings = replace(
                self,
                data=FactData(str(data.resolve()), words),
                given=(("MAS", PAPER_LAMBDA), ("LocalMAS", PAPER_LAMBDA)),
            )
            training = known["vgg16"]
        if model is not None:
            training = known.get(model) or replace(known["vgg16"], network=model)
        if epochs is not None:
            training = replace(training, epochs=epochs)
        return replace(settings, training=training)

    def prepare(self) -> None:
        """Draw the miniature, or check the data and the network's weights that are given.

        :raises OSError: if a folder or a file is missing, or weights cannot be downloaded.
        :raises ValueError: if one is malformed.
        """
        self._check_data()
        make_network(self.training.network, dim=1)

    def check(self) -> None:
        """As :meth:`prepare`, but nothing is drawn or downloaded.

        :raises OSError: if a folder or a file is missing.
        :raises ValueError: if one is malformed.
        """
        if self.training.network != "vgg16":  # torchvision's weights
            make_network(self.training.network, dim=1)
        if self.data.root is not None:
            self._check_data()

    def _check_data(self) -> None:
        size = self.training.image_size
        check(self.data, self.split, self.seeds, size)
        check(self.data, self.selection_split, self.selection_seeds, size)


@dataclass(frozen=True)
class Findings:
    """All that an experiment measured.

    :param settings: the hyper-parameters.
    :param tests: the runs that are reported.
    :param lambdas: λ of each row that has one, as tables show it.
    :param left_out: a sentence on each seed that is not reported.
    """

    settings: FactSettings
    tests: Mapping[FactCell, FactResult]
    lambdas: Mapping[str, str]
    left_out: list[str]


def run_rows(settings: FactSettings, run_cells: RunCells[FactCell, FactResult]) -> Findings:
    """Choose λ for each method that needs it, then run every row with every seed."""
    choices = _choose_lambdas(settings, run_cells)
    rows: dict[Row, float | None] = {}
    for row in settings.rows:
        chosen = choices[row.method].lam if row.method in choices else None
        fixed = replace(row, label="", lam=chosen)
        if row.lam is None and fixed in [replace(other, label="") for other in rows]:
            continue  # what is chosen is the fixed one, which has a row already
        rows[row] = chosen if row.lam is None else row.lam
    tests = run_cells(
        "test",
        [_cell(settings, row, lam, seed) for row, lam in rows.items() for seed in settings.seeds],
    )
    first = dict.fromkeys(settings.seeds, 0.0)
    for cell, result in tests.items():
        if len(result.tasks) > 1:  # joint training has one row only
            first[cell.seed] = max(first[cell.seed], result.tasks[0][0])
    seeds, left_out = learnt_seeds(first, "the table")
    return Findings(
        settings,
        {cell: result for cell, result in tests.items() if cell.seed in seeds},
        {
            row.label: str(choices[row.method]) if row.lam is None else f"{lam:g}"
            for row, lam in rows.items()
            if lam is not None
        },
        left_out,
    )


def _choose_lambdas(
    settings: FactSettings, run_cells: RunCells[FactCell, FactResult]
) -> dict[str, Choice]:
    given = dict(settings.given)
    methods = dict.fromkeys(
        row.method for row in settings.rows if METHODS[row.method].plugin and row.lam is None
    )
    return choose_lambdas(
        {method: [given[method]] if method in given else settings.lambdas for method in methods},
        settings.extensions,
        lambda method, lam: [
            replace(
                _cell(settings, Row(method, method), lam, seed),
                split=settings.selection_split,
                validation=settings.selection_validation,
            )
            for seed in settings.selection_seeds
        ],
        run_cells,
        lambda result: result.kept,
    )


def _cell(settings: FactSettings, row: Row, lam: float | None, seed: int) -> FactCell:
    return FactCell(settings.split, row, lam, seed, 0.0, settings.data, settings.training)
