"""`make run`, as the README has it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from testkit.processes import ROOT, free_port, wait_until
from tests.test_path import FINAL, page, start, told_until, until_the_end, visit

pytestmark = pytest.mark.slow


def listens(port) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_over(folder) -> list[str]:
    """Return the processes that were started with this folder as their DATA_DIR."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DATA_DIR={folder}" in (process / "environ").read_text(errors="replace").split("\0"):
                found.append(process.name)
        except OSError:
            continue  # it has just ended, or it is somebody else's
    return found


@contextlib.contextmanager
def make_run(port, data, log):
    """Let `make run` bring up the site; at the end, press Ctrl-C and look whether anything is left running."""
    with log.open("a") as output:
        run = subprocess.Popen(
            ["make", "run", f"ADDRESS=127.0.0.1:{port}"],
            cwd=ROOT,
            env={**os.environ, "DATA_DIR": str(data)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(port), f"port {port} answers; {log}", seconds=120)
        yield
        assert len(processes_over(data)) >= 5
        os.killpg(run.pid, signal.SIGINT)
        run.wait(30)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    wait_until(lambda: not processes_over(data), "nothing is left running")
    assert not listens(port)


async def test_make_run_brings_up_the_site_ctrl_c_leaves_nothing_behind_and_the_next_run_takes_up_what_ran(tmp_path):
    host, port, data, log = "127.0.0.1", free_port(), tmp_path / "var", tmp_path / "log"
    with make_run(port, data, log):
        cookie = await visit(f"{host}:{port}")
        async with asyncio.timeout(180), page(f"{host}:{port}", cookie) as visitor:
            await start(visitor, 10_000)
            assert (await until_the_end(visitor))[-1]["result"] == 1_229
            await start(visitor, 5_000_000)
            job = await told_until(visitor, lambda frame: frame["percent"] and frame["state"] == "PROGRESS")
    with make_run(port, data, log):
        async with asyncio.timeout(180), page(f"{host}:{port}", cookie) as visitor:
            end = await told_until(visitor, lambda told: told["task_id"] == job["task_id"] and told["state"] in FINAL)
    assert (end["state"], end["attempt"], end["result"]) == ("SUCCESS", 2, 348_513)
    shown = log.read_text()
    assert f"Open http://127.0.0.1:{port}/" in shown
    assert "worker.1 | " in shown
    assert "beat: Starting..." in shown
    assert "WebSocket CONNECT /ws/jobs/" in shown
    assert "lost" not in shown
    assert not list((data / "broker" / "queue").glob("**/*.msg"))
