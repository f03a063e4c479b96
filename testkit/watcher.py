"""A page without a browser: it comes back, says again what was not answered, and writes down all that it is told."""

import asyncio
import contextlib
import itertools
import json
import random
import time
import urllib.request
import uuid
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from testkit.history import Heard, Told

#: Seconds, as the page waits before it comes back, but never as long: a test has no crowd to spare the server from.
FIRST_WAIT, LONGEST_WAIT = 0.2, 1.0
#: Seconds after which a page asks for the jobs that its connection told nothing of.
CATCH_UP = 2.0


def visit(host: str) -> str:
    """Open the home page as somebody new. Returns the session's cookie."""
    with urllib.request.urlopen(f"http://{host}/", timeout=30) as page:
        cookies = SimpleCookie(" ".join(page.headers.get_all("Set-Cookie")))
    return f"sessionid={cookies['sessionid'].value}"


def read(host: str, task_id: str, cookie: str) -> dict[str, Any]:
    """Return a job's snapshot, over HTTP."""
    request = urllib.request.Request(f"http://{host}/api/jobs/{task_id}/", headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


class Watcher(Heard):
    """A page: it comes back when its line is cut, and says again what was not answered, with the same ref.

    Args:
        watcher: its name in the history.
        owner: a name for whose page it is.
        hosts: where it connects; each time to the next one, as behind a load balancer.
        cookie: the session's.
        room: the id of the one job that it watches; all of its owner's unless given.
    """

    def __init__(self, watcher: str, owner: str, hosts: list[str], cookie: str, room: str | None = None):
        super().__init__(watcher, owner, room)
        path = f"task_status/{room}" if room else "jobs"
        self.addresses = itertools.cycle([f"ws://{host}/ws/{path}/" for host in hosts])
        self.cookie = cookie
        self.unanswered: dict[str, str] = {}
        self.socket: ClientConnection | None = None
        self.connections = 0
        self.news = asyncio.Event()

    async def watch(self):
        """Stay connected until cancelled; one that watches a single job stops at its end."""
        wait = FIRST_WAIT
        while not (self.room and self.ended(self.room)):
            with contextlib.suppress(OSError, WebSocketException):  # the line is down; TimeoutError is an OSError
                before = self.connections
                await self._stay()
            wait = FIRST_WAIT if self.connections > before else min(wait * 2, LONGEST_WAIT)
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))

    async def start(self, kind: str, params: dict[str, Any], answer: Any = None) -> str:
        """Press START. Returns the ref."""
        ref = str(uuid.uuid4())
        self.asked[ref] = answer
        self.unanswered[ref] = json.dumps({"type": "start", "kind": kind, "params": params, "ref": ref})
        await self._say(self.unanswered[ref])
        return ref

    async def cancel(self, task_id: str):
        """Cancel a job: once, and again on each new connection until its end was told."""
        self.cancelled.add(task_id)
        await self._say(json.dumps({"type": "cancel", "task_id": task_id}))

    async def retry(self, task_id: str, answer: Any = None) -> str:
        """Repeat a job. Returns the ref of the new one."""
        ref = str(uuid.uuid4())
        self.asked[ref] = answer
        self.unanswered[ref] = json.dumps({"type": "retry", "task_id": task_id, "ref": ref})
        await self._say(self.unanswered[ref])
        return ref

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Return what a condition returns as soon as that is true; it is looked at after each frame and connection."""
        while not (result := condition()):
            self.news.clear()
            await self.news.wait()
        return result

    async def _stay(self):
        """Be connected once, until the line is cut."""
        options = {"open_timeout": 5, "close_timeout": 1, "ping_interval": None, "proxy": None}  # as browsers are
        async with connect(next(self.addresses), additional_headers={"Cookie": self.cookie}, **options) as socket:
            self.connections += 1
            self.socket = socket
            self.news.set()
            catching_up = asyncio.create_task(self._catch_up(self.connections, socket.request.headers["Host"]))
            try:
                for text in list(self.unanswered.values()):
                    await self._say(text)
                for task_id in self.cancelled:
                    if not self.ended(task_id):
                        await self.cancel(task_id)
                async for text in socket:
                    self._take(json.loads(text))
            finally:
                catching_up.cancel()
                self.socket = None
                if socket.close_code is not None:
                    self.closed.append(socket.close_code)

    async def _catch_up(self, connection: int, host: str):
        """Ask over HTTP for the unfinished jobs that a connection told nothing of, as the page does."""
        while not self.room:
            await asyncio.sleep(CATCH_UP)
            jobs = [one for one in self.told if one.frame.get("type") == "job"]
            told = {one.frame["task_id"] for one in jobs if one.connection == connection}
            untold = [task_id for task_id in {one.frame["task_id"] for one in jobs} - told if not self.ended(task_id)]
            try:
                for task_id in untold:
                    self._take(await asyncio.to_thread(read, host, task_id, self.cookie))
                return
            except OSError:
                continue

    async def _say(self, text: str):
        if self.socket:
            with contextlib.suppress(OSError, WebSocketException):  # it is said again on the next connection
                await self.socket.send(text)

    def _take(self, frame: dict[str, Any]):
        self.told.append(Told(time.monotonic(), self.connections, frame))
        self.news.set()
        ref = frame.get("ref")
        if ref not in self.unanswered:
            return
        if frame["type"] == "error" and frame["code"] == "internal":
            text = self.unanswered[ref]  # "Send the same frame with the same ref again"
            asyncio.get_running_loop().call_later(LONGEST_WAIT, lambda: asyncio.ensure_future(self._say(text)))
        else:
            del self.unanswered[ref]
            if frame["type"] == "error":
                self.refused[ref] = frame["code"]
