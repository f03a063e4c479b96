"""The sweep: looks after jobs of which no reply will tell, every few seconds, in the thread of each relay.

    a task that was never sent, as its web process died between writing the row and sending    is sent
    a job that was cancelled while no worker could be told                                     is cancelled again
    a job whose worker was killed, on the embedded broker                                      has failed

On RabbitMQ, the broker itself delivers the task of a killed worker again.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta

from django.db import connection, transaction
from django.utils import timezone
from kombu import Connection

from CeleryProgressbar.filesystem import Channel
from HomeApp import jobs
from HomeApp.models import Job, State

logger = logging.getLogger(__name__)

#: Seconds between two sweeps.
EVERY = 2.0
#: Seconds after which a task that has not been sent will not be sent by whoever wrote its row.
SENT_BY_NOW = 10
WORKER_LOST = "The worker that ran this job was lost. Start it again."


def sweep(broker: Connection, at_hand: Callable[[Job], Job]) -> Iterator[Job]:
    """Look after all jobs once.

    Args:
        broker: the connection to it.
        at_hand: returns the relay's own copy of a job, which may know more than its row.

    Yields:
        Each job of which watchers are to be told.
    """
    yield from send_unsent()
    yield from cancel_again(at_hand)
    yield from end_lost(broker, at_hand)


def send_unsent() -> Iterator[Job]:
    """Send the tasks that were not sent; of several web processes, one sends each."""
    due = timezone.now() - timedelta(seconds=SENT_BY_NOW)
    unsent = Job.objects.unfinished().filter(sent=False, attempt=0, created_at__lt=due)
    if not unsent.exists():
        return
    with transaction.atomic():
        for job in unsent.select_for_update(skip_locked=connection.features.has_select_for_update_skip_locked):
            logger.warning("Job %s had not been sent", job.id)
            jobs.send(job)
            yield job


def cancel_again(at_hand: Callable[[Job], Job]) -> Iterator[Job]:
    """Tell the workers once more to stop what has been cancelled and still runs."""
    for row in Job.objects.unfinished().filter(cancelled_at__isnull=False):
        jobs.stop(row)
        job = at_hand(row)
        if job.cancelled_at is None:
            job.cancelled_at = row.cancelled_at
            job.seq += 1
        yield job


def end_lost(broker: Connection, at_hand: Callable[[Job], Job]) -> Iterator[Job]:
    """End the jobs whose workers were killed, and let other workers have what those had not begun."""
    channel = broker.default_channel
    if not isinstance(channel, Channel):
        return
    for path, message in channel.abandoned():
        job = _begun(message["headers"].get("id"))
        if job is None:
            channel.put_back(path)
            continue
        logger.warning("The worker of job %s was lost", job.id)
        job = at_hand(job)
        if job.cancelled_at:
            job.end(State.REVOKED)
        else:
            job.end(State.FAILURE, error=WORKER_LOST)
        job.save_end()
        path.unlink()
        yield job


def _begun(task_id: str | None) -> Job | None:
    """Return the job that a lost worker was at; None for a reply, and for a task that it had not begun."""
    begun = Job.objects.unfinished().filter(attempt__gt=0).exclude(state=State.RETRY)
    return begun.filter(pk=task_id).first() if task_id else None
