"""What watchers have missed is read from the rows: after a gap, and for jobs of which nothing is heard."""

import asyncio
import uuid

import pytest

from livejobs import recovery as recovery_module
from livejobs.models import Job, State
from livejobs.recovery import Recovery, newer_than
from livejobs.snapshot import Snapshot
from livejobs.threads import in_thread
from testkit.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def quick(monkeypatch):
    """Comparisons and refreshes that a test need not wait for."""
    monkeypatch.setattr(recovery_module, "COMPARE_SECONDS", 0.02)
    monkeypatch.setattr(recovery_module, "REFRESH_SECONDS", 0.02)


class Watcher:
    def __init__(self, *problems):
        self.problems, self.refreshed = list(problems), 0

    def show(self, snapshot):
        pass

    async def refresh(self):
        self.refreshed += 1
        if self.problems:
            raise self.problems.pop()


def make(owner="visitor-1", **fields) -> Job:
    return Job.objects.create(owner=owner, kind="count_primes", title="Primes", **fields)


def ended(job: Job) -> Job:
    job.end(State.SUCCESS, result=1)
    assert job.save_end()
    return job


def test_only_what_is_newer_in_a_row_is_read():
    _, behind, ahead, done, deleted = jobs = [make(seq=5, attempt=1, state=State.PROGRESS) for _ in range(5)]
    told = [Snapshot.of(job) for job in jobs]
    Job.objects.filter(pk=behind.pk).update(seq=4)  # rows follow what is told within a second
    Job.objects.filter(pk=ahead.pk).update(seq=6)
    ended(done)
    deleted_id = str(deleted.pk)
    deleted.delete()
    ahead.refresh_from_db()
    done.refresh_from_db()
    assert set(newer_than(told)) == {Snapshot.of(ahead), Snapshot.of(done), Snapshot.gone("visitor-1", deleted_id)}


def test_what_no_row_can_have_is_no_deleted_job():
    assert newer_than([Snapshot("visitor-1", "part-1", "PROGRESS", 1, False, "")]) == []


@pytest.mark.parametrize(("rows", "queries"), [(1, 1), (500, 1), (501, 2)])
def test_many_jobs_cost_one_query(rows, queries, django_assert_num_queries):
    jobs = Job.objects.bulk_create(Job(owner="visitor-1", kind="count_primes") for _ in range(rows))
    told = [Snapshot.of(job) for job in jobs]
    with django_assert_num_queries(queries):
        assert newer_than(told) == []


async def test_an_end_that_no_message_tells_is_shown(quick, the_hub, socket, owner):
    job = await in_thread(make, owner.owner)
    page, one = await socket(client=owner), await socket(f"/ws/task_status/{job.pk}/", client=owner)
    for opened in (page, one):
        await opened.frame()
    await in_thread(ended, job)
    assert (await page.until(state="SUCCESS"))["task_id"] == str(job.pk)
    await one.until(state="SUCCESS")
    assert await one.closed() == 1000


async def test_a_row_that_was_deleted_is_told_as_gone(quick, the_hub, socket, owner):
    job = await in_thread(make, owner.owner)
    other = await in_thread(make, owner.owner)
    task_id = str(job.pk)
    page, one = await socket(client=owner), await socket(f"/ws/task_status/{job.pk}/", client=owner)
    for opened in (page, one):
        await opened.frame()
    await in_thread(job.delete)
    assert await page.until(type="gone") == {"type": "gone", "task_id": task_id}
    await one.until(type="gone")
    assert await one.closed() == 1000
    await in_thread(ended, other)
    await page.until(state="SUCCESS", task_id=str(other.pk))


async def test_a_page_that_read_the_row_just_before_it_was_deleted_is_told_too(the_hub, socket, owner):
    job = await in_thread(make, owner.owner)
    the_hub.gone(owner.owner, str(job.pk))  # and the row is still there, as for one that had read it before
    assert await (await socket(client=owner)).frame() == {"type": "gone", "task_id": str(job.pk)}
    one = await socket(f"/ws/task_status/{job.pk}/", client=owner)
    assert (await one.frame())["type"] == "gone"
    assert await one.closed() == 1000


async def test_only_unfinished_jobs_that_are_watched_and_quiet_are_compared(quick, monkeypatch, the_hub):
    asked = []
    monkeypatch.setattr(recovery_module, "newer_than", lambda told: asked.append([one.task_id for one in told]) or [])
    told = {
        name: Snapshot(owner, str(uuid.uuid4()), "SUCCESS" if final else "PROGRESS", 1, final, "")
        for name, owner, final in (
            ("watched", "visitor-1", False),
            ("watched alone", "visitor-2", False),
            ("unwatched", "visitor-2", False),
            ("ended", "visitor-1", True),
            ("busy", "visitor-1", False),
        )
    }
    watcher = Watcher()
    the_hub.join("visitor-1", watcher)
    the_hub.join(told["watched alone"].task_id, watcher)
    the_hub.publish(list(told.values()))
    busy = told["busy"]
    async with asyncio.timeout(30):
        while len(asked) < 3:
            busy = busy._replace(seq=busy.seq + 1)
            the_hub.publish([busy])
            await asyncio.sleep(0)
    assert all(ids == [told["watched"].task_id, told["watched alone"].task_id] for ids in asked)


async def test_a_comparison_that_fails_is_made_again(quick, the_hub, socket, owner, monkeypatch, caplog):
    failures = [RuntimeError("no database")] * 3

    def fail(told):
        if failures:
            raise failures.pop()
        return newer_than(told)

    monkeypatch.setattr(recovery_module, "newer_than", fail)
    job = await in_thread(make, owner.owner)
    page = await socket(client=owner)
    await page.frame()
    await in_thread(ended, job)
    await page.until(state="SUCCESS")
    assert "no database" in caplog.text


@pytest.fixture
async def recovering(quick):
    """Refreshes the watchers it is given."""
    tasks = []

    def recover(*watchers):
        recovery = Recovery(lambda: watchers, dict, lambda snapshots: None)
        tasks.append(asyncio.create_task(recovery.refresh()))
        return recovery

    yield recover
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def reach(condition):
    await asyncio.to_thread(wait_until, condition, "it is so", 10)


async def test_many_gaps_cost_one_refresh_and_one_more(recovering):
    going_on = asyncio.Event()

    class Slow(Watcher):
        async def refresh(self):
            await super().refresh()
            await going_on.wait()

    watcher = Slow()
    recovery = recovering(watcher)
    recovery.refresh_soon()
    await reach(lambda: watcher.refreshed == 1)
    for _ in range(100):
        recovery.refresh_soon()
        await asyncio.sleep(0)
    assert watcher.refreshed == 1
    going_on.set()
    await reach(lambda: watcher.refreshed == 2)
    await asyncio.sleep(0.1)  # whatever might still come would be one too many
    assert watcher.refreshed == 2


async def test_a_watcher_that_cannot_be_refreshed_is_tried_again_and_the_others_are_not(recovering, caplog):
    good, bad = Watcher(), Watcher(*[RuntimeError("no row")] * 3)
    recovering(good, bad).refresh_soon()
    await reach(lambda: bad.refreshed == 4)
    await asyncio.sleep(0.1)  # as above
    assert (good.refreshed, bad.refreshed) == (1, 4)
    assert "1 sockets could not be refreshed" in caplog.text
