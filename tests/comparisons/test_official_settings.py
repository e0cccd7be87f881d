"""Every experiment × every method with the paper's own settings, at one epoch.

Augmentation, schedule, batches, λ and protocol are what ``--data`` brings; the data are miniatures
in the places of the official ones. Most runs take a network and a size of pictures that are quicker
than the paper's.
"""

from dataclasses import replace

import pytest
import torch
from torchvision.models import alexnet

from avalanche_mas.miniature.facts import fact_miniature
from avalanche_mas.miniature.objects import miniature
from avalanche_mas.plugins.registry import METHODS
from benchmarks.experiments import figure5, load
from benchmarks.objects.experiment import PAPER

OBJECTS = ("figure5", "figure6", "table1", "table2", "l2-vs-vector", "adaptation")
OBJECTS += ("class-incremental-objects",)
FACTS = ("table3", "table4", "figure7")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    miniature(root / "objects", images_per_class=2, size=24, verbose=False)
    fact_miniature(root / "facts", most=6, size=24, verbose=False)
    return root


@pytest.fixture(scope="module")
def finished():
    """Results of cells, which experiments share, as they do on disk."""
    return {}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr("benchmarks.objects.training._LOADERS", 0)


def executor(module, finished):
    """Runs cells here, and checks what came of each."""

    def run_cells(title, cells):
        cells = list(cells)
        for cell in cells:
            if cell not in finished:
                finished[cell] = module.run_cell(cell)
                assert not finished[cell].diverged, cell.label
        return {cell: finished[cell] for cell in cells}

    return run_cells


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name, root, finished):
    module = load(name)
    settings = module.SETTINGS.configure(data=root / "objects", epochs=1)
    assert settings.training == replace(PAPER, epochs=1)
    settings = replace(
        settings,
        sequences=("flowers-scenes",),
        seeds=(0,),
        training=replace(settings.training, model="small", resize=32, crop=28),
    )
    outcome = module.run(settings, executor(module, finished))
    assert list(outcome.parts(""))
    ran = {cell.method for cell in finished}
    assert set(settings.methods) <= ran
    if name == "table1":  # and figure 5 before
        assert ran == set(METHODS)


def test_the_papers_network_from_a_file(root, tmp_path):
    """With the method that asks most of it."""
    torch.manual_seed(0)
    torch.save(alexnet().state_dict(), tmp_path / "alexnet.pth")
    settings = figure5.SETTINGS.configure(root / "objects", str(tmp_path / "alexnet.pth"), 1)
    assert replace(settings.training, model="alexnet", epochs=100) == PAPER
    found = figure5.run_cell(settings.cell("scenes-flowers", "EBLL", 1.0, 0))
    assert not found.diverged
    assert len(found.accuracy[-1]) == 2


@pytest.mark.parametrize("name", FACTS)
def test_facts(name, root, finished):
    module = load(name)
    settings = module.SETTINGS.configure(data=root / "facts", epochs=1)
    paper = settings.training
    assert (paper.network, paper.optimizer, paper.weight_decay) == ("vgg16", "sgd", 5e-4)
    settings = replace(
        settings,
        seeds=(0,),
        training=replace(paper, network="small", image_size=28),
        lambdas=(1.0,),  # of methods for which none is published
    )
    outcome = module.run(settings, executor(module, finished))
    assert list(outcome.parts(""))
    labels = {cell.label for cell in outcome.findings.tests}
    assert labels == {row.label for row in module.ROWS} - {"MAS, λ chosen"}
