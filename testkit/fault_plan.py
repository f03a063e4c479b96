"""What a run of random faults does: the broker, the pages, the jobs and the faults, all of it drawn from a seed."""

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from testkit.fault_proxy import Mode
from testkit.stage import (
    BROKERS,
    FOLDER,
    LINES,
    PATIENCE_OF_BROKERS,
    RABBITMQ,
    REDIS,
    WEBS,
    WORKERS,
    Line,
)

#: How often each broker is drawn: half of the runs are RabbitMQ's.
SHARES = {RABBITMQ: 2, REDIS: 1, FOLDER: 1}
#: What may become of a line.
LINE_FAULTS = (Mode.DELAY, Mode.RESET, Mode.HALF_OPEN)
#: The services that may be killed, by the name of each program.
SERVICES = {"broker": "broker", "PostgreSQL": "database", "Redis of the channel layer": "redis"}
WORKER_FAULTS = ("kill a child", "kill", "kill and leave orphans", "pause")
WEB_FAULTS = ("kill", "pause")
#: Seconds that a worker or a web process is stopped for: at least, at most, and the most likely.
PAUSE = 2, 40, 3
#: Seconds without a beat after which a worker may be taken for lost, less what the machine itself may be late.
MAY_BE_LOST = 6

#: The shapes of a run, and how often each is drawn.
USUAL, LONG, BUSY = "usual", "a job longer than the broker's patience", "many reports at once"
SHAPES = {USUAL: 6, LONG: 2, BUSY: 2}
#: Seconds until the first break of a fault, at most.
LATEST = {USUAL: 2, LONG: 8, BUSY: 4}
#: Jobs of a busy run, the reports of each, and how many of them a worker runs at once.
BUSY_JOBS, BUSY_REPORTS, BUSY_RATE, BUSY_SLOTS = 30, 60, 40, 10


class Page(NamedTuple):
    """A page that is open during a run."""

    name: str
    owner: str
    webs: tuple[str, ...]  #: the web processes that it connects to, in turn


class Start(NamedTuple):
    """A press of START."""

    at: float  #: seconds from the run's beginning
    page: int  #: which page
    kind: str
    params: dict[str, Any]
    cancel: float | None  #: seconds until it is cancelled, if it is
    retry: bool  #: whether it is repeated, once cancelled
    alone: bool  #: whether a page that watches this job alone is opened


class Fault(NamedTuple):
    """Something breaks, for a while."""

    at: float
    seconds: float
    what: str  #: a part of the stage, of those in `breakable`
    how: Any
    lines: tuple[Line, ...] = ()  #: which of the lines, if lines are broken
    times: int = 1  #: how often, with as many seconds between

    def __str__(self) -> str:
        how = self.how.value if isinstance(self.how, Mode) else self.how
        lines = f" ({', '.join(one for one, _ in self.lines)})" if self.lines else ""
        times = f", {self.times} times" if self.times > 1 else ""
        return f"{self.what}{lines}: {how} at {self.at:.1f} s for {self.seconds:.1f} s{times}"


def breakable(broker: str, workers: int = 2) -> dict[str, tuple[Any, ...]]:
    """Return what there is to be broken on a stage, and how."""
    some: dict[str, tuple[Any, ...]] = dict.fromkeys(WORKERS[:workers], WORKER_FAULTS)
    if broker == FOLDER:
        return {**some, WEBS[0]: WEB_FAULTS, f"lines to {WEBS[0]}": LINE_FAULTS}
    some |= dict.fromkeys(WEBS, WEB_FAULTS)
    some |= dict.fromkeys(SERVICES, ("kill",))
    return some | dict.fromkeys([f"lines to {end}" for end in ("broker", "database", "redis", *WEBS)], LINE_FAULTS)


