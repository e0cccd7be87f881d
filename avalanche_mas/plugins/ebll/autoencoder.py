"""The undercomplete autoencoder of Encoder Based Lifelong Learning (Rannen et al., ICCV 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import trange


def train_encoder(
    features: Tensor,
    task_loss: Callable[[Tensor, Tensor], Tensor],
    *,
    code_size: int,
    reconstruction: float,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int = 0,
    verbose: bool = False,
) -> nn.Linear:
    r"""Learns which part of a task's features the task needs.

    .. math:: \arg\min_r \; \mathbb E\left[ \tfrac{\lambda}{d} \lVert r(F) - F \rVert^2
        + \ell(T(r(F)), y) \right], \qquad r(F) = W_{dec}\, \sigma(W_{enc} F)

    (section 3 of the paper; biases are not written): one layer of a sigmoid code, a linear
    reconstruction, and the task's own loss through the reconstructed features. Trained with
    Adadelta. Neither the model nor the global random number generator is touched.

    :param features: F of the task's samples, of shape (samples, ...); d numbers for each.
    :param task_loss: (reconstructed features, indices of their samples) → ℓ, 0-d.
    :param code_size: outputs of the encoder.
    :param reconstruction: λ, the weight of the mean squared error of a feature.
    :param epochs: how often all samples are used.
    :param lr: Adadelta's learning rate.
    :param batch_size: samples per step.
    :param seed: of the initial weights and the order of the samples.
    :param verbose: show a progress bar.
    :return: the encoder, without the sigmoid.
    :raises ValueError: if the code is not smaller than the features.
    """
    flat = features.flatten(1)
    if not 0 < code_size < flat.shape[1]:
        raise ValueError(
            f"code_size is {code_size}, but an undercomplete autoencoder of {flat.shape[1]} "
            "features has a code of fewer numbers, and at least one"
        )
    generator = torch.Generator().manual_seed(seed)
    encoder = _linear(flat.shape[1], code_size, flat, generator)
    decoder = _linear(code_size, flat.shape[1], flat, generator)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adadelta(parameters, lr=lr)
    for _ in trange(epochs, desc="autoencoder", disable=not verbose):
        order = torch.randperm(len(flat), generator=generator).to(flat.device)
        for rows in torch.split(order, batch_size):
            rebuilt = decoder(torch.sigmoid(encoder(flat[rows])))
            error = (rebuilt - flat[rows]).square().mean()
            loss = reconstruction * error + task_loss(rebuilt.view_as(features[rows]), rows)
            # Not backward(), which would write into the gradients of the model's classifier.
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    encoder.requires_grad_(False)
    encoder.zero_grad()
    return encoder


def _linear(inputs: int, outputs: int, like: Tensor, generator: torch.Generator) -> nn.Linear:
    """A layer whose initial weights come from its own generator, the same on every device."""
    layer = nn.Linear(inputs, outputs, device="meta", dtype=like.dtype).to_empty(device="cpu")
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer.to(like.device)
