"""The reply queue: workers send replies to it, and the relay consumes them. Only this module names the queue."""

import logging
import time
from functools import cache
from typing import Any

from amqp.exceptions import AMQPError, IrrecoverableChannelError, MessageNacked
from celery import Celery
from celery.backends.base import BaseBackend
from celery.exceptions import NotRegistered, TaskRevokedError
from celery.signals import task_unknown
from celery.states import EXCEPTION_STATES, PENDING, READY_STATES, RETRY, STARTED
from django.core.exceptions import ValidationError
from kombu import Exchange, Queue
from kombu.common import maybe_declare
from kombu.exceptions import OperationalError

from livejobs.conf import conf
from livejobs.models import Job, State
from livejobs.outcome import JobError, sentence
from livejobs.reply import TRACEBACK, text

logger = logging.getLogger(__name__)

#: How it shows that the broker cannot be reached, or cannot take a reply.
AWAY = (AMQPError, MessageNacked, OperationalError, OSError)
#: Seconds until an end that the broker has not taken is told again.
RETRY_AFTER = 0.5
#: Seconds until a broker that says nothing counts as away: a line that was cut silently looks open for ever.
CONFIRMED_AFTER = 2
#: One queue per deployment, durable, so any web process can take the replies up and a web restart loses none.
#: One relay at a time consumes it: see relay_lease.py. On RabbitMQ, the single active consumer also keeps a relay that
#: has lost its lease, and does not know it yet, from taking replies beside its successor.
REPLY_QUEUE = Queue(
    f"{conf.DEPLOYMENT}.replies",
    Exchange(""),
    routing_key=f"{conf.DEPLOYMENT}.replies",
    durable=True,
    queue_arguments={"x-single-active-consumer": True},
)


class ReplyBackend(BaseBackend):
    """The result backend of every `JobTask`: it replies to `REPLY_QUEUE`, and reads results from the jobs' rows.

    Replies are JSON objects, in the manner of Celery's `rpc` backend: `task_id`, `status`, `result`, `traceback`; and
    `error`, the sentence for the visitor, `attempt`, and `latest`, the last report of it. A project's other tasks
    keep the backend that `CELERY_RESULT_BACKEND` names.
    """

    supports_autoexpire = True  # it stores nothing

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        expiration: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Reply. Final states and RETRY are written to the broker's disk, and retried until the broker confirms them.

        Celery itself gives up soon, and then fails the job that was done. Reports are sent once.

        Args:
            task_id: the job's id.
            result: the task's result, the exception that ended it, or a report.
            state: Celery's state.
            traceback: of a failure, as text.
            request: the task's request, with the `attempt` and the `latest` report; and with `inline`, which takes the
                replies in place of the broker, if the job runs without a worker.
            expiration: seconds after which the broker may drop the reply, as it is old news.
            **kwargs: as Celery has them; not used.

        Returns:
            The result.

        Raises:
            OSError, amqp.AMQPError, kombu.exceptions.OperationalError: the broker cannot be reached, and this is a
                report; or it will never take this reply, as one that is too large.
        """
        reply = self.reply(task_id, result, state, traceback, request)
        if inline := getattr(request, "inline", None):
            inline.take(reply)
            return result
        lasting = state in READY_STATES or state == RETRY
        while True:
            try:
                self._publish(reply, task_id, delivery_mode=2 if lasting else 1, expiration=expiration)
                return result
            except AWAY as problem:
                if not lasting or isinstance(problem, IrrecoverableChannelError):
                    raise
                logger.warning("The end of job %s waits for the broker: %r", task_id, problem)
                time.sleep(RETRY_AFTER)

    def reply(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None
    ) -> dict[str, Any]:
        """Return the body of a reply; see `store_result`."""
        failed = state in EXCEPTION_STATES
        return {
            "task_id": task_id,
            "status": state,
            "result": None if failed else self.prepare_value(result),
            "error": sentence(result) if failed else None,
            "traceback": text(traceback, -TRACEBACK) or None,
            "attempt": getattr(request, "attempt", None),
            "latest": getattr(request, "latest", None),
        }

    def _publish(self, reply: dict[str, Any], task_id: str, **options: Any) -> None:
        with self.app.amqp.producer_pool.acquire(block=True) as producer:
            connection = producer.connection
            try:
                producer.publish(
                    reply,
                    exchange="",
                    routing_key=REPLY_QUEUE.name,
                    correlation_id=task_id,
                    serializer="json",
                    confirm_timeout=CONFIRMED_AFTER,
                    **options,
                )
            except AWAY:
                connection.collect()  # it may look open for ever: the next one is new
                raise
            except (*connection.connection_errors, *connection.channel_errors) as problem:
                connection.collect()
                raise OperationalError(str(problem)) from problem  # Redis has its own

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Declare `REPLY_QUEUE` before a task is sent, so that it is there before the first reply.

        Args:
            producer: that the task is sent with.
            task_id: the job's id; not used.
        """
        maybe_declare(REPLY_QUEUE(producer.channel), retry=True)

    def get_state(self, task_id: str) -> str:
        """Return the state that leaves a task to the worker that runs it.

        A worker asks before it marks a task as revoked that it has and does not run, if an operator revokes it with
        Celery's own command (celery.worker.control, `_revoke`). Its main process must not wait for the database; the
        job's row says whether the job has ended.

        Args:
            task_id: the job's id; not used.
        """
        return STARTED

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """Return what `AsyncResult` is to know of a job, from its row: the replies are the relay's.

        Args:
            task_id: the job's id.
            cache: as Celery has it; not used, as the row is the truth.
        """
        try:
            job = Job.objects.filter(pk=task_id).first()
        except ValidationError:
            job = None  # it is no UUID
        result: Any = job.result if job else None
        if job and job.state == State.REVOKED:
            result = TaskRevokedError("revoked")
        elif job and job.state in EXCEPTION_STATES:
            result = JobError(job.error)
        status = str(job.state) if job else PENDING
        return {"task_id": task_id, "status": status, "result": result, "traceback": None, "children": []}

    def as_uri(self, include_password: bool = True) -> str:
        """Return the name by which a worker's main process knows that no result can be looked up here.

        Args:
            include_password: as Celery has it; not used.
        """
        return "rpc://"


@cache
def reply_backend(app: Celery) -> ReplyBackend:
    """Return the backend of an application's jobs."""
    return ReplyBackend(app)


@task_unknown.connect
def end_unknown(sender: Any, message: Any, name: str, id: str, **kwargs: Any) -> None:  # noqa: A002  # Celery's own
    """End a job whose kind a worker does not know: Celery drops its message, and tells only the project's backend.

    Args:
        sender: the worker's consumer.
        message: the message that is dropped.
        name: the task's name.
        id: the task's id.
        **kwargs: as Celery has them; not used.
    """
    if message.properties.get("reply_to") == REPLY_QUEUE.name:
        reply_backend(sender.app).mark_as_failure(id, NotRegistered(name))
