"""Follows docs/quickstart.md: a new project, its blocks, a worker, a web process, and START in a browser."""

import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from testkit.browser import open_page
from testkit.processes import ROOT, free_port, wait_until

#: A block that names its file in its first line, as a comment of Python or of a template.
BLOCK = re.compile(r"^```(?:python|django)\n(?:# |\{# )(\S+?)(?: #\})?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def listens(port: int) -> bool:
    """Tell whether a server takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def project(tmp_path, redis_url):
    """The project of the page, running; its processes are killed after the test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO_")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    processes = []

    def python(*command):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(name, *command):
        with (tmp_path / name).open("w") as log:
            processes.append(
                subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environment, stdout=log, stderr=log)
            )

    def log(name):
        return (tmp_path / name).read_text()

    page = (ROOT / "docs/quickstart.md").read_text().replace("redis://localhost:6379/0", redis_url)
    python("-m", "django", "startproject", "shop", ".")
    python("manage.py", "startapp", "reports")
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python") + page.count("```django")
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n{text}")
    python("manage.py", "migrate", "-v", "0")
    python("manage.py", "makemigrations", "--check")
    assert python("manage.py", "check").strip() == "System check identified no issues (0 silenced)."
    port = free_port()
    start("worker.log", "-m", "celery", "-A", "shop", "worker", "-l", "info", "-c", "1")
    start("web.log", "manage.py", "runserver", "--noreload", str(port))
    try:
        wait_until(lambda: " ready." in log("worker.log"), f"the worker is ready: {tmp_path}")
        wait_until(lambda: listens(port), f"the web process listens: {tmp_path}")
        yield f"127.0.0.1:{port}"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_the_bar_of_the_page_moves(project, visitor):
    page = open_page(visitor, SimpleNamespace(host=project), "/")
    page.click("text=START")
    bar = page.locator("#jobs .job").first
    expect(bar.locator("h2")).to_have_text("Report")
    page.wait_for_function("parseInt(document.querySelector('#jobs .percent').textContent) >= 25")
    page.reload()
    expect(bar.locator(".words")).to_have_text("Done. The answer is 12 months.")
    expect(bar.locator(".percent")).to_have_text("100%")
    assert page.problems == []
