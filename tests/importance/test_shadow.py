"""A twin computes what the model computes in eval mode, and nothing it does reaches the model."""

import copy
import functools
import itertools
import random
import sys
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from typing import ClassVar

import numpy
import pytest
import torch
import torchvision
from networks import module
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.parameters import named_parameters
from avalanche_mas.importance.shadow import Shadow, preserve_state


def snapshot(value, seen=None):
    """What a value consists of: identities, and the contents of all that can be written to."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type):
        return id(value)
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return id(value), value._version, value.detach().clone().flatten().tolist()
    if isinstance(value, numpy.ndarray):
        return id(value), value.tolist()
    items, own = [], getattr(value, "__dict__", {})
    if isinstance(value, dict):
        items = [(id(key), snapshot(item, seen)) for key, item in value.items()]
    elif isinstance(value, (list, tuple, deque)):
        items = [snapshot(item, seen) for item in value]
    elif isinstance(value, set):
        items = set(map(id, value))
    return id(value), items, [(name, snapshot(item, seen)) for name, item in own.items()]


def same_output(ours, expected):
    ours, expected = (torch.utils._pytree.tree_leaves(output) for output in (ours, expected))
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert torch.equal(a, b)


def check(model, *args, **kwargs):
    """Two twins compute the bits of the model in eval mode and leave the model as it is."""
    expected = copy.deepcopy(model).eval()(*args, **kwargs)
    before, shadow = snapshot(model), Shadow(model)
    for _ in range(2):
        same_output(shadow.fresh()(*args, **kwargs), expected)
    assert snapshot(model) == before
    copy.deepcopy(model)
    twin = shadow.fresh()
    ours, theirs = named_parameters(twin), named_parameters(model)
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in theirs)
    assert not any(part.training for part in twin.modules())
    assert not {id(part) for part in twin.modules()} & {id(part) for part in model.modules()}
    return twin


class Reacting(nn.Linear):
    """A low-rank adapter that eval() adds to the weight itself and train() subtracts again."""

    def __init__(self, n):
        super().__init__(n, n)
        self.down, self.up = nn.Parameter(torch.randn(2, n)), nn.Parameter(torch.randn(n, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return self

    def __setattr__(self, name, value):
        if name == "merged" and value is True:
            self.down.data.zero_()
        super().__setattr__(name, value)

    def forward(self, x):
        y = super().forward(x)
        return y if self.merged else y + x @ self.down.T @ self.up.T


def test_modules_that_react_to_eval_do_not_notice():
    model = nn.Sequential(Reacting(4), nn.Tanh())
    before, x = snapshot(model), torch.randn(3, 4)
    expected = model(x)
    same_output(Shadow(model).fresh()(x), expected)
    assert snapshot(model) == before


class Scaling(nn.Module):
    """In train mode its outputs are twice as large, and ``train()`` knows it, not ``forward()``."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale, self.switches = nn.Linear(4, 4), 2.0, []

    def train(self, mode=True):
        if mode != self.training:
            self.switches.append(mode)
            self.scale = 2.0 if mode else 1.0
        return super().train(mode)

    def forward(self, x):
        return self.scale * torch.tanh(self.layer(x))


class ScalingByEval(Scaling):
    """The same, where only ``eval()`` is the user's own."""

    def train(self, mode=True):
        return nn.Module.train(self, mode)

    def eval(self):
        self.scale = 1.0
        return super().eval()


class Fused(Scaling):
    """In eval mode has a parameter that stands for others."""

    def train(self, mode=True):
        if not mode:
            self.layer.weight = nn.Parameter(self.layer.weight * 3)
        return super().train(mode)


class Unable(Scaling):
    def train(self, mode=True):
        if not mode:
            self.scale = 7.0
            raise ZeroDivisionError
        return super().train(mode)


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
@pytest.mark.parametrize("cls", [Scaling, ScalingByEval])
def test_what_eval_does_is_measured(cls, estimate):
    torch.manual_seed(0)
    model = nn.Sequential(cls(), nn.Linear(4, 2)) if cls is Scaling else cls()
    before, x = snapshot(model), torch.randn(5, 4)
    ours = estimate(model, x)
    assert snapshot(model) == before
    assert not any(part.training for part in check(model, x).modules())
    expected = estimate(model.eval(), x)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert before != snapshot(model)
    assert Shadow(model).fresh()(x).equal(model(x))


