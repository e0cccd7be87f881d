"""On which samples Ω is measured: every comparison is with an estimate by hand, in float64."""

import functools

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    nc_benchmark,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.scenarios.deprecated.generic_benchmark_creation import (
    create_generic_benchmark_from_tensor_lists,
)
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_tensor_classification_dataset as tensor_dataset,
)
from tiny_avalanche import (
    ESTIMATE,
    PLUGINS,
    MultiHead,
    assert_close,
    clusters,
    dataset,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

pytestmark = pytest.mark.parametrize("plugin_type", PLUGINS)
equal = functools.partial(assert_close, rtol=1e-10, atol=1e-12)

X, Y = clusters(dtype=torch.float64)
X_TEST, _ = clusters(seed=1, dtype=torch.float64)
FIRST = slice(0, 20)  # the samples of experience 0


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)


@pytest.fixture
def benchmark():
    return split(dtype=torch.float64)


def measured(plugin, experience, model=None):
    """The model after training on one experience, and what the plugin says of it."""
    model = model or mlp()
    train(naive(model, plugin), [experience])
    assert plugin.tasks == 1
    return model, plugin.importance


def through_head(task):
    return {"forward": lambda model, x: model(x, task)}


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_one_stream(plugin_type, benchmark, batch_size):
    for stream, x in (("train", X), ("test", X_TEST)):
        plugin = plugin_type(streams=stream, batch_size=batch_size)
        model, importance = measured(plugin, benchmark.train_stream[0])
        equal(importance, ESTIMATE[plugin_type](model, x[FIRST]))
        assert importance.samples == 20


def test_experience_i_is_measured_on_experience_i_of_the_stream(plugin_type, benchmark):
    plugin = plugin_type(streams="test")
    model = mlp()
    strategy = train(naive(model, plugin), benchmark.train_stream[:1])
    before = dict(plugin.importance)
    train(strategy, benchmark.train_stream[1:2])
    own = ESTIMATE[plugin_type](model, X_TEST[20:40])
    equal(plugin.importance, {name: own[name] + before[name] for name in own})


@pytest.mark.parametrize("multi_head", [False, True])
def test_several_streams_form_one_mean(plugin_type, multi_head):
    """Of 20 + 8 samples: the mean over their union, not the mean of two means."""
    test = dataset(X_TEST[::5], Y[::5])  # two of each class
    train_data = dataset(X, Y)
    uneven = nc_benchmark(
        train_data,
        test,
        3,
        task_labels=multi_head,
        shuffle=False,
        class_ids_from_zero_in_each_exp=multi_head,
    )
    model = MultiHead() if multi_head else mlp()
    plugin = plugin_type(streams=["train", "test"])
    model, importance = measured(plugin, uneven.train_stream[0], model)
    options = through_head(0) if multi_head else {}
    a, b = X[FIRST], X_TEST[::5][:4]
    estimate = functools.partial(ESTIMATE[plugin_type], model, **options)
    equal(importance, estimate(torch.cat([a, b])))
    equal(importance, estimate(a).merge(estimate(b)))
    assert importance.samples == 24


UNLABELLED = {
    "dataset": lambda x: TensorDataset(x),
    "avalanche dataset": lambda x: AvalancheDataset([TensorDataset(x)]),
    "concatenation": lambda x: ConcatDataset([TensorDataset(x[:7]), TensorDataset(x[7:])]),
    "loader": lambda x: DataLoader(TensorDataset(x), batch_size=6, shuffle=True),
    "tensor": lambda x: x,
    "batches": lambda x: [x[:3], x[3:]],
}


