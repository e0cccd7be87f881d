"""A fact <subject, predicate, object>, of which the last two may be missing."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """<S,*,*> (a thing), <S,P,*> (what it does or how it is) or <S,P,O> (an interaction).

    Facts with the same words are equal.

    :param s: the subject.
    :param p: the predicate, or None.
    :param o: the object, or None.
    :raises ValueError: if the subject is missing, or there is an object without a predicate.
    """

    s: str
    p: str | None = None
    o: str | None = None

    def __post_init__(self) -> None:
        if any(unit is not None and not unit.strip() for unit in self.units):
            raise ValueError(f"{self!r} has an empty unit: give None for one that is missing")
        if self.p is None and self.o is not None:
            raise ValueError(f"{self} has an object but no predicate: no fact is of that kind")

    @property
    def units(self) -> tuple[str, str | None, str | None]:
        """Subject, predicate and object."""
        return self.s, self.p, self.o

    @property
    def masks(self) -> tuple[int, int, int]:
        """w_s, w_p and w_o of the loss: 1 for a unit that is there."""
        return 1, int(self.p is not None), int(self.o is not None)

    @property
    def kind(self) -> str:
        """``"S"``, ``"SP"`` or ``"SPO"``: the units that are there."""
        return "SPO"[: sum(self.masks)]

    def __str__(self) -> str:
        return f"<{self.s}, {self.p or '*'}, {self.o or '*'}>"


SPORTS = (
    "badminton",
    "baseball",
    "basketball",
    "bowling",
    "cricket",
    "croquet",
    "football",
    "golf",
    "hockey",
    "rugby",
    "soccer",
    "tennis",
    "volleyball",
)
"""What the object of a fact must contain for :func:`sports_facts` to find it."""


def sports_facts(facts: Iterable[Fact], sports: Iterable[str] = SPORTS) -> list[Fact]:
    """Find the facts of a person playing a sport, those of the paper's adaptation test (Fig. 7).

    The paper counts seven of them and does not list them: look at what is found in your data.

    :param facts: facts to look through.
    :param sports: words, of which the object must contain one.
    :return: the facts <person, playing, a sport>, each once, in the order of ``facts``.
    """
    wanted = set(sports)
    found = [
        fact
        for fact in facts
        if fact.s == "person"
        and fact.p in ("play", "playing")
        and wanted & set((fact.o or "").lower().replace("_", " ").split())
    ]
    return list(dict.fromkeys(found))
