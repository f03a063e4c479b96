"""The sweep: looks after the jobs of which no reply will tell, every few seconds, in the thread of each relay.

a worker whose counter stands still                 is marked as lost
a job that its worker does not run any more         becomes a suspect; see `judge`
a task that was not sent, or that a broker lost     is sent
a cancelled job that no worker runs                 ends
"""

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django.utils import timezone
from kombu import Connection

from livejobs import jobs, notice
from livejobs.job_cache import OUTAGES
from livejobs.kinds import queue_of
from livejobs.models import Job, State, Worker

logger = logging.getLogger(__name__)

#: Seconds between two sweeps.
EVERY = 2.0
#: A sweep that did not look for so many seconds was stopped: it counts anew, as after a look that failed.
BLIND_AFTER = 3 * EVERY
#: Seconds for which a worker's counter stands still before the worker is lost.
LOST_AFTER = 10.0
#: Beats of a living worker that do not list a job before the job is a suspect: the list is written with the beat.
UNLISTED_BEATS = 3
#: Seconds until a suspect that was not judged is named again.
NAME_AGAIN = 10.0
#: Tasks that one sweep sends, and suspects that it names, at most.
MOST = 200
#: Seconds for which one sweep sends tasks, at most: the relay's thread waits meanwhile.
SEND_FOR = 1.0


class Suspect(NamedTuple):
    """A job whose current attempt seems to have no worker any more."""

    task_id: str
    attempt: int
    lease: str


class Seen(NamedTuple):
    """What the looks so far have found out about a worker, a job or a notice."""

    beats: int
    since: float


class Sweep:
    """Compares its own successive looks; it compares no clocks of others."""

    def __init__(self) -> None:
        self.next_look, self.last_look = 0.0, -math.inf
        self.workers: dict[uuid.UUID, Seen] = {}
        self.unlisted: dict[Suspect, Seen] = {}
        self.named: dict[Suspect, float] = {}

    def __call__(self, broker: Connection) -> Iterator[Job]:
        """Look after all jobs, if it is time to.

        Args:
            broker: the connection to it.

        Yields:
            Each job of which watchers are to be told.
        """
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + EVERY
        steps: list[Callable[[], Iterator[Job]]] = [
            lambda: _restore_abandoned(broker),
            lambda: self._name_suspects(now, broker),
            end_cancelled,
            lambda: send_due(broker),
        ]
        for step in steps:
            try:
                yield from step()
            except OUTAGES:
                raise  # the relay begins again with another connection
            except Exception:
                logger.exception("A part of the sweep has failed; the next sweep tries it again")

    def _name_suspects(self, now: float, broker: Connection) -> Iterator[Job]:
        """Name the suspects in a notice, which comes out of the reply queue after all that was replied before."""
        suspects = self.look(now)
        if not getattr(broker.default_channel, "settled", True):
            return  # an end may still be put back into the queue
        due = [one for one in suspects if now - self.named.get(one, -NAME_AGAIN) >= NAME_AGAIN][:MOST]
        if due and notice.post("suspects", suspects=due):
            self.named |= dict.fromkeys(due, now)
        self.named = {one: at for one, at in self.named.items() if one in suspects}
        yield from ()

    def look(self, now: float) -> set[Suspect]:
        """Look at all workers and all leases once. Returns the suspects.

        Args:
            now: seconds, by a clock that never goes back.
        """
        last_look, self.last_look = self.last_look, -math.inf  # should the database be out of reach
        alive = {worker.pk: worker for worker in Worker.objects.alive()}
        stopped = set(Worker.objects.exclude(state=Worker.State.ALIVE).values_list("pk", flat=True))
        rows = Job.objects.unfinished().filter(lease__isnull=False).values_list("pk", "attempt", "lease_id")
        leases = {Suspect(str(pk), attempt, str(lease)): lease for pk, attempt, lease in rows}
        if now - last_look > BLIND_AFTER:
            self.workers.clear()
            self.unlisted.clear()
        self.last_look = now
        stopped |= self._lose_silent(alive, now)
        self._note_unlisted(alive, leases, now)
        return {
            suspect
            for suspect, seen in self.unlisted.items()
            if (lease := leases[suspect]) in stopped
            or (lease in alive and alive[lease].beats - seen.beats >= UNLISTED_BEATS)
            or (lease not in alive and now - seen.since >= LOST_AFTER)  # its worker has no row
        }

    def _lose_silent(self, alive: dict[uuid.UUID, Worker], now: float) -> set[uuid.UUID]:
        """Mark the workers as lost whose counters have stood still for too long. Returns their ids."""
        seen = {}
        lost = set()
        for pk, worker in alive.items():
            known = self.workers.get(pk)
            seen[pk] = known if known and known.beats == worker.beats else Seen(worker.beats, now)
            try:
                if now - seen[pk].since >= LOST_AFTER and Worker.objects.lose(pk, worker.beats):
                    logger.warning("Worker %s is lost: its counter stood still for %.0f s", worker.host, LOST_AFTER)
                    lost.add(pk)
            except OUTAGES:
                raise
            except Exception:
                logger.exception("Worker %s cannot be marked as lost", pk)
        self.workers = seen
        return lost

    def _note_unlisted(self, alive: dict[uuid.UUID, Worker], leases: dict[Suspect, uuid.UUID], now: float) -> None:
        """Note the jobs that their workers do not list, and since when."""
        listed = {
            (str(task_id), pk)
            for pk, worker in alive.items()
            if isinstance(worker.jobs, list)
            for task_id in worker.jobs
        }
        self.unlisted = {
            suspect: self.unlisted.get(suspect) or Seen(alive[lease].beats if lease in alive else 0, now)
            for suspect, lease in leases.items()
            if (suspect.task_id, lease) not in listed
        }


