"""Fact learning (section 5.3 of the paper): pictures of facts, one group of facts after another.

There are no classes and no task labels: a network maps a picture to the embedding of its fact, and
all of its layers are shared. A sample is ``(x, y)``, where y has 3d + 3 numbers: the embedding's
blocks of subject, predicate and object, then their masks w_s, w_p and w_o.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from avalanche.benchmarks import CLScenario
from avalanche.benchmarks.scenarios import DatasetExperience, EagerCLStream
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, make_avalanche_dataset
from avalanche.benchmarks.utils.transform_groups import TransformGroups
from numpy.typing import NDArray
from torchvision import transforms

from avalanche_mas.benchmarks.facts.csv_release import read_csv_release
from avalanche_mas.benchmarks.facts.dataset import FactDataset, fact_targets
from avalanche_mas.benchmarks.facts.fact import Fact
from avalanche_mas.benchmarks.facts.mat_release import read_mat_release
from avalanche_mas.benchmarks.facts.release import STREAMS, Release
from avalanche_mas.benchmarks.facts.splits import Task, cluster_split, random_split, starting_with
from avalanche_mas.benchmarks.facts.word_vectors import (
    SYNONYMS,
    WordVectors,
    embed_facts,
    load_word_vectors,
)
from avalanche_mas.benchmarks.sequence import Transform
from avalanche_mas.benchmarks.transforms import from_image

SPLITS = ("random-2", "random-4", "semantic-4", "clusters-4")


class FactExperience(DatasetExperience[Any]):  # type: ignore[misc]
    """Pictures of some of the facts.

    :param dataset: samples ``(x, y)``.
    :param index: its position in the stream.
    :param numbers: the numbers of its facts.
    :param facts: those facts.
    """

    def __init__(
        self, dataset: AvalancheDataset[Any], index: int, numbers: Task, facts: tuple[Fact, ...]
    ) -> None:
        super().__init__(dataset=dataset, current_experience=index)
        self.fact_numbers = numbers
        self.facts = facts


class FactBenchmark(CLScenario[EagerCLStream[FactExperience]]):  # type: ignore[misc]
    """The streams ``train`` and ``test``, whose experiences have the same facts.

    :param release: facts and pictures.
    :param embeddings: (number of facts, 3d).
    :param tasks: the numbers of the facts of each experience.
    :param train_transform: of a PIL image, for training.
    :param eval_transform: of a PIL image, for tests and for measuring importance.
    """

    def __init__(
        self,
        release: Release,
        embeddings: NDArray[np.float32],
        tasks: Sequence[Task],
        train_transform: Transform | None,
        eval_transform: Transform | None,
    ) -> None:
        self.release = release
        self.facts = release.facts
        self.targets = fact_targets(release.facts, embeddings)
        self.tasks = tuple(tasks)
        self._transforms = train_transform, eval_transform
        streams = [
            EagerCLStream(
                name, [self._experience(name, i) for i in range(len(tasks))], benchmark=self
            )
            for name in STREAMS
        ]
        super().__init__(streams)

    @property
    def embeddings(self) -> Any:
        """(number of facts, 3d), a float32 tensor: the embeddings of the facts, by number."""
        return self.targets[:, :-3]

    def subset(self, facts: Iterable[Fact], stream: str = "train") -> AvalancheDataset[Any]:
        """Select the pictures of some facts, as data to adapt to (section 5.4 of the paper).

        ``MASPlugin(streams=lambda experience: benchmark.subset(facts))`` measures importance on
        them instead of on the whole experience.

        :param facts: facts of the benchmark, whichever experience they belong to.
        :param stream: ``"train"`` or ``"test"``.
        :return: samples ``(x, y)``, with evaluation transforms.
        :raises ValueError: if a fact or the stream is not there, or has no picture.
        """
        numbers = self.release.numbers(facts)
        if stream not in STREAMS:
            raise ValueError(f"stream is {stream!r}: give one of {', '.join(STREAMS)}")
        dataset = self._dataset(stream, numbers)
        if not len(dataset):
            raise ValueError(f"no picture of the stream {stream} shows one of these facts")
        return dataset.eval()

    def _dataset(self, stream: str, numbers: Iterable[int]) -> AvalancheDataset[Any]:
        """Select pictures, with the attribute ``fact_numbers``: the number of each one's fact."""
        wanted = set(numbers)
        images = [image for image in self.release.images[stream] if image.fact in wanted]
        train, test = self._transforms
        groups = {"train": (train if stream == "train" else test, None), "eval": (test, None)}
        return make_avalanche_dataset(
            FactDataset(images, self.targets),
            data_attributes=[DataAttribute([image.fact for image in images], "fact_numbers")],
            transform_groups=TransformGroups(groups),
        )

    def _experience(self, stream: str, index: int) -> FactExperience:
        numbers = self.tasks[index]
        dataset = self._dataset(stream, numbers)
        if not len(dataset):
            raise ValueError(
                f"experience {index} of the stream {stream} has no picture: take fewer tasks, or "
                "another seed"
            )
        return FactExperience(dataset, index, numbers, tuple(self.facts[n] for n in numbers))


