"""Recurrent layers and cells, taken apart: their parameters are those of linear maps.

``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells each make one call, which runs all time steps
inside. Here the steps run first, without autograd, and give the outputs h of all of them. Once
these are known, each linear map is one operation on all T of them, and meets the rule of
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

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from avalanche_mas.importance.rules.linear import known_linear
from avalanche_mas.importance.rules.registry import NoRule, decomposition

_sigmoid_backward = torch.ops.aten.sigmoid_backward  # δ y (1 − y)
_tanh_backward = torch.ops.aten.tanh_backward  # δ (1 − y²)


class _Gates(ABC):
    """What all steps of a layer come to, and the factors of the way back, all steps at once.

    The projected input of all steps is x, the projected h before each of them is p.

    :param x: (T, B, ·).
    :param states: before the first step.
    :param order: of the steps.
    """

    c: Tensor | None = None
    """The last one, if the layer has one."""

    straight: tuple[Tensor, ...] | None = None
    """∂h / ∂h before, by the way that is no linear map, if there is one."""

    def __init__(self, x: Tensor, states: Sequence[Tensor], order: Sequence[int]) -> None:
        self.x, self.states, self.order = x, states, order
        self.p = torch.empty_like(x, memory_format=torch.contiguous_format)
        # as the rule reads it: one sample behind the other
        self.h, self.before = self._sequence(states[0], sample_by_sample=True)
        self.unprojected = self.h
        """h after each step, before its projection, (T, B, ·)."""

    def run(self, weight: Tensor, bias: Tensor | None, projection: Tensor | None) -> None:
        """Runs all steps, and computes the factors."""
        dtype = self.x.dtype  # autocast may have chosen another
        weight = weight.to(dtype).t()
        bias, projection = (None if t is None else t.to(dtype) for t in (bias, projection))
        if projection is not None:
            self.unprojected = self.x.new_empty(*self.x.shape[:2], projection.shape[1])
        h, before, p = self.h.unbind(), self.before.unbind(), self.p.unbind()
        ends = self.unprojected.unbind()
        step = self.stepper()
        for t in self.order:
            if bias is None:
                torch.mm(before[t], weight, out=p[t])
            else:
                torch.addmm(bias, before[t], weight, out=p[t])
            step(t, before[t], ends[t])
            if projection is not None:
                torch.mm(ends[t], projection.t(), out=h[t])
        self.find_factors()

    def _sequence(self, first: Tensor, *, sample_by_sample: bool = False) -> tuple[Tensor, Tensor]:
        """Memory for a state after each step, and the same states before each step."""
        steps, (size, width) = len(self.x) + 1, first.shape
        memory = (
            self.x.new_empty(size, steps, width).transpose(0, 1)
            if sample_by_sample
            else self.x.new_empty(steps, size, width)
        )
        backwards = self.order[0] > self.order[-1]
        memory[-1 if backwards else 0].copy_(first)
        later, earlier = memory[1:], memory[:-1]
        return (earlier, later) if backwards else (later, earlier)

    @abstractmethod
    def stepper(self) -> Callable[[int, Tensor, Tensor], None]:
        """A function of a step, h before it, and where h goes."""

    @abstractmethod
    def find_factors(self) -> None:
        """Compute what :meth:`back` multiplies by, once all steps have run."""

    @abstractmethod
    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> Tensor | None:
        """Go back through step t.

        :param dh: the gradient at h.
        :param dc: at c, if the layer has one.
        :param delta: takes that at the projected h before.
        :return: that at c before.
        """

    def at_inputs(self, dh: Sequence[Tensor], delta: Tensor) -> Tensor:
        """The gradients at the gates' inputs: of h and of the projected h before, all steps."""
        return delta


