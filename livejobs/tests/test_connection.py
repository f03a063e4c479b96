"""The connection under a socket: what goes over it, and what happens where the other side does not read."""

# ruff: noqa: N802 - Twisted's names

import asyncio
import socket
from functools import partial

import pytest
from twisted.internet.error import ConnectionLost
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from livejobs import watcher as watcher_module
from livejobs.under.connection import connection_under, text_frame
from livejobs.watcher import Watcher


class Line(asyncio.Protocol):
    """A server's end of a connection, with a `send` as uvicorn's protocol has it."""

    def __init__(self):
        self.made, self.lost = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.made.set()

    def connection_lost(self, problem):
        self.lost.set()

    async def send(self, message):
        self.transport.write(message.get("text", message["type"]).encode())


@pytest.fixture
async def line():
    """A connection whose other side never reads."""
    line = Line()
    server = await asyncio.get_running_loop().create_server(lambda: line, "127.0.0.1", 0)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(server.sockets[0].getsockname())
    async with asyncio.timeout(30):
        await line.made.wait()
    line.peer = peer
    yield line
    peer.close()
    connection_under(line.send).abort()
    server.close()
    await server.wait_closed()


async def fill(line):
    connection = connection_under(line.send)
    await connection.send({"type": "websocket.send", "text": "x" * 1_000_000})
    assert connection.unread
    return connection


async def test_a_connection_that_waits_for_a_reader_is_ended_at_once(line):
    connection = await fill(line)
    assert not connection.closing
    line.transport.close()
    assert connection.closing
    assert not line.lost.is_set()
    connection.abort()
    async with asyncio.timeout(30):
        await line.lost.wait()
    connection.abort()  # once more does no harm
    with pytest.raises(ConnectionResetError):
        b"".join(iter(lambda: line.peer.recv(1_000_000), b""))


async def test_what_has_ended_because_all_was_read_is_not_ended_again(line):
    connection = await fill(line)
    line.transport.close()
    await asyncio.to_thread(lambda: b"".join(iter(lambda: line.peer.recv(1_000_000), b"")))
    await line.lost.wait()
    connection.abort()


async def test_a_closed_socket_does_not_wait_for_ever_until_the_rest_is_read(line, monkeypatch):
    monkeypatch.setattr(watcher_module, "LAST_WORDS", 0.05)
    await fill(line)
    incoming = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await Watcher()({"type": "websocket"}, incoming.get, line.send)
    line.transport.close()  # as uvicorn does when the consumer has ended
    async with asyncio.timeout(30):
        await line.lost.wait()


async def test_a_frame_is_written_at_once_and_after_what_is_unread(line):
    connection = connection_under(line.send)
    await connection.send_text("at once")
    await fill(line)
    await connection.send_text("later")
    frame = text_frame("at once")
    assert await asyncio.to_thread(line.peer.recv, len(frame)) == frame
    line.transport.close()
    read = await asyncio.to_thread(lambda: b"".join(iter(lambda: line.peer.recv(1_000_000), b"")))
    assert read == b"x" * 1_000_000 + b"later"  # as the server has written it


async def test_nothing_is_written_after_the_farewell(line):
    connection = connection_under(line.send)
    await connection.send({"type": "websocket.close"})
    await connection.send_text("more")
    line.transport.close()
    assert await asyncio.to_thread(line.peer.recv, 100) == b"websocket.close"


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
@pytest.mark.parametrize("letter", ["x", "\u00e9"])
def test_a_text_frame_is_what_a_client_reads(length, letter):
    client = ClientProtocol(parse_uri("ws://127.0.0.1/"), state=OPEN, max_size=None)
    client.receive_data(text_frame(letter * length))
    (frame,) = client.events_received()
    assert (frame.opcode, frame.fin, frame.data.decode()) == (1, True, letter * length)


