"""Whether each open socket still has the authority that it was opened with.

A session is flushed or expires, a user is deactivated, deleted or gets another password: some of this is done by other
processes, by commands and by hand, and no signal tells of it. So the database is asked for all sockets periodically.
"""

import asyncio
import logging
import math
import time
from itertools import islice
from typing import Protocol

from livejobs.claims import Authority, owners_of
from livejobs.threads import MOST_AT_ONCE, LookUp, in_thread

logger = logging.getLogger(__name__)

#: Seconds in which each open socket is checked once. An ended authority closes its sockets within 5 s.
CHECK_EVERY = 3.5
#: Seconds after which the number of sockets is looked at again, as it tells how many are to be checked now.
TICK = 0.25

#: Whose an authority is, for many sockets in one query.
owner_by_authority: LookUp[Authority, str | None] = LookUp(owners_of, None)


class Watcher(Protocol):
    """One open socket."""

    authority: Authority | None
    owner: str | None

    async def sign_out(self) -> None:
        """Close, as the authority has ended."""


class Guard:
    """Checks the open sockets of one web process, oldest check first, and closes those whose authority has ended.

    A batch of `MOST_AT_ONCE` authorities costs a query for the sessions and one for the users. The batches of a period
    are spread over it, so that they delay no other work. All methods belong to the event loop.
    """

    def __init__(self) -> None:
        self.watchers: dict[Authority, set[Watcher]] = {}  # the authority that was checked longest ago first
        self.checking: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.reachable = True

    def join(self, watcher: Watcher) -> None:
        """Check a socket from now on. Join before the first look-up: no end of the authority is missed then."""
        if watcher.authority is None:
            return
        self.watchers.setdefault(watcher.authority, set()).add(watcher)
        if self.checking is None:
            self.checking = asyncio.create_task(self._check_all())

    def leave(self, watcher: Watcher) -> None:
        """Forget a socket."""
        if watcher.authority is None:
            return
        watchers = self.watchers.get(watcher.authority, set())
        watchers.discard(watcher)
        if not watchers:
            self.watchers.pop(watcher.authority, None)

    async def _check_all(self) -> None:
        checked = time.monotonic()
        try:
            while self.watchers:
                batches = math.ceil(len(self.watchers) / MOST_AT_ONCE)
                wait = checked + CHECK_EVERY / batches - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(min(wait, TICK))
                    continue
                checked = time.monotonic()
                await self._check(list(islice(self.watchers, MOST_AT_ONCE)))
        finally:
            self.checking = None

    async def _check(self, authorities: list[Authority]) -> None:
        try:
            owners = await in_thread(owners_of, authorities)
        except Exception as problem:
            if self.reachable:
                logger.warning("Sessions and users cannot be read; open sockets stay open unchecked: %r", problem)
            self.reachable, owners = False, {}
        else:
            self.reachable = True
        for authority in authorities:
            if watchers := self.watchers.pop(authority, None):
                self.watchers[authority] = watchers
            if watchers and authority in owners:
                self._compare(watchers, owners[authority])

    def _compare(self, watchers: set[Watcher], owner: str | Exception | None) -> None:
        if isinstance(owner, Exception):
            return
        for watcher in watchers:
            if watcher.owner not in (None, owner):  # None: its own look-up is still under way
                task = asyncio.create_task(watcher.sign_out())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)


#: The guard of this web process.
guard = Guard()
