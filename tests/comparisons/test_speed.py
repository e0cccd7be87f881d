import sys
import time
from dataclasses import replace
from unittest.mock import patch

import pandas as pd
import pytest
import torch
from avalanche.benchmarks import tensors_benchmark
from avalanche.training.plugins import EWCPlugin, MASPlugin
from avalanche.training.supervised import Naive
from measured import SWITCH, die, fail, fail_once, read_switch
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

import avalanche_mas
from avalanche_mas.importance.parameters import zeros
from avalanche_mas.importance.rules import matmul
from benchmarks.cli import app
from benchmarks.speed import deployment, estimation, layers, memory, peers, report, suite, ways
from benchmarks.speed.child import in_child
from benchmarks.speed.clock import by_round, interleave, quartiles
from benchmarks.speed.estimation import FIRST, FLOOR, FLOOR_BESIDE, WAYS
from benchmarks.speed.networks import NETWORKS, Case, cnn, make_case
from benchmarks.speed.penalty import COPY, NONE, PLUGINS, one_step
from benchmarks.speed.report import estimation_table, penalty_table
from benchmarks.speed.rows import Refused, Row, Section, SpeedSettings
from benchmarks.speed.store import SectionStore

SETTINGS = SpeedSettings(rounds=2, threads=1, device="cpu", quick=True)
PEERS = {"Opacus": peers.opacus, "BackPACK": peers.backpack}
ONE_BY_ONE = {"batch-size-1 loop": ways.loop, "torch.func.vmap": ways.vmap, **PEERS}


def speed(*arguments):
    """In this process; what it measures has processes of its own."""
    arguments = ["speed", *map(str, arguments)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """The whole suite in miniature, once for all tests."""
    folder = tmp_path_factory.mktemp("speed")
    return speed("--quick", "--threads", 1, "--out", folder), folder


def test_a_trial_runs_from_start_to_end(trial):
    answer, folder = trial
    assert answer.exit_code == 0, answer.output
    assert "Warning" not in answer.output
    table = (folder / "table.md").read_text(encoding="utf-8")
    watched = set(deployment.WAYS)
    for way in (*(set(WAYS) - {FIRST, FLOOR_BESIDE}), *(set(PLUGINS) - {NONE}), *watched):
        assert f"| {way} |" in table
    assert "with transparent huge pages" in table
    assert f"torch {torch.__version__.partition('+')[0]}" in table
    assert "threads 1" in table
    for picture in ("speed.png", "growth.png"):
        assert (folder / picture).stat().st_size > 10_000
    figures = pd.read_csv(folder / "table.csv")
    assert set(figures["part"]) == set(suite.PARTS)
    assert (figures["median"].dropna() > 0).all()


def test_a_second_run_measures_nothing(trial):
    _, folder = trial
    before = {file: file.stat().st_mtime_ns for file in (folder / "raw").iterdir()}
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert speed("--quick", "--threads", 1, "--out", folder).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in (folder / "raw").iterdir()} == before
    assert (folder / "table.md").read_text(encoding="utf-8") == table


def test_figures_of_unlike_conditions_are_not_mixed(trial):
    _, folder = trial
    answer = speed("--quick", "--threads", 1, "--rounds", 3, "--out", folder)
    assert answer.exit_code == 2
    assert "rounds 2 there, 3 now" in answer.output


@pytest.mark.parametrize("option", ["--part", "--models"])
def test_an_unknown_name_is_answered_with_those_there_are(option, tmp_path):
    answer = speed(option, "nothing", "--out", tmp_path / "out")
    assert answer.exit_code == 2
    assert "'nothing'" in answer.output
    assert ("memory" if option == "--part" else "alexnet") in answer.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_gpu_is_refused(tmp_path):
    answer = speed("--gpu", "--out", tmp_path)
    assert answer.exit_code == 1
    assert "CUDA" in answer.output


