"""What MAS does while it trains, for TensorBoard and for Weights & Biases, here without a network.

To look at it: ``tensorboard --logdir results/logs``. To send it: ``wandb sync`` with the folder
``results/logs/wandb/offline-run-...``.
"""

import os

from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.logging import TensorboardLogger, WandBLogger
from avalanche.models import SimpleMLP, as_multitask
from avalanche.training import Naive
from avalanche.training.plugins import EvaluationPlugin
from torch.optim import SGD

from avalanche_mas import MASPlugin
from avalanche_mas.benchmarks import split_digits
from avalanche_mas.evaluation import FreeParameters, MethodMemory, PenaltyShares, PenaltyValue

fast = "FAST_EXAMPLES" in os.environ
os.environ.setdefault("WANDB_MODE", "offline")  # leave this out to watch the run as it goes

os.makedirs("results/logs", exist_ok=True)
benchmark = split_digits(2 if fast else 5)
model = as_multitask(SimpleMLP(num_classes=2, input_size=64, hidden_size=100), "classifier")
wandb = WandBLogger(project_name="mas", run_name="split digits", dir="results/logs")
strategy = Naive(
    model=model,
    optimizer=SGD(model.parameters(), lr=0.05, momentum=0.9),
    train_mb_size=32,
    train_epochs=1 if fast else 5,
    plugins=[MASPlugin()],
    evaluator=EvaluationPlugin(
        accuracy_metrics(epoch=True, experience=True, stream=True),
        forgetting_metrics(experience=True),
        PenaltyValue(),
        PenaltyShares(),
        FreeParameters(),
        MethodMemory(),
        loggers=[TensorboardLogger("results/logs"), wandb],
    ),
)
for experience in benchmark.train_stream:
    strategy.train(experience)
    strategy.eval(benchmark.test_stream)
wandb.wandb.finish()
