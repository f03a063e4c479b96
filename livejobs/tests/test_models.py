import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from livejobs.kinds import kinds
from livejobs.models import FINAL, SEQ_PER_ATTEMPT, Job, State, Worker
from livejobs.signals import job_finished

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
    added = {
        "reported_at",
        "cancelling",
        "retry_of",
        "partial",
        "attempt_started_at",
        "attempt_reason",
        "attempts",
        "parent",
        "children",
        "place",
        "workers",
        "retry_at",
        "stage",
        "resumed_from",
        "left",
        "table",
        "files",
    }
    assert set(make().snapshot()) == {*fields.split(), "created_at", "started_at", "finished_at"} | added


def test_integers_that_a_browser_would_round_are_told_as_text():
    whole = 2**53
    small = [whole, -whole, True, 0.5, None, "1"]
    job = Job(result={"small": small, "large": [whole + 1, {"deep": -whole - 1}]})
    told = {"small": small, "large": [str(whole + 1), {"deep": str(-whole - 1)}]}
    assert job.snapshot()["result"] == told


def test_times_are_iso_8601_in_utc():
    assert make().snapshot()["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("current", "total", "percent"),
    [(None, None, None), (1, None, None), (0, 4, 0), (1, 4, 25), (1, 3, 33.33), (5, 4, 100), (-1, 4, 0), (1, 0, None)],
)
def test_percent_is_between_0_and_100_or_unknown(current, total, percent):
    assert make(current=current, total=total).percent == percent


def worker(**fields) -> Worker:
    return Worker.objects.create(**{"host": "w1@test", "pool": "prefork", "slots": 2, **fields})


def test_an_attempt_takes_the_lease_for_its_worker():
    job, mine = make(), worker()
    assert Job.objects.begin(job.pk, mine.pk) == 1
    job.refresh_from_db()
    assert (job.state, job.attempt, job.lease_id, job.reason) == ("STARTED", 1, mine.pk, "")
    assert job.attempt_started_at == job.started_at is not None


@pytest.mark.parametrize("state", [Worker.State.ALIVE, Worker.State.LOST])
def test_a_second_delivery_is_a_duplicate_until_the_lease_is_freed(state):
    job, other = make(), worker()
    Job.objects.begin(job.pk, worker(state=state).pk)
    assert Job.objects.begin(job.pk, other.pk) is None
    Job.objects.filter(pk=job.pk).update(lease=None)
    assert Job.objects.begin(job.pk, other.pk) == 2


def test_a_worker_that_has_left_in_order_leaves_its_jobs_to_the_next_delivery():
    job, mine = make(), worker()
    Job.objects.begin(job.pk, mine.pk)
    Worker.objects.leave(mine.pk)
    assert Job.objects.begin(job.pk, worker().pk) == 2
    job.refresh_from_db()
    assert (job.reason, job.losses) == ("The worker that ran attempt 1 was shut down.", 0)


def test_the_number_of_a_late_attempt_fits():
    job = make(attempt=20)
    assert Job.objects.begin(job.pk, worker().pk) == 21
    job.refresh_from_db()
    assert job.seq == 21 * SEQ_PER_ATTEMPT


def test_an_attempt_begins_where_it_begins():
    job = make(attempt=1, state=State.PROGRESS, seq=SEQ_PER_ATTEMPT + 9, current=70, total=100, description="packing")
    Job.objects.begin(job.pk, worker().pk)
    job.refresh_from_db()
    assert (job.state, job.attempt, job.percent, job.description) == ("STARTED", 2, None, "")
    assert SEQ_PER_ATTEMPT + 9 < job.seq < 2 * SEQ_PER_ATTEMPT + 1, "after all of the last attempt, before any report"


def test_a_cancelled_job_does_not_begin():
    assert Job.objects.begin(make(cancelled_at=timezone.now()).pk, worker().pk) is None


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_finished_job_does_not_begin(state):
    job = make()
    job.end(state)
    job.save_end()
    assert Job.objects.begin(job.pk, worker().pk) is None


def test_a_job_without_a_row_does_not_begin():
    assert Job.objects.begin(uuid.uuid4(), worker().pk) is None


