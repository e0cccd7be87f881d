"""Joint training: every sample once an epoch, heads of the right size, no padding in the loss."""

import copy
from collections import Counter

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
from avalanche.models import DynamicModule, IncrementalClassifier
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import JointTraining as AvalancheJointTraining
from avalanche.training.supervised import Naive
from avalanche.training.supervised.joint_training import AlreadyTrainedError
from tiny_avalanche import (
    FEATURES,
    MultiHead,
    Watch,
    assert_close,
    clusters,
    dataset,
    mlp,
    same_bits,
    split,
    weights,
)
from torch import nn, optim
from torch.utils.data import TensorDataset

from avalanche_mas import MASPlugin, estimate_importance
from avalanche_mas.benchmarks import split_digits
from avalanche_mas.evaluation import AccuracyMatrix
from avalanche_mas.training import JointTraining


def unequal(dtype=torch.float32):
    """Tasks of two and of seven classes, with 20 and 70 samples."""
    x, y = clusters(n_classes=9, dtype=dtype)
    first = y < 2
    data = [dataset(x[first], y[first], 0), dataset(x[~first], y[~first] - 2, 1)]
    options = {"shuffle": False, "class_ids_from_zero_in_each_exp": True}
    return nc_benchmark(data, data, 2, task_labels=True, one_dataset_per_exp=True, **options)


def joint(model, *plugins, strategy=JointTraining, metrics=(), lr=0.05, **options):
    options = {"train_mb_size": 8, "eval_mb_size": 50, "train_epochs": 2} | options
    return strategy(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=lr),
        criterion=options.pop("criterion", nn.CrossEntropyLoss()),
        plugins=list(plugins),
        evaluator=EvaluationPlugin(*metrics, loggers=[]),
        **options,
    )


def batches():
    return Watch("after_forward", lambda s: [s.clock.train_exp_epochs, *s.mbatch])


def samples_seen(watch):
    """For each of two epochs, how often each sample was seen, by its values."""
    seen = [Counter(), Counter()]
    for epoch, x, *_ in watch.seen:
        seen[epoch].update(map(tuple, x.tolist()))
    return seen


def test_every_sample_is_seen_once_in_each_epoch_and_tasks_are_mixed():
    watch = batches()
    stream = unequal().train_stream
    joint(MultiHead(), watch).train(stream)
    expected = {tuple(x.tolist()) for experience in stream for x, *_ in experience.dataset}
    assert samples_seen(watch) == 2 * [Counter(expected)]
    assert len(expected) == 90
    mixed = [len(task.unique()) == 2 for *_, task in watch.seen]
    assert sum(mixed) > len(mixed) / 2
    orders = [torch.cat([x for e, x, *_ in watch.seen if e == epoch]) for epoch in (0, 1)]
    assert not torch.equal(*orders)


def test_avalanches_own_repeats_the_samples_of_small_tasks():
    """Both tasks fill half of each batch: the 20 samples are seen 3.5 times, the 70 once."""
    watch = batches()
    joint(MultiHead(), watch, strategy=AvalancheJointTraining).train(unequal().train_stream)
    per_task = Counter(int(task) for epoch, *_, tasks in watch.seen if epoch == 0 for task in tasks)
    assert per_task[1] == 70
    assert per_task[0] > 60


def sizes(model):
    return {task: head.classifier.out_features for task, head in model.heads.classifiers.items()}


def test_heads_are_those_of_learning_in_sequence():
    runs = {}
    for strategy in (Naive, JointTraining, AvalancheJointTraining):
        model = MultiHead()
        joint(model, strategy=strategy).train(unequal().train_stream)
        runs[strategy] = sizes(model), model.heads.active_units
    assert runs[JointTraining] == runs[Naive]
    assert runs[JointTraining][0] == {"0": 2, "1": 7}
    assert runs[AvalancheJointTraining][0] != {"0": 2, "1": 7}


