"""`make run`, as the README has it."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

from HomeApp.tests.processes import ROOT, free_port, wait_until
from HomeApp.tests.test_path import page, start, until_the_end


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


async def run_a_job(port) -> dict:
    async with asyncio.timeout(60), page(f"127.0.0.1:{port}") as visitor:
        await start(visitor, 10_000)
        return (await until_the_end(visitor))[-1]


def test_make_run_brings_up_the_site_and_ctrl_c_leaves_nothing_behind(tmp_path):
    port, data, log = free_port(), tmp_path / "var", tmp_path / "log"
    with log.open("w") as output:
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
        assert asyncio.run(run_a_job(port))["result"] == 1_229
        assert len(processes_over(data)) >= 5
        os.killpg(run.pid, signal.SIGINT)
        run.wait(30)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    wait_until(lambda: not processes_over(data), "nothing is left running")
    assert not listens(port)
    shown = log.read_text()
    assert f"Open http://127.0.0.1:{port}/" in shown
    assert "worker.1 | " in shown
    assert "beat: Starting..." in shown
    assert "WebSocket CONNECT /ws/jobs/" in shown
    assert not list((data / "broker" / "queue").glob("**/*.msg"))
