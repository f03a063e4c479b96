"""The relay: carries replies from the broker to rows and to the hub, in a thread of each web process.

One relay at a time works, the one that holds the lease (relay_lease.py); the others wait for it. It takes all replies
that are waiting, keeps the newest of each job and state, writes rows, publishes one batch to the hub, and only then
acknowledges. Idle, it adds no delay; under load its batches grow and nothing queues up.

It handles one item at a time if a batch fails, so that no reply, notice or row stops the others.
"""

import atexit
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from celery import current_app
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import OperationalError, connections
from kombu import Connection, Consumer, Message
from kombu.exceptions import OperationalError as KombuOperationalError

from livejobs import jobs
from livejobs.apply_reply import apply_reply, rank
from livejobs.backend import REPLY_QUEUE
from livejobs.job_cache import OUTAGES, SAVE_AFTER, JobCache, News
from livejobs.models import Job, State
from livejobs.notice import NOTICE, calls_of
from livejobs.parents import SHOW_EVERY, Parents
from livejobs.relay_lease import LOOK_EVERY, Lease, Lost
from livejobs.reply import Reply
from livejobs.snapshot import Snapshot
from livejobs.sweep import Suspect, Sweep, judge
from livejobs.under.drain import drain, read_ahead

logger = logging.getLogger(__name__)

#: Replies that are relayed in one go, at most: larger batches are of no use, and what they show is older.
BATCH = 500
#: Replies that the broker sends before the first of them is acknowledged, so that the next batch is there in time.
PREFETCH = 2 * BATCH
#: Seconds from the start of a smaller batch to the next one, so that the next one is larger.
PAUSE = 0.005
#: Seconds that the end of the process waits for the batch that is being relayed.
LAST_BATCH = 2.0
#: Seconds until the next try when the broker or the database is away.
RETRY_AFTER = 1.0
#: A relay that has looked so often at the lease in vain is beside a living one.
BESIDE = 20
ONE_PROCESS = (
    "Another web process relays the reports, and this one has the in-memory channel layer: its pages read their jobs "
    "from the database only, seconds late. Set CHANNEL_LAYERS to channels_redis, or run one web process."
)


