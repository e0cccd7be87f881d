"""Bad input: an error that names it, and nothing that was learnt before is harmed."""

import math

import pytest
import torch
from avalanche.benchmarks.scenarios.deprecated.generic_benchmark_creation import (
    create_generic_benchmark_from_tensor_lists,
)
from tiny_avalanche import (
    PLUGINS,
    MultiHead,
    Watch,
    clusters,
    mlp,
    move,
    naive,
    same_bits,
    split,
    train,
    weights,
)
from torch import nn, optim

from avalanche_mas import (
    EWCPlugin,
    Importance,
    LocalMASPlugin,
    MASPlugin,
    SIPlugin,
    estimate_importance,
)
from avalanche_mas.penalty.quadratic import QuadraticPenalty

NAN, INF = math.nan, math.inf
X, _ = clusters()
GIVEN = X[:20].clone()


def with_sample_13(value):
    x = GIVEN.clone()
    x[13, 2] = value
    return x


class Evaluating(nn.Module):
    """The usual network, which can be made to return something else in eval mode."""

    def __init__(self, output):
        super().__init__()
        self.body, self.output, self.bad = mlp(), output, False

    def forward(self, x):
        y = self.body(x)
        return self.output(y) if self.bad and not self.training else y


def no_gradient_at_zero(y):
    return torch.sqrt(y - y.detach())


# what is wrong: (model, data to measure in the second experience, exception, words of the message)
WHILE_MEASURING = {
    "NaN in the data": (
        mlp, lambda: with_sample_13(NAN), ValueError, r"sample 5 of batch 1 .* holds NaN or inf",
    ),
    "inf in the data": (
        mlp, lambda: with_sample_13(INF), ValueError, r"sample 5 of batch 1 .* holds NaN or inf",
    ),
    "no samples": (mlp, lambda: GIVEN[:0], ValueError, "no samples"),
    "unknown form": (mlp, lambda: [["text"]], TypeError, "got a list of str"),
    "no data at all": (mlp, lambda: None, TypeError, "data must be a Dataset.*NoneType"),
    "meta device": (mlp, lambda: GIVEN.to("meta"), ValueError, "on the meta device.*no values"),
    "NaN in the output": (
        lambda: Evaluating(lambda y: y * NAN), lambda: GIVEN, ValueError,
        "output for sample 0 of batch 0 .* the sample itself not",
    ),
    "a square that overflows": (
        lambda: Evaluating(lambda y: y * 1e30), lambda: GIVEN, ValueError,
        "sample 0 of batch 0 .*square overflows",
    ),
    "NaN in a gradient": (
        lambda: Evaluating(no_gradient_at_zero), lambda: GIVEN, ValueError,
        r"gradient at '[\w.]+' of sample 0 of batch 0 .* the output not",
    ),
    "int": (lambda: Evaluating(lambda y: y.argmax(1)), lambda: GIVEN, TypeError, "torch.int64"),
    "bool": (lambda: Evaluating(lambda y: y > 0), lambda: GIVEN, TypeError, "torch.bool"),
    "complex": (
        lambda: Evaluating(lambda y: torch.complex(y, y)), lambda: GIVEN, TypeError, "complex64",
    ),
    "text in a dict": (
        lambda: Evaluating(lambda y: {"y": y, "more": ["text"]}), lambda: GIVEN, TypeError,
        r"a str at output\['more'\]\[0\]",
    ),
}  # fmt: skip
BY_OUTPUT = {"NaN in the output", "a square that overflows", "NaN in a gradient"}


