"""A watched call counts whole or not at all; only the user's own calls count; copies are free."""

import copy
import io
import pickle
import threading
import warnings

import pytest
import torch
from judge import naive_importance, worst_error
from torch import nn

from avalanche_mas import (
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)

WATCHES = {
    "global": (watch_importance, estimate_importance),
    "local": (watch_local_importance, estimate_local_importance),
}


class Fragile(torch.autograd.Function):
    fail = False

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, delta):
        if Fragile.fail:
            raise torch.OutOfMemoryError("no memory left")
        return delta


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(Fragile.apply(torch.relu(self.a(x))))


def close(ours, theirs):
    return worst_error(ours, theirs) < 1e-5


def test_a_pass_that_fails_adds_nothing():
    model, x, large = Net().eval(), torch.randn(64, 8), 100 * torch.randn(64, 8)
    with watch_importance(model, fraction=1.0) as watched:
        model(x)
        Fragile.fail = True
        with pytest.raises(torch.OutOfMemoryError):
            model(large)
        Fragile.fail = False
        model(x)
    assert watched.samples == 128
    assert close(watched.importance, estimate_importance(model, x))


@pytest.mark.parametrize("way", WATCHES)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_call_that_is_not_finite_is_left_out(way, number):
    watch, estimate = WATCHES[way]
    model, good = (
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)).eval(),
        torch.randn(10, 8),
    )
    bad = good.clone()
    bad[3, 0] = number
    with watch(model, fraction=1.0) as watched:
        model(good)
        with pytest.warns(UserWarning, match="not finite.*left out"):
            model(bad)
        model(good)
    assert watched.samples == 20
    assert close(watched.importance, estimate(model, good))


@pytest.mark.parametrize("way", WATCHES)
def test_measuring_is_not_use(way):
    watch, estimate = WATCHES[way]
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x, y = torch.randn(40, 8), 100 * torch.randn(40, 8)
    with watch(model, fraction=1.0) as watched:
        model(x)
        for measure in estimate_importance, estimate_local_importance:
            measure(model, y)
    assert watched.samples == watched.seen == 40
    assert close(watched.importance, estimate(model, x))


@pytest.mark.parametrize("way", WATCHES)
def test_copies_and_files_know_nothing_of_it(way):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    with WATCHES[way][0](model, fraction=1.0) as watched:
        twin, pickled, file = copy.deepcopy(model), pickle.dumps(model), io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        for free in twin, pickle.loads(pickled), torch.load(file, weights_only=False):
            free.train()(torch.randn(3, 4))
            assert vars(free).get("_compiled_call_impl") is None
        assert watched.seen == 0
        model(torch.randn(3, 4))
        assert watched.seen == 3
    assert vars(model).get("_compiled_call_impl") is None


def test_a_compiled_call_is_put_back():
    model = nn.Linear(4, 2).eval()
    model.compile(backend="eager")
    before = model._compiled_call_impl
    with watch_importance(model, fraction=1.0) as watched:
        model(torch.randn(3, 4))
    assert model._compiled_call_impl is before
    assert watched.samples == 3


@pytest.mark.parametrize("change", ["data", "in place", "new"])
def test_weights_that_change_are_noticed(change):
    model = nn.Linear(4, 2).eval()

    def watched():
        with watch_importance(model, fraction=1.0):
            model(torch.randn(3, 4))
            if change == "data":
                model.weight.data.mul_(2)
            elif change == "in place":
                with torch.no_grad():
                    model.weight.add_(1)
            else:
                model.weight = nn.Parameter(torch.randn(2, 4))
            model(torch.randn(3, 4))

    with pytest.raises(ValueError, match="'weight' has changed"):
        watched()
    model(torch.randn(3, 4))  # and it is no longer watched
    assert vars(model).get("_compiled_call_impl") is None


