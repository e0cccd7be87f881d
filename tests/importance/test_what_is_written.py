"""Models that write to their inputs, weights and gradients are measured all the same."""

import copy

import pytest
import torch
from judge import worst_error
from networks import module
from torch import nn
from torch.nn import functional as F

from avalanche_mas import estimate_importance, estimate_local_importance


def in_place(weight):
    with torch.no_grad():
        weight.div_(weight.norm(dim=1, keepdim=True))


def through_data(weight):
    weight.data = F.normalize(weight.data)


def frozen(weight):
    weight.requires_grad_(False)
    weight.requires_grad_(True)


def differentiated(weight):
    weight.square().sum().backward()


WRITES = [in_place, through_data, frozen, differentiated]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_weights_that_the_model_writes_to(write, estimate):
    def forward(self, x):
        write(self.last.weight)
        return self.last(torch.tanh(self.first(x)))

    def unwritten(self, x):
        return self.last(torch.tanh(self.first(x)))

    parts = {"first": nn.Linear(3, 4), "last": nn.Linear(4, 2)}
    model = module(forward, **parts).double()
    model.last.weight.grad = torch.ones(2, 4, dtype=torch.float64)
    x, before = torch.randn(6, 3, dtype=torch.float64), copy.deepcopy(model.state_dict())
    plain = module(unwritten, **copy.deepcopy(parts))
    write(plain.last.weight)
    assert worst_error(estimate(model, x), estimate(plain, x)) < 1e-10
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert bool((model.last.weight.grad == 1).all())
    assert model.last.weight.requires_grad


class Graph:
    def __init__(self, x):
        self.x = x


def attribute(graph):
    graph.x = torch.tanh(graph.x)


def tensor(graph):
    graph.x.tanh_()


@pytest.mark.parametrize("write", [attribute, tensor])
@pytest.mark.parametrize("engine", ["exact", "loop"])
def test_objects_that_the_model_writes_to(write, engine):
    def forward(self, graph):
        write(graph)
        return self.layer(graph.x).mean(0, keepdim=True)

    model = module(forward, layer=nn.Linear(3, 2)).double()
    graphs = [Graph(torch.randn(n, 3, dtype=torch.float64)) for n in (2, 3)]
    before = [graph.x.clone() for graph in graphs]
    omega = estimate_importance(model, [graphs], split=lambda b: b, forward=model_of, engine=engine)
    assert all(torch.equal(graph.x, x) for graph, x in zip(graphs, before, strict=True))
    means = torch.stack([x.tanh().mean(0) for x in before])
    assert worst_error(omega, of_layer(model, means)) < 1e-10


def of_layer(model, x):
    return {f"layer.{n}": omega for n, omega in estimate_importance(model.layer, x).items()}


def model_of(model, batch):
    return model(batch)


def test_writes_that_no_version_counts():
    def forward(self, x):
        x.data.add_(1)
        return self.layer(x)

    model, x = module(forward, layer=nn.Linear(3, 2)), torch.randn(6, 3)
    before = x.clone()
    omega = estimate_importance(model, x)
    assert torch.equal(x, before)
    assert worst_error(omega, of_layer(model, x + 1)) < 1e-5


def test_inputs_that_require_a_gradient_are_measured_by_rules():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(6, 3)
    omega = estimate_importance(model, x.clone().requires_grad_())
    assert not omega.fallbacks
    assert worst_error(omega, estimate_importance(model, x)) < 1e-6


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = nn.Linear(3, 2)
        x = torch.randn(6, 3)
    plain = nn.Linear(3, 2)
    plain.load_state_dict(model.state_dict())
    assert worst_error(estimate_importance(model, x), estimate_importance(plain, x)) < 1e-6


@pytest.mark.parametrize("data", [lambda x: x, lambda x: [x]])
def test_sparse_inputs_are_refused_by_name(data):
    with pytest.raises(TypeError, match=r"sparse_coo.*split="):
        estimate_importance(nn.Linear(3, 2), data(torch.eye(3).to_sparse()))