class Aside(DynamicModule):
    """Notes what it is adapted to."""

    def __init__(self, auto_adapt):
        super().__init__(auto_adapt)
        self.seen = []

    def adaptation(self, experience):
        self.seen.append(experience.current_experience)

    def forward(self, x):
        return x


def test_modules_that_adapt_themselves_are_left_alone():
    by_itself, by_others = Aside(True), Aside(False)
    strategy = joint(mlp().extend([by_itself, by_others]))
    strategy.train(split().train_stream)
    strategy.eval(split().test_stream[1:2])
    assert by_itself.seen == [0, 1, 2, 1]
    assert by_others.seen == []


def by_hand(model, x, y, tasks):
    """The mean loss of samples that go one by one through their own heads, without padding."""
    losses = [
        nn.functional.cross_entropy(model(x[i : i + 1], int(tasks[i])), y[i : i + 1])
        for i in range(len(x))
    ]
    return torch.stack(losses).mean()


def test_no_padding_enters_the_loss():
    torch.set_default_dtype(torch.float64)
    model = MultiHead()

    def compare(strategy):
        own, expected = strategy.loss.squeeze(), by_hand(model, *strategy.mbatch)
        torch.testing.assert_close(own, expected)
        gradients = [
            torch.autograd.grad(
                loss,
                model.parameters(),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            for loss in (own, expected)
        ]
        torch.testing.assert_close(*gradients)

    watch = Watch("before_backward", compare)
    joint(model, watch).train(unequal(torch.float64).train_stream)
    assert watch.seen


def test_no_padding_wins_in_evaluation():
    """With scores below zero, a zero in place of a class that the head does not have would win."""
    benchmark, model = unequal(), MultiHead()
    metrics = [accuracy_metrics(experience=True), loss_metrics(experience=True)]
    strategy = joint(model, metrics=metrics)
    strategy.train(benchmark.train_stream)
    with torch.no_grad():
        for head in model.heads.classifiers.values():
            head.classifier.bias -= 50
    result = strategy.eval(benchmark.test_stream)
    for task, experience in enumerate(benchmark.test_stream):
        x, y, t = next(iter(torch.utils.data.DataLoader(experience.dataset, 100)))
        name = f"eval_phase/test_stream/Task00{task}/Exp00{task}"
        right = (model(x, task).argmax(dim=1) == y).double().mean()
        assert result[f"Top1_Acc_Exp/{name}"] == pytest.approx(float(right))
        assert right > 0.5
        loss = float(by_hand(model, x, y, t).detach())
        assert result[f"Loss_Exp/{name}"] == pytest.approx(loss, rel=1e-5)


def test_plugins_see_one_experience_with_everything():
    stream = unequal().train_stream

    def look(strategy):
        e = strategy.experience
        assert e.origin_stream is stream[1].origin_stream
        return len(e.dataset), e.task_labels, e.classes_in_this_experience, e.current_experience

    callbacks = ("before_training_exp", "after_training_iteration", "after_training_exp")
    watches = [Watch(callback, look) for callback in callbacks]
    strategy = joint(MultiHead(), *watches, metrics=[accuracy_metrics(epoch=True)])
    metrics = strategy.train(stream)
    for watch in watches:
        assert set(map(str, watch.seen)) == {str((90, [0, 1], list(range(7)), 1))}
    assert len(watches[0].seen) == len(watches[2].seen) == 1
    assert list(metrics) == ["Top1_Acc_Epoch/train_phase/train_stream"]  # of no single task
    assert strategy.experience is strategy.adapted_dataset is strategy.mbatch is None
    assert strategy.dataloader == []


def test_importance_is_measured_on_all_experiences():
    model, plugin, benchmark = mlp(), MASPlugin(), split()
    joint(model, plugin).train(benchmark.train_stream)
    assert plugin.importance.samples == 60
    assert_close(plugin.importance, estimate_importance(model, clusters()[0]))


def collated(samples):
    x, y = map(torch.stack, zip(*samples, strict=True))
    return x + 1, y


def test_without_task_labels_and_with_a_collate_function_of_ones_own():
    x = torch.randn(30, FEATURES)
    data = [TensorDataset(part, part.flip(1)) for part in x.split(10)]
    data = [AvalancheDataset([part], collate_fn=collated) for part in data]
    stream = benchmark_from_datasets(train=data, test=data).train_stream
    watch = batches()
    joint(mlp(FEATURES), watch, criterion=nn.MSELoss()).train(stream)
    assert samples_seen(watch) == 2 * [Counter(map(tuple, (x + 1).tolist()))]


def test_one_head_that_grows_has_all_classes_from_the_start():
    model = nn.Sequential(IncrementalClassifier(FEATURES, initial_out_features=2))
    strategy = joint(model, metrics=[accuracy_metrics(stream=True)], train_epochs=10)
    strategy.train(split().train_stream)
    assert model[0].classifier.out_features == 6
    result = strategy.eval(split().test_stream)
    assert result["Top1_Acc_Stream/eval_phase/test_stream/Task000"] > 0.9


def test_it_learns_the_digits():
    benchmark, matrix, model = split_digits(), AccuracyMatrix("test"), MultiHead(64)
    model.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU())
    strategy = joint(model, metrics=[matrix], train_mb_size=32, train_epochs=5, lr=0.2)
    strategy.train(benchmark.train_stream)
    strategy.eval(benchmark.test_stream)
    assert matrix.result().shape == (1, 5)
    assert matrix.result().min() > 0.85
    assert matrix.result().mean() > 0.95


