"""Recurrent layers and cells, taken apart: their parameters are those of linear maps.

``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells each make one call, which runs all time steps
inside. Here that call runs first, for the outputs h of all steps. Once these are known, each linear
map is one operation on all T of them, and meets the rule of
:mod:`~avalanche_mas.importance.rules.linear`: Σ_t δ_t x_tᵀ is summed per sample before the absolute
value. :class:`_Sweep` goes back through time, and gives δ at every step of each of these
operations. Its factors that do not depend on δ are computed for all steps at once.

l-MAS takes a layer's input as given and adds an activation only where one directly follows. Here
the sum of two projections follows, so each linear map is a layer of its own with f(z) = z and T
positions. The gates, and the way of a state through time, are left to global MAS.

Not taken apart are packed sequences, of which fewer and fewer samples take part in a step, and
dropout between layers in train mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from avalanche_mas.importance.rules.registry import NoRule, decomposition

_sigmoid_backward = torch.ops.aten.sigmoid_backward  # δ y (1 − y)
_tanh_backward = torch.ops.aten.tanh_backward  # δ (1 − y²)


class _Gates:
    """What all steps of a layer came to, and the factors of the way back, all steps at once."""

    c: Tensor | None = None
    """The last one, if the layer has one."""

    straight: tuple[Tensor, ...] | None = None
    """∂h / ∂h before, by the way that is no linear map, if there is one."""

    def __init__(self, unprojected: Tensor) -> None:
        self.unprojected = unprojected
        """h after each step, before its projection, (T, B, ·)."""

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> Tensor | None:
        """Go back through step t.

        :param dh: the gradient at h.
        :param dc: at c, if the layer has one.
        :param delta: takes that at the projected h before.
        :return: that at c before.
        """
        raise NotImplementedError

    def at_inputs(self, dh: Sequence[Tensor], delta: Tensor) -> Tensor:
        """The gradients at the gates' inputs: of h and of the projected h before, all steps."""
        return delta


class _Rnn(_Gates):
    """h = f(x + p), where x is the projected input and p the projected h before."""

    def __init__(self, h: Tensor, slopes: Tensor) -> None:
        super().__init__(h)
        self.slopes = slopes.unbind()

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> None:
        torch.mul(dh, self.slopes[t], out=delta)


def _tanh(h: Tensor, x: Tensor, p: Tensor, before: Tensor, *_: object) -> _Rnn:
    return _Rnn(h, 1 - h * h)


def _relu(h: Tensor, x: Tensor, p: Tensor, before: Tensor, *_: object) -> _Rnn:
    return _Rnn(h, (h > 0).to(h.dtype))


class _Gru(_Gates):
    """r, z = σ(x + p), n = tanh(x + r p), h = (1 − z) n + z h before."""

    def __init__(self, h: Tensor, x: Tensor, p: Tensor, before: Tensor, *_: object) -> None:
        super().__init__(h)
        width = 2 * h.shape[-1]
        gates, of_new = torch.sigmoid(x[..., :width] + p[..., :width]), p[..., width:]
        reset, update = gates.chunk(2, -1)
        new = torch.tanh(x[..., width:] + reset * of_new)
        self.to_new = _tanh_backward(1 - update, new)
        slopes = _sigmoid_backward(torch.cat([self.to_new * of_new, before - new], -1), gates)
        factors = torch.cat([slopes, self.to_new * reset], -1)
        self.factors = factors.view(*factors.shape[:2], 3, -1).unbind()
        self.straight = update.unbind()

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> None:
        torch.mul(dh.unsqueeze(1), self.factors[t], out=delta.view(len(delta), 3, -1))

    def at_inputs(self, dh: Sequence[Tensor], delta: Tensor) -> Tensor:
        of_new = torch.stack(list(dh)) * self.to_new
        return torch.cat([delta[..., : 2 * of_new.shape[-1]], of_new], -1)


