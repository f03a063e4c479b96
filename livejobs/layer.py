"""The other web processes: what this process's hub tells their hubs over the channel layer, and hears from them.

A channel layer delivers a message at most once. It drops the newest messages for a process that has not read the last
100, and says so to nobody. So each hub numbers its messages, and sends an empty one if it has had nothing to send for a
while. A hub that finds a number missing, or no longer hears another hub, has its watchers read the rows again.

What arrives and is no message of `message.py` is ignored, counted in `ignored`, and logged once of each sort.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from channels.layers import get_channel_layer

from livejobs.conf import conf
from livejobs.message import TYPE, UNREADABLE, Call, Message
from livejobs.snapshot import Snapshot

logger = logging.getLogger(__name__)

#: Seconds without news after which a hub sends an empty message.
HEARTBEAT_SECONDS = 2
#: Seconds without a message after which a sender counts as lost, and so does the connection if nothing at all arrives:
#: a hub hears its own messages too.
SILENCE_SECONDS = 10
#: Seconds between two entries into the group, which repair what a restart of the layer's server has lost.
REJOIN_SECONDS = 3
#: Seconds until the first retry after a failure: the first call after a restart fails, on a connection from before it.
RETRY_SOON = 0.1
#: Seconds until each further retry while the channel layer is away.
RETRY_SECONDS = 1
#: Seconds that a message may take to be sent.
SEND_SECONDS = 5
#: Seconds that closing may take to send what is kept.
CLOSE_SECONDS = 1
#: Snapshots and calls that are kept while the channel layer is away. Beyond these the oldest are dropped, and a number
#: is left out, so that the other hubs know it.
KEPT_SNAPSHOTS, KEPT_CALLS = 2_000, 10_000


class Layer:
    """One hub's messages to and from the hubs of the other processes, from one opening to its end.

    All methods belong to the event loop.

    Args:
        show: takes snapshots that another process has published.
        calls: the methods that the other processes may call, by name.
        missed: called if anything from another process may have been lost; often, so it must be quick.
    """

    def __init__(
        self,
        show: Callable[[list[Snapshot]], None],
        calls: Mapping[str, Callable[..., None]],
        missed: Callable[[], None],
    ) -> None:
        self.show, self.calls, self.missed = show, calls, missed
        self.sender, self.number = uuid.uuid4().hex, 0  # this hub's id, and the number of its last message
        self.senders: dict[str, tuple[int, float]] = {}  # id -> the last number heard, and when that was
        self.kept: dict[tuple[str, str], Snapshot] = {}
        self.kept_calls: dict[Call, None] = {}
        self.ignored: Counter[str] = Counter()
        self.unsure = self.closing = False
        self.failing: set[str] = set()  # what the channel layer cannot do at present
        self.tasks: list[asyncio.Task[None]] = []
        self.news, self.failed = asyncio.Event(), asyncio.Event()

    async def open(self) -> None:
        """Join the hubs of this deployment."""
        self.channel_layer = get_channel_layer()
        self.group = f"{conf.DEPLOYMENT}.{TYPE}"
        self.channel = await self.channel_layer.new_channel(self.group)
        self.news.set()  # the others learn of this hub by its number 1
        self.tasks = [asyncio.create_task(loop()) for loop in (self._send_kept, self._listen, self._stay_in_group)]
        for task in self.tasks:
            task.add_done_callback(log_failure)

    async def close(self) -> None:
        """Send what is kept, and leave the others."""
        self.closing = True
        self.news.set()
        await asyncio.wait(self.tasks[:1], timeout=CLOSE_SECONDS)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.kept or self.kept_calls:
            logger.warning("Closed with %d snapshots and %d calls unsent", len(self.kept), len(self.kept_calls))
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.channel_layer.group_discard(self.group, self.channel)
        except Exception as problem:
            logger.warning("The channel layer cannot be told that this process leaves: %r", problem)

    def publish(self, snapshots: Iterable[Snapshot]) -> None:
        """Send snapshots to the other hubs soon: of each job and state the newest, in the order of `seq`."""
        self._keep(snapshots)
        self.news.set()

    def call(self, name: str, arguments: tuple[str, ...]) -> None:
        """Call a method of the other hubs soon.

        Args:
            name: one of `calls`.
            arguments: of that method; the same call again is made once.
        """
        self.kept_calls[Call(name, arguments)] = None
        self._drop_oldest(self.kept_calls, KEPT_CALLS)
        self.news.set()

    def take(self, message: Any) -> None:
        """Take a message of the group.

        Args:
            message: anything at all; what cannot be read of it is ignored.
        """
        read = Message.read(message, self._ignore)
        if read is None or read.sender == self.sender:
            return
        known = self.senders.get(read.sender)
        self.senders[read.sender] = read.number, time.monotonic()
        if read.number != (known[0] if known else 0) + 1:
            self.missed()
        self.show(read.snapshots)
        for call in read.calls:
            if call.name not in self.calls:
                self._ignore("unknown call", call)
                continue
            try:
                self.calls[call.name](*call.arguments)
            except Exception:
                logger.exception("A call of another web process has failed: %.200r", call)

    def _ignore(self, what: str, example: Any) -> None:
        """Ignore what another process has sent, and have the rows read in its place."""
        self._count(what, example)
        self.missed()

    def _count(self, what: str, example: Any) -> None:
        """Count what is dropped, and log the first of each sort."""
        self.ignored[what] += 1
        if self.ignored[what] == 1:
            logger.error("Dropped on the channel layer, and only counted from now on: %s: %.300r", what, example)

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await self.channel_layer.receive(self.channel)
            except Exception as problem:
                failures += 1
                if isinstance(problem, UNREADABLE):
                    self._ignore("unreadable message", problem)
                else:
                    self._fails("receive", problem)
                    self.unsure = True
                    self.failed.set()
                if failures > 1:  # the first may be one bad message, and good ones wait behind it
                    await asyncio.sleep(RETRY_SECONDS)
                continue
            failures = 0
            self._works("receive")
            try:
                self.take(message)
            except Exception:
                logger.exception("A message of another web process could not be handled: %.300r", message)
                self.missed()

    async def _stay_in_group(self) -> None:
        """Enter the group again and again; once back after a failure, report that messages may have been missed."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self.channel_layer.group_add(self.group, self.channel)
            except Exception as problem:
                failures += 1
                self.unsure = True
                self._fails("group_add", problem)
                pause: float = RETRY_SOON if failures == 1 else RETRY_SECONDS
            else:
                failures, pause = 0, REJOIN_SECONDS
                self._works("group_add")
                self._forget_silent_senders()
                if self.unsure:
                    self.unsure = False
                    self.missed()
            try:
                async with asyncio.timeout(pause):
                    await self.failed.wait()
            except TimeoutError:
                pass
            self.failed.clear()

    def _forget_silent_senders(self) -> None:
        """Forget the hubs that are no longer heard: the last messages of one that has died may have been dropped."""
        earliest = time.monotonic() - SILENCE_SECONDS
        silent = [sender for sender, (_, heard) in self.senders.items() if heard < earliest]
        for sender in silent:
            del self.senders[sender]
            self.unsure = True

    async def _send_kept(self) -> None:
        """Send what is kept for the others in one message; while the layer is away, it stays kept."""
        while not self.closing or self.kept or self.kept_calls:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self.news.wait()
            except TimeoutError:
                pass
            self.news.clear()
            try:
                await self._send()
            except Exception as problem:
                self._fails("group_send", problem)
                await asyncio.sleep(RETRY_SECONDS)
                self.news.set()
            else:
                self._works("group_send")

    async def _send(self) -> None:
        snapshots, self.kept = self.kept, {}
        calls, self.kept_calls = self.kept_calls, {}
        try:
            await self._write(list(snapshots.values()), list(calls))
        except BaseException:
            later, self.kept = self.kept, snapshots
            self._keep(later.values())
            self.kept_calls = calls | self.kept_calls
            self._drop_oldest(self.kept_calls, KEPT_CALLS)
            raise

    async def _write(self, snapshots: list[Snapshot], calls: list[Call]) -> None:
        """Send one message; if the layer cannot write it, send each of its parts alone, and drop the one at fault.

        Each try has a number of its own, so that the other hubs know of what was dropped, here or on the way.
        """
        self.number += 1
        message = Message(self.sender, self.number, snapshots, calls).as_dict()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.channel_layer.group_send(self.group, message)
        except UNREADABLE:
            if len(snapshots) + len(calls) > 1:
                for snapshot in snapshots:
                    await self._write([snapshot], [])
                for call in calls:
                    await self._write([], [call])
            elif snapshots or calls:
                self._count("part that cannot be sent", snapshots or calls)
            else:
                raise

    def _keep(self, snapshots: Iterable[Snapshot]) -> None:
        for snapshot in snapshots:
            key = snapshot.task_id, snapshot.state
            self.kept.pop(key, None)
            self.kept[key] = snapshot
        self._drop_oldest(self.kept, KEPT_SNAPSHOTS)

    def _drop_oldest(self, kept: dict[Any, Any], most: int) -> None:
        """Drop what is beyond the most that may be kept, and leave out a number."""
        while len(kept) > most:
            oldest = next(iter(kept))
            del kept[oldest]
            self.number += 1
            self._count("part that was kept for too long", oldest)

    def _fails(self, method: str, problem: Exception) -> None:
        """Log the first failure of an outage."""
        if method not in self.failing:
            self.failing.add(method)
            logger.warning("The channel layer cannot be reached: %s: %r", method, problem)

    def _works(self, method: str) -> None:
        """Log the end of an outage."""
        if method in self.failing:
            self.failing.remove(method)
            logger.info("The channel layer can be reached again: %s", method)


def log_failure(task: asyncio.Task[Any]) -> None:
    """Log what a task has raised that no other task waits for."""
    if not task.cancelled() and (problem := task.exception()):
        logger.error("A task of the hub has failed", exc_info=problem)
