"""What an engine is; and what those that measure by rules share: plan, check, measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from avalanche_mas.importance.batches import (
    batch_size_of,
    flags_of,
    shapes_of,
    shared_by_all,
    take,
)
from avalanche_mas.importance.engines.instrument import Record
from avalanche_mas.importance.engines.looking import Way
from avalanche_mas.importance.engines.network import Network
from avalanche_mas.importance.engines.plan import Plan, make_plan, telling_samples
from avalanche_mas.importance.engines.ways import Group, Ways
from avalanche_mas.importance.engines.whose import goes_whole, whole_does_not_fit
from avalanche_mas.importance.parameters import wide, zeros
from avalanche_mas.importance.rules.matmul import Products
from avalanche_mas.importance.rules.registry import overlaps_itself

EngineName = Literal["auto", "exact", "vmap", "loop", "batch"]
Verify = Literal["growing", "every batch", "off"]
"""How often an engine is compared with the batch-size-1 loop, see :class:`PlannedEngine`."""

DISAGREES = "disagrees with the batch-size-1 loop"
DEPENDS_ON_VALUES = "what the network does depends on the values of the samples"
CHECKED_SAMPLES = 3
"""A new plan is checked on so many."""
_APART_SAMPLES = 2  # at least, which are looked at without the others
FIRST_RECHECK = 64
"""The batch at which a plan is checked again; then at every doubling. Two samples by the engine
and by the loop cost about as much as 30 samples of AlexNet: this stays below 3 % of the time."""
_ENOUGH_TO_TELL = 8  # samples
_COMPARED_ENTRIES = 1 << 16
_FAR = 10
"""Two numbers are different if they are further apart than so many √eps of them."""
_ROUND_OFF = 1000
"""So many eps of a sample's output may be the round-off of a deep network."""


