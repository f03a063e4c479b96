"""Sockets that do not read, or whose network is gone: what they cost on both servers, and when they are cut.

SLOW: a minute, which such sockets are given. Both servers have their minute at the same time.
"""

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kombu import Connection
from websockets.asyncio.client import connect

from livejobs.backend import REPLY_QUEUE
from testkit.fault_proxy import FaultProxy
from testkit.processes import Site, free_port, healthy, wait_until
from testkit.services import virtual_host
from testkit.watcher import visit

SERVERS = {
    "daphne": ["daphne", "-v", "0", "-b", "127.0.0.1", "-p"],
    "uvicorn": ["uvicorn", "--ws", "websockets-sansio", "--log-level", "warning", "--port"],
}
#: Sockets that never read, jobs that report, and how often each does.
STUCK, JOBS, REPORTS_A_SECOND = 20, 5, 20
BAD = STUCK + 1 + 2
#: Reports of each job that a slow page does not read, before it reads on.
PAUSE = 200
#: Seconds in which a dead socket must be gone, and in which a page must see what is reported: twice and thrice what the
#: site promises, as the machine may be slow. A page that the others held up would see it after some 40 s.
GONE_WITHIN, SEEN_WITHIN = 120, 15
MIB = 2**20


class Server:
    """A web process of its own, seen from outside.

    Args:
        name: which server.
        folder: for data and logs.
        broker: RabbitMQ's URL.
    """

    def __init__(self, name: str, folder: Path, broker: str):
        folder.mkdir()
        self.name, self.broker, self.port = name, broker, free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.site = Site(folder, CELERY_BROKER_URL=broker, REDIS_URL="", SOCKETS_PER_OWNER="1000")

    def start(self):
        """Start it, and visit it as the owner."""
        program = ["-m", *SERVERS[self.name], str(self.port), "testkit.watched_asgi:application"]
        self.pid = self.site.start(self.name, *program).pid
        wait_until(lambda: healthy(self.host), f"{self.name} answers; see {self.site.folder}")
        self.cookie = visit(self.host)

    def sockets(self) -> int:
        """Return how many sockets the hub holds."""
        with urllib.request.urlopen(f"http://{self.host}/hub", timeout=30) as answer:
            return json.load(answer)

    def connections(self) -> int:
        """Return how many connections the process holds, those that it listens with included."""
        held = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed while we look
                held += os.readlink(descriptor).startswith("socket:")
        return held

    def memory(self) -> int:
        """Return the memory that the process holds, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def with_little_room(self) -> socket.socket:
        """Return a connection whose client's kernel holds little that is unread."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        return client

    def open_and_never_read(self, cookie: str) -> socket.socket:
        """Open a socket whose client reads no more than a word of the answer to its handshake."""
        client = self.with_little_room()
        handshake = [
            "GET /ws/jobs/ HTTP/1.1",
            f"Host: {self.host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Cookie: {cookie}",
        ]
        client.sendall("\r\n".join([*handshake, "", ""]).encode())
        assert client.recv(12) == b"HTTP/1.1 101"
        return client

    def connect(self, port: int, cookie: str, **options):
        """Open a socket that reads and answers pings; it pings too, and ends when there is no answer."""
        headers = {"Cookie": cookie}
        return connect(f"ws://127.0.0.1:{port}/ws/jobs/", additional_headers=headers, proxy=None, **options)

    async def start_jobs(self) -> list[str]:
        """Start jobs, which no worker takes up. Returns their ids."""
        task_ids: set[str] = set()
        async with self.connect(self.port, self.cookie) as page:
            for _ in range(JOBS):
                frame = {"type": "start", "kind": "count_primes", "params": {}, "ref": str(uuid.uuid4())}
                await page.send(json.dumps(frame))
            while len(task_ids) < JOBS:
                task_ids.add(json.loads(await page.recv())["task_id"])
        return list(task_ids)

    def report(self, task_ids: list[str], over) -> int:
        """Publish reports as workers do until that is over. Returns the number of each job's last one."""
        number = 0
        with Connection(self.broker) as connection, connection.Producer() as producer:
            REPLY_QUEUE(connection.default_channel).declare()
            while not over.is_set():
                number += 1
                for task_id in task_ids:
                    meta = {"current": number, "total": 10**6, "seq": number, "attempt": 1}
                    meta["description"] = f"{time.time():.6f}".ljust(200, ".")
                    reply = {"task_id": task_id, "status": "PROGRESS", "result": meta, "traceback": None}
                    producer.publish(reply, exchange="", routing_key=REPLY_QUEUE.name, delivery_mode=1)
                over.wait(1 / REPORTS_A_SECOND)
        return number


