"""A network for a CPU and for images of about 64 × 64 pixels."""

from torch import nn

FEATURES = 128
"""How many features :func:`small_trunk` returns."""


def small_trunk() -> nn.Sequential:
    """Three convolutions and a fully connected layer, as AlexNet without its width.

    There is no normalisation and no dropout. A batch of 32 images of 64 × 64 pixels takes one core
    of a CPU some 15 ms, forward and backward.

    :return: images (B, 3, H, W), H and W at least 16, → features (B, 128).
    """
    return nn.Sequential(
        nn.Conv2d(3, 16, kernel_size=5, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, FEATURES),
        nn.ReLU(),
    )
