"""Estimation leaves no trace, whatever the engine, the caller, or the exception midway."""

import copy
import random
from collections import OrderedDict

import numpy
import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager
from networks import module
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from avalanche_mas import (
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)
from avalanche_mas.importance.shadow import preserve_state


def engine(name):
    return lambda model, data, **options: estimate_importance(model, data, engine=name, **options)


ESTIMATES = {name: engine(name) for name in ("exact", "vmap", "loop", "batch")}
ESTIMATES["vector"] = lambda *args, **kw: estimate_importance(*args, output="vector", **kw)
ESTIMATES["local"] = estimate_local_importance


class Restless(nn.Module):
    """Writes to its buffers in eval mode, in place and by replacement, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))
        self.register_buffer("nothing", None)

    def forward(self, x):
        self.steps += 1
        self.last = torch.rand(3) + random.random() + numpy.random.rand()
        return x


def make_model():
    model = nn.Sequential(
        nn.Linear(5, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6, affine=False), nn.Dropout(0.3)),
        Restless(),
        nn.Linear(6, 4),
    )
    model.train()
    model[1].eval()  # a mixed pattern
    model[4][2].eval()
    model[0].bias.requires_grad_(False)
    model[0].weight.grad = torch.randn(6, 5)
    model[4][0].bias.grad = torch.randn(6)
    model[0].weight.register_hook(lambda g: g)
    model[6].weight.register_post_accumulate_grad_hook(lambda p: None)
    model[2].register_forward_hook(lambda m, args, out: None)
    model[3].register_forward_pre_hook(lambda m, args: None)
    model[4].register_full_backward_hook(lambda m, gi, go: None)
    return model


def bits(tensor):
    return None if tensor is None else (tensor.dtype, tensor.detach().clone())


def same(a, b):
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, numpy.ndarray):
        return numpy.array_equal(a, b)
    return a is b or a == b


def hooks(thing):
    return {
        name: tuple((key, id(hook)) for key, hook in value.items())
        for name, value in vars(thing).items()
        if "hook" in name and isinstance(value, (dict, OrderedDict))
    }


def contents(value):
    """What containers hold, by identity."""
    if isinstance(value, dict):
        return {key: contents(item) for key, item in value.items()}
    return tuple(map(contents, value)) if isinstance(value, list) else id(value)


def tensor_state(tensor):
    if tensor is None:
        return None
    attached = {
        name: tuple(getattr(tensor, name) or ())
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks")
    }
    return (id(tensor), tensor.data_ptr(), bits(tensor), tensor.requires_grad, attached)


def state_of(model):
    """Everything about a model that estimation could disturb, by a name that says what it is."""
    state = {}
    for name, part in model.named_modules():
        state[f"{name} mode"] = part.training
        state[f"{name} hooks"] = hooks(part)
        state[f"{name} containers"] = {
            key: contents(value)
            for key, value in vars(part).items()
            if isinstance(value, (dict, list)) and not key.startswith("_")
        }
        state[f"{name} methods"] = tuple(sorted(k for k, v in vars(part).items() if callable(v)))
        for key, parameter in part._parameters.items():
            state[f"{name}.{key}"] = tensor_state(parameter)
            state[f"{name}.{key} grad"] = tensor_state(getattr(parameter, "grad", None))
        for key, buffer in part._buffers.items():
            state[f"{name}.{key}"] = tensor_state(buffer)
    return state


def state_of_the_world():
    cudnn = torch.backends.cudnn
    return {
        "torch rng": torch.get_rng_state(),
        "numpy rng": numpy.random.get_state(),
        "python rng": random.getstate(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "defaults": (torch.get_default_dtype(), torch.get_num_threads()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "modes": torch._C._len_torch_function_stack(),
    }


def assert_same(before, after):
    assert list(before) == list(after)
    changed = [key for key in before if not same(before[key], after[key])]
    assert not changed


class Augmented(Dataset):
    """Draws from every global generator for each sample."""

    def __len__(self):
        return 11

    def __getitem__(self, k):
        return torch.randn(5) + random.random() + numpy.random.rand(), float("nan")


def quieted(name, model):
    """vmap refuses full backward hooks, and in-place writes to buffers."""
    if name == "vmap":
        model[5] = nn.Identity()
        model[4]._backward_hooks.clear()
    return model


@pytest.mark.parametrize("name", ESTIMATES)
def test_model_and_generators_are_as_they_were(name):
    model = quieted(name, make_model())
    before, world = state_of(model), state_of_the_world()
    ours = ESTIMATES[name](model, Augmented(), batch_size=4)
    assert ours.samples == 11
    assert_same(before, state_of(model))
    assert_same(world, state_of_the_world())


class Boom(Exception):
    pass


@pytest.mark.parametrize("where", ["model", "data"])
@pytest.mark.parametrize("name", ESTIMATES)
def test_also_after_an_exception_on_the_third_batch(name, where):
    model = quieted(name, make_model())
    calls = []

    def batches():
        for k in range(5):
            if where == "data" and k == 2:
                raise Boom
            random.random(), torch.rand(1)
            yield torch.randn(4, 5), {"poison": where == "model" and k == 2}

    def forward(model, batch):
        calls.append(batch)
        output = model(batch[0])
        if batch[1]["poison"]:
            raise Boom
        return output

    before, world = state_of(model), state_of_the_world()
    with pytest.raises(Boom):
        ESTIMATES[name](model, batches(), forward=forward)
    assert len(calls) >= 2
    assert_same(before, state_of(model))
    assert_same(world, state_of_the_world())


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ESTIMATES)
def test_same_result_whatever_mode_the_caller_is_in(name, caller):
    model, x = quieted(name, make_model()), torch.randn(9, 5)
    expected = ESTIMATES[name](model, x)
    before, world = state_of(model), state_of_the_world()
    with caller():
        ours = ESTIMATES[name](model, x)
        inside = ESTIMATES[name](model, x.clone())  # a tensor of the caller's mode
    assert_same(before, state_of(model))
    assert_same(world, state_of_the_world())
    for result in (ours, inside):
        assert all(torch.equal(expected[key], result[key]) for key in expected)
        assert not any(omega.requires_grad or omega.is_inference() for omega in result.values())


@pytest.mark.parametrize("name", ESTIMATES)
def test_training_goes_on_as_if_nothing_had_happened(name):
    weights = []
    for measured in (False, True):
        RNGManager.set_random_seeds(3)
        model = quieted(name, make_model())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        x = torch.randn(16, 5)
        for step in range(4):
            if measured and step == 2:
                ESTIMATES[name](model, x)
            optimizer.zero_grad()
            model(x[torch.randperm(16)[:8]]).square().sum().backward()
            optimizer.step()
        weights.append(state_of(model))
    a, b = ({k: v[2] for k, v in w.items() if isinstance(v, tuple) and v and len(v) == 5
             and isinstance(v[2], tuple)} for w in weights)  # fmt: skip
    assert len(a) > 10
    assert_same(a, b)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_draws_the_same_order_next(num_workers):
    def loaders():
        data = TensorDataset(torch.arange(20.0).view(20, 1))
        own = torch.Generator().manual_seed(1)
        yield DataLoader(data, 3, shuffle=True, generator=own, num_workers=num_workers)
        sampler = torch.utils.data.RandomSampler(data, generator=torch.Generator().manual_seed(2))
        yield DataLoader(data, 3, sampler=sampler)
        batches = torch.utils.data.BatchSampler(sampler, 3, drop_last=False)
        yield DataLoader(data, batch_sampler=batches)
        yield DataLoader(data, 3, shuffle=True)  # PyTorch's own generator

    model = nn.Linear(1, 2)
    for untouched_loader, measured_loader in zip(loaders(), loaders(), strict=True):
        torch.manual_seed(0)
        expected = [batch[0] for batch in untouched_loader]
        torch.manual_seed(0)
        estimate_importance(model, measured_loader)
        seen = [batch[0] for batch in measured_loader]
        assert len(expected) == len(seen)
        assert all(map(torch.equal, expected, seen))


def test_embedding_that_renormalises_itself():
    """max_norm rewrites the weight when it is used: that is a write to a parameter."""
    model = nn.Sequential(nn.Embedding(6, 4, max_norm=0.5), nn.Flatten(), nn.Linear(12, 2))
    before = state_of(model)
    for name in ("exact", "loop"):
        estimate_importance(model, torch.randint(0, 6, (5, 3)), engine=name)
        assert_same(before, state_of(model))


@pytest.mark.parametrize("name", ["exact", "loop", "batch", "vector"])
def test_recurrent_layers_keep_their_weights(name):
    """torch.func leaves its own tensors in an RNN's list of weights; they cannot be copied."""
    model = module(lambda self, x: self.rnn(x)[0], rnn=nn.LSTM(5, 3, batch_first=True))
    ESTIMATES[name](model, torch.randn(3, 4, 5))
    assert all(map(lambda a, b: a is b, model.rnn._flat_weights, model.rnn.parameters()))
    copy.deepcopy(model)


