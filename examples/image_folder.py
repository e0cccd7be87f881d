"""Five methods on folders of images, one folder for each class, split by class into five tasks."""

import os

from digit_images import draw
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from avalanche_mas import compare_methods
from avalanche_mas.benchmarks import split_by_class, task_sequence
from avalanche_mas.models import multi_head_small

fast = {"epochs": 1, "seeds": 1, "lambdas": "published"} if "FAST_EXAMPLES" in os.environ else {}

draw("images")  # or your own: images/train/<class>/... and images/test/<class>/...
parts = [split_by_class(ImageFolder(f"images/{part}"), 5) for part in ("train", "test")]
benchmark = task_sequence(
    list(zip(*parts, strict=True)), train_transform=ToTensor(), eval_transform=ToTensor()
)
methods = ("finetuning", "joint", "MAS", "EWC", "LwF")
options = {"epochs": 3, "seeds": 5, "folder": "results/images"} | fast
comparison = compare_methods(benchmark, multi_head_small, methods, **options)
print(comparison.table(), comparison.paired("MAS"), sep="\n\n")
comparison.plot().savefig("images.png")