def test_the_seed_decides_everything():
    def run(seed, workers=0):
        torch.manual_seed(0)
        model = MultiHead()
        torch.manual_seed(seed)
        joint(model).train(unequal().train_stream, num_workers=workers)
        return weights(model)

    first = run(1)
    assert same_bits(first, run(1))
    assert same_bits(first, run(1, workers=2))
    assert not same_bits(first, run(2))


def test_options_of_the_loader():
    watch = batches()
    strategy = joint(MultiHead(), watch, train_epochs=1)
    strategy.train(unequal().train_stream, shuffle=False, drop_last=True)
    tasks = torch.cat([task for *_, task in watch.seen])
    assert len(tasks) == 88
    assert torch.equal(tasks, tasks.sort().values)


def test_evaluation_before_and_while_training_changes_no_head():
    benchmark, runs = unequal(), []
    for evaluate in (False, True):
        model, watch = MultiHead(), batches()
        strategy = joint(model, watch, eval_every=1 if evaluate else -1)
        streams = [benchmark.test_stream] if evaluate else None
        strategy.train(benchmark.train_stream, eval_streams=streams)
        assert len(samples_seen(watch)[1]) == 90
        runs.append((sizes(model), model.heads.active_units))
    assert runs[0] == runs[1]


def test_without_other_streams_the_training_experiences_are_evaluated_one_by_one():
    strategy = joint(MultiHead(), metrics=[accuracy_metrics(experience=True)], eval_every=1)
    names = strategy.train(unequal().train_stream)
    assert {name[-6:] for name in names if "eval_phase" in name} == {"Exp000", "Exp001"}


def test_one_experience_is_a_stream_too():
    first = split().train_stream[0]
    models = [model := mlp(), copy.deepcopy(model)]
    for model, strategy in zip(models, (JointTraining, Naive), strict=True):
        joint(model, strategy=strategy).train(first, shuffle=False)
    assert same_bits(*map(weights, models))


def test_what_is_no_joint_training_is_refused():
    strategy, stream = joint(mlp()), split().train_stream
    with pytest.raises(ValueError, match="stream is empty"):
        strategy.train([])
    strategy.train(stream[0])
    with pytest.raises(AlreadyTrainedError, match="all experiences together"):
        strategy.train(stream[1])
