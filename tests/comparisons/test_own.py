"""Methods on a benchmark and a model of the user's own."""

import json
import pickle
import random
import sys
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from own_benchmark import benchmark, model, numbers, one_output
from torch import nn
from torch.optim import SGD
from typer.testing import CliRunner

import avalanche_mas
from avalanche_mas.evaluation import AccuracyMatrix, ErrorMatrix
from avalanche_mas.plugins.registry import METHODS, Method, UnknownMethodError, register
from benchmarks.claims.verdict import judge
from benchmarks.cli import app
from benchmarks.own import Comparison, compare_methods
from benchmarks.own.cell import OwnCell, Setup
from benchmarks.own.compare import sgd, unsendable
from benchmarks.own.held_out import hold_out
from benchmarks.training.stream import train_and_measure

compare = partial(compare_methods, epochs=1, verbose=False)
QUICK = partial(
    compare,
    benchmark=benchmark,
    make_model=model,
    methods=("finetuning", "MAS"),
    seeds=2,
    lambdas="published",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All kinds of methods, with a small grid, and the folder of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    methods = ("finetuning", "joint", "MAS", "LwF")
    lambdas = {"MAS": (1.0, 10.0), "LwF": 2.0}
    return compare(benchmark, model, methods, seeds=2, lambdas=lambdas, folder=folder), folder


def test_runs_are_those_of_the_one_trainer(whole):
    comparison, _ = whole
    (cell, result) = next(run for run in comparison.runs if run[0].method == "MAS")
    lam = comparison.choices["MAS"].lam
    assert (cell.lam, cell.seed) == (lam, 0)
    own = train_and_measure(
        benchmark(0),
        "test",
        model,
        partial(SGD, lr=0.01, momentum=0.9),
        METHODS["MAS"],
        lam,
        cell,
        0,
    )
    assert own.weights_sha256 == result.weights_sha256
    assert own.accuracy == result.accuracy


def test_lambda_is_chosen_by_the_protocol(whole):
    """On held-out samples, with seeds that are not reported; a given λ costs nothing."""
    comparison, folder = whole
    cells = [json.loads(path.read_text())["cell"] for path in folder.glob("*.json")]
    judged = [cell for cell in cells if cell["validation"]]
    assert {cell["method"] for cell in judged} == {"MAS"}
    assert {cell["seed"] for cell in judged} == {100}
    assert {1.0, 10.0} <= {cell["lam"] for cell in judged}
    scores = comparison.choices["MAS"].scores
    assert max(scores.values()) == scores[comparison.choices["MAS"].lam]
    assert Counter(cell["method"] for cell in cells if not cell["validation"]) == dict.fromkeys(
        ("finetuning", "joint", "MAS", "LwF"), 2
    )
    assert comparison.choices["LwF"].lam == 2.0


def test_tables_figures_and_paired_tests(whole):
    comparison, _ = whole
    table = comparison.table().set_index("method")
    assert list(table.index) == comparison.methods == ["finetuning", "joint", "MAS", "LwF"]
    runs = comparison.data()
    of_mas = runs.loc[runs["method"] == "MAS", "final_accuracy_percent"]
    mean = f"{of_mas.mean():.1f} ± {of_mas.std():.1f}"
    assert table.loc["MAS", "final accuracy (%)"] == mean
    assert table.loc["joint", "forgetting (points)"] == "-"
    paired = comparison.paired("joint").set_index("method")
    assert list(paired.index) == ["finetuning", "MAS", "LwF"]
    assert set(paired["verdict"]) == {"not decided"}  # two seeds
    with pytest.raises(ValueError, match="give one of finetuning, joint, MAS, LwF"):
        comparison.paired("EWC")
    heat_map = comparison.plot().axes[0]
    assert [tick.get_text() for tick in heat_map.get_xticklabels()] == ["task-0", "task-1", "mean"]


@pytest.mark.parametrize("error", [False, True])
def test_paired_tests_are_those_of_the_claims(whole, error):
    """Six seeds decide; of errors the lower is the better."""
    first = whole[0].runs[0]
    mas, other = np.linspace(0.80, 0.85, 6), np.linspace(0.60, 0.70, 6)
    runs = tuple(
        (replace(first[0], method=method, seed=seed), replace(first[1], final_accuracy=value))
        for method, values in {"MAS": mas, "EWC": other}.items()
        for seed, value in enumerate(values)
    )
    (row,) = replace(whole[0], runs=runs, error=error).paired().to_dict("records")
    assert row["method"] == "EWC"
    assert row["verdict"] == ("worse" if error else "better")
    assert row["MAS better"] == ("0 of 6" if error else "6 of 6")
    assert float(row["p"]) == pytest.approx(judge(mas - other, low=0.0).p, rel=0.05)


def test_what_is_saved_is_loaded(whole, tmp_path):
    files = whole[0].save(tmp_path / "mine")
    assert {file.name for file in files} == {"table.md", "table.csv", "mine.png", "comparison.json"}
    assert Comparison.load(tmp_path / "mine") == whole[0]
    assert "| MAS | " in files[0].read_text(encoding="utf-8")


def test_it_goes_on_where_it_stopped_but_not_with_another_model(whole):
    comparison, folder = whole
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    again = partial(compare, benchmark, methods=comparison.methods, seeds=2, folder=folder)
    again = partial(again, lambdas={"MAS": (1.0, 10.0), "LwF": 2.0})
    assert again(make_model=model) == comparison
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == times
    again(make_model=partial(model, 7), methods=["finetuning"], lambdas="grid")
    assert len(list(folder.glob("*.json"))) == len(times) + 2


class Squared(nn.Linear):
    def forward(self, x):
        return super().forward(x) ** 2


def test_the_fingerprint_sees_what_decides_results():
    plain = Setup(
        benchmark, model, SGD, {"MAS": METHODS["MAS"]}, nn.CrossEntropyLoss(), ErrorMatrix, None
    )
    ours = plain.fingerprint(0)
    assert ours == plain.fingerprint(0)
    changed = {
        "benchmark": partial(benchmark, size=42),
        "make_model": lambda: nn.Sequential(Squared(4, 6), nn.Tanh(), nn.Linear(6, 2)),
        "make_optimizer": partial(SGD, lr=0.2),
        "methods": {"MAS": replace(METHODS["MAS"], options={"streams": "test"})},
        "criterion": nn.CrossEntropyLoss(label_smoothing=0.1),
    }
    for name, value in changed.items():
        assert replace(plain, **{name: value}).fingerprint(0) != ours, name


def test_the_caller_s_random_numbers_stay():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    QUICK(seeds=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]


def test_a_stream_that_is_there_is_not_replaced_and_one_that_is_not_is_held_out():
    whole = benchmark()
    held = hold_out(whole, 0.2, seed=0)
    sizes = {name: [len(e.dataset) for e in stream] for name, stream in held.streams.items()}
    assert sizes == {"train": [32, 32], "valid": [8, 8], "test": [20, 20]}
    streams = held.train_stream, held.valid_stream, whole.train_stream
    for kept, left, all_of_it in zip(*streams, strict=True):
        assert kept.task_labels == left.task_labels == all_of_it.task_labels
        assert Counter(left.dataset.targets) == {0: 4, 1: 4}
        rows = [tuple(x.tolist()) for part in (kept, left) for x, *_ in part.dataset]
        assert sorted(rows) == sorted(tuple(x.tolist()) for x, *_ in all_of_it.dataset)
        assert left.origin_stream.benchmark is kept.origin_stream.benchmark is held
    assert hold_out(held, 0.2, seed=0) is held
    with pytest.raises(ValueError, match="give a larger validation"):
        hold_out(whole, 0.001, seed=0)


def test_errors_of_a_regression_also_where_it_diverges():
    run = partial(compare, numbers, one_output, criterion=nn.MSELoss(), metric=ErrorMatrix, seeds=2)
    comparison = run(methods=("finetuning", "joint", "MAS"), lambdas=1.0)
    assert comparison.error
    table = comparison.table()
    assert {"final error", "rise of the error"} <= set(table)
    result = comparison.runs[0][1]
    R = np.array(result.accuracy, dtype=float)
    assert result.forgetting == pytest.approx(R[1, 0] - R[0, 0])
    assert comparison.plot().axes[0].get_ylabel() == "error after the last task"
    broken = run(methods=("finetuning",), make_optimizer=partial(SGD, lr=1e9), epochs=5)
    assert "Diverged: finetuning (seed 0), finetuning (seed 1)." in broken.remarks
    assert broken.runs[0][1].final_accuracy >= 1e29


def test_a_method_of_the_user_s_own():
    own = replace(
        METHODS["MAS"], description="MAS, on the test stream", options={"streams": "test"}
    )
    try:
        register("my MAS", own)
        register("my MAS", own)  # as notebooks do
        comparison = QUICK(methods=("my MAS",), seeds=1)
        assert comparison.table()["method"].tolist() == ["my MAS"]
        assert comparison.choices["my MAS"].lam == 1.0
    finally:
        del METHODS["my MAS"]
    with pytest.raises(ValueError, match="is a method of this package"):
        register("MAS", own)
    with pytest.raises(ValueError, match="name is 'a/b'"):
        register("a/b", own)
    with pytest.raises(TypeError, match="give Method"):
        register("mine", type(own))
    assert isinstance(own, Method)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"methods": ("MASS",)}, UnknownMethodError, "Did you mean 'MAS'"),
        ({"methods": "MAS"}, ValueError, "give a list of names"),
        ({"lambdas": {"finetuning": 1.0}}, ValueError, "the methods with a λ are MAS"),
        ({"lambdas": "best"}, ValueError, "give 'grid', 'published'"),
        ({"lambdas": (0.0, 1.0)}, ValueError, "give finite numbers above 0"),
        ({"lambdas": -1.0}, ValueError, "lambda_reg"),
        ({"seeds": (99, 100)}, ValueError, "not reported"),
        ({"seeds": 0}, ValueError, "seeds is empty"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"validation": 1.0}, ValueError, "validation is 1.0"),
        ({"workers": 0}, ValueError, "workers is 0"),
        ({"make_model": lambda: 3}, TypeError, "make_model gives a int"),
        ({"make_optimizer": lambda parameters: None}, TypeError, "make_optimizer gives a NoneType"),
        ({"benchmark": lambda: 3}, TypeError, "the benchmark is a int"),
        ({"benchmark": partial(benchmark, n=1)}, ValueError, "two or more"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(wrong, error, said, tmp_path):
    with pytest.raises(error, match=said):
        QUICK(folder=tmp_path, **wrong)
    assert not list(tmp_path.rglob("*.json"))


def test_what_is_sent_to_another_process_gives_the_same_there():
    setup = Setup(
        benchmark, model, sgd, {"MAS": METHODS["MAS"]}, nn.CrossEntropyLoss(), AccuracyMatrix, None
    )
    assert unsendable(setup) is None
    cell = OwnCell("MAS", 1.0, 3, 0.0, 1, 32, "cpu", setup.fingerprint(0))
    there = pickle.loads(pickle.dumps(setup)).run_cell(cell)
    assert there.weights_sha256 == setup.run_cell(cell).weights_sha256


def test_what_cannot_be_sent_runs_here(monkeypatch):
    with pytest.warns(UserWarning, match="so they run in this one"):
        found = QUICK(make_model=lambda: model(), methods=("finetuning",), workers=2)
    assert len(found.runs) == 2

    def prompt():  # as one that was written in a notebook
        return model()

    prompt.__module__, prompt.__qualname__ = "__main__", "prompt"
    monkeypatch.setattr(sys.modules["__main__"], "prompt", prompt, raising=False)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.warns(UserWarning, match="written at a prompt are in no file"):
        QUICK(make_model=prompt, methods=("finetuning",), seeds=1, workers=2)


def test_the_names_are_lazy():
    assert avalanche_mas.compare_methods.__name__ == "compare_methods"
    assert avalanche_mas.Comparison.__name__ == "Comparison"


def command(file, tmp_path, *options):
    words = ["compare", str(file), "--workers", "1", "--out", str(tmp_path / "out"), *options]
    return CliRunner().invoke(app, words, env={"COLUMNS": "300"})


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of the user's own; afterwards it is as if it had never been imported."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "my_file_for_compare.py"
    path.write_text(
        "from own_benchmark import benchmark, model\n"
        "from torch.optim import SGD\n"
        "def optimizer(parameters, lr=0.1): return SGD(parameters, lr=lr)\n"
    )
    yield path
    sys.modules.pop(path.stem, None)


def test_the_command_line(file, tmp_path):
    options = ["--methods", "MAS,finetuning", "--seeds", "2", "--epochs", "1"]
    options += ["--select", "published", "--set", "lr=0.5", "--set", "width=5"]
    answer = command(file, tmp_path, *options)
    assert answer.exit_code == 0, answer.output
    out = tmp_path / "out" / file.stem
    comparison = Comparison.load(out)
    expected = compare(
        benchmark,
        partial(model, 5),
        ("finetuning", "MAS"),
        make_optimizer=partial(SGD, lr=0.5),
        seeds=2,
        lambdas="published",
    )
    assert [r.weights_sha256 for _, r in comparison.runs] == [
        r.weights_sha256 for _, r in expected.runs
    ]
    assert comparison.data()["method"].tolist() == ["finetuning"] * 2 + ["MAS"] * 2
    assert "MAS minus it" in answer.output
    assert (out / f"{file.stem}.png").exists()


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", [], "defines no function benchmark()"),
        ("def benchmark(): pass", [], "defines no function model()"),
        ("import nowhere", [], "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
        (None, ["--set", "widht=3"], "takes the setting 'widht'. Did you mean 'width'?"),
        (None, ["--set", "width"], "'width' is not of the form name=value"),
        (None, ["--methods", "EWCC"], "Did you mean 'EWC'?"),
        (None, ["--fast"], "has no option --fast"),
        (None, ["--select", "framework"], "--select is grid or published"),
        (None, ["--cpus-per-cell", "2"], "needs --executor ray"),
    ],
)
def test_errors_of_the_command_line_are_one_line(file, tmp_path, text, options, said):
    if text is not None:
        file.write_text(text)
    answer = command(file, tmp_path, *options)
    assert answer.exit_code in (1, 2)
    assert isinstance(answer.exception, SystemExit)
    assert said in answer.output
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(tmp_path):
    answer = command(tmp_path / "none.py", tmp_path)
    assert answer.exit_code == 1
    assert "there is no file" in answer.output
    assert (
        "--set is for a file"
        in CliRunner()
        .invoke(app, ["compare", "digits", "MAS", "EWC", "--set", "a=1"], env={"COLUMNS": "200"})
        .output
    )