class _Lstm(_Gates):
    """i, f, o = σ(x + p), g = tanh(x + p), c = f c before + i g, h = o tanh(c)."""

    def __init__(
        self,
        h: Tensor,
        x: Tensor,
        p: Tensor,
        before: Tensor,
        c: Tensor,
        order: Sequence[int],
    ) -> None:
        width = c.shape[-1]
        gates = x + p
        cell = torch.tanh(gates[..., 2 * width : 3 * width])
        gates.sigmoid_()
        enter, forget, _, leave = gates.chunk(4, -1)
        self.forget, entering = forget.unbind(), (enter * cell).unbind()
        c_before, after = [c] * len(order), [c] * len(order)
        for t in order:
            c_before[t] = c
            after[t] = c = torch.addcmul(entering[t], self.forget[t], c)
        self.c, squashed = c, torch.tanh(torch.stack(after))
        super().__init__(leave * squashed)
        self.to_c = _tanh_backward(leave, squashed).unbind()
        from_c = torch.empty(*gates.shape[:2], 3, width, dtype=gates.dtype, device=gates.device)
        at_enter, at_forget, at_cell = from_c.unbind(2)
        _sigmoid_backward(cell, enter, grad_input=at_enter)
        _sigmoid_backward(torch.stack(c_before), forget, grad_input=at_forget)
        _tanh_backward(enter, cell, grad_input=at_cell)
        self.from_c = from_c.unbind()
        self.from_h = _sigmoid_backward(squashed, leave).unbind()

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> Tensor:
        dc = torch.addcmul(dc, dh, self.to_c[t])
        parts = delta.view(len(delta), 4, -1)
        torch.mul(dc.unsqueeze(1), self.from_c[t], out=parts[:, :3])
        torch.mul(dh, self.from_h[t], out=parts[:, 3])
        return dc.mul_(self.forget[t])


class _Kind(NamedTuple):
    """A kind of layer: torch's function for all of its steps, and their gates once h is known."""

    layer: Callable[..., tuple[Tensor, ...]]
    gates: Callable[..., _Gates]


_TANH = _Kind(torch.rnn_tanh, _tanh)
_RELU = _Kind(torch.rnn_relu, _relu)
_GRU = _Kind(torch.gru, _Gru)
_LSTM = _Kind(torch.lstm, _Lstm)