def judge(suspect: Suspect, at_hand: Callable[[Job], Job]) -> Job | None:
    """End the attempt of a suspect, if its worker was lost or shut down, and send the job again.

    The relay calls it when the suspect's notice comes out of the reply queue: an end that still waited there when the
    notice was posted has been written by now.

    Args:
        suspect: as the sweep has named it.
        at_hand: returns the relay's own copy of a job, which may know a newer percentage than its row.

    Returns:
        The job, if something has become of it.
    """
    lease = uuid.UUID(suspect.lease)
    row = Job.objects.unfinished().filter(pk=suspect.task_id, attempt=suspect.attempt, lease=lease).first()
    if row is None:
        return None
    worker = Worker.objects.filter(pk=lease).first()
    if worker and worker.state == Worker.State.ALIVE and suspect.task_id in worker.jobs:
        return None
    known = at_hand(row)
    if known.attempt == row.attempt and known.seq > row.seq:
        row.current, row.total, row.reached, row.seq = known.current, known.total, known.reached, known.seq
    lost = worker is None or worker.state != Worker.State.GONE
    row.interrupt(lost=lost)
    if not row.save_interrupted(lease):
        return None
    logger.warning("Job %s %s attempt %d", row.pk, "has lost the worker of" if lost else "goes on after", row.attempt)
    if not row.final:
        jobs.send(row, again=True)
    return row


def end_cancelled() -> Iterator[Job]:
    """End the cancelled jobs that no worker runs, and whose children do not run."""
    for job in Job.objects.unfinished().filter(cancelled_at__isnull=False, lease=None, children__isnull=True):
        try:
            job.end(State.REVOKED)
            ended = job.save_end(lease=None)
        except OUTAGES:
            raise
        except Exception:
            logger.exception("Cancelled job %s cannot be ended", job.pk)
        else:
            if ended:
                yield job


def send_due(broker: Connection) -> Iterator[Job]:
    """Send the tasks that were not sent, and those that no queue holds any more though no worker has begun them."""
    now, until = timezone.now(), time.monotonic() + SEND_FOR
    due = Job.objects.due(now).filter(kind__in=jobs.kinds())
    waiting = list(due.filter(sent=True)[:MOST])
    empty = {queue for queue in {queue_of(job.kind) for job in waiting} if queue and is_empty(broker, queue)}
    for job in [*due.filter(sent=False)[:MOST], *(job for job in waiting if queue_of(job.kind) in empty)]:
        # Of several web processes, one sends it.
        if Job.objects.due(now).filter(pk=job.pk, sent_at=job.sent_at).update(sent_at=now):
            logger.warning("Job %s waits for a worker, and its task is in no queue: it is sent", job.pk)
            if not jobs.send(job, again=True):
                return
            yield job
        if time.monotonic() > until:
            return  # the next sweep goes on


def is_empty(broker: Connection, queue: str) -> bool:
    """Tell whether no task waits in a queue.

    Args:
        broker: the connection to it.
        queue: the queue's name.
    """
    with broker.channel() as channel:
        try:
            waiting: int = channel.queue_declare(queue, passive=True).message_count
        except broker.channel_errors:  # there is no such queue
            return True
    return waiting == 0


def _restore_abandoned(broker: Connection) -> Iterator[Job]:
    """Let other processes have the messages that dead processes had taken, if the broker cannot do so itself."""
    restore = getattr(broker.default_channel, "restore_abandoned", None)
    if restore:
        restore()
    yield from ()
