"""The relay: carries replies from the broker to rows and to the hub, in a thread of each web process.

It takes all replies that are waiting, keeps the newest of each job and state, writes rows, publishes one batch to
the hub, and only then acknowledges. Idle, it adds no delay; under load its batches grow and nothing queues up.
"""

import json
import logging
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from typing import Any, NamedTuple

from celery import current_app
from django.db import OperationalError, connections, transaction
from django.utils import timezone
from kombu import Connection, Consumer, Message
from kombu.exceptions import OperationalError as KombuOperationalError

from HomeApp.drain import drain, read_ahead
from HomeApp.models import FINAL, Job, State
from HomeApp.reply import Reply
from HomeApp.reply_queue import REPLY_QUEUE
from HomeApp.snapshot import Snapshot
from HomeApp.sweep import EVERY, sweep

logger = logging.getLogger(__name__)

#: Replies that are relayed in one go, at most: larger batches are of no use, and what they show is older.
BATCH = 500
#: Replies that the broker sends before the first of them is acknowledged, so that the next batch is there in time.
PREFETCH = 2 * BATCH
#: Seconds to wait after a smaller batch, for the next one to be larger.
PAUSE = 0.005
#: A percentage is saved this many seconds after it has changed; a state, at once.
SAVE_AFTER = 1.0
#: Percentages saved between two batches, at most: many at once would hold up the next batch.
SAVES = 50
#: How many running jobs' rows the relay keeps at hand.
JOBS_AT_HAND = 10_000
#: Seconds until the next try when the broker or the database is away.
RETRY_AFTER = 1.0


class News(NamedTuple):
    """What a batch of replies has changed of one job."""

    job: Any
    new_state: bool
    snapshots: list[Snapshot]


