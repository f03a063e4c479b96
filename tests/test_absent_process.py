"""No end is lost for the pages of a web process that is stopped, or too busy to read what the others publish."""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import time

import pytest

from testkit.fault_proxy import Mode
from testkit.history import check
from testkit.stage import WEBS
from testkit.watcher import Watcher, visit

#: How web-2 is absent: seconds for which it is stopped; "pings" from one socket, which keep it busy; or a "line" to
#: Redis that is silent. By hand, all of them: ABSENT="2 8 40 pings line".
WAYS = os.environ.get("ABSENT", "8").split()
#: Seconds in which everything must be well again, on a machine that is busy with other things too.
PATIENCE = 180
OWNERS, JOBS = 6, 4
#: A fraction of a second of work, with some twenty reports a second, and the answer.
BELOW, ANSWER = 600_000, 49_098

#: Sends pings over one socket as fast as it can, and reads the answers, as otherwise the server would wait.
PINGS = """
import socket, sys, threading
host, cookie, key = sys.argv[1:]
line = socket.create_connection(host.split(":"))
line.sendall((
    f"GET /ws/jobs/ HTTP/1.1\\r\\nHost: {host}\\r\\nOrigin: http://{host}\\r\\nCookie: {cookie}\\r\\n"
    "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
    f"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: {key}\\r\\n\\r\\n"
).encode())
assert b" 101 " in line.recv(65536)
print("open", flush=True)
threading.Thread(target=lambda: [None for _ in iter(lambda: line.recv(1 << 20), b"")], daemon=True).start()
payload = b'{"type": "ping"}'
frames = (bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload) * 100
while True:
    line.sendall(frames)
"""


@pytest.fixture
async def pages(stage):
    """A page of each owner on each web process, of which web-1 relays."""
    stage.kill("web-2")
    stage.start("web-2")
    stage.mend()
    pages, watching = {web: [] for web in WEBS}, []
    for n in range(OWNERS):
        cookie = await asyncio.to_thread(visit, stage.host("web-1"))
        for web in WEBS:
            page = Watcher(f"page-{n}-{web}", f"owner-{n}", [stage.direct(web)], cookie)
            pages[web].append(page)
            watching.append(asyncio.create_task(page.watch()))
    async with asyncio.timeout(PATIENCE):
        for page in (*pages["web-1"], *pages["web-2"]):
            await page.until(lambda page=page: page.connections)
    yield pages
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def start(pages, count) -> list[list[str]]:
    """Press START some times on each page. Returns the ids of each page's jobs."""
    refs = [[await page.start("count_primes", {"below": BELOW}, ANSWER) for _ in range(count)] for page in pages]
    async with asyncio.timeout(PATIENCE):
        return [
            [await page.until(lambda page=page, ref=ref: page.task_of(ref)) for ref in mine]
            for page, mine in zip(pages, refs, strict=True)
        ]


async def ends(pages, jobs):
    """Wait until each page is told the ends of its jobs."""
    async with asyncio.timeout(PATIENCE):
        for page, task_ids in zip(pages, jobs, strict=True):
            for task_id in task_ids:
                await page.until(lambda page=page, task_id=task_id: page.ended(task_id))


@contextlib.contextmanager
def absent(stage, way, cookie):
    """web-2 does not read what web-1 publishes: for some seconds at least, and as long as the block takes."""
    began = time.monotonic()
    if way == "pings":
        key = base64.b64encode(os.urandom(16)).decode()
        command = [sys.executable, "-c", PINGS, stage.direct("web-2"), cookie, key]
        busy = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert busy.stdout.readline() == b"open\n"
        yield
        busy.kill()
        busy.communicate()
    elif way == "line":
        stage.break_lines([("web-2", "redis")], Mode.HALF_OPEN)
        yield
        stage.break_lines([("web-2", "redis")], Mode.PASS)
    else:
        stage.pause("web-2")
        yield
        time.sleep(max(0.0, began + float(way) - time.monotonic()))
        stage.go_on("web-2")


@pytest.mark.parametrize("way", WAYS)
async def test_every_end_is_told_once_the_process_is_back(stage, pages, way):
    here, there = pages["web-1"], pages["web-2"]
    jobs = await start(here, 1)
    await ends(there, jobs)  # both processes know each other
    with absent(stage, way, here[0].cookie):
        jobs = await start(here, JOBS)
        await ends(here, jobs)
    told = sum(page.ended(task_id) for page, mine in zip(there, jobs, strict=True) for task_id in mine)
    back = time.monotonic()
    await ends(there, jobs)
    print(f"{way}: {told} of {OWNERS * JOBS} ends told before, all {time.monotonic() - back:.2f} s after its return")
    for page, other in zip(there, here, strict=True):
        page.asked = other.asked  # one owner's
    assert [page.connections for page in there] == [1] * OWNERS  # by the hub, not as they came back
    asked = {ref for page in here for ref in page.asked}
    rows = [row for row in await asyncio.to_thread(stage.rows) if row["ref"] in asked]
    assert check([*here, *there], rows) == []
