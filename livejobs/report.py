"""Reports: how a running task says how far its job has come."""

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, TypeVar

from celery import Task, current_task
from celery.app.task import Context
from celery.states import IGNORED

from livejobs import stop
from livejobs.backend import AWAY
from livejobs.models import FINAL, SEQ_PER_ATTEMPT, State, Worker
from livejobs.reply import cleaned
from livejobs.stages import Stages

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

#: A job reports at most this often: no eye sees more, and a report costs the worker about 0.1 ms.
REPORTS_PER_SECOND = 20
#: Seconds after which the broker drops a report, if it follows the one before so soon that the next will too:
#: should reports come faster than they are taken up, the newest are shown and the others are not waited for.
OLD_NEWS = 0.2
#: Seconds without reports after one that the broker has not taken: each try may take that long itself.
UNHEARD = 3.0
#: Reports with a new description that are sent early, until none has come for a second: a long step may follow each.
EARLY_REPORTS = 20

ENDS_ITSELF = (
    "update_state(state={}) is refused, as a job ends when its task does:"
    " return the result, raise JobError to fail, raise TryAgain to be run again."
)
ANOTHERS = (
    "update_state(task_id={}) is refused, as a task reports for its own job alone: leave task_id out."
    " To follow a part of the work by itself, start it as a job with jobs.start."
)
NO_ATTEMPT = (
    "There is no job to report for in this thread (task_id={}): use `track` in the task's own thread. In other threads,"
    " while the task runs, call update_state with the task_id that the task's own thread has read as self.request.id."
)
NO_DICT = "A report is left out, as its meta is {}: give a dict, for example {{'current': 1, 'total': 2}}."
NO_NUMBER = "How far the job has come is not shown, as {} is no finite number."

#: Makes numbering a report one step: a job's threads may report too.
NUMBERING = threading.Lock()


def begun(attempt: int, stages: Sequence[tuple[str, float]] = ()) -> dict[str, Any]:
    """Return what a request knows of an attempt that begins.

    Args:
        attempt: its number; 0 for a task that runs without a job.
        stages: name and weight of each stage that the task has declared.
    """
    return {
        "attempt": attempt,
        "seq": attempt * SEQ_PER_ATTEMPT,
        "latest": {},  # the last report
        "unkept": None,  # what a loop has reported since
        "reached": None,  # the highest percentage
        "told": True,  # whether the broker has it, for good
        "reported": -math.inf,  # when the last one was sent
        "described": ("", ""),  # the name of its stage, and its description
        "early": 0,  # how many were sent early
        "stages": Stages(stages),
        "checkpoint": None,
        "child_counts": None,  # of its children, once the task has started them
        "then": None,  # the child that comes after them
        "warned": set(),
        "heeded": 0,  # how many of `stops` have been raised
    }


