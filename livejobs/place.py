"""The place of waiting jobs in their queues, how many workers take jobs from these, and how long the jobs will run.

A place changes with each job that begins or ends, without a reply. So each hub reads the places of the jobs that it
shows once a second while one of them waits: one query for the waiting jobs, and one for the workers. How long a job
will run is looked up once, when it is first seen to wait.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from django.utils import timezone

from livejobs import earlier_runs
from livejobs.kinds import queue_of
from livejobs.models import Job, State, Worker
from livejobs.models.as_dict import whole_seconds
from livejobs.recovery import MOST_AT_ONCE
from livejobs.snapshot import Snapshot, to_json
from livejobs.threads import in_thread

logger = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY = 1.0
#: Waiting jobs that have a place. The place of those behind them is unknown.
MOST = 10_000
WAITING = (State.PENDING, State.RETRY)

#: How long waiting jobs will run, as it is told, by task id.
Left = dict[str, dict[str, int] | None]


class Line:
    """All jobs that wait now, in the order in which they were sent, and the workers that are alive."""

    def __init__(self) -> None:
        waiting = Job.objects.waiting(timezone.now()).order_by("sent_at").values_list("pk", "kind")[:MOST]
        in_queue: Counter[str | None] = Counter()
        self.places: dict[str, int] = {}
        for pk, kind in waiting:
            queue = queue_of(kind)
            in_queue[queue] += 1
            self.places[str(pk)] = in_queue[queue]
        self.workers: Counter[str] = Counter()
        self.of_any_queue = 0
        for queues in Worker.objects.alive().values_list("queues", flat=True):
            if isinstance(queues, list):
                self.workers.update(map(str, queues))
            else:
                self.of_any_queue += 1  # a worker of an earlier version, which does not say

    def workers_of(self, kind: str) -> int:
        """Return how many workers are alive that take jobs of a kind."""
        queue = queue_of(kind)
        return self.of_any_queue + (self.workers[queue] if queue else 0)


def fill_in(jobs: Iterable[Job]) -> None:
    """Give the jobs that wait their `place`, `workers` and `left`. If no job waits, then nothing is read."""
    waiting = [job for job in jobs if job.state in WAITING]
    if not waiting:
        return
    line = Line()
    for job in waiting:
        job.place, job.workers = line.places.get(str(job.pk)), line.workers_of(job.kind)
        job.left = _left(job.kind, job.params, job.checkpoint_percent)


async def follow(
    unfinished: Callable[[], dict[str, Snapshot]], replace: Callable[[list[tuple[Snapshot, Snapshot]]], None]
) -> None:
    """Tell the watchers of waiting jobs their places, once a second, and how long these will run.

    Args:
        unfinished: returns the newest snapshots of the unfinished jobs that are watched, by task id.
        replace: shows the second snapshot of each pair, if the first still is the newest of its job.
    """
    left: Left = {}
    while True:
        await asyncio.sleep(EVERY)
        waiting = [snapshot for snapshot in unfinished().values() if snapshot.state in WAITING]
        if waiting:
            try:
                replace(await in_thread(_moved, waiting, left))
            except Exception as problem:
                logger.warning("The places of waiting jobs could not be read: %r", problem)


def _moved(waiting: list[Snapshot], left: Left) -> list[tuple[Snapshot, Snapshot]]:
    """Return the snapshots that have changed without a reply, and the new ones.

    Args:
        waiting: the newest snapshots of jobs that wait.
        left: what is known of them from the looks before; brought up to date.
    """
    line = Line()
    shown = [(snapshot, json.loads(snapshot.text)) for snapshot in waiting]
    _look_up({snapshot.task_id: told["kind"] for snapshot, told in shown}, left)
    moved = []
    for snapshot, told in shown:
        new = {
            "place": line.places.get(snapshot.task_id),
            "workers": line.workers_of(told["kind"]),
            "left": left.get(snapshot.task_id),
        }
        if told | new != told:
            moved.append((snapshot, snapshot._replace(text=to_json(told | new))))
    return moved


def _look_up(kinds: dict[str, str], left: Left) -> None:
    """Look up how long jobs will run, each once that there are earlier runs; forget those that do not wait any more.

    Args:
        kinds: of the jobs that wait, by task id.
        left: see `_moved`.
    """
    for task_id in left.keys() - kinds.keys():
        del left[task_id]
    new = [task_id for task_id, kind in kinds.items() if task_id not in left and earlier_runs.are_enough(kind)]
    if new:
        rows = Job.objects.filter(pk__in=new[:MOST_AT_ONCE])
        for pk, *about in rows.values_list("pk", "kind", "params", "checkpoint_percent"):
            left[str(pk)] = whole_seconds(_left(*about))


def _left(kind: str, params: dict[str, Any], checkpoint_percent: float | None) -> tuple[float, float] | None:
    """Return how long a job will run; None if unknown, or if it goes on from a checkpoint."""
    return earlier_runs.left(earlier_runs.durations(kind, params)) if checkpoint_percent is None else None