@pytest.mark.parametrize("kind", UNLABELLED)
@pytest.mark.parametrize("multi_head", [False, True])
def test_a_function_may_give_unlabelled_data(plugin_type, kind, multi_head):
    benchmark = split(task_labels=multi_head, dtype=torch.float64)
    asked = []

    def deployed(experience):
        asked.append(experience.current_experience)
        return UNLABELLED[kind](X_TEST)

    plugin = plugin_type(streams=deployed)
    model = MultiHead() if multi_head else mlp()
    model, importance = measured(plugin, benchmark.train_stream[0], model)
    options = through_head(0) if multi_head else {}
    equal(importance, ESTIMATE[plugin_type](model, X_TEST, **options))
    assert set(asked) == {0}


def test_further_fields_are_left_alone(plugin_type, benchmark):
    """(x, y, more, and more), where nothing after x belongs into the model."""
    more = torch.full((60, 3), float("nan"))
    plugin = plugin_type(streams=lambda experience: TensorDataset(X, Y, more, more[:, :1]))
    model, importance = measured(plugin, benchmark.train_stream[0])
    equal(importance, ESTIMATE[plugin_type](model, X))


def test_evaluation_transforms_are_used(plugin_type):
    """The train transform would ruin it: it draws noise and stretches a thousandfold."""

    def augment(x):
        return 1e3 * (x + torch.randn_like(x))

    data = tensor_dataset(
        X,
        Y,
        targets=Y.tolist(),
        task_labels=0,
        transform_groups={"train": (augment, None), "eval": (lambda x: x + 0.25, None)},
    )
    uneven = nc_benchmark(data, data, 3, task_labels=False, shuffle=False)
    for stream in ("train", "test"):
        plugin = plugin_type(streams=stream)
        model, importance = measured(plugin, uneven.train_stream[0])
        equal(importance, ESTIMATE[plugin_type](model, X[FIRST] + 0.25))
    assert uneven.train_stream[0].dataset[0][0].abs().max() > 1e2  # and training keeps its own


def refused(plugin, experience, error, words):
    """Training is refused in words, with every weight as it was."""
    model = mlp()
    before = weights(model)
    with pytest.raises(error, match=words):
        train(naive(model, plugin), [experience])
    assert same_bits(weights(model), before)


def test_an_unknown_stream_is_refused_before_training(plugin_type, benchmark):
    refused(
        plugin_type(streams=["train", "validation"]),
        benchmark.train_stream[0],
        ValueError,
        r"no stream 'validation'; it has test, train",
    )


def test_a_stream_that_is_too_short_is_refused_before_training(plugin_type):
    parts = [(X[i : i + 20], Y[i : i + 20]) for i in (0, 20, 40)]
    benchmark = create_generic_benchmark_from_tensor_lists(
        parts, parts, other_streams_tensors={"valid": parts[:1]}, task_labels=[0, 0, 0]
    )
    plugin = plugin_type(streams="valid")
    measured(plugin, benchmark.train_stream[0])
    refused(plugin, benchmark.train_stream[1], ValueError, r"'valid' has no experience 1")


def test_a_missing_benchmark_is_refused_with_the_remedy(plugin_type):
    data = [dataset(x, Y) for x in (X, X_TEST)]
    benchmark = benchmark_from_datasets(train=data[:1], test=data[1:])
    experience = benchmark.train_stream[0]
    refused(plugin_type(streams="test"), experience, ValueError, r"streams=lambda experience")

    plugin = plugin_type()
    model, importance = measured(plugin, experience)
    equal(importance, ESTIMATE[plugin_type](model, X))

    plugin = plugin_type(
        streams=lambda experience: benchmark.test_stream[experience.current_experience].dataset
    )
    model, importance = measured(plugin, experience)
    equal(importance, ESTIMATE[plugin_type](model, X_TEST))


def test_a_function_that_gives_no_data_is_told_so(plugin_type, benchmark):
    """It is asked when the measurement begins: it may give what was collected until then."""
    plugin = plugin_type(streams=lambda experience: None)
    with pytest.raises(TypeError, match=r"data must be a Dataset.*NoneType"):
        measured(plugin, benchmark.train_stream[0])


