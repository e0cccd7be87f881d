import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch.utils.data import TensorDataset
from torchvision.models import vgg16

from avalanche_mas import LocalMASPlugin, MASPlugin, estimate_importance
from avalanche_mas.evaluation import FactRetrievalMAP
from avalanche_mas.models import FactLoss, fact_small, fact_vgg16


@pytest.mark.parametrize("fork", ["fc7", "pool3"])
def test_vgg16_has_the_published_shape(fork):
    with torch.device("meta"):  # shapes without numbers: 138 or 270 million of them
        network, vgg = fact_vgg16(fork=fork), vgg16()
        assert network(torch.empty(2, 3, 224, 224)).shape == (2, 900)
    own, last = (sum(p.numel() for p in m.parameters()) for m in (vgg, vgg.classifier[6]))
    if fork == "fc7":  # one network up to the last layer, then three layers
        assert {name: m.out_features for name, m in network.branches.items()} == {
            "S": 300,
            "P": 300,
            "O": 300,
        }
        shared = own - last
    else:  # shared up to the third pooling, and the rest twice
        trunk = sum(p.numel() for p in vgg.features[:17].parameters())
        assert [m[-1].out_features for m in network.branches.values()] == [300, 600]
        assert sum(p.numel() for p in network.trunk.parameters()) == trunk
        assert isinstance(network.trunk[-1], torch.nn.MaxPool2d)
        shared = trunk + 2 * (own - last - trunk)
    assert sum(p.numel() for p in network.parameters()) == shared + 900 * (4096 + 1)
    dropouts = [m for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert len(dropouts) == (2 if fork == "fc7" else 4)  # as in torchvision's, per branch


def test_vgg16_computes_what_torchvisions_does():
    torch.manual_seed(1)
    network = fact_vgg16(dim=2).eval()
    torch.manual_seed(1)
    vgg = vgg16().eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        output = network(x)
        features = vgg.classifier[:6](vgg.avgpool(vgg.features(x)).flatten(1))
        for unit, block in zip("SPO", output.split(2, dim=1), strict=True):
            last = network.branches[unit]
            assert torch.equal(block, last(features))
            assert torch.equal(last.bias, torch.ones(2))
            assert float(last.weight.std()) == pytest.approx(0.005, rel=0.05)


def test_an_unknown_fork_is_refused():
    with pytest.raises(ValueError, match="'fc7' or 'pool3', got 'fc6'"):
        fact_vgg16(fork="fc6")


def test_importance_is_that_of_the_whole_output():
    """|∂‖F‖²/∂θ| with F all 3d numbers, sample by sample: masks and facts take no part."""
    network, x = fact_small(dim=3), torch.randn(5, 3, 24, 24)
    expected = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for sample in x:
        network.zero_grad()
        network(sample[None]).square().sum().backward()
        for name, parameter in network.named_parameters():
            expected[name] += parameter.grad.abs() / len(x)
    measured = estimate_importance(network, x, batch_size=4)
    assert measured.keys() == expected.keys()
    for name, importance in expected.items():
        torch.testing.assert_close(measured[name], importance, rtol=1e-4, atol=1e-6)


def stream(n_experiences=2, dim=2):
    """Images of one colour, whose fact says which."""
    data = []
    for number in range(n_experiences):
        colours = torch.rand(6, 3, generator=torch.Generator().manual_seed(number))
        x = colours[:, :, None, None].expand(-1, -1, 16, 16) + 0.01 * torch.randn(6, 3, 16, 16)
        masks = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1]]).repeat(2, 1)
        embedding = colours.repeat_interleave(dim, dim=1) * masks.repeat_interleave(dim, dim=1)
        data.append(AvalancheDataset([TensorDataset(x, torch.cat([embedding, masks], 1))]))
    return benchmark_from_datasets(train=data, test=data)


@pytest.mark.parametrize("plugin_type", [MASPlugin, LocalMASPlugin])
def test_facts_are_learnt_without_task_labels(plugin_type):
    benchmark, network, plugin = stream(), fact_small(dim=2), plugin_type(1e9)
    strategy = Naive(
        model=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9),
        criterion=FactLoss(),
        train_mb_size=6,
        train_epochs=30,
        plugins=[plugin],
        evaluator=EvaluationPlugin(FactRetrievalMAP(), loggers=[]),
    )
    first, second = benchmark.train_stream
    x, y = (torch.stack(column) for column in zip(*first.dataset, strict=True))
    name = "Retrieval_mAP_merged_Exp/eval_phase/test_stream/Exp000"
    before, loss = strategy.eval(benchmark.test_stream)[name], FactLoss()(network(x), y)
    strategy.train(first)
    learnt = strategy.eval(benchmark.test_stream)[name]
    assert FactLoss()(network(x), y) < 0.7 * loss
    assert learnt > before
    strategy.train(second)  # with a penalty that nothing can overcome
    assert strategy.eval(benchmark.test_stream)[name] == pytest.approx(learnt, abs=0.1)
    assert plugin.tasks == 2