class Engine(Protocol):
    """Adds Σ_k of each batch it is called with to a total: parameter name → tensor."""

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """Parameters that no rule measures: name → why."""

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds the sum over the samples of a batch."""


MakeEngine = Callable[[Network, dict[str, Tensor]], Engine]
"""Network, parameters to measure → engine."""


class VerificationError(RuntimeError):
    """What was measured so far differs from the batch-size-1 loop.

    :param names: the parameters for which it does.
    :param measured: all that the same plans measure, none of which is to be trusted any more: of
        others, the samples that were compared may have shown nothing.
    """

    def __init__(self, names: set[str], measured: set[str]) -> None:
        self.names, self.measured = names, measured
        shown = ", ".join(map(repr, sorted(names)[:5])) + (", ..." if len(names) > 5 else "")
        super().__init__(
            f"the importance of {shown} differs from that of single samples, which was not so for "
            "the first ones: what the model does must depend on the data in a way that cannot be "
            "seen. Nothing was changed. Measure with engine='loop', or with verify='every batch' "
            "to find the batch."
        )


class Apart(NamedTuple):
    """Samples of a batch that went through the network without the others.

    :param rows: which they are.
    :param outputs: what the network gave for them.
    """

    rows: Tensor
    outputs: list[Tensor]


class PlannedEngine(ABC):
    """An engine that foresees which operations will use which parameter.

    A plan is made before the first batch, and again whenever a batch makes the network run other
    operations than planned. A plan that has not been seen before is checked on three samples, those
    with the fewest zeros, before it is used; where the model has a ``torch.autograd.Function`` of
    its own, on a whole batch, as what that does may depend on how many there are.

    :param network: F.
    :param parameters: canonical name → parameter to measure.
    :param verify: ``"growing"`` checks it again on two samples at batch 64, 128, 256 and so on, and
        whenever a parameter has an importance for the first time; ``"every batch"`` on each batch;
        ``"off"`` never checks.
    """

    has_backward = True
    """Whether the network is run backwards."""

    def __init__(
        self, network: Network, parameters: dict[str, Tensor], verify: Verify = "growing"
    ) -> None:
        if verify not in get_args(Verify):
            raise ValueError(f"verify must be one of {get_args(Verify)}, got {verify!r}")
        self.network, self.parameters, self.verify = network, parameters, verify
        self.record = Record()
        self.products = Products()
        self.exercised: set[str] = set()
        """Parameters that have been compared where their gradient is not zero."""
        self._plan: Plan | None = None
        self._plans: dict[Hashable, Plan | None] = {}
        # of the samples that it is for: their way, which parts they share, flags, their shapes
        self._kind: tuple[Way | None, tuple[int, ...], object, object] = (None, (), None, None)
        self._ways: Ways | None = None  # if what the network does depends on values of the samples
        self._separate = False
        self._lone: set[str] = set()  # parameters that a sample used that went alone
        self._samples = self._groups = 0  # since then
        self._checked: set[tuple[object, ...]] = set()
        self._batches = 0
        self._last = 0  # the batch of which samples were last looked at apart
        self._together = False  # whether what has been measured is of samples beside others
        self._retry = 1  # the batch at which unexercised parameters are looked at again
        for name, parameter in parameters.items():
            strides = torch.empty_like(parameter, device="meta").stride()
            if overlaps_itself(parameter) or strides != parameter.stride():
                self.unruled[name] = "its memory is not dense"

    @property
    def unruled(self) -> dict[str, str]:
        """Parameters that no rule measures: name → why."""
        return self.record.unruled

    @property
    def fallbacks(self) -> Mapping[str, str]:
        """The same, with those that only samples use of which each goes a way of its own."""
        alone = self._lone - set(self.record.ways) - set(self.unruled)
        return {**self.unruled, **dict.fromkeys(sorted(alone), DEPENDS_ON_VALUES)}

    def __call__(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds Σ_k of ``batch`` to ``total``: together what goes the same way, see :mod:`.ways`.

        :raises VerificationError: if what is in ``total`` already turns out to be wrong.
        """
        size = batch_size_of(batch)
        if size == 1 and self._plan is None and self._ways is None:
            self.measure_single(batch, total)  # to plan and check would cost more
            return
        self._batches += 1
        whole = Group(None, batch, size)
        if self._ways is None:
            if self._add_alike(whole, total):
                return
            self._ways = Ways(self.network)
        groups = [whole] if self._separate else list(self._ways.groups(batch, size))
        self._samples += size
        self._groups += len(groups)
        apart = self._samples > _ENOUGH_TO_TELL and self._groups > self._samples / 2 and size > 1
        if apart or len(groups) == size > 2:
            self._go_separately()  # nearly each goes a way of its own
            groups = [whole]
        for group in groups:
            self._add_alike(group, total)

    def _add_alike(self, group: Group, total: dict[str, Tensor]) -> bool:
        """Adds samples that go the same way, in pieces that bound the memory.

        :return: False, with nothing added, if it has to be found out first which of them do.
        """
        way, batch, size = group
        self._turn_to(group)
        if self._plan is None or _key(self._plan, size) not in self._checked:
            if size == 1 and way is not None:
                self._lone |= self.measure_single(batch, total)
                return True
            self._plan = self._planned(group, total)
        plan = self._plan
        if plan is not None and plan.looks_at_values and not self._separate:
            if way is None:
                return False
            self._go_separately()
        if plan is not None and size > 1 and self._due(plan):
            self._check_again(plan, batch, size, total)
        for piece in plan.pieces(batch, size, self.record.sample_bytes) if plan else [batch]:
            self._add(Group(way, piece, batch_size_of(piece)), total)
        self.products.flush()
        if self.verify == "growing" and self._plan is not None and size > 1:
            self._check_newly_used(self._plan, batch, size, total)
        self._plans[self._kind] = self._plans[self._kind[:3]] = self._plan
        return True

    def foresee(self, few: Any) -> Plan | None:
        """A plan for what is to come, checked on a few samples like it.

        :return: None if there is none, or if what the network does depends on the samples' values.
        """
        size = batch_size_of(few)
        plan = self._planned(Group(None, few, size), zeros(self.parameters))
        if plan is None or plan.looks_at_values:
            return None
        return plan if size == 1 or _key(plan, size) in self._checked else None

    @abstractmethod
    def measure(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> bool:
        """Adds a batch; False, with ``total`` as it was, if it did not go as planned."""

    def is_told(self, plan: Plan) -> bool:
        """Whether :meth:`measure` itself notices a batch that goes another way than the plan's."""
        return False

    @abstractmethod
    def separate(self) -> None:
        """From now on, what one sample does shows nothing of what others do: each goes alone."""

    @abstractmethod
    def measure_unplanned(self, batch: Any, total: dict[str, Tensor]) -> None:
        """Adds a batch whose operations cannot be foreseen."""

    @abstractmethod
    def measure_single(self, batch: Any, total: dict[str, Tensor]) -> set[str]:
        """Adds a batch of one sample before there is a plan.

        :return: the parameters that it was measured for without rules.
        """

    @abstractmethod
    def compare(self, plan: Plan, few: Any, spare: dict[str, Tensor]) -> set[str] | None:
        """Tries a plan on a few samples.

        :param spare: zeros that may be written to.
        :return: the parameters for which it is wrong; None if they did not go as planned, so that
            there was nothing to compare.
        """

    @abstractmethod
    def fall_back(self, names: set[str], batch: Any, total: dict[str, Tensor]) -> None:
        """Adds a batch again for parameters that rules have been found not to measure."""

    def guesses(self, plan: Plan) -> bool:
        """Whether it takes for granted whose some entries are: it is compared more often then."""
        return False

    def _due(self, plan: Plan) -> bool:
        first = 2 if self.guesses(plan) else FIRST_RECHECK
        doubled = self._batches // first
        growing = self._batches % first == 0 and doubled.bit_count() == 1
        return self.verify == "every batch" or (self.verify == "growing" and growing)

    def _turn_to(self, group: Group) -> None:
        """Takes up the plan that was last used for samples of this kind."""
        batch = group.batch
        kind = group.way, shared_by_all(batch), flags_of(batch), shapes_of(batch)
        if self._kind == kind:
            return
        self._kind = kind
        self._plan = self._plans.get(kind) or self._plans.get(kind[:3])  # it may fit other sizes

    def _go_separately(self) -> None:
        self._separate = True
        self.separate()

    def _add(self, piece: Group, total: dict[str, Tensor]) -> None:
        batch, size = piece.batch, piece.size
        told = self._plan is not None and self.is_told(self._plan)
        if not told:
            self._check_way(piece)
        if self._plan is not None and self.measure(self._plan, batch, size, total):
            self._together |= size > 1
            return
        if told:
            self._check_way(piece)
        self._plan = self._planned(piece, total)
        if self._plan is not None and self._plan.looks_at_values and not self._separate:
            self._go_separately()
        if self._plan is not None and self.measure(self._plan, batch, size, total):
            self._together |= size > 1
        elif size == 1:  # such as the last one, of which nothing has to be told apart
            self._lone |= self.measure_single(batch, total)
        else:
            self.measure_unplanned(batch, total)

    def _check_way(self, piece: Group) -> None:
        """Samples that together go another way than alone are measured alone, from now on."""
        ways = self._ways if piece.way is not None and piece.size > 1 else None
        if ways is not None and ways.of(piece.batch) != piece.way:
            self._go_separately()

    def _planned(self, group: Group, total: dict[str, Tensor]) -> Plan | None:
        way, batch, size = group
        try:
            plan = make_plan(
                self.network, self.parameters, batch, size, by_gradient=self.has_backward, way=way
            )
        except Exception:
            if size == 1 or not self._runs_alone(batch, size):
                raise
            plan = None  # it insists on an order of the samples
        if plan is not None and plan.looks_at_values and not self._separate:
            return plan  # which cannot be used
        if plan is not None and _key(plan, size) not in self._checked:
            self.products.flush()
            fresh = not any(bool(importance.any()) for importance in total.values())
            spare = total if fresh else zeros(self.parameters)
            if self.verify != "off":
                few = _telling(batch, size, CHECKED_SAMPLES)
                differ = self.compare(plan, _enough(few, plan, batch, size), spare)
                self.distrust(differ or ())
                plan = None if differ is None else plan
            if size > 1 and plan is not None:
                # one sample shows nothing of how samples lie beside each other
                self._checked |= {_key(plan, size), _key(plan, 1)}
            self.products.clear()  # it may have ended in an error
            for importance in total.values() if fresh else ():
                importance.zero_()
        return plan

    def _runs_alone(self, batch: Any, size: int) -> bool:
        """Whether a sample alone goes through the network without an error."""
        try:
            self.network(take(batch, slice(0, 1), size))
        except Exception:
            return False
        return True

    def _check_again(self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]) -> None:
        """Compares on samples of a later batch.

        :raises VerificationError: if a parameter that has an importance is measured wrongly.
        """
        few = take(batch, torch.randint(size, (2,), generator=self._generator()), size)
        few = _enough(few, plan, batch, size)
        before = set(self.exercised)  # whose importance may have left the total already
        differ = self.compare(plan, few, zeros(self.parameters)) or set()
        if wrong := {name for name in differ if name in before or bool(total[name].any())}:
            raise self._found_late(wrong)
        self.distrust(differ)

    def _check_newly_used(
        self, plan: Plan, batch: Any, size: int, total: dict[str, Tensor]
    ) -> None:
        """A parameter whose gradient was zero in all comparisons so far has not been compared."""
        waiting = set(self.parameters) - self.exercised - set(self.unruled)
        if not waiting or self._batches < self._retry:
            return
        used = {name for name in waiting if bool(total[name].any())}
        if not used:
            return
        few = _enough(_telling(batch, size, CHECKED_SAMPLES), plan, batch, size)
        differ = self.compare(plan, few, zeros(self.parameters)) or set()
        if used - self.exercised - differ:  # samples that tell of others tell nothing of these
            differ |= (
                self.compare(plan, next(plan.pieces(batch, size)), zeros(self.parameters)) or set()
            )
        if differ - waiting:
            raise self._found_late(differ - waiting)
        wrong = differ & waiting
        self.distrust(wrong)
        if wrong and self._retry > 1:
            raise self._found_late(wrong)
        for name in wrong:
            total[name].zero_()  # all that it holds is of these samples
        if wrong:
            self.fall_back(wrong, batch, total)
        if used - self.exercised - wrong:
            self._retry = 2 * self._batches

    def outputs_apart(self, batch: Any, size: int, *, is_new: bool) -> list[Apart]:
        """What samples of a batch give without the others, where they are to be looked at.

        Samples may depend on each other in some batches only: those beyond the capacity of an
        expert are dropped, those of the same group share its mean. No operation shows that, but
        outputs do. Of the first batch all are looked at, an eighth at a time; of batches 2, 4, 8,
        ... a sixteenth, which is 1/48 of what it costs to measure them all. Of a batch that is
        measured in pieces, it is the first piece that is looked at.

        :param is_new: whether no batch had these shapes; one sample then shows what they change.
        """
        if size <= CHECKED_SAMPLES or self.verify == "off":
            return []
        due = self._batches.bit_count() == 1
        few = -(-size // 8)
        if self.verify == "every batch" or not self._last:
            number = size
        elif due and self._batches != self._last:
            number = few = max(size // 16, _APART_SAMPLES)
        elif is_new:
            number = 1
        else:
            return []
        drawn = torch.tensor(telling_samples(batch, size, 1))
        if number > 1:
            drawn = torch.randperm(size, generator=self._generator())[:number]
        self._last = self._batches
        return [
            Apart(rows, [output.detach() for output in self.network(take(batch, rows, size))])
            for rows in torch.split(drawn, few)
        ]

    def mix(self, apart: Iterable[Apart], outputs: list[Tensor], batch: Any) -> bool:
        """Whether samples depend on each other, see :func:`differs`.

        :raises ValueError: if it may be that not all that is theirs was cut, see :mod:`.whose`.
        """
        if not differs(apart, outputs):
            return False
        if goes_whole(batch, size := batch_size_of(batch)):
            raise whole_does_not_fit(batch, size)
        return True

    def refuse_mixture(self) -> None:
        """Called where samples turn out to depend on each other.

        :raises VerificationError: if some have been measured together before.
        """
        if self._together:
            raise self._found_late(set(self.parameters))

    def distrust(self, names: Iterable[str]) -> None:
        """Parameters for which a comparison failed: no rule measures them any more."""
        for name in names:
            self.unruled.setdefault(name, DISAGREES)

    def _found_late(self, wrong: set[str]) -> VerificationError:
        return VerificationError(wrong, set(self.parameters))

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._batches)


def _telling(batch: Any, size: int, number: int) -> Any:
    return take(batch, torch.tensor(telling_samples(batch, size, number)), size)


def _key(plan: Plan, size: int) -> tuple[object, ...]:
    """What a check of a plan on a batch holds for."""
    return plan.signature, plan.has_own_backward and size


def _enough(few: Any, plan: Plan, batch: Any, size: int) -> Any:
    """Few samples of a batch, or all that go through the network together, to compare a plan on."""
    return next(plan.pieces(batch, size)) if plan.has_own_backward else few


def differs(apart: Iterable[Apart], outputs: list[Tensor]) -> bool:
    """Whether a sample has another output in a batch than apart from it, beyond round-off."""
    return any(_differs(*some, outputs) for some in apart)


def _differs(rows: Tensor, own: list[Tensor], outputs: list[Tensor]) -> bool:
    if [t.shape[1:] for t in own] != [t.shape[1:] for t in outputs]:
        return True
    if not all(bool(output.isfinite().all()) for output in own):  # an error will say so
        return False
    largest = max((float(output.abs().max()) for output in own if output.numel()), default=0.0)
    for theirs, output in zip(own, outputs, strict=True):
        whole = wide(output.detach().reshape(len(output), -1))
        index, eps = rows.to(whole.device), torch.finfo(output.dtype).eps
        far = (whole[index] - theirs.reshape(len(rows), -1)).norm(dim=1)
        # an output may be near zero by chance: it is then as exact as those of other samples
        least = max(float(whole.norm(dim=1).median()), 1e-6 * largest * whole.shape[1] ** 0.5)
        norms = whole[index].norm(dim=1).clamp_min(least)
        # what all samples have in common, such as a large bias, tells nothing of how they differ
        spread = float((whole - whole.mean(0)).norm(dim=1).median())
        tolerance = _FAR * eps**0.5 * norms
        tolerance = torch.minimum(tolerance, _FAR * eps**0.5 * spread + _ROUND_OFF * eps * norms)
        if not bool((far <= tolerance).all()):
            return True
    return False


def compared(importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each, the entries on which two measurements are compared, as copies."""
    return {name: compared_entries(omega) for name, omega in importance.items()}


def compared_entries(omega: Tensor) -> Tensor:
    """All entries, or a random subset that is the same for all tensors of this size.

    A large parameter would need a second copy; a fault in where its samples lie shows everywhere.
    """
    flat = omega.reshape(-1)
    if flat.numel() > _COMPARED_ENTRIES:
        generator = torch.Generator().manual_seed(0)
        index = torch.randint(flat.numel(), (_COMPARED_ENTRIES,), generator=generator)
        flat = flat[index.to(flat.device)]
    return flat.clone()


def disagreeing(
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    parameters: dict[str, Tensor],
    slack: float = 1.0,
) -> list[str]:
    """Parameters whose two measurements differ by more than round-off explains, ``slack`` times.

    The difference is taken relative to the parameter's own importance, but not less than a
    millionth of the network's largest: where the true gradient is zero (a bias before
    InstanceNorm), both sides hold nothing but round-off.
    """
    largest = max(float(omega.max()) if omega.numel() else 0.0 for omega in theirs.values())
    names = []
    for name, omega in theirs.items():
        scale = max(float(omega.norm()), 1e-6 * largest * omega.numel() ** 0.5)
        tolerance = slack * _FAR * torch.finfo(parameters[name].dtype).eps ** 0.5
        if not float((ours[name] - omega).norm()) <= tolerance * scale:
            names.append(name)
    return names
