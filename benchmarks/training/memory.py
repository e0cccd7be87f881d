"""What a method holds while it learns, which may be more than what it keeps between tasks."""

from __future__ import annotations

from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from avalanche_mas.evaluation import method_memory


class Held(SupervisedPlugin):  # type: ignore[misc]
    """Notes the most that plugins hold when epochs of an experience begin, and when it ends.

    Recorded outputs of LwF are there by then, teachers and autoencoders too. It comes before those
    plugins whose work at the end of an experience may let go of something.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        """Of the present experience, or else of the latest."""

    def before_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Begin anew."""
        self.bytes = 0

    def before_training_epoch(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Look."""
        self.bytes = max(self.bytes, method_memory(strategy))

    def after_training_exp(self, strategy: SupervisedTemplate, **kwargs: object) -> None:
        """Look once more."""
        self.before_training_epoch(strategy)