@pytest.mark.parametrize("name", ESTIMATES)
def test_block_under_two_names_keeps_its_parameters(name):
    """torch.func.functional_call puts its own tensors in their place and forgets them there."""
    block = nn.Linear(5, 5)
    model = nn.Sequential(block, nn.Tanh(), block)
    before = state_of(model)
    ESTIMATES[name](model, torch.randn(4, 5))
    assert_same(before, state_of(model))


@pytest.mark.parametrize("name", ESTIMATES)
def test_what_a_forward_pass_counts_and_caches(name):
    def forward(self, x):
        self.calls += 1
        self.cache = self.layer(x)
        self.new = 3
        return self.cache

    model = module(forward, layer=nn.Linear(5, 3))
    model.calls, model.cache = 7, None
    ESTIMATES[name](model, torch.randn(4, 5))
    assert (model.calls, model.cache) == (7, None)
    assert not hasattr(model, "new")


def test_submodules_may_be_compiled():
    compiled = torch.compile(nn.Linear(5, 4), backend="eager")
    model = nn.Sequential(compiled, nn.ReLU(), nn.Linear(4, 2))
    plain = nn.Sequential(compiled._orig_mod, model[1], model[2])
    before = state_of(model)
    ours, expected = (estimate_importance(m, torch.ones(3, 5)) for m in (model, plain))
    assert_same(before, state_of(model))
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[key], expected[key]) for key in ours)


