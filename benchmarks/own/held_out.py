"""A benchmark whose λ can be chosen: a part of its training samples is held out."""

from __future__ import annotations

from typing import Any

from avalanche.benchmarks import CLExperience, CLScenario, DatasetExperience, EagerCLStream

from avalanche_mas.benchmarks.stratified import stratified

# What models, plugins and metrics look for.
_SAID = (
    "task_name",
    "task_label",
    "task_labels",
    "classes_in_this_experience",
    "previous_classes",
    "classes_seen_so_far",
    "future_classes",
)


class _Part(DatasetExperience):  # type: ignore[misc]
    """Some samples of an experience, which in all else is as it was."""

    def __init__(self, whole: CLExperience, dataset: Any) -> None:
        super().__init__(dataset=dataset, current_experience=whole.current_experience)
        for name in _SAID:
            if hasattr(whole, name):
                setattr(self, name, getattr(whole, name))


def hold_out(benchmark: CLScenario, share: float, seed: int) -> CLScenario:
    """Take samples out of the stream ``train``; they are the stream ``valid``.

    Avalanche's ``benchmark_with_validation_stream`` forgets task labels and classes.

    :param benchmark: what to learn. One that has such a stream stays as it is.
    :param share: how much of each experience, and of each class, where there are classes.
    :param seed: draws the samples.
    :raises ValueError: if an experience has too few samples.
    """
    if "valid" in benchmark.streams:
        return benchmark
    parts: dict[str, list[_Part]] = {"train": [], "valid": []}
    for experience in benchmark.train_stream:
        data = experience.dataset
        targets = list(getattr(data, "targets", [0] * len(data)))
        held, kept = stratified(targets, round(share * len(data)), seed)
        if not held:
            raise ValueError(
                f"{share:g} of the {len(data)} samples of experience "
                f"{experience.current_experience} is none to choose λ by: give a larger "
                "validation, or a benchmark with a stream 'valid'"
            )
        parts["train"].append(_Part(experience, data.subset(kept)))
        parts["valid"].append(_Part(experience, data.subset(held).eval()))
    own = [EagerCLStream(name, part) for name, part in parts.items()]
    others = [stream for name, stream in benchmark.streams.items() if name != "train"]
    found = CLScenario([*own, *others])
    for stream in own:
        stream.benchmark = found
    return found
