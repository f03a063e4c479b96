"""The site on a stage where everything can be broken: processes, services, and every line between them."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.rows import dict_row

from testkit.fault_proxy import FaultProxy, Mode, reserve_port
from testkit.own_services import OwnServices, PostgreSQL, RabbitMQ, Redis, RedisBroker, Service
from testkit.processes import Site, healthy, wait_until

#: The brokers; with the folder as its broker the site is the embedded one: a web process, a worker, and no service.
RABBITMQ, REDIS, FOLDER = BROKERS = ("RabbitMQ", "Redis", "folder")
WEBS = ("web-1", "web-2")
WORKER, SECOND = WORKERS = ("worker", "worker-2")
VARIABLES = {"broker": "CELERY_BROKER_URL", "database": "DATABASE_URL", "redis": "REDIS_URL"}
#: Which lines there are on the full site: from a process to a service, and from the pages to a web process.
LINES = [(web, service) for web in WEBS for service in VARIABLES]
LINES += [(worker, service) for worker in WORKERS for service in ("broker", "database")]
LINES += [("pages", web) for web in WEBS]
#: Seconds in which a job must be acknowledged: after them, RabbitMQ and Redis deliver it again.
PATIENCE_OF_BROKERS = RabbitMQ.UNACKNOWLEDGED
LIMIT = 12  #: unfinished jobs of an owner

Line = tuple[str, str]


class Execution(NamedTuple):
    """One execution of a job of the tests' own kinds."""

    attempt: int
    process: int
    end: str | None = None  #: "done", or the name of the exception that ended it; a killed one has no end


