import pytest
import torch
from avalanche.models import SimpleMLP
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, LwFPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive

from avalanche_mas import MASPlugin
from avalanche_mas.benchmarks import permuted_digits
from avalanche_mas.evaluation import method_memory


def strategy_with(*plugins):
    model = SimpleMLP(input_size=64, hidden_size=20, drop_rate=0.0)
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=64,
        eval_mb_size=100,
        plugins=list(plugins),
        evaluator=EvaluationPlugin(loggers=[]),
    )


def model_bytes(strategy):
    return sum(parameter.nbytes for parameter in strategy.model.parameters())


class Keeper(SupervisedPlugin):
    """A plugin that keeps what it is given."""

    def __init__(self, **things):
        super().__init__()
        self.__dict__.update(things)


class Slotted:
    __slots__ = ("tensor",)

    def __init__(self, tensor):
        self.tensor = tensor


def test_tensors_are_found_wherever_they_are():
    layer = torch.nn.Linear(3, 2)
    layer.weight.grad = torch.zeros(2, 3)
    strategy = strategy_with(
        Keeper(
            tensor=torch.zeros(10),
            nested={"a": [(torch.zeros(5, dtype=torch.float64),)]},
            layer=layer,
            slotted=Slotted(torch.zeros(1)),
            keys={torch.zeros(2): None},
        )
    )
    assert method_memory(strategy) == 10 * 4 + 5 * 8 + (6 + 2 + 6) * 4 + 4 + 2 * 4


def test_a_storage_counts_once_and_whole():
    whole = torch.zeros(100)
    ring: list[object] = [whole[3:5], whole.view(10, 10), whole]
    ring.append(ring)
    assert method_memory(strategy_with(Keeper(ring=ring), Keeper(again=whole))) == 400


def test_what_the_model_owns_is_not_the_methods():
    keeper = Keeper()
    strategy = strategy_with(keeper)
    keeper.model, keeper.strategy = strategy.model, strategy
    keeper.views = [p.detach().flatten() for p in strategy.model.parameters()]
    strategy.train(permuted_digits(1).train_stream)  # momentum and gradients exist from here on
    keeper.optimizer = strategy.optimizer
    assert method_memory(strategy) == 0
    keeper.copy = strategy.model.classifier.bias.detach().clone()
    assert method_memory(strategy) == 10 * 4


@pytest.mark.parametrize(
    ("plugin", "models"),
    [(EWCPlugin(1.0), 2 * 3), (LwFPlugin(), 1)],  # EWC: Fisher and anchor for every experience
)
def test_known_methods(plugin, models):
    strategy = strategy_with(plugin)
    strategy.train(permuted_digits(3).train_stream)
    assert method_memory(strategy) == models * model_bytes(strategy)


def test_mas_does_not_grow_with_the_number_of_experiences():
    strategy = strategy_with(MASPlugin())
    sizes = []
    for experience in permuted_digits(3).train_stream:
        strategy.train(experience)
        sizes.append(method_memory(strategy))
    assert sizes[0] >= 2 * model_bytes(strategy)  # Ω and θ* at least
    assert sizes == [sizes[0]] * 3
