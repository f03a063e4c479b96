"""The reply queue: where workers answer, and where the relay listens. Its name is written here alone."""

from typing import Any

from celery.backends.rpc import RPCBackend
from celery.states import READY_STATES
from kombu import Exchange, Queue

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
        """Reply. An end is written to the broker's disk; what is only news on the way is not.

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
        """
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
                delivery_mode=2 if state in READY_STATES else 1,
                expiration=expiration,
                retry=True,
                retry_policy=self.retry_policy,
            )
        return result