@pytest.mark.parametrize("plugin_type", PLUGINS)
@pytest.mark.parametrize("name", WHILE_MEASURING)
def test_while_measuring(name, plugin_type):
    """After training: the weights are those that it has led to, Ω and θ* those of before."""
    make_model, make_data, exception, words = WHILE_MEASURING[name]
    if plugin_type is LocalMASPlugin and name in BY_OUTPUT:
        pytest.skip("l-MAS looks at the layers alone, whose own outputs are finite")
    model = make_model()

    def given(experience):
        model.bad = experience.current_experience == 1
        return make_data() if model.bad else GIVEN

    plugin = plugin_type(0.5, streams=given, batch_size=8)
    trained = Watch("after_training_exp", lambda strategy: weights(strategy.model))
    strategy = naive(model, trained, plugin)
    stream = split().train_stream
    train(strategy, stream[:1])
    learnt = learnt_by(plugin)
    with pytest.raises(exception, match=f"(?s){words}"):
        train(strategy, stream[1:2])
    assert same_bits(weights(model), trained.seen[1])
    assert not same_bits(trained.seen[1], trained.seen[0])
    assert_unharmed(plugin, learnt)
    assert model.training, "modes are as they were"


def learnt_by(plugin):
    parts = plugin.importance, plugin.penalty.anchor, plugin.penalty.omega
    return plugin.tasks, [{name: t.clone() for name, t in part.items()} for part in parts]


def assert_unharmed(plugin, learnt):
    tasks, parts = learnt_by(plugin)
    assert tasks == learnt[0]
    assert all(map(same_bits, parts, learnt[1]))


@pytest.mark.parametrize("step", ["proximal", "gradient"])
@pytest.mark.parametrize("plugin_type", [*PLUGINS, EWCPlugin, SIPlugin])
def test_a_loss_that_is_nan(plugin_type, step):
    """The penalty neither hides it nor carries it to other heads; what was learnt is kept."""
    model, plugin = MultiHead(), plugin_type(0.5, step=step)
    losses = Watch("after_training_iteration", lambda strategy: strategy.loss.item())
    strategy = naive(model, plugin, losses)
    stream = split(task_labels=True).train_stream
    train(strategy, stream[:1])
    learnt, head = learnt_by(plugin), weights(model.heads.classifiers["0"])
    strategy._criterion = lambda output, y: nn.functional.cross_entropy(output, y) * NAN
    with pytest.raises(ValueError, match=r"'features\.0\.weight'.*diverged"):
        train(strategy, stream[1:2])
    assert all(map(math.isnan, losses.seen[-8:]))
    assert model.features[0].weight.isnan().any()  # where a unit was active
    assert same_bits(weights(model.heads.classifiers["0"]), head)
    assert_unharmed(plugin, learnt)
    assert all(anchor.isfinite().all() for anchor in plugin.penalty.anchor.values())


# --- before anything is trained -------------------------------------------------------------------


def frozen():
    return mlp().requires_grad_(False)


def importance(**omega):
    return Importance({name.replace("_", ".", 1): t for name, t in omega.items()}, samples=3)


