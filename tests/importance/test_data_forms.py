"""Data of every form gives the same Ω, labels are never read, and bad data gets a clear error."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset

from avalanche_mas import estimate_importance, estimate_local_importance

N = 10


class Untouchable:
    """A label that may be carried along, but not looked at."""

    def __getattribute__(self, name):
        raise AssertionError(f"a label's {name} was read")


class Rows(Dataset):
    """Samples (x, label), noting which ones are read; sorted by class, two of each."""

    def __init__(self, x, read=None):
        self.x, self.read = x, [] if read is None else read

    def __len__(self):
        return len(self.x)

    def __getitem__(self, k):
        self.read.append(k)
        return self.x[k], float("nan")


class Collated(Rows):
    """Its samples are no tensors until its own collate_fn makes a batch of them."""

    def __getitem__(self, k):
        return {"row": k}

    def collate_fn(self, samples):
        return torch.stack([self.x[sample["row"]] for sample in samples]), [Untouchable()]


class Stream(IterableDataset):
    def __init__(self, x, read=None):
        self.x, self.read = x, [] if read is None else read

    def __iter__(self):
        for k, x in enumerate(self.x):
            self.read.append(k)
            yield x, float("nan")


@pytest.fixture
def x():
    return torch.randn(N, 5, dtype=torch.float64)


@pytest.fixture
def model():
    def forward(self, x, bias=None):
        y = self.b(torch.tanh(self.a(x)))
        return y if bias is None else y + bias

    return module(forward, a=nn.Linear(5, 4), b=nn.Linear(4, 3)).double()


FORMS = {
    "tensor": lambda x: x,
    "dataset of x": lambda x: TensorDataset(x),
    "dataset of (x, y)": Rows,
    "dataset of (x, y, t)": lambda x: TensorDataset(x, torch.full((N,), torch.nan), torch.zeros(N)),
    "dataset with its own collate_fn": Collated,
    "iterable dataset": Stream,
    "loader": lambda x: DataLoader(Rows(x), 3),
    "shuffling loader": lambda x: DataLoader(Rows(x), 3, shuffle=True),
    "loader with batch sampler": lambda x: DataLoader(
        Rows(x), batch_sampler=BatchSampler(range(N), 4, drop_last=False)
    ),
    "list of x": lambda x: list(x.split(4)),
    "tuple of (x, y)": lambda x: tuple((b, Untouchable()) for b in x.split(4)),
    "list of [x, y, t]": lambda x: [[b, Untouchable(), 3] for b in x.split(3)],
    "generator": lambda x: ((b, None) for b in x.split(3)),
    "iterator": lambda x: iter(x.split(5)),
    "dicts with labels": lambda x: [
        {"labels": torch.full((len(b),), torch.nan), "x": b, "target": Untouchable()}
        for b in x.split(3)
    ],
    "empty batches between": lambda x: [x[:0], x[:4], x[:0], x[4:]],
}


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_data(model, x, form, estimate):
    expected = estimate(model, x, batch_size=N)
    ours = estimate(model, FORMS[form](x), batch_size=4)
    assert ours.samples == N
    assert worst_error(ours, expected) < 1e-12


def test_worker_processes(model, x):
    ours = estimate_importance(model, TensorDataset(x), batch_size=2, num_workers=2)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


def test_avalanche_dataset(model, x):
    from avalanche.benchmarks.utils import AvalancheDataset

    ours = estimate_importance(model, AvalancheDataset([Rows(x)]), batch_size=3)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
    part = estimate_importance(model, AvalancheDataset([Rows(x)]), batch_size=3, max_samples=4)
    assert part.samples == 4


def test_own_forward_gets_the_whole_batch(model, x):
    bias = torch.randn(N, 3, dtype=torch.float64)
    batches = [{"x": x[i : i + 4], "other": [bias[i : i + 4], "text", 7]} for i in (0, 4, 8)]
    for engine in ("exact", "vmap", "loop"):
        ours = estimate_importance(
            model, batches, engine=engine, forward=lambda m, b: m(b["x"], b["other"][0])
        )
        rows = {"x": x, "bias": bias}
        assert worst_error(ours, naive_importance(model, rows)) < 1e-10


def test_own_forward_chooses_the_output(model, x):
    ours = estimate_importance(model, x, forward=lambda m, b: torch.tanh(m.a(b)))
    expected = naive_importance(model, x, lambda m, b: torch.tanh(m.a(b)))
    assert worst_error(ours, expected) < 1e-10
    assert not ours["b.weight"].any()


def test_device_by_name(model, x):
    expected = estimate_importance(model, x)
    for device in ("cpu", torch.device("cpu")):
        ours = estimate_importance(model, x, device=device)
        assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_progress_bar_counts_the_batches(model, x, capsys):
    estimate_importance(model, x, batch_size=4, verbose=True)
    assert "/3 " in capsys.readouterr().err
    estimate_importance(model, x, batch_size=4)
    assert not capsys.readouterr().err


def test_progress_bar_knows_avalanches_datasets(model, x, capsys):
    from avalanche.benchmarks.utils import AvalancheDataset

    data = AvalancheDataset([Rows(x)])
    estimate_importance(model, data, batch_size=2, max_samples=6, verbose=True)
    assert "/3 " in capsys.readouterr().err


# --- max_samples ----------------------------------------------------------------------------------


def test_subset_of_a_dataset_is_fixed_and_spread(model):
    """A stream sorted by class must not be cut to its first class."""
    x = torch.randn(100, 5, dtype=torch.float64)
    read = []
    for _ in range(2):
        torch.rand(1)  # whatever the generator's state
        data = Rows(x)
        assert estimate_importance(model, data, max_samples=20, batch_size=8).samples == 20
        read.append(data.read)
    assert read[0] == read[1]
    assert len(set(read[0])) == 20
    assert len({k // 25 for k in read[0]}) == 4, "every quarter of the data has its share"
    ours = estimate_importance(model, Rows(x), max_samples=20)
    assert worst_error(ours, naive_importance(model, x[sorted(read[0])])) < 1e-10


@pytest.mark.parametrize("form", ["tensor", "iterable dataset", "list of x", "generator", "loader"])
def test_first_samples_of_anything_else(model, x, form):
    """Also in the middle of a batch."""
    ours = estimate_importance(model, FORMS[form](x), max_samples=7, batch_size=3)
    assert ours.samples == 7
    assert worst_error(ours, naive_importance(model, x[:7])) < 1e-10


def test_takes_no_more_from_a_generator_than_it_needs(model, x):
    batches = iter(x.split(2))
    estimate_importance(model, batches, max_samples=4)
    assert torch.equal(next(batches), x[4:6])


@pytest.mark.parametrize("form", FORMS)
def test_max_samples_beyond_the_data_changes_nothing(model, x, form):
    assert estimate_importance(model, FORMS[form](x), max_samples=999).samples == N


# --- errors ---------------------------------------------------------------------------------------


def linear():
    return nn.Linear(5, 2)


def returning(output):
    return module(lambda self, x: output(self.layer(x)), layer=linear())


def rows(n=4):
    return torch.randn(n, 5)


def exhausted():
    batches = iter([rows()])
    list(batches)
    return batches


def frozen():
    return linear().requires_grad_(False)


ERRORS = {
    # what is wrong: (model, data, options, exception, words that the message must hold)
    "no data": (linear, list, {}, ValueError, "no samples"),
    "empty tensor": (linear, lambda: rows(0), {}, ValueError, "no samples"),
    "empty dataset": (linear, lambda: TensorDataset(rows(0)), {}, ValueError, "no samples"),
    "exhausted": (linear, exhausted, {}, ValueError, "iterator may be exhausted"),
    "number": (linear, lambda: 5, {}, TypeError, "data must be a Dataset.*got int"),
    "no batches": (linear, lambda: None, {}, TypeError, "data must be.*NoneType"),
    "strings": (linear, lambda: "abc", {}, TypeError, "tensor x.*got a str.*forward="),
    "numpy": (linear, lambda: [rows().numpy()], {}, TypeError, "got a ndarray.*forward="),
    "numpy in a tuple": (linear, lambda: [(rows().numpy(), 1)], {}, TypeError, "tuple of ndarray"),
    "empty tuple": (linear, lambda: [()], {}, TypeError, "tuple of nothing"),
    "scalar batch": (linear, lambda: [torch.tensor(1.0)], {}, TypeError, "no tensor of samples"),
    "only labels": (linear, lambda: [{"labels": rows()}], {}, TypeError, "no tensor of samples"),
    "engine": (linear, rows, {"engine": "fast"}, ValueError, "exact, vmap, loop, batch.*'fast'"),
    "output": (linear, rows, {"output": "sum"}, ValueError, "'vector' or 'squares'.*'sum'"),
    "vector by batch": (
        linear, rows, {"output": "vector", "engine": "batch"}, ValueError, "engine='auto'",
    ),
    "batch_size": (linear, rows, {"batch_size": 0}, ValueError, "batch_size.*at least 1, got 0"),
    "max_samples": (linear, rows, {"max_samples": 0}, ValueError, "max_samples.*at least 1, got 0"),
    "frozen": (frozen, rows, {}, ValueError, "no trainable.*requires_grad"),
    "no parameters": (nn.ReLU, rows, {}, ValueError, "no trainable"),
    "integers": (lambda: returning(lambda y: y.argmax(1)), rows, {}, TypeError, "int64.*forward="),
    "complex": (
        lambda: returning(lambda y: y.to(torch.complex64)), rows, {}, TypeError, "complex64",
    ),
    "scalar": (
        lambda: returning(lambda y: y.sum()), rows, {}, ValueError, r"shape \(\).*first dimension",
    ),
    "transposed": (
        lambda: returning(lambda y: y.t()), rows, {}, ValueError, "first dimension must count",
    ),
    "text": (lambda: returning(lambda y: "yes"), rows, {}, TypeError, "returned a str.*forward="),
    "None": (lambda: returning(lambda y: None), rows, {}, TypeError, "NoneType"),
    "NaN in data": (
        linear, lambda: torch.full((4, 5), torch.nan), {}, ValueError, "'weight' is not finite",
    ),
    "infinite output": (
        lambda: returning(lambda y: y / 0), rows, {}, ValueError, "'layer.weight' is not finite",
    ),
    "overflow": (
        lambda: returning(lambda y: y * 1e30), rows, {}, ValueError, "square overflows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_clear_errors(name):
    make_model, make_data, options, exception, words = ERRORS[name]
    with pytest.raises(exception, match=f"(?s){words}"):
        estimate_importance(make_model(), make_data(), **options)


@pytest.mark.parametrize("name", [n for n, e in ERRORS.items() if not set(e[2]) - {"batch_size"}])
def test_clear_errors_of_the_local_measure(name):
    make_model, make_data, options, exception, words = ERRORS[name]
    if name in ("infinite output", "overflow"):
        pytest.skip("l-MAS looks at the layer, whose own output is finite")
    with pytest.raises(exception, match=f"(?s){words}"):
        estimate_local_importance(make_model(), make_data(), **options)


@pytest.mark.parametrize("engine", ["vmap", "loop", "batch"])
@pytest.mark.parametrize("name", ["integers", "scalar", "transposed", "text", "None", "overflow"])
def test_outputs_are_checked_by_every_engine(name, engine):
    make_model, make_data, _, exception, words = ERRORS[name]
    with pytest.raises(exception, match=f"(?s){words}"):
        estimate_importance(make_model(), make_data(), engine=engine)


def test_error_in_the_model_is_the_models_own():
    with pytest.raises(RuntimeError, match=r"mat1 and mat2 shapes"):
        estimate_importance(nn.Linear(3, 2), rows())
