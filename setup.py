"""Which folders are packages; all else is in setup.cfg.

The comparison scripts lie in ``benchmarks/``, from where a clone runs them as they are. In
site-packages a name like this would be in everybody's way: there they are a part of the package.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["avalanche_mas", "avalanche_mas.*"]),
        "avalanche_mas.comparisons",
        *(f"avalanche_mas.comparisons.{name}" for name in find_packages("benchmarks")),
    ],
    package_dir={"avalanche_mas.comparisons": "benchmarks"},
)
