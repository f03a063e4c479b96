"""This site as it is measured: web processes and workers on cores of their own, over RabbitMQ, Redis and PostgreSQL."""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from kombu import Connection
from websockets.sync.client import connect

from livejobs.backend import REPLY_QUEUE
from testkit.processes import Site, free_port, healthy, wait_until
from testkit.services import AMQP, POSTGRES, REDIS, rabbitmqctl

SERVER_CORE, CLIENT_CORE = 0, 1
#: A message's content type, content encoding and delivery mode, and when it expires, as AMQP has them.
PROPERTIES = b"\x10application/json" + b"\x05utf-8" + b"\x01"
EXPIRES = b"\x03200"  # milliseconds: livejobs.report.OLD_NEWS
SERVERS = {
    # As many connections may wait to be accepted as on uvicorn; of itself Daphne lets 50 wait.
    "daphne": "daphne -v 0 --websocket-max-message-size 65536 -e tcp:port={port}:interface=127.0.0.1:backlog=2048"
    " benchmarks.asgi:application",
    "uvicorn": "uvicorn --log-level warning --ws websockets-sansio --loop uvloop --ws-max-size 65536"
    " --ws-per-message-deflate false --port {port} benchmarks.asgi:application",
}


class Measured(Site):
    """The site, on chosen servers and cores. Its limits are out of the way."""

    web_pid = 0
    cookie = ""

    def web_on(self, server: str, core: int = SERVER_CORE) -> str:
        """Start a production web process on a core. Returns its host and port."""
        port = free_port()
        program, *arguments = SERVERS[server].format(port=port).split()
        process = self.start(f"{server}-{port}", "-m", program, *arguments)
        pin(process.pid, core)
        wait_until(lambda: healthy(f"127.0.0.1:{port}"), f"{server} answers; see {self.folder}")
        self.web_pid = process.pid
        return f"127.0.0.1:{port}"

    def visitors(self, count: int) -> list[str]:
        """Make visitors with a job each. Returns their session cookies."""
        command = [sys.executable, "-m", "benchmarks.visitors", str(count)]
        environment = self.environment | {"DJANGO_SETTINGS_MODULE": "CeleryProgressbar.settings"}
        keys = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        return [f"sessionid={key}" for key in keys]

    def worker_on(self, core: int, concurrency: int = 1) -> int:
        """Start a worker on a core. Returns its process id."""
        process = self.worker(concurrency, "-I", "benchmarks.tasks")
        for pid in [process.pid, *children(process.pid)]:
            pin(pid, core)
        return process.pid


def pin(pid: int, core: int) -> None:
    """Keep a process, with all threads it has or will have, on a core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return the memory that a process holds, in KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def site() -> Iterator[Measured]:
    """This site over services of its own, which are gone afterwards."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        rabbitmqctl("add_vhost", name)
        stack.callback(rabbitmqctl, "delete_vhost", name)
        rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        admin = stack.enter_context(psycopg.connect(POSTGRES, autocommit=True))
        admin.execute(f"CREATE DATABASE {name}")
        stack.callback(admin.execute, f"DROP DATABASE {name} WITH (FORCE)")
        redis.Redis.from_url(REDIS + "13").flushdb()
        measured = Measured(
            Path(folder),
            CELERY_BROKER_URL=AMQP + name,
            REDIS_URL=REDIS + "13",
            DATABASE_URL=POSTGRES.rpartition("/")[0] + f"/{name}",
            JOBS_UNFINISHED_PER_OWNER="1000000",
            SOCKETS_PER_OWNER="1000000",
        )
        stack.callback(measured.kill_all)
        yield measured


class Sockets:
    """A client process with many sockets; see `benchmarks.sockets`."""

    def __init__(self, host: str, count: int, paths: list[str], core: int = CLIENT_CORE, **orders: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sockets", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say({"host": host, "count": count, "paths": paths, **orders})

    def _say(self, orders: dict) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(orders) + "\n")
        self.process.stdin.flush()

    def ready(self) -> None:
        """Wait until all sockets are open."""
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def cut(self) -> None:
        """Wait until all sockets are open, and end the client."""
        self.ready()
        self.notes()

    def notes(self) -> dict[str, Any]:
        """End the client. Returns what it has noted."""
        out, _ = self.process.communicate()
        return json.loads(out)


