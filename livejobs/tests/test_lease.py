"""The worker's beats: which jobs it lists, and which attempts it stops. Celery's worker is replaced by its parts."""

import itertools
import os
import subprocess
import sys
import threading
import uuid
from types import SimpleNamespace

import pytest
from celery import current_app
from django.db import OperationalError, connections
from django.utils import timezone

from livejobs import lease
from livejobs.jobs import kinds
from livejobs.lease import ENDED_BEATS, Beats
from livejobs.models import Job, State, Worker
from testkit import processes

pytestmark = pytest.mark.django_db

STARTS = itertools.count()


class Request:
    """A request that Celery's worker runs, as far as the beats look at it."""

    def __init__(self, job, task=None, worker_pid=None):
        self.id, self.worker_pid, self.terminated = str(job.pk), worker_pid, 0
        self.time_start = next(STARTS)
        self.task = task or kinds()["count_primes"]

    def terminate(self, pool, signal):
        self.terminated += 1


@pytest.fixture
def active(monkeypatch) -> list[Request]:
    """The requests that the worker runs."""
    active = []
    monkeypatch.setattr(lease.state, "active_requests", active)
    return active


@pytest.fixture
def beats() -> Beats:
    return Beats(uuid.uuid4(), SimpleNamespace(app=current_app, hostname="w1@test", pool=object(), concurrency=2))


@pytest.fixture
def job(beats) -> Job:
    beats.beat()
    return Job.objects.create(
        owner="visitor-1", kind="count_primes", title="Primes", attempt=1, state=State.STARTED, lease_id=beats.pk
    )


def test_a_worker_lists_the_jobs_that_it_runs_and_grows_its_counter(beats, job, active):
    active += [Request(job), Request(job, task=object())]
    for _ in range(3):
        beats.beat()
    row = Worker.objects.get()
    assert (row.jobs, row.beats, row.host, row.slots) == ([str(job.pk)], 3, "w1@test", 2)
    assert row.queues == [current_app.conf.task_default_queue]
    assert [request.terminated for request in active] == [0, 0]


class Prefork(lease.TaskPool):
    """A pool of processes, as far as the beats look at it."""

    def __init__(self, *processes):
        self.processes = list(processes)

    @property
    def info(self):
        return {"processes": self.processes}


def test_what_ran_in_a_child_that_is_dead_is_not_listed(beats, job, active):
    beats.worker.pool = Prefork(1001)
    active.append(Request(job, worker_pid=1001))
    beats.beat()
    assert Worker.objects.get().jobs == [str(job.pk)]
    beats.worker.pool.processes.clear()
    beats.beat()
    assert Worker.objects.get().jobs == []


def test_a_beat_in_progress_does_not_bring_a_worker_back_that_leaves(beats, monkeypatch):
    """It waited for the database while the worker left, and then wrote that the worker lived: its jobs were lost."""
    said, entered, go_on = [], threading.Event(), threading.Event()

    def beat():
        entered.set()
        assert go_on.wait(5)
        said.append("alive")

    monkeypatch.setattr(beats, "try_to_beat", beat)
    monkeypatch.setattr(lease, "_leave_the_pool", lambda: None)
    monkeypatch.setattr(lease.Worker.objects, "leave", lambda pk: said.append("gone"))
    beats.thread = threading.Thread(target=beats.run)
    beats.thread.start()
    assert entered.wait(5)
    threading.Timer(0.2, go_on.set).start()
    beats.leave(os.getpid())
    assert said == ["alive", "gone"]


@pytest.mark.parametrize("flag", ["should_stop", "should_terminate"])
def test_a_shutdown_that_takes_long_is_no_loss_of_the_jobs_whose_children_have_ended(
    beats, job, active, monkeypatch, flag
):
    """On a busy machine the main process had outlived its children by more than three beats."""
    beats.worker.pool = Prefork()
    active.append(Request(job, worker_pid=1001))
    monkeypatch.setattr(lease.state, flag, 0)
    beats.beat()
    assert Worker.objects.get().jobs == [str(job.pk)]


def test_a_cancelled_job_is_stopped_at_once_whatever_the_broker_does(beats, job, active):
    active.append(Request(job))
    Job.objects.update(cancelled_at=timezone.now())
    beats.beat()
    assert active[0].terminated == 1


@pytest.mark.parametrize("what", ["deleted", "ended", "given to another worker"])
def test_an_attempt_without_its_lease_is_stopped_after_some_beats(beats, job, active, what):
    active.append(Request(job))
    if what == "deleted":
        Job.objects.all().delete()
    elif what == "ended":
        job.end(State.SUCCESS)
        job.save_end()
    else:
        Job.objects.update(lease=uuid.uuid4())
    for _ in range(ENDED_BEATS - 1):
        beats.beat()
    assert active[0].terminated == 0, "its row may say so a moment before the worker's main process knows"
    beats.beat()
    assert active[0].terminated == 1


