"""Regression: errors in place of accuracies, on a stream whose targets are numbers.

The progression of diabetes in a year, of 442 patients; first the youngest third, then the others.
"""

import os

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import Subset, TensorDataset

from avalanche_mas import compare_methods
from avalanche_mas.benchmarks import regression_sequence
from avalanche_mas.evaluation import ErrorMatrix

fast = {"epochs": 1, "seeds": 1, "lambdas": "published"} if "FAST_EXAMPLES" in os.environ else {}

features, progression = load_diabetes(return_X_y=True)
x = torch.tensor(features / features.std(axis=0), dtype=torch.float32)
y = torch.tensor((progression - progression.mean()) / progression.std(), dtype=torch.float32)
patients = TensorDataset(x, y[:, None])
tasks = []
for third in x[:, 0].argsort().chunk(3):  # column 0 is the age
    test = third[::4].tolist()
    train = [i for i in third.tolist() if i not in test]
    tasks.append((Subset(patients, train), Subset(patients, test)))
benchmark = regression_sequence(tasks, names=["young", "middle", "old"])


def make_model():
    """A small network with one output."""
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))


options = {"epochs": 20, "batch_size": 16, "seeds": 5} | fast
comparison = compare_methods(
    benchmark,
    make_model,
    ("finetuning", "joint", "MAS", "SI"),
    criterion=nn.MSELoss(),
    metric=ErrorMatrix,
    **options,
)
print(comparison.table(), comparison.paired("MAS"), sep="\n\n")
