"""The experiments, by the name that ``python -m benchmarks run`` knows them by.

An experiment is a module with a ``DESCRIPTION`` in one line, ``SETTINGS`` and the tiny ``FAST``
ones (dataclasses with ``seeds``), ``run_cell(cell)``, which gives a ``Result``, and
``run(settings, run_cells)``, which gives an outcome. The outcome has ``write(folder, console,
origin)``: print and save all there is to see, and return the files.

One that needs data has ``configure(settings, data=..., model=..., epochs=...)`` too, with those of
the command line's options that it knows, and ``prepare(settings)``, which is called before anything
is run: make or check the data, with an ``OSError`` or ``ValueError`` for what is wrong. Those that
share cells name their common folder ``CELLS``. Cells may have ``expected_seconds``, a guess for
those who ask before anything has been run.
"""

from . import (
    adaptation,
    deployment,
    differences,
    digits,
    figure2,
    figure5,
    figure6,
    figure7,
    l2_vs_vector,
    steps,
    table1,
    table2,
    table3,
    table4,
)

EXPERIMENTS = {
    "adaptation": adaptation,
    "deployment": deployment,
    "differences": differences,
    "digits": digits,
    "figure2": figure2,
    "figure5": figure5,
    "figure6": figure6,
    "figure7": figure7,
    "l2-vs-vector": l2_vs_vector,
    "steps": steps,
    "table1": table1,
    "table2": table2,
    "table3": table3,
    "table4": table4,
}