def test_an_attempt_that_waits_for_the_database_has_no_lease_yet_and_is_not_stopped(beats, job, active):
    Job.objects.update(lease=None, attempt=0, state=State.PENDING)
    active.append(Request(job))
    for _ in range(ENDED_BEATS + 1):
        beats.beat()
    assert active[0].terminated == 0


def test_an_attempt_whose_lease_was_taken_is_stopped_though_no_other_has_begun_yet(beats, job, active):
    active.append(Request(job))
    beats.beat()
    Job.objects.update(lease=None, state=State.RETRY)
    for _ in range(ENDED_BEATS):
        beats.beat()
    assert active[0].terminated == 1


def test_of_two_attempts_of_a_job_in_one_worker_the_earlier_one_is_stopped(beats, job, active):
    stale, current = Request(job), Request(job)
    active += [current, stale]
    for _ in range(ENDED_BEATS):
        beats.beat()
    assert (stale.terminated, current.terminated) == (1, 0)


def test_a_duplicate_that_seems_to_run_does_not_stop_the_attempt(beats, job, active):
    """A worker that connects to its broker again learns of no result, and so not that its child dropped the duplicate.

    The attempt was stopped, and made again.
    """
    attempt = Request(job)
    active.append(attempt)
    beats.beat()
    active.append(Request(job))
    for _ in range(ENDED_BEATS + 1):
        beats.beat()
    assert attempt.terminated == 0


def test_a_stale_attempt_is_stopped_though_it_was_seen_to_have_the_lease(beats, job, active):
    stale = Request(job)
    active.append(stale)
    beats.beat()
    Job.objects.update(attempt=2)
    active.append(Request(job))
    for _ in range(ENDED_BEATS):
        beats.beat()
    assert [request.terminated for request in active] == [1, 0]


def test_one_attempt_that_cannot_be_stopped_does_not_keep_the_others_running(beats, job, active, monkeypatch):
    other = Job.objects.create(
        owner="visitor-1", kind="count_primes", title="Primes", lease_id=beats.pk, cancelled_at=timezone.now()
    )
    Job.objects.update(cancelled_at=timezone.now())
    active += [Request(job), Request(other)]
    monkeypatch.setattr(active[0], "terminate", lambda pool, signal: 1 / 0)
    beats.beat()
    assert active[1].terminated == 1


def test_an_outage_of_the_database_is_survived(beats, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OperationalError("away")

    monkeypatch.setattr(lease.connections, "close_all", lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr(Worker.objects, "beat", refuse)
        beats.try_to_beat()
    assert "cannot renew its leases" in caplog.text
    beats.try_to_beat()
    assert Worker.objects.alive().exists()


def test_an_orderly_end_marks_the_worker_as_gone_but_that_of_a_fork_does_not(beats):
    beats.beat()
    beats.leave(os.getpid() + 1)
    assert Worker.objects.alive().exists()
    beats.leave(os.getpid())
    assert Worker.objects.get().state == Worker.State.GONE
    assert beats.leaving.is_set()


def test_the_beats_have_a_connection_of_their_own_outside_the_pool():
    """A child that is forked later must not find the parent's connections in the pool."""
    seen = []

    def look():
        lease._leave_the_pool()
        seen.append(connections["default"].settings_dict)

    usual = connections["default"].settings_dict
    usual["OPTIONS"]["pool"] = {"max_size": 20}
    try:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert "pool" not in seen[0]["OPTIONS"]
        assert usual["OPTIONS"]["pool"] == {"max_size": 20}, "other threads keep theirs"
        assert {**seen[0], "OPTIONS": {}} == {**usual, "OPTIONS": {}}
    finally:
        del usual["OPTIONS"]["pool"]


#: A worker's main process forks while its thread writes a beat; the child then writes a row.
FORKS_IN_A_BEAT = """
import os, signal, threading, time
import django
django.setup()
from types import SimpleNamespace
from celery import current_app
from django.db import connection, transaction
from livejobs.lease import Beats
from livejobs.models import Worker
import uuid

writing = threading.Event()

class Slow(Beats):
    def beat(self):
        with transaction.atomic():
            super().beat()
            writing.set()
            time.sleep(1)

beats = Slow(uuid.uuid4(), SimpleNamespace(app=current_app, hostname="w1@test", pool=object(), concurrency=1))
connection.close()
threading.Thread(target=beats.try_to_beat).start()
writing.wait()
child = os.fork()
if not child:
    signal.alarm(15)  # ends it, should it wait for the database
    Worker.objects.create(host="child", pool="prefork", slots=1)
    os._exit(0)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
def test_a_child_that_is_forked_in_the_midst_of_a_beat_can_write(tmp_path):
    """SQLite had taken the database for locked in that child, for good: its job never ended."""
    site = processes.Site(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", FORKS_IN_A_BEAT]
    environment = site.environment | {"DJANGO_SETTINGS_MODULE": "CeleryProgressbar.settings"}
    run = subprocess.run(command, cwd=processes.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
