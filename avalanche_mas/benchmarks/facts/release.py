"""6DS as it was read: facts and pictures, the same whichever release they come from.

6DS (M. Elhoseiny et al., *Sherlock: Scalable Fact Learning in Images*, AAAI 2017) joins six data
sets of photographs: INTERACT, PASCAL VOC 2012 actions, Sports, Visual Phrases, PPMI, Stanford 40.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avalanche_mas.benchmarks.facts.fact import Fact

STREAMS = ("train", "test")

EXPECTED_FACTS = 186
# Two numbers of images are in print. Both say that half of them are for training.
EXPECTED_IMAGES = {"the paper": 28_624, "the code that came with it": 28_050}


class FactImage(NamedTuple):
    """A picture, and the number of the fact that it shows: its position in ``Release.facts``."""

    path: Path
    fact: int


@dataclass(frozen=True)
class Release:
    """The contents of one copy of 6DS.

    :param root: its folder.
    :param facts: facts by number. One with the same words may be there under several numbers, as
        the sources of the pictures were labelled independently.
    :param images: the pictures of the streams ``train`` and ``test``.
    :param features: (number of facts, 3d), the embeddings that the release itself has, from which
        their mean is subtracted already; None if they were not asked for.
    :param splits: ``random-4`` and ``semantic-4``, if the release has them: the numbers of the
        facts of each task.
    :param has_words: whether the units of facts are words, or made up from numbers.
    """

    root: Path
    facts: tuple[Fact, ...]
    images: Mapping[str, tuple[FactImage, ...]]
    features: NDArray[np.float32] | None = None
    splits: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    has_words: bool = True

    def numbers(self, facts: Iterable[Fact]) -> tuple[int, ...]:
        """Find the numbers of facts: all those with the same words.

        :param facts: facts, or such as have the same words.
        :return: their positions among this release's facts, in ascending order.
        :raises ValueError: if one of the facts is not there.
        """
        wanted = set(facts)
        lacking = wanted - set(self.facts)
        if lacking:
            raise ValueError(
                f"6DS in {self.root} has no fact {', '.join(sorted(map(str, lacking)))}: choose "
                "from the attribute facts"
            )
        return tuple(number for number, fact in enumerate(self.facts) if fact in wanted)

    def account(self) -> str:
        """Say in a few lines what was found, beside what is expected.

        :return: text of several lines.
        """
        kinds = Counter(fact.kind for fact in self.facts)
        count = {name: len(self.images[name]) for name in STREAMS}
        total = sum(count.values())
        found = ", ".join(f"{n} <{kind}>" for kind, n in sorted(kinds.items()))
        lines = [
            f"6DS in {self.root}",
            f"facts: {len(self.facts)} found ({found}), {EXPECTED_FACTS} expected",
            f"images: {total:,} found ({count['train']:,} for training, {count['test']:,} for "
            "tests)",
        ]
        for source, expected in EXPECTED_IMAGES.items():
            verdict = "as found" if total == expected else f"{total - expected:+,} found"
            lines.append(f"  {source}: {expected:,} ({expected // 2:,} each): {verdict}")
        if len(set(self.facts)) < len(self.facts):
            lines.append(f"{len(self.facts) - len(set(self.facts))} facts repeat another's words")
        shown = {image.fact for name in STREAMS for image in self.images[name]}
        if len(shown) < len(self.facts):
            lines.append(f"{len(self.facts) - len(shown)} facts have no image")
        published = ", ".join(sorted(self.splits)) or "none"
        return "\n".join([*lines, f"published splits: {published}"])


def find_images(folders: Sequence[Path], links: Iterable[tuple[str, int]]) -> tuple[FactImage, ...]:
    """Find the files that links of a release mean.

    Some pictures have another format than their links say (``.png`` for ``.jpg``), and some links
    stand in quotes.

    :param folders: where links may start from, the first that has the file counts.
    :param links: paths of pictures, and the numbers of their facts.
    :raises FileNotFoundError: with the first names and the number of those that are not there.
    """
    listed: dict[Path, set[str]] = {}

    def is_there(path: Path) -> bool:
        # one listing of a folder instead of a question for each of 28,000 files
        if path.parent not in listed:
            listed[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
        return path.name in listed[path.parent]

    found, missing = [], []
    for link, fact in links:
        relative = Path(link.replace("'", "").replace("\\", "/"))
        candidates = [folder / relative for folder in folders]
        candidates += [path.with_suffix(".png") for path in candidates]
        there = next((path for path in candidates if is_there(path)), None)
        if there is None:
            missing.append(candidates[0])
        else:
            found.append(FactImage(there, fact))
    if missing:
        some = ", ".join(map(str, missing[:3]))
        raise FileNotFoundError(
            f"{len(missing):,} images are listed but not there, such as {some}. Unpack the "
            "release's pictures, test and train, into that folder again."
        )
    return tuple(found)
