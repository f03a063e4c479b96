"""The site as it really runs: web processes and workers of their own, beside real services."""

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def wait_until(condition, what: str, seconds: float = 90):
    """Return what `condition` returns as soon as that is true. If it stays false, then fail, and name `what`."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds} s in vain: {what}")
        time.sleep(0.05)


def free_port() -> int:
    """Return a TCP port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@cache
def migrated_database() -> Path:
    """Return an empty SQLite database of the site, made once: each test that needs one takes a copy."""
    folder = Path(tempfile.mkdtemp(prefix="migrated-"))
    atexit.register(shutil.rmtree, folder)
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    command = [sys.executable, "manage.py", "migrate", "-v", "0"]
    subprocess.run(command, cwd=ROOT, env=environment | {"DATA_DIR": str(folder)}, check=True)
    return folder / "db.sqlite3"


class Site:
    """Web processes and workers over one set of services.

    Args:
        folder: for data and logs.
        environment: where the services are; the embedded default unless told otherwise.
    """

    #: The folder in which its processes run.
    home = ROOT

    def __init__(self, folder: Path, **environment: str):
        ours = ("DATABASE_URL", "CELERY_BROKER_URL", "REDIS_URL", "DEBUG", "ALLOWED_HOSTS", "OPENAI_API_KEY")
        self.environment = {name: value for name, value in os.environ.items() if name not in ours}
        self.environment |= {"DATA_DIR": str(folder / "var"), "PYTHONUNBUFFERED": "1", **environment}
        self.environment["CELERY_SKIP_CHECKS"] = "true"  # a fifth of a start; `migrate` makes them too
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        self.workers = itertools.count(1)
        if "DATABASE_URL" in environment:
            self.manage("migrate", "-v", "0")
        else:
            (folder / "var").mkdir(parents=True, exist_ok=True)
            shutil.copy(migrated_database(), folder / "var" / "db.sqlite3")

    def manage(self, *arguments: str):
        """Run a management command."""
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment, check=True)

    def web(self, port: int | None = None) -> str:
        """Start a web process. Returns its host and port."""
        host = f"127.0.0.1:{port or free_port()}"
        self.start(f"web-{host.rpartition(':')[2]}", "manage.py", "runserver", "--noreload", host)
        wait_until(lambda: healthy(host), f"{host} answers; see {self.folder}")
        return host

    def worker(self, concurrency: int = 2, *options: str) -> subprocess.Popen:
        """Start a worker, and wait until it is ready."""
        name = f"worker-{next(self.workers)}"
        command = ["-m", "celery", "-A", "CeleryProgressbar", "worker", "-l", "info"]
        process = self.start(name, *command, "-c", str(concurrency), "-n", name, *options)
        wait_until(lambda: " ready." in self.log(name), f"{name} is ready; see {self.folder}")
        return process

    def log(self, name: str) -> str:
        """Return what a process has printed."""
        return (self.folder / f"{name}.log").read_text()

    def stop(self, process: subprocess.Popen, how: signal.Signals = signal.SIGTERM):
        """Send a process a signal, and wait for its end."""
        process.send_signal(how)
        process.wait(90)
        self.processes.remove(process)

    def kill_all(self):
        """Kill every process and its children."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen:
        """Start a process of Python, and wait for nothing; its log goes on where an earlier one of that name ended."""
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.home,
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process


def healthy(host: str) -> bool:
    """Tell whether a web process can do its work."""
    try:
        with urllib.request.urlopen(f"http://{host}/healthz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
