"""Ctrl-C at random moments of an estimate, an observation or a watch: ``interrupts.py TIMES SEED``.

Every interrupt is a real signal, which another process sends. After each one everything that could
have been disturbed is compared with what it was, and the importance is measured once more.
"""

import math
import os
import random
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from networks import live_in, module
from test_no_trace import contents, same, state_of, state_of_the_world
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from avalanche_mas import (
    estimate_importance,
    estimate_local_importance,
    watch_importance,
    watch_local_importance,
)
from avalanche_mas.plugins import LocalMASPlugin, MASPlugin

SIZE = 4
BATCHES = 2

# --- networks -------------------------------------------------------------------------------------


class Cache(nn.Module):
    """Keeps what went through it, in a container that is there before."""

    def __init__(self) -> None:
        super().__init__()
        self.empty()

    def empty(self) -> None:
        self.kept: dict[str, Any] = {"calls": [0]}

    def forward(self, x: Tensor) -> Tensor:
        self.kept["calls"][0] += 1
        self.kept["last"] = x
        return x


def convolutions() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        Cache(),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    model[0].weight.register_hook(lambda g: g)
    model[2].register_forward_hook(lambda m, args, out: None)
    model[3].register_forward_pre_hook(lambda m, args: None)
    return model, torch.randn(BATCHES * SIZE, 2, 5, 5)


def attention() -> tuple[nn.Module, Tensor]:
    def attend(self: Any, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.head(self.cache(self.attention(x, x, x)[0])[:, 0])

    parts = {
        "norm": nn.LayerNorm(4),
        "attention": nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True),
        "cache": Cache(),
        "head": nn.Linear(4, 2),
    }
    return module(attend, **parts), torch.randn(BATCHES * SIZE, 3, 4)


