"""How a running job is told to stop: by a signal in a child of the prefork pool, by a count in the other pools.

Either way `Stopped` is raised in its task: where the task is when the signal comes, or at its next report. What the
stop means, the job's row says; see `JobTask`.
"""

import atexit
import logging
import os
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from billiard.pool import soft_timeout_sighandler
from celery import current_app
from celery.app.task import Context, Task
from celery.exceptions import SoftTimeLimitExceeded

logger = logging.getLogger(__name__)

#: The attempts that this process runs: job id -> the task's request, which holds what is known of the attempt.
attempts: dict[str, Context] = {}


#: The folder in which the worker's main process names the job that a signal targets, one file for each child. None
#: outside a worker.
targets: Path | None = None
#: The main process of the worker, in a child of the prefork pool; None elsewhere.
parent: int | None = None


class Stopped(SoftTimeLimitExceeded):
    """Raised in a task that is told to stop, for the task to clean up. It is what Celery's soft time limits raise."""


def tell_workers(task_id: Any) -> None:
    """Tell all workers to stop a job. The worker that runs it raises `SoftTimeLimitExceeded` in its task.

    Args:
        task_id: the job's id.
    """
    try:
        current_app.control.broadcast("livejobs_stop", arguments={"task_id": str(task_id)})
    except Exception as problem:
        logger.warning("The workers cannot be told to stop job %s; they will be: %r", task_id, problem)


def ask(task_id: str) -> bool:
    """Have `Stopped` raised at the next report of a job that this process runs; from any thread.

    Args:
        task_id: the job's id.

    Returns:
        Whether this process runs it.
    """
    request = attempts.get(task_id)
    if request is None:
        return False
    request.stops += 1
    return True


def heed(request: Context, since: int | None = None) -> None:
    """Raise `Stopped` if the attempt has been told to stop.

    Args:
        request: the task's.
        since: how often it had been told when the caller began; unless given, what has been raised already is not
            raised again, so that a task can report while it cleans up.

    Raises:
        Stopped: it has been told to.
    """
    if request.stops > (request.heeded if since is None else since):
        request.heeded = request.stops
        raise Stopped
    if orphaned():
        raise Stopped


def orphaned() -> bool:
    """Tell whether the worker's main process is dead, and this child of its pool with an attempt is left behind.

    The sweep gives the job to another worker, so two attempts would run side by side.
    """
    return parent is not None and os.getppid() != parent


def prepare() -> None:
    """Make the folder of `targets`, in the worker's main process, before it forks its children."""
    global targets
    targets = Path(tempfile.mkdtemp(prefix="celery-stop-"))
    atexit.register(_clean_up, os.getpid(), targets)


def _clean_up(pid: int, folder: Path) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def signal_child(pid: int, task_id: str) -> None:
    """Signal a child of the prefork pool to stop a job. If it runs another job by then, that one is not stopped.

    Args:
        pid: the child's.
        task_id: the job's id.

    Raises:
        ProcessLookupError: the child is dead.
    """
    if targets:
        (targets / str(pid)).write_text(task_id)
    os.kill(pid, signal.SIGUSR1)


def _target() -> str | None:
    """Take the id of the job that a signal is meant for; None if the pool has sent it, for a time limit."""
    if targets is None:
        return None
    path = targets / str(os.getpid())
    try:
        target = path.read_text()
        path.unlink()
    except FileNotFoundError:
        return None
    return target


def listen(kind: type[Task]) -> None:
    """Take the place of billiard's handler of SIGUSR1, in a child of the prefork pool; elsewhere do nothing.

    billiard's handler raises wherever the process is. This one raises only in a task's own code: not in an idle child,
    which would die of it, and not while a report or the result is on the way to the broker. If a frame was read or
    written in part, then the answer to the closing of its connection is never understood, and the task waits for ever.

    Args:
        kind: the class of tasks that are stopped so. In others, Celery's own exception is raised.
    """
    global parent
    if signal.getsignal(signal.SIGUSR1) is soft_timeout_sighandler:
        parent = os.getppid()
        signal.signal(signal.SIGUSR1, partial(_on_signal, kind))


def _on_signal(kind: type[Task], number: int, frame: FrameType | None) -> None:
    task, target = current_app.current_worker_task, _target()
    if task is None or target not in (None, task.request.id):
        return  # its target has just ended
    if not isinstance(task, kind):
        raise SoftTimeLimitExceeded
    request = task.request
    request.stops = request.get("stops", 0) + 1
    if request.get("running") and not request.get("sending"):
        request.heeded = request.stops
        raise Stopped
