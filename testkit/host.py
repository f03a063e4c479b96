"""A project of somebody else, tests/host, into which the wheel of the engine is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from difflib import ndiff
from pathlib import Path

import pytest
from hatchling.build import build_wheel

from testkit.processes import ROOT, Site, free_port, wait_until

#: What the project's developer changes: file, what was there, what is there now. "" is the end of the file.
EDITS = [
    ("shop/settings.py", "", 'INSTALLED_APPS += ["livejobs"]\nLIVEJOBS = {"DEPLOYMENT": "shop"}\n'),
    ("shop/asgi.py", "", "import livejobs  # noqa: E402\n\napplication = livejobs.asgi(application)\n"),
    ("shop/urls.py", "views.stock),", 'views.stock),\n    path("bars/", include("livejobs.urls")),'),
    ("warehouse/tasks.py", "from celery_progress", "from livejobs import JobTask\nfrom celery_progress"),
    (
        "warehouse/tasks.py",
        "@shared_task\ndef recount():",
        '@shared_task(base=JobTask, bind=True, title="Recount")\ndef recount(self):',
    ),
    ("warehouse/tasks.py", "in range(40)", "in self.track(range(40))"),
    ("warehouse/templates/stock.html", "</html>", '{% load livejobs %}{% job_form "recount" %}{% job_bars %}\n</html>'),
]
#: Besides, a project without a broker of its own takes the engine's.
FOLDER_BROKER = [
    (
        "shop/celery.py",
        "app = Celery",
        "from kombu.transport import TRANSPORT_ALIASES\n\n"
        'TRANSPORT_ALIASES["filesystem"] = "livejobs.under.filesystem:Transport"\napp = Celery',
    )
]
#: Besides, a site on WSGI has the JSON API, as its pages have no sockets.
API = [
    (
        "shop/settings.py",
        "",
        'INSTALLED_APPS += ["rest_framework", "drf_spectacular"]\n'
        'REST_FRAMEWORK = {"EXCEPTION_HANDLER": "livejobs.api.problem.exception_handler",\n'
        '                  "DEFAULT_AUTHENTICATION_CLASSES": ["livejobs.api.request.VisitorAuthentication"]}\n',
    ),
    ("shop/urls.py", "views.stock),", 'views.stock),\n    path("api/", include("livejobs.api.urls")),'),
]

#: How each server serves the project.
SERVERS = {
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "shop.asgi:application"],
    "daphne": ["-m", "daphne", "-p", "{port}", "shop.asgi:application"],
    "hypercorn": ["-m", "hypercorn", "-b", "127.0.0.1:{port}", "shop.asgi:application"],
    "granian": ["-m", "granian", "--interface", "asgi", "--port", "{port}", "shop.asgi:application"],
    "wsgi": [
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--url-path-prefix",
        "/shop",
        "--port",
        "{port}",
        "shop.wsgi:application",
    ],
}


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder into which pip has installed the wheel, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_wheel(str(folder))
    target = folder / "installed"
    command = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(folder / name)]
    subprocess.run([sys.executable, "-m", *command], check=True)
    return target


class Host(Site):
    """The project, in a folder of its own, over the services that it is told.

    Args:
        folder: where it is made.
        broker: URL of its broker; with `filesystem:`, it is one of the project's folder.
        results: URL of its result backend.
        layer: URL of Redis for its channel layer; in memory unless given.
    """

    def __init__(self, folder: Path, broker: str, results: str, layer: str = ""):
        ours = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in ours}
        self.environment |= {"PYTHONUNBUFFERED": "1", "SHOP_BROKER_URL": broker, "SHOP_RESULT_URL": results}
        self.environment |= {"SHOP_LAYER_URL": layer} if layer else {}
        self.folder = self.home = folder
        self.processes, self.added = [], 0
        shutil.copytree(ROOT / "tests" / "host", folder, dirs_exist_ok=True)
        for name in ("queue", "control", "results"):
            (folder / name).mkdir()

    def manage(self, *arguments: str, **environment: str) -> str:
        """Run a management command. Returns what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment | environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + (ran.stderr if arguments[0] == "test" else "")

    def install(self, wheel: Path, edits: list[tuple[str, str, str]]):
        """Install the engine, and edit the project."""
        self.environment["PYTHONPATH"] = str(wheel)
        for name, old, new in edits:
            path = self.folder / name
            text = path.read_text()
            assert text.count(old) == 1 or not old, f"{name}: {old}"
            edited = text.replace(old, new) if old else f"{text}\n{new}"
            path.write_text(edited)
            lines = ndiff(text.splitlines(), edited.splitlines())
            self.added += sum(line.startswith("+ ") and line != "+ " for line in lines)

    def worker(self, name: str = "worker"):
        """Start a worker of the project, and wait until it is ready."""
        ready = self.log(name).count(" ready.") if (self.folder / f"{name}.log").exists() else 0
        process = self.start(name, "-m", "celery", "-A", "shop", "worker", "-l", "info", "-c", "2", "-n", name)
        wait_until(lambda: self.log(name).count(" ready.") > ready, f"{name} is ready; see {self.folder}")
        return process

    def serve(self, server: str) -> str:
        """Start a web process. Returns its host and port."""
        port = free_port()
        self.start(server, *[part.format(port=port) for part in SERVERS[server]])

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, f"{server} listens; see {self.folder}")
        return f"127.0.0.1:{port}"

    def facts(self) -> dict:
        """Return what the project's own parts do."""
        facts = json.loads(self.manage("facts").splitlines()[-1])
        facts["settings"] = {name: value for name, value in facts["settings"].items() if "0x" not in value}
        return facts

    def get(self, host: str, path: str) -> str:
        """Return what the project answers."""
        with urllib.request.urlopen(f"http://{host}/shop{path}", timeout=30) as answer:
            return answer.read().decode()
