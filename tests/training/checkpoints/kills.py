"""Kills runs with SIGKILL at chosen moments: a process of its own runs this, and forks every run.

The forked processes need not import anything again. A moment is the n-th call or return of a Python
function in some phase of some experience: the process sends itself the signal there, which leaves
it no more time to tidy up than a kill from outside does.
"""

import functools
import gc
import json
import os
import random
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path

import interrupted
import torch
from avalanche.training.templates import BaseTemplate
from avalanche.training.templates.update_type.sgd_update import SGDUpdate

from avalanche_mas.benchmarks import split_digits
from avalanche_mas.training import checkpoint

# What begins a phase. The innermost counts; Ω is measured in callbacks after an experience.
PHASES = {
    "preparing": (BaseTemplate, "_before_training_exp"),
    "training": (SGDUpdate, "training_epoch"),
    "importance": (BaseTemplate, "_after_training_exp"),
    "evaluating": (BaseTemplate, "eval"),
    "writing": (interrupted, "save_checkpoint"),
    "publishing": (checkpoint, "_publish"),
}
ALWAYS = ["training", "importance", "writing"]
FURTHER = ["preparing", "evaluating", "publishing"]


class Moments:
    """Counts moments in some phases, and kills the process at one of them.

    Python functions are traced in these phases only: they are several times slower then.

    :param phases: (experience, phase) of each.
    :param at: (experience, phase, n), or None to count only.
    """

    def __init__(self, phases, at=None):
        self.wanted, self.at = set(phases), at
        self.counts = Counter()
        self.experience = 0
        self.phases = [None]

    def count(self):
        """From now on, in this process."""
        for phase, (owner, name) in PHASES.items():
            setattr(owner, name, self._within(phase, getattr(owner, name)))
        load = interrupted.maybe_load_checkpoint

        def loaded(*arguments):
            strategy, self.experience = load(*arguments)
            return strategy, self.experience

        interrupted.maybe_load_checkpoint = loaded

    def _within(self, phase, function):
        @functools.wraps(function)
        def call(*arguments, **options):
            self._enter([*self.phases, phase])
            try:
                return function(*arguments, **options)
            finally:
                self.experience += phase == "writing"
                self._enter(self.phases[:-1])

        return call

    def _enter(self, phases):
        self.phases = phases
        self.now = self.experience, phases[-1]
        sys.setprofile(self if self.now in self.wanted else None)

    def __call__(self, frame, event, arg):
        if event in ("call", "return"):
            self.counts[self.now] += 1
            if self.at == (*self.now, self.counts[self.now]):
                os.kill(os.getpid(), signal.SIGKILL)


def forked(function):
    """Calls it in a forked process.

    :return: the signal that ended the process; 0 if it came to its end.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run has failed, see above")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def counted(name, folder, phases):
    """How many moments these phases have, in a run that is not killed."""

    def count():
        moments = Moments(phases)
        moments.count()
        interrupted.run(name, folder)
        counts = [[*key, n] for key, n in moments.counts.items()]
        Path(folder, "counts.json").write_text(json.dumps(counts), encoding="utf-8")

    forked(count)
    rows = json.loads(Path(folder, "counts.json").read_text(encoding="utf-8"))
    return {(experience, phase): n for experience, phase, n in rows}


def one_method(name, folder):
    """Uninterrupted, and killed in every experience: in training, in Ω, while it writes, and in
    another phase, in random order.

    :return: both results, and each kill with the signal and the files it has left.
    """
    whole, broken = folder / "whole", folder / "broken"
    for path in (whole, broken):
        path.mkdir(parents=True)
    rng = random.Random(f"kills of {name}")
    phases = [*ALWAYS, rng.choice(FURTHER)]
    rng.shuffle(phases)
    counts = counted(name, whole, enumerate(phases))
    kills = []
    for experience, phase in enumerate(phases):
        # Where a run has been resumed, what happens only once in a process makes it a bit longer.
        moment = experience, phase, rng.randint(1, counts[experience, phase])

        def killed(moment=moment):
            Moments([moment[:2]], moment).count()
            interrupted.run(name, broken)

        ended = forked(killed)
        kills.append({"moment": moment, "signal": ended, "files": sorted(os.listdir(broken))})
    forked(lambda: interrupted.run(name, broken))
    results = [json.loads((path / "result.json").read_text("utf-8")) for path in (whole, broken)]
    return {"counts": [[*k, n] for k, n in counts.items()], "kills": kills, "results": results}


def everywhere_in_saving(folder):
    """Kills one save after the other: at every fourth moment of publishing, at some of the writing.

    Each begins where the checkpoint says 1 and the previous one 0, and is to write 2.

    :return: for each kill the signal, and what the checkpoint says then.
    """
    path = folder / "save.checkpoint"
    phases = [(0, "writing"), (0, "publishing")]

    def say(number, moments=None):
        strategy, _ = checkpoint.maybe_load_checkpoint(interrupted.strategy_of("SI"), path)
        strategy.said = number
        if moments:
            moments.count()
        interrupted.save_checkpoint(strategy, path)

    def count():
        moments = Moments(phases)
        say(0)
        say(1, moments)
        counts = {phase: n for (_, phase), n in moments.counts.items()}
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")

    def read():
        strategy, _ = checkpoint.maybe_load_checkpoint(interrupted.strategy_of("SI"), path)
        (folder / "said.json").write_text(json.dumps(strategy.said), encoding="utf-8")

    folder.mkdir()
    forked(count)
    counts = json.loads((folder / "counts.json").read_text("utf-8"))
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    rng = random.Random("kills in saving")
    moments = [("publishing", n) for n in range(1, counts["publishing"] + 1, 4)]
    moments += [("writing", rng.randint(1, counts["writing"])) for _ in range(10)]
    kills = []
    for phase, n in moments:
        for name in os.listdir(folder):
            (folder / name).unlink()
        for name, content in before.items():
            (folder / name).write_bytes(content)
        ended = forked(lambda phase=phase, n=n: say(2, Moments(phases, (0, phase, n))))
        files = sorted(os.listdir(folder))
        forked(read)
        said = json.loads((folder / "said.json").read_text("utf-8"))
        kills.append({"moment": (phase, n), "signal": ended, "files": files, "said": said})
    return kills


def main(folder):
    """Everything, into a file."""
    torch.set_num_threads(1)
    # What is imported only when it is needed is imported here once, instead of in every fork.
    split_digits()
    interrupted.strategy_of("MAS")
    gc.freeze()
    methods = {name: one_method(name, Path(folder, name)) for name in interrupted.METHODS_OF_OURS}
    report = {"methods": methods, "saving": everywhere_in_saving(Path(folder, "saving"))}
    Path(folder, "report.json").write_text(json.dumps(report), encoding="utf-8")
