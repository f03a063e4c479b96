"""The place of waiting jobs in their queues, and the workers that are alive."""

import json
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from celery import current_app
from celery.app.routes import Router, prepare
from django.utils import timezone

from livejobs import place
from livejobs.kinds import queue_of
from livejobs.models import Job, State, Worker
from livejobs.snapshot import Snapshot

pytestmark = pytest.mark.django_db(transaction=True)

SOON, LONG_AGO = timedelta(seconds=60), timedelta(seconds=60)


def make(**fields) -> Job:
    return Job.objects.create(**{"owner": "visitor-1", "kind": "count_primes", "title": "Primes", **fields})


def worker(**fields) -> Worker:
    fields = {"queues": [current_app.conf.task_default_queue], **fields}
    return Worker.objects.create(host="w1@test", pool="prefork", slots=2, **fields)


def told_of(job) -> tuple[int | None, int | None]:
    place.fill_in([job])
    return job.place, job.workers


@pytest.fixture
def look_often(monkeypatch):
    monkeypatch.setattr(place, "EVERY", 0.05)


@pytest.fixture
def slow_exports(monkeypatch):
    """Exports have a queue of their own."""
    routes = prepare({"HomeApp.tasks.export_jobs": {"queue": "slow"}})
    monkeypatch.setattr(current_app.amqp, "router", Router(routes, current_app.amqp.queues, True, current_app))


def test_waiting_jobs_have_places_in_the_order_in_which_they_were_sent():
    worker()
    second, third = make(), make()
    first = make(sent_at=timezone.now() - LONG_AGO)
    assert [told_of(job) for job in (first, second, third)] == [(1, 1), (2, 1), (3, 1)]


def test_jobs_that_do_not_wait_have_no_place_and_hold_up_nobody():
    make(state=State.PROGRESS, attempt=1, lease=worker())
    make(state=State.SUCCESS, finished_at=timezone.now())
    later = make(state=State.RETRY, attempt=1, retry_at=timezone.now() + SOON)
    again = make(state=State.RETRY, attempt=1)
    assert told_of(again) == (1, 1)
    assert told_of(later) == (None, 1)


def test_each_queue_has_its_own_line_and_its_own_workers(slow_exports):
    worker()
    make()
    job = make(kind="export_jobs")
    assert queue_of("export_jobs") == "slow"
    assert told_of(job) == (1, 0)
    worker(queues=["slow", "other"])
    assert told_of(job) == (1, 1)


def test_only_workers_that_are_alive_count():
    for state in Worker.State:
        worker(state=state)
    assert told_of(make()) == (1, 1)


def test_a_worker_that_does_not_say_which_queues_it_takes_from_counts_for_all():
    worker(queues=None)
    assert told_of(make()) == (1, 1)


def test_a_kind_that_this_process_does_not_know_holds_up_nobody():
    make(kind="of_another_release")
    assert told_of(make()) == (1, 0)


def test_beyond_the_most_that_are_counted_the_place_is_unknown(monkeypatch):
    monkeypatch.setattr(place, "MOST", 2)
    jobs = [make() for _ in range(3)]
    assert [told_of(job)[0] for job in jobs] == [1, 2, None]


def test_without_waiting_jobs_nothing_is_read(django_assert_num_queries):
    job = make(state=State.PROGRESS, attempt=1)
    with django_assert_num_queries(0):
        assert told_of(job) == (None, None)


def test_500_waiting_jobs_cost_two_queries_and_one_for_the_earlier_runs_of_their_kind(django_assert_num_queries):
    Job.objects.bulk_create(Job(owner="visitor-1", kind="count_primes", title="Primes") for _ in range(500))
    jobs = list(Job.objects.order_by("sent_at"))
    with django_assert_num_queries(3):
        place.fill_in(jobs)
    assert sorted(job.place for job in jobs) == list(range(1, 501))


async def test_watchers_are_told_when_the_line_moves(socket, owner, look_often):
    first = await sync_to_async(make)(owner="visitor-2", sent_at=timezone.now() - LONG_AGO)
    job = await sync_to_async(make)(owner=owner.owner)
    page = await socket(client=owner)
    frame = await page.until(place=2, workers=0)
    assert frame["task_id"] == str(job.pk)
    await sync_to_async(worker)()
    assert (await page.until(workers=1))["place"] == 2
    await first.adelete()
    await page.until(place=1, workers=1)


async def test_a_page_that_connects_later_is_told_the_same_at_once(socket, owner, look_often):
    await sync_to_async(make)(owner=owner.owner)
    await (await socket(client=owner)).until(place=1)
    assert (await (await socket(client=owner)).frame())["place"] == 1


async def test_a_job_that_begins_meanwhile_is_not_shown_as_waiting_again(socket, owner, the_hub):
    job = await sync_to_async(make)(owner=owner.owner)
    page = await socket(client=owner)
    await page.until(state="PENDING")
    waiting = the_hub.newest[str(job.pk)]
    job.state, job.attempt, job.seq = State.STARTED, 1, 10**9
    the_hub.publish([Snapshot.of(job)])
    the_hub._replace([(waiting, waiting._replace(text=json.dumps({"place": 1})))])
    await page.until(state="STARTED")
    assert await page.receive_nothing()


def test_the_api_tells_place_and_workers(owner):
    job = make(owner=owner.owner)
    for path in ("/api/jobs/", f"/api/jobs/{job.pk}/"):
        told = owner.get(path).json()
        told = told.get("results", [told])[0]
        assert (told["place"], told["workers"]) == (1, 0)


def test_a_page_that_the_server_has_drawn_tells_them_too(owner):
    jobs = [make(owner=owner.owner) for _ in range(3)]
    path = f"/jobs/{jobs[2].pk}/"
    assert "Waiting for a worker. No worker is running." in owner.get(path).content.decode()
    worker()
    assert "Waiting for a worker, 3rd in line." in owner.get(path).content.decode()
