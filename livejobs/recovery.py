"""What the watchers of one web process may have missed, read from the rows."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Protocol

from livejobs.models import FINAL, Job
from livejobs.snapshot import Snapshot
from livejobs.threads import in_thread

logger = logging.getLogger(__name__)

#: Seconds between two refreshes of all watchers, at least, and how many times as long as the last one took: a process
#: that misses news because it is overloaded must not be overloaded by refreshes.
REFRESH_SECONDS, REFRESH_PAUSE = 1, 4
#: Seconds between two comparisons of unfinished jobs with their rows.
COMPARE_SECONDS = 2
#: Rows read by one query: SQLite takes no statement of more than 500 parts.
MOST_AT_ONCE = 500


class Watcher(Protocol):
    """One open socket, as far as it matters here."""

    async def refresh(self) -> None:
        """Show the present state once more, as news may have been missed."""


class Recovery:
    """Reads again what a hub's watchers may have missed. All methods belong to the event loop.

    Args:
        watchers: returns the hub's watchers.
        unfinished: returns the newest snapshots of the unfinished jobs that are watched, by task id.
        show: shows snapshots to the watchers of this process.
    """

    def __init__(
        self,
        watchers: Callable[[], Iterable[Watcher]],
        unfinished: Callable[[], dict[str, Snapshot]],
        show: Callable[[list[Snapshot]], None],
    ) -> None:
        self.watchers, self.unfinished, self.show = watchers, unfinished, show
        self.missed = asyncio.Event()

    def refresh_soon(self) -> None:
        """Let all watchers read the present state, as news may have been missed; calling this often costs nothing."""
        self.missed.set()

    async def refresh(self) -> None:
        """Refresh all watchers whenever snapshots may have been missed. Failed refreshes are retried."""
        failed: set[Watcher] = set()
        while True:
            if not failed:
                await self.missed.wait()
            watchers = set(self.watchers()) if self.missed.is_set() else failed.intersection(self.watchers())
            self.missed.clear()
            began = time.monotonic()
            failed = await _refresh(watchers)
            await asyncio.sleep(max(REFRESH_SECONDS, REFRESH_PAUSE * (time.monotonic() - began)))

    async def compare(self) -> None:
        """Show what the rows say of unfinished jobs of which nothing was heard between two comparisons.

        This finds what no message tells: the end of a job that was published by a process of another version, or by
        none, as the process died before; and a row that was deleted.
        """
        before: dict[str, Snapshot] = {}
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            unfinished = self.unfinished()
            quiet = [snapshot for task_id, snapshot in unfinished.items() if before.get(task_id) is snapshot]
            before = unfinished
            if quiet:
                try:
                    self.show(await in_thread(newer_than, quiet))
                except Exception as problem:
                    logger.warning("Jobs could not be compared with their rows: %r", problem)


async def _refresh(watchers: Iterable[Watcher]) -> set[Watcher]:
    """Let watchers read the present state. Returns those that could not."""
    problems: dict[Watcher, Exception] = {}

    async def refresh(watcher: Watcher) -> None:
        try:
            await watcher.refresh()
        except Exception as problem:
            problems[watcher] = problem

    await asyncio.gather(*map(refresh, watchers))
    if problems:
        logger.warning("%d sockets could not be refreshed: %r", len(problems), next(iter(problems.values())))
    return set(problems)


def newer_than(told: list[Snapshot]) -> list[Snapshot]:
    """Return what the rows say of jobs, if it is newer than what was told of them; deleted ones are `gone`.

    One query for each `MOST_AT_ONCE` jobs, and another one if a row is newer.

    Args:
        told: the newest known snapshot of each job, none of them final.
    """
    return [news for start in range(0, len(told), MOST_AT_ONCE) for news in _newer(told[start : start + MOST_AT_ONCE])]


def _newer(told: list[Snapshot]) -> list[Snapshot]:
    by_id = {pk: snapshot for snapshot in told if (pk := _id(snapshot.task_id))}
    rows = Job.objects.filter(pk__in=by_id).values_list("pk", "seq", "state")
    known = {pk for pk, seq, state in rows if seq <= by_id[pk].seq and state not in FINAL}
    changed = Job.objects.in_bulk(by_id.keys() - known) if len(known) < len(by_id) else {}
    return [
        Snapshot.of(changed[pk]) if pk in changed else Snapshot.gone(snapshot.owner, snapshot.task_id)
        for pk, snapshot in by_id.items()
        if pk not in known
    ]


def _id(task_id: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(task_id)
    except ValueError:
        return None
