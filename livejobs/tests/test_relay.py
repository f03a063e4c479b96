"""Replies in, rows and snapshots out; no broker takes part."""

import json
import random
import uuid
from types import SimpleNamespace

import pytest
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from livejobs import job_cache
from livejobs.hub import Hub
from livejobs.models import SEQ_PER_ATTEMPT, Job, State
from livejobs.outcome import UNSTORABLE
from livejobs.relay import Relay
from livejobs.reply import Reply
from livejobs.snapshot import Snapshot

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


def take(relay, *bodies):
    """Let a relay take messages."""
    assert relay.lease.take()
    relay._take([SimpleNamespace(body=json.dumps(body)) for body in bodies])


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
    monkeypatch.setattr(job_cache.time, "monotonic", lambda: now[0])
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
        Job.objects.save_percentages(relay.cache.jobs[str(job.pk)] for job in jobs)
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
    assert (len(relay.cache.jobs), len(relay.cache.unsaved)) == (1, 1)
    relay.relay([ended(job, "SUCCESS")])
    assert (len(relay.cache.jobs), len(relay.cache.unsaved)) == (0, 0)


def test_the_relay_keeps_a_bounded_number_of_jobs(relay, monkeypatch):
    monkeypatch.setattr(job_cache, "JOBS_IN_MEMORY", 3)
    jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t") for _ in range(9)]
    for seq in (1, 2):
        for job in jobs:
            relay.relay([said(job, "PROGRESS", seq, current=seq, total=2)])
    assert len(relay.cache.jobs) <= 3
    assert len(relay.cache.unsaved) <= 3


def test_a_row_that_the_database_refuses_does_not_keep_the_others_from_being_written(relay, monkeypatch, caplog):
    bad, *good = jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t") for _ in range(3)]
    save = Job.save_end

    def save_or_refuse(self, **condition):
        if self.pk == bad.pk and self.result == "what no row can hold":
            raise DataError("integer out of range")
        return save(self, **condition)

    monkeypatch.setattr(Job, "save_end", save_or_refuse)
    relay.relay([ended(job, "SUCCESS", result="what no row can hold" if job == bad else 1) for job in jobs])
    bad.refresh_from_db()
    assert (bad.state, bad.error) == ("FAILURE", UNSTORABLE)
    assert [Job.objects.get(pk=job.pk).result for job in good] == [1, 1]
    assert sorted(one.state for one in relay.published) == ["FAILURE", "SUCCESS", "SUCCESS"]
    assert str(bad.pk) in caplog.text


def test_a_percentage_that_the_database_refuses_does_not_keep_the_others_from_being_saved(relay, monkeypatch, caplog):
    bad, good = jobs = [Job.objects.create(owner="visitor-1", kind="k", title="t", seq=1) for _ in range(2)]
    save = Job.objects.save_percentages

    def save_or_refuse(batch):
        batch = list(batch)
        if bad in batch:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        save(batch)

    monkeypatch.setattr(Job.objects, "save_percentages", save_or_refuse)
    relay.relay([said(job, "PROGRESS", 1, current=1, total=9) for job in jobs])
    relay.relay([said(job, "PROGRESS", 2, current=2, total=9) for job in jobs])
    relay.cache.clear()
    assert Job.objects.get(pk=good.pk).current == 2
    assert str(bad.pk) in caplog.text


def test_an_outage_is_nobodys_fault_and_nothing_is_taken_for_written(relay, job, monkeypatch):
    def refuse(self):
        raise OperationalError("the database is gone")

    monkeypatch.setattr(Job, "save_end", refuse)
    with pytest.raises(OperationalError):
        relay.relay([ended(job, "SUCCESS")])
    assert relay.published == []


def test_replies_that_one_job_cannot_be_moved_by_do_not_stop_the_others(relay, job, caplog):
    other = Job.objects.create(owner="visitor-1", kind="k", title="t")
    relay.relay([said(job, "PROGRESS", 1, current="1", total=object()), ended(other, "SUCCESS")])
    assert Job.objects.get(pk=other.pk).state == "SUCCESS"
    assert str(job.pk) in caplog.text


def test_a_notice_that_cannot_be_taken_does_not_stop_the_others(relay, job, caplog):
    poisoned = [
        {"notice": "unheard of"},
        {"notice": "changed"},
        {"notice": "changed", "task_id": ["x"]},
        {"notice": ["changed"]},
        {"notice": "suspects", "suspects": [[1], None, ["no id", 1, "no id"]]},
        {"notice": "gone"},
        {"notice": "suspects", "suspects": 7},
    ]
    take(relay, *poisoned, {"notice": "changed", "task_id": str(job.pk)})
    assert [one.task_id for one in relay.published] == [str(job.pk)]


