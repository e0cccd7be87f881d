"""Experience → whether its task ends with it."""

from typing import Any


class TaskEnd:
    """Counts the parts of an online stream's experience; any other experience is one part.

    Avalanche's own ``is_last_subexp`` stays False where the parts divide the experience evenly.
    """

    def __init__(self) -> None:
        self._parts = 0
        self.open = False
        """Whether a task has begun that has not ended."""

    def begin(self) -> None:
        """A part begins."""
        self.open = True

    def ends(self, experience: Any) -> bool:
        """Whether no further part will come; to be asked once for each part, at its end."""
        self._parts = 1 if getattr(experience, "is_first_subexp", True) else self._parts + 1
        self.open = self._parts != getattr(experience, "sub_stream_length", 1)
        return not self.open