@pytest.mark.parametrize("cls", [Fused, Unable])
def test_an_eval_that_cannot_run_sets_only_flags(cls):
    model = nn.Sequential(cls(), nn.Linear(4, 2))
    before, x = snapshot(model), torch.randn(5, 4)
    shadow = Shadow(model)
    for _ in range(2):
        twin = shadow.fresh()
        assert twin[0].scale == 2.0
        assert set(twin.parameters()) == set(model.parameters())
        assert not any(part.training for part in twin.modules())
        same_output(twin(x), model(x))
    assert snapshot(model) == before


def test_an_adapter_is_measured_as_it_is_in_train_mode():
    model, x = nn.Sequential(Reacting(4), nn.Tanh()).double(), torch.randn(5, 4).double()
    before, omega = snapshot(model), estimate_importance(model, x)
    assert snapshot(model) == before
    assert all(bool(omega[name].any()) for name in ("0.weight", "0.down", "0.up"))


def test_every_pass_starts_from_the_state_that_the_model_has_now():
    def forward(self, x):
        self.calls += 1
        self.cache.setdefault("bias", self.bias * 2)
        self.seen.append(x)
        self.latest = x
        self.record.shapes.append(x.shape)
        self.total += x.detach().sum()
        self.array += 1
        self.counter["calls"] += 1
        self.queue.append(self.calls)
        self.nested[0]["deep"].add(self.calls)
        noise = torch.rand((), generator=self.generator) + self.numpy.random()
        return x + self.cache["bias"] + noise + self.calls

    class Record:
        def __init__(self):
            self.shapes, self.owner = [], None

    model = module(forward, head=nn.Linear(2, 2))
    model.bias = nn.Parameter(torch.randn(2))
    model.register_buffer("total", torch.zeros(()))
    model.calls, model.cache, model.seen, model.array = 5, {}, [], numpy.zeros(2)
    model.record, model.counter, model.queue = Record(), Counter(), deque(maxlen=2)
    model.record.owner = model
    model.nested = ({"deep": set()},)
    model.generator, model.numpy = torch.Generator().manual_seed(3), numpy.random.default_rng(3)
    before, state = snapshot(model), model.generator.get_state()
    bits = model.numpy.bit_generator.state
    shadow, x = Shadow(model), torch.randn(3, 2)
    twins = shadow.fresh(), shadow.fresh()
    outputs = [twin(x) for twin in twins] + [shadow.fresh()(x)]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
    assert snapshot(model) == before
    assert torch.equal(model.generator.get_state(), state)
    assert model.numpy.bit_generator.state == bits
    assert not hasattr(model, "latest")
    for twin in twins:
        assert twin.record.owner is twin
        assert (twin.calls, twin.record.shapes) == (6, [x.shape])
        assert twin.nested[0]["deep"] == {6}
        assert (twin.counter["calls"], list(twin.queue), twin.queue.maxlen) == (1, [6], 2)
        assert (float(twin.total), twin.array.tolist()) == (float(x.sum()), [1, 1])
    model.calls, model.new = 7, nn.Linear(1, 1)
    model.total += 1
    twin = shadow.fresh()
    assert (twin.calls, float(twin.total)) == (7, 1)
    assert twin.new is not model.new
    assert twin.new.weight is model.new.weight
    copy.deepcopy(model.cache)


def test_containers_keep_their_kind_and_what_they_share():
    pair = namedtuple("pair", "first second")
    model = nn.Module()
    shared = []
    model.held = OrderedDict(a=pair(shared, 1), b=defaultdict(list, {"x": [shared]}))
    model.shared, model.frozen, model.constants = shared, frozenset([nn.Tanh()]), (1, "a", None)
    model.by_module = {model: 1, (model,): 2}
    shared.append(model.held)  # a cycle
    twin = Shadow(model).fresh()
    assert (type(twin.held), type(twin.held["a"])) == (OrderedDict, pair)
    assert (type(twin.held["b"]), twin.held["b"].default_factory) == (defaultdict, list)
    assert twin.shared is twin.held["a"].first is twin.held["b"]["x"][0]
    assert twin.shared is not shared
    assert twin.shared[0] is twin.held
    assert twin.constants is model.constants
    assert twin.by_module == {twin: 1, (twin,): 2}
    assert not model.frozen & twin.frozen