def test_a_job_that_was_changed_elsewhere_is_shown_with_the_percentage_that_the_relay_knows(relay, job):
    relay.relay([said(job, "PROGRESS", 7, current=70, total=100)])
    Job.objects.update(cancelled_at=timezone.now(), current=60)
    for _ in range(2):
        take(relay, {"notice": "changed", "task_id": str(job.pk)})
    shown = json.loads(relay.published[-1].text)
    assert (shown["cancelling"], shown["percent"], shown["seq"]) == (True, 70, SEQ_PER_ATTEMPT + 8)
    relay.relay([said(job, "PROGRESS", 9, current=71, total=100)])
    assert json.loads(relay.published[-1].text)["cancelling"]


def test_a_deleted_job_is_told_as_gone(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=2)])
    take(relay, {"notice": "gone", "owner": "visitor-1", "task_id": str(job.pk)})
    assert relay.published[-1] == Snapshot.gone("visitor-1", str(job.pk))
    assert relay.cache.get(str(job.pk)) is None


def test_the_end_of_an_earlier_attempt_never_makes_the_attempt_fall(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=2)])
    Job.objects.update(attempt=2, seq=2 * SEQ_PER_ATTEMPT)  # which another worker has begun
    relay.relay([ended(job, "SUCCESS", result=1, attempt=1)])
    assert (json.loads(relay.published[-1].text)["attempt"], Job.objects.get().attempt) == (2, 2)


def test_a_later_attempt_says_why_it_is_not_the_first(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=2)])
    Job.objects.update(attempt=2, seq=2 * SEQ_PER_ATTEMPT, reason="The worker that ran attempt 1 was lost.")
    relay.relay([said(job, "STARTED", 1, attempt=2)])
    assert json.loads(relay.published[-1].text)["attempt_reason"] == "The worker that ran attempt 1 was lost."


def test_a_retry_says_when(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=2)])
    Job.objects.put_off(job.pk, 0, timezone.now(), 1, "Not yet.")
    relay.relay([again(job, error="Not yet.")])
    shown = json.loads(relay.published[-1].text)
    assert (shown["state"], shown["attempt_reason"]) == ("RETRY", "Not yet.")
    assert shown["retry_at"]


def test_the_percentage_never_falls_within_an_attempt_whatever_is_reported(relay, job):
    reports = [(50, 100), (5, 100), (None, None), (1, None), (60, 100), (2, 1000), (-3, 10)]
    for seq, (current, total) in enumerate(reports, 1):
        relay.relay([said(job, "PROGRESS", seq, current=current, total=total)])
    assert [percent for _, percent in told(relay)] == [50, 50, 50, 50, 60, 60, 60]
    relay.cache.clear()
    assert Job.objects.get().percent == 60
    relay.relay([said(job, "PROGRESS", 1, attempt=2, current=1, total=100)])
    assert told(relay)[-1] == ("PROGRESS", 1)


def test_another_relay_goes_on_with_the_percentage_that_the_worker_knows(relay, job):
    relay.relay([said(job, "PROGRESS", 1, current=1, total=100)])
    relay.relay([said(job, "PROGRESS", 2, current=2, total=100, reached=90)])
    assert told(relay) == [("PROGRESS", 1), ("PROGRESS", 90)]
    relay.relay([ended(job, "FAILURE", attempt=1, current=3, total=100, reached=95)])
    assert told(relay)[-1] == ("FAILURE", 95)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_relay_that_takes_over_does_not_go_below_what_the_killed_one_has_told(relay, job, attempt):
    relay.relay([said(job, "STARTED", 1)])
    killed = Job.objects.get()
    killed.state, killed.attempt, killed.current, killed.total, killed.seq = "PROGRESS", 1, 17, 100, killed.seq + 5
    newest = Snapshot.of(killed)
    Job.objects.update(attempt=attempt)
    taken = Relay(relay.published.extend, lambda task_id: newest).cache.take(Job.objects.get())
    assert taken.percent == (17 if attempt == 1 else None)
    Relay(relay.published.extend, lambda task_id: newest).relay([ended(job, "FAILURE", error="No.", attempt=attempt)])
    assert told(relay)[-1] == ("FAILURE", 17 if attempt == 1 else None)
    assert Job.objects.get().percent == (17 if attempt == 1 else None)


def test_a_notice_of_many_suspects_does_not_cost_the_lease(relay, monkeypatch):
    """Each suspect may be sent again over a slow broker; meanwhile another relay would take the lease."""
    renewed = []
    monkeypatch.setattr(relay.lease, "renew", lambda: renewed.append(True))
    suspects = [[str(uuid.uuid4()), 1, str(uuid.uuid4())] for _ in range(3)]
    take(relay, {"notice": "suspects", "suspects": suspects})
    assert len(renewed) == 3
