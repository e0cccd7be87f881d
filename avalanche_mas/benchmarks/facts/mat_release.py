"""The MATLAB release of 6DS: ``train_data.mat``, ``test_data.mat`` and the pictures.

The release came with *Sherlock: Scalable Fact Learning in Images* (M. Elhoseiny et al., AAAI 2017),
as ``6DS_dataset.zip``. Each file holds one struct of its name with the fields ``im_names``,
``tuple_ids``, ``unique_tuple_ids``, ``unique_tuple_features`` (N × 900) and
``unique_tuple_features_mean``. A tuple is a fact. The words are not in it: a unit that is missing
is known by its block of zeros, from which the mean is subtracted.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.benchmarks.facts.release import STREAMS, Release, find_images

_FIELDS = (
    "im_names",
    "tuple_ids",
    "unique_tuple_ids",
    "unique_tuple_features",
    "unique_tuple_features_mean",
)


def read_mat_release(root: str | Path) -> Release:
    """Read the two files; the pictures stay on disk.

    Units are called by the number of their fact, as in ``<subject 17, predicate 17, *>``. The mean
    subtracted from embeddings is that of the training file, in both streams.

    :param root: the unpacked folder ``6DS_dataset``.
    :return: facts, pictures and embeddings.
    :raises FileNotFoundError: if a file or pictures are missing.
    :raises ValueError: if a file has another format, lacks a field or contradicts itself.
    """
    root = Path(root)
    parts = {name: _read(root / f"{name}_data.mat") for name in STREAMS}
    raw = {**parts["test"].raw(), **parts["train"].raw()}
    identities = sorted(raw)
    number = {identity: position for position, identity in enumerate(identities)}
    images = {
        name: find_images(
            [root], zip(part.image_names, [number[i] for i in part.of_images.tolist()], strict=True)
        )
        for name, part in parts.items()
    }
    features = np.stack([raw[identity] for identity in identities]) - parts["train"].mean
    facts = tuple(_fact(identity, raw[identity], root) for identity in identities)
    return Release(root, facts, images, features.astype(np.float32), has_words=False)


class _Part(NamedTuple):
    """What one file holds."""

    image_names: list[str]
    of_images: NDArray[Any]  # the fact of each picture
    identities: NDArray[Any]
    features: NDArray[np.float64]
    mean: NDArray[np.float64]

    def raw(self) -> dict[int, NDArray[np.float64]]:
        """Embeddings by fact, before their mean was subtracted."""
        rows = self.features + self.mean
        return {int(identity): row for identity, row in zip(self.identities, rows, strict=True)}


def _read(path: Path) -> _Part:
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: give the unpacked folder 6DS_dataset")
    try:
        variables = loadmat(path, squeeze_me=True)
    except NotImplementedError as error:
        raise ValueError(
            f"{path} is a MATLAB file of version 7.3: open it in MATLAB and save it with '-v7'"
        ) from error
    except Exception as error:
        raise ValueError(f"{path} is not a MATLAB file that can be read: {error}") from error
    struct = variables.get(path.stem)
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if names is None:
        there = ", ".join(name for name in variables if not name.startswith("__"))
        raise ValueError(f"{path} has no struct {path.stem}; it has {there}")
    lacking = [name for name in _FIELDS if name not in names]
    if lacking:
        raise ValueError(f"{path}: {path.stem} has no field {', '.join(lacking)}")
    assert struct is not None
    image_names, of_images, identities, features, mean = (
        np.atleast_1d(struct[name].item()) for name in _FIELDS
    )
    part = _Part(
        [str(name) for name in image_names],
        _numbers(path, "tuple_ids", of_images, whole=True).astype(int),
        _numbers(path, "unique_tuple_ids", identities, whole=True).astype(int),
        np.atleast_2d(_numbers(path, "unique_tuple_features", features)),
        _numbers(path, "unique_tuple_features_mean", mean),
    )
    _check(path, part)
    return part


def _numbers(path: Path, name: str, values: Any, whole: bool = False) -> NDArray[np.float64]:
    """The numbers of a field.

    :param whole: whether they must be whole ones, in a list.
    :raises ValueError: if they are something else, are not finite, or there are none.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name} holds something else than numbers ({error})") from error
    if not numbers.size:
        raise ValueError(f"{path}: {name} is empty")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: {name} has NaN or infinity among its numbers")
    if whole and (numbers.ndim != 1 or (numbers % 1).any()):
        raise ValueError(f"{path}: {name} must be a list of whole numbers")
    return numbers


def _check(path: Path, part: _Part) -> None:
    if len(part.image_names) != len(part.of_images):
        raise ValueError(
            f"{path} has {len(part.image_names)} im_names but {len(part.of_images)} tuple_ids"
        )
    shape = (len(part.identities), len(part.mean))
    if part.features.shape != shape or shape[1] % 3:
        raise ValueError(
            f"{path}: unique_tuple_features is {part.features.shape}, but there are {shape[0]} "
            f"unique_tuple_ids and a mean of {shape[1]} numbers: expected {shape}, three vectors "
            "of the same length"
        )
    unknown = set(part.of_images.tolist()) - set(part.identities.tolist())
    if unknown:
        raise ValueError(f"{path}: tuple {min(unknown)} of an image is not in unique_tuple_ids")


def _fact(identity: int, raw: NDArray[np.float64], root: Path) -> Fact:
    """Name the units whose blocks are not zero."""
    blocks = raw.reshape(3, -1)
    # the mean was added back, in the files' own precision
    there = [not np.allclose(block, 0.0, atol=1e-6) for block in blocks]
    s, p, o = (
        f"{unit} {identity}" if present else None
        for unit, present in zip(("subject", "predicate", "object"), there, strict=True)
    )
    try:
        return Fact(s or "", p, o)
    except ValueError as error:
        raise ValueError(f"{root}: the embedding of tuple {identity}: {error}") from error