def test_task_labels_added_to_datasets(plugin_type):
    """Avalanche's newer way to a multi-head benchmark."""
    data = [dataset(X[i : i + 20], Y[i : i + 20] % 2, task) for task, i in enumerate((0, 20))]
    benchmark = with_classes_timeline(with_task_labels(benchmark_from_datasets(train=data)))
    model, plugin = MultiHead(), plugin_type()
    strategy = naive(model, plugin)
    before = {}
    for task, experience in enumerate(benchmark.train_stream):
        experience.classes_in_this_experience = sorted(experience.classes_in_this_experience)
        train(strategy, [experience])
        own = ESTIMATE[plugin_type](model, X[20 * task : 20 * task + 20], **through_head(task))
        equal(plugin.importance, {name: own[name] + before.get(name, 0) for name in own})
        before = dict(plugin.importance)


def test_every_sample_is_measured_through_its_own_head(plugin_type):
    """Data of two tasks, in one batch; heads of 2 and 4 units, so that padding would show."""
    both = tensor_dataset(
        X[:40], Y[:40] % 2, targets=(Y[:40] % 2).tolist(), task_labels=[0, 1] * 20
    )
    model = MultiHead()
    plugin = plugin_type(streams=lambda experience: both, batch_size=16)
    first, second = (
        nc_benchmark(
            [dataset(X[:20], Y[:20]), dataset(X[20:], Y[20:] - 2, 1)],
            [dataset(X[:20], Y[:20]), dataset(X[20:], Y[20:] - 2, 1)],
            2,
            task_labels=True,
            one_dataset_per_exp=True,
            shuffle=False,
            class_ids_from_zero_in_each_exp=True,
        )
    ).train_stream
    train(naive(model), [first])  # so that both heads exist before anything is measured
    measured(plugin, second, model)
    assert model.heads.classifiers["1"].classifier.out_features == 4
    parts = [ESTIMATE[plugin_type](model, X[:40][task::2], **through_head(task)) for task in (0, 1)]
    equal(plugin.importance, parts[0].merge(parts[1]))


@pytest.mark.parametrize("streams", ["train", ["train", "test"]])
def test_a_limited_number_of_samples(plugin_type, benchmark, streams):
    """A subset of each stream, always the same; it reaches every class of a sorted stream."""
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        plugin = plugin_type(0.0, streams=streams, max_samples=8)
        results.append(dict(measured(plugin, benchmark.train_stream[0])[1]))
        assert plugin.importance.samples == 8 * (1 if streams == "train" else 2)
    assert same_bits(*results)
    torch.manual_seed(0)
    model, full = measured(plugin_type(0.0, streams=streams), benchmark.train_stream[0])
    assert not same_bits(results[0], dict(full))
    first_class = ESTIMATE[plugin_type](model, X[:8])
    assert not torch.allclose(results[0]["2.weight"], first_class["2.weight"], rtol=1e-3)


def test_loader_processes_change_nothing(plugin_type, benchmark):
    results = []
    for workers in (0, 2):
        torch.manual_seed(0)
        plugin = plugin_type(num_workers=workers)
        model, importance = measured(plugin, benchmark.train_stream[0])
        results.append((weights(model), dict(importance), torch.rand(1)))
    assert same_bits(results[0][0], results[1][0])
    assert same_bits(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


def test_priming_takes_avalanches_datasets(plugin_type, benchmark):
    model, plugin = mlp(), plugin_type()
    own = plugin.prime(model, benchmark.test_stream[0].dataset)
    equal(own, ESTIMATE[plugin_type](model, X_TEST[FIRST]))


def test_priming_uses_evaluation_transforms(plugin_type):
    groups = {"train": (lambda x: 0 * x, None), "eval": (None, None)}
    data = tensor_dataset(X, Y, targets=Y.tolist(), task_labels=0, transform_groups=groups)
    model = mlp()
    equal(plugin_type().prime(model, data), ESTIMATE[plugin_type](model, X))
