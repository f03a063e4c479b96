"""How one reply moves a job: finished is final, older is dropped, and the percentage of an attempt never falls."""

import logging
import time

from django.utils import timezone

from livejobs import earlier_runs
from livejobs.models import FINAL, Job, State, percent_of
from livejobs.reply import Reply
from livejobs.time_left import Pace

logger = logging.getLogger(__name__)


def rank(reply: Reply) -> tuple[bool, int]:
    """Return the order of a reply among those of one job: an end outranks every report."""
    return reply.state in FINAL, reply.seq


def apply_reply(job: Job, reply: Reply) -> bool:
    """Move this copy of a job by one reply. Returns whether that is news: finished is final, older is dropped."""
    if job.final:
        return False
    if reply.state in FINAL:
        job.reached = _reached(job, reply) if reply.attempt == job.attempt else job.reached
        if reply.attempt == job.attempt and reply.current is not None:
            # What was reported last may have been lost on its way.
            job.current, job.total, job.stage = reply.current, reply.total, reply.stage
        job.end(reply.state, result=reply.result, error=reply.error, traceback=reply.traceback)
    elif reply.seq <= job.seq:
        return False
    elif reply.state == State.RETRY:
        job.state, job.seq, job.attempt, job.error = reply.state, reply.seq, reply.attempt, reply.error
        job.left = job.pace = None
    else:
        job.reached = _reached(job, reply)
        job.state, job.seq, job.attempt, job.error = reply.state, reply.seq, reply.attempt, ""
        job.current, job.total, job.description = reply.current, reply.total, reply.description
        job.stage = reply.stage
        job.left = time_left(job)
        job.reported_at = timezone.now()
        job.started_at = job.started_at or job.reported_at
        job.partial = reply.partial
    return True


def time_left(job: Job) -> tuple[float, float] | None:
    """Return the seconds that a job may still take; None while nothing tells it."""
    by_pace = None
    if job.state == State.PROGRESS and job.percent is not None and not (job.stage and job.stage.of is None):
        job.pace = job.pace or Pace()
        by_pace = job.pace.note(job.percent, time.monotonic())
    return by_pace or _left_by_earlier_runs(job)


def _left_by_earlier_runs(job: Job) -> tuple[float, float] | None:
    if job.resumed_from is not None or job.attempt_started_at is None:
        return None
    try:
        job.took = earlier_runs.durations(job.kind, job.params) if job.took is None else job.took
    except Exception as problem:  # the database may be away: that is no reason to lose the reply
        logger.warning("The earlier runs of %s could not be read: %r", job.kind, problem)
        return None
    passed = (timezone.now() - job.attempt_started_at).total_seconds()
    return earlier_runs.left(job.took, max(passed, 0.0))


def _reached(job: Job, reply: Reply) -> float | None:
    """Return the highest percentage of a reply's attempt: it never falls, whatever the task reports."""
    told = percent_of(reply.current, reply.total, reply.reached) if reply.stage is None else reply.reached
    known = [told, job.percent if reply.attempt == job.attempt else None]
    return max((percent for percent in known if percent is not None), default=None)
