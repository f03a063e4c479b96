"""The worker's lease on the jobs that it runs: a thread of its main process that tells the database it lives.

The thread writes straight to the database, so an outage of the broker does not look like a death. Only the sweep
judges: see sweep.py. The thread also reads the rows of the jobs that this worker runs, and stops each attempt that was
cancelled, deleted or given to another worker, whatever the broker does.
"""

import atexit
import logging
import os
import threading
import uuid
from contextlib import nullcontext
from typing import Any

from celery.bootsteps import StartStopStep
from celery.concurrency.prefork import TaskPool
from celery.worker import state
from celery.worker.request import Request
from django.db import connections

from livejobs import stop
from livejobs.models import Job, Worker
from livejobs.task import JobTask
from livejobs.under import shutdown

logger = logging.getLogger(__name__)

NO_SIGNALS = "In this pool, %s, no signal stops a job: one that is cancelled goes on until it reports"

#: Seconds between two beats.
EVERY = 1.0
#: Seconds that a worker waits for its first beat, should the database be out of reach.
FIRST_BEAT = 5.0
#: Seconds that a worker waits for a beat in progress before it leaves.
LAST_BEAT = 5.0
#: Held while the thread uses SQLite, and while this process forks. If a child of the pool is forked in the midst of a
#: transaction, then SQLite takes the database for locked in that child, for good. Source: SQLite, "How To Corrupt An
#: SQLite Database File", 2.6, "Carrying an open database connection across a fork()".
FORK = threading.Lock()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=FORK.acquire, after_in_parent=FORK.release, after_in_child=FORK.release)
#: Beats for which an attempt runs without its lease before it is stopped: the row of a job that has ended says so a
#: moment before the worker's main process knows it, and its child may run another job by then.
ENDED_BEATS = 3


class Lease(StartStopStep):
    """Starts the thread in the worker's main process. Source: Celery, "Extensions and Bootsteps"."""

    requires = {"celery.worker.components:Pool"}

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self.id = Worker.current_id = uuid.uuid4()  # before the pool forks its processes, which take the leases
        stop.prepare()
        shutdown.install()

    def start(self, parent: Any) -> None:
        """Start the thread; register the end of the lease for the end of this process, when no task runs any more."""
        if not isinstance(parent.pool, TaskPool):
            logger.warning(NO_SIGNALS, type(parent.pool).__module__)
        beats = Beats(self.id, parent)
        beats.thread = threading.Thread(target=beats.run, name="lease", daemon=True)
        beats.thread.start()
        beats.began.wait(FIRST_BEAT)  # before the first task: a lease of a worker without a row looks like a loss
        atexit.register(beats.leave, os.getpid())


