"""The full site on a stage where everything can be broken: processes, Redis, and every line between them.

RabbitMQ and PostgreSQL are shared with others, so they are never stopped: the lines to them are broken instead.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from HomeApp.tests.fault_proxy import FaultProxy, Mode, reserve_port
from HomeApp.tests.processes import Site, healthy, wait_until
from HomeApp.tests.services import database, missing, virtual_host

WEBS = ("web-1", "web-2")
WORKER = "worker"
VARIABLES = {"broker": "CELERY_BROKER_URL", "database": "DATABASE_URL", "redis": "REDIS_URL"}
#: Which lines there are: from a process to a service, and from the pages to a web process.
LINES = [(web, service) for web in WEBS for service in VARIABLES]
LINES += [(WORKER, "broker"), (WORKER, "database")]
LINES += [("pages", web) for web in WEBS]

Line = tuple[str, str]


class Redis:
    """A Redis of our own, which may be killed: nothing in it is kept.

    Args:
        folder: for its log.
    """

    def __init__(self, folder: Path):
        if not shutil.which("redis-server"):
            missing("Redis", "redis-server is not installed")
        self.folder, self.reserved = folder, reserve_port()
        self.port = self.reserved.getsockname()[1]
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self):
        """Start, unless it runs."""
        if self.process is None:
            command = [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]
            with (self.folder / "redis.log").open("a") as log:
                self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def kill(self):
        """Kill it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Stage:
    """Two web processes, one on each of the supported servers, and a worker with two children.

    Args:
        folder: for data and logs.
        broker: RabbitMQ's URL.
        database: PostgreSQL's.
    """

    def __init__(self, folder: Path, broker: str, database: str):
        self.folder, self.database = folder, database
        self.redis = Redis(folder)
        self.urls = {"broker": broker, "database": database, "redis": f"redis://127.0.0.1:{self.redis.port}/0"}
        self.site = Site(folder, **{VARIABLES[service]: url for service, url in self.urls.items()})
        self.ports = {web: reserve_port() for web in WEBS}
        self.lines: dict[Line, FaultProxy] = {line: self._lay(line) for line in LINES}
        self.processes: dict[str, subprocess.Popen] = {}
        self.orphans: list[int] = []
        try:
            self.mend()
        except BaseException:
            self.close()
            raise

    def _lay(self, line: Line) -> FaultProxy:
        if line[0] == "pages":
            return FaultProxy(*self.ports[line[1]].getsockname())
        url = urlsplit(self.urls[line[1]])
        return FaultProxy(url.hostname, url.port)

    def host(self, web: str) -> str:
        """Return where pages reach a web process."""
        return f"127.0.0.1:{self.lines['pages', web].port}"

    def direct(self, web: str) -> str:
        """Return where a web process is reached over a line that never breaks."""
        return f"127.0.0.1:{self.ports[web].getsockname()[1]}"

    def start(self, name: str):
        """Start a process, and do not wait."""
        environment = {VARIABLES[service]: self._url(name, service) for one, service in LINES if one == name}
        if name == WORKER:
            self._rotate_log(name)
            number = next(self.site.workers)
            command = [
                "-m",
                "celery",
                "-A",
                "CeleryProgressbar",
                WORKER,
                "-l",
                "info",
                "-c",
                "2",
                "-n",
                f"w{number}@test",
            ]
        else:
            port = str(self.ports[name].getsockname()[1])
            uvicorn = [
                "-m",
                "uvicorn",
                "--ws",
                "websockets-sansio",
                "--port",
                port,
                "CeleryProgressbar.asgi:application",
            ]
            daphne = ["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
            command = uvicorn if name == WEBS[0] else daphne
        self.processes[name] = self.site.start(name, *command, **environment)

    def _url(self, name: str, service: str) -> str:
        url = urlsplit(self.urls[service])
        login = url.netloc.rpartition("@")[0]
        here = f"127.0.0.1:{self.lines[name, service].port}"
        return url._replace(netloc=f"{login}@{here}" if login else here).geturl()

    def _rotate_log(self, name: str):
        log = self.folder / f"{name}.log"
        if log.exists():
            with (self.folder / f"{name}.earlier.log").open("a") as earlier:
                earlier.write(log.read_text())
            log.unlink()

    def kill(self, name: str):
        """Kill a process and its children."""
        self._signal(name, signal.SIGKILL)
        self._buried(name)

    def kill_alone(self, name: str):
        """Kill a process and leave its children orphans."""
        self.processes[name].kill()
        self.orphans.append(self.processes[name].pid)
        self._buried(name)

    def stop(self, name: str):
        """Ask a process to end, and do not wait: a worker first finishes what it runs."""
        self.processes[name].terminate()

    def kill_a_child(self) -> int:
        """Kill the first of the worker's children. Returns its process id; 0 where the worker has none."""
        children = self.children()
        if children:
            os.kill(children[0], signal.SIGKILL)
        return children[0] if children else 0

    def children(self) -> list[int]:
        """Return the worker's children: the processes that run tasks."""
        worker = self.processes[WORKER].pid
        return [int(pid) for pid in Path(f"/proc/{worker}/task/{worker}/children").read_text().split()]

    def pause(self, name: str):
        """Stop a process and its children where they are."""
        self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str):
        """Let a process and its children go on."""
        self._signal(name, signal.SIGCONT)

    def running(self, name: str) -> bool:
        """Tell whether a process runs."""
        return name in self.processes and self.processes[name].poll() is None

    def break_lines(self, lines: Iterable[Line], mode: Mode, seconds: float = 0):
        """Break lines, or with `Mode.PASS` mend them."""
        for line in lines:
            proxy = self.lines[line]
            {
                Mode.PASS: proxy.carry,
                Mode.DELAY: lambda proxy=proxy: proxy.delay(seconds),
                Mode.RESET: proxy.reset,
                Mode.HALF_OPEN: proxy.half_open,
            }[mode]()

    def mend(self) -> list[str]:
        """Mend everything, and wait until it works. Returns the processes that had died of themselves."""
        self.redis.start()
        self.break_lines(LINES, Mode.PASS)
        for name in self.processes:
            self.go_on(name)
        dead = [name for name, process in self.processes.items() if process.poll() is not None]
        for name in dead:
            self._buried(name)
        for name in (*WEBS, WORKER):
            if name not in self.processes:
                self.start(name)
        for web in WEBS:
            wait_until(lambda web=web: healthy(self.host(web)), f"{web} answers; see {self.folder}", 60)
        wait_until(lambda: " ready." in self.site.log(WORKER), f"the worker is ready; see {self.folder}", 60)
        return dead

    def rows(self) -> list[dict[str, Any]]:
        """Return all jobs' rows, with ids as text."""
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            rows = connection.execute('SELECT * FROM "HomeApp_job" ORDER BY created_at').fetchall()
        return [{**row, "id": str(row["id"]), "ref": str(row["ref"])} for row in rows]

    def close(self):
        """Kill all processes and cut all lines."""
        self.site.kill_all()
        for group in self.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self.redis.kill()
        for proxy in self.lines.values():
            proxy.close()
        for reserved in (*self.ports.values(), self.redis.reserved):
            reserved.close()

    def _signal(self, name: str, number: signal.Signals):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)

    def _buried(self, name: str):
        process = self.processes.pop(name)
        process.wait(30)
        self.site.processes.remove(process)


@contextlib.contextmanager
def staged(folder: Path):
    """A stage over a virtual host and a database of its own."""
    with virtual_host() as broker, database() as rows:
        stage = Stage(folder, broker, rows)
        try:
            yield stage
        finally:
            stage.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A stage for the tests of one module; each finds it as the one before has left it."""
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