BEFORE_TRAINING = {
    # what is wrong: (model, options of the plugin, words of the message)
    "no such stream": (mlp, {"streams": "deploy"}, "no stream 'deploy'; it has test, train"),
    "no trainable parameter": (frozen, {}, "no trainable parameters"),
    "names of another model": (
        mlp, {"initial": importance(a=torch.ones(2))}, "it has 'a', the model has '0.weight'",
    ),
    "shapes of another model": (
        mlp, {"initial": importance(**{"0_weight": torch.ones(99, 8)})}, "'0.weight'.*another model"
    ),
    "NaN in an importance": (
        mlp, {"initial": importance(**{"0_bias": torch.full((16,), NAN)})}, "'0.bias' must be fin",
    ),
    "inf in an importance": (
        mlp, {"initial": importance(**{"0_bias": torch.full((16,), INF)})}, "'0.bias' must be fin",
    ),
    "a negative importance": (
        mlp, {"initial": importance(**{"0_bias": -torch.ones(16)})}, "'0.bias'.* not negative",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plugin_type", PLUGINS)
@pytest.mark.parametrize("name", BEFORE_TRAINING)
def test_before_training(name, plugin_type):
    make_model, options, words = BEFORE_TRAINING[name]
    model, plugin = make_model(), plugin_type(**options)
    before = weights(model)
    with pytest.raises(ValueError, match=f"(?s){words}"):
        train(naive(model, plugin), split().train_stream[:1])
    assert same_bits(weights(model), before)
    assert plugin.importance is None
    assert plugin.tasks == 0


def test_an_empty_stream_is_refused_before_training():
    x, y = clusters()
    benchmark = create_generic_benchmark_from_tensor_lists(
        [(x, y)], [(x, y)], other_streams_tensors={"valid": [(x[:0], y[:0])]}, task_labels=[0]
    )
    model, plugin = mlp(), MASPlugin(streams="valid")
    before = weights(model)
    with pytest.raises(ValueError, match="no samples in the experience of valid"):
        train(naive(model, plugin), benchmark.train_stream)
    assert same_bits(weights(model), before)


def test_an_importance_of_more_than_the_model_has():
    """Such as of heads that come later: they are named, the others protected."""
    more = importance(**{"0_bias": torch.ones(16), "9_bias": torch.ones(2)})
    plugin = MASPlugin(initial=more)
    with pytest.warns(UserWarning, match=r"cannot protect: 9\.bias"):
        train(naive(mlp(), plugin), split().train_stream[:1])
    assert set(plugin.penalty.anchor) == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EWCPlugin(mode="online", decay=NAN), "decay"),
        (lambda: EWCPlugin(mode="online", decay=1.5), "decay"),
        (lambda: EWCPlugin(-INF), "lambda_reg"),
        (lambda: SIPlugin(NAN), "lambda_reg"),
        (lambda: MASPlugin(accumulate=NAN), "accumulate"),
        (lambda: MASPlugin(1.0, alpha=INF), "alpha|accumulate"),
        (lambda: QuadraticPenalty(mlp(), {}, INF), "lambda_reg"),
        (lambda: importance(a=torch.ones(2)).add(importance(a=torch.ones(2)), decay=NAN), "decay"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*translated")
def test_numbers_out_of_range(make, words):
    """test_options.py has the rest."""
    with pytest.raises(ValueError, match=words):
        make()


def test_a_model_without_values():
    with torch.device("meta"):
        model = mlp()
    with pytest.raises(ValueError, match=r"'0\.weight' is on the meta device"):
        estimate_importance(model, X)


# --- several penalties on one strategy ------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugins", "words"),
    [
        (lambda: [MASPlugin(), MASPlugin()], "MASPlugin and MASPlugin would each take a proximal"),
        (lambda: [MASPlugin(step="gradient"), EWCPlugin(), SIPlugin()], "EWCPlugin and SIPlugin"),
        (lambda: [MASPlugin(step="gradient")] * 2, "same MASPlugin is twice"),
    ],
)
def test_two_proximal_steps_are_refused(plugins, words):
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match=words):
        train(naive(model, *plugins()), split().train_stream[:1])
    assert same_bits(weights(model), before)


@pytest.mark.parametrize("second", ["gradient", "proximal"])
def test_several_penalties_add_up(second):
    """One step by hand: either comes to rest where the task's and both gradients cancel."""
    torch.set_default_dtype(torch.float64)
    model, lr = nn.Linear(8, 6, bias=False), 0.05
    plugins = MASPlugin(0.3, step="gradient"), EWCPlugin(5.0, step=second)
    strategy = naive(model, *plugins, optimizer=optim.SGD(model.parameters(), lr=lr), epochs=1)
    strategy.train_mb_size = 20
    stream = split(dtype=torch.float64).train_stream
    train(strategy, stream[:1])
    anchor = model.weight.detach().clone()
    move(model)
    omega = [plugin.lambda_reg * plugin.penalty.omega["weight"] for plugin in plugins]
    theta = model.weight.detach().clone()
    x, y = clusters(dtype=torch.float64)
    loss = nn.functional.cross_entropy(model(x[20:40]), y[20:40])
    task = torch.autograd.grad(loss, model.weight)[0]
    train(strategy, stream[1:2])
    theta = theta - lr * (task + omega[0] * (theta - anchor))
    if second == "gradient":
        theta = theta - lr * omega[1] * 0.5  # by which it was moved
    else:
        theta = anchor + (theta - anchor) / (1 + lr * omega[1])
    torch.testing.assert_close(model.weight.detach(), theta)
    assert all((lr * part).max() > 1e-3 for part in omega)
