"""Options of wrong types, other models, unusual forward passes: said at once, or understood."""

import math
import warnings

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, as_classification_dataset
from avalanche.training import Naive
from tiny_avalanche import (
    FEATURES,
    MultiHead,
    assert_close,
    clusters,
    mlp,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim
from torch.utils.data import TensorDataset

from avalanche_mas import (
    EBLLPlugin,
    EWCPlugin,
    HeadWarmupPlugin,
    IMMPlugin,
    Importance,
    LocalMASPlugin,
    LwFPlugin,
    MASPlugin,
    QuadraticPenalty,
    SIPlugin,
    estimate_importance,
)
from avalanche_mas.plugins import estimate_fisher
from avalanche_mas.plugins.registry import METHODS

MEASURED = [MASPlugin, LocalMASPlugin, EWCPlugin, IMMPlugin]
ALL = [*MEASURED, SIPlugin, LwFPlugin, EBLLPlugin]


# --- how a batch goes through the model -----------------------------------------------------------


class Two(nn.Module):
    """A network of two inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.o = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x, z):
        return self.o(torch.tanh(self.a(x) + self.b(z)))


class TwoInputs(Naive):
    """Gives it both."""

    def forward(self):
        return self.model(self.mbatch[0], self.mbatch[1])

    @property
    def mb_y(self):
        return self.mbatch[2]


def samples():
    g = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=g), torch.randn(12, 2, generator=g), torch.arange(12) % 2


def two_inputs():
    x, z, y = samples()
    attribute = DataAttribute(y.tolist(), "targets")
    whole = AvalancheDataset([TensorDataset(x, z, y)], data_attributes=[attribute])
    data = as_classification_dataset(whole)
    return benchmark_from_datasets(train=[data, data]).train_stream


def both(model, batch):
    return model(batch[0], batch[1])


def strategy_of_two(plugin):
    strategy = naive(Two(), plugin)
    strategy.__class__ = TwoInputs
    return strategy


@pytest.mark.parametrize("kind", MEASURED)
def test_a_plugin_is_told_how_a_batch_goes_through_the_model(kind):
    plugin = kind(forward=both, batch_size=5)
    strategy = strategy_of_two(plugin)
    for experience in two_inputs():
        strategy.train(experience)
    assert plugin.tasks == 2
    if kind is MASPlugin:
        x, z, _ = samples()
        assert_close(
            plugin.observe(strategy.model, (x, z)),
            estimate_importance(strategy.model, [(x, z)], forward=both),
        )


@pytest.mark.parametrize("kind", MEASURED)
def test_by_default_a_batch_goes_through_the_model_as_the_strategy_says(kind):
    omegas = []
    for options in ({}, {"forward": both}):
        train(strategy_of_two(plugin := kind(**options)), two_inputs())
        omegas.append(plugin.importance if kind is not IMMPlugin else plugin.fishers[1])
    assert same_bits(*omegas)


def test_labels_are_what_the_strategy_takes_for_them():
    """Not the second field, which is an input here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*likelihood='gaussian'")
        plugin = EWCPlugin(fisher="empirical")
        strategy = train(strategy_of_two(plugin), [next(iter(two_inputs()))])
    x, z, y = samples()
    data, forward = [((x, z), y)], lambda model, batch: model(*batch[0])
    own = estimate_fisher(strategy.model, data, fisher="empirical", forward=forward)
    assert_close(plugin.importance, own)


class Losses(TwoInputs):
    """As detectors in training: no output, but losses."""

    def forward(self):
        return {"loss": super().forward().sum()}

    def criterion(self):
        return self.mb_output["loss"]


@pytest.mark.parametrize("kind", [*MEASURED, LwFPlugin, EBLLPlugin])
def test_what_cannot_be_measured_is_known_before_training(kind):
    plugin = kind(classifier="o") if kind in (LwFPlugin, EBLLPlugin) else kind()
    strategy = strategy_of_two(plugin)
    if kind in MEASURED:
        strategy.__class__ = Losses
    before = weights(strategy.model)
    words = r"Pass (a )?forward" if kind in MEASURED else "positional argument: 'z'"
    with pytest.raises(TypeError, match=words):
        strategy.train(next(iter(two_inputs())))
    assert same_bits(weights(strategy.model), before)


@pytest.mark.parametrize(
    ("kind", "outputs", "words"),
    [
        (EWCPlugin, (3, 2), r"scores of shape .*returned \(2, 3, 2\)"),
        (IMMPlugin, (3, 2), r"scores of shape .*returned \(2, 3, 2\)"),
        (LwFPlugin, (3, 2), r"compares class scores .*returned \(1, 3, 2\)"),
    ],
)
def test_an_output_that_is_not_understood_is_known_before_training(kind, outputs, words):
    model = nn.Sequential(nn.Linear(FEATURES, 6), nn.Unflatten(1, outputs))
    before = weights(model)
    with pytest.raises(TypeError, match=f"(?s){words}"):
        naive(model, kind()).train(split().train_stream[0])
    assert same_bits(weights(model), before)


class Doubled(Naive):
    """Its output is not the model's."""

    def forward(self):
        return 2 * super().forward()


def test_unlabelled_samples_go_the_strategys_way():
    """Which has labels and task labels in training, but reads none of them."""
    x = clusters()[0]
    plugin = MASPlugin(streams=lambda experience: x)
    strategy = naive(mlp(), plugin)
    strategy.__class__ = Doubled
    train(strategy, split().train_stream[:1])
    plain = estimate_importance(strategy.model, x)
    assert_close(plugin.importance, {name: 4 * omega for name, omega in plain.items()})


def test_another_forward_than_the_models_is_nothing_for_lwf():
    strategy = naive(mlp(), LwFPlugin())
    strategy.__class__ = Doubled
    with pytest.raises(TypeError, match=r"Doubled\.forward returns something else than model\(x\)"):
        train(strategy, split().train_stream[:1])


class Argmax(nn.Module):
    """In eval mode it says which class, and no scores."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        return self.body(x) if self.training else self.body(x).argmax(1)


def test_an_output_that_cannot_be_measured_is_known_before_training():
    model = Argmax()
    before, state = weights(model), torch.get_rng_state()
    with pytest.raises(TypeError, match=r"int64.*Pass forward="):
        naive(model, MASPlugin()).train(split().train_stream[0])
    assert same_bits(weights(model), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_labels_are_not_looked_for_in_inputs():
    with pytest.raises(ValueError, match="fisher='empirical' reads labels, and which part"):
        EWCPlugin(fisher="empirical", forward=both)


def test_prime_and_stream_go_through_the_model_alike():
    """With the plugin's own forward, unless another one is given."""
    model, data = Two(), TensorDataset(*samples())
    plugin = MASPlugin(forward=both)
    expected = estimate_importance(model, data, forward=both)
    assert_close(plugin.prime(model, data), expected)
    doubled = plugin.prime(model, data, forward=lambda m, b: 2 * both(m, b))
    assert_close(doubled, {name: 4 * omega for name, omega in expected.items()})


# --- Avalanche's signatures -----------------------------------------------------------------------


def test_avalanches_signatures_are_understood():
    with pytest.warns(UserWarning, match=r"lambda_reg=0\.8, as its penalty has no 1/2"):
        plugin = EWCPlugin(ewc_lambda=0.4, mode="online", decay_factor=0.3)
    assert (plugin.lambda_reg, plugin.decay) == (0.8, 0.3)
    with pytest.warns(UserWarning, match="Avalanche's signature"):
        EWCPlugin(ewc_lambda=0.4, mode="separate", decay_factor=0.3, keep_importance_data=True)
    with pytest.warns(UserWarning, match=r"lambda_reg=0\.1 and xi=1e-07"):
        plugin = SIPlugin(si_lambda=0.1)
    assert (plugin.lambda_reg, plugin.xi) == (0.1, 1e-7)
    with pytest.warns(UserWarning, match="Avalanche's signature"):
        assert SIPlugin(si_lambda=0.1, eps=0.01, device="cpu").xi == 0.01


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: EWCPlugin(2.0, ewc_lambda=0.4), ValueError, "lambda_reg=2.0 or ewc_lambda"),
        (lambda: SIPlugin(2.0, si_lambda=0.4), ValueError, "lambda_reg=2.0 or si_lambda"),
        (lambda: SIPlugin(si_lambda=[0.1, 0.2]), TypeError, "si_lambda must be a number"),
        (lambda: SIPlugin(excluded_parameters=["fc"]), ValueError, r"\['fc'\].*leave"),
        (lambda: LwFPlugin([]), ValueError, "alpha is empty"),
        (lambda: LwFPlugin([1.0, -1.0]), ValueError, "alpha must be finite .* got -1"),
    ],
)
def test_signatures_that_contradict_themselves(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_strength_for_each_experience():
    """The same weights as with one number that is changed in between."""
    trained = []
    for alpha in ([0.0, 1.0, 3.0], 0.0):
        torch.manual_seed(0)
        plugin = LwFPlugin(alpha)
        strategy = naive(MultiHead(), plugin)
        for i, experience in enumerate(split(task_labels=True).train_stream):
            if alpha == 0.0:
                plugin.alpha = [0.0, 1.0, 3.0][i]
            train(strategy, [experience])
        trained.append(weights(strategy.model))
    assert same_bits(*trained)


def test_too_few_strengths():
    plugin = LwFPlugin([0.0, 1.0])
    strategy = naive(MultiHead(), plugin)
    stream = split(task_labels=True).train_stream
    train(strategy, stream[:2])
    before = weights(strategy.model)
    with pytest.raises(ValueError, match=r"alpha has 2 numbers.*experience 3"):
        train(strategy, stream[2:])
    assert same_bits(weights(strategy.model), before)
    again = LwFPlugin([0.0, 1.0])
    again.load_state_dict(plugin.state_dict())
    assert again.tasks == 2


# --- another model --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MASPlugin, SIPlugin, IMMPlugin, LwFPlugin])
def test_another_model_is_noticed(kind):
    plugin, stream = kind(), split().train_stream
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*another model")
        strategy = naive(mlp(), plugin)
        train(strategy, stream[:2])
        wrapped = naive(torch.compile(strategy.model, backend="eager"), plugin)
        wrapped.train(stream[2])
    with pytest.warns(UserWarning, match="has learnt its tasks with another model"):
        naive(mlp(), plugin).train(stream[0])
    if hasattr(plugin, "prime"):
        with pytest.warns(UserWarning, match="has learnt its tasks with another model"):
            plugin.prime(mlp(), clusters()[0])


def test_what_was_loaded_for_a_model_is_that_models():
    plugin, stream, model = MASPlugin(), split().train_stream, mlp()
    train(naive(model, plugin), stream[:1])
    twin = mlp()
    twin.load_state_dict(model.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*another model")
        plugin.load_state_dict(plugin.state_dict(), twin)
        train(naive(twin, plugin), stream[1:2])
        fresh = MASPlugin()
        fresh.load_state_dict(plugin.state_dict())
        train(naive(mlp(), fresh), stream[2:])


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MASPlugin(torch.tensor(1.0)), r"lambda_reg must be a number, got tensor.*item"),
        (lambda: MASPlugin("1"), "lambda_reg must be a number, got '1'"),
        (lambda: MASPlugin(None), "lambda_reg must be a number, got None"),
        (lambda: MASPlugin(True), "lambda_reg must be a number, got True"),
        (lambda: QuadraticPenalty(mlp(), {}, torch.tensor(1.0)), "lambda_reg must be a number"),
        (lambda: MASPlugin(accumulate=None), "accumulate must be a number, got None"),
        (lambda: MASPlugin(max_samples=1.5), r"max_samples must be a whole number, got 1\.5"),
        (lambda: IMMPlugin(max_samples=1.5), "max_samples must be a whole number"),
        (lambda: EWCPlugin(batch_size="8"), "batch_size must be a whole number, got '8'"),
        (lambda: MASPlugin(num_workers=0.5), "num_workers must be a whole number"),
        (lambda: MASPlugin(initial={}), "initial must be an Importance, got a dict"),
        (lambda: SIPlugin(initial=[]), "initial must be an Importance, got a list"),
        (lambda: SIPlugin(xi="small"), "xi must be a number"),
        (lambda: EWCPlugin(mode="online", decay="half"), "decay must be a number"),
        (lambda: LwFPlugin("1"), "alpha must be a number"),
        (lambda: LwFPlugin(temperature=None), "temperature must be a number"),
        (lambda: EBLLPlugin(code_size=2.5), "code_size must be a whole number"),
        (lambda: EBLLPlugin(code_alpha=[1]), "code_alpha must be a number"),
        (lambda: HeadWarmupPlugin(1.5), "epochs must be a whole number"),
        (lambda: MASPlugin(forward="model"), "forward must be a function"),
        (lambda: IMMPlugin(forward=3), "forward must be a function"),
    ],
)
def test_options_of_another_type(make, words):
    with pytest.raises(TypeError, match=f"(?s){words}"):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MASPlugin(max_samples=0), "max_samples must be at least 1, got 0"),
        (lambda: MASPlugin(num_workers=-1), "num_workers must be at least 0, got -1"),
        (lambda: QuadraticPenalty(mlp(), {}), "the importance is empty"),
        (lambda: LwFPlugin(temperature=math.inf), "temperature must be a positive number"),
        (lambda: SIPlugin(xi=0), "xi must be a positive number"),
    ],
)
def test_options_out_of_range(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numbers_of_other_libraries_are_numbers():
    plugin = MASPlugin(np.float32(2.0), max_samples=np.int64(3))
    assert plugin.lambda_reg == 2.0
    assert plugin.max_samples == 3


@pytest.mark.parametrize("step", ["auto", "proximal"])
def test_a_momentum_that_never_comes_to_rest(step):
    model = mlp()
    before = weights(model)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=1.0)
    with pytest.raises(ValueError, match=r"momentum=1\.0 never comes to rest"):
        naive(model, MASPlugin(step=step), optimizer=optimizer).train(split().train_stream[0])
    assert same_bits(weights(model), before)


