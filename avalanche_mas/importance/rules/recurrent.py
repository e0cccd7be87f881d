"""Recurrent layers and cells, taken apart: their parameters are those of linear maps.

``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells each make one call, which runs all time steps
inside. Here it is written as what it computes, so that each linear map in it meets the rule of
:mod:`~avalanche_mas.importance.rules.linear`: the input projection of all T steps as one, the
recurrent projection step by step, and the projection of an LSTM's hidden state. The T uses of a
recurrent weight are uses of one parameter, summed per sample before the absolute value.

l-MAS takes a layer's input as given and adds an activation only where one directly follows. Here
the sum of two projections follows, so each linear map is a layer of its own with f(z) = z: the
input projection with T positions, the recurrent one as T uses of one layer. The gates, and the way
of a state through time, are left to global MAS.

Not taken apart are packed sequences, of which fewer and fewer samples take part in a step, and
dropout between layers in train mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from avalanche_mas.importance.rules.registry import NoRule, decomposition

_States = tuple[Tensor, ...]
"""What a step hands on to the next, (B, ·) each: (h,), or an LSTM's (h, c)."""

_Step = Callable[[Tensor, Tensor, _States], _States]
"""One time step: projected input, projected h and the states before → the states after."""


def _tanh_step(x: Tensor, h: Tensor, states: _States) -> _States:
    return (torch.tanh(x + h),)


def _relu_step(x: Tensor, h: Tensor, states: _States) -> _States:
    return (torch.relu(x + h),)


def _gru_step(x: Tensor, h: Tensor, states: _States) -> _States:
    width = h.shape[-1] // 3
    gates_x, new_x = torch.split(x, [2 * width, width], -1)
    gates_h, new_h = torch.split(h, [2 * width, width], -1)
    reset, update = torch.sigmoid(gates_x + gates_h).chunk(2, -1)
    new = torch.tanh(new_x + reset * new_h)
    return (torch.lerp(new, states[0], update),)


def _lstm_step(x: Tensor, h: Tensor, states: _States) -> _States:
    enter, forget, cell, leave = (x + h).chunk(4, -1)
    c = torch.sigmoid(forget) * states[1] + torch.sigmoid(enter) * torch.tanh(cell)
    return torch.sigmoid(leave) * torch.tanh(c), c


def _layers(
    step: _Step,
    input: Tensor,
    states: _States,
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
                tuple(state[place] for state in states),
                params[place * each : (place + 1) * each],
                backwards=direction == 1,
            )
            outputs.append(output)
            ends.append(end)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
    output = x.transpose(0, 1) if batch_first else x
    return output, *(torch.stack(end) for end in zip(*ends, strict=True))


def _sweep(
    step: _Step, x: Tensor, states: _States, params: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, _States]:
    """One layer in one direction of time: (T, B, i) → (T, B, h) and the last states."""
    into, recurrent, *others = params  # then both biases, if any, and the projection of h, if any
    biases = others[:2] if len(others) > 1 else (None, None)
    projection = others[-1] if len(others) % 2 else None
    steps = functional.linear(x, into, biases[0]).unbind()
    outputs = []
    for x_t in reversed(steps) if backwards else steps:
        states = step(x_t, functional.linear(states[0], recurrent, biases[1]), states)
        if projection is not None:
            states = functional.linear(states[0], projection), *states[1:]
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if backwards else outputs), states


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
    return _layers(_lstm_step, input, tuple(hx), params, *options)


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
    x, h = functional.linear(input, w_ih, b_ih), functional.linear(hx[0], w_hh, b_hh)
    return _lstm_step(x, h, tuple(hx))


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
        x, h = functional.linear(input, w_ih, b_ih), functional.linear(hx, w_hh, b_hh)
        return step(x, h, (hx,))[0]

    return cell


gru = decomposition(torch.gru)(_layer(_gru_step))
rnn_tanh = decomposition(torch.rnn_tanh)(_layer(_tanh_step))
rnn_relu = decomposition(torch.rnn_relu)(_layer(_relu_step))
gru_cell = decomposition(torch.gru_cell)(_cell(_gru_step))
rnn_tanh_cell = decomposition(torch.rnn_tanh_cell)(_cell(_tanh_step))
rnn_relu_cell = decomposition(torch.rnn_relu_cell)(_cell(_relu_step))
