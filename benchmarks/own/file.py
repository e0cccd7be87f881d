"""A Python file of the user's own as arguments of :func:`.compare_methods`."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ..report.formatter import listed
from .compare import sgd

_NEEDED = {"benchmark": "the benchmark to learn", "model": "the untrained model"}
_PASSED_ON = ("batch_size", "classifier", "device", "validation")  # arguments of compare_methods
_GIVEN = ("parameters", "seed")  # arguments that are not the user's to set


def arguments_of(file: Path, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Read what a file defines.

    These are the functions ``benchmark()`` or ``benchmark(seed)``, ``model()`` and, where SGD with
    its defaults does not do, ``optimizer(parameters)``; also ``criterion`` and ``metric``, which
    are taken as they are.

    :param file: its path.
    :param settings: further arguments of these functions, each as ``name=value``, with a value as
        in Python, or a word; also the batch size, the device and the like.
    :return: arguments for :func:`.compare_methods`.
    :raises FileNotFoundError: if there is no file.
    :raises ValueError: if it cannot be loaded, lacks a function, or a setting fits nowhere.
    """
    module = _load(file)
    functions: dict[str, Callable[..., Any]] = {"optimizer": sgd}
    for name in ("benchmark", "model", "optimizer"):
        found = getattr(module, name, functions.get(name))
        if not callable(found):
            raise ValueError(f"{file} defines no function {name}(), which returns {_NEEDED[name]}")
        functions[name] = found
    given = dict(map(_parsed, settings))
    known = {name: _own_parameters(function) for name, function in functions.items()}
    for setting in given:
        if not any(setting in names for names in (*known.values(), _PASSED_ON)):
            all_known = dict.fromkeys([name for names in known.values() for name in names])
            raise ValueError(_nothing_takes(setting, [*all_known, *_PASSED_ON], file))
    ready = {
        name: partial(function, **own)
        if (own := {key: value for key, value in given.items() if key in known[name]})
        else function
        for name, function in functions.items()
    }
    arguments = {
        "benchmark": ready["benchmark"],
        "make_model": ready["model"],
        "make_optimizer": ready["optimizer"],
    }
    arguments |= {name: given[name] for name in _PASSED_ON if name in given}
    return arguments | {
        name: getattr(module, name) for name in ("criterion", "metric") if hasattr(module, name)
    }


def _load(file: Path) -> ModuleType:
    """Import a file by its name, as the processes that run its cells will."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if not file.stem.isidentifier():
        raise ValueError(f"{file} cannot be imported: give it a name of letters, digits and _")
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(file.stem)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != file.resolve():
        raise ValueError(f"{file} has the name of another module, {module}: rename it")
    return module


def _parsed(setting: str) -> tuple[str, Any]:
    name, equals, value = setting.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"the setting {setting!r} is not of the form name=value")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _own_parameters(function: Callable[..., Any]) -> list[str]:
    """The arguments of a function that settings may give."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(function).parameters
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, p in parameters.items() if p.kind in kinds and name not in _GIVEN]


def _nothing_takes(setting: str, known: list[str], file: Path) -> str:
    near = difflib.get_close_matches(setting, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"no function of {file} takes the setting {setting!r}.{hint} There are: {listed(known)}."
