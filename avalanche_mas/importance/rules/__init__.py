"""One closed form of the per-sample gradient for each family of torch operations.

A rule is registered for torch functions and says how the gradient δ at the operation's output
becomes the per-sample gradients of its parameters::

    @rule(torch.nn.functional.linear)
    def linear(call, input, weight, bias=None):
        x = call.samples(input)                      # (B, ..., i), the samples in front
        def gradients(delta):                        # (B, ..., o)
            yield weight, Outer(delta.flatten(1, -2), x.flatten(1, -2))
            yield bias, Dense(delta.flatten(1, -2).sum(1))
        return gradients

Whether δ comes from the whole network (:mod:`~avalanche_mas.importance.engines.exact`) or from the
layer alone (:mod:`~avalanche_mas.importance.engines.local`) is no concern of the rule. An operation
without a rule, or whose rule raises :class:`NoRule`, is vectorised over samples instead.
"""

from avalanche_mas.importance.rules import attention, conv, embedding, linear, norm, recurrent
from avalanche_mas.importance.rules.per_sample import Dense, Outer, PerSample
from avalanche_mas.importance.rules.registry import (
    Call,
    Gradients,
    NoRule,
    decomposition,
    find_rule,
    rule,
)

__all__ = [
    "Call",
    "Dense",
    "Gradients",
    "NoRule",
    "Outer",
    "PerSample",
    "attention",
    "conv",
    "decomposition",
    "embedding",
    "find_rule",
    "linear",
    "norm",
    "recurrent",
    "rule",
]