def test_an_error_of_the_users_own_is_not_hidden():
    model = nn.Linear(4, 2).eval()

    def fail():
        with watch_importance(model, fraction=1.0):
            model(torch.randn(3, 4))
            model.weight.data.mul_(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize("way", WATCHES)
@pytest.mark.parametrize("run", range(20))
def test_four_threads(way, run):
    watch, _ = WATCHES[way]
    torch.manual_seed(run)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    inputs = torch.randn(4, 10, 5, 6).double()
    errors = []

    def serve(batches):
        try:
            for x in batches:
                with torch.no_grad():
                    model(x)
        except BaseException as error:
            errors.append(error)

    with watch(model, fraction=1.0) as watched:
        threads = [threading.Thread(target=serve, args=(part,)) for part in inputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert watched.samples == watched.seen == 200
    x = inputs.flatten(0, 2)
    truth = naive_importance(model, x) if way == "global" else estimate_local_importance(model, x)
    assert worst_error(watched.importance, truth) < 1e-10


@pytest.mark.parametrize("way", WATCHES)
def test_a_model_that_calls_itself_counts_once(way):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, again=True):
            return self(torch.relu(self.layer(x)), again=False) if again else self.layer(x)

    model, x = Twice().double().eval(), torch.randn(6, 4).double()
    watch, estimate = WATCHES[way]
    with watch(model, fraction=1.0) as watched, warnings.catch_warnings():
        model(x)
    assert watched.samples == 6
    assert close(watched.importance, estimate(model, x))


def swapped(model):
    kept = model.weight.detach().clone()
    model.weight.data.mul_(2)
    yield
    model.weight.data.copy_(kept)


def replaced(model):
    model.weight = nn.Parameter(model.weight.detach().clone())
    yield


def frozen(model):
    model.weight.requires_grad_(False)
    yield


@pytest.mark.parametrize("change", [swapped, replaced, frozen])
@pytest.mark.parametrize("way", WATCHES)
def test_changes_that_bits_at_the_end_do_not_show(way, change):
    model = nn.Linear(4, 2).eval()

    def watched():
        with WATCHES[way][0](model, fraction=1.0):
            model(torch.randn(3, 4))
            for _ in change(model):
                model(torch.randn(3, 4))

    with pytest.raises(ValueError, match="'weight' has changed"):
        watched()


@pytest.mark.parametrize("way", WATCHES)
def test_a_watch_that_is_entered_again_is_of_the_same_weights(way):
    model, x = nn.Linear(4, 2).eval(), torch.randn(3, 4)
    watch = WATCHES[way][0](model, fraction=1.0)
    for _ in range(2):
        with watch:
            model(x)
    assert watch.samples == 6
    with torch.no_grad():
        model.weight.add_(1)
    with pytest.raises(ValueError, match="'weight' has changed"):
        watch.__enter__()
    assert vars(model).get("_compiled_call_impl") is None


@pytest.mark.parametrize("way", WATCHES)
def test_calls_with_tensors_that_stand_for_others_are_not_measured(way):
    model, x = nn.Linear(4, 2).eval(), torch.randn(3, 4)
    with WATCHES[way][0](model, fraction=1.0) as watched:
        model(x)
        torch.func.vmap(model)(x)
        torch.func.jacrev(model)(x)
    assert watched.samples == watched.seen == 3


@pytest.mark.parametrize("way", WATCHES)
def test_opened_in_inference_mode(way):
    model, x = nn.Linear(4, 2).eval(), torch.randn(3, 4)
    with torch.inference_mode(), WATCHES[way][0](model, fraction=1.0) as watched:
        model(x)
        model(x)
    assert watched.importance.samples == 6


def test_compiling_while_watched_keeps_the_compiled_call():
    model, x = nn.Linear(4, 2).eval(), torch.randn(3, 4)

    def watched():
        with watch_importance(model, fraction=1.0) as watch:
            model(x)
            model.compile(backend="eager")
            model(x)
        return watch

    with pytest.warns(UserWarning, match="compile the model before"):
        watch = watched()
    assert watch.samples == 3
    assert model._compiled_call_impl is not None
    model.train()(x)