def test_the_clock_measures_sleeps():
    calls = {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.03)}
    timings = list(interleave(calls, rounds=4, shortest=0.0))
    assert sorted((number, way) for number, way, _ in timings) == [
        (number, way) for number in range(4) for way in ("long", "short")
    ]
    assert len({tuple(w for n, w, _ in timings if n == number) for number in range(4)}) == 2
    rows = pd.DataFrame(timings, columns=["round", "way", "value"])
    times = by_round(rows)
    # a busy machine wakes late, never early
    assert times["short"].min() >= 0.01
    assert times["long"].min() >= 0.03
    assert times["short"].min() < 0.03


def test_quick_calls_are_repeated():
    counts = {"quick": 0}

    def quick():
        counts["quick"] += 1
        time.sleep(0.001)

    timings = list(interleave({"quick": quick}, rounds=2, shortest=0.1))
    assert counts["quick"] > 12  # about 200 on an idle machine
    assert all(seconds >= 0.001 for _, _, seconds in timings)
    assert min(seconds for _, _, seconds in timings) < 0.02, "of one call, not of all together"


def test_ratios_are_taken_within_a_round():
    """A machine that becomes ten times slower changes no ratio."""
    rows = pd.DataFrame(
        {"way": way, "round": number, "value": own * slow}
        for number, slow in enumerate((1.0, 10.0, 1.0, 10.0))
        for way, own in (("a", 3.0), ("b", 2.0))
    )
    times = by_round(rows.sample(frac=1, random_state=0))
    assert quartiles(times["a"] / times["b"]) == pytest.approx((1.5, 1.5, 1.5))
    assert quartiles(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0])) == (3.0, 2.0, 4.0)


def few_samples(network):
    """In float64, but for the LSTM, of which vmap knows a float32 kernel only."""
    if network == "cnn":
        case = Case("cnn", cnn(4).eval(), torch.randn(4, 3, 32, 32), few=4)
    else:
        case = make_case(network, quick=True)
    dtype = torch.float32 if network == "lstm" else torch.float64
    return replace(case, model=case.model.to(dtype), x=case.x[: case.few].to(dtype))


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet18", "vit", "lstm"])
@pytest.mark.parametrize("way", ONE_BY_ONE)
@pytest.mark.filterwarnings("ignore")
def test_exact_ways_measure_the_same(network, way):
    """Opacus and BackPACK on networks altered for them, under the original names."""
    case = few_samples(network)
    if (network, way) == ("vit", "BackPACK") and pytest.importorskip("backpack"):
        with pytest.raises(Refused, match=r"incomplete: \d+ of 20 tensors"):
            peers.backpack(case).call()
        return
    try:
        ready = ONE_BY_ONE[way](case)
    except Refused as refusal:
        if str(refusal) == peers.NOT_INSTALLED:
            pytest.skip(str(refusal))
        raise
    ready.call()
    tolerance = 1e-4 if network == "lstm" else 1e-10
    for name, omega in truth(case, ready.samples).items():
        difference = float((ready.total[name] - omega).norm() / omega.norm())
        assert difference < tolerance, (name, difference)


def truth(case, samples):
    total = zeros(dict(case.model.named_parameters()))
    for sample in case.x[:samples].split(1):
        case.model.zero_grad()
        case.model(sample).square().sum().backward()
        for name, parameter in case.model.named_parameters():
            total[name] += parameter.grad.abs()
    case.model.zero_grad()
    return total


@pytest.mark.parametrize("network", NETWORKS)
def test_ours_passes_the_suites_own_check(network):
    if network != "alexnet":  # 57 million parameters even in miniature
        estimation.check("exact", make_case(network, quick=True))


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_way_is_not_timed(monkeypatch):
    """Such as one that takes the absolute value of the batch's mean."""
    monkeypatch.setitem(WAYS, "exact", ways.avalanche)
    rows = list(estimation.measure("mlp", SETTINGS, others=False))
    (row,) = [row for row in rows if row.way == "exact"]
    assert row.value is None
    assert row.note.startswith("wrong: 6 of 6 tensors")


def test_an_altered_network_must_be_the_same_function(monkeypatch):
    pytest.importorskip("backpack")

    another = lambda model: (nn.Sequential(model, nn.Softmax(1)), [])  # noqa: E731
    monkeypatch.setattr(peers, "without_inplace", another)
    with pytest.raises(Refused, match="other outputs"):
        peers.backpack(make_case("mlp", quick=True))


