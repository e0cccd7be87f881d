"""F(x_k) is what the model makes of x_k alone, whatever it makes of a batch, or looks at in one."""

import threading

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn

from avalanche_mas import estimate_importance


def right(model, x, tolerance=1e-10, **options):
    truth = naive_importance(model, x, output=options.get("output", "norm"))
    error = worst_error(estimate_importance(model, x, **options), truth)
    assert error < tolerance, error


def two_layers(middle, before=lambda x: x):
    def forward(self, x):
        return self.head(torch.tanh(middle(self.layer(before(x)))))

    return module(forward, layer=nn.Linear(3, 5), head=nn.Linear(5, 2)).double()


FAINT = {
    "activations": two_layers(lambda h: h + 1e-3 * h.mean(0)),
    "their values only": two_layers(lambda h: h + 1e-3 * h.detach().mean(0)),
    "data": two_layers(lambda h: h, lambda x: x + 1e-3 * x.mean(0)),
}


@pytest.mark.parametrize("name", FAINT)
def test_samples_that_are_mixed_faintly(name):
    """Less than the comparison with single samples tolerates in float32."""
    torch.manual_seed(0)
    model, x = FAINT[name], torch.randn(20, 3)
    ours = estimate_importance(model.float(), x)
    assert worst_error(ours, naive_importance(model.double(), x.double())) < 1e-5
    assert any("depends on the others" in why for why in ours.fallbacks.values())


LARGE = {
    "normalised": lambda h: h - h.mean(0) if len(h) > 8 else h,
    "another activation": lambda h: torch.relu(h) if len(h) > 8 else h,
    "another number": lambda h: h * (2 if len(h) > 8 else 1),
}


@pytest.mark.parametrize("name", LARGE)
def test_what_only_large_batches_do(name):
    torch.manual_seed(0)
    right(two_layers(LARGE[name]), torch.randn(20, 3).double())


def test_positions_in_an_order_of_the_data():
    """Padding behind all that is none, with static shapes; the fullest samples have none."""

    def forward(self, x):
        order = (x.abs().sum(2) == 0).flatten().to(torch.uint8).sort(stable=True)[1]
        h = torch.tanh(self.layer(x.flatten(0, 1)[order]))
        h = torch.empty_like(h).index_copy(0, order, h)
        return self.head(h.view(*x.shape[:2], -1).sum(1))

    torch.manual_seed(0)
    x = torch.randn(40, 4, 3).double()
    for i in range(40):
        x[i, 4 - i % 4 :] = 0
    right(module(forward, layer=nn.Linear(3, 5), head=nn.Linear(5, 2)).double(), x)


def written(x):
    places = torch.zeros(50, 3, dtype=x.dtype)
    places[: len(x)].copy_(x)
    return places


OUT_OF_SIGHT = {
    "memory written through a view": written,
    "the model's own vmap": torch.func.vmap(lambda row: row.clamp(min=0)),
}


@pytest.mark.parametrize("name", OUT_OF_SIGHT)
def test_a_look_at_what_comes_from_the_samples_out_of_sight(name):
    def forward(self, x):
        h = self.layer(x)
        return self.head(h * 3 if bool(OUT_OF_SIGHT[name](x).max() > 5) else torch.tanh(h))

    torch.manual_seed(0)
    x = torch.randn(40, 3).clamp(max=4).double()
    x[20, 0] = 6
    right(module(forward, layer=nn.Linear(3, 5), head=nn.Linear(5, 2)).double(), x)


def shortened(gradient):
    return gradient * (1 / gradient.norm()).clamp(max=1)


@pytest.mark.parametrize("whose", ["tensor", "module"])
def test_a_hook_that_sees_the_gradients_of_a_whole_batch(whose):
    """Each is short enough to be left as it is; all of them are not."""

    def middle(h):
        if whose == "tensor":
            h.register_hook(shortened)
        return h

    torch.manual_seed(0)
    model, x = two_layers(middle), 0.1 * torch.randn(40, 3).double()
    if whose == "module":
        model.layer.register_full_backward_pre_hook(lambda _, g: (shortened(g[0]),))
    with torch.no_grad():
        model.head.weight.mul_(0.1)
        model.head.bias.fill_(2.5)
    right(model, x)


def test_torch_cond():
    model = two_layers(
        lambda h: torch.cond(h.max() > 2, lambda t: t * 3, lambda t: torch.tanh(t), (h,))
    )
    torch.manual_seed(0)
    right(model, torch.randn(20, 3).double())


def test_a_gradient_within_vmap_within_forward():
    def forward(self, x):
        return torch.func.vmap(torch.func.grad(lambda r: torch.tanh(self.w @ r).sum()))(x)

    torch.manual_seed(0)
    model = module(forward, w=nn.Parameter(torch.randn(4, 3).double()))
    right(model, torch.randn(20, 3).double())


def test_an_operation_whose_result_is_one_number_for_each_sample():
    torch.manual_seed(0)
    model = module(
        lambda self, x: torch.einsum("bi,bj,ij->b", x, x, self.w),
        w=nn.Parameter(torch.randn(3, 3).double()),
    )
    right(model, torch.randn(20, 3).double())


@pytest.mark.parametrize("output", ["norm", "vector", "squares"])
def test_prelu_by_vmap(output):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, 3)).double()
    right(model, torch.randn(12, 4).double(), engine="vmap", output=output)


@pytest.mark.parametrize("engine", ["auto", "vmap"])
def test_squares_that_float16_cannot_hold(engine):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(12, 4)
    model[2].weight.data.mul_(3e-4)
    model, x = model.half(), x.half()
    ours = estimate_importance(model, x, output="squares", engine=engine)
    truth = naive_importance(model.double(), x.double(), output="squares")
    for name in ours:
        assert torch.allclose(ours[name].double(), truth[name].double(), rtol=0.05, atol=0), name


def test_a_model_in_low_precision_that_cannot_be_copied():
    model = nn.Linear(4, 3)
    model.lock = threading.Lock()
    estimate_importance(model.bfloat16(), torch.randn(8, 4).bfloat16())


def test_what_samples_share_shows_however_little_it_matters():
    def forward(self, x, table):
        return self.head(torch.tanh(self.layer(x)) + 1e-4 * table.mean(0))

    torch.manual_seed(0)
    model = module(forward, layer=nn.Linear(3, 5), head=nn.Linear(5, 2)).double()
    x, table = torch.randn(12, 3).double(), torch.randn(6, 5).double()
    four, six = (
        estimate_importance(model, [{"x": part, "table": table} for part in x.split(size)])
        for size in (4, 6)
    )
    assert worst_error(six, dict(four)) < 1e-10
