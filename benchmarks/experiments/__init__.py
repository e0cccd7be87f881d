"""The experiments, one module each, by the name that ``python -m benchmarks run`` knows them by.

An experiment is a module with a ``DESCRIPTION`` in one line, ``SETTINGS`` and the tiny ``FAST``
ones (dataclasses with ``seeds``), ``RESULT``, the dataclass of its results, and two functions:

- ``run_cell(cell)`` does one piece of work and gives its result.
- ``run(settings, run_cells)`` says what is to be done. It calls ``run_cells(title, cells)``, which
  gives a dictionary of the cells' results, and returns a :class:`~benchmarks.report.writer.Report`.

Where data are needed, the settings have ``configure(data=..., model=..., epochs=...)``, with those
of the command line's options that they know, and ``prepare()``, which is called before anything is
run: make or check the data, with an ``OSError`` or ``ValueError`` for what is wrong. Their
``check()`` does the same for a dry run, which makes nothing. Those whose
experiments share cells name the common folder ``cells``. Cells may have ``expected_seconds``, a
guess for those who ask before anything has been run.
"""

import importlib
import pkgutil
from types import ModuleType

NAMES = tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(name: str) -> ModuleType:
    """Import an experiment, and with it torch and Avalanche, which take seconds."""
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