def test_a_peer_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(Refused, match=r"pip install -e '\.\[speed\]'"):
        peers.opacus(make_case("mlp", quick=True))


def test_avalanches_loop_is_avalanches():
    """The body that is timed gives what MASPlugin itself gives for a batch."""
    case = make_case("lstm", quick=True)
    y = torch.zeros(len(case.x), dtype=torch.long)
    plugin = MASPlugin()
    strategy = Naive(
        model=case.model,
        optimizer=torch.optim.SGD(case.model.parameters(), lr=0.0),
        train_mb_size=len(case.x),
        plugins=[plugin],
    )
    data = [(case.x, y)]
    strategy.experience = tensors_benchmark(data, data, task_labels=[0]).train_stream[0]
    theirs = plugin._get_importance(strategy)
    ready = ways.avalanche(case)
    ready.call()
    assert set(ready.total) == set(theirs)
    for name, omega in ready.total.items():
        torch.testing.assert_close(omega, theirs[name].data)


@pytest.mark.parametrize("step", ["proximal", "gradient"])
def test_a_step_goes_through_all_hooks_of_a_plugin(step):
    calls = []

    class Counted(avalanche_mas.MASPlugin):
        def before_backward(self, strategy, **kwargs):
            super().before_backward(strategy, **kwargs)
            calls.append((self.tasks, float(self.penalty.value()) > 0 if self.penalty else None))

        def after_update(self, strategy, **kwargs):
            super().after_update(strategy, **kwargs)
            calls.append("after")

    case = make_case("mlp", quick=True)
    before = {name: p.clone() for name, p in case.model.named_parameters()}
    call = one_step(case.model, case.x, lambda: Counted(1e3, step=step), 2)
    calls.clear()
    call()
    call()
    assert calls == [(2, False), "after", (2, True), "after"]  # in the first step θ is still θ*
    assert all(torch.equal(p, before[name]) for name, p in case.model.named_parameters())