def test_a_retry_gives_up_the_lease_and_says_when_and_why():
    job, mine, soon = make(), worker(), timezone.now() + timedelta(seconds=30)
    Job.objects.begin(job.pk, mine.pk)
    assert Job.objects.put_off(job.pk, 1, soon, 1, "The server is busy.")
    job.refresh_from_db()
    assert (job.state, job.lease_id, job.retries, job.retry_at) == ("RETRY", None, 1, soon)
    assert job.error == "The server is busy.", "a page that connects now is not told why"
    assert Job.objects.begin(job.pk, mine.pk) == 2
    job.refresh_from_db()
    assert (job.reason, job.error, job.retry_at) == ("The server is busy.", "", None)


def test_an_attempt_that_is_not_the_current_one_puts_nothing_off():
    job = make()
    Job.objects.begin(job.pk, worker().pk)
    assert not Job.objects.put_off(job.pk, 2, timezone.now(), 1, "")
    job.refresh_from_db()
    assert job.lease_id


def interrupted(**fields) -> Job:
    """A job whose worker is lost, as its row says afterwards."""
    job, mine = make(**fields), worker()
    Job.objects.begin(job.pk, mine.pk)
    job.refresh_from_db()
    job.current, job.total = 30, 100
    job.interrupt(lost=True)
    assert job.save_interrupted(mine.pk)
    job.refresh_from_db()
    return job


def test_a_lost_worker_frees_the_job_and_says_so():
    job = interrupted()
    assert (job.state, job.lease_id, job.losses, job.sent, job.percent) == ("RETRY", None, 1, False, 30)
    assert job.error == job.reason == "The worker that ran attempt 1 was lost."
    assert job.seq > SEQ_PER_ATTEMPT


def test_the_third_loss_ends_the_job_where_it_was():
    job = interrupted(losses=2)
    assert (job.state, job.losses, job.percent) == ("FAILURE", 3, 30)
    assert job.error == "The worker that ran this job was lost 3 times. Start the job again."


def test_a_cancelled_job_whose_worker_is_lost_ends_as_cancelled():
    job, mine = make(), worker()
    Job.objects.begin(job.pk, mine.pk)
    job.refresh_from_db()
    job.cancelled_at = timezone.now()
    job.interrupt(lost=True)
    assert job.save_interrupted(mine.pk)
    assert Job.objects.get(pk=job.pk).state == "REVOKED"


def test_a_loss_is_not_written_over_a_later_attempt_or_an_end():
    job, mine = make(), worker()
    Job.objects.begin(job.pk, mine.pk)
    late = Job.objects.get(pk=job.pk)
    Worker.objects.leave(mine.pk)
    Job.objects.begin(job.pk, worker().pk)
    late.interrupt(lost=True)
    assert not late.save_interrupted(mine.pk)
    assert Job.objects.get(pk=job.pk).attempt == 2


def test_a_worker_beats_and_is_alive_again_after_it_was_lost():
    mine = uuid.uuid4()
    for jobs in (["1"], ["1", "2"]):
        Worker.objects.beat(mine, jobs, host="w1@test", pool="solo", slots=1)
    row = Worker.objects.get()
    assert (row.beats, row.jobs, row.state) == (1, ["1", "2"], "ALIVE")
    assert not Worker.objects.lose(mine, beats=0)
    assert Worker.objects.lose(mine, beats=1)
    assert not Worker.objects.alive().exists()
    Worker.objects.beat(mine, [], host="w1@test", pool="solo", slots=1)
    assert Worker.objects.alive().get().left_at is None


def test_rows_of_workers_are_not_kept_for_ever():
    worker(state=Worker.State.GONE, left_at=timezone.now() - timedelta(days=2))
    stays = [worker(state=Worker.State.GONE, left_at=timezone.now()), worker()]
    new = uuid.uuid4()
    Worker.objects.beat(new, [], host="w2@test", pool="solo", slots=1)
    assert set(Worker.objects.values_list("pk", flat=True)) == {*(one.pk for one in stays), new}


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


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 6),
        ({"attempt": 2, "losses": 1}, 6),
        ({"attempt": 2, "retries": 1}, 6),
        ({"attempt": 3, "losses": 1}, 7),  # a worker was shut down
        ({"kind": "of_another_release"}, 3),
    ],
)
def test_the_most_attempts_are_those_of_losses_and_retries(fields, most):
    assert make(**fields).snapshot()["attempts"] == most


def test_a_job_that_has_ended_has_no_more_attempts():
    job = make(attempt=2)
    job.end(State.SUCCESS)
    assert job.snapshot()["attempts"] == 2


def test_without_a_limit_of_retries_there_is_no_most(monkeypatch):
    monkeypatch.setattr(kinds()["count_primes"], "max_retries", None)
    assert make().snapshot()["attempts"] is None
