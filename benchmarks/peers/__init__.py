"""The peers that the site is measured against, and how to run one of them.

    with running("stock", server="daphne", web_core=0, worker_core=1) as peer:
        task_id = str(uuid.uuid4())
        socket = connect(f"ws://{peer.host}{peer.path(task_id)}")
        if opening := peer.opening(count, rate):
            socket.send(opening)
        peer.start(count, rate, task_id)
        for text in socket:
            due = peer.due(text)      # latency = time.time() - due
            if peer.end(text):
                break

    stock                       stock Channels, its layer in Redis, its relay a plain thread
    stock_main_loop             the same, the relay using the server's event loop
    stock_memory                the same, with the layer in memory (there a plain thread's sends do not wake the server)
    tutorial                    the synchronous consumer that asks once a second
    celery_progress_websocket   celery-progress with WebSocketProgressRecorder
    celery_progress_polling     celery-progress with ProgressRecorder, asked over HTTP every half a second
    floor                       the barest relay there can be, on the worker of `stock`

All of them share Redis database 14, so run one at a time. Needs a RabbitMQ whose `rabbitmqctl` may be called.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from amqp.exceptions import NotFound
from celery import Celery
from kombu import Connection

FOLDER = Path(__file__).parent
REDIS_URL = "redis://127.0.0.1:6379/14"
PATIENCE = 60  # seconds until a process must be ready

DUE = re.compile(r"\bdue\W{1,4}(\d+\.\d+)")
END = re.compile(r'"(?:state|status)":\s*"(?:SUCCESS|FAILURE|REVOKED)"')


@dataclass(frozen=True)
class Kind:
    """What tells one peer from another.

    Attributes:
        web: the folder of the web process.
        worker: the folder of the worker.
        path: where a task is watched.
        env: its settings.
        reply_queue: the durable queue that its workers answer to, if it has one.
        start_path: where a start message may be sent, if anywhere.
        poll_interval: the seconds between two questions, if it is asked over HTTP.
    """

    web: str
    worker: str
    path: str
    env: dict[str, str] = field(default_factory=dict)
    reply_queue: str | None = None
    start_path: str | None = None
    poll_interval: float | None = None


def _stock(**env: str) -> Kind:
    return Kind("stock", "stock", "/ws/{}/", env, "stock.replies", "/ws/start/")


_PROGRESS = "celery_progress"
KINDS = {
    "stock": _stock(REDIS_URL=REDIS_URL),
    "stock_main_loop": _stock(REDIS_URL=REDIS_URL, RELAY_LOOP="main"),
    "stock_memory": _stock(),
    "tutorial": Kind("tutorial", "tutorial", "/ws/progress/", start_path="/ws/progress/"),
    "celery_progress_websocket": Kind(
        _PROGRESS, _PROGRESS, "/ws/progress/{}/", {"REDIS_URL": REDIS_URL, "MODE": "websocket"}
    ),
    "celery_progress_polling": Kind(
        _PROGRESS, _PROGRESS, "/celery-progress/{}/", {"REDIS_URL": REDIS_URL, "MODE": "polling"}, poll_interval=0.5
    ),
    "floor": Kind("floor", "stock", "/{}", reply_queue="floor.replies"),
}


@dataclass
class Peer:
    """A peer that runs.

    Attributes:
        name: one of KINDS.
        host: the web process's address, "127.0.0.1:port".
        web_pid: the web process.
        worker_pid: the worker; its pool's processes are its children.
        amqp_url: the peer's own virtual host.
        reply_queue: the durable queue of the replies (stock and floor), else None. A reply that a runner publishes
            there itself is Celery's: JSON, `{"task_id", "status", "result": {"due", …}}`, with the task's id as the
            message's `correlation_id`.
        start_path: where `start_text` may be sent (stock and tutorial), else None.
        poll_interval: the seconds between two questions where `path` is an HTTP path, else None.
        logs: the folder of the logs, gone at the end.
    """

    name: str
    host: str
    web_pid: int
    worker_pid: int
    amqp_url: str
    reply_queue: str | None
    start_path: str | None
    poll_interval: float | None
    logs: Path

    def __post_init__(self) -> None:
        self._celery = Celery("peer", broker=self.amqp_url, set_as_current=False)

    def path(self, task_id: str) -> str:
        """Return the WebSocket path, or where there is a `poll_interval` the HTTP path, that tells of a task."""
        return KINDS[self.name].path.format(task_id)

    def start_text(self, count: int, rate: float) -> str:
        """Return the frame that starts a task when sent to `start_path`."""
        return json.dumps({"type": "start", "count": count, "rate": rate})

    def opening(self, count: int, rate: float) -> str | None:
        """Return the frame that a client of `path` sends first, if any.

        Of the tutorial it is the start itself: it tells of a task only to the socket that started it.
        celery-progress's own script asks whether the task has ended already.
        """
        if self.name == "tutorial":
            return self.start_text(count, rate)
        return '{"type": "check_task_completion"}' if self.name == "celery_progress_websocket" else None

    def start(self, count: int, rate: float, task_id: str | None = None) -> str:
        """Send the task over the broker, as the web process would. Of the tutorial nothing is sent: see `opening`.

        Args:
            count: how many reports.
            rate: reports a second.
            task_id: choose it to watch the task before it starts; none of the peers repeats an early report.

        Returns:
            The task's id.
        """
        task_id = task_id or str(uuid.uuid4())
        if self.name != "tutorial":
            self._celery.send_task("report", (count, rate), task_id=task_id, reply_to=self.reply_queue)
        return task_id

    def due(self, text: str) -> float | None:
        """Return when the report of a frame or an HTTP body was due, or None where it carries none."""
        match = DUE.search(text)
        return float(match[1]) if match else None

    def end(self, text: str) -> bool:
        """Tell whether a frame or an HTTP body says that the task has ended."""
        return END.search(text) is not None


@contextmanager
def running(
    name: str,
    *,
    server: str = "daphne",
    web_core: int | None = None,
    worker_core: int | None = None,
    concurrency: int = 1,
) -> Iterator[Peer]:
    """Run a peer's web process and worker, with a virtual host and a Redis database of its own.

    Args:
        name: one of KINDS.
        server: "daphne" or "uvicorn"; the floor is its own server.
        web_core: the core that the web process is pinned to, if any.
        worker_core: the core that the worker and its pool are pinned to, if any.
        concurrency: how many processes the worker's pool has.

    Yields:
        The peer, once it listens, relays and works.

    Raises:
        RuntimeError: a process has ended, or was not ready in time; with the end of its log.
    """
    kind = KINDS[name]
    port = _free_port()
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{name}-")))
        amqp_url = stack.enter_context(_virtual_host(f"bench-{name}"))
        stack.enter_context(_redis_database())
        env = {key: value for key, value in os.environ.items() if key not in _OURS} | kind.env
        env |= {"CELERY_BROKER_URL": amqp_url, "REPLY_QUEUE": kind.reply_queue or "", "PORT": str(port)}
        web = stack.enter_context(_process(_web_command(kind, server, port), kind.web, env, web_core, logs / "web.log"))
        command = ["celery", "-A", "tasks", "worker", "-l", "info", "-c", str(concurrency)]
        worker = stack.enter_context(_process(command, kind.worker, env, worker_core, logs / "worker.log"))
        _wait("the web process", web, logs / "web.log", lambda: _answers(port))
        _wait("the worker", worker, logs / "worker.log", lambda: " ready." in (logs / "worker.log").read_text())
        if kind.reply_queue:
            _wait("the relay", web, logs / "web.log", lambda: _consumed(amqp_url, kind.reply_queue))
        yield Peer(
            name,
            f"127.0.0.1:{port}",
            web.pid,
            worker.pid,
            amqp_url,
            kind.reply_queue,
            kind.start_path,
            kind.poll_interval,
            logs,
        )


#: Settings that a peer must not inherit.
_OURS = {"REDIS_URL", "DATABASE_URL", "DJANGO_SETTINGS_MODULE", "RELAY_LOOP", "MODE", "CELERY_RESULT_BACKEND"}


def _web_command(kind: Kind, server: str, port: int) -> list[str]:
    if kind.web == "floor":
        return ["relay"]
    if server == "daphne":
        return ["daphne", "-e", f"tcp:port={port}:interface=127.0.0.1:backlog=2048", "asgi:application"]
    if server == "uvicorn":
        options = ["--ws", "websockets-sansio", "--loop", "uvloop", "--no-access-log"]
        return ["uvicorn", "--host", "127.0.0.1", "--port", str(port), *options, "asgi:application"]
    raise ValueError(f"no such server: {server}")


@contextmanager
def _process(
    command: list[str], folder: str, env: dict[str, str], core: int | None, log: Path
) -> Iterator[subprocess.Popen]:
    """Run a module in a peer's folder, in a session of its own, which is killed at the end."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=FOLDER / folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def _virtual_host(name: str) -> Iterator[str]:
    """Make a virtual host in RabbitMQ, in the place of one that a killed run has left; delete it at the end."""
    if name in _rabbitmqctl("list_vhosts", "name").split():
        _rabbitmqctl("delete_vhost", name)
    _rabbitmqctl("add_vhost", name)
    try:
        _rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield f"amqp://guest:guest@127.0.0.1:5672/{name}"
    finally:
        _rabbitmqctl("delete_vhost", name)


def _rabbitmqctl(*arguments: str) -> str:
    command = ["rabbitmqctl", "--quiet", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@contextmanager
def _redis_database() -> Iterator[None]:
    with redis.Redis.from_url(REDIS_URL) as database:
        database.flushdb()
        try:
            yield
        finally:
            database.flushdb()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(what: str, process: subprocess.Popen, log: Path, ready: Callable[[], bool]) -> None:
    """Wait until something of a process is ready."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{what} is not ready (return code {process.poll()}):\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    """Tell whether a server answers, whatever it is; the first request is also what starts a relay "main"."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except OSError:
        return False
    finally:
        connection.close()


def _consumed(amqp_url: str, queue: str) -> bool:
    with Connection(amqp_url) as broker:
        try:
            return broker.default_channel.queue_declare(queue, passive=True).consumer_count > 0
        except NotFound:
            return False
