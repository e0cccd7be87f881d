"""LwFPlugin: the paper's loss, step by step, and what Avalanche's own does differently."""

import copy

import pytest
import torch
from avalanche.models import MultiTaskModule
from avalanche.training.plugins import LwFPlugin as AvalancheLwF
from distilled import SIZES, Growing, Noisy, Shared, assert_resumes, state, unequal
from tiny_avalanche import (
    MultiHead,
    Watch,
    clusters,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas.plugins import LwFPlugin
from avalanche_mas.plugins.lwf.distillation import distillation_loss

TARGETS = ["recorded", "recomputed"]
both = pytest.mark.parametrize("targets", TARGETS)


def paper(new, old, temperature):
    """Eq. 2-4, sample by sample and class by class."""
    total = 0.0
    for new_scores, old_scores in zip(new, old, strict=True):
        y_new, y_old = new_scores.exp(), old_scores.exp()
        y_new, y_old = y_new / y_new.sum(), y_old / y_old.sum()
        y_new, y_old = y_new ** (1 / temperature), y_old ** (1 / temperature)
        y_new, y_old = y_new / y_new.sum(), y_old / y_old.sum()
        for a, b in zip(y_new, y_old, strict=True):
            total = total - b * a.log()
    return total / len(new)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_is_the_papers(temperature):
    student, teacher = torch.randn(2, 7, 4, dtype=torch.float64)
    student.requires_grad_()
    values = [function(student, teacher, temperature) for function in (paper, distillation_loss)]
    gradients = [torch.autograd.grad(value, student)[0] for value in values]
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)


def compare_with_paper(model, plugin, stream, old_scores):
    """Loss and gradient of every iteration; ``old_scores(model, x, task)`` gives all old heads."""
    teachers = Watch("before_training_exp", lambda strategy: copy.deepcopy(strategy.model).eval())

    def by_hand(strategy):
        student, teacher = copy.deepcopy(strategy.model), teachers.seen[-1]
        task = strategy.experience.current_experience
        arguments = (
            (strategy.mb_x, task) if isinstance(student, MultiTaskModule) else (strategy.mb_x,)
        )
        output = student(*arguments)
        loss = nn.functional.cross_entropy(output, strategy.mb_y)
        with torch.no_grad():
            before = old_scores(teacher, strategy.mb_x, task)
        for a, b in zip(old_scores(student, strategy.mb_x, task), before, strict=True):
            loss = loss + plugin.alpha * paper(a, b, plugin.temperature)
        student.zero_grad()
        loss.backward()
        tolerance = {"rtol": 1e-10, "atol": 1e-12}
        torch.testing.assert_close(strategy.loss.squeeze(), loss, **tolerance)
        for (name, p), q in zip(
            strategy.model.named_parameters(), student.parameters(), strict=True
        ):
            assert (p.grad is None) == (q.grad is None), name
            if p.grad is not None:
                torch.testing.assert_close(p.grad, q.grad, **tolerance)
        return len(before)

    watch = Watch("before_update", by_hand)
    train(naive(model, teachers, plugin, watch, epochs=1), stream)
    assert set(watch.seen) > {0}
    return watch.seen


@both
def test_loss_and_gradient_with_unequal_heads(targets):
    """Every old head counts, with its own classes alone, although units are padded and masked."""
    torch.set_default_dtype(torch.float64)

    def old_scores(model, x, task):
        return [model(x, t)[:, : high - low] for t, (low, high) in enumerate(SIZES[:task])]

    plugin = LwFPlugin(0.7, 3.0, targets=targets)
    model = MultiHead(initial_out_features=5)
    seen = compare_with_paper(model, plugin, unequal(torch.float64), old_scores)
    assert set(seen) == {0, 1, 2}
    assert plugin.units == {0: [0, 1], 1: [0, 1, 2, 3], 2: [0, 1, 2]}


@both
@pytest.mark.parametrize("make", [mlp, Growing, Shared])
def test_loss_and_gradient_with_a_single_head(targets, make):
    """Classes come two at a time: only those of earlier experiences are old."""
    torch.set_default_dtype(torch.float64)

    def old_scores(model, x, task):
        return [model(x)[:, : 2 * task]] if task else []

    plugin, model = LwFPlugin(2.0, targets=targets), make()
    frozen = state(model.frozen) if make is Shared else None
    compare_with_paper(model, plugin, split(dtype=torch.float64).train_stream, old_scores)
    assert plugin.units == {None: [0, 1, 2, 3, 4, 5]}
    if frozen is not None:
        assert same_bits(state(model.frozen), frozen)


def test_classes_in_any_order():
    plugin = LwFPlugin(targets="recomputed")
    stream = split(fixed_class_order=[5, 0, 3, 1, 4, 2]).train_stream
    chosen = Watch("before_backward", lambda strategy: plugin._old)
    train(naive(mlp(), plugin, chosen, epochs=1), stream)
    assert chosen.seen[0] == {}
    assert chosen.seen[-1] == {None: [0, 1, 3, 5]}