def test_avalanches_ewc_has_a_penalty_for_each_experience():
    made = []

    def make():
        made.append(EWCPlugin(1.0))
        return made[0]

    case = make_case("mlp", quick=True)
    one_step(case.model, case.x, make, 3)()
    assert sorted(made[0].importances) == [0, 1, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are read from /proc")
def test_peak_memory_of_a_known_allocation(monkeypatch):
    size = 64 << 20

    def allocating(case):
        return ways.Ready(lambda: torch.ones(size // 4), len(case.x))

    monkeypatch.setitem(WAYS, "allocating", allocating)
    (row,) = memory.measure("mlp", 4, "allocating", SETTINGS)
    assert row.value == pytest.approx(size, rel=0.1)


def test_each_measurement_has_its_own_process_and_environment(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    first, pid = in_child(read_switch, "a", environment={SWITCH: "on"})
    assert first.note == "on"
    second, other = in_child(read_switch, "a", environment={})
    assert second.note == "unset"
    assert pid.value != other.value


@pytest.mark.parametrize(
    ("measure", "message"), [(fail, "this measurement always fails"), (die, "exit code 3")]
)
def test_a_failure_is_told(measure, message):
    rows = in_child(measure, "a", environment={})
    assert next(rows).way == "a"
    with pytest.raises(RuntimeError, match=message):
        next(rows)


def test_only_what_was_written_is_said_to_be(tmp_path):
    answer = speed("--quick", "--part", "layers", "--models", "mlp", "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    assert ": table.md, table.csv. Finished" in " ".join(answer.output.split())
    assert not list((tmp_path / "out").glob("*.png"))


def test_finished_sections_survive_a_failure(tmp_path, monkeypatch):
    def sections(settings, networks):
        return [
            Section("memory", name, fail_once, ((name, str(tmp_path)),))
            for name in ("first", "second")
        ]

    monkeypatch.setattr(suite, "PARTS", {"memory": sections})
    monkeypatch.setattr(suite.SpeedReport, "write", lambda *arguments: [])
    run = (SETTINGS, tmp_path / "out", ["memory"], [], Console(quiet=True))
    with pytest.raises(RuntimeError, match="not yet"):
        suite.run(*run)
    (tmp_path / "ready").touch()
    suite.run(*run)
    assert (tmp_path / "starts").read_text().split() == ["first", "second", "second"]
    assert sorted(SectionStore(tmp_path / "out", suite.facts(SETTINGS)).rows()["way"]) == [
        "first",
        "second",
    ]


def rows_of(part, section, values, notes=()):
    notes = dict(notes)
    rows = [
        Row(way, number, value, notes.get(way, ""))
        for way, own in values.items()
        for number, value in enumerate(own)
    ]
    return pd.DataFrame([vars(row) for row in rows]).assign(part=part, section=section)


def test_the_table_has_ratios_and_reasons():
    values = {
        FLOOR: [1e-3, 2e-3, 1e-3],
        "exact": [1.1e-3, 2.4e-3, 1.3e-3],
        FIRST: [3.1e-3, 6.4e-3, 3.3e-3],
        "BackPACK": [None],
        "Opacus": [None],
    }
    notes = {"BackPACK": "incomplete: 8 of 20 tensors", "Opacus": "no LSTM"}
    table = estimation_table(rows_of("estimation", "vit", values, notes)).set_index("way")["ViT"]
    assert table[FLOOR] == "1 ms"
    assert table["exact"] == "1.20 (1.15-1.25)"
    assert table["BackPACK"] == "incomplete: 8 of 20 tensors"
    assert table["Opacus"] == "refused: no LSTM"
    assert table["exact, first batch: adds"].startswith("2.00")


def test_watched_inference_is_compared_with_unwatched():
    values = {deployment.PLAIN: [1e-3, 2e-3], "l-MAS of 25%": [1.2e-3, 2.6e-3]}
    table = report.deployment_table(rows_of("deployment", "mlp, B=8", values)).set_index("way")[
        "MLP, B=8"
    ]
    assert table[deployment.PLAIN] == "1.5 ms"
    assert table["l-MAS of 25%"].startswith("1.25 ")


def test_libraries_are_compared_layer_by_layer():
    values = {layers.MM: [1e-3, 2e-3], layers.ONEDNN: [0.5e-3, 1e-3]}
    table = report.layers_table(rows_of("layers", "vit", values)).set_index("way")["ViT, mlp"]
    assert table[layers.MM] == "1.5 ms"
    assert table[layers.ONEDNN].startswith("0.50 ")


@pytest.mark.parametrize("name", layers.LAYERS)
def test_layers_are_measured_as_they_are(name):
    """By each way the same Σ|g|, with the library that the way is named after."""
    layer, settings = layers.LAYERS[name], SpeedSettings(2, 1, "cpu", True)
    assert {row.way for row in layers.measure(name, settings)} >= {layers.MM}
    gradients, found = layer.gradients(quick=True), []
    for onednn, patches in ((False, True), (True, True), (False, False)):
        total, count = torch.zeros(layer.weight), []
        with patch.object(matmul, "_by_onednn", counting(matmul._by_onednn, count)):
            layers._call(gradients, total, onednn=onednn, patches=patches)()
        assert bool(count) == (onednn and matmul.has_onednn())
        found.append(total)
    for total in found:
        assert total.any()
        torch.testing.assert_close(total, found[0], rtol=1e-4, atol=1e-3)


def counting(function, calls):
    def counted(*args):
        calls.append(1)
        return function(*args)

    return counted


def test_the_penalty_is_what_a_step_takes_longer():
    values = {way: [0.2, 0.4] for way in PLUGINS}
    values["MASPlugin, gradient"] = [0.23, 0.43]
    values["Avalanche MASPlugin"] = [0.5, 0.7]
    values[COPY] = [0.01, 0.01]
    table = penalty_table(rows_of("penalty", "pages", values)).set_index("plugin")
    line = table.loc["MASPlugin, gradient"]
    assert line["adds (ms)"].startswith("30.0 ")
    assert line["÷ bandwidth floor"].startswith("1.20 ")
    assert line["÷ Avalanche MASPlugin's"].startswith("0.10 ")
    assert line["whole step ÷ without"].startswith("1.11 ")
