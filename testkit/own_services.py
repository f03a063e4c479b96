"""RabbitMQ, Redis and PostgreSQL of the tests' own, which may be killed and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from glob import glob
from pathlib import Path
from typing import ClassVar, TypeVar

import psycopg
import pytest
from kombu import Connection
from redis import Redis as Client
from redis import RedisError

from testkit.fault_proxy import reserve_port
from testkit.processes import wait_until
from testkit.services import missing

#: Where Debian keeps the programs themselves; what it has on PATH starts them as it wants them.
FOLDERS = ("/usr/lib/rabbitmq/bin", *sorted(glob("/usr/lib/postgresql/*/bin"), reverse=True))

AnyService = TypeVar("AnyService", bound="Service")


class Service:
    """A server in a folder of its own, on a port of its own."""

    program: ClassVar[str]
    death: ClassVar[signal.Signals] = signal.SIGKILL  #: what kills it
    user: str | None = None

    def __init__(self) -> None:
        path = shutil.which(self.program, path=os.pathsep.join([*FOLDERS, os.environ["PATH"]]))
        if not path:
            missing(type(self).__name__, f"{self.program} is not installed")
        self.path = Path(path)
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.program}-"))
        self.reserved = reserve_port()
        self.port = self.reserved.getsockname()[1]
        self.process: subprocess.Popen | None = None
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where it is, as the site is told it."""
        raise NotImplementedError

    def prepare(self):
        """Make what it needs before its first start."""

    def command(self) -> list[str | Path]:
        """Return how it is started."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the variables that it reads."""
        return {}

    def answers(self) -> bool:
        """Tell whether it can be used."""
        raise NotImplementedError

    def start(self):
        """Start it, unless it runs, and wait until it can be used."""
        if self.process is None:
            with (self.folder / "log").open("a") as log:
                self.process = subprocess.Popen(
                    self.command(),
                    cwd=self.folder,
                    env=os.environ | self.environment(),
                    stdout=log,
                    stderr=log,
                    user=self.user,
                    start_new_session=True,
                )
        wait_until(self.answers, f"{self.program} can be used; see {self.folder}/log", 60)

    def kill(self):
        """Kill it, if it runs; what it has promised to keep, it keeps."""
        if self.process is not None:
            os.killpg(self.process.pid, self.death)
            self.process.wait(30)
            self.process = None

    def close(self):
        """Kill it, and delete all that it has."""
        self.kill()
        self.reserved.close()
        shutil.rmtree(self.folder)


class Redis(Service):
    """A Redis that forgets everything when it is killed."""

    program = "redis-server"

    @property
    def url(self) -> str:
        """Where it is, as the site is told it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str | Path]:
        """Return how it is started."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        return [self.path, *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        """Tell whether it can be used."""
        with Client.from_url(self.url) as client:
            try:
                return client.ping()
            except RedisError:
                return False


class RabbitMQ(Service):
    """A RabbitMQ that keeps durable queues and persistent messages, and no others, when it is killed.

    A consumer that does not acknowledge within `UNACKNOWLEDGED` seconds loses its channel, as it does by default after
    half an hour.
    """

    program = "rabbitmq-server"
    UNACKNOWLEDGED = 10

    @property
    def url(self) -> str:
        """Where it is, as the site is told it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def prepare(self):
        """Make what it needs before its first start."""
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nconsumer_timeout = {self.UNACKNOWLEDGED * 1000}\n"
        )
        # A channel looks only every minute for deliveries that are not acknowledged (RabbitMQ 3.10, rabbit_channel).
        (self.folder / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 1000}]}].\n")
        (self.folder / "plugins").touch()
        self.line = reserve_port()  # between its own parts

    def command(self) -> list[str | Path]:
        """Return how it is started."""
        return [self.path]

    def environment(self) -> dict[str, str]:
        """Return the variables that it reads. Source: RabbitMQ, "Configuration", "Supported Environment Variables"."""
        return {
            "HOME": str(self.folder),  # of its cookie
            "RABBITMQ_NODENAME": f"{self.folder.name}@localhost",
            "RABBITMQ_DIST_PORT": str(self.line.getsockname()[1]),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
        }

    def answers(self) -> bool:
        """Tell whether it can be used."""
        try:
            with Connection(self.url, connect_timeout=5) as connection:
                connection.connect()
                return True
        except OSError:
            return False

    def close(self):
        """Kill it, and delete all that it has."""
        self.line.close()
        super().close()


class RedisBroker(Redis):
    """A Redis that carries messages, and forgets them when it is killed."""


class PostgreSQL(Service):
    """A PostgreSQL that keeps what was committed when it is killed.

    Its processes die of an "immediate shutdown", which does nothing but that: of SIGKILL its first process alone would
    die. Source: PostgreSQL, "Shutting Down the Server".
    """

    program = "postgres"
    death = signal.SIGQUIT

    @property
    def url(self) -> str:
        """Where it is, as the site is told it."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    def prepare(self):
        """Make what it needs before its first start."""
        if os.geteuid() == 0:  # it refuses to be root's
            self.user = "postgres"
            shutil.chown(self.folder, self.user)
        command = [self.path.with_name("initdb"), "--auth=trust", "--username=postgres", "--no-sync", "data"]
        subprocess.run(command, cwd=self.folder, user=self.user, check=True, capture_output=True)

    def command(self) -> list[str | Path]:
        """Return how it is started: without writing to the disk, which outlives a process in any case."""
        return [self.path, "-D", "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", "", "-F"]

    def answers(self) -> bool:
        """Tell whether it can be used."""
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def database(self) -> str:
        """Make an empty database. Returns its URL."""
        name = f"stage_{uuid.uuid4().hex}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url.rpartition("/")[0] + f"/{name}"


class OwnServices:
    """The services of one run of tests: each is started when it is first asked for, and kept until the end."""

    def __init__(self) -> None:
        self.started: dict[type[Service], Service] = {}

    def __getitem__(self, kind: type[AnyService]) -> AnyService:
        """Return a service, running."""
        if kind not in self.started:
            self.started[kind] = kind()
        service = self.started[kind]
        service.start()
        return service

    def close(self):
        """End all that were started."""
        while self.started:
            self.started.popitem()[1].close()


@pytest.fixture(scope="session")
def own_services():
    """RabbitMQ, two Redis and PostgreSQL of the tests' own, which may be killed and started again."""
    services = OwnServices()
    yield services
    services.close()
