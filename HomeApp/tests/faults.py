"""Random faults over random jobs, from a seed: `make faults SEED=1 RUNS=25`.

Each run starts jobs from several owners' pages, breaks what it can while they run, mends everything, waits until all
ends are told, and holds what each page was told against the rules (history.py). The same seed plays the same plan;
what comes of it still depends on the machine's own timing.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from HomeApp.tests.fault_proxy import Mode
from HomeApp.tests.history import Row, check, lost_ends
from HomeApp.tests.stage import LINES, WEBS, WORKER, Line, Stage, staged
from HomeApp.tests.watcher import Watcher, visit

#: What may become of a line.
LINE_FAULTS = (Mode.DELAY, Mode.RESET, Mode.HALF_OPEN)
#: Seconds after the last repair in which all ends must have been told.
PATIENCE = 45
#: What a worker logs of a task that has succeeded: its own time, and the task.
SUCCEEDED = re.compile(r"^\[(\S+ \S+): .*\[([0-9a-f-]{36})\] succeeded", re.MULTILINE)
#: The services, by the name of each program.
SERVICES = {"RabbitMQ": "broker", "PostgreSQL": "database", "Redis": "redis"}
#: What there is to be broken, and how.
BREAKABLE = {
    WORKER: ("kill a child", "kill", "kill and leave orphans", "pause"),
    **dict.fromkeys(WEBS, ("kill", "pause")),
    **dict.fromkeys(SERVICES, ("kill",)),
    **dict.fromkeys([f"lines to {end}" for end in ("broker", "database", "redis", *WEBS)], LINE_FAULTS),
}


class Page(NamedTuple):
    """A page that is open during a run."""

    name: str
    owner: str
    webs: tuple[str, ...]  #: where it connects, each time to the next one


class Start(NamedTuple):
    """A press of START."""

    at: float  #: seconds from the run's beginning
    page: int  #: which page
    below: int
    cancel: float | None  #: seconds until it is cancelled, if it is
    retry: bool  #: whether it is repeated, once cancelled
    alone: bool  #: whether a page that watches this job alone is opened


class Fault(NamedTuple):
    """Something breaks, for a while."""

    at: float
    seconds: float
    what: str  #: one of BREAKABLE
    how: Any
    lines: tuple[Line, ...] = ()  #: which of the lines, where lines are broken

    def __str__(self) -> str:
        how = self.how.value if isinstance(self.how, Mode) else self.how
        lines = f" ({', '.join(one for one, _ in self.lines)})" if self.lines else ""
        return f"{self.what}{lines}: {how} at {self.at:.1f} s for {self.seconds:.1f} s"


@dataclass
class Plan:
    """What a run does: all of it comes from the seed."""

    seed: int
    pages: list[Page]
    starts: list[Start]
    faults: list[Fault]

    @classmethod
    def of(cls, seed: int) -> "Plan":
        """Draw a plan."""
        draw = random.Random(seed)
        pages = []
        for owner in ("ann", "bob", "cid")[: draw.randint(2, 3)]:
            for number in range(draw.randint(1, 2)):
                webs = draw.choice([WEBS, WEBS[::-1], WEBS[:1], WEBS[1:]])
                pages.append(Page(f"{owner}-{number + 1}", owner, webs))
        starts = [_draw_start(draw, pages) for _ in range(draw.randint(3, 6))]
        broken = draw.sample(list(BREAKABLE), draw.randint(1, 3))
        return cls(
            seed, pages, sorted(starts), sorted((_draw_fault(draw, what) for what in broken), key=lambda f: f.at)
        )


def _draw_start(draw: random.Random, pages: list[Page]) -> Start:
    at, page = draw.uniform(0, 2), draw.randrange(len(pages))
    below = int(draw.choice([1e4, draw.uniform(1e5, 1.5e6), draw.uniform(1e5, 1.5e6)]))
    cancel = draw.choice([None, None, None, draw.uniform(0, 1.5)])
    return Start(at, page, below, cancel, retry=draw.random() < 0.5, alone=draw.random() < 0.3)


def _draw_fault(draw: random.Random, what: str) -> Fault:
    at, seconds = draw.uniform(0.1, 2), draw.triangular(0.5, 3, 0.8)
    fault = Fault(at, seconds, what, draw.choice(BREAKABLE[what]))
    lines = tuple(line for line in LINES if what == f"lines to {line[1]}")
    if lines:
        fault = fault._replace(lines=draw.choice([lines, (draw.choice(lines),)]))
    return fault


def break_(stage: Stage, fault: Fault):
    """Let a fault begin."""
    if fault.lines:
        stage.break_lines(fault.lines, fault.how, fault.seconds / 8)
    elif fault.what in SERVICES:
        stage.services[SERVICES[fault.what]].kill()
    elif stage.running(fault.what):
        ways: dict[str, Callable[[str], Any]] = {
            "kill": stage.kill,
            "kill and leave orphans": stage.kill_alone,
            "kill a child": lambda _: stage.kill_a_child(),
            "pause": stage.pause,
        }
        ways[fault.how](fault.what)


def mend(stage: Stage, fault: Fault):
    """Let a fault end."""
    if fault.lines:
        stage.break_lines(fault.lines, Mode.PASS)
    elif fault.what in SERVICES:
        stage.services[SERVICES[fault.what]].start()
    elif fault.how == "pause":
        stage.go_on(fault.what)
    elif not stage.running(fault.what):
        stage.start(fault.what)


class Run:
    """One run of a plan.

    Args:
        plan: what to do.
        stage: where.
    """

    def __init__(self, plan: Plan, stage: Stage):
        self.plan, self.stage = plan, stage
        self.earlier = {row["id"]: row for row in stage.rows()}
        self.watchers: list[Watcher] = []
        self.watching: list[asyncio.Task] = []
        self.rows: list[Row] = []
        self.violations: list[str] = []
        self.waited = 0.0  #: seconds from the last repair to the last end
        self.late = 0.0  #: seconds at most from a task's end, or the last repair, until every page was told

    async def play(self):
        """Play the plan, and check what was told."""
        cookies = {owner: visit(self.stage.host(WEBS[0])) for owner in {page.owner for page in self.plan.pages}}
        for page in self.plan.pages:
            self.watch(Watcher(page.name, page.owner, [self.stage.host(web) for web in page.webs], cookies[page.owner]))
        starts = [asyncio.create_task(self._start(start)) for start in self.plan.starts]
        try:
            await asyncio.gather(*(self._fault(fault) for fault in self.plan.faults))
            dead = await asyncio.to_thread(self.stage.mend)
            mended = time.monotonic()
            self.violations += [f"{name} has died of a fault elsewhere." for name in dead]
            await self._wait_for_the_ends(starts, mended + PATIENCE)
            self.waited = time.monotonic() - mended
            self.late = self._late(mended)
            unended = [start for start, act in zip(self.plan.starts, starts, strict=True) if not act.done()]
            self.violations += [f"A page still waits for what follows from {start}." for start in unended]
            for act in starts:
                if act.done():
                    act.result()
        finally:
            for task in (*starts, *self.watching):
                task.cancel()
            await asyncio.gather(*starts, *self.watching, return_exceptions=True)
        self.violations += check(list(self.watchers), self.rows)
        now = {row["id"]: row for row in self.stage.rows()}
        self.violations += [
            f"Job {task_id} of an earlier run has changed after its end: {row} has become {now.get(task_id)}."
            for task_id, row in self.earlier.items()
            if row != now.get(task_id)
        ]

    def watch(self, watcher: Watcher):
        """Open a page."""
        self.watchers.append(watcher)
        self.watching.append(asyncio.create_task(watcher.watch()))

    async def _fault(self, fault: Fault):
        await asyncio.sleep(fault.at)
        await asyncio.to_thread(break_, self.stage, fault)
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(mend, self.stage, fault)

    async def _start(self, start: Start):
        """Press START, and all that follows from it."""
        await asyncio.sleep(start.at)
        page = self.watchers[start.page]
        answer = primes_below(start.below)
        ref = await page.start("count_primes", {"below": start.below}, answer)
        task_id = await page.until(lambda: ref in page.refused or page.task_of(ref))
        if start.alone and ref not in page.refused:
            hosts = [self.stage.host(web) for web in WEBS]
            self.watch(Watcher(f"{page.watcher}-alone", page.owner, hosts, page.cookie, room=task_id))
        if start.cancel is not None and ref not in page.refused:
            await asyncio.sleep(start.cancel)
            await page.cancel(task_id)
            await page.until(lambda: page.ended(task_id))
            if start.retry and page.shown(task_id)[-1]["state"] != "SUCCESS":
                await page.retry(task_id, answer)

    async def _wait_for_the_ends(self, starts: list[asyncio.Task], deadline: float):
        while True:
            rows = await asyncio.to_thread(self.stage.rows)
            self.rows = [row for row in rows if row["id"] not in self.earlier]
            told = all(start.done() for start in starts) and not lost_ends(list(self.watchers), self.rows)
            if told or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)

    def _late(self, mended: float) -> float:
        """Return how late the ends of tasks that have succeeded were told, at most; in seconds."""
        ahead = time.time() - time.monotonic()
        logs = "".join(path.read_text() for path in self.stage.folder.glob(f"{WORKER}*.log"))
        done = {task_id: datetime.fromisoformat(at.replace(",", ".")) for at, task_id in SUCCEEDED.findall(logs)}
        late = [0.0]
        for watcher in self.watchers:
            for task_id in done.keys() & {row["id"] for row in self.rows}:
                told = [one.at for one in watcher.frames(task_id) if one.frame["state"] == "SUCCESS"]
                if told and not watcher.room:  # a page for one job may be opened long after
                    late.append(min(told) - max(mended, done[task_id].timestamp() - ahead))
        return max(late)

    def report(self) -> str:
        """Return the run in one line, and a line for each violation."""
        ends = ", ".join(f"{count} {state}" for state, count in Counter(row["state"] for row in self.rows).items())
        attempts = sum(row["attempt"] > 1 for row in self.rows)
        frames = sum(len(watcher.told) for watcher in self.watchers)
        failures = {row["error"] for row in self.rows if row["state"] == "FAILURE"}
        return "\n".join(
            [
                f"seed {self.plan.seed}: {'; '.join(map(str, self.plan.faults))}",
                f"    {ends}, {attempts} of them after another attempt; {frames} frames to {len(self.watchers)} pages;"
                f" the last end {self.waited:.1f} s after the last repair, told within {self.late:.1f} s;"
                f" {len(self.violations)} violations",
                *(f"    failed: {failure}" for failure in failures),
                *(f"    VIOLATION: {violation}" for violation in self.violations),
            ]
        )

    def save(self, folder: Path) -> Path:
        """Write down the whole history. Returns the file."""
        path = folder / f"seed-{self.plan.seed}.json"
        history = [{**vars(watcher), "socket": None, "news": None, "addresses": None} for watcher in self.watchers]
        everything = {"report": self.report().splitlines(), "plan": vars(self.plan), "rows": self.rows}
        path.write_text(json.dumps({**everything, "history": history}, indent=1, default=str))
        return path


def primes_below(number: int) -> int:
    """Count primes with a sieve: quick, and another way than the job's own."""
    sieve = bytearray([1]) * number
    sieve[:2] = b"\0\0"
    for n in range(2, int(number**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, number, n)))
    return sum(sieve)


def main() -> int:
    """Play one seed after the other; keep the logs where there is a violation."""
    arguments = argparse.ArgumentParser(prog="make faults", description=__doc__)
    arguments.add_argument("--seed", type=int, default=1, help="the first seed")
    arguments.add_argument("--runs", type=int, default=25, help="how many seeds, one after the other")
    arguments.add_argument("--folder", type=Path, help="for histories and logs, which are then kept")
    chosen = arguments.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    violations, began = 0, time.monotonic()
    with staged(folder) as stage:
        for seed in range(chosen.seed, chosen.seed + chosen.runs):
            run = Run(Plan.of(seed), stage)
            asyncio.run(run.play())
            run.save(folder)
            violations += len(run.violations)
            print(run.report(), flush=True)
    last = chosen.seed + chosen.runs - 1
    print(f"Seeds {chosen.seed} to {last}: {violations} violations in {time.monotonic() - began:.0f} s.")
    if violations or chosen.folder:
        print(f"Histories and logs are kept in {folder}")
    else:
        shutil.rmtree(folder)
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