def _layers(
    kind: _Kind,
    input: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """All layers and directions: the outputs of the last layer, then the last states of each.

    :param input: (T, B, i), or (B, T, i) if ``batch_first``.
    :param states: (layers · directions, B, ·) each.
    """
    if train and dropout and num_layers > 1:
        raise NoRule("dropout between layers")
    x = input.transpose(0, 1) if batch_first else input
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    ends = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            output, end = _sweep(
                kind,
                x,
                [state[place] for state in states],
                params[place * each : (place + 1) * each],
                backwards=direction == 1,
            )
            outputs.append(output)
            ends.append(end)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
    output = x.transpose(0, 1) if batch_first else x
    return output, *(torch.stack(end) for end in zip(*ends, strict=True))


def _sweep(
    kind: _Kind, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer in one direction of time: (T, B, i) → (T, B, h) and the last states."""
    into, recurrent, *others = params  # then both biases, if any, and the projection of h, if any
    biases = others[:2] if len(others) > 1 else (None, None)
    projection = others[-1] if len(others) % 2 else None
    order = range(len(x))[:: -1 if backwards else 1]
    with torch.no_grad(), torch._C.DisableTorchFunction():
        h = _run(kind, x, states, params, biases[0] is not None, backwards)
        first = states[0].unsqueeze(0)
        before = torch.cat([h[1:], first] if backwards else [first, h[:-1]])
    steps = functional.linear(x, into, biases[0])
    projected = functional.linear(before, recurrent, biases[1])
    c = states[1] if len(states) > 1 else None
    with torch.no_grad(), torch._C.DisableTorchFunction():
        gates = kind.gates(h, steps, projected, before, c, order)
    outputs = None if projection is None else functional.linear(gates.unprojected, projection)
    ways = steps, projected, outputs, states[0], c
    h, c = _Sweep.apply(h, gates, order, recurrent.detach(), _detached(projection), *ways)
    return h, (h[order[-1]],) if c is None else (h[order[-1]], c)


def _run(
    kind: _Kind,
    x: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    backwards: bool,
) -> Tensor:
    """h after each step, (T, B, h), by torch's own function."""
    first = [state.unsqueeze(0) for state in states]
    h, *_ = kind.layer(
        x.flip(0) if backwards else x,
        first if len(first) > 1 else first[0],
        list(params),
        has_biases,
        1,  # layer
        0.0,  # dropout
        False,  # train
        False,  # bidirectional
        False,  # batch_first
    )
    return h.flip(0) if backwards else h


class _Sweep(torch.autograd.Function):
    """The outputs of all steps, and the way back to each projection at each of them."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, gates: _Gates, order: Sequence[int], *tensors: Any) -> Any:
        ctx.given = gates, order, *tensors[:3]
        return h.clone(), None if gates.c is None else gates.c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor, dc: Tensor | None) -> Any:
        gates, order, recurrent, projection, steps = ctx.given
        at_outputs = list(from_outputs.unbind())
        dh = list(at_outputs)
        deltas = torch.empty_like(steps, memory_format=torch.contiguous_format)
        rows = deltas.unbind()
        for t, previous in zip(reversed(order), [*reversed(order[:-1]), None], strict=True):
            dh[t] = at_outputs[t] if projection is None else torch.mm(at_outputs[t], projection)
            dc = gates.back(t, dh[t], dc, rows[t])
            if previous is None:
                before = torch.mm(rows[t], recurrent)
            else:
                before = torch.addmm(at_outputs[previous], rows[t], recurrent)
            if gates.straight is not None:
                before.addcmul_(dh[t], gates.straight[t])
            if previous is not None:
                at_outputs[previous] = before
        outputs = None if projection is None else torch.stack(at_outputs)
        inputs = gates.at_inputs(dh, deltas)
        return None, None, None, None, None, inputs, deltas, outputs, before, dc


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


@decomposition(torch.lstm)
def lstm(
    input: Tensor,
    hx: Sequence[Tensor] | Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """What ``nn.LSTM`` calls, with the arguments of ``torch.lstm`` → output, h, c."""
    if isinstance(hx, Tensor):  # the arguments are data, batch_sizes, hx, ...
        raise NoRule("a packed sequence")
    options = num_layers, dropout, train, bidirectional, batch_first
    return _layers(_LSTM, input, tuple(hx), params, *options)


def _one_step(
    kind: _Kind, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    given = [param for param in params if param is not None]
    return tuple(_sweep(kind, x.unsqueeze(0), states, given, backwards=False)[1])


@decomposition(torch.lstm_cell)
def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """What ``nn.LSTMCell`` calls: (B, i) and the states (B, h) → h, c."""
    return _one_step(_LSTM, input, hx, [w_ih, w_hh, b_ih, b_hh])


def _layer(kind: _Kind) -> Callable[..., tuple[Tensor, ...]]:
    def recurrent(
        input: Tensor,
        hx: Tensor,
        params: Sequence[Tensor] | Tensor,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        """What ``nn.GRU`` and ``nn.RNN`` call, with the arguments of ``torch.gru`` → output, h."""
        if isinstance(params, Tensor):  # the arguments are data, batch_sizes, hx, ...
            raise NoRule("a packed sequence")
        options = num_layers, dropout, train, bidirectional, batch_first
        return _layers(kind, input, (hx,), params, *options)

    return recurrent


def _cell(kind: _Kind) -> Callable[..., Tensor]:
    def cell(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        """What ``nn.GRUCell`` and ``nn.RNNCell`` call: (B, i) and the state (B, h) → h."""
        return _one_step(kind, input, (hx,), [w_ih, w_hh, b_ih, b_hh])[0]

    return cell


gru = decomposition(torch.gru)(_layer(_GRU))
rnn_tanh = decomposition(torch.rnn_tanh)(_layer(_TANH))
rnn_relu = decomposition(torch.rnn_relu)(_layer(_RELU))
gru_cell = decomposition(torch.gru_cell)(_cell(_GRU))
rnn_tanh_cell = decomposition(torch.rnn_tanh_cell)(_cell(_TANH))
rnn_relu_cell = decomposition(torch.rnn_relu_cell)(_cell(_RELU))
