"""The networks, a file for each library that they are from."""

from __future__ import annotations

from importlib.util import find_spec

from ..case import Case
from . import idioms, peft, timm, torchvision, transformers

SOURCES = {
    "torchvision": torchvision.cases,
    "timm": timm.cases,
    "transformers": transformers.cases,
    "peft": peft.cases,
    "idioms": idioms.cases,
}


def installed(source: str) -> bool:
    """Whether the library of that name can be imported."""
    return source == "idioms" or find_spec(source) is not None


def cases(source: str) -> list[Case]:
    """All networks from a source."""
    return list(SOURCES[source]())
