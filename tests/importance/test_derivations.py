"""Weights that are computed from parameters: gradients go back to these, sample by sample."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from avalanche_mas import estimate_importance
from avalanche_mas.importance.rules import per_sample


class Of(nn.Module):
    """A linear map whose weight is a function of parameters."""

    def __init__(self, weight: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = weight
        self.parts = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(functional.linear(x, self.weight(*self.parts)))


def shaken(model: nn.Module) -> nn.Module:
    """Away from where it was initialised, such as a rotation by nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def far(model: nn.Module) -> nn.Module:
    """With a large exponent."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(3 * torch.randn_like(parameter))
    return model


FACTORS = {
    "product": lambda: Of(lambda a, b: a @ b, (4, 3), (3, 5)),
    "product of itself": lambda: Of(lambda a: a @ a, (5, 5)),
    "adapter": lambda: Of(lambda w, a, b: w - torch.mm(a, b), (4, 5), (4, 2), (2, 5)),
    "triangle": lambda: Of(lambda a: torch.tril(a, 1) @ torch.triu(a), (5, 5)),
    "exponential": lambda: Of(torch.matrix_exp, (5, 5)),
    "skew": lambda: Of(lambda a: torch.matrix_exp(a.tril(-1) - a.tril(-1).mT), (5, 5)),
    "orthogonal": lambda: shaken(parametrizations.orthogonal(nn.Linear(5, 5))),
    "orthogonal, far": lambda: far(parametrizations.orthogonal(nn.Linear(5, 5))),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(5, 4)),
    "weight norm": lambda: shaken(parametrizations.weight_norm(nn.Linear(5, 4))),
}
OTHERS = {
    "cayley": lambda: shaken(parametrizations.orthogonal(nn.Linear(5, 5), orthogonal_map="cayley")),
    "householder": lambda: shaken(parametrizations.orthogonal(nn.Linear(5, 3))),
    "wide exponential": lambda: shaken(
        parametrizations.orthogonal(nn.Linear(5, 3), orthogonal_map="matrix_exp")
    ),
    "spread": lambda: Of(lambda a, b: a - b, (5,), (4, 1)),
    "quotient": lambda: Of(lambda a, b: a / b, (4, 5), (4, 1)),
    "huge exponent": lambda: Of(lambda a: torch.matrix_exp(20 * a) / 1e9, (5, 5)),
    "weight norm of columns": lambda: shaken(parametrizations.weight_norm(nn.Linear(5, 4), dim=1)),
    "weight norm as a whole": lambda: shaken(
        parametrizations.weight_norm(nn.Linear(5, 4), dim=None)
    ),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(-1, (1, 5)),
        shaken(parametrizations.weight_norm(nn.Conv1d(1, 3, 3))),
        nn.Flatten(),
    ),
    "weight norm of a bias": lambda: shaken(
        parametrizations.weight_norm(nn.Linear(5, 4), name="bias")
    ),
    "sum of parts": lambda: Of(lambda a: a.sum(0), (3, 4, 5)),
    "used twice": lambda: nn.Sequential(
        shared := shaken(parametrizations.weight_norm(nn.Linear(5, 5))), nn.Tanh(), shared
    ),
}


@pytest.mark.parametrize("positions", [(), (3,), (7,)], ids=["one", "few", "many"])
@pytest.mark.parametrize("output", ["norm", "vector", "squares"])
@pytest.mark.parametrize("name", [*FACTORS, *OTHERS])
def test_equals_the_loop(name, output, positions):
    torch.manual_seed(0)
    make = FACTORS.get(name) or OTHERS[name]
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), make()).double().eval()
    if name == "convolution" and positions:
        pytest.skip("its samples have one position")
    x = torch.randn(6, *positions, 5, dtype=torch.float64)
    ours = estimate_importance(model, x, output=output, verify="off")
    theirs = estimate_importance(model, x, output=output, engine="loop")
    assert not ours.fallbacks
    for parameter in ours:
        torch.testing.assert_close(ours[parameter], theirs[parameter], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["adapter", "product", "weight norm"])
@pytest.mark.parametrize("frozen", [0, 1])
def test_some_frozen(name, frozen):
    torch.manual_seed(0)
    model = FACTORS[name]().double().eval()
    list(model.parameters())[-1 - frozen].requires_grad_(False)
    x = torch.randn(6, 5, dtype=torch.float64)
    ours, theirs = (estimate_importance(model, x, engine=engine) for engine in ("exact", "loop"))
    assert list(ours) == list(theirs)
    for parameter in ours:
        torch.testing.assert_close(ours[parameter], theirs[parameter])


@pytest.mark.parametrize("frozen", [None, "original0", "original1"], ids=["none", "g", "v"])
@pytest.mark.parametrize("output", ["norm", "vector", "squares"])
@pytest.mark.parametrize("together", [1, 2, 100])
def test_a_normalised_convolution_in_several_chunks(together, output, frozen, monkeypatch):
    """v̂ᵀG is found where G is written out for v, or for itself alone."""
    torch.manual_seed(0)
    model = shaken(parametrizations.weight_norm(nn.Conv2d(2, 3, 3))).double().eval()
    if frozen:
        getattr(model.parametrizations.weight, frozen).requires_grad_(False)
    x = torch.randn(5, 2, 4, 5, dtype=torch.float64)
    monkeypatch.setattr(per_sample, "CACHED_BYTES", together * model.weight.nbytes)
    ours = estimate_importance(model, x, output=output, verify="off")
    theirs = estimate_importance(model, x, output=output, engine="loop")
    assert not ours.fallbacks
    assert list(ours) == list(theirs)
    for parameter in ours:
        torch.testing.assert_close(ours[parameter], theirs[parameter], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", FACTORS)
def test_by_closed_form(name, monkeypatch):
    """No autograd through the derivation, whose cost would be that of every sample."""

    def refuse(*args, **kwargs):
        raise AssertionError("it went back by autograd")

    torch.manual_seed(0)
    model, x = FACTORS[name]().eval(), torch.randn(6, 5)
    monkeypatch.setattr(per_sample.Pullback, "__init__", refuse)
    assert len(estimate_importance(model, x, verify="off"))


def test_exponent_as_large_as_its_nodes_allow():
    torch.manual_seed(0)
    for scale in (0.01, 0.1, 1, 3, 6, 10):
        model = Of(lambda a, scale=scale: torch.matrix_exp(scale * (a - a.mT) / 2), (8, 8)).double()
        x = torch.randn(4, 8, dtype=torch.float64)
        ours = estimate_importance(model, x, verify="off")
        theirs = estimate_importance(model, x, engine="loop")
        torch.testing.assert_close(ours["parts.0"], theirs["parts.0"], rtol=1e-9, atol=1e-10)


def test_parametrization_that_is_cached():
    torch.manual_seed(0)
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4))).double().eval()
    x = torch.randn(6, 5, dtype=torch.float64)
    with parametrize.cached():
        ours = estimate_importance(model, x)
    theirs = estimate_importance(model, x, engine="loop")
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name])


def written(make, write):
    """A function of parameters that writes to what another gave."""

    def weight(*parts):
        w = make(*parts)
        write(w, parts[-1])
        return w

    return weight


def half(w, _):
    w.mul_(torch.tensor([0.5, 1, 1, 1]).to(w).view(4, 1))


def clamped(w, _):
    w.clamp_(-0.5, 0.5)


def a_number(w, _):
    w[0] = 0.5


def by_relu(w, _):
    functional.relu(w, inplace=True)


def a_row(w, v):
    w[:1] = v[:1, :5]


def added_to_a_view(w, v):
    w[:1] += v[:1, :5]


def copied(w, v):
    w[1].copy_(v[0, :5])


MADE = {
    "clone": (lambda a, b: a.clone(), (4, 5), (2, 5)),
    "product": (lambda a, b: a @ b, (4, 3), (3, 5)),
    "triangle": (lambda a, b: a.triu(), (4, 5), (2, 5)),
    "weight norm": (lambda v, g: torch._weight_norm(v, g, 0), (4, 5), (4, 1)),
    "quotient": (lambda a, b: a / b[0, 0], (4, 5), (2, 5)),
}


@pytest.mark.parametrize("verify", ["growing", "off"])
@pytest.mark.parametrize(
    "write", [half, clamped, a_number, by_relu, a_row, added_to_a_view, copied]
)
@pytest.mark.parametrize("name", MADE)
def test_a_derived_weight_that_is_written_to(name, write, verify):
    """Before it is used; a unit that is dead in the samples that are compared shows it to none."""
    if name == "weight norm" and write in (a_row, added_to_a_view, copied):
        pytest.skip("g has no rows")
    torch.manual_seed(0)
    make, *shapes = MADE[name]
    model = nn.Sequential(Of(written(make, write), *shapes), Gate(), nn.Linear(4, 2)).double()
    x = torch.randn(24, 5, dtype=torch.float64)
    x[:, 0] = -x[:, 0].abs()
    x[-8:, 0] = 1  # where the first unit has an effect
    ours = estimate_importance(model, x, batch_size=8, verify=verify)
    theirs = estimate_importance(model, x, engine="loop")
    for parameter in theirs:
        torch.testing.assert_close(ours[parameter], theirs[parameter], rtol=1e-9, atol=1e-11)


class Gate(nn.Module):
    """The first unit counts for nothing where it is negative."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.cat([functional.relu(h[:, :1]), h[:, 1:]], 1)


