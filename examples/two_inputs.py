"""Two inputs: the upper and the lower half of each digit, turned further with each task.

A sample is (upper half, label, lower half, task label). The strategy says how it goes through the
network in training, and the option ``forward`` how it does when importance is measured.
"""

import os
from dataclasses import replace

import torch
from avalanche.training import Naive
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Subset, TensorDataset

from avalanche_mas import compare_methods
from avalanche_mas.benchmarks import task_sequence
from avalanche_mas.plugins.registry import METHODS, register

fast = {"epochs": 1, "seeds": 1, "lambdas": "published"} if "FAST_EXAMPLES" in os.environ else {}


class TwoInputs(nn.Module):
    """Each half has a layer of its own."""

    def __init__(self):
        super().__init__()
        self.upper, self.lower = nn.Linear(32, 50), nn.Linear(32, 50)
        self.classifier = nn.Linear(100, 10)

    def forward(self, upper, lower):
        halves = [self.upper(upper.flatten(1)), self.lower(lower.flatten(1))]
        return self.classifier(torch.cat(halves, dim=1).relu())


class TwoInputStrategy(Naive):
    """Gives the network both inputs."""

    def forward(self):
        return self.model(self.mbatch[0], self.mbatch[2])


measured = {"forward": lambda model, batch: model(batch[0], batch[2])}
register("finetuning-2", replace(METHODS["finetuning"], strategy=TwoInputStrategy))
register("MAS-2", replace(METHODS["MAS"], strategy=TwoInputStrategy, options=measured))
register("EWC-2", replace(METHODS["EWC"], strategy=TwoInputStrategy, options=measured))

digits = load_digits()
images, labels = torch.tensor(digits.images / 16).float(), torch.tensor(digits.target)
tasks = []
for turns in range(3):
    upper, lower = images.rot90(turns, (1, 2)).chunk(2, dim=1)
    data = TensorDataset(upper, labels, lower)
    tasks.append((Subset(data, range(1200)), Subset(data, range(1200, 1797))))
methods = ("finetuning-2", "MAS-2", "EWC-2")
options = {"epochs": 3, "seeds": 5} | fast
comparison = compare_methods(task_sequence(tasks), TwoInputs, methods, **options)
print(comparison.table(), comparison.paired("MAS-2"), sep="\n\n")