class ReportingTask(Task):
    """A task that reports for the attempt of a job that it runs. It numbers the reports, and limits their rate."""

    abstract = True
    request: Context
    #: Name and weight of each stage, in order, for `self.stage(name)` of `TrackingTask`.
    stages: Sequence[tuple[str, float]] = ()

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Report as Celery does, with the attempt and the report's number added.

        If the task runs without a job, then the report is checked and not sent.

        Args:
            task_id: this job's id. It may be left out in the task's own thread, and must be given in others.
            state: `PROGRESS`. Another name is shown as the description, unless `meta` has one. `IGNORED` reports
                nothing: other apps' receivers of `task_postrun` set it on a delivery that has run nothing.
            meta: `current` and `total` in the task's own unit, `description` in words, `partial`, what there is of
                the result so far; each may be missing. Text alone is a description.
            **kwargs: `expiration`, the seconds after which the report is old news.

        Raises:
            ValueError: the state is one that ends the job, or `task_id` is another job's, or there is no job in this
                thread; the message names the remedy.
            celery.exceptions.SoftTimeLimitExceeded: the job has been told to stop, in another pool than prefork.
        """
        state = str(getattr(state, "value", state)) if state else State.PROGRESS
        if state == IGNORED:
            return  # a receiver with `retry=True` would be called again for ever if this raised
        request = self.reporting(task_id)
        if state in FINAL or state == State.RETRY:
            self.warn(request, ENDS_ITSELF, state)
            raise ValueError(ENDS_ITSELF.format(short(state)))
        if request is self.request:
            stop.heed(request)
        elif request.stops > request.heeded:
            raise stop.Stopped  # the task's own thread is to be told too
        if isinstance(meta, str):
            meta = {"description": meta}
        elif not isinstance(meta, Mapping | None):
            self.warn(request, NO_DICT, meta)
            meta = None
        clean = self._cleaned(request, meta or {})
        if state not in (State.PROGRESS, State.STARTED):
            clean["description"] = clean.get("description") or cleaned({"description": state})["description"]
            state = State.PROGRESS
        current, total = clean.get("current"), clean.get("total")
        clean |= {"reached": _reached(request, request.stages.overall(current, total)), "stage": request.stages.present}
        request.latest = {part: clean.get(part) for part in ("current", "total", "reached", "description", "stage")}
        request.unkept = None
        self.send_report(request, state, clean, **kwargs)

    def report(self, current: float | None, total: float | None = None, description: str = "") -> None:
        """Report how far the job has come, where there is no loop for `track`.

        As with `track`, at most `REPORTS_PER_SECOND` reports a second are sent. The latest is kept, and sent when the
        attempt ends. A new description is sent at once, `EARLY_REPORTS` times in quick succession.

        Args:
            current: steps done, in the task's own unit.
            total: steps in all; None while unknown.
            description: what is being done, in words.

        Raises:
            ValueError: there is no job in this thread; the message names the remedy.
            celery.exceptions.SoftTimeLimitExceeded: the job has been told to stop, in another pool than prefork.
        """
        request = self.reporting(None)
        stop.heed(request)
        steps = self._cleaned(request, {"current": current, "total": total, "description": description})
        self.report_if_due(request, steps.pop("current"), steps)

    def reporting(self, task_id: Any) -> Context:
        """Return the request of the attempt to report for. If the task runs without a job, then its attempt is 0.

        Raises:
            ValueError: there is none, or it is another job's.
        """
        request = self.request
        if request.get("attempt"):
            if task_id is None or str(task_id) == request.id:
                return request
            self.warn(request, ANOTHERS, task_id)
            raise ValueError(ANOTHERS.format(short(task_id)))
        named = stop.attempts.get(str(task_id))
        if named is None and task_id in (None, request.id) and _without_a_job():
            return Context(begun(0, self.stages), stops=0)
        if named is None:
            raise ValueError(NO_ATTEMPT.format(short(task_id)))
        return named

    def _cleaned(self, request: Context, meta: Mapping[Any, Any]) -> dict[str, Any]:
        """Return of a report what a row and a page can hold; note a number that they cannot."""
        clean = cleaned(meta)
        for name in ("current", "total"):
            if name in clean and clean[name] is None and meta[name] is not None:
                self.warn(request, NO_NUMBER, meta[name])
        return clean

    def warn(self, request: Context, words: str, *values: Any) -> None:
        """Note once an attempt what is wrong with its reports."""
        if words not in request.warned:
            request.warned.add(words)
            logger.warning("Job %s: %.500s", request.id, words.format(*map(short, values)))

    def send_report(self, request: Context, state: str, meta: dict[str, Any], **kwargs: Any) -> None:
        """Number a report and send it once. If the broker is away, then the work goes on.

        Nothing is sent once the task has started children: they report for the rest of the bar.

        Args:
            request: the task's.
            state: Celery's state.
            meta: the report.
            **kwargs: as `store_result` of the backend takes them.
        """
        if not request.attempt or request.child_counts:  # the children go on with the bar
            return
        with NUMBERING:
            request.seq += 1
            meta = {**meta, "seq": request.seq, "attempt": request.attempt}
        stage = meta.get("stage")
        request.described = stage.name if stage else "", meta.get("description") or ""
        request.sending = True  # a signal waits for the end of the publication
        try:
            self.backend.store_result(request.id, meta, str(state), request=request, **kwargs)
        except AWAY as problem:
            # The work goes on: a later report says all that this one would have said, and the end is tried again.
            logger.warning("Job %s cannot report: %r", request.id, problem)
            request.reported = time.monotonic() + UNHEARD
        finally:
            request.sending = False
        if request.get("running") and request is self.request:
            stop.heed(request)

    def report_if_due(
        self,
        request: Context,
        current: float | None,
        steps: dict[str, Any],
        now: float | None = None,
        loop: int | None = None,
    ) -> None:
        """Report, unless the last report was a moment ago; the latest is kept, to be told when the attempt ends.

        A new stage or description does not wait, or a page would show the last one for as long as the next one takes.

        Args:
            request: of the attempt.
            current: steps done.
            steps: the `total` and the `description`.
            now: the moment, by `time.monotonic`, if the caller has just read the clock.
            loop: the number of the loop that reports.
        """
        now = time.monotonic() if now is None else now
        request.unkept = current, steps, loop
        request.told = False
        since = now - request.reported
        if since >= 1:
            request.early = 0
        on_time = since >= 1 / REPORTS_PER_SECOND
        described = request.stages.name, steps["description"]
        early = not on_time and since >= 0 and described != request.described
        if on_time or (early and request.early < EARLY_REPORTS):
            request.early += early
            request.reported = now
            expiration = OLD_NEWS if since < OLD_NEWS and not early else None
            keep(request)
            if request.checkpoint:
                request.checkpoint.look_soon()
            self.send_report(request, State.PROGRESS, request.latest, expiration=expiration)
            request.told = expiration is None and request.reported == now


def _without_a_job() -> bool:
    """Tell whether a task that has no attempt here was called as a function: in a shell, a test, or another task.

    If not, then this is a thread that a job's task has started.
    """
    return bool(current_task) or not (stop.attempts or Worker.current_id)


def keep(request: Context) -> None:
    """Make what a loop has reported last the latest report, which the end of the attempt tells too.

    A loop looks at the clock more often than it reports, and this would cost it more than the look.
    """
    if request.unkept is None:
        return
    (current, steps, loop), request.unkept = request.unkept, None
    stages, total = request.stages, steps["total"]
    reached = _reached(request, stages.overall(current, total, loop))
    if loop is not None:
        current, total = stages.count(current, total, loop)
    told = {"current": current, "total": total, "reached": reached, "stage": stages.present}
    request.latest = {**steps, **told}


def _reached(request: Context, percent: float | None) -> float | None:
    """Note a percentage. Returns the highest of the attempt so far: a second loop does not take it back."""
    known = [one for one in (percent, request.reached) if one is not None]
    request.reached = max(known, default=None)
    highest: float | None = request.reached
    return highest
