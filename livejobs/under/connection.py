"""The connection under a socket: it takes ready frames, makes the site wait for a slow reader, and ends at once.

ASGI speaks of none of these, so this reaches for what the two servers have. Another server is used as ASGI has it.
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
        self.server_send = send
        self.farewell = False  # after it, nothing may be sent: RFC 6455, section 5.5.1

    async def send(self, message: dict[str, Any]) -> None:
        """Send an ASGI message, unless the socket has been closed."""
        if not self.farewell:
            self.farewell = message["type"] == "websocket.close"
            await self.server_send(message)

    async def send_text(self, text: str) -> None:
        """Send a text frame, as soon as most of what was sent has been read."""
        await self.send({"type": "websocket.send", "text": text})

    @property
    def closing(self) -> bool:
        """Whether the server is ending it, and waits for the peer to take what is unread."""
        return False

    @property
    def lost(self) -> bool:
        """Whether it is known to have ended without the closing handshake. Source: RFC 6455, section 7.1.5, 1006."""
        return False

    @property
    def unread(self) -> bool:
        """Whether the server itself would wait for the peer for ever, if it ended it now."""
        return False

    def abort(self) -> None:
        """End it at once; what is unread is lost."""


class UvicornConnection(Connection):
    """On uvicorn, whose `send` waits while more than 64 KiB are unread.

    Its own end, that after an unanswered ping too, waits until all is read: for ever, if the peer does not read.
    """

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self.protocol = protocol
        self.transport: asyncio.Transport = protocol.transport
        self._set(socket.SO_SNDBUF, KERNEL_HOLDS)

    async def send_text(self, text: str) -> None:
        """Send a text frame past the server, which takes seven times as long to make one, unless that must wait."""
        if self.transport.get_write_buffer_size() > 0:
            await super().send_text(text)
        elif not self.farewell and not self.closing:
            self.transport.write(text_frame(text))

    @property
    def closing(self) -> bool:
        """Whether the server is ending it, and waits for the peer to take what is unread."""
        return self.transport.is_closing()

    @property
    def lost(self) -> bool:
        """Whether it is known to have ended without the closing handshake."""
        machine = getattr(self.protocol, "conn", None)  # of the websockets library, with `--ws websockets-sansio`
        return self.closing and getattr(machine, "close_rcvd", True) is None and not self.farewell

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
    that one it does not read from a peer that does not read: no peer can make it keep answers.
    Source: Twisted, "Producers and Consumers", and twisted.internet.interfaces.IPushProducer.
    """

    def __init__(self, send: Send, protocol: Any) -> None:
        super().__init__(send)
        self.protocol, self.transport = protocol, protocol.transport
        self.plain = hasattr(type(self.transport), "writeSomeData")  # TLS passes on what it does not have itself
        self.all_read: asyncio.Event | None = None  # there while it is waited for: most sockets never need it
        if self.transport.connected:
            self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_HOLDS)
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)

    async def send(self, message: dict[str, Any]) -> None:
        """Send an ASGI message; data, as soon as most has been read."""
        while self.all_read and message["type"] == "websocket.send":
            await self.all_read.wait()
        await super().send(message)

    async def send_text(self, text: str) -> None:
        """Send a text frame past the server and Twisted's reactor, which together take four times as long."""
        while self.all_read:
            await self.all_read.wait()
        if self.protocol.state == self.protocol.STATE_OPEN and self.transport.connected:
            frame = text_frame(text)
            if self.plain and not (self.transport.dataBuffer or self.transport._tempDataBuffer):
                frame = self._write_at_once(frame)
            self.transport.write(frame)

    @property
    def lost(self) -> bool:
        """Whether it is known to have ended without the closing handshake."""
        return not self.transport.connected and not self.protocol.wasClean

    def _write_at_once(self, frame: bytes) -> bytes:
        """Write what the kernel takes. Returns the rest."""
        written = self.transport.writeSomeData(frame)
        return b"" if isinstance(written, Exception) else frame[written:]  # the reactor sees by itself that it is gone

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
        return UvicornConnection(send, protocol)
    if hasattr(transport, "abortConnection"):
        return DaphneConnection(send, protocol)
    return Connection(send)


def text_frame(text: str) -> bytes:
    """Return a server's text frame. Source: RFC 6455, section 5.2, "Base Framing Protocol"."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    if len(payload) < 2**16:
        return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload
    return b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload
