"""Recurrent layers and cells, taken apart: their parameters are those of linear maps.

``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells each make one call, which runs all time steps
inside. Here the steps run first, with the parameters as they are (:class:`_Sweep`). Once all states
are known, each linear map is one operation on all T of them, and meets the rule of
:mod:`~avalanche_mas.importance.rules.linear`: Σ_t δ_t x_tᵀ is summed per sample before the absolute
value. The way back through time gives δ at every step of each of these operations.

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


class _Step(NamedTuple):
    """One time step of a kind of layer, and the way back.

    :param forward: the gates' projected input (which may be written to), the projected h before, h
        and, in an LSTM, c before → h, c (else None), and what ``backward`` needs.
    :param backward: that, and the gradients at h and c → those at the gates' input, the projected
        h, h before (by a way other than its projection) and c before.
    """

    forward: Callable[..., tuple[Tensor, Tensor | None, tuple[Tensor, ...]]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor | None, Tensor | None]]


def _rnn(activation: Callable[[Tensor], Tensor], back: Callable[[Tensor, Tensor], Tensor]) -> _Step:
    def forward(x: Tensor, p: Tensor, h: Tensor, c: None) -> tuple[Tensor, None, tuple[Tensor]]:
        new = activation(x.add_(p))
        return new, None, (new,)

    def backward(kept: tuple[Tensor], dh: Tensor, dc: None) -> tuple[Tensor, Tensor, None, None]:
        delta = back(dh, kept[0])
        return delta, delta, None, None

    return _Step(forward, backward)


def _gru_forward(
    x: Tensor, p: Tensor, h: Tensor, c: None
) -> tuple[Tensor, None, tuple[Tensor, ...]]:
    width = h.shape[-1]
    gates, p_new = x[:, : 2 * width], p[:, 2 * width :]
    gates.add_(p[:, : 2 * width]).sigmoid_()
    reset, update = gates.chunk(2, -1)
    new = x[:, 2 * width :].addcmul_(reset, p_new).tanh_()
    return torch.lerp(new, h, update), None, (gates, reset, update, new, p_new, h)


def _gru_backward(
    kept: tuple[Tensor, ...], dh: Tensor, dc: None
) -> tuple[Tensor, Tensor, Tensor, None]:
    gates, reset, update, new, p_new, h = kept
    from_state = dh * update
    d_new = _tanh_backward(dh - from_state, new)
    d_gates = _sigmoid_backward(torch.cat([d_new * p_new, dh * (h - new)], -1), gates)
    at_input = torch.cat([d_gates, d_new], -1)
    return at_input, torch.cat([d_gates, d_new * reset], -1), from_state, None


def _lstm_forward(
    x: Tensor, p: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    enter, forget, cell, leave = x.add_(p).chunk(4, -1)
    x[:, : 2 * c.shape[-1]].sigmoid_()
    cell.tanh_()
    leave.sigmoid_()
    new = torch.addcmul(forget * c, enter, cell)
    squashed = torch.tanh(new)
    return leave * squashed, new, (enter, forget, cell, leave, c, squashed)


def _lstm_backward(
    kept: tuple[Tensor, ...], dh: Tensor, dc: Tensor
) -> tuple[Tensor, Tensor, None, Tensor]:
    enter, forget, cell, leave, c, squashed = kept
    dc = _tanh_backward(dh * leave, squashed).add_(dc)
    at_enter, at_forget = _sigmoid_backward(dc * cell, enter), _sigmoid_backward(dc * c, forget)
    at_cell, at_leave = _tanh_backward(dc * enter, cell), _sigmoid_backward(dh * squashed, leave)
    delta = torch.cat([at_enter, at_forget, at_cell, at_leave], -1)
    return delta, delta, None, dc.mul_(forget)


_sigmoid_backward = torch.ops.aten.sigmoid_backward  # δ y (1 − y)
_tanh_backward = torch.ops.aten.tanh_backward  # δ (1 − y²)

_TANH = _rnn(torch.tanh, _tanh_backward)
_RELU = _rnn(torch.relu, lambda delta, y: torch.ops.aten.threshold_backward(delta, y, 0))
_GRU = _Step(_gru_forward, _gru_backward)
_LSTM = _Step(_lstm_forward, _lstm_backward)


def _layers(
    step: _Step,
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
                step,
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
    step: _Step, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer in one direction of time: (T, B, i) → (T, B, h) and the last states."""
    into, recurrent, *others = params  # then both biases, if any, and the projection of h, if any
    biases = others[:2] if len(others) > 1 else (None, None)
    projection = others[-1] if len(others) % 2 else None
    steps = functional.linear(x, into, biases[0])
    order = range(len(steps))[:: -1 if backwards else 1]
    with torch.no_grad(), torch._C.DisableTorchFunction():
        run = _run(step, steps, order, states, recurrent, biases[1], projection)
    projected = functional.linear(run.before, recurrent, biases[1])
    outputs = None if projection is None else functional.linear(run.unprojected, projection)
    ways = steps, projected, outputs, states[0], states[1] if len(states) > 1 else None
    h, c = _Sweep.apply(step, run, order, recurrent.detach(), _detached(projection), *ways)
    return h, (h[order[-1]],) if c is None else (h[order[-1]], c)


