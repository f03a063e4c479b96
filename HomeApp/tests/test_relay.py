"""Replies in, rows and snapshots out; no broker takes part."""

import json
import random
import uuid

import pytest
from django.db import connection

from HomeApp import relay as relay_module
from HomeApp.hub import Hub
from HomeApp.models import SEQ_PER_ATTEMPT, Job, State
from HomeApp.relay import Relay
from HomeApp.reply import Reply

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> Job:
    return Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")


def said(job, state, seq=0, attempt=1, **fields) -> Reply:
    return Reply(str(job.pk), State(state), seq=attempt * SEQ_PER_ATTEMPT + seq, attempt=attempt, **fields)


def ended(job, state, **fields) -> Reply:
    return Reply(str(job.pk), State(state), **fields)


def again(job, attempt=1, **fields) -> Reply:
    return Reply(str(job.pk), State.RETRY, seq=(attempt + 1) * SEQ_PER_ATTEMPT - 2, attempt=attempt, **fields)


def told(relay) -> list[tuple[str, float | None]]:
    """What a watcher is shown of what has been published: a hub drops what is no news."""
    shown = []

    class Watcher:
        def show(self, snapshot):
            frame = json.loads(snapshot.text)
            shown.append((frame["state"], frame["percent"]))

    hub = Hub()
    hub.join("visitor-1", Watcher())
    hub._show(relay.published)
    return shown


def test_a_jobs_way_is_told_state_by_state(relay, job):
    relay.relay([said(job, "STARTED", 1), said(job, "PROGRESS", 2, current=1, total=2)])
    relay.relay([said(job, "PROGRESS", 3, current=2, total=2), ended(job, "SUCCESS", result=25)])
    assert told(relay) == [("STARTED", None), ("PROGRESS", 50), ("PROGRESS", 100), ("SUCCESS", 100)]
    job.refresh_from_db()
    assert (job.state, job.result, job.percent) == ("SUCCESS", 25, 100)
    assert job.started_at <= job.finished_at


def test_seq_grows_with_every_snapshot(relay, job):
    relay.relay([said(job, "STARTED", 1)])
    relay.relay([said(job, "PROGRESS", 2, current=1, total=2)])
    relay.relay([again(job, error="Not yet.")])
    relay.relay([said(job, "STARTED", 1, attempt=2)])
    relay.relay([ended(job, "FAILURE", error="No.")])
    numbers = [item.seq for item in relay.published]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 5


def test_a_retry_says_why_until_the_next_attempt_begins(relay, job):
    relay.relay([said(job, "PROGRESS", 2, current=1, total=2)])
    relay.relay([again(job, error="Not yet.")])
    job.refresh_from_db()
    assert (job.state, job.error, job.percent) == ("RETRY", "Not yet.", 50)
    relay.relay([said(job, "STARTED", 1, attempt=2)])
    job.refresh_from_db()
    assert (job.state, job.error, job.percent) == ("STARTED", "", None)


def test_a_late_retry_of_an_earlier_attempt_changes_nothing(relay, job):
    relay.relay([said(job, "STARTED", 1, attempt=2)])
    relay.relay([again(job, error="Not yet.")])
    relay.relay([said(job, "PROGRESS", 2, attempt=2, current=1, total=2)])
    assert told(relay) == [("STARTED", None), ("PROGRESS", 50)]


def test_of_many_percentages_in_a_batch_only_the_newest_is_told(relay, job):
    relay.relay([said(job, "PROGRESS", n, current=n, total=100) for n in range(1, 51)])
    assert told(relay) == [("PROGRESS", 50)]


def test_the_order_within_a_batch_does_not_matter(relay, job):
    batch = [
        said(job, "STARTED", 1),
        *(said(job, "PROGRESS", n, current=n, total=100) for n in range(2, 20)),
        ended(job, "FAILURE", error="No."),
    ]
    random.Random(1).shuffle(batch)
    relay.relay(batch)
    assert told(relay) == [("STARTED", None), ("PROGRESS", 19), ("FAILURE", 19)]


def test_an_end_tells_how_far_the_job_had_come_where_that_was_lost_on_its_way(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=100)])
    relay.relay([ended(job, "FAILURE", error="No.", attempt=1, current=19, total=100)])
    assert told(relay) == [("PROGRESS", 1), ("FAILURE", 19)]


def test_an_earlier_attempts_end_does_not_tell_how_far_the_present_one_has_come(relay, job):
    relay.relay([said(job, "PROGRESS", 1, attempt=2, current=40, total=100)])
    relay.relay([ended(job, "FAILURE", error="No.", attempt=1, current=19, total=100)])
    assert told(relay) == [("PROGRESS", 40), ("FAILURE", 40)]


def test_a_late_or_repeated_reply_is_no_news(relay, job):
    relay.relay([said(job, "PROGRESS", 5, current=50, total=100)])
    relay.relay([said(job, "PROGRESS", 5, current=50, total=100)])
    relay.relay([said(job, "PROGRESS", 4, current=40, total=100)])
    assert told(relay) == [("PROGRESS", 50)]


