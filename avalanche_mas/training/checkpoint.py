"""Checkpoints that outlive a kill: Avalanche's own, checked, and written in one step.

The two functions are called as Avalanche's of the same names, and the files are Avalanche's. What
is different: a process that is killed while it writes leaves the last checkpoint in place, the one
before that is kept beside it, and a damaged file is not loaded. ::

    strategy, start = maybe_load_checkpoint(strategy, "run.checkpoint")
    for experience in benchmark.train_stream[start:]:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)
        save_checkpoint(strategy, "run.checkpoint")

Files are pickles, which can run any code when they are loaded: load those that you wrote yourself.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Collection
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from avalanche import checkpointing as avalanche
from avalanche.training.templates import BaseTemplate

from avalanche_mas.training.compat import repair_checkpointing

StrategyT = TypeVar("StrategyT", bound=BaseTemplate)

# Follows what Avalanche writes, a zip archive that PyTorch finds from its end backwards, and is
# itself followed by the SHA-256 of it. PyTorch does not look at the archive's own checksums.
_MARK = b"\navalanche_mas checkpoint, SHA-256: "


def save_checkpoint(
    strategy: BaseTemplate, fname: str | os.PathLike[str], exclude: Collection[str] | None = None
) -> None:
    """Saves a strategy with all that its plugins have learnt, between two experiences.

    At every moment there is a whole checkpoint on the disk, as soon as there has been one: the new
    one is written under another name (``fname`` + ``.draft``), and takes its place when it is
    complete. The last one is kept as ``fname`` + ``.previous``. Where several processes train
    together, one of them saves.

    :param strategy: the strategy, outside of its ``train`` and ``eval``.
    :param fname: the file.
    :param exclude: attributes of the strategy to leave out, as for Avalanche's function.
    :raises FileNotFoundError: if the file's folder does not exist.
    """
    repair_checkpointing()
    path = Path(fname)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent} to save a checkpoint in; create it")
    draft = path.with_name(f"{path.name}.draft")
    try:
        with draft.open("w+b") as file:
            avalanche.save_checkpoint(strategy, file, exclude)
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(_MARK + _digest(file, size))
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def maybe_load_checkpoint(
    strategy: StrategyT,
    fname: str | os.PathLike[str],
    map_location: Any = None,
    unique_objects: Any = None,
) -> tuple[StrategyT, int]:
    """Puts a strategy where it was when it was saved, random numbers included.

    Every attribute of the strategy is replaced by the saved one, hyper-parameters as well: look
    for the model and the plugins in the strategy afterwards. A damaged checkpoint is left alone,
    with a warning, and the previous one is used.

    :param strategy: made as for the saved one.
    :param fname: the file.
    :param map_location: where tensors will be, as for Avalanche's function: a device.
    :param unique_objects: what is not to be loaded a second time, as for Avalanche's function:
        best the benchmark.
    :return: the strategy, and the index of the experience that is next. Without any checkpoint:
        the strategy as it is, and 0.
    :raises ValueError: if there is a checkpoint, and neither it nor the previous one is whole.
    :raises RuntimeError: if a file is whole but cannot be loaded.
    """
    path = Path(fname)
    damages = []
    for candidate in (path, _previous(path)):
        if not candidate.exists():
            continue
        if damage := _damage(candidate):
            damages.append(f"{candidate} is damaged ({damage})")
            continue
        if candidate != path:
            reason = damages[0] if damages else f"{path} is missing"
            warnings.warn(f"{reason}: going on from {candidate} instead", stacklevel=2)
        return _load(strategy, candidate, map_location, unique_objects)
    if damages:
        raise ValueError(
            f"{' and '.join(damages)}, so there is nothing to go on from. Restore {path} from a "
            f"copy, or delete it{f' and {_previous(path)}' if len(damages) > 1 else ''} to start "
            "from the beginning."
        )
    return strategy, 0


def _load(
    strategy: StrategyT, path: Path, map_location: Any, unique_objects: Any
) -> tuple[StrategyT, int]:
    try:
        with redirect_stdout(None):  # Avalanche prints a line for every device that is mentioned
            loaded, start = avalanche.maybe_load_checkpoint(
                strategy, path, map_location, unique_objects
            )
    except Exception as error:
        raise RuntimeError(
            f"{path} is whole, but could not be loaded ({type(error).__name__}: {error}). Is it a "
            "checkpoint, and are the libraries and the classes that it refers to the same as when "
            "it was saved?"
        ) from error
    return loaded, int(start)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _publish(draft: Path, path: Path) -> None:
    """One of the two names has a whole checkpoint before, after and in between."""
    if path.exists() and _damage(path) is None:  # a damaged one does not replace a good one
        path.replace(_previous(path))
    draft.replace(path)
    if os.name == "posix":  # the new names survive a power failure too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _damage(path: Path) -> str | None:
    """What is wrong with a file, if anything is."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size - len(_MARK) - 2 * hashlib.sha256().digest_size
        found = _digest(file, max(size, 0))
        mark, _, expected = file.read().rpartition(b" ")
    if size < 0 or mark + b" " != _MARK:
        return "it is truncated, or avalanche_mas.training.checkpoint has not written it"
    return None if found == expected else "its checksum is wrong"


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the next ``size`` bytes."""
    digest = hashlib.sha256()
    while part := file.read(min(size, 1 << 20)):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest().encode()
