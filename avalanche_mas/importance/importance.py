"""Ω: how important each parameter is, and how many samples say so."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avalanche_mas.importance.parameters import grow
from avalanche_mas.importance.standard_error import layer_of

if TYPE_CHECKING:
    import pandas

_FORMAT = "avalanche_mas.Importance"
_VERSION = 2
_RECORDED = ("samples", "standard_errors", "fallbacks")


class Importance(Mapping[str, Tensor]):
    """Importance Ω of every trainable parameter, as a read-only mapping ``name → tensor``.

    Each tensor has its parameter's shape and is a mean over ``samples`` samples, so an entry does
    not grow with the amount of data: for MAS, Ω_ij = (1/N) Σ_k |g_ij(x_k)| (Eq. 2 of Aljundi et
    al., ECCV 2018). Its unit is [‖F‖²] / [θ].

    :param omega: parameter name → tensor of non-negative numbers.
    :param samples: the N that the means were taken over.
    :param standard_errors: layer → standard error of its ΣΩ, see
        :class:`.standard_error.StandardError`.
    :param fallbacks: parameter name → why no rule measured it.
    :raises ValueError: if ``samples`` is negative.

    >>> a = Importance({"weight": torch.tensor([1.0, 3.0])}, samples=1)
    >>> b = Importance({"weight": torch.tensor([4.0, 0.0])}, samples=2)
    >>> a.merge(b)["weight"]
    tensor([3., 1.])
    >>> a.add(b)["weight"]
    tensor([5., 3.])
    """

    def __init__(
        self,
        omega: Mapping[str, Tensor],
        samples: int,
        *,
        standard_errors: Mapping[str, float] | None = None,
        fallbacks: Mapping[str, str] | None = None,
    ) -> None:
        if samples < 0:
            raise ValueError(f"samples must not be negative, got {samples}")
        self._omega = {name: tensor.detach() for name, tensor in omega.items()}
        self.samples = int(samples)
        self.standard_errors = dict(standard_errors or {})
        self.fallbacks = dict(fallbacks or {})

    def __getitem__(self, name: str) -> Tensor:
        return self._omega[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._omega)

    def __len__(self) -> int:
        return len(self._omega)

    def __repr__(self) -> str:
        numel = sum(tensor.numel() for tensor in self.values())
        return f"Importance({len(self)} tensors, {numel:,} parameters, {self.samples:,} samples)"

    def merge(self, other: Importance) -> Importance:
        """Importance over the union of two sample sets of the same network.

        (N_a Ω_a + N_b Ω_b) / (N_a + N_b): what one estimate over both sets would have given.

        :param other: Ω of the same parameters, measured on other samples.
        :return: a new importance, with the samples of both.
        :raises ValueError: if names or shapes differ, or there are no samples at all.
        """
        _check_same_network(self, other)
        samples = self.samples + other.samples
        if samples == 0:
            raise ValueError("neither importance has samples: there is no mean to take")
        a, b = self.samples / samples, other.samples / samples
        merged = {name: a * omega + b * other[name].to(omega) for name, omega in self.items()}
        weights = dict.fromkeys(self.standard_errors, (a, b))
        return self._combined(merged, samples, other, weights)

    def add(self, other: Importance, *, decay: float | None = None) -> Importance:
        """Accumulates the importance of a further task.

        Without ``decay`` it is the paper's sum over tasks, Ω = Ω_old + Ω_new (section 4.2). With
        it, Ω = decay·Ω_old + (1−decay)·Ω_new, except that a tensor which the new task did not use
        (Ω_new = 0 throughout, as for another task's head) keeps its old values, and one that only
        the new task used (Ω_old = 0 throughout) takes the new ones.

        A parameter that only one of the two knows keeps that one's values. A parameter that grew
        (an incremental classifier) keeps its old part, and its new units start from zero.

        :param other: Ω of the new task; decides the shapes of the result.
        :param decay: weight of the old importance, in [0, 1], or None for the sum.
        :return: a new importance, with the samples of both.
        :raises ValueError: if ``decay`` is out of range, or a parameter shrank or changed its
            number of dimensions.
        """
        if decay is not None and not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must lie in [0, 1], got {decay}")
        total = {name: omega.clone() for name, omega in self.items()}
        weights: dict[str, tuple[float, float]] = {}
        for name, new in other.items():
            if name not in total:
                total[name] = new.clone()
                continue
            old = grow(total[name], new.shape, name).to(new)
            if decay is None:
                a, b = 1.0, 1.0
            elif not bool(new.any()):  # unused by the new task
                a, b = 1.0, 0.0
            elif not bool(old.any()):  # it was there, but no task has used it before
                a, b = 0.0, 1.0
            else:
                a, b = decay, 1.0 - decay
            total[name] = a * old + b * new
            weights[layer_of(name)] = a, b
        return self._combined(total, self.samples + other.samples, other, weights)

    def to(self, device: torch.device | str) -> Importance:
        """The same importance on another device.

        :param device: where the tensors shall be.
        :return: a new importance; tensors that are there already are shared.
        """
        moved = {name: omega.to(device) for name, omega in self.items()}
        return Importance(
            moved, self.samples, standard_errors=self.standard_errors, fallbacks=self.fallbacks
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a safetensors file, atomically: an interruption leaves the old file in place.

        :param path: where to; conventionally ``*.safetensors``.
        :raises FileNotFoundError: if its folder does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"no folder {path.parent} to save an importance in; create it")
        metadata = {"format": _FORMAT, "version": str(_VERSION)}
        metadata |= {key: json.dumps(getattr(self, key)) for key in _RECORDED}
        metadata["names"] = json.dumps(list(self))
        tensors = {name: omega.contiguous().cpu() for name, omega in self.items()}
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(tensors, temporary, metadata)
            temporary.chmod(mode)  # save_file leaves a file that only its owner may read
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Importance:
        """Reads what :meth:`save` wrote.

        :param path: the file.
        :param device: where the tensors shall be.
        :return: what was saved, to the bit.
        :raises FileNotFoundError: if there is no such file.
        :raises ValueError: if the file is truncated, is no safetensors file, holds something else
            than an importance, or was written by a later version.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no importance file at {path}")
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(
                        f"{path} is a safetensors file but not an importance: its metadata say "
                        f"format={metadata.get('format')!r}, expected {_FORMAT!r}. "
                        "Only files written by Importance.save can be loaded."
                    )
                version = metadata.get("version", "")
                if version.isdecimal() and int(version) > _VERSION:
                    raise ValueError(
                        f"{path} has format version {version}; this avalanche_mas "
                        f"reads versions up to {_VERSION}. Upgrade avalanche_mas to load it."
                    )
                omega = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{path} is truncated or not a safetensors file ({error}); save it again"
            ) from error
        try:
            names, recorded = _read(metadata, sorted(omega))
            omega = {name: omega[name] for name in names}  # the file sorts them
            return cls(omega, **recorded)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} has metadata that Importance.save does not write ({error!r}): save it "
                "again"
            ) from error

    def summary(self, threshold: float = 0.01) -> pandas.DataFrame:
        """One row per layer: where in the network the importance lies.

        :param threshold: a parameter counts as free when its Ω is below ``threshold`` times the
            mean Ω of the whole network.
        :return: table indexed by ``layer`` (the module that owns the parameters) with columns
            ``parameters`` (how many), ``mean`` (of Ω), ``error`` (standard error of that mean, NaN
            where it is not known: it is found from the scatter between batches, assumes samples in
            random order, and is itself uncertain by 1/√(2·batches)), ``max``, ``share`` (of ΣΩ over
            the network, adds up to 1), ``free`` (fraction of parameters below the threshold) and
            ``fallback`` (parameters that no rule measured, and why; empty for most).
        """
        import pandas

        layers: dict[str, list[Tensor]] = {}
        for name, omega in self.items():
            layers.setdefault(layer_of(name), []).append(omega.flatten().double())
        total = sum(float(tensor.sum()) for tensors in layers.values() for tensor in tensors)
        numel = sum(tensor.numel() for tensor in self.values())
        limit = threshold * total / max(numel, 1)
        rows = []
        for layer, tensors in layers.items():
            omega = torch.cat(tensors)
            slow = [(n, why) for n, why in self.fallbacks.items() if layer_of(n) == layer]
            rows.append(
                {
                    "layer": layer,
                    "parameters": omega.numel(),
                    "mean": float(omega.mean()) if omega.numel() else 0.0,
                    "error": self.standard_errors.get(layer, float("nan")) / max(omega.numel(), 1),
                    "max": float(omega.max()) if omega.numel() else 0.0,
                    "share": float(omega.sum()) / total if total else 0.0,
                    "free": float((omega < limit).double().mean()) if omega.numel() else 0.0,
                    "fallback": "; ".join(f"{n.rpartition('.')[2]}: {why}" for n, why in slow),
                }
            )
        columns = ["layer", "parameters", "mean", "error", "max", "share", "free", "fallback"]
        return pandas.DataFrame(rows, columns=columns).set_index("layer")

    def _combined(
        self,
        omega: Mapping[str, Tensor],
        samples: int,
        other: Importance,
        weights: Mapping[str, tuple[float, float]],
    ) -> Importance:
        """A weighted sum of two independent estimates; a layer with an unknown error keeps none."""
        errors = {}
        for layer in {layer_of(name): None for name in omega}:
            a, b = weights.get(layer, (1.0, 1.0))
            mine = (
                self.standard_errors.get(layer) if any(layer_of(n) == layer for n in self) else 0.0
            )
            theirs = (
                other.standard_errors.get(layer)
                if any(layer_of(n) == layer for n in other)
                else 0.0
            )
            if mine is not None and theirs is not None:
                errors[layer] = math.hypot(a * mine, b * theirs)
        return Importance(
            omega, samples, standard_errors=errors, fallbacks=self.fallbacks | other.fallbacks
        )


