"""The time left of 1 000 recorded shapes of jobs: how often the range holds the truth, and how far its middle is off.

`python -m benchmarks.time_left`. The shapes are drawn from a seed: steady, gaining speed, losing speed, in bursts, with
stalls, and in stages of different pace, each with noise, 20 s to an hour long. tqdm's own estimate, with its default
smoothing of 0.3, is made from the same reports.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from statistics import mean, median

from livejobs.time_left import Pace

SHAPES = ("steady", "gaining speed", "losing speed", "bursts", "stalls", "stages")
#: Seconds between two reports, at least, and between two updates of tqdm.
EVERY, TQDM_EVERY, SMOOTHING = 0.05, 0.1, 0.3

Report = tuple[float, float]  # seconds, percent


def shape(kind: str, draw: random.Random) -> list[Report]:
    """Return the reports of one job."""
    steps, noise, power = draw.choice([50, 200, 1000]), draw.uniform(0.05, 0.5), draw.uniform(1.3, 2.0)
    changes = sorted(draw.random() for _ in range(draw.randint(1, 3)))
    paces = [math.exp(draw.gauss(0, 0.5)) for _ in range(len(changes) + 1)]
    costs, burst = [], 1.0
    for step in range(steps):
        done = (step + 0.5) / steps
        burst = math.exp(draw.gauss(0, 0.8)) if draw.random() < 0.05 else burst
        cost = {
            "gaining speed": done ** (1 / power - 1) / power,
            "losing speed": power * done ** (power - 1),
            "bursts": burst,
            "stages": paces[sum(done > change for change in changes)],
        }.get(kind, 1.0)
        costs.append(cost * draw.lognormvariate(0, noise))
    seconds = math.exp(draw.uniform(math.log(20), math.log(3600)))
    costs = [cost * seconds / sum(costs) for cost in costs]
    if kind == "stalls":
        for _ in changes:
            costs[int(draw.random() * steps)] += seconds * draw.uniform(0.03, 0.15)
    reports, time = [(0.0, 0.0)], 0.0
    for step, cost in enumerate(costs, start=1):
        time += cost
        if time - reports[-1][0] >= EVERY or step == steps:
            reports.append((time, 100 * step / steps))
    return reports


def tqdm_left(reports: list[Report]) -> float:
    """Return what tqdm says is left: by an exponential average of its recent pace. Source: tqdm.std.EMA."""
    seen, time, steps = reports[0], 0.0, 0.0
    for report in reports:
        if report[0] - seen[0] >= TQDM_EVERY and report[1] > seen[1]:
            time = SMOOTHING * (report[0] - seen[0]) + (1 - SMOOTHING) * time
            steps = SMOOTHING * (report[1] - seen[1]) + (1 - SMOOTHING) * steps
            seen = report
    return (100 - reports[-1][1]) * time / steps if steps else math.inf


def moments(reports: list[Report]) -> Iterator[tuple[float, float, tuple[float, float]]]:
    """Yield percent, the seconds that are truly left, and the range, from 5 % on, once for each percent."""
    pace, end = Pace(), reports[-1][0]
    for (_, before), (time, percent) in pairwise([(0.0, 0.0), *reports]):
        left = pace.note(percent, time)
        if left and 5 <= percent < 100 and int(percent) > int(before):
            yield percent, end - time, left


def replay(jobs: int, seed: int) -> tuple[dict[str, list[bool]], dict[str, list[float]], dict[str, list[float]]]:
    """Return, by shape, whether each range held the truth, our errors at 25 %, and tqdm's, as parts of the whole."""
    draw = random.Random(seed)
    held, ours, tqdms = defaultdict(list), defaultdict(list), defaultdict(list)
    for number in range(jobs):
        kind = SHAPES[number % len(SHAPES)]
        reports = shape(kind, draw)
        quarter = next(index for index, report in enumerate(reports) if report[1] >= 25)
        is_early = True
        for percent, truth, (low, high) in moments(reports):
            held[kind].append(low <= truth <= high)
            if percent >= 25 and is_early:
                is_early = False
                ours[kind].append(abs(math.sqrt(low * high) - truth) / reports[-1][0])
        truth = reports[-1][0] - reports[quarter][0]
        tqdms[kind].append(abs(tqdm_left(reports[: quarter + 1]) - truth) / reports[-1][0])
    return held, ours, tqdms


def main() -> None:
    """Print the figures."""
    held, ours, tqdms = replay(1000, seed=1)
    for kind in SHAPES:
        print(
            f"{kind:14} held {mean(held[kind]):4.0%}  off by {median(ours[kind]):5.1%}  tqdm {median(tqdms[kind]):5.1%}"
        )
    held_all, ours_all, tqdms_all = (
        [one for found in by_kind.values() for one in found] for by_kind in (held, ours, tqdms)
    )
    print(f"{'all':14} held {mean(held_all):4.0%}  off by {median(ours_all):5.1%}  tqdm {median(tqdms_all):5.1%}")


if __name__ == "__main__":
    main()
