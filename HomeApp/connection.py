"""The connection under a socket: it makes the site wait for a slow reader, and can be ended at once.

ASGI speaks of neither, so this reaches for what the two servers have. Another server is used as ASGI has it.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Closing with this option drops what the kernel holds for a peer that takes nothing. Source: socket(7), SO_LINGER.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
#: Bytes that the kernel holds for a peer, which it doubles for its own needs. Left to itself it holds up to 4 MiB, and
#: a slow reader is shown what was true long ago. Source: socket(7), SO_SNDBUF, and tcp(7), tcp_wmem.
KERNEL_HOLDS = 65_536


class Connection:
    """A connection of which nothing is known but how to send.

    Args:
        send: as the server has given it.
    """

    def __init__(self, send: Send) -> None:
        self.send = send

    @property
    def closing(self) -> bool:
        """Whether the server is ending it, and waits for the peer to take what is unread."""
        return False

    @property
    def unread(self) -> bool:
        """Whether the server itself would wait for the peer for ever, if it ended it now."""
        return False

    def abort(self) -> None:
        """End it at once; what is unread is lost."""


class UvicornConnection(Connection):
    """On uvicorn, whose `send` waits while more than 64 KiB are unread.

    Its own end, that after an unanswered ping too, waits until all is read: for ever, where nobody reads.
    """

    def __init__(self, send: Send, transport: asyncio.Transport) -> None:
        super().__init__(send)
        self.transport = transport
        self._set(socket.SO_SNDBUF, KERNEL_HOLDS)

    @property
    def closing(self) -> bool:
        """Whether the server is ending it, and waits for the peer to take what is unread."""
        return self.transport.is_closing()

    @property
    def unread(self) -> bool:
        """Whether the server itself would wait for the peer for ever, if it ended it now."""
        return self.transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """End it at once; what is unread is lost."""
        if self._set(socket.SO_LINGER, RESET_ON_CLOSE):
            self.transport.abort()

    def _set(self, option: int, value: int | bytes) -> bool:
        """Set an option, and return True; False for a connection that is gone: asyncio's may not be ended again."""
        descriptor = self.transport.get_extra_info("socket")  # each time: uvloop's are not told of the end
        if descriptor.fileno() < 0:
            return False
        descriptor.setsockopt(socket.SOL_SOCKET, option, value)
        return True


class DaphneConnection(Connection):
    """On Daphne, whose `send` never waits: as Twisted's "push producer", it is told when 64 KiB are unread.

    It takes the place of the producer that answered HTTP requests on this connection before it was a socket's. Like
    that one it does not read from a peer that does not read: nobody can make it keep answers.
    Source: Twisted, "Producers and Consumers", and twisted.internet.interfaces.IPushProducer.
    """

    def __init__(self, send: Send, transport: Any) -> None:
        self.send_at_once, self.transport = send, transport
        self.all_read: asyncio.Event | None = None  # there while it is waited for: most sockets never need it
        if transport.connected:
            transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_HOLDS)
            transport.unregisterProducer()
            transport.registerProducer(self, True)

    async def send(self, message: dict[str, Any]) -> None:
        """Send, as soon as most has been read."""
        while self.all_read and message["type"] == "websocket.send":
            await self.all_read.wait()
        await self.send_at_once(message)

    def abort(self) -> None:
        """End it at once; what is unread is lost."""
        self.transport.abortConnection()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Called when much is unread."""
        if self.all_read is None:
            self.all_read = asyncio.Event()
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """Called when all has been read."""
        self.stopProducing()
        if self.transport.disconnecting:
            self.transport.unregisterProducer()  # else Twisted waits for more
        else:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:  # noqa: N802
        """Called when the connection is gone."""
        if self.all_read:
            self.all_read.set()
            self.all_read = None


def connection_under(send: Send) -> Connection:
    """Return the connection of a socket.

    Args:
        send: as the server has given it. uvicorn's is a method of its protocol, Daphne's a partial call with it.
    """
    protocol = send.args[0] if isinstance(send, partial) and send.args else getattr(send, "__self__", None)
    transport: Any = getattr(protocol, "transport", None)
    if hasattr(transport, "get_write_buffer_size"):
        return UvicornConnection(send, transport)
    if hasattr(transport, "abortConnection"):
        return DaphneConnection(send, transport)
    return Connection(send)