@both
@pytest.mark.parametrize("make", [Noisy, mlp])
def test_without_strength_it_is_finetuning_bit_for_bit(targets, make):
    stream = split(task_labels=make is Noisy).train_stream
    model = make()
    runs = []
    for plugins in ([], [LwFPlugin(0.0, targets=targets)]):
        torch.manual_seed(0)
        strategy = naive(copy.deepcopy(model), *plugins)
        strategy.train(stream)
        runs.append(state(strategy.model))
    assert same_bits(*runs)


@both
def test_no_random_number_is_drawn_and_no_image_goes_astray(targets):
    """Mini-batches are those of finetuning, and other plugins see them as ever."""

    def seen(*plugins):
        def look(strategy):
            assert len(strategy.mbatch) == 3
            assert torch.equal(strategy.mb_task_id, strategy.mbatch[2])
            return strategy.mb_x.clone(), strategy.mb_y.clone(), torch.get_rng_state()

        watch = Watch("before_forward", look)
        torch.manual_seed(0)
        naive(Noisy(), *plugins, watch).train(split(task_labels=True).train_stream)
        return watch.seen

    for ours, finetuning in zip(seen(LwFPlugin(targets=targets)), seen(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, finetuning, strict=True))


@pytest.mark.parametrize("make", [MultiHead, Noisy, mlp])
def test_recorded_equals_recomputed(make):
    model, runs = make(), []
    for targets in TARGETS:
        plugin = LwFPlugin(1.0, targets=targets, batch_size=5)
        stream = split(task_labels=make is not mlp).train_stream
        runs.append(state(train(naive(copy.deepcopy(model), plugin), stream).model))
    finetuned = state(train(naive(copy.deepcopy(model)), stream).model)
    assert same_bits(*runs)
    assert not same_bits(runs[0], finetuned)


def teacher_of(plugin):
    return plugin.lwf.prev_model if isinstance(plugin, AvalancheLwF) else plugin._teacher


@pytest.mark.parametrize("make", [AvalancheLwF, lambda: LwFPlugin(targets="recomputed")])
def test_the_teacher_is_the_old_model_in_eval_mode(make):
    """Avalanche's stays in train mode: its dropout is on and its BatchNorm statistics drift."""
    plugin, model = make(), Noisy()
    first, second = split(task_labels=True).train_stream[:2]
    strategy = train(naive(model, plugin), [first])
    old = copy.deepcopy(model).eval()

    def says_the_same(strategy):
        with torch.no_grad():
            return torch.equal(teacher_of(plugin)(strategy.mb_x, 0), old(strategy.mb_x, 0))

    watch = Watch("after_training_iteration", says_the_same)
    strategy.plugins.append(watch)
    train(strategy, [second])
    assert set(watch.seen) == {not isinstance(plugin, AvalancheLwF)}


@pytest.mark.parametrize(
    "make", [AvalancheLwF, *[lambda t=t: LwFPlugin(targets=t) for t in TARGETS]]
)
def test_batchnorm_statistics_move_once_per_step(make):
    """Avalanche's forwards the student once more for the old heads."""
    counts = []
    for plugins in ([], [make()]):
        model = Noisy()
        train(naive(model, *plugins), split(task_labels=True).train_stream)
        counts.append(int(model.features[1].num_batches_tracked))
    assert (counts[0] == counts[1]) is not isinstance(plugins[0], AvalancheLwF)
    assert counts[0] == 3 * 2 * 4  # experiences, epochs, mini-batches


def test_the_stronger_the_less_old_outputs_change():
    """With learning rates that keep α·lr stable, as the optimum of a strong α is the teacher."""
    model = MultiHead()
    first, second = split(task_labels=True).train_stream[:2]
    train(naive(model), [first])
    x = clusters()[0][20:40]
    before = model(x, 0).softmax(1).detach()
    drifts = []
    for alpha in (0.0, 1.0, 1e2, 1e4):
        own, plugin = copy.deepcopy(model), LwFPlugin(alpha)
        plugin.units = {0: [0, 1]}
        optimizer = optim.SGD(own.parameters(), lr=0.05 / (1 + alpha))
        train(naive(own, plugin, optimizer=optimizer, epochs=20), [second])
        drifts.append(float((own(x, 0).softmax(1) - before).detach().abs().max()))
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[0] > 1e-2
    assert drifts[-1] < 1e-4


@both
def test_checkpoint_and_resume(targets, tmp_path):
    assert_resumes(Noisy, lambda: LwFPlugin(3.0, targets=targets), tmp_path, task_labels=True)


@both
def test_nothing_is_kept_between_experiences(targets):
    plugin = LwFPlugin(targets=targets)
    during = Watch("after_forward", lambda s: (plugin._recorded, plugin._teacher))
    model = train(naive(MultiHead(), plugin, during), split(task_labels=True).train_stream).model
    assert plugin._recorded is None
    assert plugin._teacher is None
    recorded, teacher = during.seen[-1]
    assert (teacher is None) is (targets == "recorded")
    if recorded is not None:
        assert {name: table.shape for name, table in recorded.items()} == {
            "head 0": (20, 2),
            "head 1": (20, 2),
        }
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert weights(model)
