"""The experiments, by the name that ``python -m benchmarks run`` knows them by.

An experiment is a module with a ``DESCRIPTION`` in one line, ``SETTINGS`` and the tiny ``FAST``
ones (dataclasses with ``seeds``), ``run_cell(cell)``, which gives a ``Result``, and
``run(settings, run_cells)``, which gives an outcome. The outcome has ``write(folder, console,
origin)``: print and save all there is to see, and return the files.
"""

from benchmarks.experiments import digits, figure2, steps

EXPERIMENTS = {"digits": digits, "figure2": figure2, "steps": steps}