def test_dictionaries_with_attributes():
    class Attributes(dict):
        def __init__(self, **items):
            super().__init__(items)
            self.__dict__ = self

    model = nn.Module()
    model.config = Attributes(width=3, cache=[])
    model.plain = types.SimpleNamespace(cache=[])
    twin = Shadow(model).fresh()
    twin.config.width = 4
    assert (twin.config["width"], model.config.width) == (4, 3)
    twin.config.cache.append(1)
    twin.plain.cache.append(1)
    assert model.config.cache == model.plain.cache == []


def test_what_is_more_than_its_attributes_is_shared():
    class File:
        def __init__(self):
            self.open = True

        def __del__(self):
            self.open = False

    class Samples(torch.utils.data.Dataset):
        pass

    model = nn.Linear(2, 2)
    model.file, model.samples, model.lock = File(), Samples(), __import__("threading").Lock()
    model.kind, model.optimizer = File, torch.optim.SGD(model.parameters())
    twin = Shadow(model).fresh()
    for name in ("file", "samples", "lock", "kind", "optimizer"):
        assert getattr(twin, name) is getattr(model, name)


def test_tied_parameters_and_shared_modules():
    block = nn.Linear(4, 4)
    model = nn.Sequential(block, nn.Tanh(), block, nn.Linear(4, 4))
    model[3].weight = block.weight
    model.parent = [model]
    twin = check(model, torch.randn(3, 4))
    assert twin[0] is twin[2]
    assert twin[3].weight is twin[0].weight is block.weight
    assert twin.parent == [twin]


def test_buffers_are_shared_only_with_what_shares_them():
    def forward(self, x):
        self.first += 1
        return x + self.whole.sum()

    model = module(forward)
    whole = torch.zeros(2, 3).t()
    model.register_buffer("whole", whole)
    model.register_buffer("first", whole[0])
    model.register_buffer("same", whole)
    twin, shadow = Shadow(model).fresh(), Shadow(model)
    assert twin.whole.stride() == whole.stride()
    assert twin.same is twin.whole
    assert float(twin(torch.zeros(()))) == float(shadow.fresh()(torch.zeros(()))) == 2
    assert float(shadow.fresh()(torch.zeros(()))) == 2
    assert not whole.any()


def test_clones_of_large_tensors_are_used_again_until_something_is_written():
    model = nn.Module()
    model.register_buffer("table", torch.zeros(300, 300))
    shadow = Shadow(model)
    twin = shadow.fresh()
    first = twin.table
    assert shadow.fresh().table.data_ptr() != first.data_ptr()  # its twin is still there
    twin = shadow.fresh()
    address = twin.table.data_ptr()
    del twin
    twin = shadow.fresh()
    assert twin.table.data_ptr() == address
    twin.table += 1
    del twin
    assert not shadow.fresh().table.any()
    model.table += 2
    assert torch.equal(shadow.fresh().table, model.table)
    model.table = torch.ones(300, 300)
    assert torch.equal(shadow.fresh().table, model.table)


def test_writes_that_torch_does_not_count():
    """F.batch_norm writes its statistics, and .data anything, without raising ``_version``."""

    def forward(self, x):
        self.calls.data += 1
        return nn.functional.batch_norm(x, self.mean, self.var, training=True) + self.calls

    model = module(forward)
    for name in ("calls", "mean", "var"):
        model.register_buffer(name, torch.ones(3))
    shadow, x = Shadow(model), torch.randn(5, 3)
    same_output(shadow.fresh()(x), shadow.fresh()(x))
    assert torch.equal(shadow.fresh().mean, torch.ones(3))
    model(x)
    assert torch.equal(shadow.fresh().mean, model.mean)
    assert shadow.fresh().calls.tolist() == [2, 2, 2]


