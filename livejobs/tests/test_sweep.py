"""The sweep: jobs of which no reply will tell."""

import json
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from celery import current_app
from django.db import OperationalError
from django.utils import timezone
from kombu import Connection

from livejobs import jobs, notice, sweep
from livejobs.models import Job, State, Worker
from livejobs.relay import Relay
from livejobs.snapshot import Snapshot
from livejobs.sweep import EVERY, LOST_AFTER, UNLISTED_BEATS, Suspect, Sweep, judge

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(seconds=11)


def make(**fields) -> Job:
    return Job.objects.create(**{"owner": "visitor-1", "kind": "count_primes", "title": "Primes", **fields})


def worker(**fields) -> Worker:
    return Worker.objects.create(**{"host": "w1@test", "pool": "prefork", "slots": 2, **fields})


def running(lease, **fields) -> Job:
    return make(**{"attempt": 1, "state": State.PROGRESS, "seq": 10**9 + 5, "lease": lease, **fields})


def suspect(job) -> Suspect:
    return Suspect(str(job.pk), job.attempt, str(job.lease_id))


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The ids of the jobs that have been sent."""
    sent = []
    monkeypatch.setattr(jobs.kinds()["count_primes"], "apply_async", lambda task_id, **how: sent.append(task_id))
    return sent


@pytest.fixture
def broker() -> Connection:
    with Connection("memory://") as broker:
        broker.SimpleQueue(current_app.conf.task_default_queue).clear()  # of what other tests have sent
        yield broker


class Time:
    """Looks of one sweep, two seconds apart."""

    def __init__(self):
        self.sweep, self.now = Sweep(), 1000.0

    def pass_(self, seconds: float) -> set[Suspect]:
        """Let time pass, with a look every two seconds. Returns the last suspects."""
        end = self.now + seconds
        suspects = self.sweep.look(self.now)
        while self.now < end:
            self.now += EVERY
            suspects = self.sweep.look(self.now)
        return suspects


def test_a_worker_that_does_not_beat_for_long_enough_is_lost_and_its_jobs_are_suspects():
    mine, other = worker(jobs=[]), worker()
    job = running(mine)
    time = Time()
    assert time.pass_(LOST_AFTER - EVERY) == set()
    Worker.objects.beat(other.pk, [])
    assert time.pass_(EVERY) == {suspect(job)}
    assert set(Worker.objects.alive()) == {other}


def test_a_sweep_that_did_not_look_for_a_while_counts_anew():
    mine = worker()
    running(mine)
    time = Time()
    time.pass_(LOST_AFTER - EVERY)
    time.now += 3600  # its process was stopped
    assert time.pass_(LOST_AFTER - EVERY) == set()
    assert Worker.objects.alive().exists()


def test_a_sweep_that_cannot_read_the_database_counts_anew(monkeypatch):
    worker()
    time = Time()
    time.pass_(LOST_AFTER - EVERY)
    with monkeypatch.context() as patch:
        patch.setattr(Worker.objects, "alive", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            time.pass_(0)
    time.pass_(LOST_AFTER - EVERY)
    assert Worker.objects.alive().exists()


def test_what_a_living_worker_lists_is_no_suspect():
    mine = worker()
    job = running(mine)
    Worker.objects.beat(mine.pk, [str(job.pk)])
    time = Time()
    for _ in range(20):
        Worker.objects.beat(mine.pk, [str(job.pk)])
        assert time.pass_(EVERY) == set()


def test_what_a_living_worker_does_not_list_for_some_beats_is_a_suspect():
    mine = worker()
    job = running(mine)
    time = Time()
    time.pass_(0)
    for _ in range(UNLISTED_BEATS - 1):
        Worker.objects.beat(mine.pk, [])
    assert time.pass_(EVERY) == set()
    Worker.objects.beat(mine.pk, [])
    assert time.pass_(EVERY) == {suspect(job)}


def test_a_job_that_is_listed_again_is_no_suspect_any_more():
    mine = worker()
    job = running(mine)
    time = Time()
    time.pass_(0)
    for listed in ([], [], [str(job.pk)], [], []):
        Worker.objects.beat(mine.pk, listed)
        assert time.pass_(EVERY) == set()


def test_the_jobs_of_a_worker_that_is_gone_or_has_no_row_are_suspects():
    gone, without = running(worker(state=Worker.State.GONE)), running(worker())
    Worker.objects.filter(pk=without.lease_id).delete()
    time = Time()
    assert time.pass_(0) == {suspect(gone)}
    assert time.pass_(LOST_AFTER) == {suspect(gone), suspect(without)}


@pytest.mark.parametrize("jobs", [None, 7, "text", {"a": 1}, [None, ["x"], 7]])
def test_a_bad_row_of_one_worker_does_not_keep_the_sweep_from_the_others(jobs):
    bad, mine = worker(), worker(state=Worker.State.GONE)
    Worker.objects.filter(pk=bad.pk).update(jobs=jobs if jobs is not None else [])
    job = running(mine)
    assert Time().pass_(0) == {suspect(job)}


def test_a_worker_that_cannot_be_marked_as_lost_does_not_keep_the_others_alive(monkeypatch, caplog):
    bad, other = worker(), worker()
    lose = Worker.objects.lose
    monkeypatch.setattr(Worker.objects, "lose", lambda pk, beats: 1 / 0 if pk == bad.pk else lose(pk, beats))
    Time().pass_(LOST_AFTER)
    assert set(Worker.objects.alive()) == {bad}
    assert other not in Worker.objects.alive()
    assert str(bad.pk) in caplog.text


def test_a_suspect_of_a_lost_worker_waits_for_its_next_attempt_and_is_sent(sent):
    job = running(worker(state=Worker.State.LOST), current=30, total=100)
    shown = judge(suspect(job), lambda row: row)
    assert (shown.state, shown.percent, shown.error) == ("RETRY", 30, "The worker that ran attempt 1 was lost.")
    assert sent == [str(job.pk)]
    assert judge(suspect(job), lambda row: row) is None
    assert Job.objects.get().losses == 1


def test_a_suspect_of_a_worker_that_was_shut_down_has_lost_nothing(sent):
    job = running(worker(state=Worker.State.GONE), losses=2)
    shown = judge(suspect(job), lambda row: row)
    assert (shown.state, shown.losses, shown.error) == ("RETRY", 2, "The worker that ran attempt 1 was shut down.")
    assert sent == [str(job.pk)]


def test_a_suspect_that_its_worker_lists_again_or_that_has_moved_on_is_left_alone(sent):
    mine = worker()
    job = running(mine)
    Worker.objects.beat(mine.pk, [str(job.pk)])
    for one in (suspect(job), suspect(job)._replace(attempt=2), suspect(job)._replace(lease=str(uuid.uuid4()))):
        assert judge(one, lambda row: row) is None
    assert sent == []


def test_a_suspect_keeps_the_percentage_that_the_relay_knows(sent):
    job = running(worker(state=Worker.State.LOST), current=30, total=100)
    known = Job(id=job.id, attempt=1, seq=job.seq + 1, current=31, total=100)
    assert judge(suspect(job), lambda row: known).percent == 31


def test_the_third_loss_is_the_end(sent):
    job = running(worker(state=Worker.State.LOST), losses=2)
    assert judge(suspect(job), lambda row: row).state == "FAILURE"
    assert sent == []


def test_a_task_that_was_never_sent_is_sent_once(sent, broker):
    job = make(sent_at=timezone.now() - LONG_AGO)
    make()  # the web process that wrote it may still be about to send it
    for _ in range(2):
        list(sweep.send_due(broker))
    assert sent == [str(job.pk)]


def test_a_task_that_still_cannot_be_sent_stays_due(monkeypatch, broker):
    def refuse(**how):
        raise ConnectionRefusedError

    monkeypatch.setattr(jobs.kinds()["count_primes"], "apply_async", refuse)
    job = make(sent_at=timezone.now() - LONG_AGO)
    assert list(sweep.send_due(broker)) == []
    job.refresh_from_db()
    assert (job.state, job.sent) == ("PENDING", False)


def test_a_task_that_the_broker_has_lost_is_sent_again(sent, broker):
    job = make(sent=True, sent_at=timezone.now() - LONG_AGO)
    put_off = make(sent=True, sent_at=timezone.now() - LONG_AGO, state=State.RETRY, retry_at=timezone.now() - LONG_AGO)
    make(sent=True, sent_at=timezone.now() - LONG_AGO, state=State.RETRY, retry_at=timezone.now() + LONG_AGO)
    assert {one.pk for one in sweep.send_due(broker)} == {job.pk, put_off.pk}
    assert set(sent) == {str(job.pk), str(put_off.pk)}


def test_no_suspect_is_named_while_its_end_may_still_be_put_back_into_the_queue(broker, monkeypatch):
    """Redis may have given the end to a connection that was cut: see redis_broker.py."""
    posted = []
    monkeypatch.setattr(notice, "post", lambda call, **about: posted.append(call) or True)
    running(worker(state=Worker.State.LOST))
    one = Sweep()
    for settled in (False, True):
        broker.default_channel.settled, one.next_look = settled, 0
        list(one(broker))
        assert posted == (["suspects"] if settled else [])


def test_a_sweep_sends_for_a_second_at_most_and_the_next_one_goes_on(sent, broker, monkeypatch):
    """The relay's thread sends them: a slow broker must not keep the reports of other jobs."""
    clock = iter(number * 0.4 for number in range(100))
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    for _ in range(5):
        make(sent_at=timezone.now() - LONG_AGO)
    list(sweep.send_due(broker))
    assert len(sent) == 3
    list(sweep.send_due(broker))
    assert len(set(sent)) == 5