def test_another_device_is_a_copy():
    """The model itself is never moved. The meta device computes nothing, so only moves are seen."""
    model = nn.Linear(5, 4)
    before = state_of(model)
    with pytest.raises(ValueError, match="on the meta device"):
        estimate_importance(model, torch.ones(3, 5), device="meta")
    assert_same(before, state_of(model))


@pytest.mark.parametrize("name", ESTIMATES)
def test_no_gradient_for_the_data(name):
    x = torch.randn(6, 5, requires_grad=True)
    ESTIMATES[name](nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), [x])
    assert x.grad is None


def test_data_is_not_written():
    x = torch.randn(6, 5)
    copy = x.clone()
    model = module(lambda self, x: self.layer(x.relu_()), layer=nn.Linear(5, 3))
    ours = estimate_importance(model, [x], engine="exact")
    expected = estimate_importance(model, [copy.clone()], engine="loop")
    torch.testing.assert_close(ours["layer.weight"], expected["layer.weight"])


def test_a_mode_that_an_interrupt_left_behind():
    def interrupted():
        with preserve_state():
            torch.overrides.TorchFunctionMode().__enter__()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not torch._C._len_torch_function_stack()


MASKED = {
    **ESTIMATES,
    "watch": lambda model, data: watched(watch_importance, model, data),
    "local watch": lambda model, data: watched(watch_local_importance, model, data),
}


def watched(watch, model, data):
    with watch(model, fraction=1.0) as watched:
        for x in data:
            model(x)
    return watched.importance


def masked_model():
    """Half of the head's gradient is masked, as where old classes are not to change."""
    torch.manual_seed(0)
    model, calls = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), []

    def mask(gradient):
        calls.append(1)
        return gradient * torch.tensor([[0.0], [1.0]])

    handle = model[2].weight.register_hook(mask)
    return model, calls, handle


def assert_masked(model, calls, handle):
    """The hook works as ever, and can be removed."""
    assert not calls
    model(torch.ones(3, 5)).sum().backward()
    assert calls == [1]
    assert not model[2].weight.grad[0].any()
    handle.remove()
    model(torch.ones(3, 5)).sum().backward()
    assert calls == [1]
    assert not model[2].weight._backward_hooks


@pytest.mark.parametrize("sizes", [[7], [4, 3], [1] * 7])
@pytest.mark.parametrize("name", MASKED)
def test_gradient_hooks_on_parameters_take_no_part(name, sizes):
    model, calls, handle = masked_model()
    plain, data = copy.deepcopy(model), torch.randn(7, 5).split(sizes)
    assert not plain[2].weight._backward_hooks
    ours, expected = MASKED[name](model, data), MASKED[name](plain, data)
    assert all(torch.equal(ours[key], expected[key]) for key in expected)
    assert not ours.fallbacks
    assert_masked(model, calls, handle)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ESTIMATES)
def test_gradient_hooks_are_there_again_after_an_error(name, error):
    model, calls, handle = masked_model()

    def batches():
        yield torch.randn(4, 5)
        raise error

    with pytest.raises(error):
        ESTIMATES[name](model, batches())
    assert_masked(model, calls, handle)


def test_hooks_on_weights_that_are_tied_viewed_and_enclosed():
    def forward(self, x):
        return self.again(torch.tanh(shifted(self.layer(x)))) @ self.layer.weight[:2].T

    model = module(forward, layer=nn.Linear(5, 5), again=nn.Linear(5, 5))
    bias = model.layer.bias
    model.again.weight = model.layer.weight
    shifted = lambda h: h + bias  # noqa: E731
    x = torch.randn(6, 5)
    expected = estimate_importance(model, x, engine="loop")
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
    for engine in "exact", "loop":
        ours = estimate_importance(model, x, engine=engine)
        assert set(ours) == set(expected)
        for key in expected:
            torch.testing.assert_close(ours[key], expected[key])
    assert all(len(parameter._backward_hooks) == 1 for parameter in model.parameters())