class _Rnn(_Gates):
    """h = f(x + p)."""

    def stepper(self) -> Callable[[int, Tensor, Tensor], None]:
        x, p = self.x.unbind(), self.p.unbind()

        def step(t: int, before: Tensor, h: Tensor) -> None:
            self.activate_(torch.add(x[t], p[t], out=h))

        return step

    def find_factors(self) -> None:
        self.slopes = self.slope(self.unprojected).unbind()

    @staticmethod
    @abstractmethod
    def activate_(total: Tensor) -> None:
        """Puts f(x + p) in the place of x + p."""

    @staticmethod
    @abstractmethod
    def slope(h: Tensor) -> Tensor:
        """f′, as h shows it."""

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> None:
        torch.mul(dh, self.slopes[t], out=delta)


class _Tanh(_Rnn):
    """f = tanh."""

    @staticmethod
    def activate_(total: Tensor) -> None:
        total.tanh_()

    @staticmethod
    def slope(h: Tensor) -> Tensor:
        return 1 - h * h


class _Relu(_Rnn):
    """f = ReLU."""

    @staticmethod
    def activate_(total: Tensor) -> None:
        total.relu_()

    @staticmethod
    def slope(h: Tensor) -> Tensor:
        return (h > 0).to(h.dtype)


class _Gru(_Gates):
    """r, z = σ(x + p), n = tanh(x + r p), h = (1 − z) n + z h before."""

    def __init__(self, x: Tensor, states: Sequence[Tensor], order: Sequence[int]) -> None:
        super().__init__(x, states, order)
        self.width = 2 * states[0].shape[-1]
        self.gates = x.new_empty(*x.shape[:2], self.width)
        self.new = x.new_empty(*x.shape[:2], self.width // 2)

    def stepper(self) -> Callable[[int, Tensor, Tensor], None]:
        split = [self.width, self.width // 2]
        x, x_new = (part.unbind() for part in torch.split(self.x, split, -1))
        p, p_new = (part.unbind() for part in torch.split(self.p, split, -1))
        gates, new = self.gates.unbind(), self.new.unbind()
        reset, update = (gate.unbind() for gate in self.gates.chunk(2, -1))

        def step(t: int, before: Tensor, h: Tensor) -> None:
            torch.add(x[t], p[t], out=gates[t]).sigmoid_()
            torch.addcmul(x_new[t], reset[t], p_new[t], out=new[t]).tanh_()
            torch.lerp(new[t], before, update[t], out=h)

        return step

    def find_factors(self) -> None:
        of_new = self.p[..., self.width :]
        reset, update = self.gates.chunk(2, -1)
        self.to_new = _tanh_backward(1 - update, self.new)
        at_gates = torch.cat([self.to_new * of_new, self.before - self.new], -1)
        slopes = _sigmoid_backward(at_gates, self.gates)
        factors = torch.cat([slopes, self.to_new * reset], -1)
        self.factors = factors.view(*factors.shape[:2], 3, -1).unbind()
        self.straight = update.unbind()

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> None:
        torch.mul(dh.unsqueeze(1), self.factors[t], out=delta.view(len(delta), 3, -1))

    def at_inputs(self, dh: Sequence[Tensor], delta: Tensor) -> Tensor:
        of_new = torch.stack(list(dh)) * self.to_new
        return torch.cat([delta[..., : self.width], of_new], -1)


class _Lstm(_Gates):
    """i, f, o = σ(x + p), g = tanh(x + p), c = f c before + i g, h = o tanh(c)."""

    def __init__(self, x: Tensor, states: Sequence[Tensor], order: Sequence[int]) -> None:
        super().__init__(x, states, order)
        self.after, self.c_before = self._sequence(states[1])
        self.gates = torch.empty_like(self.p)
        self.cell, self.squashed = torch.empty_like(self.after), torch.empty_like(self.after)

    def stepper(self) -> Callable[[int, Tensor, Tensor], None]:
        x, p, gates = self.x.unbind(), self.p.unbind(), self.gates.unbind()
        enter, forget, unsquashed, leave = (gate.unbind() for gate in self.gates.chunk(4, -1))
        cell, squashed = self.cell.unbind(), self.squashed.unbind()
        after, c_before = self.after.unbind(), self.c_before.unbind()

        def step(t: int, before: Tensor, h: Tensor) -> None:
            torch.add(x[t], p[t], out=gates[t])
            torch.tanh(unsquashed[t], out=cell[t])
            gates[t].sigmoid_()
            entering = torch.mul(enter[t], cell[t])
            torch.addcmul(entering, forget[t], c_before[t], out=after[t])
            torch.tanh(after[t], out=squashed[t])
            torch.mul(leave[t], squashed[t], out=h)

        return step

    def find_factors(self) -> None:
        self.c = self.after[self.order[-1]]
        enter, forget, _, leave = self.gates.chunk(4, -1)
        self.forget = forget.unbind()
        self.to_c = _tanh_backward(leave, self.squashed).unbind()
        from_c = self.gates.new_empty(*enter.shape[:2], 3, enter.shape[-1])
        at_enter, at_forget, at_cell = from_c.unbind(2)
        _sigmoid_backward(self.cell, enter, grad_input=at_enter)
        _sigmoid_backward(self.c_before, forget, grad_input=at_forget)
        _tanh_backward(enter, self.cell, grad_input=at_cell)
        self.from_c = from_c.unbind()
        self.from_h = _sigmoid_backward(self.squashed, leave).unbind()

    def back(self, t: int, dh: Tensor, dc: Tensor, delta: Tensor) -> Tensor:
        dc = torch.addcmul(dc, dh, self.to_c[t])
        parts = delta.view(len(delta), 4, -1)
        torch.mul(dc.unsqueeze(1), self.from_c[t], out=parts[:, :3])
        torch.mul(dh, self.from_h[t], out=parts[:, 3])
        return dc.mul_(self.forget[t])


_Kind = Callable[[Tensor, Sequence[Tensor], Sequence[int]], _Gates]


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
    steps = functional.linear(x, into, biases[0])
    with _by_itself(steps):
        gates = kind(steps, states, order)
        gates.run(recurrent, biases[1], projection)
    projected = known_linear(gates.before, recurrent, biases[1], gates.p)
    outputs = None
    if projection is not None:
        outputs = known_linear(gates.unprojected, projection, None, gates.h)
    c = states[1] if len(states) > 1 else None
    ways = steps, projected, outputs, states[0], c
    h, c = _Sweep.apply(gates, recurrent.detach(), _detached(projection), *ways)
    return h, (h[order[-1]],) if c is None else (h[order[-1]], c)


@contextmanager
def _by_itself(steps: Tensor) -> Iterator[None]:
    """No autograd, and nothing of torch's is seen by a mode, or runs in another precision."""
    autocast = torch.autocast(steps.device.type, enabled=False)
    with torch.no_grad(), torch._C.DisableTorchFunction(), autocast:
        yield


class _Sweep(torch.autograd.Function):
    """The outputs of all steps, and the way back to each projection at each of them."""

    @staticmethod
    def forward(ctx: Any, gates: _Gates, *tensors: Any) -> Any:
        ctx.given = gates, *tensors[:3]
        return gates.h.clone(), None if gates.c is None else gates.c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_outputs: Tensor, dc: Tensor | None) -> Any:
        gates, recurrent, projection, steps = ctx.given
        order = gates.order
        at_outputs = list(from_outputs.unbind())
        dh = list(at_outputs)
        # as the rules read it: one sample behind the other
        deltas = steps.new_empty(steps.shape[1], len(steps), steps.shape[2]).transpose(0, 1)
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
        return None, None, None, inputs, deltas, outputs, before, dc


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
    return _layers(_Lstm, input, tuple(hx), params, *options)


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
    return _one_step(_Lstm, input, hx, [w_ih, w_hh, b_ih, b_hh])


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


gru = decomposition(torch.gru)(_layer(_Gru))
rnn_tanh = decomposition(torch.rnn_tanh)(_layer(_Tanh))
rnn_relu = decomposition(torch.rnn_relu)(_layer(_Relu))
gru_cell = decomposition(torch.gru_cell)(_cell(_Gru))
rnn_tanh_cell = decomposition(torch.rnn_tanh_cell)(_cell(_Tanh))
rnn_relu_cell = decomposition(torch.rnn_relu_cell)(_cell(_Relu))