class Relay:
    """Replies in, rows and snapshots out.

    Args:
        publish: takes the snapshots of one batch, in order, and returns once they are on their way.
        told: returns the newest snapshot of a job that watchers were told, by its id, if that is known.
    """

    def __init__(
        self, publish: Callable[[list[Snapshot]], None], told: Callable[[str], Snapshot | None] = lambda task_id: None
    ) -> None:
        self.publish = publish
        self.cache = JobCache(told)
        self.parents = Parents(lambda row: self.cache.get(str(row.pk)) or row, partial(jobs.send, again=True))
        self.sweep = Sweep()
        self.lease = Lease(REPLY_QUEUE.name)
        self.stopping = threading.Event()
        self.listening = threading.Event()

    def start(self) -> None:
        """Begin to relay, in a thread of its own. At the end of this process another relay takes over at once."""
        thread = threading.Thread(target=self.run, name="relay", daemon=True)
        thread.start()
        atexit.register(self._finish, thread)

    def stop(self) -> None:
        """Let the thread end within a second."""
        self.stopping.set()

    def _finish(self, thread: threading.Thread) -> None:
        self.stop()
        thread.join(LAST_BATCH)

    def run(self) -> None:
        """Relay until stopped, over as many connections as it takes."""
        looks = 0
        while not self.stopping.is_set():
            try:
                self.cache.clear()  # again, if the database was away too when the last connection was lost
                if self.lease.take():
                    self._hold_the_lease()
                else:
                    looks += 1
                    if looks == BESIDE and isinstance(get_channel_layer(), InMemoryChannelLayer):
                        logger.error(ONE_PROCESS)
                    self.stopping.wait(LOOK_EVERY)
                    continue
            except Exception as problem:
                # Nothing that was not written has been acknowledged: the broker delivers it again.
                logger.warning(
                    "The relay starts again in %.0f s: %r", RETRY_AFTER, problem, exc_info=not _outage(problem)
                )
                self.stopping.wait(RETRY_AFTER)
            connections.close_all()
        connections.close_all()

    def _hold_the_lease(self) -> None:
        """Relay over one connection, then let another relay do so: it may reach what this one does not."""
        try:
            with current_app.connection_for_read() as connection:
                self._listen(connection)
        finally:
            self.listening.clear()
            self.parents.clear()
            self.cache.clear()
            self.lease.release()

    def _listen(self, connection: Connection) -> None:
        messages: list[Message] = []
        channel: Any = connection.default_channel
        alone = hasattr(channel, "consume_alone")  # on Redis
        if alone:
            channel.consume_alone(REPLY_QUEUE.name)
        read_ahead(connection)
        options = {"on_message": messages.append, "accept": ["json"], "prefetch_count": PREFETCH, "no_ack": alone}
        with Consumer(connection, [REPLY_QUEUE], **options):
            self.listening.set()
            logger.info("The relay listens to %s", REPLY_QUEUE.name)
            try:
                while not self.stopping.is_set():
                    drain(connection, messages, BATCH, timeout=self._patience())
                    self._relay_batch(connection, messages)
            except Lost:
                if alone:
                    channel.give_back()  # the other relay has looked already for what this one had taken
                raise

    def _relay_batch(self, connection: Connection, messages: list[Message]) -> None:
        """Relay the messages that are there, acknowledge them, and sweep if it is time to."""
        began = time.monotonic()
        connection.heartbeat_check()
        # Whatever else is said over this connection may bring more messages: they are of the next batch.
        batch = messages[:]
        messages.clear()
        self.lease.renew()
        self._take(batch)
        if batch:
            _acknowledge(batch)
        for job in self.sweep(connection):
            self._show(job)
            self.parents.note(job)
            self.lease.renew()  # a sweep may take long
        self.show_parents()
        if 0 < len(batch) < BATCH:
            time.sleep(max(began + PAUSE - time.monotonic(), 0))

    def _patience(self) -> float:
        """Return how many seconds the relay may wait for the next reply."""
        if self.parents.changed:
            return SHOW_EVERY
        return SAVE_AFTER / 4 if self.cache.unsaved else 1.0

    def _take(self, messages: list[Message]) -> None:
        """Relay the replies of a batch, then take its notices: a notice comes after the replies before it."""
        replies, notices = _read(messages)
        self.relay(replies)
        for notice in notices:
            for call, about in calls_of(notice):
                try:
                    getattr(self, call)(*about)
                except OUTAGES:
                    raise
                except Exception:
                    logger.exception("A notice that cannot be taken: %s %.500r", call, about)
                self.lease.renew()  # a notice may name many suspects, each of which is sent again

    def _changed(self, task_id: str) -> None:
        """Show a job whose row was changed in another process."""
        row = Job.objects.filter(pk=task_id).first()
        if row:
            self._show(row)
            self.parents.read(row.parent_id or row.pk)
        if row and row.children:
            self.cache.forget(task_id)  # it is moved by its children alone

    def _gone(self, owner: str, task_id: str) -> None:
        """Tell of a job whose row was deleted in another process."""
        self.cache.forget(task_id)
        self.publish([Snapshot.read(Snapshot.gone(owner, task_id))])  # which checks what the notice says

    def _judge(self, task_id: str, attempt: int, lease: str) -> None:
        """Judge a suspect of the sweep: all replies that came before it have been written."""
        suspect = Suspect(task_id, attempt, lease)
        job = judge(suspect, lambda row: self.cache.get(str(row.pk)) or self.cache.as_told(row))
        if job:
            self._show(job)
            self.parents.note(job)

    def show_parents(self) -> None:
        """Show the jobs whose children have moved on."""
        for job in self.parents.news():
            self.publish([Snapshot.of(job)])
            self.parents.note(job)  # it may be a child itself

    def _show(self, row: Job) -> None:
        """Show what has become of a job without a reply."""
        self.publish([Snapshot.of(self.cache.take(row))])

    def relay(self, replies: Iterable[Reply]) -> None:
        """Write and publish what is new in a batch of replies."""
        newest: dict[str, dict[State, Reply]] = defaultdict(dict)
        for reply in replies:
            known = newest[reply.task_id].get(reply.state)
            if known is None or known.seq <= reply.seq:
                newest[reply.task_id][reply.state] = reply
        self.cache.load(newest)
        moved = [self._move(task_id, sorted(by_state.values(), key=rank)) for task_id, by_state in newest.items()]
        news = [one for one in moved if one is not None]
        self.cache.save_states([one for one in news if one.new_state])
        for one in news:
            if one.moved and one.snapshots:
                self.parents.note(one.job)
        snapshots = [snapshot for one in news for snapshot in one.snapshots]
        if snapshots:
            self.publish(snapshots)
        self.cache.save_percentages()  # last: no watcher waits for these

    def _move(self, task_id: str, replies: list[Reply]) -> News | None:
        """Move this copy of a job by its replies, in order. Returns what its watchers are to be told; None for no row.

        Replies that are no news may come again from a relay that wrote them and died before it published them. So the
        present state is published, and the hubs drop what they have shown already.
        """
        job = self.cache.get(task_id)
        if job is None:
            logger.warning("A reply of a job that has no row: %s", task_id)
            return None
        before = job.state, job.attempt
        try:
            moved = [Snapshot.of(job) for reply in replies if apply_reply(job, reply)]
            snapshots = moved or [Snapshot.of(job)]
        except Exception:
            logger.exception("Replies that job %s cannot be moved by: %.500r", task_id, replies)
            return News(job, False, False, [])
        new_state = (job.state, job.attempt) != before
        if moved and not new_state:
            self.cache.changed(task_id)
        elif job.final and not new_state:
            self.cache.forget(task_id)
        return News(job, bool(moved), new_state, snapshots)

    def adopt(self, visitor: str, owner: str) -> None:
        """Give a visitor's jobs to a user, as their rows say; called from any thread.

        Args:
            visitor: the owner until now.
            owner: the owner from now on.
        """
        self.cache.adopt(visitor, owner)
        self.parents.adopt(visitor, owner)


def _acknowledge(batch: list[Message]) -> None:
    """Acknowledge all messages of a batch."""
    channel: Any = batch[-1].channel
    if hasattr(channel, "acknowledge_taken"):  # on Redis
        channel.acknowledge_taken(len(batch))
    else:
        batch[-1].ack(multiple=True)


def _read(messages: Iterable[Message]) -> tuple[list[Reply], list[dict[str, Any]]]:
    """Return the replies and the notices in a batch of messages."""
    replies, notices = [], []
    for message in messages:
        try:
            body = json.loads(message.body)
            if isinstance(body, dict) and NOTICE in body:
                notices.append(body)
            else:
                replies.append(Reply.of(body))
        except Exception:
            # One reply that cannot be read must not stop all the others: it is noted, and taken off the queue.
            logger.exception("A reply that cannot be read: %.500r", message.body)
    return replies, notices


def _outage(problem: Exception) -> bool:
    return isinstance(problem, OSError | OperationalError | KombuOperationalError | Lost)
