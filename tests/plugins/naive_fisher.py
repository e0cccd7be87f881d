"""The Fisher information written down naively, with nothing of the package in it."""

import torch

KINDS = ["expected", "sampled", "empirical"]


def naive_fisher(model, samples, forward=lambda model, x: model(x)):
    """(1/N) Σ_k Σ_y weight(y) (∂ log p(y|x_k)/∂θ)², one sample and one class at a time.

    :param samples: of (x_k, function p → weight of each class).
    """
    was_training = model.training
    model.eval()
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters() if p.requires_grad}
    parameters = {n: p for n, p in model.named_parameters() if n in total}
    for x, weigh in samples:
        p = torch.softmax(forward(model, x[None])[0], 0)
        for share, probability in zip(weigh(p.detach()), p, strict=True):
            if share == 0:
                continue
            gradients = torch.autograd.grad(
                probability.log(), list(parameters.values()), retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += share * gradient**2 / len(samples)
    model.train(was_training)
    return total


def draw(p, u):
    """The class in whose part of [0, 1) the number u falls."""
    for c, probability in enumerate(p.tolist()):
        u -= probability
        if u < 0:
            return c
    raise AssertionError("p does not add up to 1")


def weighing(kind, labels, seed=0):
    """For each sample, the weight of each class as a function of p."""
    if kind == "expected":
        return [lambda p: p] * len(labels)
    if kind == "empirical":
        return [lambda p, y=y: torch.eye(len(p))[y] for y in labels]
    numbers = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(labels), generator=numbers, dtype=torch.float32)
    return [lambda p, u=u: torch.eye(len(p))[draw(p, u)] for u in uniform.tolist()]
