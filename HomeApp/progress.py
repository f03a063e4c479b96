"""The worker's side: the base of every task, which reports how far its job has come."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from celery import Task
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django import forms
from django.db import InterfaceError, OperationalError, connections

from HomeApp.models import SEQ_PER_ATTEMPT, Job, State
from HomeApp.reply_queue import AWAY, REPLY_QUEUE

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

#: A job reports at most this often: no eye sees more, and a report costs the worker about 0.1 ms.
REPORTS_PER_SECOND = 20
#: `track` looks at the clock about this many times between two reports.
LOOKS_PER_REPORT = 4
#: Seconds after which the broker drops a report, if it follows the one before so soon that the next will too:
#: should reports come faster than they are taken up, the newest are shown and the others are not waited for.
OLD_NEWS = 0.2
#: Seconds without reports after one that the broker has not taken: each try may take that long itself.
UNHEARD = 3.0
#: Items that may pass without a look at the clock: when quick ones are followed by slow ones, the wait is short.
MOST_UNLOOKED = 100
#: A job whose worker dies in it every time is not begun again for ever.
MOST_ATTEMPTS = 3
#: Seconds until the database is tried again.
RETRY_AFTER = 1.0
LOST = f"The worker that ran this job was lost {MOST_ATTEMPTS} times."


class JobError(Exception):
    """Raised by a task to end its job with a sentence that the visitor may read."""


class TryAgain(JobError):
    """Raised by a task to have its job tried again, `max_retries` times at most, and later each time.

    When no retry is left, it ends the job, as any `JobError` does.
    """


class JobTask(Task):
    """The base of every task that a job can run: `@shared_task(base=JobTask, bind=True, form=..., title=...)`.

    It counts the attempts, numbers the reports, sends all replies to the one reply queue, and passes over a job
    that has ended before it began.
    """

    abstract = True
    Request = "HomeApp.worker_request:JobRequest"

    #: Checks a job's `params`; the task is called with what the form has cleaned.
    form: type[forms.Form] = forms.Form
    #: What the job is called on the page: a format string over the cleaned `params`.
    title: str = ""
    #: Whether visitors may start it themselves, or only the site on their behalf.
    startable: bool = True

    #: Celery's own words for retries: up to 5, 10, 20 seconds later, at random, so that not all come back at once.
    autoretry_for = (TryAgain,)
    max_retries = 3
    retry_backoff = 5
    retry_jitter = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the task as Celery does, answering to the reply queue."""
        options.setdefault("reply_to", REPLY_QUEUE.name)
        return super().apply_async(args, kwargs, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one attempt of the job, or say why there is none.

        Raises:
            celery.exceptions.Ignore: the job has been cancelled, or has ended already, or there is no such job.
            celery.exceptions.Reject: this attempt was ended by mistake, and shall be made again.
            JobError: the job has lost its worker too often.
        """
        try:
            attempt = self._begin()
            if attempt == 0:
                raise JobError(LOST)
            if attempt:
                return self._attempt(attempt, *args, **kwargs)
        except SoftTimeLimitExceeded:
            if self._has_time_limit():
                raise
            if Job.objects.unfinished().filter(pk=self.request.id, cancelled_at=None).exists():
                # The signal was meant for the job that this process had run before.
                raise Reject("not cancelled", requeue=True) from None
        self.backend.mark_as_revoked(self.request.id, request=self.request)
        raise Ignore()

    def _begin(self) -> int | None:
        """Begin an attempt; while the database is away, wait for it."""
        while True:
            try:
                return Job.objects.begin(self.request.id, MOST_ATTEMPTS + self.request.retries)
            except (OperationalError, InterfaceError) as problem:
                logger.warning("Job %s waits for the database: %r", self.request.id, problem)
                connections.close_all()
                time.sleep(RETRY_AFTER)

    def _attempt(self, attempt: int, *args: Any, **kwargs: Any) -> Any:
        self.request.update(seq=attempt * SEQ_PER_ATTEMPT, attempt=attempt, latest={}, told=True, reported=-math.inf)
        self.update_state(state=State.STARTED, meta={})
        try:
            return self.run(*args, **kwargs)
        finally:
            if not self.request.told:
                self.update_state(state=State.PROGRESS, meta=self.request.latest)

    def _has_time_limit(self) -> bool:
        return bool(self.soft_time_limit or (self.request.timelimit and self.request.timelimit[1]))

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Report as Celery does, with the attempt and the report's number added to `meta`.

        Args:
            task_id: this job's, unless given.
            state: `PROGRESS`, as a rule.
            meta: `current` and `total` in the task's own unit, `description` in words, `partial`, what there is of
                the result so far; each may be missing.
            **kwargs: handed on to Celery.
        """
        self.request.seq += 1
        meta = {**(meta or {}), "seq": self.request.seq, "attempt": self.request.attempt}
        if task_id in (None, self.request.id):
            self.request.latest = {name: meta.get(name) for name in ("current", "total", "description")}
        try:
            super().update_state(task_id, state, meta, **kwargs)
        except AWAY as problem:
            # The work goes on: a later report says all that this one would have said, and the end is tried again.
            logger.warning("Job %s cannot report: %r", self.request.id, problem)
            self.request.reported = time.monotonic() + UNHEARD

    def track(self, items: Iterable[Item], total: float | None = None, description: str = "") -> Iterator[Item]:
        """Yield the items, reporting how many are done, at most `REPORTS_PER_SECOND` times a second.

        The clock is looked at only every so many items, as often as the loop's own pace asks for: a quick loop
        pays a few hundredths of a microsecond an item.

        Args:
            items: what to go through.
            total: how many there are; `len(items)` unless given; unknown where that is not defined either.
            description: what is being done, in words.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = looked_at = 0
        next_look = 1
        looked = time.monotonic()
        self._report(done, total, description)
        for item in items:
            yield item
            done += 1
            if done >= next_look:
                now = time.monotonic()
                self._report(done, total, description, now)
                pace = (done - looked_at) / max(now - looked, 1e-9)
                step = int(pace / REPORTS_PER_SECOND / LOOKS_PER_REPORT)
                next_look = done + min(max(step, 1), MOST_UNLOOKED)
                looked_at, looked = done, now
        self._report(done, total, description)

    def _report(self, current: float, total: float | None, description: str, now: float | None = None) -> None:
        """Report, unless the last report was a moment ago; the latest is kept, to be told when the attempt ends."""
        now = time.monotonic() if now is None else now
        self.request.latest = {"current": current, "total": total, "description": description}
        self.request.told = False
        since = now - self.request.reported
        if since >= 1 / REPORTS_PER_SECOND:
            self.request.reported = now
            expiration = OLD_NEWS if since < OLD_NEWS else None
            self.update_state(state=State.PROGRESS, meta=self.request.latest, expiration=expiration)
            self.request.told = expiration is None and self.request.reported == now
