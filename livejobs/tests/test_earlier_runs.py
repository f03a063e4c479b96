"""How long a job will run, from the earlier runs of its kind."""

import json
import random
from datetime import timedelta
from statistics import mean

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone

from livejobs import earlier_runs, place
from livejobs.earlier_runs import FEWEST, Run, durations, left
from livejobs.models import Job, State
from livejobs.reply import Reply

pytestmark = pytest.mark.django_db(transaction=True)
NOW = timezone.now()


def ran(seconds, state=State.SUCCESS, kind="count_primes", ago=0, **fields):
    """Make a job that has ended, `ago` seconds ago."""
    ended = NOW - timedelta(seconds=ago)
    fields = {"params": {"below": 1000}, "attempt_started_at": ended - timedelta(seconds=seconds), **fields}
    Job.objects.create(
        owner="visitor-2", kind=kind, title="Primes", state=state, finished_at=ended, attempt=1, **fields
    )


def waiting(**fields) -> Job:
    """Make a job that waits."""
    fields = {"owner": "visitor-1", "kind": "count_primes", "title": "Primes", "params": {"below": 1000}, **fields}
    return Job.objects.create(**fields)


@pytest.fixture
def ran_before():
    """Runs of 10 to 30 s."""
    for seconds in (10, 15, 20, 25, 30):
        ran(seconds)


def test_the_runs_of_the_same_kind_are_taken_that_have_succeeded(ran_before):
    for fields in ({"state": State.FAILURE}, {"kind": "search"}, {"resumed_from": 40.0}, {"attempt_started_at": None}):
        ran(100, **fields)
    assert sorted(durations("count_primes", {"below": 1000})) == [10, 15, 20, 25, 30]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"below": 1000}, True),
        ({"below": 3000}, True),
        ({"below": 350.5}, True),
        ({"below": 1000, "name": "another"}, True),
        ({"below": 4000}, False),
        ({"below": 10**400}, False),
        ({"below": -1000}, False),
        ({"below": 0}, False),
        ({"below": "1000"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_only_runs_with_numbers_of_the_same_order_are_taken(ran_before, params, found):
    assert bool(durations("count_primes", params)) is found


def test_the_nearest_are_taken_first_and_of_these_the_most_recent():
    for _ in range(10):
        ran(1, params={"below": 2000})
    for number in range(12):
        ran(number + 10, ago=number)
    assert durations("count_primes", {"below": 1000}) == list(range(10, 20))


def test_few_runs_tell_nothing(ran_before):
    assert len(durations("count_primes", {"below": 1000})) == FEWEST
    Job.objects.first().delete()
    earlier_runs.forget()
    assert durations("count_primes", {"below": 1000}) == []
    assert left([]) is None


def test_the_runs_of_a_kind_are_read_once_in_a_while(ran_before, django_assert_num_queries, monkeypatch):
    with django_assert_num_queries(1):
        for below in range(900, 1000):
            durations("count_primes", {"below": below})
    monkeypatch.setattr(earlier_runs, "KEPT", 0)
    with django_assert_num_queries(1):
        durations("count_primes", {"below": 1000})


def test_what_has_passed_is_taken_off_and_the_runs_that_ended_sooner_tell_nothing():
    took = [10.0] * 5 + [30.0] * 5
    assert left(took, 5) == (5, 25)
    assert left(took, 12) == (18, 18)
    assert left(took, 31) is None


def test_the_range_is_never_below_zero():
    assert left([1, 100, 100, 100, 100])[0] == 0


@pytest.mark.parametrize("before", [5, 10, 50])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_the_range_holds_the_truth_in_about_80_percent_of_the_runs(monkeypatch, before, spread):
    draw = random.Random(before)
    held = []
    for _ in range(2000):
        truth, *took = (30 * draw.lognormvariate(0, spread) for _ in range(before + 1))
        monkeypatch.setattr(earlier_runs, "_runs", lambda kind, took=took: [Run(seconds, {}) for seconds in took])
        low, high = left(durations("any", {}))
        held.append(low <= truth <= high)
    assert 0.7 <= mean(held) <= 0.85


def test_a_waiting_job_is_told_how_long_it_will_run(ran_before, owner):
    job = waiting(owner=owner.owner)
    told = owner.get(f"/api/jobs/{job.pk}/").json()["left"]
    assert (told["low"], told["high"]) == (8, 32)
    resumes = waiting(owner=owner.owner, state=State.RETRY, attempt=1, checkpoint_percent=40.0)
    assert owner.get(f"/api/jobs/{resumes.pk}/").json()["left"] is None


async def test_its_page_is_told_too_and_each_job_is_looked_up_once(ran_before, socket, owner, monkeypatch):
    monkeypatch.setattr(place, "EVERY", 0.05)
    looked_up = []
    monkeypatch.setattr(earlier_runs, "durations", lambda *about: looked_up.append(about) or durations(*about))
    job = await sync_to_async(waiting)(owner=owner.owner)
    page = await socket(client=owner)
    await page.until(left={"low": 8, "high": 32}, place=1)
    await sync_to_async(waiting)(sent_at=timezone.now() - timedelta(seconds=60))
    assert (await page.until(place=2))["left"] == {"low": 8, "high": 32}
    assert looked_up == [(job.kind, job.params)]


def begun(job, state, **fields) -> Reply:
    """Return a reply of the first attempt, which has begun 5 s ago."""
    Job.objects.filter(pk=job.pk).update(attempt=1, attempt_started_at=timezone.now() - timedelta(seconds=5))
    return Reply(str(job.pk), state, seq=10**9 + (state == State.PROGRESS), attempt=1, **fields)


def told(relay) -> dict:
    """Return what the relay has told last."""
    return json.loads(relay.published[-1].text)


def test_a_job_that_has_just_begun_is_told_by_earlier_runs(ran_before, relay):
    job = waiting()
    relay.relay([begun(job, State.STARTED)])
    assert told(relay)["left"] == {"low": 2, "high": 27}
    relay.relay([begun(job, State.PROGRESS, current=1, total=1000)])
    assert told(relay)["left"] == {"low": 2, "high": 27}


def test_a_job_that_goes_on_from_a_checkpoint_is_not(ran_before, relay):
    job = waiting(resumed_from=40.0)
    relay.relay([begun(job, State.STARTED)])
    assert told(relay)["left"] is None


def test_no_reply_is_lost_if_the_earlier_runs_cannot_be_read(relay, monkeypatch):
    def away(*about):
        raise OperationalError

    monkeypatch.setattr(earlier_runs, "durations", away)
    job = waiting()
    relay.relay([begun(job, State.STARTED), Reply(str(job.pk), State.SUCCESS, attempt=1, result=168)])
    assert told(relay)["result"] == 168
