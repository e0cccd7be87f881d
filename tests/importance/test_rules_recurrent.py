"""Recurrent layers taken apart equal torch's own, and their Ω equals the naive one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import gradients, naive_importance, worst_error
from networks import module
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from avalanche_mas import estimate_importance, estimate_local_importance
from avalanche_mas.importance.engines.exact import Exact
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.parameters import zeros
from avalanche_mas.importance.rules import NoRule, recurrent

EXACT = 1e-10
B, T, WIDTH, HIDDEN = 5, 4, 3, 4


def unruled(model, x):
    """Parameters that the exact engine leaves to the slow ones: name → why."""
    network = Network(model.eval(), lambda model, batch: model(batch))
    engine = Exact(network, network.trainable())
    engine(x, zeros(engine.parameters))
    return engine.unruled


def kinds():
    common = {
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "batch_first": st.booleans(),
        "bias": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.5]),
    }
    rnn = st.fixed_dictionaries({**common, "nonlinearity": st.sampled_from(["tanh", "relu"])})
    lstm = st.fixed_dictionaries({**common, "proj_size": st.sampled_from([0, 2])})
    return st.one_of(
        st.tuples(st.just(nn.GRU), st.fixed_dictionaries(common)),
        st.tuples(st.just(nn.RNN), rnn),
        st.tuples(st.just(nn.LSTM), lstm),
    )


def layer_of(kind, options):
    if options["num_layers"] == 1:
        options = {**options, "dropout": 0.0}  # torch warns that there is nothing to drop
    return kind(WIDTH, HIDDEN, **options).double().eval()


def random_states(layer, batch):
    """Initial states of the shapes that ``layer`` asks for."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h = torch.randn(count, batch, layer.proj_size or HIDDEN).double()
    if not isinstance(layer, nn.LSTM):
        return h
    return h, torch.randn(count, batch, HIDDEN).double()


def flat(result):
    output, states = result
    return [output, *(states if isinstance(states, tuple) else [states])]


@settings(max_examples=60)
@given(kinds(), st.integers(1, 5), st.integers(1, 5))
def test_equals_torch(kind, length, batch):
    torch.manual_seed(length)
    layer = layer_of(*kind)
    x = torch.randn(*((batch, length) if layer.batch_first else (length, batch)), WIDTH).double()
    states = random_states(layer, batch)
    expected = flat(layer(x, states))
    parts = {
        "LSTM": recurrent.lstm,
        "GRU": recurrent.gru,
        "RNN_TANH": recurrent.rnn_tanh,
        "RNN_RELU": recurrent.rnn_relu,
    }[layer.mode]
    ours = parts(
        x,
        states,
        layer._flat_weights,
        layer.bias,
        layer.num_layers,
        layer.dropout,
        layer.training,
        layer.bidirectional,
        layer.batch_first,
    )
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class Reads(nn.Module):
    """Everything that a recurrent layer returns becomes output; its states may be given."""

    def __init__(self, layer, states):
        super().__init__()
        self.layer, self.states = layer, states
        if states == "learned":
            self.begin = nn.ParameterList(
                state[:, :1].clone() for state in tensors(random_states(layer, 1))
            )

    def forward(self, x):  # (B, T, i)
        if not self.layer.batch_first:
            x = x.transpose(0, 1)
        result = self.layer(x, *self.initial(x))
        output, *ends = flat(result)
        if not self.layer.batch_first:
            output = output.transpose(0, 1)
        return output, [end.transpose(0, 1) * 0.7 for end in ends]

    def initial(self, x):
        batch = x.shape[0 if self.layer.batch_first else 1]
        if self.states == "zero":
            return []
        if self.states == "learned":
            states = tuple(state.expand(-1, batch, -1).contiguous() for state in self.begin)
        else:
            step = x[:, 0] if self.layer.batch_first else x[0]
            states = tuple(
                torch.tanh(step.sum(-1, keepdim=True)).expand(len(state), batch, state.shape[-1])
                for state in tensors(random_states(self.layer, 1))
            )
        return [states if isinstance(self.layer, nn.LSTM) else states[0]]


def tensors(states):
    return states if isinstance(states, tuple) else (states,)


@settings(max_examples=40)
@given(
    kinds(),
    st.sampled_from(["zero", "learned", "from the input"]),
    st.integers(1, 5),
    st.sampled_from([1, 2, 5]),
)
def test_importance_is_exact_and_needs_no_slow_engine(kind, states, length, batch_size):
    torch.manual_seed(length)
    model = Reads(layer_of(*kind), states).double()
    x = torch.randn(B, length, WIDTH).double()  # length B: nothing but the plan tells them apart
    ours = estimate_importance(model, x, engine="exact", batch_size=batch_size)
    assert worst_error(ours, naive_importance(model, x)) < EXACT
    assert not unruled(model, x)


