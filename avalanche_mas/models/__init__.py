"""Networks for the two applications of the paper: object recognition and fact learning."""

from avalanche_mas.models.fact_loss import FactLoss
from avalanche_mas.models.fact_network import FactNetwork, fact_pretrained, fact_small, fact_vgg16
from avalanche_mas.models.heads import TaskHeads
from avalanche_mas.models.multi_head import (
    MultiHead,
    multi_head,
    multi_head_alexnet,
    multi_head_pretrained,
    multi_head_small,
)

__all__ = [
    "FactLoss",
    "FactNetwork",
    "MultiHead",
    "TaskHeads",
    "fact_pretrained",
    "fact_small",
    "fact_vgg16",
    "multi_head",
    "multi_head_alexnet",
    "multi_head_pretrained",
    "multi_head_small",
]