class Beats:
    """Advances the counter of a worker, and stops the attempts that are not its own any more.

    Args:
        pk: the worker's id.
        worker: Celery's worker.
    """

    def __init__(self, pk: uuid.UUID, worker: Any) -> None:
        self.pk, self.worker = pk, worker
        self.began, self.leaving = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None
        self.beats_without_lease: dict[Request, int] = {}  # of each attempt that had the lease, or should have had it
        self.attempts: dict[Request, int] = {}  # the attempt that each request was seen to run
        self.about = {
            "host": str(worker.hostname)[:255],
            "pool": type(worker.pool).__module__.rpartition(".")[2][:64],
            "slots": worker.concurrency or 1,
        }

    def run(self) -> None:
        """Beat until this process ends."""
        _leave_the_pool()
        while not self.leaving.is_set():
            self.try_to_beat()
            self.began.set()
            self.leaving.wait(EVERY)

    def try_to_beat(self) -> None:
        """Renew the leases once, if the database can be reached."""
        on_sqlite = any(one.vendor == "sqlite" for one in connections.all())
        try:
            with FORK if on_sqlite else nullcontext():
                self.beat()
                if on_sqlite:
                    connections.close_all()
        except Exception as problem:
            # The sweep needs the database for its looks too, so an outage of the database is not a loss.
            logger.warning("The worker cannot renew its leases: %r", problem)
            connections.close_all()

    def beat(self) -> None:
        """Renew the leases once, and stop what has run for some beats without one."""
        running = self._running()
        queues = list(self.worker.app.amqp.queues.consume_from)
        Worker.objects.beat(self.pk, list(running), queues, **self.about)
        rows = Job.objects.unfinished().filter(pk__in=running).values_list("pk", "lease_id", "cancelled_at", "attempt")
        leases = {str(pk): (lease, at is not None, attempt) for pk, lease, at, attempt in rows} if running else {}
        beats = {}
        for task_id, requests in running.items():
            lease, cancelled, attempt = leases.get(task_id, (None, False, 0))
            holder = self._holder(requests, attempt) if lease == self.pk else None
            for request in requests:
                if request is holder and not cancelled:
                    beats[request] = 0
                elif task_id in leases and lease is None and request not in self.beats_without_lease:
                    continue  # its child waits for the database, and has not begun it
                else:
                    beats[request] = self.beats_without_lease.get(request, 0) + 1
                    if cancelled or beats[request] >= ENDED_BEATS:
                        self._stop(request)
        self.beats_without_lease = beats
        self.attempts = {request: attempt for request, attempt in self.attempts.items() if request in beats}

    def _holder(self, requests: list[Request], attempt: int) -> Request | None:
        """Return the request that runs a job's current attempt.

        While the worker connects to its broker again, it learns of no result. A duplicate that its child has dropped
        long ago then seems to run, and it came later than the attempt.

        Args:
            requests: those of the job, the latest last.
            attempt: the number of the current attempt.
        """
        holder = next((request for request in requests if self.attempts.get(request) == attempt), None)
        if holder is None:
            holder = next((request for request in reversed(requests) if request not in self.attempts), None)
        if holder is not None:
            self.attempts[holder] = attempt
        return holder

    def _running(self) -> dict[str, list[Request]]:
        """Return the requests that run jobs in this worker, by job, the latest of a job last.

        A duplicate delivery may run beside an attempt. A stale attempt may run beside a later one.

        Celery itself takes 10 s to believe that a child of its pool is dead. During a shutdown, children end before the
        main process: their jobs stay listed, and are free once this worker is gone.
        """
        pool = self.worker.pool
        is_known = isinstance(pool, TaskPool) and not _shutting_down()
        children = set(pool.info["processes"]) if is_known else None
        running: dict[str, list[Request]] = {}
        for request in _active():
            if isinstance(request.task, JobTask) and (children is None or request.worker_pid in children):
                running.setdefault(request.id, []).append(request)
        for requests in running.values():
            requests.sort(key=lambda request: request.time_start)
        return running

    def _stop(self, request: Request) -> None:
        """Stop an attempt. Its task reads the row and finds out why."""
        try:
            request.terminate(self.worker.pool, "SIGUSR1")
        except Exception:
            logger.exception("The attempt of job %s cannot be stopped", request.id)

    def leave(self, pid: int) -> None:
        """Mark this worker as gone, which frees its jobs.

        Args:
            pid: the main process; a fork of it leaves nothing.
        """
        if os.getpid() != pid:
            return
        self.leaving.set()
        if self.thread:
            self.thread.join(LAST_BEAT)  # a beat that waits for the database would say that this worker is alive again
        try:
            Worker.objects.leave(self.pk)
        except Exception as problem:
            logger.warning("The worker cannot give up its leases; it will count as lost: %r", problem)


def _leave_the_pool() -> None:
    """Let this thread have a database connection of its own.

    psycopg's pool belongs to the process: children that are forked later would take over its connections, which are the
    parent's. Source: psycopg, "Connection pools".
    """
    for alias in connections:
        connection = connections.create_connection(alias)
        options = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "pool"}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        connections[alias] = connection


def _shutting_down() -> bool:
    """Tell whether a signal or a remote control command has asked this worker to end."""
    # An exit code of 0 is a shutdown. Source: celery.worker.state, `maybe_shutdown`.
    return any(flag is not None and flag is not False for flag in (state.should_stop, state.should_terminate))


def _active() -> list[Request]:
    while True:
        try:
            return list(state.active_requests)
        except RuntimeError:  # the worker's own thread has changed the set meanwhile
            continue