class Twisted:
    """A transport of Twisted's, as far as it is used here."""

    connected, disconnecting, producer, reading = True, False, "the HTTP channel", True
    room = 10**6  # how much the kernel takes

    def __init__(self):
        self.socket = socket.socket()
        self.kernel, self.dataBuffer, self._tempDataBuffer = b"", b"", []

    def writeSomeData(self, data):
        taken, self.room = data[: self.room], max(0, self.room - len(data))
        self.kernel += taken
        return len(taken)

    def write(self, data):
        if data:
            self._tempDataBuffer.append(data)

    def registerProducer(self, producer, streaming):
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self):
        self.producer = None

    def pauseProducing(self):
        self.reading = False

    def resumeProducing(self):
        self.reading = True

    def abortConnection(self):
        self.producer.stopProducing()


@pytest.fixture
def daphne():
    """A protocol of Daphne's, what it has sent, and the connection under it."""

    async def handle_reply(protocol, message):
        protocol.sent.append(message["type"])

    protocol = type("Protocol", (), {"STATE_OPEN": 3, "state": 3, "wasClean": False})()
    protocol.sent, protocol.transport = [], Twisted()
    protocol.connection = connection_under(partial(handle_reply, protocol))
    yield protocol
    protocol.transport.socket.close()


async def test_on_daphne_a_frame_waits_while_much_is_unread_and_a_farewell_does_not(daphne):
    daphne.transport.producer.pauseProducing()
    frame = asyncio.create_task(daphne.connection.send({"type": "websocket.send"}))
    await daphne.connection.send({"type": "websocket.close"})
    assert daphne.sent == ["websocket.close"]
    assert not daphne.transport.reading
    daphne.transport.producer.resumeProducing()
    await frame
    assert daphne.sent == ["websocket.close"]  # RFC 6455, section 5.5.1: nothing is sent after it
    assert daphne.transport.reading


async def test_on_daphne_nobody_waits_for_a_connection_that_is_gone(daphne):
    daphne.transport.producer.pauseProducing()
    frame = asyncio.create_task(daphne.connection.send({"type": "websocket.send"}))
    await asyncio.sleep(0)
    daphne.connection.abort()
    async with asyncio.timeout(30):
        await frame


async def test_on_daphne_a_connection_that_ends_is_not_asked_for_more(daphne):
    daphne.transport.producer.pauseProducing()
    daphne.transport.disconnecting = True
    daphne.transport.producer.resumeProducing()
    assert daphne.transport.producer is None


async def test_on_daphne_a_frame_goes_to_the_kernel_at_once(daphne):
    await daphne.connection.send_text("one")
    await daphne.connection.send_text("two")
    assert daphne.transport.kernel == text_frame("one") + text_frame("two")
    assert not daphne.transport._tempDataBuffer


async def test_on_daphne_twisted_has_what_the_kernel_does_not_take_and_all_after_it(daphne):
    daphne.transport.room = 4
    for text in ("one", "two"):
        await daphne.connection.send_text(text)
        daphne.transport.room = 100
    assert daphne.transport.kernel == text_frame("one")[:4]
    assert daphne.transport._tempDataBuffer == [text_frame("one")[4:], text_frame("two")]


@pytest.mark.parametrize("gone", ["by a farewell", "by the network", "while it is written to"])
async def test_on_daphne_nothing_is_written_to_a_socket_that_has_ended(daphne, gone, monkeypatch):
    if gone == "by a farewell":
        daphne.state = 2
    elif gone == "by the network":
        daphne.transport.connected = False
    else:
        monkeypatch.setattr(daphne.transport, "writeSomeData", lambda data: ConnectionLost())
    await daphne.connection.send_text("one")
    assert daphne.transport.kernel == b""
    assert not daphne.transport._tempDataBuffer


@pytest.mark.parametrize("handshake", [True, False])
async def test_on_daphne_a_connection_that_ended_without_a_handshake_is_lost(daphne, handshake):
    assert not daphne.connection.lost
    daphne.transport.connected, daphne.wasClean = False, handshake
    assert daphne.connection.lost is not handshake