@pytest.mark.parametrize(
    ("name", "meant"), [("mas", "MAS"), ("Ewc", "EWC"), ("lwf", "LwF"), ("localmas", "LocalMAS")]
)
def test_the_nearest_method_is_named(name, meant):
    with pytest.raises(KeyError) as caught:
        METHODS[name]
    said = str(caught.value)
    assert said.startswith(f"no method is called {name!r}. Did you mean {meant!r}? There are fine")
    assert name not in METHODS
    assert METHODS.get(name) is None
    with pytest.raises(KeyError, match=r"'xyzzy'\. There are"):
        METHODS["xyzzy"]


@pytest.mark.parametrize("kind", [*ALL, HeadWarmupPlugin])
def test_a_plugin_says_how_it_was_made(kind):
    """Its repr makes an equal one, functions and importances apart."""
    plugin = (
        kind(3)
        if kind is HeadWarmupPlugin
        else kind(3.0, verbose=True)
        if (kind is not SIPlugin)
        else kind(3.0, xi=0.5)
    )
    assert repr(eval(repr(plugin))) == repr(plugin)
    assert "3" in repr(plugin)


def test_options_that_have_no_words_of_their_own():
    initial = Importance({"0.bias": torch.ones(16)}, samples=1)
    plugin = MASPlugin(streams=clusters, initial=initial, forward=both)
    assert "streams=clusters, " in repr(plugin)
    assert "forward=both, " in repr(plugin)
    assert "initial=Importance of 1 parameters, " in repr(plugin)


# --- BatchNorm ------------------------------------------------------------------------------------


def with_statistics():
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6))


@pytest.mark.parametrize("kind", [MASPlugin, LocalMASPlugin, EWCPlugin, SIPlugin])
def test_running_statistics_are_warned_of_once(kind):
    strategy = naive(with_statistics(), kind())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(strategy, split().train_stream)
    found = [str(w.message) for w in caught if "running statistics" in str(w.message)]
    assert len(found) == 1
    assert "of '1' are not parameters" in found[0]


@pytest.mark.parametrize("case", ["eval mode", "no statistics", "no penalty"])
def test_where_there_is_nothing_to_warn_of(case, recwarn):
    model = with_statistics()
    if case == "eval mode":
        model[1].train = lambda mode=True: model[1]
        model[1].training = False
    if case == "no statistics":
        model[1] = nn.LayerNorm(5)
    train(naive(model, MASPlugin(0.0 if case == "no penalty" else 1.0)), split().train_stream[:2])
    assert not [w for w in recwarn if "running statistics" in str(w.message)]
