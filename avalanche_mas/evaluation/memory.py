"""How much memory a method needs beside the model."""

from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from avalanche.benchmarks import CLExperience, CLScenario, CLStream
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor

# Nothing that a method keeps lies in these: code, and data that the benchmark holds anyway.
_CLOSED = (type, FunctionType, ModuleType, CLExperience, CLStream, CLScenario, AvalancheDataset)


def method_memory(strategy: SupervisedTemplate) -> int:
    """Bytes of the tensors that the strategy's plugins hold beyond the model being trained.

    Between experiences this is what a method pays for its memory: importances, anchors, a teacher.
    The plugins' attributes are followed through containers, modules and any other object. Each
    storage counts once and whole, however many tensors view it. Storages that the model, its
    gradients or the optimizer own do not count, nor does the evaluator. Datasets are not entered:
    the samples of a replay buffer are not seen here.

    :param strategy: a strategy, best just after ``train`` and before the next.
    :return: a number of bytes.
    """
    live = [strategy.model, strategy.optimizer, strategy.evaluator, strategy]
    owned = {key for key, _ in _storages([strategy.model, strategy.optimizer.state])}
    kept = dict(_storages(strategy.plugins, skip=live))
    return sum(size for key, size in kept.items() if key not in owned)


def _storages(roots: Iterable[Any], skip: Iterable[Any] = ()) -> Iterator[tuple[Any, int]]:
    """Yield (identity, bytes) of the storage of every tensor that can be reached."""
    # Holds the objects themselves, since the id of one that is gone may be given out again.
    seen = {id(item): item for item in skip}
    pending = list(roots)
    while pending:
        item = pending.pop()
        if id(item) in seen or isinstance(item, _CLOSED):
            continue
        seen[id(item)] = item
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            yield (storage.device, storage.data_ptr()), storage.nbytes()
            if item.is_leaf:
                pending.append(item.grad)
        else:
            pending.extend(_parts(item))


def _parts(item: Any) -> Iterator[Any]:
    """Yield what a container contains and what an object's attributes are."""
    if isinstance(item, Mapping):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        yield from item
    yield from getattr(item, "__dict__", {}).values()
    for base in type(item).__mro__:
        for slot in base.__dict__.get("__slots__", ()):
            yield getattr(item, slot, None)