class _Run(NamedTuple):
    """What the steps came to.

    :param h: after each, (T, B, h).
    :param c: after the last, if the layer has one.
    :param before: h before each, (T, B, h).
    :param unprojected: h after each, before its projection.
    :param kept: what the way back needs, in the order of execution.
    """

    h: Tensor
    c: Tensor | None
    before: Tensor
    unprojected: Tensor
    kept: list[tuple[Tensor, ...]]


def _run(
    step: _Step,
    steps: Tensor,
    order: Sequence[int],
    states: Sequence[Tensor],
    recurrent: Tensor,
    bias: Tensor | None,
    projection: Tensor | None,
) -> _Run:
    h, c = states[0], states[1] if len(states) > 1 else None
    inputs = steps.clone().unbind()
    before, unprojected, after = ([h] * len(order) for _ in range(3))
    kept: list[tuple[Tensor, ...]] = [()] * len(order)
    for t in order:
        before[t] = h
        h, c, kept[t] = step.forward(inputs[t], functional.linear(h, recurrent, bias), h, c)
        unprojected[t] = h
        after[t] = h = h if projection is None else functional.linear(h, projection)
    return _Run(torch.stack(after), c, torch.stack(before), torch.stack(unprojected), kept)


class _Sweep(torch.autograd.Function):
    """The outputs of all steps, and the way back to each projection at each of them."""

    @staticmethod
    def forward(ctx: Any, step: _Step, run: _Run, order: Sequence[int], *tensors: Any) -> Any:
        ctx.given = step, run.kept, order, *tensors[:2]
        return run.h.clone(), None if run.c is None else run.c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor, dc: Tensor | None) -> Any:
        step, kept, order, recurrent, projection = ctx.given
        at_outputs = list(from_outputs.unbind())
        at_inputs, at_projected = list(at_outputs), list(at_outputs)
        dh = None
        for t in reversed(order):
            if dh is not None:
                at_outputs[t] = at_outputs[t] + dh
            dh = at_outputs[t] if projection is None else torch.mm(at_outputs[t], projection)
            at_inputs[t], at_projected[t], own, dc = step.backward(kept[t], dh, dc)
            dh = torch.mm(at_projected[t], recurrent)
            dh = dh if own is None else dh + own
        same = at_inputs[0] is at_projected[0]
        inputs = torch.stack(at_inputs)
        projected = inputs if same else torch.stack(at_projected)
        outputs = None if projection is None else torch.stack(at_outputs)
        return None, None, None, None, None, inputs, projected, outputs, dh, dc


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
    step: _Step, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    given = [param for param in params if param is not None]
    return tuple(_sweep(step, x.unsqueeze(0), states, given, backwards=False)[1])


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


def _layer(step: _Step) -> Callable[..., tuple[Tensor, ...]]:
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
        return _layers(step, input, (hx,), params, *options)

    return recurrent


def _cell(step: _Step) -> Callable[..., Tensor]:
    def cell(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        """What ``nn.GRUCell`` and ``nn.RNNCell`` call: (B, i) and the state (B, h) → h."""
        return _one_step(step, input, (hx,), [w_ih, w_hh, b_ih, b_hh])[0]

    return cell


gru = decomposition(torch.gru)(_layer(_GRU))
rnn_tanh = decomposition(torch.rnn_tanh)(_layer(_TANH))
rnn_relu = decomposition(torch.rnn_relu)(_layer(_RELU))
gru_cell = decomposition(torch.gru_cell)(_cell(_GRU))
rnn_tanh_cell = decomposition(torch.rnn_tanh_cell)(_cell(_TANH))
rnn_relu_cell = decomposition(torch.rnn_relu_cell)(_cell(_RELU))