def by_vmap() -> tuple[nn.Module, Tensor]:
    """A PReLU is measured by vmap of one operation; the model turns autograd off, and on again."""

    def forward(self: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = x.mean(1, keepdim=True)
        return self.b(self.prelu(self.a(x - shift)))

    parts = {"a": nn.Linear(4, 5), "prelu": nn.PReLU(5), "b": nn.Linear(5, 2)}
    return module(forward, **parts), torch.randn(BATCHES * SIZE, 4)


def branches() -> tuple[nn.Module, Tensor]:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 1000 else self.b(torch.relu(self.a(x)))

    model = module(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    return model, torch.randn(BATCHES * SIZE, 4)


NETWORKS = {f.__name__: f for f in (convolutions, attention, by_vmap, branches)}

# --- what is interrupted --------------------------------------------------------------------------

Steps = Iterator[Callable[[], None]]
"""Begins by giving what is to hold afterwards, and goes on to what is interrupted."""


def estimated(estimate: Any, **options: Any) -> Callable[[nn.Module, Tensor], Steps]:
    def steps(model: nn.Module, data: Tensor) -> Steps:
        yield lambda: None
        estimate(model, iter(data.split(SIZE)), **options)

    return steps


def watched(watch: Any, estimate: Any) -> Callable[[nn.Module, Tensor], Steps]:
    """Every call counts whole or not at all, and an interrupted one does not end the watching."""

    def steps(model: nn.Module, data: Tensor) -> Steps:
        given, calls = watch(model, fraction=1.0), list[tuple[Tensor, int]]()

        def check() -> None:
            samples = [before for _, before in calls[1:]] + [given.samples]
            pairs = zip(calls, samples, strict=False)  # perhaps none
            counted = [x for (x, before), after in pairs if after > before]
            assert given.samples == given.seen == SIZE * len(counted)
            if counted:
                omega = estimate(model, torch.cat(counted))
                for name, ours in given.importance.items():
                    torch.testing.assert_close(ours, omega[name], rtol=1e-4, atol=1e-6)

        yield check
        interrupted = False
        with given:
            for x in data.split(SIZE):
                calls.append((x, given.samples))
                try:
                    model(x)
                except KeyboardInterrupt:
                    interrupted = True
        if interrupted:
            raise KeyboardInterrupt

    return steps


def observed(make_plugin: Any) -> Callable[[nn.Module, Tensor], Steps]:
    """Every piece counts whole or not at all."""

    def steps(model: nn.Module, data: Tensor) -> Steps:
        plugin = make_plugin()

        def check() -> None:
            samples = plugin.observed.samples if plugin.observed else 0
            assert samples == SIZE * plugin.pieces
            plugin.observe(model, data[:SIZE])
            assert plugin.observed.samples == samples + SIZE

        yield check
        for x in data.split(SIZE):
            plugin.observe(model, x)

    return steps


def watched_by(make_plugin: Any) -> Callable[[nn.Module, Tensor], Steps]:
    def steps(model: nn.Module, data: Tensor) -> Steps:
        plugin = make_plugin()

        def check() -> None:
            samples = plugin.observed.samples if plugin.observed else 0
            assert samples % SIZE == 0
            assert plugin.pieces == bool(samples)
            plugin.observe(model, data[:SIZE])

        yield check
        with plugin.watch(model, 1.0):
            for x in data.split(SIZE):
                model(x)

    return steps


WAYS = {
    "estimate": estimated(estimate_importance),
    "estimate by vmap": estimated(estimate_importance, engine="vmap"),
    "estimate by the loop": estimated(estimate_importance, engine="loop"),
    "vector": estimated(estimate_importance, output="vector"),
    "local": estimated(estimate_local_importance),
    "watch": watched(watch_importance, estimate_importance),
    "local watch": watched(watch_local_importance, estimate_local_importance),
    "observe": observed(MASPlugin),
    "local observe": observed(LocalMASPlugin),
    "plugin's watch": watched_by(MASPlugin),
    "plugin's local watch": watched_by(LocalMASPlugin),
}
PAIRS = [
    (network, way)
    for way in WAYS
    for network in NETWORKS
    if way != "estimate by vmap" or network == "by_vmap"  # it refuses the others
]

# --- what must be as it was -----------------------------------------------------------------------


def everything(model: nn.Module) -> dict[str, Any]:
    found = {**state_of(model), **state_of_the_world()}
    for name, part in model.named_modules():
        found[f"{name} attributes"] = {
            key: contents(value) for key, value in vars(part).items() if key != "training"
        }
    return found | {
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "in a dispatch mode": is_in_torch_dispatch_mode(),
        "functorch": maybe_current_level(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "hooks of saved tensors": torch._C._autograd._top_saved_tensors_default_hooks(False),
        "warnings": [*map(str, warnings.filters)],
        "handler": signal.getsignal(signal.SIGINT),
    }


# --- the campaign ---------------------------------------------------------------------------------

_SENDER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin:
    time.sleep(float(line))
    os.kill(os.getppid(), signal.SIGINT)
    print(flush=True)
"""


class Sender:
    """Another process, which sends this one SIGINT when the time has come."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _SENDER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send_in(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()

    def wait(self) -> None:
        """Until the signal has been sent."""
        assert self.process.stdout is not None
        os.read(self.process.stdout.fileno(), 1)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Subject:
    """One network that one thing is done to, and what is to be as before."""

    def __init__(self, network: str, way: str) -> None:
        self.way, self.network = way, network
        torch.manual_seed(0)
        self.model, self.data = NETWORKS[network]()
        live_in(self.model)
        self.model.eval()
        self.seconds = math.inf
        for _ in range(3):
            begin = time.perf_counter()
            list(WAYS[way](self.model, self.data))
            self.seconds = min(self.seconds, time.perf_counter() - begin)
        self.omega = self.measured()
        torch.manual_seed(0)
        self.before = self.everything()

    def everything(self) -> dict[str, Any]:
        """Except for what the user's own calls of a watched model leave behind.

        That is what is in a cache; and no gradients, if ``no_grad`` in the model is interrupted as
        it ends: torch does not switch them on again.
        """
        if self.network == "by_vmap" and "watch" in self.way:
            torch.set_grad_enabled(True)
        for part in self.model.modules():
            if isinstance(part, Cache) and "watch" in self.way:
                part.empty()
        return everything(self.model)

    def measured(self) -> Any:
        estimate = estimate_local_importance if "local" in self.way else estimate_importance
        return estimate(self.model, self.data, batch_size=SIZE)

    def interrupt(self, sender: Sender, delay: float) -> str:
        """``"interrupted"``, or ``"finished"`` before the signal came, or what is wrong."""
        result = "interrupted"
        torch.manual_seed(0)
        steps = WAYS[self.way](self.model, self.data)
        check = next(steps)
        try:
            sender.send_in(delay)
            next(steps, None)
            result = "finished"
            sender.wait()
            time.sleep(5)
            return "the interrupt was lost"
        except KeyboardInterrupt:
            if result == "interrupted":
                sender.wait()
        return self.wrong(check) or result

    def wrong(self, check: Callable[[], None]) -> str:
        """What is not as it should be after an interrupt."""
        after = self.everything()
        if changed := [key for key in self.before if not same(self.before[key], after.get(key))]:
            return f"changed: {changed}"
        try:
            check()
            omega = self.measured()
        except Exception:
            return traceback.format_exc()
        moved = [name for name in omega if not torch.equal(omega[name], self.omega[name])]
        return f"another importance: {moved}" if moved else ""


def campaign(
    pairs: Sequence[tuple[str, str]], times: int, draw: random.Random
) -> Iterator[tuple[str, str, str]]:
    """Interrupts each pair so many times; gives network, way and :meth:`Subject.interrupt`."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    sender = Sender()
    try:
        for network, way in pairs:
            subject = Subject(network, way)
            for _ in range(times):
                result = subject.interrupt(sender, draw.uniform(0, 1.05 * subject.seconds))
                if result not in DONE:
                    subject = Subject(network, way)
                yield network, way, result
    finally:
        sender.close()
        signal.signal(signal.SIGINT, handler)


DONE = "interrupted", "finished"


def main(times: int, seed: int) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    counts = Counter[str]()
    for network, way, result in campaign(PAIRS, times, random.Random(seed)):
        if result not in DONE:
            print(f"{way} of {network}: {result}", flush=True)
        what = result if result in DONE else "wrong"
        counts.update([what, f"{way}: {what}"])
    print(*(f"{count:6} {key}" for key, count in sorted(counts.items())), sep="\n")
    sys.exit(counts["wrong"] > 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
