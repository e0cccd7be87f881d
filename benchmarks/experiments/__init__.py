"""The experiments, by the name that ``python -m benchmarks run`` knows them by."""

from benchmarks.experiments import digits, steps

EXPERIMENTS = {"digits": digits, "steps": steps}
