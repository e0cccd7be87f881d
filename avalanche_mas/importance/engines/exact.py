"""Global MAS, Eq. 2: Ω = (1/N) Σ_k |∂‖F(x_k; θ)‖²/∂θ|, exact and for a whole batch at once.

The backward pass starts at the outputs and runs only through activations. Where it passes an
operation that has parameters, the operation's rule turns its input and the gradient δ at its output
into Σ_k |g_k|, and both are forgotten again. What is summed, see :mod:`.objectives`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from avalanche_mas.importance.batches import OneSample, Shared, batch_size_of, map_leaves
from avalanche_mas.importance.engines import reference
from avalanche_mas.importance.engines.base import (
    DEPENDS_ON_VALUES,
    PlannedEngine,
    Verify,
    compared,
    compared_entries,
    disagreeing,
)
from avalanche_mas.importance.engines.instrument import Instrument, Pass, PlanMismatch
from avalanche_mas.importance.engines.looking import comparable, reads_memory
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.objectives import OBJECTIVES, Objective, Output
from avalanche_mas.importance.engines.owners import (
    Confirmed,
    Place,
    random_halves,
    reached_entries,
    telling_parts,
)
from avalanche_mas.importance.engines.plan import REPEATING, Plan, graph_of
from avalanche_mas.importance.engines.tracking import Operation, arguments, is_inplace
from avalanche_mas.importance.parameters import wide, zeros
from avalanche_mas.importance.rules.per_sample import Dense, PerSample
from avalanche_mas.importance.rules.registry import (
    Call,
    Gradients,
    NoRule,
    name_of,
    samples_back,
    samples_first,
)
from avalanche_mas.importance.shadow import converted

_OF_A_KINK = 10.0
"""So many times more than by round-off may importance change where a sample lies at the kink of a
ReLU or a maximum: .0049 was seen, on ResNet-18, where .0035 counts as round-off."""

_ELSEWHERE = "its samples do not lie where those of the plan do"
_INSIDE = "the network asks for gradients in its forward pass"
_HIDDEN = "an operation uses it that torch does not show, such as a torch.autograd.Function"


_WRITING = {"__setitem__", "copy_", "add_", "sub_", "mul_", "div_"}
_WRITING |= {"__iadd__", "__isub__", "__imul__", "__itruediv__"}
"""Operations that write one value to each entry of a tensor."""


class Exact(PlannedEngine):
    """The engine ``exact``: adds Σ_k |g_k| of each batch it is called with, or another output.

    Plans are checked against :func:`reference.loop`. Parameters that an operation without rule
    uses, or for which the two disagree, are measured by vmap, or by the loop where vmap refuses;
    none is skipped.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param output: see :func:`~avalanche_mas.estimate_importance`.
    :param verify: how often it is compared with the loop, as above.
    :param unruled: parameters to measure without rules from the start: name → why.
    """

    def __init__(
        self,
        network: Network,
        parameters: dict[str, Tensor],
        output: Output = "norm",
        verify: Verify = "growing",
        unruled: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(network, parameters, verify)
        self.output = output
        self.objective: Objective = OBJECTIVES[output]
        self.record.unruled.update(unruled or {})
        self._slow = reference.VmapOrLoop(network, self.objective)
        self._seen: set[tuple[torch.Size, ...]] = set()  # shapes of batches
        self._confirmed: dict[Hashable, Confirmed] = {}  # by plan and number of samples
        self._compares = False  # what a comparison shows need not be confirmed

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``."""
        if self._slow.vmap_works or len(self.unruled) < len(self.parameters):
            super().__call__(batch, total)
        else:  # nothing is left to plan
            self._measure_slowly(self.parameters, batch, total)

    @property
    def fallback(self) -> Literal["vmap", "loop"]:
        """How parameters are measured that no rule measures, as far as has been seen."""
        return "vmap" if self._slow.vmap_works else "loop"

    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """One forward pass, backward passes through activations, and the slow engines' rest."""
        if len(self.unruled) < len(self.parameters):
            given = Pass(
                self.parameters, plan, self.objective, size, total, self.record, self.products
            )
            backward = Backward(given)
            prepared = self.network.prepare(batch)
            shapes = tuple([tensor.shape for tensor in prepared.tensors])
            apart = self.outputs_apart(batch, size, is_new=shapes not in self._seen)
            try:
                with backward:
                    outputs = prepared.run()
                backward.check_complete()
            except PlanMismatch:
                return False
            if self.mix(apart, outputs, batch):
                self.refuse_mixture()
                self._give_up("a sample's output depends on what else is in its batch", alone=True)
            else:
                self._seen.add(shapes)
                ends = [output for output in outputs if output.requires_grad]
                confirmed = self._confirmed_entries(plan, size)
                if confirmed is not None and not confirmed:
                    backward.confirm(ends, confirmed, {})
                backward.differentiate(ends, confirmed)
                if found := backward.unconfirmed():
                    self._confirm_late(found, given, batch)
        self._measure_slowly(self.unruled, batch, total)
        return True

    def _confirmed_entries(self, plan: Plan, size: int) -> Confirmed | None:
        if self.verify == "off" or size == 1 or self._compares:
            return None
        key = plan.signature, size
        if self.verify == "every batch" or key not in self._confirmed:
            self._confirmed[key] = Confirmed()
        return self._confirmed[key]

    def _confirm_late(self, found: dict[Place, Tensor], given: Pass, batch: Any) -> None:
        """A gradient has reached entries that none had reached before, and has been measured.

        :raises VerificationError: if these are not where the plan has them.
        """
        confirmed, before = self._confirmed[given.plan.signature, given.size], set(self.unruled)
        backward, prepared = Backward(given), self.network.prepare(batch)
        try:
            with backward:
                outputs = prepared.run()
        except PlanMismatch:  # it goes another way each time
            raise self._found_late(set(self.parameters) - before) from None
        ends = [output for output in outputs if output.requires_grad]
        backward.confirm(ends, confirmed, found)
        if wrong := set(self.unruled) - before:
            raise self._found_late(wrong)
        for place, reached in found.items():
            confirmed.add_certain(place, reached)

    def is_told(self, plan: Plan) -> bool:
        """Where a pass runs, and functions show it all that they are told."""
        return plan.told is not None and len(self.unruled) < len(self.parameters)

    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Everything one sample at a time."""
        self._give_up("the network runs other operations for other samples", alone=True)
        self._measure_slowly(self.parameters, batch, total)

    def separate(self) -> None:
        """Everything by the loop."""
        self._give_up(DEPENDS_ON_VALUES, alone=True)

    def measure_single(self, batch: Any, total: dict[str, Tensor]) -> set[str]:
        """The same; it says nothing of how further batches can be measured."""
        return reference.loop(self.network, self.parameters, batch, total, self.objective)

    def compare(self, plan: Plan, few: Any, spare: dict[str, Tensor]) -> set[str] | None:
        """Compares with the loop, in at least float32."""
        if any(p.element_size() < 4 for p in self.parameters.values()):
            with suppress(Exception):  # it may insist on its precision, in whatever way
                return self._compare_in_float32(few)
        loops = self._by_loop(few)
        self.exercised |= {name for name, entries in loops.items() if bool(entries.any())}
        while True:
            self._compares = True
            try:
                if not self.measure(plan, few, batch_size_of(few), spare):
                    return None
                self.products.flush()
            except RuntimeError as error:  # such as activation checkpointing: layers run again
                self._give_up(str(error).partition("\n")[0])
                return set()
            finally:
                self._compares = False
            ours = compared(spare)
            differ = set(disagreeing(ours, loops, self.parameters))
            if differ:
                differ -= self._cleared(differ, ours, loops, plan, few)
            if not (self._slow.vmap_works and differ & set(self.unruled)):
                break
            self._slow.vmap_works = False  # it is vmap that disagrees: again, by the loop
            for importance in spare.values():
                importance.zero_()
        # what the same operation uses may agree by chance, where all signs are equal
        together = [set(use.names) for use in plan.uses if differ & set(use.names)]
        return (differ.union(*together) & set(self.parameters)) - set(self.unruled)

    def _by_loop(self, few: Any) -> dict[str, Tensor]:
        """Of each parameter, the entries that are compared, as the loop measures them."""
        loops = {
            name: torch.zeros_like(wide(compared_entries(parameter.detach())))
            for name, parameter in self.parameters.items()
        }
        for name, entries in reference.one_by_one(
            self.network, self.parameters, few, self.objective, compared_entries
        ):
            loops[name] += entries
        return loops

    def _compare_in_float32(self, few: Any) -> set[str]:
        engine = self._copy(torch.float32)
        engine(_widened(few, torch.float32), zeros(engine.parameters))
        self.exercised |= engine.exercised
        self._slow.vmap_works &= engine._slow.vmap_works
        return set(engine.unruled) - set(self.unruled)

    def _cleared(
        self,
        differ: set[str],
        ours: dict[str, Tensor],
        loops: dict[str, Tensor],
        plan: Plan,
        few: Any,
    ) -> set[str]:
        """Those of the parameters that differ for no other reason than a sample at a kink.

        A ReLU whose input is zero but for round-off passes the gradient in a batch, and not alone.
        In float64 rules and loop then agree, with each other and with one of the two.
        """
        far = set(disagreeing(ours, loops, self.parameters, slack=_OF_A_KINK))
        single = any(p.dtype == torch.float32 for p in self.parameters.values())
        if differ <= far or not single:
            return set()
        with suppress(Exception):  # it may insist on its precision, in whatever way
            engine = self._copy(torch.float64)
            few = _widened(few, torch.float64)
            right, spare = engine._by_loop(few), zeros(engine.parameters)
            if engine.measure(plan, few, batch_size_of(few), spare):
                engine.products.flush()
                wrong = set(disagreeing(compared(spare), right, engine.parameters))
                wrong |= set(engine.unruled) - set(self.unruled)
                if not engine._slow.vmap_works:
                    wrong |= set(self.unruled)
                wrong |= set(disagreeing(ours, right, self.parameters)) & set(
                    disagreeing(loops, right, self.parameters)
                )
                return differ - far - wrong
        return set()

    def _copy(self, dtype: torch.dtype) -> Exact:
        """Measures a copy of the model in which round-off does not hide a fault."""
        model = converted(
            self.network.model,
            lambda tensor: tensor.to(_wider(tensor, dtype), copy=True),
        )
        network = Network(model, self.network.forward)
        return Exact(network, network.trainable(), self.output, unruled=self.unruled)

    def fall_back(self, names: set[str], batch: Any, total: dict[str, Tensor]) -> None:
        """Adds a batch again for parameters that rules have been found not to measure."""
        self._measure_slowly(names, batch, total)

    def _give_up(self, reason: str, *, alone: bool = False) -> None:
        """From now on nothing is measured by rules, and with ``alone`` one sample at a time."""
        for name in self.parameters:
            self.unruled.setdefault(name, reason)
        if alone:
            self._slow.vmap_works = False  # where it does not refuse, all samples go one way

    def _measure_slowly(self, names: Iterable[str], batch: Any, total: dict[str, Tensor]) -> None:
        if parameters := {name: self.parameters[name] for name in names}:
            self._slow(parameters, batch, total)


class Backward(Instrument):
    """A pass whose δ come from backward passes that start at the network's outputs."""

    def __init__(self, given: Pass) -> None:
        super().__init__(given)
        self._again = False  # whether the graph is needed for another backward pass
        self._squares: dict[tuple[str, int, torch.Size], tuple[Tensor, PerSample]] = {}
        self._told: list[Hashable] = []
        self._has_begun = False  # until then, the network itself asks for gradients
        self._listens = False  # instead of measuring
        self._reached: dict[Place, Tensor] = {}  # of each use, the entries that δ is not zero for
        self._confirmed: Confirmed | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if self.plan.told is not None and reads_memory(func, result):
            self._told.append(comparable(result))
        return result

    def check_complete(self) -> None:
        """The same.

        :raises PlanMismatch: also if it was told something else about values than was planned.
        """
        super().check_complete()
        if self.plan.told is not None and self.plan.told != tuple(self._told):
            raise PlanMismatch

    @cached_property
    def anchor(self) -> Tensor:
        """A scalar that gives the graph its beginning, see :class:`_Entry`."""
        first = next(iter(self.parameters.values()))
        return torch.zeros((), device=first.device, requires_grad=True)

    def confirm(
        self, outputs: list[Tensor], confirmed: Confirmed, found: Mapping[Place, Tensor]
    ) -> None:
        """Sees for a whole batch that the samples lie where the plan has them, at every use.

        From the outputs of half of the samples, no gradient may reach the entries of the others.
        Where it reaches those of few, it is asked of as many parts as tell each sample from every
        other. What lies otherwise is not measured by rules from now on.

        :param outputs: what the forward pass has returned.
        :param confirmed: what has been seen so far; added to.
        :param found: the entries that are in question; what else is reached is asked about as well.
        """
        drawn = random_halves(self.size)
        times = self._listen(outputs, drawn)
        for place, reached in times.items():
            confirmed.add_likely(place, reached)
        asked = [(place, reached > 0) for place, reached in times.items()]
        if drawn and not any(bool(confirmed.lacks(*some)) for some in (*asked, *found.items())):
            return
        parts = telling_parts(self.size)
        times = self._listen(outputs, [part.nonzero()[:, 0] for part in parts])
        for place, reached in times.items():
            confirmed.add_certain(place, reached == parts.sum(0).unsqueeze(1))

    def unconfirmed(self) -> dict[Place, Tensor]:
        """Of each use, the entries that were measured and are not confirmed, if there are any."""
        confirmed, found = self._confirmed, self._reached
        if confirmed is None or not found:
            return {}
        lacks = torch.stack([confirmed.lacks(*some) for some in found.items()]).tolist()
        return {
            place: found[place].cpu() for place, is_new in zip(found, lacks, strict=True) if is_new
        }

    def _listen(self, outputs: list[Tensor], parts: Iterable[Tensor]) -> dict[Place, Tensor]:
        """How many times gradients reach each entry, from the outputs of parts of the samples.

        :param outputs: what the forward pass has returned.
        :param parts: the samples of each. Where their gradients reach others, what is used there is
            not measured by rules from now on.
        """
        times: dict[Place, Tensor] = {}
        for part in parts if outputs else ():
            generator, starts = torch.Generator().manual_seed(0), []
            for output in outputs:
                start = torch.zeros_like(output)
                some = torch.randn((len(part), *output.shape[1:]), generator=generator)
                start[part.to(start.device)] = some.to(start)
                starts.append(start)
            self._has_begun = self._listens = True
            self._reached = {}
            torch.autograd.grad(
                outputs, [self.anchor], starts, retain_graph=True, allow_unused=True
            )
            others = torch.ones(self.size, dtype=torch.bool)
            others[part] = False
            for place, reached in self._reached.items():
                entries = reached.cpu()
                for name in self._names_at(place) if bool(entries[others].any()) else ():
                    self.given.record.unruled.setdefault(name, _ELSEWHERE)
                times[place] = entries.int() + times.get(place, torch.zeros(1, dtype=torch.int))
        self._listens, self._reached = False, {}
        return times

    def _notes(self, place: Place, delta: Tensor, dim: int | None) -> bool:
        """Notes which entries δ reaches, if that is to be known.

        :param delta: with the samples in front.
        :param dim: of the entries of each.
        :return: whether nothing else is to be done.
        """
        self._check_begun()
        if not self._listens:
            confirmed, per_sample = self._confirmed, 1 if dim is None else delta.shape[dim]
            if confirmed is None or confirmed.is_whole(place, per_sample):
                return False
            if self._names_at(place) <= set(self.given.record.unruled):
                return False
        reached = reached_entries(delta, dim, self.size)
        self._reached[place] = reached | self._reached.get(place, reached)
        return self._listens

    def _check_begun(self) -> None:
        if not self._has_begun:
            for name in self.parameters:
                self.given.record.unruled.setdefault(name, _INSIDE)
            raise PlanMismatch

    def _names_at(self, place: Place) -> set[str]:
        return self.sources(self.plan.uses[place[0]].names)

    def differentiate(self, outputs: list[Tensor], confirmed: Confirmed | None) -> None:
        """Measures every use, given what the forward pass has returned.

        :param confirmed: what else is reached is noted; None for nothing.
        """
        if not outputs:
            return
        self._has_begun, self._confirmed = True, confirmed
        self._find_hidden_uses(outputs)
        objective = self.given.objective
        passes = objective.starts(outputs)
        following = next(passes, None)
        while following is not None:
            (ends, starts), following = following, next(passes, None)
            self._again = following is not None
            torch.autograd.grad(
                ends, [self.anchor], starts, retain_graph=self._again, allow_unused=True
            )
            self.finish()
        if objective.root is not None:
            self._add_roots(objective.root)

    def add_complete(self, name: str, part: Tensor, gradients: PerSample) -> None:
        """Adds Σ_k |g_k|, or where there is a root, keeps g_k² with those of other outputs."""
        if self.given.objective.root is None:
            super().add_complete(name, part, gradients)
            return
        key = name, int(part.storage_offset()), part.shape
        if key in self._squares:
            self._squares[key][1].accumulate(gradients)
        else:
            self._squares[key] = part, gradients.squared()

    def _add_roots(self, root: Any) -> None:
        """Adds Σ_k √Σ_c g_kc².

        For a linear map the squares of all outputs still factor, Σ_c (δ_c xᵀ)² = (Σ_c δ_c²)(x²)ᵀ.
        For other uses they are written out, which the record says, so that batches are cut
        accordingly.
        """
        written = [s.gradient for _, s in self._squares.values() if isinstance(s, Dense)]
        self.given.record.sample_bytes = sum(g.nbytes for g in written) // self.size
        for (name, *_), (part, squares) in self._squares.items():
            offset = part.storage_offset() - self.parameters[name].storage_offset()
            total = self.given.total[name].as_strided(part.shape, part.stride(), offset)
            self.add_magnitudes(total, squares, root)

    def _find_hidden_uses(self, outputs: list[Tensor]) -> None:
        """Parameters that autograd can still reach: all uses that were seen run detached."""
        for node in graph_of(outputs):
            if (name := self.find(getattr(node, "variable", None))) is not None:
                self.given.record.unruled.setdefault(name, _HIDDEN)

    def pass_by(self, operation: Operation) -> Any:
        result = operation.run()
        if operation.function is functional.batch_norm and self.size == 1:
            _mend_single(result)
        return result

    def run(self, call: Call, gradients: Gradients) -> Any:
        held, number = [(call, gradients)], self._next - 1

        def receive(delta: Tensor) -> None:
            self._check_begun()
            call, gradients = held[0]
            axis = call.output_axes[0]
            if axis is not None and axis.per_sample:
                delta = samples_first(delta.reshape(shapes[0]), axis, self.size)
                is_done = self._notes((number, 0), delta, axis.dim + 1)
            else:
                axis, is_done = None, self._listens
            if is_done:
                return
            if not self._again:
                held.clear()  # autograd frees what it saved for this operation as well
            call.check_kept()
            if axis is None or not delta.numel():  # shared, or without any position
                return
            for parameter, per_sample in gradients(delta):
                self.add(parameter, per_sample)

        def compute() -> Tensor:
            output = call.function(*args, **kwargs)
            shapes.append(output.shape)
            return _own(output)

        shapes: list[torch.Size] = []
        args, kwargs = self.detach((call.args, call.kwargs))
        if any(isinstance(t, Tensor) and t.requires_grad for t in arguments(args, kwargs)):
            own: Any = compute()
            if call.function is functional.batch_norm and self.size == 1:
                _mend_single(own)
            own.register_hook(receive)
        else:
            own = _Entry.apply(self.anchor, receive, compute)
        return own if own.shape == shapes[0] else own.view(shapes[0])

    def vectorised(self, operation: Operation, call: Call) -> Any:
        """vmap over the samples of this one call, each with its own copy of the parameters."""
        if is_inplace(operation):
            return self._written(call)
        if all(axis is None for axis in call.output_axes):
            raise NoRule("a tensor computed from parameters alone")
        if not call.axes:
            return self._expanded(call)
        leaves, spec = tree_flatten((call.args, call.kwargs))
        own: list[Tensor] = []
        places: list[int] = []
        for place, leaf in enumerate(leaves):
            if self.find(leaf):
                own.append(self._replicas(leaf, is_noted=False))
                places.append(place)
            elif isinstance(leaf, Tensor) and id(leaf) in call.axes:
                own.append(samples_first(leaf, call.axes[id(leaf)], self.size))
                places.append(place)

        def one(*sample: Tensor) -> list[Any]:
            filled = list(leaves)
            for place, value in zip(places, sample, strict=True):
                filled[place] = value
            args, kwargs = tree_unflatten(filled, spec)
            result = call.function(*args, **kwargs)
            structure.append(result)
            return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        structure: list[Any] = []
        try:
            outputs = torch.func.vmap(one)(*own)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            message = str(error).partition("\n")[0]
            raise NoRule(f"vmap refuses it ({message})") from error
        self._note_at(outputs, call)
        values = iter(
            samples_back(output, axis) if axis else output[0]
            for output, axis in zip(outputs, call.output_axes, strict=True)
        )
        return tree_map(
            lambda leaf: next(values) if isinstance(leaf, Tensor) else leaf, structure[0]
        )

    def _note_at(self, outputs: list[Tensor], call: Call) -> None:
        """Lets it be noted which entries δ reaches; of the replicas each is one sample's anyway."""
        for i, (output, axis) in enumerate(zip(outputs, call.output_axes, strict=True)):
            if axis and output.requires_grad:
                place, dim = (self._next - 1, i), axis.dim + 1

                def hear(delta: Tensor, place: Place = place, dim: int = dim) -> None:
                    self._notes(place, delta, dim)

                output.register_hook(hear)  # type: ignore[no-untyped-call]

    def _expanded(self, call: Call) -> Any:
        """A parameter repeated for every sample, such as a class token."""
        parameters = [leaf for leaf in tree_leaves((call.args, call.kwargs)) if self.find(leaf)]
        args, kwargs = self.detach((call.args, call.kwargs))
        result, axis = call.function(*args, **kwargs), call.output_axes[0]
        if axis is not None and result.shape[axis.dim] != self.size * axis.per_sample:
            raise PlanMismatch  # for samples of another size
        if (
            len(parameters) != 1
            or not isinstance(result, Tensor)
            or axis is None
            or axis.per_sample != 1
            or name_of(call.function) not in REPEATING
            or result.select(axis.dim, 0).numel() != parameters[0].numel()
        ):
            raise NoRule("a parameter spread over the samples")
        one = result.select(axis.dim, 0).shape
        replicas = self._replicas(parameters[0]).clone()  # not the parameter's memory any more
        return replicas.reshape(self.size, *one).movedim(0, axis.dim)

    def _written(self, call: Call) -> Any:
        """A parameter written to places of a tensor of samples, such as a token that masks words.

        Each entry gets that of its own sample's replica.
        """
        (target, *index), name = call.args[:-1], name_of(call.function)
        parameter = call.args[-1]
        if (
            name not in _WRITING
            or call.kwargs
            or len(call.args) != (3 if name == "__setitem__" else 2)
            or id(target) not in call.axes
            or not self.find(parameter)
        ):
            raise NoRule("a parameter in an in-place operation")
        axis, rows = call.axes[id(target)], torch.arange(self.size, device=target.device)
        m = axis.per_sample
        rows = rows.repeat(m) if axis.inner else rows.repeat_interleave(m)
        rows = rows.view(-1, *(1,) * (target.dim() - axis.dim - 1)).expand(target.shape)
        rows = rows[index[0]] if index else rows
        replicas = self._replicas(parameter).reshape(self.size, -1)
        entries = torch.arange(parameter.numel(), device=target.device).view(parameter.shape)
        while entries.dim() > rows.dim() and len(entries) == 1:
            entries = entries[0]
        values = replicas[rows, entries.expand(rows.shape)]
        return call.function(target, *index, values)

    def _replicas(self, parameter: Tensor, *, is_noted: bool = True) -> Tensor:
        """One copy of a parameter for every sample: shape (B, *parameter), no memory."""
        place = self._next - 1, 0

        def receive(gradient: Tensor) -> None:
            if self._notes(place, gradient, None) if is_noted else self._listens:
                return
            self.add(parameter, Dense(gradient))

        copies: Tensor = _Entry.apply(
            self.anchor, receive, lambda: parameter.detach().expand(self.size, *parameter.shape)
        )
        return copies


