"""Runs a job in this process, without a broker, a worker and the relay's thread: in eager mode, and in tests.

Its attempts are those of a worker, and a relay of its own takes the replies, so that the row and the snapshots are the
same as in production. A retry begins at once.
"""

import json
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery import states
from celery.app.trace import build_tracer
from kombu.utils.json import dumps, loads

from livejobs.hub import hub
from livejobs.kinds import kinds
from livejobs.models import Job
from livejobs.outcome import TaskFailed
from livejobs.relay import Relay
from livejobs.reply import Reply
from livejobs.snapshot import Snapshot
from livejobs.task import JobTask
from livejobs.terminal import Bar


class Inline:
    """A job that runs in this process. The requests of its attempts have it as their `inline`.

    Args:
        publish: takes the snapshots, in order.
    """

    def __init__(self, publish: Callable[[list[Snapshot]], None]) -> None:
        self.relay = Relay(publish)
        self.relay.parents.send = self.run_child
        self.relay.parents.next_look = math.inf  # other jobs are another relay's
        self.thread = threading.get_ident()
        self.replies: deque[dict[str, Any]] = deque()
        self.next: tuple[Any, Any, int] | None = None  # the arguments of the next attempt, and its number of retries

    def run(self, task: JobTask, task_id: str, args: Any, kwargs: Any, retries: int = 0) -> BaseException | None:
        """Run a job that has its row, attempt by attempt, until it has ended.

        Args:
            task: its task.
            task_id: its id.
            args: of the task.
            kwargs: of the task.
            retries: how many retries the task has asked for before.

        Returns:
            The exception that the job has failed with; None if it has not failed.

        Raises:
            KeyboardInterrupt: it was raised while the task ran. The job has failed.
        """
        trace = build_tracer(task.name, task, app=task.app)
        self.next = args, kwargs, retries
        while self.next:
            (args, kwargs, retries), self.next = self.next, None
            args, kwargs = loads(dumps([args or (), kwargs or {}]))
            request = {"id": task_id, "delivery_info": {}, "retries": retries, "ignore_result": False, "inline": self}
            _, info, _, _ = trace(task_id, args, kwargs, request)
            self._relay()
        self._follow_children(task_id)
        problem = _raised(info.retval) if info and info.state == states.FAILURE else None
        if isinstance(problem, KeyboardInterrupt):
            raise problem
        return problem

    def run_again(self, args: Any, kwargs: Any, retries: int) -> None:
        """Run the task once more when this attempt has ended.

        Args:
            args: of the task.
            kwargs: of the task.
            retries: how many retries the task will have asked for.
        """
        self.next = args, kwargs, retries

    def run_child(self, child: Job) -> None:
        """Run a child of this job to its end."""
        Inline(lambda snapshots: None).run(kinds()[child.kind], str(child.pk), (), child.params)
        child.refresh_from_db()

    def _follow_children(self, task_id: str) -> None:
        """End a job that has children, all of which have run; then, before it, the one that comes after them."""
        self.relay.parents.read(UUID(task_id))
        self.relay.show_parents()

    def take(self, reply: dict[str, Any]) -> None:
        """Take a reply in place of the broker, from any thread.

        Replies of the task's other threads wait for its own thread, which alone sees what a test has in its
        transaction.

        Args:
            reply: the body, as the broker would get it.
        """
        self.replies.append(json.loads(dumps(reply)))
        if threading.get_ident() == self.thread:
            self._relay()

    def _relay(self) -> None:
        while self.replies:
            self.relay.relay([Reply.of(self.replies.popleft())])


def run_eagerly(task: JobTask, task_id: str, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
    """Run a job in Celery's eager mode. The open sockets of this process are told; without any, a terminal is.

    Args:
        task: its task.
        task_id: its id.
        args: of the task.
        kwargs: of the task.
        options: of `apply_async`.
    """
    bar = Bar()

    def publish(snapshots: list[Snapshot]) -> None:
        if not hub.soon(hub.publish, snapshots):
            last = snapshots[-1]
            job = json.loads(last.text)
            description = job["description"] or job["title"]
            bar.show(job["current"] or 0, job["total"], description, job["percent"], last=last.final)

    try:
        Inline(publish).run(task, task_id, args, kwargs, options.get("retries") or 0)
    finally:
        bar.close()


def _raised(problem: BaseException) -> BaseException:
    """Return what the task has raised, where that was contained."""
    return (problem.__context__ or problem) if isinstance(problem, TaskFailed) else problem
