"""kombu's Redis transport, mended.

A channel whose connection was closed says so, and ends no worker. A queue that has a sole consumer loses no message.
"""

from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads


class Channel(redis.Channel):
    """A channel of Redis.

    kombu 5.7 raises AttributeError if a message is acknowledged, or given back, after its connection was closed, and a
    worker ends of that. The message is delivered again after the visibility timeout; the job's lease tells that this is
    a duplicate.
    """

    #: The queue of which this channel is the sole consumer, if it has said so.
    own_queue: str | None = None

    def consume_alone(self, queue: str) -> None:
        """Take the messages of a queue so that none is lost with this process or its connection.

        kombu takes a message by BRPOP, and notes afterwards what it has taken: what is on its way between the two is
        lost if the process is killed or the connection is cut. Instead, Redis itself moves the message to a list of
        those that are taken; BLMOVE needs Redis 6.2. Measured: one of some hundred fault runs had lost a reply so.

        Args:
            queue: its name. No other process consumes it: what one that is dead had taken is put back.
        """
        self.own_queue = queue
        with self.conn_or_acquire() as client:
            # The oldest is put back last, as it is then the first to be taken.
            while client.execute_command("LMOVE", self._taken(), self._key(queue), "LEFT", "RIGHT"):
                pass
        self.restore_taken()

    def forget_taken(self) -> None:
        """Forget what was taken, as all of it is acknowledged, but for the newest: it may be on its way."""
        if self.own_queue:
            with self.conn_or_acquire() as client:
                client.execute_command("LTRIM", self._taken(), 0, 0)

    def _key(self, name: str) -> str:
        return f"{self.global_keyprefix}{name}"

    def _taken(self) -> str:
        return self._key(f"{self.own_queue}.taken")

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self.own_queue is None or self.active_queues != [self.own_queue]:
            super()._brpop_start(timeout)
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()  # type: ignore[assignment]
        patience = (self.brpop_timeout if timeout is None else timeout) or 0
        command = ("BLMOVE", self._key(self.own_queue), self._taken(), "RIGHT", "LEFT", patience)
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        if self.own_queue is None or self.active_queues != [self.own_queue]:
            return bool(super()._brpop_read(**options))
        connection = self.client.connection
        try:
            item = self.client.parse_response(connection, "BLMOVE", **options)
        except self.connection_errors:
            connection.disconnect()
            raise
        finally:
            self._in_poll = None  # type: ignore[assignment]
            self._flush_brpop_reauth()
        if not item:
            raise Empty
        self.connection._deliver(loads(bytes_to_str(item)), self.own_queue)
        return True

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("The connection of this channel was closed.")
        params: dict[str, Any] = super()._connparams(asynchronous)
        return params

    def restore_taken(self) -> None:
        """Put all messages back that were taken over connections with this one's options and never acknowledged.

        Only a process that knows that it is the sole consumer may call it. Otherwise these messages come back after
        the visibility timeout.
        """
        with self.conn_or_acquire() as client:
            # The oldest is put back last, as it is then the first to be taken.
            for tag in client.zrange(self.unacked_index_key, 0, -1, desc=True):
                self.qos.restore_by_tag(tag, client)


class Transport(redis.Transport):
    """`redis://` and `rediss://`, with the channel above."""

    Channel = Channel
