"""The table of exactness: a few networks of each source, and what the table says of a fault."""

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.exactness import measure as measuring
from benchmarks.exactness.case import Case, blank, trimmed
from benchmarks.exactness.command import run
from benchmarks.exactness.measure import UNALTERED, measure, relative_error
from benchmarks.exactness.naive import sensitivity
from benchmarks.exactness.networks import SOURCES, cases, installed
from benchmarks.exactness.report import remark, verdict

NETWORKS = {
    "torchvision": ["swin_v2, thin", "vit, thin", "efficientnet_v2, thin"],
    "timm": ["samvit_base_patch16_224", "naflexvit_base_patch16_gap"],
    "transformers": ["BertModel", "GPT2Model", "T5Model", "SwinModel", "Wav2Vec2Model"],
    "peft": ["LoRA on Bert", "BOFT on an MLP", "HRA on an MLP"],
    "idioms": ["tied embedding", "gradient inside forward"],
}


def find(source, name):
    if not installed(source):
        pytest.skip(f"{source} is not installed")
    return next(case for case in cases(source) if case.name == name)


@pytest.fixture(autouse=True)
def _short_timings(monkeypatch):
    monkeypatch.setattr(measuring, "COST_SAMPLES", (6, 6))
    monkeypatch.setattr(measuring, "COST_ROUNDS", 1)


@pytest.mark.parametrize(
    ("source", "name"), [(source, name) for source, names in NETWORKS.items() for name in names]
)
def test_exact_on_altered_data_as_well(source, name):
    row = measure(find(source, name))
    assert verdict(row) in ("exact", "slow"), remark(row)
    assert {UNALTERED, "last batch of one", "blank first"} <= row.errors.keys()
    assert sum(row.ways.values()) == pytest.approx(1)
    assert row.cost is not None


def linear():
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)


def test_the_naive_loop_is_equation_2():
    torch.manual_seed(0)
    model, x = nn.Linear(4, 2, bias=False).double(), torch.randn(1, 4, dtype=torch.float64)
    expected = (2 * model(x).T @ x).abs()  # ∂‖W x‖²/∂W = 2 W x xᵀ
    torch.testing.assert_close(sensitivity(model, x)["weight"], expected.detach())


def test_altered_samples():
    batch = {"input_ids": torch.ones(5, 8).long(), "attention_mask": torch.ones(5, 8).long()}
    nothing = blank(batch)
    assert nothing["input_ids"].tolist() == [[0] * 8]
    assert nothing["attention_mask"].tolist() == [[1, *[0] * 7]]
    assert trimmed(batch)["input_ids"].shape == (5, 6)


def test_an_error_below_round_off_of_the_network_is_none():
    truth = {"used": torch.ones(4).double(), "zero": torch.zeros(4).double()}
    error, where = relative_error(truth | {"zero": torch.full((4,), 1e-16).double()}, truth)
    assert where == "zero"
    assert error == pytest.approx(1e-10)


def halved(estimate):
    """An engine that is wrong by a half from the second batch on, without a word."""

    def wrong(model, batches):
        omega = estimate(model, batches)
        if len(batches) > 1:
            omega["2.bias"].mul_(0.5)
        return omega

    return wrong


def touched(estimate):
    def changes(model, batches):
        omega = estimate(model, batches)
        model.eval_cache = 1
        return omega

    return changes


def refusing(estimate):
    def refuses(model, batches):
        raise ValueError("no\nsuch network")

    return refuses


@pytest.mark.parametrize(
    ("fault", "expected", "said"),
    [
        (halved, "wrong", "last batch of one: 2.bias is off by 5.0e-01"),
        (touched, "untrue", "as they are: module '' has another mode or other attributes"),
        (refusing, "refused", "as they are: ValueError: no"),
    ],
)
def test_a_fault_is_seen(monkeypatch, fault, expected, said):
    monkeypatch.setattr(measuring, "_cost", lambda *arguments: None)
    monkeypatch.setattr(measuring, "estimate_importance", fault(measuring.estimate_importance))
    row = measure(Case("idioms", "linear", linear))
    assert verdict(row) == expected
    assert said in remark(row)


def test_a_network_that_cannot_be_built_is_a_row():
    row = measure(Case("idioms", "none", lambda: 1 / 0))
    assert verdict(row) == "refused"
    assert "the network itself: ZeroDivisionError" in remark(row)


def test_a_run_goes_on_and_names_what_is_wrong_first(tmp_path, monkeypatch):
    measured = []

    def some():
        for name in ("right", "other"):
            yield Case("idioms", name, linear)

    def noting(case):
        measured.append(case.name)
        if case.name == "other":
            monkeypatch.setattr(measuring, "estimate_importance", refusing(None))
        return measure(case)

    monkeypatch.setitem(SOURCES, "idioms", some)
    monkeypatch.setattr("benchmarks.exactness.command.measure", noting)
    run(tmp_path, ["idioms"], ["right"])
    summary = run(tmp_path, ["idioms"])
    assert measured == ["right", "other"]
    assert summary.startswith("2 networks: 1 refused, 1 ")
    table = pd.read_csv(tmp_path / "table.csv")
    assert list(table["network"]) == ["other", "right"]
    assert "| other (idioms) | refused |" in (tmp_path / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sources", "networks", "said"),
    [(["tensorflow"], [], "'tensorflow'. There are: torch"), (["idioms"], ["x"], "called 'x'")],
)
def test_unknown_names(tmp_path, sources, networks, said):
    with pytest.raises(ValueError, match=said):
        run(tmp_path, sources, networks)
