"""A TCP proxy that breaks connections on demand: what a network does, without touching the service behind it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import Enum

PIECE = 65_536
#: Closing a socket with this option sends a reset instead of a farewell. Source: socket(7), SO_LINGER.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

#: The header by which a request asks to become a WebSocket; browsers send all headers in one piece.
UPGRADE = b"\r\nupgrade: websocket\r\n"


class Mode(Enum):
    """What the proxy does with connections."""

    PASS = "carries"
    DELAY = "delays"
    RESET = "resets and refuses"
    HALF_OPEN = "is silent"
    NO_SOCKETS = "carries all but WebSockets"


def reserve_port() -> socket.socket:
    """Keep a TCP port for this process: others may listen to it at our word, and nobody else is given it.

    A socket that is bound and does not listen refuses connections, as a port does that nobody has.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


class FaultProxy:
    """Carries TCP connections to a service until told to break them. It runs in a thread of its own.

    Args:
        host: where the service is.
        port: the service's port.
    """

    def __init__(self, host: str, port: int):
        self.service = host, port
        self.reserved = reserve_port()
        self.port = self.reserved.getsockname()[1]
        self.mode, self.seconds = Mode.PASS, 0.0
        self.carried: dict[asyncio.Task, list[asyncio.StreamWriter]] = {}
        self.server: asyncio.Server | None = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self.thread.start()
        self._call(self._listen())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.carried)

    def carry(self):
        """Carry everything again. Connections that were silent are reset, as by a router that has forgotten them."""
        self._call(self._change(Mode.PASS))

    def delay(self, seconds: float):
        """Let every piece of data wait, in both directions."""
        self._call(self._change(Mode.DELAY, seconds))

    def reset(self):
        """Reset all connections at once, and refuse new ones."""
        self._call(self._change(Mode.RESET))

    def half_open(self):
        """Fall silent: connections stay open, new ones are accepted, and nothing comes through any more."""
        self._call(self._change(Mode.HALF_OPEN))

    def refuse_sockets(self):
        """Reset whatever asks to become a WebSocket, as some companies' networks do."""
        self._call(self._change(Mode.NO_SOCKETS))

    def close(self):
        """End the proxy and all its connections."""
        self._call(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        self.reserved.close()

    def _call(self, work: Coroutine[None, None, None]):
        asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    async def _change(self, mode: Mode, seconds: float = 0):
        before, self.mode, self.seconds = self.mode, mode, seconds
        if mode == Mode.RESET:
            await self._refuse()
        if Mode.RESET in (before, mode) or before == Mode.HALF_OPEN != mode:
            await self._reset_all()
        if mode != Mode.RESET:
            await self._listen()

    async def _listen(self):
        if self.server is None:
            self.server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _refuse(self):
        if self.server is not None:
            for listening in self.server.sockets:
                asyncio.get_running_loop().remove_reader(listening)
            await asyncio.sleep(0)  # asyncio loses what it has accepted and not yet given to a server that is closed
            self.server.close()
            self.server = None

    async def _reset_all(self):
        carrying = list(self.carried)
        for task in carrying:
            for writer in self.carried[task]:
                _abort(writer)
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _end(self):
        self.mode = Mode.RESET
        await self._refuse()
        while asyncio.all_tasks() - {asyncio.current_task()}:  # asyncio may be about to accept a connection
            await self._reset_all()
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        """Note the connection before its task has begun, so that no reset passes it over."""
        ends = [writer]
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer, ends))
        self.carried[task] = ends
        task.add_done_callback(self._forget)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list):
        try:
            await self._carry(reader, writer, ends)
        except* OSError:
            pass  # one side is gone: then the other one goes too

    def _forget(self, task: asyncio.Task):
        for one in self.carried.pop(task):
            _abort(one)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list):
        if self.mode == Mode.HALF_OPEN:
            await self._pump(reader, None)
        else:
            there, back = await asyncio.open_connection(*self.service)
            ends.append(back)
            async with asyncio.TaskGroup() as pumps:  # if one fails, then the other one does not go on
                pumps.create_task(self._pump(reader, back))
                pumps.create_task(self._pump(there, writer))
            for one in ends:  # both have said farewell: what they said last still arrives
                one.close()
                await one.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None):
        try:
            while piece := await reader.read(PIECE):
                await self._pass_on(piece, writer)
        except OSError:
            if self.mode != Mode.HALF_OPEN:
                raise
        if self.mode == Mode.HALF_OPEN or writer is None:
            await asyncio.Event().wait()  # neither a farewell nor a reset is heard
        writer.write_eof()

    async def _pass_on(self, piece: bytes, writer: asyncio.StreamWriter | None):
        if self.mode == Mode.NO_SOCKETS and UPGRADE in piece.lower():
            raise ConnectionResetError
        if self.mode == Mode.DELAY:
            await asyncio.sleep(self.seconds)
        if self.mode != Mode.HALF_OPEN and writer is not None:
            writer.write(piece)
            await writer.drain()


def _abort(writer: asyncio.StreamWriter):
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
