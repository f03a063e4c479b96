import uuid

import pytest
from django.db import IntegrityError
from django.utils import timezone

from HomeApp.models import FINAL, SEQ_PER_ATTEMPT, Job, State
from HomeApp.signals import job_finished

pytestmark = pytest.mark.django_db


def make(**fields) -> Job:
    return Job.objects.create(**{"owner": "visitor-1", "kind": "count_primes", "title": "Primes", **fields})


def test_a_new_job_waits():
    snapshot = make().snapshot()
    assert snapshot["state"] == "PENDING"
    assert snapshot["percent"] is snapshot["total"] is snapshot["started_at"] is snapshot["result"] is None
    assert snapshot["seq"] == snapshot["attempt"] == 0


def test_the_snapshot_has_every_field_of_the_contract():
    fields = "type task_id ref kind title state current total percent description seq attempt result error url"
    added = {"reported_at", "cancelling", "retry_of", "partial"}
    assert set(make().snapshot()) == {*fields.split(), "created_at", "started_at", "finished_at"} | added


def test_times_are_iso_8601_in_utc():
    assert make().snapshot()["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [(None, None, None), (1, None, None), (0, 4, 0), (1, 4, 25), (1, 3, 33.33), (5, 4, 100), (-1, 4, 0), (1, 0, None)],
)
def test_percent_is_between_0_and_100_or_unknown(current, total, percent):
    assert make(current=current, total=total).percent == percent


def test_each_begin_is_another_attempt():
    job = make()
    assert [Job.objects.begin(job.pk, 3) for _ in range(3)] == [1, 2, 3]


def test_an_attempt_begins_where_it_begins():
    job = make(attempt=1, state=State.PROGRESS, seq=SEQ_PER_ATTEMPT + 9, current=70, total=100, description="packing")
    Job.objects.begin(job.pk, 3)
    job.refresh_from_db()
    assert (job.state, job.attempt, job.percent, job.description) == ("STARTED", 2, None, "")
    assert SEQ_PER_ATTEMPT + 9 < job.seq < 2 * SEQ_PER_ATTEMPT + 1, "after all of the last attempt, before any report"


def test_there_are_only_so_many_attempts():
    job = make(attempt=3)
    assert Job.objects.begin(job.pk, 3) == 0
    assert Job.objects.begin(job.pk, 4) == 4


def test_a_cancelled_job_does_not_begin():
    assert Job.objects.begin(make(cancelled_at=timezone.now()).pk, 3) is None


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_finished_job_does_not_begin(state):
    job = make()
    job.end(state)
    job.save_end()
    assert Job.objects.begin(job.pk, 3) is None


def test_a_job_without_a_row_does_not_begin():
    assert Job.objects.begin(uuid.uuid4(), 3) is None


@pytest.mark.parametrize("first", sorted(FINAL))
@pytest.mark.parametrize("second", sorted(FINAL))
def test_finished_is_final(first, second):
    job = make()
    rival = Job.objects.get(pk=job.pk)
    job.end(first)
    assert job.save_end()
    rival.end(second)
    assert not rival.save_end()
    rival.seq += 1
    assert not rival.save_progress()
    assert Job.objects.get(pk=job.pk).state == first


def test_an_older_report_does_not_replace_a_newer_one():
    job = make(seq=5, current=50)
    job.seq, job.current = 5, 40
    assert not job.save_progress()
    job.seq, job.current = 6, 60
    assert job.save_progress()
    assert Job.objects.get(pk=job.pk).current == 60


def test_an_end_outranks_every_report_of_its_attempt():
    job = make(attempt=2, seq=2 * SEQ_PER_ATTEMPT + 999)
    job.end(State.FAILURE)
    assert 2 * SEQ_PER_ATTEMPT + 999 < job.seq < 3 * SEQ_PER_ATTEMPT


def test_an_end_outranks_what_was_said_before_even_of_a_later_attempt():
    job = make(attempt=1, seq=2 * SEQ_PER_ATTEMPT + 1)
    job.end(State.SUCCESS)
    assert job.seq > 2 * SEQ_PER_ATTEMPT + 1


def test_a_success_has_come_all_the_way():
    job = make(current=3, total=4)
    job.end(State.SUCCESS)
    assert job.percent == 100
    unknown = make()
    unknown.end(State.SUCCESS)
    assert unknown.percent == 100


@pytest.mark.parametrize("state", [State.FAILURE, State.REVOKED])
def test_any_other_end_keeps_the_percentage_it_reached(state):
    job = make(current=3, total=4)
    job.end(state)
    assert job.percent == 75


def test_the_database_itself_refuses_an_end_without_its_time():
    with pytest.raises(IntegrityError):
        make(state=State.SUCCESS)


def test_the_database_itself_refuses_a_time_without_its_end():
    with pytest.raises(IntegrityError):
        make(finished_at=timezone.now())


def test_one_owner_has_one_job_for_a_ref():
    ref = uuid.uuid4()
    make(ref=ref)
    make(ref=ref, owner="visitor-2")
    with pytest.raises(IntegrityError):
        make(ref=ref)


def test_owners_see_all_unfinished_and_the_recent_finished_jobs_oldest_first():
    ended = [make() for _ in range(4)]
    for job in ended:
        job.end(State.SUCCESS)
        job.save_end()
    running = [make() for _ in range(3)]
    foreign = make(owner="visitor-2")
    theirs = [make(owner="visitor-4") for _ in range(3)]
    for job in theirs:
        job.end(State.FAILURE)
        job.save_end()
    visible = Job.objects.visible_to(["visitor-1", "visitor-2", "visitor-3", "visitor-4"], recent=2)
    assert visible == {
        "visitor-1": [*ended[2:], *running],
        "visitor-2": [foreign],
        "visitor-3": [],
        "visitor-4": theirs[1:],
    }


def test_what_many_owners_see_is_one_query(django_assert_num_queries):
    with django_assert_num_queries(1):
        Job.objects.visible_to([f"visitor-{number}" for number in range(200)], recent=10)


@pytest.mark.django_db(transaction=True)
def test_other_apps_hear_of_each_end_once_after_it_is_written():
    heard = []

    def hear(sender, job, **kwargs):
        heard.append((sender, Job.objects.get(pk=job.pk).state))
        raise ValueError("a receiver's fault is its own")

    job_finished.connect(hear)
    try:
        job = make()
        late = Job.objects.get(pk=job.pk)
        for copy, state in ((job, State.SUCCESS), (late, State.FAILURE)):
            copy.end(state)
            copy.save_end()
    finally:
        job_finished.disconnect(hear)
    assert heard == [(Job, "SUCCESS")]