class Stage:
    """Two web processes, one on each of the supported servers, and one worker or two; on the folder broker one each.

    Args:
        folder: for data and logs.
        services: where its services come from.
        broker: one of `BROKERS`.
    """

    def __init__(self, folder: Path, services: OwnServices, broker: str = RABBITMQ):
        self.folder, self.broker = folder, broker
        self.services: dict[str, Service] = {}
        urls: dict[str, str] = {}
        if broker != FOLDER:
            kind = {RABBITMQ: RabbitMQ, REDIS: RedisBroker}[broker]
            self.services = {"broker": services[kind], "database": services[PostgreSQL], "redis": services[Redis]}
            urls = {name: service.url for name, service in self.services.items()}
            urls["database"] = services[PostgreSQL].database()
        self.urls = urls
        self.webs = WEBS[:1] if broker == FOLDER else WEBS
        self.site = Site(
            folder,
            **{VARIABLES[name]: url for name, url in urls.items()},
            DJANGO_SETTINGS_MODULE="testkit.fault_settings",
            EXECUTIONS=str(folder / "executions"),
            CELERY_VISIBILITY_TIMEOUT=str(PATIENCE_OF_BROKERS),
            JOBS_UNFINISHED_PER_OWNER=str(LIMIT),
            JOBS_RECENT="100",  # a page that comes back late in a busy run is told all: an owner has more than 10 jobs
        )
        self.ports = {web: reserve_port() for web in self.webs}
        lines = LINES if broker != FOLDER else [("pages", web) for web in self.webs]
        self.lines: dict[Line, FaultProxy] = {line: self._lay(line) for line in lines}
        self.processes: dict[str, subprocess.Popen] = {}
        self.crew: dict[str, int] = {
            WORKER: 2
        }  #: the workers that there are to be, and how many jobs each runs at once
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
        """Return the host and port of a web process itself; no fault proxy stands before it."""
        return f"127.0.0.1:{self.ports[web].getsockname()[1]}"

    def start(self, name: str, **environment: str):
        """Start a process, and do not wait."""
        environment |= {VARIABLES[service]: self._url(name, service) for one, service in self.lines if one == name}
        if name in WORKERS:
            self._rotate_log(name)
            celery = ["-m", "celery", "-A", "CeleryProgressbar", "worker", "-l", "info"]
            command = [*celery, "-c", str(self.crew.get(name, 2)), "-n", f"w{next(self.site.workers)}@test"]
        else:
            port = str(self.ports[name].getsockname()[1])
            uvicorn = ["-m", "uvicorn", "--ws", "websockets-sansio", "--port", port]
            daphne = ["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
            command = [*uvicorn, "CeleryProgressbar.asgi:application"] if name == WEBS[0] else daphne
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

    def stop_and_wait(self, name: str, how: signal.Signals = signal.SIGTERM, *, group: bool = False, times: int = 1):
        """Send a process a signal, and wait for its end.

        Args:
            name: which process.
            how: the signal.
            group: whether its children are sent it too, as by Ctrl-C in a terminal and by honcho.
            times: how often.
        """
        process = self.processes[name]
        for time in range(times):
            if time:
                # Printed once the handler of the next signal is there; "Hitting Ctrl+C again" is printed before.
                wait_until(lambda: "Warm shutdown" in self.site.log(name), f"{name} has handled the first signal")
            os.killpg(process.pid, how) if group else process.send_signal(how)
        self._buried(name)

    def kill_a_child(self, name: str = WORKER) -> int:
        """Kill a child of a worker, one that runs a job if that is known.

        Returns:
            Its process id; 0 if none was killed.
        """
        children = self.children(name)
        busy = {one.process for found in self.executions().values() for one in found if one.end is None}
        chosen = [child for child in children if child in busy] or children
        if chosen:
            os.kill(chosen[0], signal.SIGKILL)
        return chosen[0] if chosen else 0

    def children(self, name: str = WORKER) -> list[int]:
        """Return a worker's children: the processes that run tasks."""
        threads = Path(f"/proc/{self.processes[name].pid}/task").glob("*/children")  # any of them may have started some
        return sorted(int(pid) for thread in threads for pid in thread.read_text().split())

    def pause(self, name: str):
        """Stop a process and its children at the point that they have reached."""
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

    def mend(self, crew: dict[str, int] | None = None) -> list[str]:
        """Mend everything, and wait until it works.

        Args:
            crew: the workers that there are to be from now on, and how many jobs each runs at once; as before if None.

        Returns:
            The processes that had died of themselves.
        """
        for service in self.services.values():
            service.start()
        self.break_lines(self.lines, Mode.PASS)
        for name in self.processes:
            self.go_on(name)
        dead = [name for name, process in self.processes.items() if process.poll() is not None]
        for name in dead:
            self._buried(name)
        for name, slots in list(self.crew.items()):
            if crew and crew.get(name) != slots and name in self.processes:
                self.stop_and_wait(name)
        self.crew = crew or self.crew
        for name in (*self.webs, *self.crew):
            if name not in self.processes:
                self.start(name)
        for web in self.webs:
            wait_until(lambda web=web: healthy(self.host(web)), f"{web} answers; see {self.folder}", 60)
        for name in self.crew:
            self.ready(name)
        return dead

    def ready(self, name: str):
        """Wait until a worker is ready."""
        wait_until(lambda: " ready." in self.site.log(name), f"{name} is ready; see {self.folder}", 60)

    def rows(self) -> list[dict[str, Any]]:
        """Return all jobs' rows, with ids as text."""
        query = 'SELECT * FROM "livejobs_job" ORDER BY created_at'
        if self.broker == FOLDER:
            with contextlib.closing(sqlite3.connect(self.folder / "var" / "db.sqlite3", timeout=20)) as database:
                database.row_factory = sqlite3.Row
                rows = [dict(row) for row in database.execute(query)]
            for row in rows:
                row["result"] = json.loads(row["result"] or "null")
        else:
            with psycopg.connect(self.urls["database"], row_factory=dict_row) as connection:
                rows = connection.execute(query).fetchall()
        return [
            {**row, **{name: str(uuid.UUID(str(row[name]))) for name in ("id", "ref", "parent_id") if row[name]}}
            for row in rows
        ]

    def executions(self) -> dict[str, list[Execution]]:
        """Return all executions of each job of the tests' own kinds, by its id, in the order of their beginnings."""
        path = self.folder / "executions"
        seen: dict[str, list[Execution]] = defaultdict(list)
        for line in path.read_text().splitlines() if path.exists() else []:
            task_id, attempt, process, what = line.split()
            execution = Execution(int(attempt), int(process))
            if what == "began":
                seen[task_id].append(execution)
            else:
                seen[task_id][seen[task_id].index(execution)] = execution._replace(end=what)
        return dict(seen)

    def effects(self, task_id: str) -> list[int]:
        """Return the items of a job that have had their effect, in order; one that was repeated is there twice."""
        path = self.folder / "executions.effects"
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(task_id)]

    def close(self):
        """Kill all processes and cut all lines; the services are somebody else's to close."""
        self.site.kill_all()
        self.bury_orphans()
        for proxy in self.lines.values():
            proxy.close()
        for reserved in self.ports.values():
            reserved.close()

    def bury_orphans(self):
        """Kill the children of workers whose main process was killed alone."""
        while self.orphans:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.orphans.pop(), signal.SIGKILL)

    def _signal(self, name: str, number: signal.Signals):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)

    def _buried(self, name: str):
        process = self.processes.pop(name)
        process.wait(60)
        self.site.processes.remove(process)


@contextlib.contextmanager
def staged(folder: Path, services: OwnServices, broker: str = RABBITMQ):
    """A stage, with nothing broken."""
    folder.mkdir(parents=True, exist_ok=True)
    stage = Stage(folder, services, broker)
    try:
        yield stage
    finally:
        for service in stage.services.values():
            service.start()
        stage.close()


@pytest.fixture(scope="module")
def stage(request, tmp_path_factory, own_services):
    """A stage for the tests of one module and broker; each finds it as the one before has left it.

    The broker is RabbitMQ, unless tests say another one: `@pytest.mark.parametrize("stage", BROKERS, indirect=True)`.
    """
    folder = tmp_path_factory.mktemp("stage")
    with staged(folder, own_services, getattr(request, "param", RABBITMQ)) as stage:
        yield stage
