"""A notice: what another process, or the sweep, says to the relay. It goes to the end of the reply queue.

So whichever relay takes a notice has taken all replies that came before it.
"""

import logging
from typing import Any

from celery import current_app

from livejobs.backend import AWAY, CONFIRMED_AFTER, REPLY_QUEUE

logger = logging.getLogger(__name__)

#: The field of a message that makes it a notice, and names the `Relay` method which takes it.
NOTICE = "notice"


def post(notice: str, **about: Any) -> bool:
    """Send a notice.

    Args:
        notice: `changed`, `gone`, `adopted` or `suspects`.
        **about: what the notice says, as JSON.

    Returns:
        Whether the broker has confirmed it. If not, then that is logged. In eager mode nothing is sent: there is no
        broker, and no relay.
    """
    if current_app.conf.task_always_eager:
        return False
    with current_app.amqp.producer_pool.acquire(block=True) as producer:
        try:
            producer.publish(
                {NOTICE: notice, **about},
                exchange="",
                routing_key=REPLY_QUEUE.name,
                declare=[REPLY_QUEUE],
                serializer="json",
                confirm_timeout=CONFIRMED_AFTER,
                retry=True,
                retry_policy=current_app.conf.task_publish_retry_policy,
            )
        except AWAY as problem:
            producer.connection.collect()  # it may look open for ever: the next one is new
            logger.warning("The broker does not take a notice (%s %r): %r", notice, about, problem)
            return False
    return True


def calls_of(notice: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Return what a notice calls for: a `Relay` method and its arguments, for each item.

    Args:
        notice: as `post` has sent it; whatever else it is is logged.
    """
    if notice[NOTICE] == "changed":
        return [("_changed", [notice.get("task_id")])]
    if notice[NOTICE] == "adopted":
        return [("adopt", [str(notice.get("visitor")), str(notice.get("owner"))])]
    if notice[NOTICE] == "gone":
        return [("_gone", [notice.get("owner"), notice.get("task_id")])]
    suspects = notice.get("suspects")
    if notice[NOTICE] == "suspects" and isinstance(suspects, list):
        return [("_judge", suspect) for suspect in suspects if isinstance(suspect, list)]
    logger.error("An unknown notice: %.500r", notice)
    return []
