"""How long a job takes, from the earlier runs of its kind: told while it waits, and while it has no pace of its own.

Of the most recent runs that have succeeded, those are taken whose numeric parameters are of the same order of magnitude
as the job's, the nearest first. A run that went on from a checkpoint was shorter, and is left out.
"""

import math
import time
from collections.abc import Mapping
from operator import itemgetter
from statistics import quantiles
from typing import Any, NamedTuple

from livejobs.models import Job, State

#: The runs of a kind that are read, the runs of these that are taken at most, and those that are too few for a range.
RECENT, NEAREST, FEWEST = 50, 10, 5
#: Numbers are of the same order of magnitude if their logarithms differ by no more than this.
SAME_ORDER = 0.5
#: Seconds for which the runs of a kind are kept.
KEPT = 10.0

#: Of each number its sign, and the logarithm of its size.
Orders = dict[str, tuple[int, float]]


class Run(NamedTuple):
    """A run that has succeeded."""

    seconds: float
    orders: Orders


_kept: dict[str, tuple[float, list[Run]]] = {}


def forget() -> None:
    """Forget all runs: the next look reads them anew."""
    _kept.clear()


def durations(kind: str, params: Mapping[str, Any]) -> list[float]:
    """Return the seconds that earlier runs with such parameters took; none if they are too few.

    One query for each kind, once in `KEPT` seconds.

    Args:
        kind: of the job.
        params: of the job.
    """
    orders = _orders(params)
    near = [(_distance(orders, run.orders), run.seconds) for run in _runs(kind)]
    taken = sorted((one for one in near if one[0] <= SAME_ORDER), key=itemgetter(0))[:NEAREST]
    return [seconds for _, seconds in taken] if len(taken) >= FEWEST else []


def are_enough(kind: str) -> bool:
    """Tell whether there are so many earlier runs of a kind that they may tell something."""
    return len(_runs(kind)) >= FEWEST


def left(took: list[float], passed: float = 0.0) -> tuple[float, float] | None:
    """Return the seconds until the end, low and high, as a range that holds the truth in about 80 % of the runs.

    Args:
        took: what earlier runs took, in seconds.
        passed: the seconds for which this one has run. Runs that ended sooner tell nothing any more.

    Returns:
        None if too few runs are left.
    """
    longer = [seconds - passed for seconds in took if seconds > passed]
    if len(longer) < FEWEST:
        return None
    tenths = quantiles(longer, n=10)
    return max(tenths[0], 0.0), tenths[-1]


def _runs(kind: str) -> list[Run]:
    at, runs = _kept.get(kind, (-math.inf, []))
    if time.monotonic() - at >= KEPT:
        ended = Job.objects.filter(kind=kind, state=State.SUCCESS, resumed_from=None)
        rows = ended.order_by("-finished_at").values_list("attempt_started_at", "finished_at", "params")[:RECENT]
        runs = [Run((end - start).total_seconds(), _orders(params)) for start, end, params in rows if start and end]
        _kept[kind] = time.monotonic(), runs
    return runs


def _orders(params: Mapping[str, Any]) -> Orders:
    numbers = {name: value for name, value in params.items() if type(value) in (int, float)}
    return {
        name: ((value > 0) - (value < 0), math.log10(abs(value)) if value else 0.0) for name, value in numbers.items()
    }


def _distance(one: Orders, other: Orders) -> float:
    if one == other:
        return 0.0
    if one.keys() != other.keys():
        return math.inf
    furthest = 0.0
    for name, (sign, size) in one.items():
        other_sign, other_size = other[name]
        furthest = max(furthest, abs(size - other_size) if sign == other_sign else math.inf)
    return furthest