def fact_learning(
    root: str | Path,
    vectors: str | Path | WordVectors | None = None,
    split: str = "random-4",
    seed: int | None = None,
    *,
    first: Iterable[Fact] = (),
    subtract_mean: bool = True,
    synonyms: Mapping[str, str] = SYNONYMS,
    size: int = 224,
    train_transform: Transform | None = None,
    eval_transform: Transform | None = None,
) -> FactBenchmark:
    """Make a benchmark of 6DS, or of its miniature.

    :param root: the folder of either release, see :func:`read_release`.
    :param vectors: a file of word vectors, what :func:`load_word_vectors` made of one, or a
        dictionary. With None facts have the embeddings that the release itself has.
    :param split: which facts are learned together: ``"random-2"`` (Table 3) and ``"random-4"``
        (Table 4) are drawn, ``"clusters-4"`` (Figure 7) groups facts by their embeddings,
        ``"semantic-4"`` is published with the PyTorch release.
    :param seed: draws the tasks. With None they are those of the release if it has this split, and
        drawn with seed 0 otherwise.
    :param first: the task that has most of these facts comes first.
    :param subtract_mean: subtract the mean embedding; only for ``vectors``, as it is subtracted
        already from the release's own.
    :param synonyms: what to look up for units and words that ``vectors`` lacks.
    :param size: the side of the square pictures for the network, in pixels.
    :param train_transform: of a PIL image; by default a random part of the picture, or its mirror
        image, normalised as for torchvision's networks.
    :param eval_transform: of a PIL image; by default its middle, normalised likewise.
    :return: a benchmark with the streams ``train`` and ``test``.
    :raises FileNotFoundError: if files are missing.
    :raises ValueError: if the release is malformed or cannot be split in this way, or lacks one of
        the facts ``first``.
    :raises UnknownWordsError: with all words that have no vector.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}: give one of {', '.join(SPLITS)}")
    release = read_release(root, features=vectors is None)
    embeddings = _embeddings(release, vectors, subtract_mean, synonyms)
    tasks = _tasks(release, embeddings, split, seed)
    leading = tuple(first)
    if leading:
        tasks = starting_with(tasks, release.numbers(leading))
    train, test = fact_transforms(size)
    return FactBenchmark(
        release, embeddings, tasks, train_transform or train, eval_transform or test
    )


def read_release(root: str | Path, features: bool = True) -> Release:
    """Read 6DS in whichever release it is.

    :param root: ``mid_scale`` of the PyTorch release (with ``splits``), or ``6DS_dataset`` of the
        MATLAB release (with ``train_data.mat``).
    :param features: whether the release's own embeddings are wanted.
    :raises FileNotFoundError: if files are missing.
    :raises ValueError: if a file is malformed.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: give the one that 6DS is unpacked in")
    if any((root / f"{name}_data.mat").exists() for name in STREAMS):
        return read_mat_release(root)
    return read_csv_release(root, features)


def fact_transforms(size: int = 224, least: float = 0.08) -> tuple[Transform, Transform]:
    """Make the transforms of the authors' code, for training and for tests.

    Both resize the shorter side to 8/7 of ``size`` (256 for 224). For training follow a random
    part of the picture, scaled to ``size``, and a mirror image half of the time; for tests its
    middle. Colours are normalised by ImageNet's mean and standard deviation.

    :param size: the side of what comes out, in pixels.
    :param least: the least share of the picture's area that a random part has. The authors' 0.08
        often leaves nothing of a small thing that makes a fact; take 0.6 for the miniature.
    """
    resize = round(size * 8 / 7)
    part = transforms.RandomResizedCrop(size, scale=(least, 1.0))
    train = from_image(resize, part, transforms.RandomHorizontalFlip())
    return train, from_image(resize, transforms.CenterCrop(size))


def _embeddings(
    release: Release,
    vectors: str | Path | WordVectors | None,
    subtract_mean: bool,
    synonyms: Mapping[str, str],
) -> NDArray[np.float32]:
    if vectors is None:
        assert release.features is not None
        return release.features
    if not release.has_words:
        raise ValueError(
            f"{release.root} is the MATLAB release, which has embeddings but no words to look up: "
            "leave vectors out"
        )
    if isinstance(vectors, (str, Path)):
        vectors = load_word_vectors(vectors)
    return embed_facts(release.facts, vectors, subtract_mean=subtract_mean, synonyms=synonyms)


def _tasks(
    release: Release, embeddings: NDArray[np.float32], split: str, seed: int | None
) -> list[Task]:
    kind, count = split.split("-")
    if split in release.splits and (seed is None or kind == "semantic"):
        return list(release.splits[split])
    if kind == "semantic":
        raise ValueError(
            f"the split {split!r} is published with the PyTorch release of 6DS, in "
            f"splits/4tasks_semantic, and {release.root} lacks it: take 'clusters-4', which groups "
            "facts by their embeddings"
        )
    if kind == "clusters":
        return cluster_split(embeddings, int(count), seed or 0)
    return random_split(len(release.facts), int(count), seed or 0)
