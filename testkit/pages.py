"""Pages before the stage: they start jobs, and at the end all that they were told is held against the rules."""

import asyncio
from typing import Any

import pytest

from testkit.history import check
from testkit.stage import Stage
from testkit.watcher import Watcher, visit

#: Seconds in which everything must be well again, on a machine that is busy with other things too.
PATIENCE = 180


class Pages:
    """Pages of one owner.

    Args:
        stage: what they connect to.
        cookie: the owner's session.
    """

    #: Whether the test takes no worker away: then no job may be said to be lost, or be begun again.
    nothing_lost = one_attempt = True
    #: Whether no relay is killed; see `check`.
    relays_live = True

    def __init__(self, stage: Stage, cookie: str):
        self.stage, self.cookie = stage, cookie
        self.opened: list[Watcher] = []
        self.watching: list[asyncio.Task] = []

    def __call__(self, *webs: str, hosts: list[str] | None = None) -> Watcher:
        """Open a page.

        Args:
            webs: the web processes that it connects to, in turn; all of them unless given.
            hosts: where it connects instead.
        """
        hosts = hosts or [self.stage.host(web) for web in webs or self.stage.webs]
        self.opened.append(Watcher(f"page-{len(self.opened) + 1}", "owner", hosts, self.cookie))
        self.watching.append(asyncio.create_task(self.opened[-1].watch()))
        return self.opened[-1]

    def expect_losses(self):
        """Let the jobs be lost and be begun again: the test takes workers away."""
        self.nothing_lost = self.one_attempt = False

    def expect_dead_relays(self):
        """Let percentages of a relay's last second be lost: the test kills web processes."""
        self.relays_live = False

    def expect_attempts(self):
        """Let the jobs be begun again, though none is lost: workers leave in order."""
        self.one_attempt = False

    def violations(self) -> list[str]:
        """Return what was against the rules."""
        asked = {ref for page in self.opened for ref in page.asked}
        rows = [row for row in self.stage.rows() if row["ref"] in asked]
        attempts = {job: [one.attempt for one in found] for job, found in self.stage.executions().items()}
        return check(
            list(self.opened),
            rows,
            attempts=attempts,
            nothing_lost=self.nothing_lost,
            one_attempt=self.one_attempt,
            relays_live=self.relays_live,
        )

    async def close(self):
        """Close all pages."""
        for task in self.watching:
            task.cancel()
        await asyncio.gather(*self.watching, return_exceptions=True)


@pytest.fixture
def whole(stage):
    """The stage with nothing broken and one worker, before and after."""
    stage.mend({"worker": 2})
    yield stage
    stage.mend({"worker": 2})


@pytest.fixture
async def open_page(whole):
    """Opens pages, all of one owner; at the end, holds what they were told against the rules."""
    pages = Pages(whole, await asyncio.to_thread(visit, whole.host(whole.webs[0])))
    yield pages
    await asyncio.sleep(0.5)  # whatever might still come would be one too many
    violations = await asyncio.to_thread(pages.violations)
    await pages.close()
    assert not violations, "\n".join(violations)


async def press_start(page: Watcher, kind: str, answer: Any, **params: Any) -> str:
    """Press START. Returns the job's id, once that was told."""
    ref = await page.start(kind, params, answer)
    async with asyncio.timeout(PATIENCE):
        return await page.until(lambda: page.task_of(ref))


async def running(page: Watcher, task_id: str, attempt: int = 1, percent: float = 0):
    """Wait until an attempt has got beyond a percentage."""

    def has_come_so_far() -> bool:
        frames = (one.frame for one in page.frames(task_id))
        return any(frame["attempt"] == attempt and (frame["percent"] or 0) > percent for frame in frames)

    async with asyncio.timeout(PATIENCE):
        await page.until(has_come_so_far)


async def told(page: Watcher, task_id: str, state: str) -> dict[str, Any]:
    """Wait until a page is told a state of a job, and return that frame."""
    async with asyncio.timeout(PATIENCE):
        return await page.until(
            lambda: next((one.frame for one in page.frames(task_id) if one.frame["state"] == state), None)
        )


async def the_end(page: Watcher, task_id: str, patience: float = PATIENCE) -> dict[str, Any]:
    """Wait until a job's end is told, and return it."""
    async with asyncio.timeout(patience):
        await page.until(lambda: page.ended(task_id))
    return page.shown(task_id)[-1]
