"""What must hold for every method of the registry: a new one is tested by being registered."""

import copy
import itertools

import commands
import pytest
import resume_every_method as resuming
import torch
from avalanche.benchmarks import nc_benchmark
from every_method import (
    CASES,
    HUGE,
    OURS,
    Features,
    ManyHeads,
    OneHead,
    guarded,
    make,
    many,
    old_answers,
    watching,
)
from tiny_avalanche import clusters, dataset, naive, same_bits, train, weights
from torch import nn, optim

from avalanche_mas.evaluation import method_memory
from avalanche_mas.plugins.registry import METHODS

every_method = pytest.mark.parametrize("name", OURS)
every_case = pytest.mark.parametrize("case", CASES)


@every_method
@every_case
def test_without_strength_it_is_finetuning_bit_for_bit(name, case):
    make_model, benchmark = CASES[case]
    original, runs = make_model(), []
    for strategy in (
        naive(copy.deepcopy(original)),
        make(OURS[name], copy.deepcopy(original), 0.0),
    ):
        torch.manual_seed(0)  # once: what a method draws would show in what comes next
        strategy.train(benchmark().train_stream)
        runs.append(strategy.model.state_dict())
    assert same_bits(*runs)


@every_method
@every_case
def test_a_huge_strength_keeps_what_the_method_protects(name, case):
    """And the new task is learnt all the same, where it has a head of its own."""
    method, (make_model, benchmark) = OURS[name], CASES[case]
    strength, rates, epochs, share = HUGE[method.protects]
    stream, original, changes = benchmark().train_stream, make_model(), []
    for chosen in ([], method.plugins(strength, classifier="classifier")):
        model = copy.deepcopy(original)
        optimizer = optim.SGD(model.parameters(), **rates)
        strategy = naive(model, *chosen, optimizer=optimizer, epochs=epochs)
        x = guarded(method, stream)
        train(strategy, stream[:1])
        before, old = old_answers(model, x), weights(model)
        omega = dict(getattr(chosen[0], "importance", {})) if chosen else {}
        train(strategy, stream[1:2])
        changes.append((old_answers(model, x) - before).square().mean().sqrt())
        assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    if not (method.protects == "weights" and case == "batchnorm and dropout"):
        # BatchNorm's statistics go with the data, and with them the answers: they are no weights.
        assert changes[1] < share * changes[0]
    assert ("features.2.weight" in omega) is (method.protects == "weights")
    for parameter, marks in omega.items():
        marked = marks > 0.1 * marks.max()
        now = weights(model)[parameter][tuple(slice(n) for n in marks.shape)]
        moved = (now - old[parameter])[marked]
        assert not marked.any() or moved.abs().max() < 1e-4
    if case == "frozen layer":
        assert torch.equal(model.features[0].weight, original.features[0].weight)


@every_method
def test_nothing_is_touched_between_the_steps(name):
    """Parameters, buffers, gradients, optimizer, modes, what trains, and all random states."""
    callbacks = [
        f"{when}_{what}"
        for when in ("before", "after")
        for what in ("training", "train_dataset_adaptation", "training_exp", "training_epoch")
    ]
    model = ManyHeads(Features(nn.BatchNorm1d(16), nn.BatchNorm1d(16), nn.Dropout(0.5)))
    model.features[2].eval().requires_grad_(False)
    before, after = watching(callbacks), watching(callbacks)
    strategy = naive(model, before, *OURS[name].plugins(0.1, classifier="classifier"), after)
    strategy.train(many().train_stream)
    assert len(before.seen) == len(after.seen) == 2 + 3 * (4 + 2 * 2)
    for i, (first, second) in enumerate(zip(before.seen, after.seen, strict=True)):
        different = [k for k in first if not torch.equal(first[k], second[k])]
        assert not different, f"callback {i}"
        assert first.keys() == second.keys()


@every_method
def test_evaluation_in_between_changes_nothing(name):
    model, runs = ManyHeads(), []
    benchmark = many()
    for evaluate in (False, True):
        strategy = make(OURS[name], copy.deepcopy(model), 0.5)
        for experience in benchmark.train_stream:
            train(strategy, [experience])
            if evaluate:
                state = torch.get_rng_state()
                strategy.eval(benchmark.test_stream[: experience.current_experience + 1])
                torch.set_rng_state(state)
        runs.append(strategy.model.state_dict())
    assert same_bits(*runs)


@every_method
@every_case
def test_the_network_that_is_evaluated(name, case):
    """After every task, without moving the one that is trained."""
    method, (make_model, benchmark) = OURS[name], CASES[case]
    strategy = make(method, make_model(), 0.1)
    for experience in benchmark().train_stream:
        train(strategy, [experience])
        before = {n: t.clone() for n, t in strategy.model.state_dict().items()}
        evaluated = method.final_model(strategy)
        assert same_bits(before, strategy.model.state_dict())
        assert (evaluated is strategy.model) is (method.merge is None)
        x = torch.stack([sample[0] for sample in experience.dataset])
        assert old_answers(evaluated, x).isfinite().all()
        assert evaluated.state_dict().keys() == before.keys()


def one_head_benchmark(n_experiences):
    """The same two classes in every experience, each time elsewhere; 20 samples each."""
    data = [dataset(*clusters(n_classes=2, seed=seed)) for seed in range(n_experiences)]
    options = {"one_dataset_per_exp": True, "class_ids_from_zero_in_each_exp": True}
    return nc_benchmark(data, data, n_experiences, task_labels=False, **options)


@every_method
def test_memory_over_ten_tasks(name):
    strategy = make(OURS[name], OneHead(), 0.1, epochs=1)
    kept = []
    for experience in one_head_benchmark(10).train_stream:
        train(strategy, [experience])
        kept.append(method_memory(strategy))
    steps = {b - a for a, b in itertools.pairwise(kept[1:])}
    assert len(steps) == 1  # it grows evenly, if at all
    assert (steps.pop() > 0) is OURS[name].grows


@every_method
@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(name, strength):
    with pytest.raises(ValueError, match=next(iter(OURS[name].strength))):
        OURS[name].plugins(strength)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_published_can_be_used(name):
    method = METHODS[name]
    assert method.plugin or not method.published
    for found in method.published:
        assert found.source.endswith(".")
        assert method.plugins(1.0, **found.values)


@pytest.mark.parametrize(("name", "strength"), [("MAS", None), ("finetuning", 1.0)])
def test_a_missing_or_superfluous_strength_is_refused(name, strength):
    with pytest.raises(ValueError, match="strength"):
        METHODS[name].plugins(strength)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A folder in which a new process went on from the checkpoint of every method."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in OURS:
        resuming.save(name, folder)
    code = f"import resume_every_method as r; r.resume_all({str(folder)!r})"
    return folder, commands.run("-c", code, quiet=True).stderr


@every_method
def test_resuming_in_a_new_process_is_bit_exact(name, resumed):
    folder, errors = resumed
    weights = folder / f"{name}.weights"
    assert weights.exists(), errors
    assert same_bits(torch.load(weights), resuming.uninterrupted(name))
