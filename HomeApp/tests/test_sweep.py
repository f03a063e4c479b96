"""The sweep: jobs of which no reply will tell."""

import subprocess
import sys
from datetime import timedelta

import pytest
from celery import current_app
from django.utils import timezone
from kombu import Connection, Consumer, Exchange, Queue

from HomeApp import jobs, sweep
from HomeApp.models import Job, State
from HomeApp.tests.processes import ROOT
from HomeApp.tests.test_filesystem import connect, options

pytestmark = pytest.mark.django_db
QUEUE = Queue("jobs", Exchange(""), routing_key="jobs")
LONG_AGO = timedelta(seconds=sweep.SENT_BY_NOW + 1)


def make(**fields) -> Job:
    return Job.objects.create(**{"owner": "visitor-1", "kind": "count_primes", "title": "Primes", **fields})


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The ids of the jobs that have been sent."""
    sent = []
    monkeypatch.setattr(jobs.kinds()["count_primes"], "apply_async", lambda task_id, **how: sent.append(task_id))
    return sent


def test_a_task_that_was_never_sent_is_sent_once(sent):
    job = make(created_at=timezone.now() - LONG_AGO)
    make(created_at=timezone.now() - LONG_AGO, sent=True)
    make()  # whoever wrote it may still be about to send it
    for _ in range(2):
        list(sweep.send_unsent())
    assert sent == [str(job.pk)]


def test_a_task_that_cannot_be_sent_has_failed(monkeypatch):
    def refuse(**how):
        raise ConnectionRefusedError

    monkeypatch.setattr(jobs.kinds()["count_primes"], "apply_async", refuse)
    make(created_at=timezone.now() - LONG_AGO)
    assert [job.state for job in sweep.send_unsent()] == [State.FAILURE]


def test_workers_are_told_again_to_stop_what_still_runs(monkeypatch):
    told = []
    monkeypatch.setattr(current_app.control, "revoke", lambda task_id, **how: told.append(task_id))
    row = make(attempt=1, state=State.PROGRESS, seq=5, cancelled_at=timezone.now())
    at_hand = Job(id=row.id, owner=row.owner, state=State.PROGRESS, seq=9, current=3, total=4)
    for _ in range(2):
        (shown,) = sweep.cancel_again(lambda job: at_hand)
        assert (shown.cancelling, shown.percent, shown.seq) == (True, 75, 10)
    assert told == [str(row.pk)] * 2


TAKE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from kombu import Connection, Consumer, Queue
from kombu.transport import TRANSPORT_ALIASES
TRANSPORT_ALIASES["filesystem"] = "CeleryProgressbar.filesystem:Transport"
connection = Connection("filesystem://localhost//", transport_options=eval(sys.argv[2]))
taken = []
with Consumer(connection, [Queue("jobs")], on_message=taken.append):
    while len(taken) < int(sys.argv[3]):
        connection.drain_events(timeout=10)
    os.kill(os.getpid(), 9)
"""


def killed_after_taking(folder, count: int) -> None:
    """Let a process take so many messages, and die."""
    command = [sys.executable, "-c", TAKE, str(ROOT), repr(options(folder)), str(count)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9


@pytest.fixture
def broker(tmp_path) -> Connection:
    with connect(tmp_path) as connection:
        yield connection


def send(broker, job) -> None:
    """Send a job's task, as far as the sweep reads it."""
    broker.Producer().publish({}, routing_key=QUEUE.name, declare=[QUEUE], headers={"id": str(job.pk)})


def waiting(broker) -> list[str]:
    """The ids of the tasks that wait in the queue."""
    queue, ids = broker.SimpleQueue(QUEUE), []
    while queue.qsize():
        message = queue.get(timeout=5)
        ids.append(message.headers["id"])
        message.ack()
    return ids


def test_what_a_killed_worker_ran_has_failed_and_what_it_had_not_begun_waits_again(broker, tmp_path):
    running = make(attempt=1, state=State.PROGRESS, seq=5, current=42, total=100)
    cancelled = make(attempt=1, state=State.STARTED, seq=5, cancelled_at=timezone.now())
    again, waits = make(attempt=1, state=State.RETRY), make()
    for job in (running, cancelled, again, waits):
        broker.Producer().publish(
            {}, routing_key="jobs", declare=[broker.SimpleQueue("jobs").queue], headers={"id": str(job.pk)}
        )
    killed_after_taking(tmp_path, 4)
    assert waiting(broker) == []
    ended = list(sweep.end_lost(broker, lambda job: job))
    assert [(job.pk, job.state, job.percent) for job in ended] == [
        (running.pk, "FAILURE", 42),
        (cancelled.pk, "REVOKED", None),
    ]
    assert Job.objects.get(pk=running.pk).error == sweep.WORKER_LOST
    assert waiting(broker) == [str(again.pk), str(waits.pk)]
    assert not list((tmp_path / "taken").glob("*/*.msg"))


def test_what_a_living_worker_runs_is_left_alone(broker, tmp_path):
    make(attempt=1, state=State.PROGRESS)
    broker.Producer().publish(
        {}, routing_key="jobs", declare=[broker.SimpleQueue("jobs").queue], headers={"id": str(Job.objects.get().pk)}
    )
    taken = []
    with Consumer(broker, [broker.SimpleQueue("jobs").queue], on_message=taken.append):
        while not taken:
            broker.drain_events(timeout=5)
        assert list(sweep.end_lost(broker, lambda job: job)) == []
        taken[0].ack()
    assert not list(tmp_path.glob("taken/*/*.msg"))


def test_brokers_that_deliver_again_by_themselves_are_left_alone():
    with Connection("memory://") as broker:
        assert list(sweep.end_lost(broker, lambda job: job)) == []
