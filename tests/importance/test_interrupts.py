"""Ctrl-C ends an estimate after the batch that is being measured, and breaks nothing."""

import random
import signal
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from interrupts import DONE, NETWORKS, WAYS, campaign
from torch import nn

from avalanche_mas import estimate_importance, estimate_local_importance, watch_importance
from avalanche_mas.importance import interrupts
from avalanche_mas.importance.interrupts import DeferredInterrupts
from avalanche_mas.plugins.ewc.fisher import estimate_fisher

ctrl_c = partial(signal.raise_signal, signal.SIGINT)


@pytest.fixture(autouse=True)
def _python_handles_it():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    left = signal.signal(signal.SIGINT, handler)
    assert left is signal.default_int_handler


@pytest.mark.filterwarnings("ignore:l-MAS has no layer")
def test_at_random_moments():
    pairs = [("by_vmap", way) for way in WAYS]
    pairs += [("convolutions", way) for way in ("estimate", "local", "watch", "local watch")]
    assert {network for network, _ in pairs} <= set(NETWORKS)
    results = list(campaign(pairs, 10, random.Random()))
    assert not [result for result in results if result[-1] not in DONE]
    assert sum(result == "interrupted" for *_, result in results) > len(results) / 2


def interrupted(act):
    """Whether Ctrl-C ends what is done."""
    try:
        act()
    except KeyboardInterrupt:
        return True
    return False


def test_it_waits_until_the_end():
    done = []

    def act():
        with DeferredInterrupts():
            ctrl_c()
            done.append(1)
            ctrl_c()
            done.append(2)
        done.append(3)

    assert interrupted(act)
    assert done == [1, 2]
    assert not interrupted(lambda: DeferredInterrupts().__enter__().__exit__())


def test_also_if_an_error_ends_it():
    def act():
        with DeferredInterrupts():
            ctrl_c()
            raise ZeroDivisionError

    assert interrupted(act)


def test_contexts_in_each_other():
    done = []

    def act():
        with DeferredInterrupts():
            with DeferredInterrupts() as inner:
                with inner.allowed():
                    ctrl_c()
                    done.append(1)
                done.append(2)
            done.append(3)
        done.append(4)

    assert interrupted(act)
    assert done == [1, 2, 3]


def test_where_it_is_allowed():
    done = []

    def act():
        with DeferredInterrupts() as deferred:
            try:
                with deferred.allowed():
                    ctrl_c()
                    done.append(1)
            finally:
                ctrl_c()  # once more, while things are put back
                done.append(2)

    assert interrupted(act)
    assert done == [2]


def test_what_waits_is_obeyed_where_it_is_allowed():
    done = []

    def act():
        with DeferredInterrupts() as deferred:
            ctrl_c()
            with deferred.allowed():
                done.append(1)

    assert interrupted(act)
    assert not done


def test_a_handler_of_the_users_own_is_called_once():
    calls = []
    signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    with DeferredInterrupts() as deferred:
        ctrl_c()
        assert not calls
        with deferred.allowed():
            assert calls == [signal.SIGINT]
            ctrl_c()
            ctrl_c()
            assert len(calls) == 3
    assert len(calls) == 3
    ctrl_c()
    assert len(calls) == 4
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_handler_that_is_put_in_its_place_stays():
    calls = []

    def own(number, frame):
        calls.append(number)

    with DeferredInterrupts():
        inside = signal.signal(signal.SIGINT, own)
    assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, inside)  # and if it puts back what it has found
    assert interrupted(ctrl_c)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_without_a_handler_nothing_is_done(handler):
    signal.signal(signal.SIGINT, handler)
    with DeferredInterrupts():
        assert signal.getsignal(signal.SIGINT) == handler
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_in_another_thread():
    """Where handlers cannot be set."""
    model, x, found = nn.Linear(3, 2), torch.randn(4, 3), []
    thread = threading.Thread(target=lambda: found.append(estimate_importance(model, x)))
    thread.start()
    thread.join()
    assert found[0].samples == 4


def test_a_second_one_is_obeyed_when_the_first_has_waited_long(monkeypatch):
    seconds, done = [0.0], []
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: seconds[0]))

    def act():
        with DeferredInterrupts():
            for now in 3.0, 7.0, 8.5, 9.0:  # at 3 + 5 it has waited long
                seconds[0] = now
                ctrl_c()
                done.append(now)

    assert interrupted(act)
    assert done == [3.0, 7.0]


class Counting(nn.Module):
    """Is interrupted in its fourth forward pass, and counts those that follow."""

    passes = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        Counting.passes += 1
        if Counting.passes == 4:
            ctrl_c()
        return self.layer(x)


ESTIMATES = {
    "exact": estimate_importance,
    "loop": partial(estimate_importance, engine="loop"),
    "local": estimate_local_importance,
    "Fisher information": partial(estimate_fisher, fisher="sampled"),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_not_later_than_the_batch(name, monkeypatch):
    monkeypatch.setattr(Counting, "passes", 0)
    asked = []

    def batches():
        for k in range(100):
            asked.append(k)
            yield torch.randn(4, 3)

    assert interrupted(lambda: ESTIMATES[name](Counting(), batches()))
    assert len(asked) <= 4


@pytest.mark.parametrize("name", ESTIMATES)
def test_data_that_are_waited_for(name):
    done = []

    def batches():
        yield torch.randn(4, 3)
        ctrl_c()
        done.append(1)

    assert interrupted(lambda: ESTIMATES[name](nn.Linear(3, 2), batches()))
    assert not done


@pytest.mark.filterwarnings("ignore:the watched model was never called")
def test_a_watched_models_own_pass_is_interrupted_at_once():
    done = []

    class Waits(nn.Linear):
        def forward(self, x):
            ctrl_c()
            done.append(1)
            return super().forward(x)

    model, x = Waits(3, 2).eval(), torch.randn(4, 3)
    with watch_importance(model, fraction=1.0) as watched:
        assert interrupted(lambda: model(x))
        assert watched.seen == watched.samples == 0
    assert not done