def _read(metadata: Mapping[str, str], known: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The names in their order, and what was recorded, of tensors by sorted names.

    :raises KeyError, ValueError, RecursionError: for what :meth:`Importance.save` does not write.
    """
    version = metadata["version"]
    if version not in ("1", "2"):
        raise ValueError(f"version {version!r}")
    if version == "1":  # in which names were sorted
        old = {"standard_errors": metadata["errors"], "names": json.dumps(known)}
        metadata = {**metadata, **old}
    recorded = {key: json.loads(metadata[key]) for key in (*_RECORDED, "names")}
    names = recorded.pop("names")
    if not isinstance(names, list) or sorted(map(str, names)) != known:
        raise ValueError(f"names {names!r} of tensors {known}")
    if type(recorded["samples"]) is not int:
        raise ValueError(f"samples {recorded['samples']!r}")
    for key, kind in ("standard_errors", (int, float)), ("fallbacks", str):
        values = recorded[key].values() if isinstance(recorded[key], dict) else [None]
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"{key} {recorded[key]!r}")
    return names, recorded


def _check_same_network(a: Importance, b: Importance) -> None:
    if set(a) != set(b):
        difference = ", ".join(sorted(set(a) ^ set(b))[:5])
        raise ValueError(
            f"the two importances have different parameters ({difference}, ...): merge is for two "
            "sample sets of one network; use add to accumulate over tasks"
        )
    for name, omega in a.items():
        if omega.shape != b[name].shape:
            raise ValueError(
                f"parameter {name!r} has shape {tuple(omega.shape)} in one importance and "
                f"{tuple(b[name].shape)} in the other: they measure different networks"
            )
