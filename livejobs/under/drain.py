"""Takes from the broker what is there, in one go, with as little work for each message as py-amqp allows."""

from contextlib import nullcontext
from typing import Any

from amqp.transport import TCPTransport
from kombu import Connection, Message

#: Bytes taken from the broker's socket at a time, at most: some seven replies. py-amqp copies what is left of them for
#: each part of a message that it reads.
READ_AHEAD = 4096


def read_ahead(connection: Connection) -> None:
    """Let py-amqp take more from its socket than it has asked for.

    py-amqp 5.4 takes a few bytes at a time, nine times for each message, and each time lets go of Python's lock, for
    which it then has to wait while the event loop is busy: most of the delay under load came from that. What is read
    too early stays in py-amqp's own buffer.
    """
    transport = _tcp(connection)
    if transport:
        receive = transport.sock.recv
        transport._quick_recv = lambda count: receive(max(count, READ_AHEAD))


def drain(connection: Connection, messages: list[Message], most: int, timeout: float) -> None:
    """Take the messages that are waiting.

    Args:
        connection: whose consumers append to `messages`.
        messages: where they come.
        most: how many there may be.
        timeout: seconds to wait for the first one, unless there are some.
    """
    try:
        if not messages:
            connection.drain_events(timeout=timeout)
        channel: Any = connection.default_channel
        if getattr(channel, "own_queue", None):  # on Redis
            channel.deliver_waiting(most - len(messages))
            return
        transport = _tcp(connection)
        # Said once for all of them: py-amqp would change its socket's timeout six times for each message.
        with transport.having_timeout(0) if transport else nullcontext():
            while len(messages) < most:
                connection.drain_events(timeout=None if transport else 0)
    except (TimeoutError, BlockingIOError):
        return


def _tcp(connection: Connection) -> TCPTransport | None:
    transport = getattr(connection.connection, "transport", None)
    return transport if isinstance(transport, TCPTransport) else None
