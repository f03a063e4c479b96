"""The reply queue: where workers answer, and where the relay listens. Its name is written here alone."""

from typing import Any

from celery.backends.rpc import RPCBackend
from celery.states import READY_STATES, RETRY, STARTED
from kombu import Exchange, Queue

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
        """Reply. An end is written to the broker's disk, and tried again; what is only news on the way is not.

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
            OSError, amqp.AMQPError, kombu.exceptions.OperationalError: the broker cannot be reached.
        """
        final = state in READY_STATES
        queue, correlation_id = self.destination_for(task_id, request)
        reply = self._to_result(task_id, state, result, traceback, request)
        reply["attempt"] = getattr(request, "attempt", None)
        with self.app.amqp.producer_pool.acquire(block=True) as producer:
            producer.publish(
                reply,
                exchange="",
                routing_key=queue,
                correlation_id=correlation_id,
                serializer=self.serializer,
                delivery_mode=2 if final else 1,
                expiration=expiration,
                confirm_timeout=CONFIRMED_AFTER,
                retry=final or state == RETRY,
                retry_policy=self.retry_policy,
            )
        return result

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
