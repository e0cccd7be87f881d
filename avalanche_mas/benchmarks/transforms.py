"""An image → the input of a network that was trained on ImageNet."""

from torchvision import transforms

from avalanche_mas.benchmarks.sequence import Transform


def from_image(resize: int, *steps: Transform) -> Transform:
    """Compose the transform of a PIL image.

    :param resize: what its shorter side is scaled to, in pixels.
    :param steps: what follows: a crop, for example.
    :return: image → tensor (3, H, W), normalised by ImageNet's mean and standard deviation.
    """
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    composed: Transform = transforms.Compose(
        [transforms.Resize(resize), *steps, transforms.ToTensor(), normalise]
    )
    return composed