@pytest.mark.parametrize("verify", ["growing", "off"])
@pytest.mark.parametrize("make", [lambda a: 2 * a, lambda a: a.tril()], ids=["twice", "triangle"])
def test_a_derived_weight_that_is_written_to_between_two_uses(make, verify):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(5, 5, dtype=torch.float64))

        def forward(self, x):
            w = make(self.w)
            h = functional.linear(x, w)
            w.mul_(torch.arange(5.0).view(5, 1))
            return h + functional.linear(x, w).square()

    torch.manual_seed(0)
    model, x = Twice(), torch.randn(6, 5, dtype=torch.float64)
    ours = estimate_importance(model, x, verify=verify)
    theirs = estimate_importance(model, x, engine="loop")
    torch.testing.assert_close(ours["w"], theirs["w"])


class Autocast(nn.Module):
    """Runs in bfloat16, its parameters and its input in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(x).float()


@pytest.mark.parametrize("positions", [(), (3,), (9,)], ids=["one", "few", "many"])
@pytest.mark.parametrize("output", ["norm", "vector"])
@pytest.mark.parametrize(
    "name", ["adapter", "product", "orthogonal", "spectral norm", "weight norm"]
)
def test_autocast(name, output, positions):
    """δ may be in bfloat16 where x is in float32."""
    torch.manual_seed(0)
    model = Autocast(nn.Sequential(FACTORS[name](), nn.Tanh(), nn.LazyLinear(3))).eval()
    x = torch.randn(6, *positions, 5)
    model(x)
    ours = estimate_importance(model, x, output=output, verify="off")
    theirs = estimate_importance(model, x, output=output, engine="loop")
    assert not ours.fallbacks
    for parameter in theirs:
        error = (ours[parameter] - theirs[parameter]).norm() / theirs[parameter].norm()
        assert error < 0.05, parameter
