"""Python programs in processes of their own, which do not have to import torch and Avalanche.

That takes longer than most of what is tested so. One server imports them, and nothing else; each
program is forked from it, and begins with its own arguments, environment and folder.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

_FORKED = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT = multiprocessing.get_context("forkserver" if _FORKED else "spawn")
_LOADED = ["avalanche_mas", "avalanche.training", "pandas", "sklearn.datasets"]


class Command:
    """A program that has been started.

    :param words: what would follow ``python``: ``-m module``, ``-c code`` or a file, then its
        arguments.
    :param environment: variables beside those of this process.
    :param cwd: the folder that it works in; None for this process's.
    :param quiet: whether warnings are ignored, as with ``-W ignore``.
    """

    def __init__(
        self,
        *words: object,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        variables = {**os.environ, **(environment or {})}
        arguments = [list(map(str, words)), variables, str(cwd or Path.cwd()), quiet]
        _CONTEXT.set_forkserver_preload(_LOADED)
        self._process = _CONTEXT.Process(target=_run, args=(*arguments, *self._outputs))
        self._process.start()

    def poll(self) -> int | None:
        """Its exit status, minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()

    def wait(self) -> CompletedProcess[str]:
        """Its exit status and what it has said, when it has ended."""
        try:
            self._process.join()
        finally:
            self.kill()  # where the test has ended otherwise
        said = [path.read_text(encoding="utf-8") for path in self._outputs]
        status = self._process.exitcode
        assert status is not None
        return CompletedProcess([], status, *said)


def run(*words: object, **options: object) -> CompletedProcess[str]:
    """Start a :class:`Command`, and wait until it has ended."""
    return Command(*words, **options).wait()  # type: ignore[arg-type]


def _run(
    words: list[str], variables: dict[str, str], cwd: str, quiet: bool, out: Path, err: Path
) -> None:
    for number, path in (1, out), (2, err):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
    if quiet:
        warnings.simplefilter("ignore")
    kind, *rest = words
    if kind == "-m":
        module, *arguments = rest
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        code, *arguments = rest
        sys.argv = ["-c", *arguments]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")