def test_a_task_that_waits_in_its_queue_is_not_sent_again(sent, broker):
    make(sent=True, sent_at=timezone.now() - LONG_AGO)
    queue = broker.SimpleQueue(current_app.conf.task_default_queue)
    try:
        queue.put({})
        assert list(sweep.send_due(broker)) == []
    finally:
        queue.clear()


def test_a_cancelled_job_that_no_worker_runs_ends():
    waits = make(attempt=1, state=State.RETRY, cancelled_at=timezone.now())
    running(worker(), cancelled_at=timezone.now())
    assert [(job.pk, job.state) for job in sweep.end_cancelled()] == [(waits.pk, "REVOKED")]


def test_a_part_of_the_sweep_that_fails_does_not_stop_the_others(monkeypatch, broker, caplog):
    monkeypatch.setattr(Sweep, "look", lambda self, now: 1 / 0)
    job = make(attempt=1, state=State.RETRY, cancelled_at=timezone.now())
    assert [one.pk for one in Sweep()(broker)] == [job.pk]
    assert "ZeroDivisionError" in caplog.text


def test_an_outage_of_the_database_is_left_to_the_relay_which_begins_again(monkeypatch, broker):
    def refuse(self, now):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(Sweep, "look", refuse)
    with pytest.raises(OperationalError):
        list(Sweep()(broker))


