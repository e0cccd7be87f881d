"""Watching a model's own inference: the importance of just those samples, and no trace of it."""

import contextlib
import threading
import warnings

import pytest
import torch
from judge import worst_error
from networks import images, module
from test_no_trace import make_model, same, state_of, state_of_the_world
from torch import nn

from avalanche_mas import (
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)
from avalanche_mas.importance import gathering

WAYS = {
    "MAS": (watch_importance, estimate_importance),
    "l-MAS": (watch_local_importance, estimate_local_importance),
}
MODES = {"inference": torch.inference_mode, "no grad": torch.no_grad, "grad": torch.enable_grad}
EXACT = 1e-10

ways = pytest.mark.parametrize("way", WAYS)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).double().eval()


def cnn():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)
    others = nn.Conv2d(4, 5, 2), nn.Hardswish(inplace=True), nn.Flatten(), nn.Linear(10, 3)
    return nn.Sequential(*layers, *others).double().eval()


def vectors(n=29):
    return torch.randn(n, 5, dtype=torch.float64)


@ways
@pytest.mark.parametrize("mode", MODES)
def test_every_fourth_sample_is_measured(way, mode):
    watch, estimate = WAYS[way]
    model, x = mlp(), vectors()
    with watch(model, fraction=0.25) as watched, MODES[mode]():
        for part in x.split([7, 1, 1, 1, 1, 1, 15, 2]):
            model(part)
        half = watched.importance
    assert (watched.seen, watched.samples) == (29, 8)
    truth = estimate(model, x[::4])
    assert worst_error(watched.importance, truth) < EXACT
    assert worst_error(half, truth) < EXACT
    assert watched.importance.samples == 8


@pytest.mark.parametrize(("fraction", "positions"), [(1.0, {0, 1, 2, 3, 4}), (0.4, {0, 2})])
def test_other_fractions(fraction, positions):
    model, x = mlp(), vectors()
    with watch_local_importance(model, fraction=fraction) as watched:
        for part in x.split([9, 3, 17]):
            model(part)
    rows = [k for k in range(29) if k % 5 in positions]
    assert worst_error(watched.importance, estimate_local_importance(model, x[rows])) < EXACT
    assert watched.samples == len(rows)


@ways
def test_a_convolutional_network_that_writes_over_its_activations(way):
    """Also what ReLU(inplace=True) overwrites; the output is as ever, bit for bit."""
    watch, estimate = WAYS[way]
    model, x = cnn(), images().double()
    plain = torch.cat([model(part) for part in x.split([3, 4, 2])] * 2)
    with watch(model, fraction=0.5) as watched, torch.inference_mode():
        outputs = [model(part) for part in [*x.split([3, 4, 2])] * 2]
    assert torch.equal(torch.cat(outputs), plain)
    truth = estimate(model, torch.cat([x, x])[::2])
    assert worst_error(watched.importance, truth) < EXACT


@ways
@pytest.mark.parametrize("mode", MODES)
def test_it_leaves_no_trace(way, mode):
    """Parameters, gradients, statistics, modes, hooks, random states; the output is as ever."""
    model, x = make_model().eval(), torch.randn(6, 5)
    model[5] = nn.Identity().eval()  # it would count how often it is called
    with MODES[mode]():
        plain = model(x)
    before, world = state_of(model), state_of_the_world()
    with WAYS[way][0](model, fraction=0.5), MODES[mode]():
        answers = [model(x), model(x)]
    assert same(before, state_of(model))
    assert same(world, state_of_the_world())
    for answer in answers:
        assert torch.equal(answer, plain)
        assert answer.requires_grad == plain.requires_grad
        assert answer.is_inference() == plain.is_inference()


@ways
@pytest.mark.parametrize("compiled", [False, True])
def test_no_attribute_is_left(way, compiled):
    model = make_model().eval()
    if compiled:
        model.compile(backend="eager")
    before = [dict(vars(part)) for part in model.modules()]
    with WAYS[way][0](model, fraction=0.5):
        model(torch.randn(6, 5))
    assert [dict(vars(part)) for part in model.modules()] == before


@ways
def test_an_exception_leaves_nothing_behind(way):
    model, x = mlp(), vectors(8)
    watched = WAYS[way][0](model, fraction=1.0)
    with contextlib.suppress(KeyError), watched:
        model(x)
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(x[:, :3])
        model(x)
        raise KeyError
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    assert torch.overrides._len_torch_function_stack() == 0
    assert watched.seen == 16
    assert worst_error(watched.importance, WAYS[way][1](model, x)) < EXACT
    with watched:
        model(x)
    assert watched.samples == 24