@pytest.mark.parametrize("tied_first", [False, True])
def test_embeddings_that_renormalise_themselves_have_own_weights(tied_first):
    embedding, head = nn.Embedding(5, 4, max_norm=0.1), nn.Linear(4, 5, bias=False)
    head.weight = embedding.weight
    parts = {"head": head, "embedding": embedding}
    parts = parts if tied_first else dict(reversed(parts.items()))
    model = module(lambda self, x: self.head(self.embedding(x)), **parts)
    x, before = torch.tensor([1, 4]), snapshot(model)
    expected = copy.deepcopy(model).eval()(x)
    shadow = Shadow(model)
    for twin in (shadow.fresh() for _ in range(2)):  # each from the weights that the model has
        same_output(twin(x), expected)
        assert twin.head.weight is twin.embedding.weight
        assert twin.head.weight is not embedding.weight
        assert list(named_parameters(twin)) == list(named_parameters(model))
        output = twin(x).sum()
        assert torch.autograd.grad(output, list(named_parameters(twin).values()))[0].any()
        assert twin.head.weight is shadow.parameter(embedding.weight)
    assert snapshot(model) == before


def test_sparse_embeddings_are_dense():
    model = nn.Embedding(5, 3, sparse=True)
    twin = Shadow(model).fresh()
    gradient = torch.autograd.grad(twin(torch.tensor([1])).sum(), model.weight)[0]
    assert not gradient.is_sparse
    assert model.sparse


def through_closure(model):
    inner = model.inner
    model.forward = lambda x: inner(x)


def through_container(model):
    def forward(x):
        return parts["all"][0](x)

    parts = {"all": [model.inner]}
    model.forward = forward


def through_defaults(model):
    model.forward = lambda x, inner=model.inner: inner(x)


def through_keyword(model):
    def forward(x, *, inner=model.inner):
        return inner(x)

    model.forward = forward


def through_partial(model):
    def forward(self, x, *, scale):
        return self.inner(x) * scale

    model.forward = functools.partial(forward, model, scale=1)
    functools.update_wrapper(model.forward, type(model).forward)


def through_method(model):
    model.forward = types.MethodType(lambda self, x: self.inner(x), model)


def through_another_method(model):
    model.forward = model.inner.forward


def through_weak_reference(model):
    reference = weakref.ref(model)
    model.reference = reference
    model.forward = lambda x, held=[model.inner]: held[0](x)
    assert Shadow(model).fresh().reference().inner is not model.inner


WAYS = [through_closure, through_container, through_defaults, through_keyword, through_partial]
WAYS += [through_method, through_another_method, through_weak_reference]


@pytest.mark.parametrize("way", WAYS)
def test_functions_run_the_modules_of_the_twin(way):
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) + self.calls

    model = module(lambda self, x: self.inner(x), inner=Counting(3, 3))
    way(model)
    x, shadow = torch.randn(2, 3), Shadow(model)
    expected = nn.Linear.forward(model.inner, x) + 1
    twin = shadow.fresh()
    same_output(twin(x), expected)
    same_output(shadow.fresh()(x), expected)
    assert model.inner.calls == 0
    assert twin.inner.calls == 1


def test_functions_without_state_are_shared():
    scale = 2.0
    model = nn.Linear(2, 2)
    model.register_forward_hook(lambda layer, args, output: output * scale)
    twin = Shadow(model).fresh()
    assert list(twin._forward_hooks.values()) == list(model._forward_hooks.values())


def test_what_hooks_write_to_belongs_to_the_twin():
    calls, number = [], 0

    def count(*args):
        nonlocal number
        number += 1
        calls.append(args)

    def forward(self, x):
        self.layer(x)
        return self.seen["layer"]

    model, seen = module(forward, layer=nn.Linear(2, 2)), {}
    model.seen = seen
    model.layer.register_forward_hook(lambda layer, args, output: seen.update(layer=output))
    model.layer.register_forward_hook(count)
    twin = Shadow(model).fresh()
    assert twin(torch.ones(1, 2)) is twin.seen["layer"]
    assert (calls, number, seen) == ([], 0, {})


def test_objects_with_slots_and_functions_with_a_cache():
    class Slots:
        __slots__ = ("__weakref__", "calls", "empty", "layer")

        def __init__(self, layer):
            self.layer, self.calls = layer, 0

        def __getstate__(self):
            return {}

    def forward(self, x):
        self.slots.calls += 1
        self.bytes.append(next(self.count))
        return self.slots.layer(x) * self.table(2)

    model = module(forward, layer=nn.BatchNorm1d(2))
    model.slots, model.bytes, model.count = Slots(model.layer), bytearray(), itertools.count()
    model.table = functools.lru_cache(lambda n: model.layer.weight[:n] * 2)
    twin = Shadow(model).fresh()
    assert twin.slots.layer is twin.layer
    twin(torch.ones(1, 2))
    assert (model.slots.calls, twin.slots.calls) == (0, 1)
    assert (model.bytes, next(twin.count)) == (b"", 1)
    assert twin.table.cache_info().misses == 1


