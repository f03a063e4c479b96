"""Random faults over random jobs, from a seed: `make faults SEED=1 RUNS=25`.

Each run starts jobs from several owners' pages, breaks what its plan says while they run (fault_plan.py), mends
everything, waits until all ends are told, and holds what each page was told against the rules (history.py). The same
seed plays the same plan; what comes of it still depends on the machine's own timing.
"""

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from testkit.fault_plan import SERVICES, Fault, Plan, Start, answer_of
from testkit.fault_proxy import Mode
from testkit.history import Row, check, lost_ends
from testkit.own_services import OwnServices
from testkit.stage import BROKERS, WORKER, Stage, staged
from testkit.watcher import Watcher, visit

#: Seconds after the last repair in which all ends must have been told.
PATIENCE = 180
#: What a watcher has that is no part of the history.
HIDDEN = ("socket", "news", "addresses", "by_job", "by_ref")
#: What a worker logs of a task that has succeeded: its own time, and the task.
SUCCEEDED = re.compile(r"^\[(\S+ \S+): .*\[([0-9a-f-]{36})\] succeeded", re.MULTILINE)


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
            "kill a child": stage.kill_a_child,
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
        self.busiest = 0  #: moments within one second at which a page was told something, at most

    async def play(self):
        """Play the plan, and check what was told."""
        await asyncio.to_thread(self.stage.mend, self.plan.crew)
        cookies = {
            owner: visit(self.stage.host(self.stage.webs[0])) for owner in {page.owner for page in self.plan.pages}
        }
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
            self.violations += [f"A child has not ended: {title}." for title in self._unended_children()]
            unended = [start for start, act in zip(self.plan.starts, starts, strict=True) if not act.done()]
            self.violations += [f"A page still waits for what follows from {start}." for start in unended]
            for act in starts:
                if act.done():
                    act.result()
        finally:
            for task in (*starts, *self.watching):
                task.cancel()
            await asyncio.gather(*starts, *self.watching, return_exceptions=True)
        executed = {
            task_id: [execution.attempt for execution in executions]
            for task_id, executions in (await asyncio.to_thread(self.stage.executions)).items()
        }
        self.violations += check(
            list(self.watchers),
            self.rows,
            attempts=executed,
            nothing_lost=self.plan.workers_live,
            one_attempt=self.plan.workers_live,
            relays_live=self.plan.relays_live,
        )
        self.busiest = max(map(_busiest, self.watchers))
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
        for time_ in range(fault.times):
            if time_:
                await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(break_, self.stage, fault)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(mend, self.stage, fault)

    async def _start(self, start: Start):
        """Press START, and all that follows from it."""
        await asyncio.sleep(start.at)
        page = self.watchers[start.page]
        answer = answer_of(start.kind, start.params)
        ref = await page.start(start.kind, start.params, answer)
        task_id = await page.until(lambda: ref in page.refused or page.task_of(ref))
        if start.alone and ref not in page.refused:
            hosts = [self.stage.host(web) for web in self.stage.webs]
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
            told = told and not self._unended_children()
            if told or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.1)

    def _unended_children(self) -> list[str]:
        return [row["title"] for row in self.rows if row["parent_id"] and not row["finished_at"]]

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
                f"seed {self.plan.seed}: {self.plan}",
                f"    {ends}, {attempts} of them after another attempt; {frames} frames to {len(self.watchers)} pages,"
                f" at {self.busiest} moments of a second at most;"
                f" the last end {self.waited:.1f} s after the last repair, told within {self.late:.1f} s;"
                f" {len(self.violations)} violations",
                *(f"    failed: {failure}" for failure in failures),
                *(f"    VIOLATION: {violation}" for violation in self.violations),
            ]
        )

    def save(self, folder: Path) -> Path:
        """Write down the whole history. Returns the file."""
        path = folder / f"seed-{self.plan.seed}.json"
        history = [{**vars(watcher), **dict.fromkeys(HIDDEN)} for watcher in self.watchers]
        everything = {"report": self.report().splitlines(), "plan": vars(self.plan), "rows": self.rows}
        path.write_text(json.dumps({**everything, "history": history}, indent=1, default=str))
        return path


def _busiest(watcher: Watcher) -> int:
    """Return at how many moments of one second the watcher was told something, at most: each is one batch."""
    moments = sorted({round(one.at, 3) for one in watcher.told})
    return max((bisect_left(moments, moment + 1) - n for n, moment in enumerate(moments)), default=0)


def main() -> int:
    """Play the seeds, one broker after the other; keep the logs if there is a violation."""
    arguments = argparse.ArgumentParser(prog="make faults", description=__doc__)
    arguments.add_argument("--seed", type=int, default=1, help="the first seed")
    arguments.add_argument("--runs", type=int, default=25, help="how many seeds")
    arguments.add_argument("--folder", type=Path, help="for histories and logs, which are then kept")
    chosen = arguments.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    violations, began = 0, time.monotonic()
    plans = [Plan.of(seed) for seed in range(chosen.seed, chosen.seed + chosen.runs)]
    with contextlib.closing(OwnServices()) as services:
        for broker in BROKERS:
            its_own = [plan for plan in plans if plan.broker == broker]
            with staged(folder / broker, services, broker) if its_own else contextlib.nullcontext() as stage:
                for plan in its_own:
                    run = Run(plan, stage)
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
