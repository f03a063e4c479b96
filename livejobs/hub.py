"""The hub: hands snapshots to the sockets of one web process.

Snapshots published in one process reach its own watchers at once, and those of the other processes through `layer.py`.
Each hub remembers the newest snapshot of the jobs it has lately seen, so that no watcher is ever told less than another
has been told. What may have been missed nevertheless is read from the rows by `recovery.py`.
"""

import asyncio
import logging
import os
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from livejobs import place
from livejobs.layer import Layer, log_failure
from livejobs.recovery import Recovery
from livejobs.snapshot import Snapshot

logger = logging.getLogger(__name__)

#: How many jobs' newest snapshots a hub remembers, and how long they may be in all: a search's holds its results.
REMEMBERED_JOBS, REMEMBERED_CHARACTERS = 10_000, 32 * 1024 * 1024
#: Seconds between two looks for sockets that do not read, and the seconds that they are given.
LOOK_EVERY, PATIENCE = 10, 30


class Watcher(Protocol):
    """One open socket."""

    session: str
    is_cut: bool

    def show(self, snapshot: Snapshot) -> None:
        """Take a snapshot to be sent, and ask the hub to `write_soon`; never waits."""

    async def write(self) -> None:
        """Send what has been taken; waits for a reader that is slow."""

    async def refresh(self) -> None:
        """Show the present state once more, as news may have been missed."""

    async def sign_out(self) -> None:
        """Close, as the session has ended."""

    def is_stuck(self, patience: float) -> bool:
        """Tell whether the other side has taken nothing for so many seconds."""

    def cut(self) -> None:
        """End without a word."""


class Hub:
    """The snapshots and watchers of one web process.

    All methods belong to its event loop, except those that say so.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, set[Watcher]] = defaultdict(set)
        self.newest: OrderedDict[str, Snapshot] = OrderedDict()
        self.remembered = 0  # characters of these
        self.tasks: set[asyncio.Task[None]] = set()
        self.ready: deque[Watcher] = deque()
        self.waking = False
        self.on_adopted: Callable[[str, str], None] = lambda visitor, owner: None  # of the relay
        self.calls: dict[str, Callable[..., None]] = {"end_session": self.end_session, "adopt": self.adopt}
        self._begin()
        self.loop: asyncio.AbstractEventLoop | None = None  # while it is open
        self.process = 0

    def _begin(self) -> None:
        self.recovery = Recovery(self._watchers, self._unfinished, self._show)
        self.layer = Layer(self._show, self.calls, self.recovery.refresh_soon)

    async def open(self) -> None:
        """Begin to serve this event loop, and join the other processes' hubs."""
        self._begin()
        await self.layer.open()
        places = place.follow(self._unfinished, self._replace)
        for work in (self.recovery.refresh(), self.recovery.compare(), places, self._cut_slow()):
            self._start(work)
        self.loop, self.process = asyncio.get_running_loop(), os.getpid()

    async def close(self) -> None:
        """Leave the other hubs."""
        self.loop = None
        await self.layer.close()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        """Whether this process has a hub that serves sockets; may be asked from any thread, and after a fork."""
        return self.loop is not None and self.process == os.getpid() and self.loop.is_running()

    def soon(self, method: Callable[..., None], *arguments: Any) -> bool:
        """Call a method of this hub from any thread, without waiting for it.

        Returns:
            False if this process has no open hub: then nothing is called.
        """
        loop = self.loop
        if loop is None or not self.is_open:
            return False
        try:
            loop.call_soon_threadsafe(method, *arguments)
        except RuntimeError:  # it has been closed a moment ago
            return False
        return True

    def join(self, room: str, watcher: Watcher) -> None:
        """Let a watcher have every snapshot of a room from now on.

        Args:
            room: an owner, for all of that owner's jobs; or a task id, for that job alone.
            watcher: a socket that the caller has found to be allowed there.
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
        return self.newest.get(snapshot.task_id, snapshot)

    def write_soon(self, watcher: Watcher) -> None:
        """Let a watcher write what it has been shown, after all those that are ready before it."""
        self.ready.append(watcher)
        self._wake()

    def publish(self, snapshots: list[Snapshot]) -> None:
        """Show snapshots to this process's watchers, and send them to the other processes' hubs soon."""
        self._show(snapshots)
        self.layer.publish(snapshots)

    def gone(self, owner: str, task_id: str) -> None:
        """Tell the watchers of a job, in all processes, that its row has been deleted; nothing is shown of it later.

        Args:
            owner: whose job it was.
            task_id: the job's id.
        """
        self.publish([Snapshot.gone(owner, task_id)])

    def everywhere(self, call: str, *arguments: str) -> None:
        """Do something in the hubs of all processes.

        Args:
            call: one of `calls`.
            *arguments: of that method.

        Raises:
            KeyError: there is no such call.
        """
        function = self.calls[call]
        self.layer.call(call, arguments)
        try:
            function(*arguments)
        except Exception:
            logger.exception("The call %s has failed in this process", call)

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
            visitor: the owner until now.
            owner: whose they are now, as their rows say.
        """
        for task_id, snapshot in self.newest.items():
            if snapshot.owner == visitor:
                self.newest[task_id] = snapshot._replace(owner=owner)
        self.on_adopted(visitor, owner)

    def _watchers(self) -> list[Watcher]:
        return [watcher for room in self.rooms.values() for watcher in room]

    def _unfinished(self) -> dict[str, Snapshot]:
        return {
            task_id: snapshot
            for task_id, snapshot in self.newest.items()
            if not snapshot.final and (snapshot.owner in self.rooms or task_id in self.rooms)
        }

    def _show(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            # Of a job with ten thousand children, hardly any is watched by itself.
            is_watched = snapshot.owner or snapshot.task_id in self.rooms
            if is_watched and self._remember(snapshot):
                self._show_room(snapshot)

    def _show_room(self, snapshot: Snapshot) -> None:
        for room in (snapshot.owner, snapshot.task_id):
            for watcher in self.rooms.get(room, ()):
                try:
                    watcher.show(snapshot)
                except Exception:
                    logger.exception("A socket could not be shown a snapshot of job %s", snapshot.task_id)

    def _replace(self, pairs: Iterable[tuple[Snapshot, Snapshot]]) -> None:
        """Show the second snapshot of each pair here, if the first still is the newest of its job."""
        for known, new in pairs:
            if self.newest.get(known.task_id) is known:
                self.newest[known.task_id] = new
                self.remembered += len(new.text) - len(known.text)
                self._show_room(new)

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
        task.add_done_callback(log_failure)

    async def _cut_slow(self) -> None:
        """Cut the sockets that do not read: the kernel's buffers are full, and so is the server's."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for watcher in self._watchers():
                try:
                    if watcher.is_stuck(PATIENCE):
                        watcher.cut()
                except Exception:
                    logger.exception("A socket that does not read could not be cut")


#: This web process's hub.
hub = Hub()
