"""The jobs that the relay keeps in memory, as they were last told, and how their changes reach the rows."""

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import islice, takewhile
from typing import NamedTuple

from django.db import InterfaceError, OperationalError, transaction

from livejobs.models import FINAL, Job, State
from livejobs.outcome import UNSTORABLE
from livejobs.reply import Reply
from livejobs.snapshot import Snapshot

logger = logging.getLogger(__name__)

#: A percentage is saved this many seconds after it has changed; a state, at once.
SAVE_AFTER = 1.0
#: Percentages saved between two batches, at most: many at once would hold up the next batch.
SAVES = 50
#: How many running jobs are kept in memory.
JOBS_IN_MEMORY = 10_000
#: How it shows that the database cannot be reached: no item is to blame, and nothing was written.
OUTAGES = (OperationalError, InterfaceError)
#: The states whose replies come after the worker itself has written to the row.
ROW_KNOWS_MORE = FINAL | {State.RETRY}


class News(NamedTuple):
    """What a batch of replies has changed of one job."""

    job: Job
    moved: bool
    new_state: bool
    snapshots: list[Snapshot]


class JobCache:
    """Running jobs as they were last told, and which of their percentages are not saved yet.

    Args:
        told: returns the newest snapshot of a job that watchers were told, by its id, if that is known.
    """

    def __init__(self, told: Callable[[str], Snapshot | None] = lambda task_id: None) -> None:
        self.told = told
        self.jobs: OrderedDict[str, Job] = OrderedDict()  # the most recent use last
        self.unsaved: dict[str, float] = {}  # task id -> when its percentage is to be saved

    def get(self, task_id: str) -> Job | None:
        """Return the copy of a job; None if none is in memory."""
        return self.jobs.get(task_id)

    def load(self, replies: Mapping[str, Mapping[State, Reply]]) -> None:
        """Read what the replies to jobs need of their rows.

        Whole rows of the jobs that are not in memory, or are in a later attempt than memory says; of those that end or
        retry, what the worker has written to the row itself.

        Args:
            replies: by the job's id and by state.
        """
        missing, moved = [], []
        for task_id, by_state in replies.items():
            job = self.jobs.get(task_id)
            if job is None or any(reply.attempt > job.attempt for reply in by_state.values()):
                missing.append(task_id)
            elif not by_state.keys().isdisjoint(ROW_KNOWS_MORE):
                moved.append(task_id)
        if moved:
            rows = Job.objects.filter(pk__in=moved).values_list("pk", "attempt", "retry_at", "reason", "retries")
            for pk, attempt, retry_at, reason, retries in rows:
                job = self.jobs[str(pk)]
                job.retry_at, job.reason, job.retries = retry_at, reason, retries
                if attempt > job.attempt:
                    missing.append(str(pk))
        if missing:
            self.jobs.update((str(pk), self.as_told(job)) for pk, job in Job.objects.in_bulk(missing).items())
        for task_id in replies:
            if task_id in self.jobs:
                self.jobs.move_to_end(task_id)
        while len(self.jobs) > max(JOBS_IN_MEMORY, len(missing)):
            self.forget(next(iter(self.jobs)))

    def take(self, row: Job) -> Job:
        """Take over what a row says that has changed without a reply. Reports may be ahead of the row.

        Args:
            row: as the database has it.

        Returns:
            The job as it is now.
        """
        task_id = str(row.pk)
        job = self.jobs.get(task_id)
        if job is None or row.final or row.seq > job.seq or row.attempt > job.attempt:
            job = self.as_told(row)
        else:
            job.cancelled_at, job.owner = row.cancelled_at, row.owner
        if job.cancelling and not job.told_cancelling:
            job.told_cancelling = True
            job.seq += 1
        if job.final:
            self.forget(task_id)
        elif task_id in self.jobs:
            self.jobs[task_id] = job
        return job

    def as_told(self, job: Job) -> Job:
        """Let a job that was read from its row be no less far than watchers were told.

        A relay that was killed may have told percentages of its last second, which no row has.

        Args:
            job: as its row says.
        """
        told = self.told(str(job.pk))
        if told is None or told.final or job.final or job.children or told.seq <= job.seq:
            return job
        frame = json.loads(told.text)
        if frame["attempt"] == job.attempt and frame["percent"] is not None:
            job.reached = max(job.reached or 0, frame["percent"])
        return job

    def changed(self, task_id: str) -> None:
        """Note that the percentage of a job has changed."""
        self.unsaved.setdefault(task_id, time.monotonic() + SAVE_AFTER)

    def adopt(self, visitor: str, owner: str) -> None:
        """Give a visitor's jobs to a user, as their rows say; called from any thread.

        Args:
            visitor: the owner until now.
            owner: the owner from now on.
        """
        for job in list(self.jobs.values()):
            if job.owner == visitor:
                job.owner = owner

    def forget(self, task_id: str) -> None:
        """Drop a job, and its percentage if that is not saved."""
        self.jobs.pop(task_id, None)
        self.unsaved.pop(task_id, None)

    def clear(self) -> None:
        """Save what watchers have been told, and forget all jobs: another relay may go on with them."""
        if self.unsaved:
            _save_percentages([self.jobs[task_id] for task_id in self.unsaved])
        self.jobs.clear()
        self.unsaved.clear()

    def save_states(self, news: list[News]) -> None:
        """Write the jobs that have a new state; what a row does not take, as it knows better, is no news."""
        # In the order of their ids, so that two relays that write the same rows never wait for each other.
        news.sort(key=lambda one: one.job.pk)
        if not news:
            return
        try:
            with transaction.atomic():
                written = [_save_state(one) for one in news]
        except OUTAGES:
            raise
        except Exception as problem:
            logger.warning("A batch of rows is saved one by one: %r", problem)
            written = [_save_state_alone(one) for one in news]
        for (job, _, _, snapshots), is_written in zip(news, written, strict=True):
            if not is_written:
                snapshots.clear()
            if job.final or not is_written:
                self.forget(str(job.pk))
            else:
                self.unsaved.pop(str(job.pk), None)

    def save_percentages(self) -> None:
        """Write the percentages that are due."""
        now = time.monotonic()
        # `unsaved` is in the order of time: the first that is not due ends the search.
        due = list(takewhile(lambda task_id: self.unsaved[task_id] <= now, islice(self.unsaved, SAVES)))
        if due:
            _save_percentages([self.jobs[task_id] for task_id in due])
            for task_id in due:
                del self.unsaved[task_id]


def _save_percentages(jobs: list[Job]) -> None:
    """Save percentages, one by one if the database refuses them together."""
    try:
        Job.objects.save_percentages(jobs)
    except OUTAGES:
        raise
    except Exception:
        if len(jobs) == 1:
            logger.exception("The percentage of job %s cannot be saved", jobs[0].pk)
            return
        for job in jobs:
            _save_percentages([job])


def _save_state(news: News) -> bool:
    """Write one job; with its end, the number of the newest attempt that the row knows."""
    job = news.job
    return job.save_end() if job.final else job.save_progress()


def _save_state_alone(news: News) -> bool:
    """Write one job that a batch could not be written with; a result that no row can hold ends it as a FAILURE."""
    job = news.job
    try:
        with transaction.atomic():
            return _save_state(news)
    except OUTAGES:
        raise
    except Exception:
        logger.exception("Job %s cannot be saved", job.pk)
    if not job.final:
        return False
    job.end(State.FAILURE, error=UNSTORABLE)
    news.snapshots[:] = [Snapshot.of(job)]
    try:
        with transaction.atomic():
            return job.save_end()
    except OUTAGES:
        raise
    except Exception:
        logger.exception("The end of job %s cannot be saved", job.pk)
        return False