CELLS = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "tanh": nn.RNNCell,
    "relu": lambda *args, **options: nn.RNNCell(*args, nonlinearity="relu", **options),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, bias):
    """A loop over time that the user wrote; the first step begins at zero."""

    def forward(self, x):
        states = None
        for x_t in x.unbind(1):
            states = self.cell(x_t, states)
        return torch.cat(states, -1) if isinstance(states, tuple) else states

    model = module(forward, cell=CELLS[name](WIDTH, HIDDEN, bias=bias)).double()
    x = torch.randn(B, T, WIDTH).double()
    ours = estimate_importance(model, x, engine="exact", batch_size=3)
    assert worst_error(ours, naive_importance(model, x)) < EXACT
    assert not unruled(model, x)


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"])
@pytest.mark.parametrize(
    ("kind", "options"), [(nn.LSTM, {"proj_size": 2}), (nn.LSTM, {}), (nn.GRU, {}), (nn.RNN, {})]
)
def test_a_single_parameter_that_is_not_frozen(name, kind, options):
    if name == "weight_hr" and not options:
        pytest.skip("there is no projection")
    layer = kind(WIDTH, HIDDEN, 2, bidirectional=True, batch_first=True, **options)
    model = module(lambda self, x: self.layer(x)[0].sum(1), layer=layer).double()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter is getattr(layer, f"{name}_l0"))
    x = torch.randn(B, T, WIDTH).double()
    assert not unruled(model, x)
    assert worst_error(estimate_importance(model, x), naive_importance(model, x)) < EXACT


def test_frozen_and_shared_weights():
    """The second layer has the first one's recurrent weight, and a frozen input weight."""

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)[0]))[0] @ self.a.weight_hh_l0

    model = module(forward, a=nn.RNN(HIDDEN, HIDDEN), b=nn.RNN(HIDDEN, HIDDEN)).double()
    model.b.weight_hh_l0 = model.a.weight_hh_l0
    model.b.weight_ih_l0.requires_grad_(False)
    model_first = module(lambda self, x: self.m(x.transpose(0, 1)).transpose(0, 1), m=model)
    x = torch.randn(B, T, HIDDEN).double()
    ours = estimate_importance(model_first, x, engine="exact", batch_size=3)
    assert "m.b.weight_ih_l0" not in ours
    assert worst_error(ours, naive_importance(model_first, x)) < EXACT


def test_sequences_that_differ_in_length_between_batches():
    model = Reads(layer_of(nn.GRU, {"num_layers": 1, "batch_first": True}), "zero")
    data = [torch.randn(3, length, WIDTH).double() for length in (4, 2, 4, 5)]
    ours = estimate_importance(model, data, engine="exact")
    each = [naive_importance(model, x) for x in data]
    mean = {name: sum(one[name] for one in each) / len(each) for name in each[0]}
    assert worst_error(ours, mean) < EXACT


LENGTHS = {
    "equal": [4, 4, 4, 4, 4],
    "falling": [4, 3, 2, 2, 1],
    "as many entries as if all were as long as the first": [3, 4, 2, 1, 5],
    "unsorted": [2, 4, 1, 3, 4],
    "as many entries, but not among the first three": [3, 4, 4, 2, 2],
}


@pytest.mark.parametrize("batch_size", [1, 3, 5])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_are_exact(kind, lengths, batch_size):
    """Left to the slow engines, together with what the network does to a packed sequence."""

    def forward(self, batch):
        packed = pack_padded_sequence(
            batch["x"], batch["length"], batch_first=True, enforce_sorted=False
        )
        packed = packed._replace(data=torch.tanh(self.embed(packed.data)))
        output, _ = pad_packed_sequence(self.layer(packed)[0], batch_first=True, total_length=5)
        return self.head(output).sum(1)

    parts = {"embed": nn.Linear(WIDTH, WIDTH), "head": nn.Linear(HIDDEN, 2)}
    model = module(forward, layer=kind(WIDTH, HIDDEN), **parts).double()
    data = {
        "x": torch.randn(B, 5, WIDTH).double(),
        "length": torch.tensor(LENGTHS[lengths]),
    }
    ours = estimate_importance(
        model,
        [{n: t[k : k + batch_size] for n, t in data.items()} for k in range(0, B, batch_size)],
        forward=lambda model, batch: model(batch),
        engine="exact",
    )
    truth = naive_importance(model, data, call=lambda model, batch: model(batch))
    assert worst_error(ours, truth) < EXACT


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_has_no_parts(kind):
    """Dropout between layers in train mode, and the packed signature."""
    options = True, 2, 0.5, True, False, False
    layer = kind(WIDTH, HIDDEN, num_layers=2).double()
    parts = recurrent.lstm if kind is nn.LSTM else recurrent.gru
    x, states = torch.randn(T, B, WIDTH).double(), random_states(layer, B)
    with pytest.raises(NoRule, match="dropout"):
        parts(x, states, layer._flat_weights, *options)
    with pytest.raises(NoRule, match="packed"):
        parts(x[0], torch.tensor([B]), states, layer._flat_weights, *options[:-1])


def test_local_importance_takes_each_linear_map_as_a_layer():
    """½ ∂‖z‖²/∂W of every projection by itself, given what it got in the forward pass."""
    layer = nn.GRU(WIDTH, HIDDEN).double().eval()
    model = module(lambda self, x: self.layer(x.transpose(0, 1))[0][-1], layer=layer)
    x = torch.randn(B, T, WIDTH).double()
    ours = estimate_local_importance(model, x, batch_size=3)
    parameters = dict(layer.named_parameters())
    truth = {f"layer.{name}": torch.zeros_like(p) for name, p in parameters.items()}
    for k in range(B):
        outputs = layer(x[k : k + 1].transpose(0, 1))[0][:, 0].detach()
        before = torch.cat([torch.zeros(1, HIDDEN).double(), outputs[:-1]])
        for side, y in ("ih", x[k]), ("hh", before):
            names = f"weight_{side}_l0", f"bias_{side}_l0"
            own = [parameters[name] for name in names]
            z = nn.functional.linear(y, *own)
            for name, g in zip(names, gradients(z.square().sum() / 2, own), strict=True):
                truth[f"layer.{name}"] += g.abs() / B
    assert worst_error(ours, truth) < EXACT
