"""How far an attempt has come in all: its stages, and within the present one the loops of `track`."""

import itertools
from collections.abc import Generator, Iterator, Sequence
from inspect import getgeneratorlocals
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

UNDECLARED = "There is no stage {!r} in this task's `stages`. Declared: {}."
#: Characters of a stage's name, as the row has them.
NAME = 100


class Stage(NamedTuple):
    """A stage as it is told."""

    number: int  #: from 1
    of: int | None  #: how many there are; None if they were not declared
    name: str


class Loop(NamedTuple):
    """How far a loop has come that goes on."""

    done: int
    total: float | None
    is_first: bool  #: whether no other loop came before it in the same step of the loop around it


class Stages:
    """The stages of one attempt.

    A percentage is made of what is known beforehand. Declared stages share it by their weights. A loop within a loop
    shares one step of it. A second loop after the first one, or a stage that was not declared, has no share that could
    be known: there the percentage stays what it was, and the stage's own count is told.

    Args:
        declared: name and weight of each stage, in order.
    """

    def __init__(self, declared: Sequence[tuple[str, float]] = ()) -> None:
        self.names = [name for name, _ in declared]
        self.weights = [float(weight) for _, weight in declared]
        self.present: Stage | None = None
        self.is_over = False  # whether the present stage is
        self.numbers = itertools.count()
        self.loops: WeakValueDictionary[int, Generator[Any, None, None]] = WeakValueDictionary()  # the inner ones last
        self.resumed: WeakValueDictionary[int, Generator[Any, None, None]] = WeakValueDictionary()  # around `loops`
        self.places: dict[int, tuple[Any, ...]] = {}  # depth -> the position of the latest loop
        self.later: set[int] = set()  # the loops that are not the first in their place

    @property
    def name(self) -> str:
        """The name of the present stage; empty if there is none, or it has none."""
        return self.present.name if self.present else ""

    def enter(self, name: str, weight: float | None) -> Stage:
        """Begin a stage.

        Args:
            name: of the stage.
            weight: of the stage, if that is known better by now than when it was declared.

        Raises:
            ValueError: the task has declared its stages, and this is none of them.
        """
        if not self.names:
            return self._next(name)
        if name not in self.names:
            raise ValueError(UNDECLARED.format(name, ", ".join(self.names)))
        index = self.names.index(name)
        if weight is not None:
            self.weights[index] = float(weight)
        return self._begin(Stage(index + 1, len(self.names), name))

    def leave(self) -> None:
        """End the present stage."""
        self.is_over = True

    def begin_loop(self, number: int) -> None:
        """Note that a loop begins.

        Args:
            number: of the loop.
        """
        around = self._around(number)
        depth, place = len(around), tuple((other, loop.done) for other, loop in around.items())
        is_later = depth in self.places and self.places[depth] == place
        self.places[depth] = place
        if is_later:
            self.later.add(number)
        if is_later and not depth and not self.name:
            self._next("")  # a second loop of a task without stages is a second stage, of nobody knows how many
            self.places[0] = place

    def overall(self, done: float | None, total: float | None, number: int | None = None) -> float | None:
        """Return how far the attempt has come in all, 0 to 100; None if that is not known.

        Args:
            done: steps done, as they are reported.
            total: steps in all.
            number: of the loop that reports; None for a report that no loop makes.
        """
        fraction = _fraction(done, total) if number is None or number not in self.later else None
        for loop in reversed(self._around(number).values() if number is not None else ()):
            fraction = _fraction(loop.done, loop.total, fraction) if loop.is_first else None
        if self.present is None:
            return _percent(fraction)
        if self.present.of is None:
            return None
        before, weight = sum(self.weights[: self.present.number - 1]), self.weights[self.present.number - 1]
        return _percent((before + weight * (1 if self.is_over else fraction or 0)) / (sum(self.weights) or 1))

    def count(self, done: float | None, total: float | None, number: int) -> tuple[float | None, float | None]:
        """Return the steps that are told: those of the outermost loop.

        Args:
            done: steps done of the loop that reports.
            total: steps in all of it.
            number: of that loop.
        """
        for loop in self._around(number).values():
            return loop.done, loop.total
        return done, total

    def _next(self, name: str) -> Stage:
        index = self.present.number + 1 if self.present else 1 if name else 2
        return self._begin(Stage(index, None, name))

    def _begin(self, stage: Stage) -> Stage:
        self.present, self.is_over = stage, False
        self.places.clear()
        return stage

    def _around(self, number: int) -> dict[int, Loop]:
        """Return the loops that a loop is within, the outermost first."""
        return {other: loop for other, loop in self._open() if other < number}

    def _open(self) -> Iterator[tuple[int, Loop]]:
        """Yield the loops that have begun and not ended.

        A loop counts in a local variable, as an attribute would cost it more with each item than all else does.
        """
        for number, loop in list(self.loops.items()):
            known = getgeneratorlocals(loop)
            if "done" in known:
                yield number, Loop(known["done"], known["steps"]["total"], number not in self.later)


def _fraction(done: float | None, total: float | None, within: float | None = None) -> float | None:
    """Return which part of its steps a loop has done, with the part of the present step; None if it is not known."""
    if done is None or not total:
        return None
    return min(max((done + (within or 0)) / total, 0), 1)


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 2)


def percent_of(current: float | None, total: float | None, reached: float | None = None) -> float | None:
    """Return a percentage, 0 to 100; None while it is unknown.

    Args:
        current: steps done.
        total: steps in all.
        reached: the percentage of the whole, if it is known: it never falls, and the steps may be those of a stage.
    """
    if reached is not None:
        return reached
    return round(min(max(100 * current / total, 0), 100), 2) if current is not None and total else None
