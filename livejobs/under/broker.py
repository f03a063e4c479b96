"""How often an unreachable broker is tried again."""

from typing import Any

import kombu
from celery.app import amqp


class Connection(kombu.Connection):
    """A connection that is tried again every 2 s at most, where kombu waits up to 30 s: work goes on soon."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> kombu.Connection:
        """Connect, trying again and again."""
        connected: kombu.Connection = super().ensure_connection(
            *args, **{"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2.0, **kwargs}
        )
        return connected


class AMQP(amqp.AMQP):
    """Celery's, with the connection above."""

    Connection = Connection