def test_one_bad_row_does_not_keep_the_sweep_from_the_others(monkeypatch, broker, caplog):
    bad, good = (make(attempt=1, state=State.RETRY, cancelled_at=timezone.now()) for _ in range(2))
    end = Job.end

    def end_or_fail(job, *args, **kwargs):
        return 1 / 0 if job.pk == bad.pk else end(job, *args, **kwargs)

    monkeypatch.setattr(Job, "end", end_or_fail)
    assert [job.pk for job in Sweep()(broker)] == [good.pk]
    assert str(bad.pk) in caplog.text


def test_suspects_are_named_in_a_notice_that_the_relay_judges(monkeypatch, broker, sent):
    posted, published = [], []
    monkeypatch.setattr(notice, "post", lambda name, **about: posted.append({"notice": name, **about}) or True)
    job = running(worker(state=Worker.State.LOST))
    looks = Sweep()
    list(looks(broker))
    looks.next_look = 0
    list(looks(broker))
    assert len(posted) == 1, "a suspect is named once in a while"
    told = Job.objects.get()
    told.state, told.reached, told.seq = "PROGRESS", 17, told.seq + 5
    newest = Snapshot.of(told)
    relay = Relay(published.extend, lambda task_id: newest)
    assert relay.lease.take()
    relay._take([SimpleNamespace(body=json.dumps(posted[0]))])
    assert [(one.task_id, one.state) for one in published] == [(str(job.pk), "RETRY")]
    # A relay that was killed has told it, and no row has it.
    assert json.loads(published[0].text)["percent"] == Job.objects.get().percent == 17
