"""The reply queue: where workers answer, and where the relay listens. Its name is written here alone."""

import logging
import time
from typing import Any

from amqp.exceptions import AMQPError, IrrecoverableChannelError, MessageNacked
from celery.backends.rpc import RPCBackend
from celery.states import READY_STATES, RETRY, STARTED
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

#: How it shows that the broker cannot be reached, or cannot take a reply.
AWAY = (AMQPError, MessageNacked, OperationalError, OSError)
#: Seconds until an end that the broker has not taken is told again.
RETRY_AFTER = 0.5
#: Seconds until a broker that says nothing counts as away: a line that was cut silently looks open for ever.
CONFIRMED_AFTER = 2
#: One queue per deployment, durable, so any web process can take the replies up and a web restart loses none.
#: A single active consumer at a time (RabbitMQ: "single active consumer") keeps each job's reports in order;
#: when that web process goes, the broker moves on to the next at once.
REPLY_QUEUE = Queue(
    "celeryprogressbar.replies",
    Exchange(""),
    routing_key="celeryprogressbar.replies",
    durable=True,
    queue_arguments={"x-single-active-consumer": True},
)


class ReplyBackend(RPCBackend):
    """Celery's `rpc` result backend, answering to `REPLY_QUEUE` instead of to a queue of the sending thread.

    Stock `rpc` declares a queue for every thread that ever sends a task, and leaves it behind. Here sending a
    task declares `REPLY_QUEUE`, so that it is there before the first reply.
    """

    oid = REPLY_QUEUE.name
    binding = REPLY_QUEUE

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
        """Reply. An end is written to the broker's disk, and told until the broker has it; news on the way is not.

        Celery itself gives up soon, and then has the job failed that was done.

        Args:
            task_id: whose reply it is.
            result: what is replied.
            state: Celery's state.
            traceback: of a failure.
            request: the task's, which says where to reply to.
            expiration: seconds after which the broker may drop the reply, as it is old news.
            **kwargs: as Celery has them; not used.

        Returns:
            The result.

        Raises:
            OSError, amqp.AMQPError, kombu.exceptions.OperationalError: the broker cannot be reached, and this is news
                on the way; or it will never take this end, as one that is too large.
        """
        queue, correlation_id = self.destination_for(task_id, request)
        reply = self._to_result(task_id, state, result, traceback, request)
        reply["attempt"] = getattr(request, "attempt", None)
        reply["latest"] = getattr(request, "latest", None)
        lasting = state in READY_STATES or state == RETRY
        while True:
            try:
                self._publish(reply, queue, correlation_id, delivery_mode=2 if lasting else 1, expiration=expiration)
                return result
            except AWAY as problem:
                if not lasting or isinstance(problem, IrrecoverableChannelError):
                    raise
                logger.warning("The end of job %s waits for the broker: %r", task_id, problem)
                time.sleep(RETRY_AFTER)

    def _publish(self, reply: dict[str, Any], queue: str, correlation_id: str, **options: Any) -> None:
        with self.app.amqp.producer_pool.acquire(block=True) as producer:
            try:
                producer.publish(
                    reply,
                    exchange="",
                    routing_key=queue,
                    correlation_id=correlation_id,
                    serializer=self.serializer,
                    confirm_timeout=CONFIRMED_AFTER,
                    **options,
                )
            except AWAY:
                producer.connection.collect()  # it may look open for ever: the next one is new
                raise

    def get_task_meta(self, task_id: str, backlog_limit: int = 0) -> dict[str, Any]:
        """Take no reply off the queue, as Celery's `rpc` would to tell a task's state: the replies are the relay's.

        A worker asks when it is to revoke a task that it does not run. STARTED is the answer with which it leaves the
        task to whoever runs it (celery.worker.control, `_revoke`); what the state is, the job's row says.

        Args:
            task_id: whose state is asked for.
            backlog_limit: as Celery has it; not used.

        Returns:
            What Celery knows as a task's meta.
        """
        return {"task_id": task_id, "status": STARTED, "result": None, "traceback": None, "children": []}

    poll = get_task_meta
