"""Models that write to their inputs, weights and gradients are measured all the same."""

import copy

import pytest
import torch
from judge import worst_error
from networks import module
from torch import nn
from torch.nn import functional as F

from avalanche_mas import check_model, estimate_importance, estimate_local_importance


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


def in_norm(self, x):
    pairs = torch.stack([x, 2 * x], 2)
    return F.batch_norm(pairs, self.mean, self.var, training=True).mean(2)


def operator(self, x):
    with torch.no_grad():
        torch.ops.aten.mul_.Scalar(self.scale, 1.5)
    return x


def initialised(self, x):
    nn.init.normal_(self.scale)
    return x


def put_elsewhere(self, x):
    with torch.no_grad():
        self.scale.set_(torch.full_like(self.scale, 3.0))
    return x


def memory(self, x):
    self.scale.untyped_storage().copy_(torch.zeros_like(self.scale).untyped_storage())
    return x


def renormalised(self, x):
    return x + F.embedding(torch.zeros(len(x), dtype=torch.long), self.table, max_norm=1.0)


def renormalised_bag(self, x):
    index = torch.zeros(len(x), 1, dtype=torch.long)
    return x + F.embedding_bag(index, self.table, max_norm=1.0)


def only_together(self, x):
    if len(x) > 1:
        with torch.no_grad():
            self.scale.mul_(0.9).add_(x.abs().mean(0), alpha=0.1)
    return x


def gradients(self, x):
    nn.utils.clip_grad_norm_(self.parameters(), 1.0)
    return x


def observed(self, x):
    self.scale.register_hook(lambda gradient: gradient * 2)
    return x


HIDDEN = [in_norm, operator, initialised, put_elsewhere, memory, renormalised, renormalised_bag]
HIDDEN += [only_together, gradients, observed]


class Written(nn.Module):
    def __init__(self, write):
        super().__init__()
        self.layer, self.write = nn.Linear(3, 3), write
        self.scale = nn.Parameter(torch.ones(3))
        self.table = nn.Parameter(torch.full((2, 3), 5.0))
        self.mean = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.var = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return self.write(self, torch.tanh(self.layer(x))) * self.scale


@pytest.mark.parametrize("write", HIDDEN)
@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance, check_model])
@pytest.mark.filterwarnings("ignore:l-MAS has no layer", "ignore:two passes over the example")
def test_writes_that_only_operators_show(write, estimate):
    model = Written(write).double()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = [(p.detach().clone(), p.data_ptr()) for p in model.parameters()]
    estimate(model, torch.randn(6, 3, dtype=torch.float64))
    for parameter, (value, place) in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.data_ptr() == place
        assert bool((parameter.grad == 7).all())
        assert not parameter._backward_hooks


@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_a_write_that_the_first_samples_do_not_show_is_an_error(batch_size):
    def forward(self, x):
        if bool((x > 10).any()):
            with torch.no_grad():
                self.layer.weight.mul_(2)
        return self.layer(x)

    model, x = module(forward, layer=nn.Linear(3, 2)), torch.rand(9, 3)
    x[6] *= 100
    with pytest.raises(ValueError, match=r"parameter 'layer.weight'.*self\.training"):
        estimate_importance(model, x + 1, batch_size=batch_size)


def test_frozen_parameters_that_move_are_an_error_as_well():
    def forward(self, x):
        if bool((x > 10).any()):
            self.slow.weight.data = self.slow.weight.data * 0.9
        return self.fast(x) + self.slow(x)

    slow = nn.Linear(3, 2).requires_grad_(False)
    model, x = module(forward, fast=nn.Linear(3, 2), slow=slow), torch.rand(9, 3)
    x[6] *= 100
    with pytest.raises(ValueError, match=r"parameter 'slow.weight'"):
        estimate_importance(model, x + 1, engine="loop")


def test_an_average_over_a_batch_takes_no_part_in_that_of_a_sample():
    model = Written(only_together).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    plain = copy.deepcopy(model)
    plain.write = lambda self, x: x
    assert worst_error(estimate_importance(model, x), estimate_importance(plain, x)) < 1e-10


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
