"""What the figures depend on besides the code: the machine, the versions and the settings."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .rows import SpeedSettings

_PACKAGES = ("torch", "torchvision", "avalanche-lib", "opacus", "backpack-for-pytorch")


def facts(settings: SpeedSettings) -> dict[str, str]:
    """Facts that make figures comparable if they agree, as text."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(settings.threads),
        "rounds": str(settings.rounds),
        "precision": "float32",
        "Python": platform.python_version(),
    }
    if settings.device == "cuda":
        found["GPU"] = torch.cuda.get_device_name()
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def sentence(facts: dict[str, str]) -> str:
    """The facts as a line under a table."""
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _processor() -> str:
    """The model's name, which Python's own function does not know on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
