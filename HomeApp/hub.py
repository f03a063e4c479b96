"""The hub: hands snapshots to the sockets of one web process, and to the hubs of the others.

Snapshots published in one process reach its own watchers at once, and every other process in one message over the
channel layer; while that is away, the newest of them wait for it. Each hub remembers the newest snapshot of the jobs
it has lately seen, so that no watcher is ever told less than another has been told.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from channels.layers import get_channel_layer

from HomeApp.snapshot import Snapshot

logger = logging.getLogger(__name__)

GROUP = "hubs"
#: Seconds between two entries into the group: it mends what a restart of the layer's server has lost.
REJOIN_SECONDS = 3
#: Seconds until the next entry when one has failed: the first after a restart does, on a connection from before it.
REJOIN_AFTER = 0.1
#: Seconds until the next try when the channel layer is away.
RETRY_SECONDS = 1
#: How many jobs' newest snapshots a hub remembers, and how long they may be in all: a search's holds its results.
REMEMBERED_JOBS, REMEMBERED_CHARACTERS = 10_000, 32 * 1024 * 1024
#: Calls to the other hubs that are kept while the channel layer is away.
KEPT_CALLS = 1_000
#: Seconds between two looks for sockets that do not read, and the seconds that they are given.
LOOK_EVERY, PATIENCE = 10, 30


class Watcher(Protocol):
    """One open socket."""

    session: str
    writing: float | None  #: since when it writes, by `time.monotonic`
    is_cut: bool

    def show(self, snapshot: Snapshot) -> None:
        """Take a snapshot to be sent, and ask the hub to `write_soon`; never waits."""

    async def write(self) -> None:
        """Send what has been taken; waits for a reader that is slow."""

    async def refresh(self) -> None:
        """Show the present state once more, as news may have been missed."""

    async def sign_out(self) -> None:
        """Close, as the session has ended."""

    def cut(self) -> None:
        """End without a word."""


class Hub:
    """The snapshots and watchers of one web process. All methods belong to its event loop."""

    def __init__(self) -> None:
        self.rooms: dict[str, set[Watcher]] = defaultdict(set)
        self.newest: OrderedDict[str, Snapshot] = OrderedDict()
        self.remembered = 0  # characters of these
        self.tasks: set[asyncio.Task[None]] = set()
        self.ready: deque[Watcher] = deque()
        self.waking = False
        self.outgoing: dict[tuple[str, str], Snapshot] = {}
        self.calls: deque[tuple[str, tuple[str, ...]]] = deque(maxlen=KEPT_CALLS)
        self.on_adopted: Callable[[str, str], None] = lambda visitor, owner: None  # of the relay
        self.missed = False
        self.news = asyncio.Event()
        self.lost_line = asyncio.Event()

    async def open(self) -> None:
        """Join the other processes' hubs."""
        self.layer = get_channel_layer()
        self.channel = await self.layer.new_channel(GROUP)
        self.news, self.lost_line = asyncio.Event(), asyncio.Event()
        self._start(self._stay_in_group())
        self._start(self._listen())
        self._start(self._tell_others())
        self._start(self._cut_slow())

    async def close(self) -> None:
        """Leave the other hubs."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def join(self, room: str, watcher: Watcher) -> None:
        """Let a watcher have every snapshot of a room from now on.

        Args:
            room: an owner, for all of that owner's jobs; or a task id, for that job alone.
            watcher: a socket that whoever calls has found to be allowed there.
        """
        self.rooms[room].add(watcher)

    def leave(self, room: str, watcher: Watcher) -> None:
        """Forget a watcher."""
        watchers = self.rooms.get(room, set())
        watchers.discard(watcher)
        if not watchers:
            self.rooms.pop(room, None)

    def latest(self, snapshot: Snapshot) -> Snapshot:
        """Return the newest known snapshot of a job: the given one, or one that has come by since.

        Where the given one is news here, as it was read from a row before it was published, all others are shown it.
        """
        self._show([snapshot])
        return self.newest[snapshot.task_id]

    def write_soon(self, watcher: Watcher) -> None:
        """Let a watcher write what it has been shown, after all those that are ready before it."""
        self.ready.append(watcher)
        self._wake()

    def publish(self, snapshots: list[Snapshot]) -> None:
        """Show snapshots to this process's watchers, and let the other processes' hubs have them soon."""
        self._show(snapshots)
        self._keep_for_others(snapshots)
        self.news.set()

    def everywhere(self, call: str, *arguments: str) -> None:
        """Do something in the hubs of all processes.

        Args:
            call: `end_session` or `adopt`.
            *arguments: of that method.
        """
        getattr(self, call)(*arguments)
        self.calls.append((call, arguments))
        self.news.set()

    def end_session(self, session: str) -> None:
        """Close a session's sockets here.

        Args:
            session: the digest of its key.
        """
        for watcher in self._watchers():
            if watcher.session == session:
                self._start(watcher.sign_out())

    def adopt(self, visitor: str, owner: str) -> None:
        """Let what is told of a visitor's jobs go to the user that the visitor has turned out to be.

        Args:
            visitor: who owned them.
            owner: whose they are now, as their rows say.
        """
        self.on_adopted(visitor, owner)

    def _watchers(self) -> list[Watcher]:
        return [watcher for room in self.rooms.values() for watcher in room]

    def _show(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            if self._remember(snapshot):
                for room in (snapshot.owner, snapshot.task_id):
                    for watcher in self.rooms.get(room, ()):
                        watcher.show(snapshot)

    def _remember(self, snapshot: Snapshot) -> bool:
        known = self.newest.get(snapshot.task_id)
        # An end outranks all but an end with a greater number, which says that its file has been deleted.
        if known and (known.seq >= snapshot.seq if known.final == snapshot.final else known.final):
            return False
        self.newest[snapshot.task_id] = snapshot
        self.newest.move_to_end(snapshot.task_id)
        self.remembered += len(snapshot.text) - (len(known.text) if known else 0)
        while len(self.newest) > REMEMBERED_JOBS or (self.remembered > REMEMBERED_CHARACTERS and len(self.newest) > 1):
            _, forgotten = self.newest.popitem(last=False)
            self.remembered -= len(forgotten.text)
        return True

    def _wake(self) -> None:
        if self.ready and not self.waking:
            self.waking = True
            self._start(self._write())

    async def _write(self) -> None:
        """Let all ready watchers write, one after the other: a task for each would cost as much as the writing.

        Writing seldom waits. Where it does, for a slow reader, the event loop goes on, finds that others are still
        ready, and starts another writer for them.
        """
        self.waking = False
        asyncio.get_running_loop().call_soon(self._wake)
        while self.ready:
            watcher = self.ready.popleft()
            try:
                await watcher.write()
            except asyncio.CancelledError:
                if not watcher.is_cut:
                    raise
            except OSError as problem:
                logger.debug("A socket has gone while it was written to: %r", problem)
            except Exception:
                logger.exception("A socket could not be written to")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _keep_for_others(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            key = snapshot.task_id, snapshot.state
            self.outgoing.pop(key, None)  # the newest of each job and state, in the order of `seq`
            self.outgoing[key] = snapshot

    async def _tell_others(self) -> None:
        """Send what is kept for the others, in one message; while the layer is away, it is kept, the newest only."""
        while True:
            await self.news.wait()
            self.news.clear()
            snapshots, self.outgoing = self.outgoing, {}
            calls = list(self.calls)
            self.calls.clear()
            message = {
                "type": GROUP,
                "from": self.channel,
                "snapshots": [list(one) for one in snapshots.values()],
                "calls": calls,
            }
            try:
                await self.layer.group_send(GROUP, message)
            except Exception as problem:
                logger.warning("The other web processes cannot be told over the channel layer: %r", problem)
                self.calls.extendleft(reversed(calls))
                later, self.outgoing = self.outgoing, snapshots
                self._keep_for_others(later.values())
                await asyncio.sleep(RETRY_SECONDS)
                self.news.set()

    async def _stay_in_group(self) -> None:
        """Enter the group again and again; once back after an outage, make good what was missed."""
        while True:
            pause: float = REJOIN_SECONDS
            try:
                await self.layer.group_add(GROUP, self.channel)
            except Exception as problem:
                logger.warning("The channel layer cannot be reached: %r", problem)
                self.missed, pause = True, REJOIN_AFTER
            else:
                if self.missed:
                    self.missed = False
                    self._start(self._refresh())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.lost_line.wait(), pause)
            self.lost_line.clear()

    async def _refresh(self) -> None:
        """Let all watchers read the present state. What is published from now on comes by itself."""
        outcomes = await asyncio.gather(*(watcher.refresh() for watcher in self._watchers()), return_exceptions=True)
        if problem := next(filter(None, outcomes), None):
            logger.warning("Sockets could not be brought up to date: %r", problem)
            self.missed = True

    async def _cut_slow(self) -> None:
        """Cut the sockets that do not read: the kernel's buffers are full, and so is the server's."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            long_ago = time.monotonic() - PATIENCE
            for watcher in self._watchers():
                if watcher.writing is not None and watcher.writing < long_ago:
                    watcher.cut()

    async def _listen(self) -> None:
        while True:
            try:
                message = await self.layer.receive(self.channel)
            except Exception as problem:
                logger.warning("Nothing can be heard from the channel layer: %r", problem)
                self.missed = True
                self.lost_line.set()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if message["from"] != self.channel:
                self._show(Snapshot(*fields) for fields in message["snapshots"])
                for call, arguments in message["calls"]:
                    getattr(self, call)(*arguments)


#: This web process's hub.
hub = Hub()
