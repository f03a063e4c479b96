"""A client process that holds many WebSockets and notes when each frame came: `python -m benchmarks.sockets`.

It reads its orders as one JSON line from standard input, prints `ready` once all sockets are open and have had their
first frame, and prints its notes as one JSON line when its standard input is closed. The WebSocket protocol is read
here by hand (RFC 6455, section 5.2: server frames are not masked), as a library would cost the client more than the
server spends.
"""

import asyncio
import base64
import json
import os
import re
import resource
import sys
import time
from array import array

import uvloop

DUE = re.compile(rb"due\W{1,4}(\d+\.\d+)")


class Client(asyncio.Protocol):
    """One WebSocket.

    Args:
        notes: where what happens is noted.
        request: the HTTP upgrade request.
        say: a text frame to be sent once the socket is open, or nothing.
    """

    def __init__(self, notes: "Notes", request: bytes, say: str) -> None:
        self.notes, self.request, self.say = notes, request, say
        self.buffer = b""
        self.open = self.greeted = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        self.asked = time.perf_counter()
        transport.write(self.request)

    def connection_lost(self, problem: Exception | None) -> None:
        """Note that the socket is gone."""
        self.notes.gone()

    def data_received(self, data: bytes) -> None:
        """Take whole frames out of what has come so far."""
        now = time.time()
        data = self.buffer + data if self.buffer else data
        position = 0
        if not self.open:
            position = data.find(b"\r\n\r\n") + 4
            if position < 4:
                self.buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.notes.refused(data[:60].decode(errors="replace"))
                self.transport.close()
                return
            self.open = True
            self.greeted = not self.notes.orders.get(
                "greeted", True
            )  # who greets nobody has no first frame to wait for
            self.notes.opened(self)
        end = len(data)
        while end - position >= 2:
            length, start = data[position + 1], position + 2
            if length == 126:
                length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif length == 127:
                length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            if end < start + length or end < start:
                break
            self.frame(data[position] & 0x0F, data[start : start + length], now)
            position = start + length
        self.buffer = data[position:]

    def frame(self, opcode: int, payload: bytes, now: float) -> None:
        """Note one frame."""
        if opcode == 1:
            if not self.greeted:
                self.greeted = True
                self.notes.greeted(time.perf_counter() - self.asked)
            else:
                self.notes.frame(self, payload, now)
        elif opcode == 9:  # ping
            self.transport.write(masked(0x8A, payload))

    def send(self, text: str) -> None:
        """Send a text frame."""
        self.transport.write(masked(0x81, text.encode()))


def masked(head: int, payload: bytes) -> bytes:
    """Return a client frame; the mask is all zeros, which is as good as any other here."""
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + length.to_bytes(2, "big")
    return bytes([head]) + size + bytes(4) + payload


class Notes:
    """What has happened to all sockets of this process."""

    def __init__(self, orders: dict) -> None:
        self.orders = orders
        self.ready = asyncio.Event()
        self.open = self.greetings = self.lost = self.frames = self.bytes = 0
        self.refusals: list[str] = []
        self.latencies, self.arrivals = array("d"), array("d")
        self.first_frames = array("d")
        self.ends: set[tuple[Client, str]] = set()
        self.end_times = array("d")
        self.last_greeting = 0.0

    def opened(self, client: Client) -> None:
        """A socket is open."""
        self.open += 1
        if client.say:
            client.send(client.say)
        if not self.orders.get("greeted", True) and self.open == self.orders["count"]:
            self.ready.set()

    def greeted(self, seconds: float) -> None:
        """A socket has had its first frame, so many seconds after it had asked to be opened."""
        self.first_frames.append(seconds)
        self.greetings += 1
        self.last_greeting = time.time()
        if self.greetings == self.orders["count"]:
            self.ready.set()

    def gone(self) -> None:
        """A socket has been closed."""
        self.lost += 1

    def refused(self, answer: str) -> None:
        """A socket was not let in."""
        self.refusals.append(answer)

    def frame(self, client: Client, payload: bytes, now: float) -> None:
        """A text frame has come."""
        self.frames += 1
        self.bytes += len(payload)
        if b'"SUCCESS"' in payload:  # the site's last frame repeats the last report's words
            self.ends.add((client, json.loads(payload).get("task_id")))
            self.end_times.append(now)
        elif due := DUE.search(payload):
            self.latencies.append(now - float(due[1]))
            self.arrivals.append(now)

    def report(self) -> dict:
        """Return all notes. Latencies are in seconds."""
        return {
            "open": self.open,
            "lost": self.lost,
            "refusals": self.refusals[:3],
            "frames": self.frames,
            "bytes": self.bytes,
            "latencies": list(self.latencies),
            "arrivals": list(self.arrivals),
            "first_frames": list(self.first_frames),
            "greetings": self.greetings,
            "last_greeting": self.last_greeting,
            "ends": len(self.ends),
            "end_times": list(self.end_times),
            "cpu": time.process_time(),
        }


async def connect(host: str, notes: Notes, path: str, headers: str, say: str) -> None:
    """Open one socket."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n"
    )
    name, _, port = host.partition(":")
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(lambda: Client(notes, request.encode(), say), name, int(port))
    except OSError as problem:
        notes.refused(repr(problem))


async def main() -> None:
    """Do as ordered."""
    orders = json.loads(sys.stdin.readline())
    notes = Notes(orders)
    paths, cookies = orders["paths"], orders.get("cookies") or [""]
    gate = asyncio.Semaphore(orders.get("at_once", 100))

    async def one(number: int) -> None:
        cookie = cookies[number % len(cookies)]
        headers = f"Cookie: {cookie}\r\n" if cookie else ""
        async with gate:
            await connect(orders["host"], notes, paths[number % len(paths)], headers, orders.get("say", ""))

    began = time.time()
    await asyncio.gather(*(one(number) for number in range(orders["count"])))
    try:
        async with asyncio.timeout(orders.get("patience", 60)):
            await notes.ready.wait()
    except TimeoutError:
        pass  # the notes tell how many are missing
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print(json.dumps({**notes.report(), "began": began}), flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    uvloop.run(main())