def test_a_cache_of_the_class():
    class Biased(nn.Linear):
        cache: ClassVar = {}

        def forward(self, x):
            return super().forward(x) + self.cache.setdefault("bias", self.bias * 2)

    model, x = nn.Sequential(Biased(2, 2), Biased(2, 2)), torch.ones(1, 2)
    twin = Shadow(model).fresh()
    twin(x)
    assert twin[0].cache is twin[1].cache
    assert (list(twin[0].cache), Biased.cache) == (["bias"], {})


def test_hooks_that_are_methods_of_the_model():
    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.seen = nn.Linear(2, 2), []
            self.inner.register_forward_hook(self.hook)
            self.note = self.seen.append

        def hook(self, part, args, output):
            self.note(output)
            return output * len(self.seen)

        def forward(self, x):
            return self.inner(self.inner(x))

    model = Watching()
    twin = Shadow(model).fresh()
    twin(torch.ones(1, 2))
    assert (len(twin.seen), model.seen) == (2, [])


class Lazy(nn.Module):
    def forward(self, x):
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.ones(x.shape[1]))
            self.part = nn.Identity()
        return self.part(x) * self.table


def old_spectral_norm():
    return nn.utils.spectral_norm(nn.Linear(4, 4))


NETWORKS = {
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "old spectral_norm": old_spectral_norm,
    "batch_norm": lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)),
    "lstm": lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(4, 3),
    "lazily made": Lazy,
    "transformer": lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    "graph": lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3), nn.Tanh())),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_twins_compute_the_same_bits(name):
    torch.manual_seed(0)
    twin = check(NETWORKS[name](), torch.randn(3, 4))
    if isinstance(twin, nn.RNNBase):
        assert all(map(lambda a, b: a is b, twin._flat_weights, twin.parameters()))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weight_norm_by_hooks():
    model, x = weight_norm(nn.Linear(4, 4)), torch.randn(3, 4)
    expected, weight = model(x), model.weight
    twin = Shadow(model).fresh()
    same_output(twin(x), expected)
    assert model.weight is weight
    assert torch.autograd.grad(twin(x).sum(), model.weight_g)[0].any()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvision(name):
    check(torchvision.models.get_model(name, num_classes=3), torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["convnext_atto", "test_vit", "test_efficientnet"])
def test_timm(name):
    timm = pytest.importorskip("timm")
    size = 160 if name.startswith("test") else 64
    check(timm.create_model(name, num_classes=3), torch.randn(1, 3, size, size))


def small(name, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "Bert": {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2},
        "GPT2": {"n_embd": 16, "n_head": 2, "n_layer": 2},
    }[name]
    config = getattr(transformers, f"{name}Config")(vocab_size=20, **sizes)
    return getattr(transformers, f"{name}Model")(config)


@pytest.mark.parametrize("name", ["Bert", "GPT2"])
def test_transformers(name):
    model = small(name)
    twin = check(model, torch.randint(20, (2, 5)), attention_mask=torch.ones(2, 5), use_cache=False)
    assert twin.config is not model.config


def test_low_rank_adapters_of_peft():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["0"], r=2, init_lora_weights=False)
    check(peft.get_peft_model(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), config), torch.randn(3, 4))


def test_wrappers_are_left_out():
    compiled = torch.compile(nn.Linear(4, 4), backend="eager")
    inside = nn.Linear(4, 4)
    inside.compile(backend="eager")
    model = nn.Sequential(compiled, nn.DataParallel(nn.Linear(4, 4)), inside)
    twin = Shadow(nn.DataParallel(model)).fresh()
    assert [type(part) for part in twin] == [nn.Linear] * 3
    assert twin[2]._compiled_call_impl is None
    assert inside._compiled_call_impl is not None
    ours, theirs = named_parameters(twin), named_parameters(model)
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_by_name():
    scripted = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"submodule 'body\.1' is TorchScript"):
        Shadow(nn.ModuleDict({"body": nn.Sequential(nn.Tanh(), scripted)}))
    with pytest.raises(ValueError, match="the model is TorchScript"):
        Shadow(scripted)