@pytest.mark.parametrize("fresh", [False, True], ids=["the same relay", "another relay"])
def test_finished_is_final(relay, job, fresh):
    relay.relay([said(job, "PROGRESS", 1, current=50, total=100), ended(job, "SUCCESS", result=1)])
    other = Relay(relay.published.extend) if fresh else relay
    before = told(relay)
    other.relay([said(job, "PROGRESS", 9, current=60, total=100), ended(job, "FAILURE", error="No.")])
    other.relay([said(job, "STARTED", 1, attempt=2), ended(job, "REVOKED")])
    assert told(relay) == before
    job.refresh_from_db()
    assert (job.state, job.result) == ("SUCCESS", 1)


def test_what_a_relay_holds_of_a_job_that_ended_elsewhere_moves_nothing(relay, job):
    relay.relay([said(job, "STARTED", 1)])
    Relay(lambda snapshots: None).relay([ended(job, "SUCCESS", result=1)])
    relay.relay([ended(job, "FAILURE", error="No.")])
    assert told(relay) == [("STARTED", None)]


@pytest.mark.parametrize("state", ["STARTED", "SUCCESS"])
def test_what_a_relay_has_written_and_could_not_tell_is_told_by_the_next(relay, job, state):
    def die(snapshots):
        raise ConnectionError

    reply = said(job, "STARTED", 1) if state == "STARTED" else ended(job, "SUCCESS", result=25)
    with pytest.raises(ConnectionError):
        Relay(die).relay([reply])
    assert Job.objects.get().state == state
    relay.relay([reply])
    assert [shown for shown, _ in told(relay)] == [state]


def test_a_second_attempt_says_so_and_goes_back_openly(relay, job):
    relay.relay([said(job, "PROGRESS", 9, current=90, total=100)])
    relay.relay([said(job, "STARTED", 1, attempt=2), said(job, "PROGRESS", 2, attempt=2, current=1, total=100)])
    assert told(relay) == [("PROGRESS", 90), ("STARTED", None), ("PROGRESS", 1)]
    assert json.loads(relay.published[-1].text)["attempt"] == 2


def test_states_are_saved_at_once_and_percentages_a_second_later(relay, job, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(relay_module.time, "monotonic", lambda: now[0])
    relay.relay([said(job, "PROGRESS", 1, current=1, total=100)])
    assert Job.objects.get().current == 1
    for n in range(2, 20):
        now[0] += 0.05
        relay.relay([said(job, "PROGRESS", n, current=n, total=100)])
    assert Job.objects.get().current == 1
    now[0] += 0.2
    relay.relay([])
    assert Job.objects.get().current == 19


def test_percentages_are_saved_together_and_never_over_an_end_or_a_newer_one(django_assert_num_queries):
    jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t", seq=n) for n in (1, 2, 3)]
    over = Job.objects.get(pk=jobs[2].pk)
    over.end(State.SUCCESS, result=1)
    over.save_end()
    for job in jobs:
        job.seq, job.current, job.description = 2, 50, "half"
    with django_assert_num_queries(1):
        Job.objects.save_percentages(jobs)
    rows = [Job.objects.get(pk=job.pk) for job in jobs]
    assert [(row.current, row.description) for row in rows] == [(50, "half"), (None, ""), (1, "")]


def test_rows_are_written_in_the_order_of_their_ids_so_that_two_relays_cannot_deadlock(relay):
    jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t") for _ in range(9)]
    written, ids = [], sorted((job.pk for job in jobs), key=str)

    def note(execute, sql, params, many, context):
        if sql.startswith("UPDATE"):
            columns = [list(map(str, row)) for row in (params if many else [params])]
            written.extend(str(pk) for row in columns for pk in ids if str(pk) in row or pk.hex in row)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        relay.relay([said(job, "PROGRESS", 1, current=1, total=9) for job in jobs])
        assert written == list(map(str, ids))
        Job.objects.save_percentages(relay.jobs[str(job.pk)] for job in jobs)
    assert written == 2 * list(map(str, ids))


def test_a_reply_of_no_job_is_passed_over(relay, job):
    relay.relay([Reply(str(uuid.uuid4()), State.SUCCESS), ended(job, "SUCCESS")])
    assert told(relay) == [("SUCCESS", 100)]


def test_the_traceback_is_for_the_admin_only(relay, job):
    relay.relay([ended(job, "FAILURE", error="Sorry.", traceback="secret")])
    assert "secret" not in relay.published[0].text
    assert Job.objects.get().traceback == "secret"


def test_the_relay_keeps_no_ended_job(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=2)])
    relay.relay([said(job, "PROGRESS", 2, current=2, total=2)])
    assert (len(relay.jobs), len(relay.unsaved)) == (1, 1)
    relay.relay([ended(job, "SUCCESS")])
    assert (len(relay.jobs), len(relay.unsaved)) == (0, 0)


def test_the_relay_keeps_a_bounded_number_of_jobs(relay, monkeypatch):
    monkeypatch.setattr(relay_module, "JOBS_AT_HAND", 3)
    jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t") for _ in range(9)]
    for seq in (1, 2):
        for job in jobs:
            relay.relay([said(job, "PROGRESS", seq, current=seq, total=2)])
    assert len(relay.jobs) <= 3
    assert len(relay.unsaved) <= 3
