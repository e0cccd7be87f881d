"""Heads of unequal size: what they return, how they grow, and that methods work with them."""

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    nc_benchmark,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_tensor_classification_dataset as tensor_dataset,
)
from avalanche.checkpointing import maybe_load_checkpoint, save_checkpoint
from avalanche.models import MultiHeadClassifier
from avalanche.training import plugins as avalanche_plugins
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.nn import functional as F

from avalanche_mas import LocalMASPlugin, MASPlugin, estimate_importance
from avalanche_mas.models import MultiHead, TaskHeads
from avalanche_mas.plugins import EBLLPlugin, EWCPlugin, IMMPlugin, LwFPlugin, SIPlugin
from avalanche_mas.training import JointTraining

SIZES = [2, 4, 3]


def tasks(task_labels=True):
    """Ten samples of eight numbers for each class, in three tasks or in three parts of one task."""
    data = []
    for number, size in enumerate(SIZES):
        y = torch.arange(size).repeat_interleave(10)
        x = 3 * F.one_hot(y + number, 8) + 0.5 * torch.randn(len(y), 8)
        data.append(tensor_dataset(x, y, targets=y.tolist(), task_labels=number))
    options = {"one_dataset_per_exp": True, "class_ids_from_zero_in_each_exp": task_labels}
    return nc_benchmark(data, data, len(data), task_labels=task_labels, shuffle=False, **options)


def network():
    return MultiHead(nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU()), 16)


def adapted(model=None):
    """A network that has met all tasks."""
    model = model or network()
    for experience in tasks().train_stream:
        model.pre_adapt(None, experience)
    return model


def naive(model, *plugins, epochs=1, strategy=Naive):
    return strategy(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=10,
        eval_mb_size=16,
        train_epochs=epochs,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
    )


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_a_batch_of_one_task_has_the_logits_of_its_head():
    model, x = adapted().eval(), torch.randn(6, 8)
    features = model.trunk(x)
    for task, size in enumerate(SIZES):
        head = model.heads.classifiers[str(task)]
        own = model(x, task)
        assert own.shape == (6, size)
        assert torch.equal(own, head(features))
        assert torch.equal(own, model(x, torch.full((6,), task)))
        assert torch.equal(own, model.forward_single_task(x, task))
    every = model(x, None)
    assert {task: logits.shape[1] for task, logits in every.items()} == dict(enumerate(SIZES))
    assert all(torch.equal(every[task], model(x, task)) for task in every)
    assert model.forward_all_tasks(x).keys() == every.keys()


def mixed_batch(dtype=torch.float64):
    t = torch.tensor([1, 0, 2, 1, 0, 0, 2])
    return torch.randn(7, 8, dtype=dtype), torch.tensor([3, 1, 2, 0, 0, 1, 1]), t


def test_a_mixed_batch_has_the_loss_and_the_gradient_of_each_sample_s_head():
    model = adapted().double()
    x, y, t = mixed_batch()
    output = model(x, t)
    F.cross_entropy(output, y).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    assert output.shape == (7, 4)
    assert torch.equal(output.argmax(1) < torch.tensor(SIZES)[t], torch.ones(7).bool())
    model.zero_grad()
    features = model.trunk(x)
    losses = [
        F.cross_entropy(model.heads.classifiers[str(int(t[i]))](features[i]), y[i])
        for i in range(7)
    ]
    torch.stack(losses).mean().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_avalanches_padding_enters_the_loss():
    heads, theirs = TaskHeads(8), MultiHeadClassifier(8, initial_out_features=1, masking=False)
    for experience in tasks().train_stream:
        heads.adaptation(experience)
        theirs.adaptation(experience)
    x, y, t = torch.randn(5, 8), torch.tensor([0, 1, 1, 0, 0]), torch.zeros(5, dtype=torch.int64)
    head = theirs.classifiers["0"].classifier
    heads.classifiers["0"].load_state_dict(head.state_dict())
    expected = F.cross_entropy(head(x), y)
    assert torch.equal(F.cross_entropy(heads(x, t), y), expected)
    assert theirs(x, t).shape == (5, 4)
    assert F.cross_entropy(theirs(x, t), y) > expected + 0.1


def test_batch_norm_moves_once_for_a_batch_of_several_tasks():
    model = adapted()
    x, _, t = mixed_batch(torch.float32)
    model(x, t)
    assert model.trunk[1].num_batches_tracked == 1
    model(x, None)
    assert model.trunk[1].num_batches_tracked == 2


def test_a_head_grows_and_keeps_its_units():
    """Each experience brings classes that the ones before did not have."""
    first, second, third = tasks(task_labels=False).train_stream
    model = network()
    strategy = naive(model)
    name = "heads.classifiers.0.weight"
    strategy.train(first)
    before = weights(model)[name]
    assert before.shape == (2, 16)
    model.pre_adapt(None, second)
    assert torch.equal(model.heads.classifiers["0"].weight[:2], before)
    strategy.train(second)
    grown = model.heads.classifiers["0"]
    assert grown.weight.shape == (6, 16)
    moved = weights(model)[name]
    strategy.train(third)
    assert model.heads.classifiers["0"].weight.shape == (9, 16)
    assert not torch.equal(model.heads.classifiers["0"].weight[2:6], moved[2:])
    in_optimizer = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
    assert in_optimizer == {id(p) for p in model.parameters()}


