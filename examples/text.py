"""Text: token ids through an nn.EmbeddingBag, with a head for each task.

Which module of Python's library is a sentence of its documentation from? Two modules a task.
"""

import importlib
import inspect
import os
import re
import zlib

import torch
from avalanche.models import as_multitask
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_mas import compare_methods
from avalanche_mas.benchmarks import task_sequence

fast = {"epochs": 1, "seeds": 1, "lambdas": "published"} if "FAST_EXAMPLES" in os.environ else {}

LENGTH, TOKENS = 24, 1000  # of a sentence, the rest is filled up with 0; of the vocabulary
TASKS = [("statistics", "logging"), ("random", "argparse"), ("decimal", "subprocess")]


def sentences(module):
    """The token ids of each line of a module's documentation."""
    things = vars(importlib.import_module(module)).values()
    lines = "\n".join({inspect.getdoc(thing) or "": 0 for thing in things if callable(thing)})
    for words in (re.findall("[a-z]+", line.lower())[:LENGTH] for line in lines.split("\n")):
        if len(words) > 3:
            tokens = [1 + zlib.crc32(word.encode()) % (TOKENS - 1) for word in words]
            yield tokens + [0] * (LENGTH - len(words))


def dataset(task, test):
    """Every fourth sentence is for the test."""
    parts = [[s for i, s in enumerate(sentences(m)) if (i % 4 == 0) == test] for m in task]
    labels = [0] * len(parts[0]) + [1] * len(parts[1])
    return TensorDataset(torch.tensor(parts[0] + parts[1]), torch.tensor(labels))


def make_model():
    """The mean of the words' embeddings, a hidden layer, and a head for each task."""
    model = nn.Sequential(nn.EmbeddingBag(TOKENS, 32, padding_idx=0), nn.Linear(32, 32), nn.ReLU())
    model.add_module("classifier", nn.Linear(32, 2))
    return as_multitask(model, "classifier")


benchmark = task_sequence([(dataset(task, False), dataset(task, True)) for task in TASKS])
methods = ("finetuning", "joint", "MAS", "EWC")
options = {"epochs": 20, "batch_size": 16, "seeds": 5} | fast
comparison = compare_methods(benchmark, make_model, methods, **options)
print(comparison.table(), comparison.paired("MAS"), sep="\n\n")