def test_parameters_without_a_shape_are_refused_by_name():
    model = nn.Sequential(nn.LazyLinear(2))
    with pytest.raises(ValueError, match=r"submodule '0' is a LazyLinear .* run the model"):
        Shadow(model)
    model(torch.ones(1, 3))
    check(model, torch.ones(1, 3))


def test_inference_mode():
    with torch.inference_mode():
        model = nn.Sequential(nn.BatchNorm1d(3))
        shadow = Shadow(nn.Sequential(nn.Linear(3, 3), model))
        twin = shadow.fresh()
    assert not twin[1][0].running_mean.is_inference()
    twin[1][0].running_mean += 1
    assert not shadow.fresh()[1][0].running_mean.any()


class Restless(nn.Module):
    """Writes to all that a forward pass can write to."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.embedding = nn.Embedding(3, 3, max_norm=0.1)
        self.register_buffer("steps", torch.zeros(()))
        self.cache, self.seen, self.calls = {}, [], 0
        self.call = lambda x: self.norm(self.inner(x))

    def forward(self, x):
        self.calls += 1
        self.steps += 1
        self.cache["x"] = x
        self.seen.append(self.embedding(torch.tensor([0, 1])))
        self.inner = nn.Linear(3, 3)
        self.norm.train()
        return self.call(x)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_thousand_interrupts_leave_the_model_as_it_is():
    model, x = nn.Sequential(Restless(), nn.ReLU(inplace=True)), torch.randn(4, 3)
    shadow, before, generator = Shadow(model), snapshot(model), random.Random(0)
    countdown = 0

    def tick(frame, event, argument):
        nonlocal countdown
        frame.f_trace_opcodes = True
        countdown -= 1
        if countdown == 0:
            raise KeyboardInterrupt
        return tick

    def run(interrupt_after):
        nonlocal countdown
        countdown = interrupt_after
        sys.settrace(tick)
        try:
            shadow.fresh()(x)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(tracing)
            torch.set_grad_enabled(True)  # an interrupt within torch's own no_grad leaves it off
        return False

    tracing = sys.gettrace()
    run(1 << 30)  # finds out how objects of each class are copied
    run(1 << 30)
    steps = (1 << 30) - countdown
    interrupted = sum(run(generator.randrange(1, steps)) for _ in range(1000))
    assert interrupted > 900
    assert snapshot(model) == before
    assert torch.equal(shadow.fresh()[0].steps, torch.zeros(()))
    same_output(shadow.fresh()[0].norm.running_mean, model[0].norm.running_mean)


def test_global_state_is_preserved_and_autograd_is_on():
    def draw(data):
        numbers = torch.rand(1), numpy.random.rand(), random.random()
        return [*numbers, *(batch for batch in data)]

    loader = torch.utils.data.DataLoader(torch.arange(9), 3, shuffle=True)
    loader.sampler.generator = torch.Generator().manual_seed(1)
    first = []

    def fail():
        with preserve_state(loader):
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            first.extend(draw(loader))
            raise ZeroDivisionError

    with torch.inference_mode(), pytest.raises(ZeroDivisionError):
        fail()
    second = draw(loader)
    same_output([*map(torch.as_tensor, first)], [*map(torch.as_tensor, second)])


class KeepsItsWeight(nn.Module):
    """Derives a weight once, and computes with it ever after."""

    def __init__(self):
        super().__init__()
        self.weight, self.kept = nn.Parameter(torch.randn(2, 3)), {}

    def forward(self, x):
        if "weight" not in self.kept:
            self.kept["weight"] = torch.tanh(self.weight)
        return x @ self.kept["weight"].T


def test_a_weight_kept_from_a_pass_before():
    model, x = KeepsItsWeight().double(), torch.randn(5, 3).double()
    model(x)
    truth = estimate_importance(model, x, engine="loop")["weight"]
    ours = estimate_importance(model, x, verify="off")["weight"]
    torch.testing.assert_close(ours, truth, rtol=1e-10, atol=0)
    with pytest.raises(RuntimeError, match="earlier pass"):
        estimate_importance(model, x, engine="vmap")