def test_a_pass_that_goes_elsewhere_is_measured_again():
    """Samples of a half-measured pass count once."""

    def forward(self, x):
        return self.b(torch.relu(self.a(x))) if self.long else torch.tanh(self.a(x))

    model = module(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 4)).double().eval()
    x = vectors(12)
    truth = []
    with watch_local_importance(model, fraction=1.0) as watched:
        for model.long, part in zip((True, False, True, False), x.split(3), strict=True):
            model(part)
    for model.long, parts in ((True, [0, 2]), (False, [1, 3])):
        chosen = torch.cat([x[3 * i : 3 * i + 3] for i in parts])
        truth.append(estimate_local_importance(model, chosen))
    assert worst_error(watched.importance, truth[0].merge(truth[1])) < EXACT


@ways
def test_train_mode_is_refused(way):
    model = mlp()
    with WAYS[way][0](model, fraction=0.25) as watched:
        model[1].train()
        with pytest.raises(ValueError, match=r"train mode \(1\).*eval\(\)"):
            model(vectors())
        model.eval()
        model(vectors())
    assert watched.samples == 8


@ways
def test_two_watches_of_one_model_are_refused(way):
    model, other = mlp(), mlp()
    whole = nn.Sequential(other, model)
    with WAYS[way][0](model, fraction=0.25) as watched:
        for overlapping in (model, whole, model[0]):
            with pytest.raises(ValueError, match="watched already"):
                watch_importance(overlapping).__enter__()
        with WAYS[way][0](other, fraction=0.25) as beside:
            model(vectors(4))
            other(vectors(8))
    assert (watched.samples, beside.samples) == (1, 2)
    with WAYS[way][0](model):
        model(vectors(4))


@ways
def test_two_threads_at_once_both_count(way):
    model, x, errors = mlp(), vectors(1), []
    inside, go_on = threading.Event(), threading.Event()

    def wait(module, args):
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(10)

    model[1].register_forward_pre_hook(wait)

    def call():
        try:
            model(x)
        except RuntimeError as error:
            errors.append(str(error))

    go_on.set()
    with WAYS[way][0](model, fraction=1.0) as watched:
        model(x)  # a plan is made
        inside.clear()
        go_on.clear()
        first = threading.Thread(target=call)
        first.start()
        inside.wait(10)
        threading.Timer(0.2, go_on.set).start()  # where the second call waits for the first
        call()
        first.join()
    assert not errors
    assert watched.samples == watched.seen == 3
    assert worst_error(watched.importance, WAYS[way][1](model, x)) < EXACT


@ways
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models_keep_their_names(way, wrap):
    watch, estimate = WAYS[way]
    model, x = mlp(), vectors()
    wrapped = wrap(model)
    with watch(wrapped, fraction=0.25) as watched:
        plain = wrapped(x)
        wrapped(x)
    assert torch.equal(plain, model(x))
    assert list(watched.importance) == [name for name, _ in model.named_parameters()]
    assert worst_error(watched.importance, estimate(model, torch.cat([x, x])[::4])) < EXACT


@ways
def test_arguments_of_any_form(way):
    """Keywords, and what is not one entry per sample; hooks of the user's see a sample once."""
    watch, estimate = WAYS[way]

    def forward(self, x, scale, *, shift):
        return self.a(scale * x + shift)

    model = module(forward, a=nn.Linear(5, 6)).double().eval()
    model.register_forward_pre_hook(
        lambda m, args, kw: ((2 * args[0], args[1]), kw), with_kwargs=True
    )
    x, shift = vectors(), vectors()
    with watch(model, fraction=0.25) as watched:
        for rows in torch.arange(29).split([7, 22]):
            model(x[rows], 3.0, shift=shift[rows])
    truth = estimate(
        model,
        [{"x": x[::4], "shift": shift[::4]}],
        forward=lambda model, batch: model(batch["x"], 3.0, shift=batch["shift"]),
    )
    assert worst_error(watched.importance, truth) < EXACT


@ways
@pytest.mark.parametrize("size", [1, 3, 8])
def test_samples_of_many_calls_are_measured_at_once(way, size, monkeypatch):
    monkeypatch.setattr(gathering, "GROUP", 6)
    watch, estimate = WAYS[way]
    model, x = mlp(), vectors(40)
    with watch(model, fraction=0.5) as watched:
        whole, sizes = watched._gathering.mean.add_whole, []

        def counted(batch):
            sizes.append(len(batch.args[0]))
            whole(batch)

        watched._gathering.mean.add_whole = counted
        for part in x.split(size):
            model(part)
        inside = sum(sizes)
        assert watched.samples == 20
    assert sum(sizes) == 20
    assert inside >= 20 - 6
    assert min(sizes[:-1]) >= 6
    assert worst_error(watched.importance, estimate(model, x[::2])) < EXACT
    assert set(watched.importance.standard_errors) == {"0", "2"}