class Reports:
    """Publishes replies to the reply queue as a worker does, on an open-loop schedule.

    It writes the broker's frames by hand, as a library would cost more than all that is measured.
    Source: AMQP 0-9-1 specification, sections 2.3.5 "Frame Details" and 4.2.6 "Content Framing".
    """

    def __init__(self, amqp_url: str, queue: str | None = None) -> None:
        self.connection = Connection(amqp_url, transport_options={"confirm_publish": False})
        channel = self.connection.default_channel
        if queue is None:
            REPLY_QUEUE(channel).declare()
        name = (queue or REPLY_QUEUE.name).encode()
        self.socket = self.connection.connection.transport.sock
        self.socket.settimeout(None)
        self.number = channel.channel_id
        self.publish = self._frame(1, struct.pack(f">HHHBB{len(name)}sB", 60, 40, 0, 0, len(name), name, 0))
        self.seq = 0

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return struct.pack(">BHI", kind, self.number, len(payload)) + payload + b"\xce"

    def send(self, task_id: str, state: str, result: Any = None) -> None:
        """Publish one reply."""
        self.socket.sendall(self._reply(task_id, state, result))

    def report(self, task_id: str, due: float) -> None:
        """Publish a percentage that was due at a moment."""
        self.socket.sendall(self._report(task_id, due, 1))

    def run(self, task_ids: list[str], rate: float, seconds: float) -> int:
        """Report for all jobs in turn, `rate` reports a second in all. Returns how many were published.

        Those of a millisecond are written together.
        """
        count = int(rate * seconds)
        began, ready = time.time() + 0.01, bytearray()
        for number in range(count):
            due = began + number / rate
            wait = due - time.time()
            if wait > 0:
                self.socket.sendall(ready)
                ready.clear()
                time.sleep(max(wait, 0.001))
            ready += self._report(task_ids[number % len(task_ids)], due, number % 100)
        self.socket.sendall(ready)
        return count

    def _report(self, task_id: str, due: float, current: float) -> bytes:
        self.seq += 1
        meta = {"current": current, "total": 100, "description": f"due={due:.6f}"}
        return self._reply(task_id, "PROGRESS", {**meta, "seq": 10**9 + self.seq, "attempt": 1})

    def _reply(self, task_id: str, state: str, result: Any) -> bytes:
        """Return a reply in the broker's frames; a percentage expires, as those of `JobTask.track` do."""
        reply = {"task_id": task_id, "status": state, "result": result, "traceback": None, "children": []}
        body = json.dumps(reply).encode()
        flags, expires = (0xD100, EXPIRES) if state == "PROGRESS" else (0xD000, b"")
        head = struct.pack(">HHQH", 60, 0, len(body), flags) + PROPERTIES + expires
        return self.publish + self._frame(2, head) + self._frame(3, body)


def visitor(host: str) -> str:
    """Open the page. Returns the session cookie."""
    with urllib.request.urlopen(f"http://{host}/") as page:
        cookies = [cookie.split(";")[0] for cookie in page.headers.get_all("Set-Cookie")]
        return next(cookie for cookie in cookies if cookie.startswith("sessionid="))


def start(host: str, cookie: str, kind: str = "count_primes", **params: Any) -> str:
    """Start a job over a socket. Returns its task id."""
    with connect(f"ws://{host}/ws/jobs/", additional_headers={"Cookie": cookie}) as socket:
        ref = str(uuid.uuid4())
        socket.send(json.dumps({"type": "start", "kind": kind, "params": params, "ref": ref}))
        while (frame := json.loads(socket.recv()))["ref"] != ref:
            continue
        return frame["task_id"]


def p(values: list[float], share: float) -> float:
    """Return a percentile in milliseconds, of values in seconds; infinity where there are none."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))]
