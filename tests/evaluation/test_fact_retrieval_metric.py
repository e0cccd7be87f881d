import io

import dill
import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute
from avalanche.logging import CSVLogger, TensorboardLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import TensorDataset

from avalanche_mas.evaluation import FactRetrievalMAP, fact_retrieval_map
from avalanche_mas.models import FactLoss

D = 2  # numbers per unit


SHOWN = [0, 0, 1], [2, 2, 3, 1]


def fact_stream(duplicate=False, numbered=False):
    """Two experiences whose images show the facts SHOWN."""
    facts, masks = torch.randn(4, 3, D), torch.ones(4, 3)
    masks[0, 1:] = 0
    facts[2, 0] = facts[0, 0]  # <0, *, *> would find images of the other experience, if it asked
    if duplicate:
        facts[3] = facts[2]
    facts = (facts * masks[:, :, None]).flatten(1)
    data = []
    for shown in SHOWN:
        x = facts[shown] + torch.randn(len(shown), 3 * D)
        y = torch.cat([facts[shown], masks[shown]], 1)
        attributes = [DataAttribute(shown, "fact_numbers")] if numbered else []
        data.append(AvalancheDataset([TensorDataset(x, y)], data_attributes=attributes))
    return benchmark_from_datasets(train=data, test=data), facts, masks


def strategy_with(*metrics, loggers=(), model=None):
    model = model or torch.nn.Linear(3 * D, 3 * D)
    parameters = list(model.parameters()) or [torch.zeros(1)]
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(parameters, lr=0.01),
        criterion=FactLoss(),
        train_mb_size=2,
        eval_mb_size=2,
        evaluator=EvaluationPlugin(*metrics, loggers=list(loggers)),
    )


def images(benchmark):
    """The images of each experience, in order."""
    parts = [experience.dataset for experience in benchmark.test_stream]
    return [torch.stack([sample[0] for sample in part]) for part in parts]


@pytest.mark.parametrize("k", [None, 1])
@pytest.mark.parametrize("variant", ["full", "merged", "present"])
def test_the_metric_in_avalanche(variant, k):
    benchmark, facts, masks = fact_stream()
    strategy = strategy_with(FactRetrievalMAP(variant, k))
    strategy.train(benchmark.train_stream)
    values = strategy.eval(benchmark.test_stream)
    name = f"Retrieval_mAP{'_at_1' if k else ''}_{variant}"

    def expected(*numbers):
        x = torch.cat([images(benchmark)[number] for number in numbers])
        shown = torch.tensor([fact for number in numbers for fact in SHOWN[number]])
        asking, shown = torch.unique(shown, return_inverse=True)
        options = {"masks": masks[asking], "variant": variant, "k": k}
        return fact_retrieval_map(strategy.model(x), facts[asking], shown, **options)

    assert values == {
        f"{name}_Exp/eval_phase/test_stream/Exp000": expected(0),
        f"{name}_Exp/eval_phase/test_stream/Exp001": expected(1),
        f"{name}_Stream/eval_phase/test_stream": expected(0, 1),
    }
    assert len(set(values.values())) > 1


def test_avalanches_loggers_take_it(tmp_path):
    benchmark, _, _ = fact_stream()
    text = io.StringIO()
    tensorboard = TensorboardLogger(tmp_path / "tensorboard")
    loggers = [TextLogger(text), CSVLogger(tmp_path / "csv"), tensorboard]
    strategy = strategy_with(FactRetrievalMAP(k=100), loggers=loggers)
    strategy.train(benchmark.train_stream)
    values = strategy.eval(benchmark.test_stream)
    tensorboard.writer.flush()
    written = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name, value in values.items():
        assert f"{name} = {value:.4f}" in text.getvalue()
        assert written.Scalars(name)[-1].value == pytest.approx(value)
    rows = (tmp_path / "csv" / "eval_results.csv").read_text().splitlines()
    assert len(rows) == 1 + len(benchmark.test_stream)
    assert strategy.evaluator.get_all_metrics().keys() >= values.keys()


def test_facts_with_the_same_embedding_are_told_apart_by_number():
    def evaluate(variant, numbered):
        torch.manual_seed(1)
        benchmark, facts, _ = fact_stream(duplicate=True, numbered=numbered)
        strategy = strategy_with(FactRetrievalMAP(variant), model=torch.nn.Identity())
        value = strategy.eval(benchmark.test_stream)
        x, shown = torch.cat(images(benchmark)), torch.tensor(SHOWN[0] + SHOWN[1])
        expected = {v: fact_retrieval_map(x, facts, shown, variant=v) for v in ("full", "merged")}
        assert expected["full"] != expected["merged"]
        return value[f"Retrieval_mAP_{variant}_Stream/eval_phase/test_stream"], expected

    for variant in ("full", "merged"):
        value, expected = evaluate(variant, numbered=True)
        assert value == expected[variant]
        value, expected = evaluate(variant, numbered=False)
        assert value == expected["merged"]


def test_a_number_names_one_fact():
    numbers = [DataAttribute([0, 0], "fact_numbers")]
    x, y = torch.zeros(2, 6), torch.arange(18.0).view(2, 9)
    data = AvalancheDataset([TensorDataset(x, y)], data_attributes=numbers)
    strategy = strategy_with(FactRetrievalMAP())
    with pytest.raises(ValueError, match="fact 0 has different targets"):
        strategy.eval(benchmark_from_datasets(test=[data]).test_stream)


def test_targets_that_are_no_facts_are_refused():
    data = AvalancheDataset([TensorDataset(torch.zeros(2, 6), torch.zeros(2, 6))])
    strategy = strategy_with(FactRetrievalMAP())
    strategy._criterion = torch.nn.MSELoss()
    with pytest.raises(ValueError, match=r"targets of shape \(batch, 3 d \+ 3\), got \(2, 6\)"):
        strategy.eval(benchmark_from_datasets(test=[data]).test_stream)


def test_checkpoints_do_not_hold_the_images():
    benchmark, _, _ = fact_stream()
    metric = FactRetrievalMAP()
    empty = len(dill.dumps(metric))
    strategy = strategy_with(metric)
    strategy.eval(benchmark.test_stream)
    first = strategy.eval(benchmark.test_stream)
    assert len(dill.dumps(metric)) == empty
    assert strategy.eval(benchmark.test_stream) == first  # nothing is left from before
    assert np.isnan(metric.result())