@ways
def test_calls_that_are_not_alike_are_not_mixed(way):
    """Of other lengths, or with another constant."""

    def forward(self, x, scale, bias):
        return self.a(scale * x).sum(dim=1) + bias

    watch, estimate = WAYS[way]
    model = module(forward, a=nn.Linear(5, 6)).double().eval()
    calls = [
        (torch.randn(2, length, 5).double(), scale, torch.full((6,), shift).double())
        for length in (3, 4)
        for scale in (1.0, 2.0)
        for shift in (0.0, 5.0)
    ] * 2
    with watch(model, fraction=1.0) as watched:
        for call in calls:
            model(*call)
        assert watched._gathering.waiting == watched.samples == 2 * 16
    parts = [estimate(model, [c], forward=lambda model, batch: model(*batch)) for c in calls]
    truth = parts[0]
    for part in parts[1:]:
        truth = truth.merge(part)
    assert worst_error(watched.importance, truth) < EXACT


@ways
def test_a_call_is_measured_in_the_precision_it_was_made_in(way):
    """Also if it is measured where autocast is off."""
    watch, estimate = WAYS[way]
    model, x = mlp().float(), vectors().float()
    with watch(model, fraction=1.0) as watched:
        with torch.autocast("cpu", torch.bfloat16):
            model(x)
        assert watched._gathering.waiting == len(x)
    with torch.autocast("cpu", torch.bfloat16):
        truth = estimate(model, x)
    assert worst_error(watched.importance, truth) < 1e-6
    assert worst_error(estimate(model, x), truth) > 1e-4


def attribute(model):
    model.gain = 3.0


def in_a_list(model):
    model.gains.append(3.0)


def buffer(model):
    model.shift.mul_(2)


def hook(model):
    model.a.register_forward_hook(lambda module, args, output: 2 * output)


def submodule(model):
    model.activation = nn.Tanh().eval()


@ways
@pytest.mark.parametrize("change", [attribute, in_a_list, buffer, hook, submodule])
def test_each_sample_is_of_the_model_that_met_it(way, change):
    """Whatever but parameters changes between calls, what waits is measured as of before."""

    def forward(self, x):
        return self.b(self.activation(self.a(x)) + self.shift) * self.gain * sum(self.gains)

    def make():
        torch.manual_seed(0)
        layers = {"a": nn.Linear(5, 6), "b": nn.Linear(6, 4), "activation": nn.ReLU()}
        model = module(forward, **layers)
        model.register_buffer("shift", torch.ones(6))
        model.gain, model.gains = 1.0, [1.0]
        return model.double().eval()

    watch, estimate = WAYS[way]
    model, x = make(), vectors(12)
    with watch(model, fraction=1.0) as watched:
        model(x[:3])
        model(x[3:5])
        assert watched._gathering.waiting == 5  # nothing has changed
        change(model)
        model(x[5:])
        assert watched._gathering.waiting == 7
    again = make()
    before = estimate(again, x[:5])
    change(again)
    assert worst_error(watched.importance, before.merge(estimate(again, x[5:]))) < EXACT


@ways
def test_few_bytes_wait(way, monkeypatch):
    monkeypatch.setattr(gathering, "MAX_BYTES", 10 * 5 * 8)
    model, x = mlp(), vectors()
    with WAYS[way][0](model, fraction=1.0) as watched:
        for part in x.split(4):
            model(part)
            assert watched._gathering.waiting <= 10
    assert worst_error(watched.importance, WAYS[way][1](model, x)) < EXACT


def test_what_waits_is_lost_with_a_word_if_it_cannot_be_measured():
    model, x = mlp(), vectors()

    def use(error):
        with watch_importance(model, fraction=1.0) as watched:
            model(x)
            with torch.no_grad():
                model[0].weight.add_(1)
            if error:
                raise error
        return watched

    lost = r"29 samples .* left out: the parameter '0.weight'"
    with pytest.warns(UserWarning, match=lost), pytest.raises(ZeroDivisionError):
        use(ZeroDivisionError())
    with pytest.warns(UserWarning, match=lost), pytest.raises(ValueError, match="has changed"):
        use(None)


def test_the_error_says_nothing_was_measured():
    model = mlp()
    with pytest.warns(UserWarning, match="never called"), watch_importance(model) as watched:
        model.forward(vectors())
    with pytest.raises(ValueError, match="no samples"):
        watched.importance  # noqa: B018
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\], got 0"):
        watch_importance(model, fraction=0)
    with pytest.raises(TypeError, match="no tensor of samples"), watched:
        model(None)


@ways
def test_what_is_not_finite_is_told(way):
    model, x = mlp(), vectors()
    x[10] = torch.nan
    with (
        pytest.warns(UserWarning, match=r"'0\.(weight|bias)' is not finite.*left out"),
        WAYS[way][0](model) as watched,
    ):
        model(x)
    assert watched.samples == 0


def test_parameters_without_a_layer_are_named_once():
    def forward(self, x):
        return self.a(x) * self.gain

    model = module(forward, a=nn.Linear(5, 6), gain=nn.Parameter(torch.ones(6))).double().eval()
    with warnings.catch_warnings(record=True) as caught, watch_local_importance(model):
        warnings.simplefilter("always")
        for _ in range(3):
            model(vectors())
    assert len([w for w in caught if "gain" in str(w.message)]) == 1