@dataclass
class Plan:
    """What a run does."""

    seed: int
    broker: str
    shape: str
    crew: dict[str, int]  #: the workers, and how many jobs each runs at once
    pages: list[Page]
    starts: list[Start]
    faults: list[Fault]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """Draw a plan."""
        draw = random.Random(seed)
        (broker,) = draw.choices(BROKERS, [SHARES[broker] for broker in BROKERS])
        (shape,) = draw.choices(list(SHAPES), list(SHAPES.values()))
        webs = WEBS[:1] if broker == FOLDER else WEBS
        workers = 1 if broker == FOLDER else draw.choice((1, 1, 2))
        crew = dict.fromkeys(WORKERS[:workers], BUSY_SLOTS if shape == BUSY else 2)
        pages = []
        for owner in ("ann", "bob", "cid")[: draw.randint(2, 3)]:
            for number in range(draw.randint(1, 2)):
                order = draw.choice([webs, webs[::-1], webs[:1], webs[-1:]])
                pages.append(Page(f"{owner}-{number + 1}", owner, order))
        count = BUSY_JOBS if shape == BUSY else draw.randint(3, 6)
        starts = [_draw_start(draw, len(pages), shape) for _ in range(count)]
        if shape == LONG:
            seconds = draw.uniform(1.2, 2.2) * PATIENCE_OF_BROKERS
            starts[0] = starts[0]._replace(kind="steps", params={"count": 100, "seconds": seconds}, cancel=None)
        some = breakable(broker, workers)
        faults = [
            _draw_fault(draw, what, some[what], shape, workers) for what in draw.sample(list(some), draw.randint(1, 3))
        ]
        starts.sort(key=lambda start: start.at)
        faults.sort(key=lambda fault: fault.at)
        return cls(seed, broker, shape, crew, pages, starts, faults)

    @property
    def workers_live(self) -> bool:
        """Whether no job may be begun again: no worker may be taken for lost, and no message of a job is forgotten."""
        return not any(
            (fault.what in WORKERS and (fault.how != "pause" or fault.seconds >= MAY_BE_LOST))
            or (fault.what == "broker" and self.broker == REDIS)
            for fault in self.faults
        )

    @property
    def relays_live(self) -> bool:
        """Whether no web process is killed, and with it the percentages that its relay has told and not saved."""
        return not any(fault.what in WEBS and fault.how == "kill" for fault in self.faults)

    def __str__(self) -> str:
        workers = " and ".join(f"{name} with {slots} children" for name, slots in self.crew.items())
        return f"{self.broker}, {workers}, {self.shape}: {'; '.join(map(str, self.faults))}"


def answer_of(kind: str, params: dict[str, Any]) -> Any:
    """Return the right answer of a job."""
    if kind == "count_primes":
        return primes_below(params["below"])
    if kind == "loops":
        first, second = params["first"], params["second"]
        return first * second if params["nested"] else first + second
    if kind == "staged":
        return params["first"] + params["second"]
    if kind == "parts":
        return 4 * params["count"]
    return params["count"]


def primes_below(number: int) -> int:
    """Count primes with a sieve: quick, and another way than the job's own."""
    sieve = bytearray([1]) * number
    sieve[:2] = b"\0\0"
    for n in range(2, int(number**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, number, n)))
    return sum(sieve)


def _draw_start(draw: random.Random, pages: int, shape: str) -> Start:
    at, page = draw.uniform(0, 2), draw.randrange(pages)
    kind, params = _draw_job(draw, shape)
    cancel = draw.choice([None, None, None, draw.uniform(0, 1.5)])
    return Start(at, page, kind, params, cancel, retry=draw.random() < 0.5, alone=draw.random() < 0.3)


def _draw_job(draw: random.Random, shape: str) -> tuple[str, dict[str, Any]]:
    if shape == BUSY:
        return "reports", {"count": BUSY_REPORTS, "rate": BUSY_RATE}
    kind = draw.choice(["quick", "primes", "primes", "loops", "loops", "steps", "staged", "parts"])
    if kind == "quick":
        return "count_primes", {"below": 10_000}
    if kind == "primes":
        return "count_primes", {"below": int(draw.uniform(1e5, 1.5e6))}
    seconds = draw.uniform(0.5, 4)
    if kind == "parts":
        return "parts", {"count": draw.randint(1, 6), "seconds": seconds / 4}
    if kind == "steps":
        return "steps", {"count": draw.randint(1, 200), "seconds": seconds}
    counts = {"first": draw.randint(1, 20), "second": draw.randint(1, 20)}
    if kind == "staged":
        return "staged", {**counts, "seconds": seconds}
    return "loops", {**counts, "seconds": seconds, "nested": draw.random() < 0.5}


def _draw_fault(draw: random.Random, what: str, ways: tuple[Any, ...], shape: str, workers: int) -> Fault:
    at = draw.uniform(0.1, LATEST[shape])
    fault = Fault(at, draw.triangular(0.5, 3, 0.8), what, draw.choice(ways))
    lines = tuple(line for line in LINES if what == f"lines to {line[1]}" and line[0] not in WORKERS[workers:])
    if lines:
        return fault._replace(lines=draw.choice([lines, (draw.choice(lines),)]))
    if fault.how == "pause":
        return fault._replace(seconds=draw.triangular(*PAUSE))
    if what in SERVICES:
        return fault._replace(times=draw.choice((1, 1, 2, 3)))
    return fault