class Page:
    """A page that reads, and notes how old each percentage is that it is told."""

    def __init__(self, client):
        self.client, self.ages, self.current = client, [], {}

    async def read(self):
        async for text in self.client:
            frame = json.loads(text)
            if frame["state"] == "PROGRESS":
                self.ages.append(time.time() - float(frame["description"].rstrip(".")))
                self.current[frame["task_id"]] = frame["current"]


async def minute(server: Server) -> dict[str, float]:
    """Let a server have sockets that do not read, and others, until those are gone. Returns what was measured."""
    over = threading.Event()
    task_ids = await server.start_jobs()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(over.set)
        page = Page(await stack.enter_async_context(server.connect(server.port, server.cookie, ping_interval=5)))
        little = {"ping_interval": None, "max_queue": 1, "compression": None, "sock": server.with_little_room()}
        late = Page(await stack.enter_async_context(server.connect(server.port, server.cookie, **little)))
        reading = [asyncio.create_task(page.read())]
        reporting = asyncio.get_running_loop().run_in_executor(None, server.report, task_ids, over)
        await until(lambda: len(page.current) == JOBS, "the page sees all jobs")
        good, began, most = server.connections(), time.monotonic(), [server.memory()]
        await open_bad_ones(server, stack)
        await until(lambda: server.sockets() == 2 + BAD, "all sockets are in the hub")

        def gone() -> bool:
            most.append(server.memory())
            return server.sockets() == 2 and server.connections() <= good

        await until(lambda: min(page.current.values()) > PAUSE, "the late page has missed much")
        reading.append(asyncio.create_task(late.read()))
        await until(gone, "the bad sockets have been cut", GONE_WITHIN - (time.monotonic() - began))
        measured = {"gone after s": time.monotonic() - began, "bytes each": (max(most) - most[0]) / STUCK}
        over.set()
        last = await reporting
        for one in (page, late):
            await until(lambda one=one: set(one.current.values()) == {last}, "a page is told all last reports")
        assert page.client.latency > 0  # its own pings are answered
        assert not any(task.done() for task in reading)  # and both have answered the server's
        for task in reading:
            task.cancel()
    measured |= {"reports": last * JOBS, "frames": len(page.ages), "late frames": len(late.ages)}
    return measured | {"oldest s": max(page.ages)}


async def open_bad_ones(server: Server, stack: contextlib.AsyncExitStack):
    """Open sockets that never read and sockets whose network is gone: the owner's, and one each of a stranger's."""
    stranger = await asyncio.to_thread(visit, server.host)
    proxy = FaultProxy("127.0.0.1", server.port)
    stack.callback(proxy.close)
    for cookie in (server.cookie, stranger):
        away = server.connect(proxy.port, cookie, ping_interval=None, close_timeout=0)
        await stack.enter_async_context(away)
    proxy.half_open()
    for cookie in [*[server.cookie] * STUCK, stranger]:
        client = await asyncio.to_thread(server.open_and_never_read, cookie)
        stack.callback(client.close)


async def until(condition, what: str, seconds: float = 30):
    """As `wait_until`, beside what else there is to do."""
    await asyncio.to_thread(wait_until, condition, what, seconds)


@pytest.fixture
def servers(tmp_path):
    """Both servers, each with its own everything."""
    with contextlib.ExitStack() as stack:
        brokers = [stack.enter_context(virtual_host()) for _ in SERVERS]
        with ThreadPoolExecutor() as pool:
            both = list(pool.map(Server, SERVERS, [tmp_path / name for name in SERVERS], brokers))
            for server in both:
                stack.callback(server.site.kill_all)
            list(pool.map(Server.start, both))
        yield both


async def test_who_does_not_read_is_cut_costs_little_and_holds_up_nobody(servers):
    outcomes = await asyncio.gather(*map(minute, servers), return_exceptions=True)
    print(dict(zip(SERVERS, outcomes, strict=True)))
    for measured in outcomes:
        if isinstance(measured, BaseException):
            raise measured
        assert measured["bytes each"] <= MIB
        assert measured["oldest s"] <= SEEN_WITHIN
        assert measured["late frames"] < measured["frames"]  # nothing was kept for it but the newest