def _wider(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(tensor.dtype, dtype) if tensor.is_floating_point() else tensor.dtype


def _widened(batch: Any, dtype: torch.dtype) -> Any:
    def wider(leaf: Any) -> Any:
        if isinstance(leaf, (OneSample, Shared)):
            return type(leaf)(map_leaves(wider, leaf[0]))
        return leaf.to(_wider(leaf, dtype)) if isinstance(leaf, Tensor) else leaf

    return map_leaves(wider, batch)


def _own(output: Tensor) -> Tensor:
    """Not a view: where what follows overwrites one (``ReLU(inplace=True)``), no δ reaches it.

    A view of all that there is, as a linear map of a sequence returns it, is that.
    """
    if not output._is_view():
        return output
    base = output._base
    assert base is not None
    whole = base.numel() == output.numel() and base.is_contiguous() and output.is_contiguous()
    return base if whole else output.clone()


def _mend_single(output: Any) -> None:
    """Makes δ contiguous, as torch's gradient of BatchNorm needs it for one sample.

    In eval mode, on a CPU, it is wrong otherwise (torch 2.14).
    """
    if output.requires_grad:
        output.register_hook(torch.Tensor.contiguous)


class _Entry(torch.autograd.Function):
    """Where the graph begins: an operation none of whose inputs needs a gradient.

    ``anchor``, a scalar, gives the output its place in the graph, so that no gradient is ever
    computed for the network's input.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, receive: Callable[[Tensor], None], compute: Callable[[], Tensor]
    ) -> Tensor:
        ctx.receive = receive
        return compute()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        ctx.receive(gradients[0])
        return gradients[0].new_zeros((), dtype=torch.float32), None, None