class Relay:
    """Replies in, rows and snapshots out.

    Args:
        publish: takes the snapshots of one batch, in order, and returns once they are on their way.
    """

    def __init__(self, publish: Callable[[list[Snapshot]], None]) -> None:
        self.publish = publish
        self.jobs: OrderedDict[str, Job] = OrderedDict()  # running jobs as last told, newest use last
        self.unsaved: dict[str, float] = {}  # task id -> when its percentage is to be saved
        self.next_sweep = 0.0
        self.stopping = threading.Event()
        self.listening = threading.Event()

    def start(self) -> None:
        """Begin to relay, in a thread of its own."""
        threading.Thread(target=self.run, name="relay", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end within a second."""
        self.stopping.set()

    def run(self) -> None:
        """Relay until stopped, over as many connections as it takes."""
        while not self.stopping.is_set():
            try:
                self._let_go()  # where the database was away, too, when the last connection was lost
                try:
                    with current_app.connection_for_read() as connection:
                        self._listen(connection)
                finally:
                    self.listening.clear()
                    self._let_go()
            except Exception as problem:
                # Nothing that was not written has been acknowledged: the broker delivers it again.
                logger.warning(
                    "The relay starts again in %.0f s: %r", RETRY_AFTER, problem, exc_info=not _outage(problem)
                )
                self.stopping.wait(RETRY_AFTER)
            finally:
                connections.close_all()

    def _let_go(self) -> None:
        """Save what watchers have been told, and forget all jobs: another relay may go on with them."""
        if self.unsaved:
            Job.objects.save_percentages(self.jobs[task_id] for task_id in self.unsaved)
        self.jobs.clear()
        self.unsaved.clear()

    def _listen(self, connection: Connection) -> None:
        messages: list[Message] = []
        read_ahead(connection)
        with Consumer(connection, [REPLY_QUEUE], on_message=messages.append, accept=["json"], prefetch_count=PREFETCH):
            self.listening.set()
            logger.info("The relay listens to %s", REPLY_QUEUE.name)
            while not self.stopping.is_set():
                drain(connection, messages, BATCH, timeout=SAVE_AFTER / 4 if self.unsaved else 1.0)
                connection.heartbeat_check()
                # Whatever else is said over this connection may bring more messages: they are of the next batch.
                batch = messages[:]
                messages.clear()
                self.relay(_read(batch))
                if batch:
                    batch[-1].ack(multiple=True)
                if 0 < len(batch) < BATCH:
                    time.sleep(PAUSE)
                self._sweep(connection)

    def relay(self, replies: Iterable[Reply]) -> None:
        """Write and publish what is new in a batch of replies."""
        newest: dict[str, dict[State, Reply]] = defaultdict(dict)
        for reply in replies:
            known = newest[reply.task_id].get(reply.state)
            if known is None or known.seq <= reply.seq:
                newest[reply.task_id][reply.state] = reply
        self._have_at_hand(newest.keys())
        news = [self._move(task_id, sorted(by_state.values(), key=_rank)) for task_id, by_state in newest.items()]
        self._save_states(news)
        snapshots = [snapshot for one in news for snapshot in one.snapshots]
        if snapshots:
            self.publish(snapshots)
        self._save_percentages()  # last: nobody waits for these

    def _have_at_hand(self, task_ids: Iterable[str]) -> None:
        missing = [task_id for task_id in task_ids if task_id not in self.jobs]
        if missing:
            self.jobs.update((str(pk), job) for pk, job in Job.objects.in_bulk(missing).items())
        for task_id in task_ids:
            if task_id in self.jobs:
                self.jobs.move_to_end(task_id)
        while len(self.jobs) > max(JOBS_AT_HAND, len(missing)):
            self._forget(next(iter(self.jobs)))

    def _move(self, task_id: str, replies: list[Reply]) -> News:
        """Move this copy of a job by its replies, in order. Returns what its watchers are to be told.

        Replies that are no news may come again from a relay that has written them, and died before it could tell:
        so the present state is told, and the hubs drop what they have shown already.
        """
        job = self.jobs.get(task_id)
        if job is None:
            logger.warning("A reply of a job that has no row: %s", task_id)
            return News(None, False, [])
        before = job.state, job.attempt
        snapshots = [Snapshot.of(job) for reply in replies if _apply(job, reply)]
        new_state = (job.state, job.attempt) != before
        if snapshots and not new_state:
            self.unsaved.setdefault(task_id, time.monotonic() + SAVE_AFTER)
        elif job.final and not new_state:
            self._forget(task_id)
        return News(job, new_state, snapshots or [Snapshot.of(job)])

    def _save_states(self, news: list[News]) -> None:
        """Write the jobs that have a new state; what a row does not take, as it knows better, is no news."""
        # In the order of their ids, so that two relays that write the same rows never wait for each other.
        changed = sorted((one for one in news if one.new_state), key=lambda one: one.job.pk)
        if not changed:
            return
        with transaction.atomic():
            for job, _, snapshots in changed:
                written = job.save_end() if job.final else job.save_progress()
                if not written:
                    snapshots.clear()
                if job.final or not written:
                    self._forget(str(job.pk))
                else:
                    self.unsaved.pop(str(job.pk), None)

    def _save_percentages(self) -> None:
        now = time.monotonic()
        # `unsaved` is in the order of time: the first that is not due ends the search.
        due = list(takewhile(lambda task_id: self.unsaved[task_id] <= now, islice(self.unsaved, SAVES)))
        if due:
            Job.objects.save_percentages(self.jobs[task_id] for task_id in due)
            for task_id in due:
                del self.unsaved[task_id]

    def adopt(self, visitor: str, owner: str) -> None:
        """Know whose a visitor's jobs are now; called from any thread.

        Args:
            visitor: who owned them.
            owner: whose they are, as their rows say.
        """
        for job in list(self.jobs.values()):
            if job.owner == visitor:
                job.owner = owner

    def _sweep(self, broker: Connection) -> None:
        """Look after the jobs of which no reply will tell, now and then."""
        if time.monotonic() < self.next_sweep:
            return
        self.next_sweep = time.monotonic() + EVERY
        for job in sweep(broker, lambda job: self.jobs.get(str(job.pk), job)):
            if job.final:
                self._forget(str(job.pk))
            self.publish([Snapshot.of(job)])

    def _forget(self, task_id: str) -> None:
        self.jobs.pop(task_id, None)
        self.unsaved.pop(task_id, None)


def _rank(reply: Reply) -> tuple[bool, int]:
    return reply.state in FINAL, reply.seq


def _apply(job: Job, reply: Reply) -> bool:
    """Move this copy of a job by one reply. Returns whether that is news: finished is final, older is dropped."""
    if job.final:
        return False
    if reply.state in FINAL:
        if reply.attempt == job.attempt and reply.current is not None:
            job.current, job.total = reply.current, reply.total  # what was reported last may have been lost on its way
        job.end(reply.state, result=reply.result, error=reply.error, traceback=reply.traceback)
    elif reply.seq <= job.seq:
        return False
    elif reply.state == State.RETRY:
        job.state, job.seq, job.attempt, job.error = reply.state, reply.seq, reply.attempt, reply.error
    else:
        job.state, job.seq, job.attempt, job.error = reply.state, reply.seq, reply.attempt, ""
        job.current, job.total, job.description = reply.current, reply.total, reply.description
        job.reported_at = timezone.now()
        job.started_at = job.started_at or job.reported_at
        job.partial = reply.partial
    return True


def _read(messages: Iterable[Message]) -> list[Reply]:
    replies = []
    for message in messages:
        try:
            replies.append(Reply.of(json.loads(message.body)))
        except Exception:
            # One reply that cannot be read must not stop all the others: it is noted, and taken off the queue.
            logger.exception("A reply that cannot be read: %.500r", message.body)
    return replies


def _outage(problem: Exception) -> bool:
    return isinstance(problem, OSError | OperationalError | KombuOperationalError)