def test_a_head_that_an_evaluation_made_is_trained_all_the_same():
    benchmark, model = tasks(), network()
    strategy = naive(model)
    strategy.eval(benchmark.test_stream)
    before = weights(model)
    assert model(torch.randn(2, 8), None) == {}  # no task has been trained
    strategy.train(benchmark.train_stream)
    assert len(before) == 4 + 2 * len(SIZES)
    assert not any(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_several_tasks_in_one_experience():
    first, second, third = (experience.dataset for experience in tasks().train_stream)
    benchmark = benchmark_from_datasets(train=[first.concat(second).concat(third)])
    (experience,) = with_classes_timeline(with_task_labels(benchmark)).train_stream
    assert experience.task_labels == [0, 1, 2]
    model = network()
    model.pre_adapt(None, experience)
    assert [head.out_features for head in model.heads.classifiers.values()] == SIZES


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_heads_have_the_dtype_of_the_model(dtype):
    model = adapted(model=network().to(dtype))
    assert {p.dtype for p in model.parameters()} == {dtype}
    x, _, t = mixed_batch(dtype)
    assert model(x, t).dtype == dtype


def test_empty_batches_under_autocast():
    """As without it: no rows, and as many columns as the largest head."""
    model = adapted()
    x, _, t = mixed_batch(torch.float32)
    expected = model(x[:0], t[:0])
    assert expected.shape[1] == max(SIZES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x[:0], t[:0]).shape == expected.shape


def test_under_autocast():
    """Avalanche's multi-head forward fails there, since it fills a float32 tensor."""
    model = adapted()
    x, y, t = mixed_batch(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x, t)
        loss = F.cross_entropy(output, y)
    assert output.dtype == torch.bfloat16
    assert loss.isfinite()


def test_importance_is_measured_head_by_head():
    benchmark, model = tasks(), network()
    plugin = MASPlugin(1.0)
    strategy = naive(model, plugin)
    for task, experience in enumerate(benchmark.train_stream):
        before = {} if plugin.importance is None else dict(plugin.importance)
        other = weights(model)
        strategy.train(experience)
        x = torch.stack([sample[0] for sample in experience.dataset])
        own = estimate_importance(model, x, forward=lambda m, x, task=task: m(x, task))
        for name, importance in plugin.importance.items():
            expected = own[name] + before.get(name, 0)
            torch.testing.assert_close(importance, expected, rtol=1e-4, atol=1e-5)
        heads = [n for n in other if n.startswith("heads") and f".{task}." not in n]
        assert all(torch.equal(weights(model)[n], other[n]) for n in heads)


def assert_learnt(model):
    """Each task far above chance, by a head of its own size."""
    model.eval()
    for task, experience in enumerate(tasks().test_stream):
        x, y = (torch.stack([torch.as_tensor(s[i]) for s in experience.dataset]) for i in (0, 1))
        logits = model(x, task)
        assert logits.shape[1] == SIZES[task]
        assert (logits.argmax(1) == y).float().mean() > 1.5 / SIZES[task]


METHODS = {
    "MAS": MASPlugin,
    "l-MAS": LocalMASPlugin,
    "EWC": EWCPlugin,
    "SI": SIPlugin,
    "LwF": LwFPlugin,
    "EBLL": lambda: EBLLPlugin(autoencoder_epochs=1),
    "IMM": IMMPlugin,
    "Avalanche's EWC": lambda: avalanche_plugins.EWCPlugin(1.0),
    "Avalanche's LwF": avalanche_plugins.LwFPlugin,
}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_methods_learn_tasks_of_unequal_size(make):
    model = network()
    naive(model, make(), epochs=5).train(tasks().train_stream)
    assert_learnt(model)


def test_joint_training_of_tasks_of_unequal_size():
    model = network()
    naive(model, epochs=5, strategy=JointTraining).train(tasks().train_stream)
    assert_learnt(model)


def test_resuming_from_a_checkpoint_changes_nothing(tmp_path):
    benchmark = tasks()
    whole = naive(network(), MASPlugin())
    first, *rest = benchmark.train_stream
    whole.train(first)
    save_checkpoint(whole, tmp_path / "checkpoint")
    whole.train(rest)
    resumed, begin = maybe_load_checkpoint(naive(network(), MASPlugin()), tmp_path / "checkpoint")
    assert begin == 1
    resumed.train(rest)
    ours, theirs = weights(resumed.model), weights(whole.model)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_missing_is_said():
    model = adapted()
    with pytest.raises(ValueError, match="task 5 has no head, there are heads for 0, 1, 2"):
        model(torch.randn(2, 8), 5)
    with pytest.raises(ValueError, match="task 5 has no head"):
        model(torch.randn(2, 8), torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="there are heads for no task"):
        network()(torch.randn(2, 8), 0)
    experience = tasks().train_stream[0]
    unlabelled = type("Experience", (), {"dataset": experience.dataset, "task_labels": [0]})()
    with pytest.raises(ValueError, match="no classes_in_this_experience"):
        model.pre_adapt(None, unlabelled)
