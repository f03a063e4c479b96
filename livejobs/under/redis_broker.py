"""kombu's Redis transport, mended.

A channel whose connection was closed says so, and ends no worker. A queue that has a sole consumer loses no message.
A queue is found whose key has a prefix.
"""

import logging
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

logger = logging.getLogger(__name__)


class Channel(redis.Channel):
    """A channel of Redis.

    kombu 5.7 raises AttributeError if a message is acknowledged, or given back, after its connection was closed, and a
    worker ends of that. The message is delivered again after the visibility timeout; the job's lease tells that this is
    a duplicate.
    """

    #: The queue of which this channel is the sole consumer, if it has said so.
    own_queue: str | None = None
    #: Whether no message of that queue may be with a connection that was cut, and older than those that come next.
    settled = True

    def consume_alone(self, queue: str) -> None:
        """Take the messages of a queue so that none is lost with this process or its connection.

        kombu takes a message by BRPOP, and notes afterwards what it has taken: what is on its way between the two is
        lost if the process is killed or the connection is cut. Instead, Redis itself moves each message to a list of
        those that are taken; BLMOVE needs Redis 6.2. Measured: one of some hundred fault runs had lost a reply so.
        kombu's own notes are then not needed (`no_ack`), which take four commands for each message.

        Args:
            queue: its name. No other process consumes it: what one that is dead had taken is put back, the oldest
                last, as it is then the first to be taken.
        """
        self.own_queue = queue
        self.taken: list[bytes] = []  # read and not acknowledged, the oldest first
        self.seen_taken: set[bytes] = set()
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as moves:
            for _ in range(client.llen(self._taken)):
                moves.execute_command("LMOVE", self._key(self._taken), self._key(queue), "LEFT", "RIGHT")
            moves.execute()

    def deliver_waiting(self, most: int) -> None:
        """Take the messages that wait, all in one round trip, once none is on its way.

        BLMOVE brings one message for each round trip, and a poll that does not wait comes before its answer. Measured:
        a relay that took them so carried some 150 reports a second.

        Args:
            most: how many at most.
        """
        queue, taken = self._key(str(self.own_queue)), self._key(self._taken)
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as moves:
            for _ in range(min(client.llen(self.own_queue), most)):
                moves.execute_command("LMOVE", queue, taken, "RIGHT", "LEFT")
            items = moves.execute()
        for item in filter(None, items):
            self._deliver(item)

    def acknowledge_taken(self, count: int) -> None:
        """Acknowledge the messages that were taken first.

        Args:
            count: how many of them.
        """
        done, self.taken = self.taken[:count], self.taken[count:]
        self._forget(done)

    def give_back(self) -> None:
        """Put back what was read and not acknowledged, the oldest last: another process takes it up at once."""
        if self.own_queue is None:
            return
        for item in reversed(self.taken):
            self._put_back(item)
        self.taken = []

    def restore_abandoned(self) -> None:
        """Put back what Redis had taken for a connection of which it did not know yet that it was cut.

        Such a message is in the list at two calls, and this channel has not read it. Between two calls, at least one
        batch must have been read and acknowledged.
        """
        if self.own_queue is None:
            return
        with self.conn_or_acquire() as client:
            there = client.lrange(self._key(self._taken), 0, -1)
        unknown = [item for item in there if item not in self.taken]
        for item in unknown:
            if item in self.seen_taken:
                self._put_back(item)
        self.seen_taken = set(there)
        self.settled = not unknown

    def _put_back(self, item: bytes) -> None:
        with self.conn_or_acquire() as client, client.pipeline() as both:
            both.rpush(self.own_queue, item).lrem(self._key(self._taken), -1, item).execute()

    def _forget(self, items: list[bytes]) -> None:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as removals:
            for item in items:
                removals.lrem(self._key(self._taken), -1, item)
            removals.execute()

    @property
    def _taken(self) -> str:
        return f"{self.own_queue}.taken"

    def _key(self, name: str) -> str:
        """Return a key for the commands LMOVE, BLMOVE, LRANGE and LREM: kombu prefixes those of LLEN and RPUSH itself.

        Source: kombu.transport.redis, `GlobalKeyPrefixMixin`.
        """
        return f"{self.global_keyprefix}{name}"

    def _brpop_start(self, timeout: float | None = None) -> None:
        if self.own_queue is None or self.active_queues != [self.own_queue]:
            super()._brpop_start(timeout)
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()  # type: ignore[assignment]
        patience = (self.brpop_timeout if timeout is None else timeout) or 0
        command = ("BLMOVE", self._key(self.own_queue), self._key(self._taken), "RIGHT", "LEFT", patience)
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
        self._deliver(item)
        return True

    def _deliver(self, item: bytes) -> None:
        """Give the consumer a message that was taken. One that cannot be read is dropped: it would come for ever."""
        try:
            self.connection._deliver(loads(bytes_to_str(item)), self.own_queue)
        except Exception:
            logger.exception("A message that cannot be read is dropped: %.500r", item)
            self._forget([item])
        else:
            self.taken.append(item)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        """Tell whether a queue is there. kombu 5.7 asks for its key without the prefix, and finds none.

        Each sweep then took all tasks that wait for lost, and sent them again.
        """
        return bool(self._size(queue) > 0)  # a list without items does not exist

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection is None or self.connection.client is None:
            raise ConnectionError("The connection of this channel was closed.")
        params: dict[str, Any] = super()._connparams(asynchronous)
        return params


class Transport(redis.Transport):
    """`redis://` and `rediss://`, with the channel above."""

    Channel = Channel
