"""Cancel and retry, asked over a socket; the workers are replaced by a list of what they are told."""

import uuid

import pytest
from celery import current_app
from django.utils import timezone

from livejobs import jobs
from livejobs.models import Job, State, Worker
from livejobs.threads import in_thread
from livejobs.worker_request import livejobs_stop

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told_workers(monkeypatch) -> list[str]:
    """The ids of the jobs that workers have been told to stop."""
    told = []

    def broadcast(command, arguments):
        assert command == livejobs_stop.__name__
        told.append(arguments["task_id"])

    monkeypatch.setattr(current_app.control, "broadcast", broadcast)
    return told


async def make(owner, **fields) -> Job:
    return await Job.objects.acreate(
        owner=owner.owner, kind="count_primes", title="Primes", params={"below": 1000}, **fields
    )


async def make_running(owner, **fields) -> Job:
    worker = await Worker.objects.acreate(host="w1@test", pool="prefork", slots=2)
    return await make(owner, **{"attempt": 1, "state": State.STARTED, "lease": worker, **fields})


async def make_ended(owner, state) -> Job:
    job = await make(owner)
    job.end(state)
    await in_thread(job.save_end)
    return job


async def test_a_waiting_job_has_ended_at_once_for_every_page_of_its_owner(socket, owner, told_workers):
    page, other = await socket(client=owner), await socket(client=owner)
    await page.send(type="start", kind="count_primes")
    started = await page.frame()
    await other.frame()
    await page.send(type="cancel", task_id=started["task_id"])
    for one in (page, other):
        frame = await one.until(state="REVOKED")
        assert (frame["task_id"], frame["cancelling"]) == (started["task_id"], False)
    assert await in_thread(Job.objects.begin, started["task_id"], None) is None


async def test_a_running_job_is_told_to_stop_and_says_so(socket, owner, told_workers):
    job = await make_running(owner, state=State.PROGRESS, seq=1_000_000_005, current=42, total=100)
    page = await socket(client=owner)
    await page.frame()
    await page.send(type="cancel", task_id=str(job.pk))
    frame = await page.frame()
    assert (frame["state"], frame["percent"]) == ("PROGRESS", 42)
    await job.arefresh_from_db()
    assert job.cancelling
    assert told_workers == [str(job.pk)]


async def test_cancelling_twice_tells_the_workers_twice_and_the_time_stays(socket, owner, told_workers):
    job = await make_running(owner)
    first = (await in_thread(jobs.cancel, owner.owner, job.pk)).cancelled_at
    assert (await in_thread(jobs.cancel, owner.owner, str(job.pk))).cancelled_at == first
    assert told_workers == [str(job.pk)] * 2


@pytest.mark.parametrize("state", [None, Worker.State.GONE, Worker.State.LOST])
async def test_a_begun_job_that_no_worker_runs_has_ended_at_once(owner, told_workers, state):
    worker = await Worker.objects.acreate(host="w1@test", pool="prefork", slots=2, state=state) if state else None
    job = await make(owner, attempt=1, state=State.RETRY, lease=worker)
    assert (await in_thread(jobs.cancel, owner.owner, job.pk)).state == "REVOKED"
    assert told_workers == []


@pytest.mark.parametrize("state", [State.SUCCESS, State.FAILURE, State.REVOKED])
async def test_a_finished_job_cannot_be_cancelled(socket, owner, told_workers, state):
    job = await make_ended(owner, state)
    page = await socket(client=owner)
    await page.frame()
    await page.send(type="cancel", task_id=str(job.pk))
    assert (await page.frame())["code"] == "already_ended"
    assert (await Job.objects.aget(pk=job.pk)).state == state
    assert told_workers == []


@pytest.mark.parametrize("frame", ["cancel", "retry"])
async def test_a_foreign_job_is_as_unknown_as_one_that_is_not_there(socket, owner, another_user, told_workers, frame):
    job = await make_ended(owner, State.FAILURE) if frame == "retry" else await make(owner)
    for client in (another_user, None):
        page = await socket(client=client)
        answers = []
        for task_id in (str(job.pk), str(uuid.uuid4()), "no id", None, 7, ["x"]):
            await page.send(type=frame, task_id=task_id)
            answers.append(await page.frame())
            assert answers[-1].pop("task_id") == (task_id if isinstance(task_id, str) else None)
        assert answers[0]["code"] == "not_found"
        assert all(answer == answers[0] for answer in answers)
    assert (await Job.objects.aget(pk=job.pk)).cancelled_at is None
    assert await Job.objects.acount() == 1


@pytest.mark.parametrize("state", [State.FAILURE, State.REVOKED])
async def test_what_has_failed_or_was_cancelled_can_be_repeated(socket, owner, state):
    job = await make_ended(owner, state)
    page = await socket(client=owner)
    await page.frame()
    ref = str(uuid.uuid4())
    for _ in range(2):  # the page says it again after a reconnect: it is one start
        await page.send(type="retry", task_id=str(job.pk), ref=ref)
        frame = await page.frame()
        assert (frame["state"], frame["retry_of"], frame["ref"]) == ("PENDING", str(job.pk), ref)
    again = await Job.objects.exclude(pk=job.pk).aget()
    assert (again.kind, again.params, again.owner) == (job.kind, job.params, job.owner)
    assert (await Job.objects.aget(pk=job.pk)).state == state


async def test_what_runs_or_has_succeeded_is_not_repeated(socket, owner):
    for job in (await make(owner), await make_ended(owner, State.SUCCESS)):
        with pytest.raises(jobs.Refused) as refused:
            await in_thread(jobs.retry, owner.owner, job.pk)
        assert refused.value.code == "not_to_be_repeated"
    assert await Job.objects.acount() == 2


async def test_a_broker_out_of_reach_leaves_the_job_cancelling(socket, owner, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError

    monkeypatch.setattr(current_app.control, "broadcast", refuse)
    job = await make_running(owner)
    assert (await in_thread(jobs.cancel, owner.owner, job.pk)).cancelling


async def test_a_job_that_is_being_cancelled_says_so_to_whoever_comes(socket, owner):
    await make(owner, attempt=1, state=State.STARTED, cancelled_at=timezone.now())
    assert (await (await socket(client=owner)).frame())["cancelling"]
