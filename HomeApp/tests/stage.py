"""The full site on a stage where everything can be broken: processes, services, and every line between them."""

import contextlib
import os
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
from HomeApp.tests.own_services import PostgreSQL, RabbitMQ, Redis, Service
from HomeApp.tests.processes import Site, healthy, wait_until

WEBS = ("web-1", "web-2")
WORKER = "worker"
VARIABLES = {"broker": "CELERY_BROKER_URL", "database": "DATABASE_URL", "redis": "REDIS_URL"}
#: Which lines there are: from a process to a service, and from the pages to a web process.
LINES = [(web, service) for web in WEBS for service in VARIABLES]
LINES += [(WORKER, "broker"), (WORKER, "database")]
LINES += [("pages", web) for web in WEBS]

Line = tuple[str, str]


class Stage:
    """Two web processes, one on each of the supported servers, and a worker with two children.

    Args:
        folder: for data and logs.
        services: what it runs over, by `VARIABLES`.
    """

    def __init__(self, folder: Path, services: dict[str, Service]):
        self.folder, self.services = folder, services
        self.site = Site(folder, **{VARIABLES[name]: service.url for name, service in services.items()})
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
        return FaultProxy("127.0.0.1", self.services[line[1]].port)

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
        url = urlsplit(self.services[service].url)
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
        for service in self.services.values():
            service.start()
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
        with psycopg.connect(self.services["database"].url, row_factory=dict_row) as connection:
            rows = connection.execute('SELECT * FROM "HomeApp_job" ORDER BY created_at').fetchall()
        return [{**row, "id": str(row["id"]), "ref": str(row["ref"])} for row in rows]

    def close(self):
        """Kill all processes and cut all lines; the services are somebody else's to close."""
        self.site.kill_all()
        for group in self.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for proxy in self.lines.values():
            proxy.close()
        for reserved in self.ports.values():
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
    """A stage over services of its own."""
    with contextlib.ExitStack() as stack:
        services: dict[str, Service] = {}
        for name, kind in {"database": PostgreSQL, "redis": Redis, "broker": RabbitMQ}.items():
            services[name] = kind()
            stack.callback(services[name].close)
        stage = Stage(folder, services)
        stack.callback(stage.close)
        yield stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """A stage for the tests of one module; each finds it as the one before has left it."""
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage
