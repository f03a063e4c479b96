"""What a worker's main process makes of a job that its pool runs; the pool and the broker are replaced by lists."""

import os
import signal
import uuid
from types import SimpleNamespace

import pytest
from billiard.einfo import ExceptionInfo
from celery import current_app
from celery.concurrency.prefork import TaskPool as Prefork
from celery.concurrency.thread import TaskPool as Threads
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker.control import Panel
from celery.worker.request import create_request_cls

from livejobs import stop, worker_request
from livejobs.backend import REPLY_QUEUE, end_unknown
from livejobs.jobs import kinds
from livejobs.outcome import OUT_OF_MEMORY, TOO_LONG, UNKNOWN_KIND
from livejobs.reply import Reply
from livejobs.worker_request import STOP_AGAIN, JobRequest


@pytest.fixture
def replies(monkeypatch) -> list[Reply]:
    """What the broker is given, as the relay reads it."""
    read = []
    monkeypatch.setattr("kombu.messaging.Producer.publish", lambda self, body, **options: read.append(Reply.of(body)))
    return read


@pytest.fixture
def sent(monkeypatch) -> list[tuple[int, int]]:
    """The signals that are sent."""
    signals = []
    monkeypatch.setattr(os, "kill", lambda *signal: signals.append(signal))
    return signals


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(worker_request.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def request_of():
    """Makes the request of a job, as a worker does; what becomes of its message is in `done`."""

    def request_of(pool=None, **headers):
        task, task_id, done = kinds()["count_primes"], str(uuid.uuid4()), []
        message = SimpleNamespace(
            headers={"id": task_id, "task": task.name, "ignore_result": True, **headers},
            payload=([], {}, {}),
            body="",
            delivery_info={},
            properties={"reply_to": REPLY_QUEUE.name},
            content_type="application/json",
            content_encoding="utf-8",
        )
        made = create_request_cls(JobRequest, task, pool or Prefork(1), "host", None, app=current_app)(
            message,
            app=current_app,
            task=task,
            on_ack=lambda *_: done.append("acknowledged"),
            on_reject=lambda *args: done.append(("rejected", args[-1])),
        )
        made.done, made.worker_pid = done, 42
        return made

    return request_of


@pytest.fixture
def failed():
    """Makes what the pool says of an exception."""

    def failed(problem):
        try:
            raise problem
        except type(problem):
            return ExceptionInfo()

    return failed


def test_a_child_is_signalled_once_and_told_again_only_after_a_while(request_of, sent, clock, replies):
    request = request_of()
    request.time_start = 1.0
    for _ in range(3):
        request.terminate(Prefork(1), signal="SIGUSR1")
    assert sent == [(42, signal.SIGUSR1)]
    clock[0] += STOP_AGAIN
    request.terminate(Prefork(1), signal=signal.SIGUSR1)
    assert len(sent) == 2
    assert replies == [], "the attempt says what has become of its job"


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM", None])
def test_no_signal_reaches_a_process_that_is_no_child(request_of, sent, name):
    pool = Threads(1)
    request = request_of(pool)
    request.time_start = 1.0
    request.terminate(pool, signal=name)  # the attempt is about to begin
    running = stop.attempts[request.id] = SimpleNamespace(stops=0)
    try:
        for _ in range(3):
            request.terminate(pool, signal=name)
    finally:
        del stop.attempts[request.id]
    assert (running.stops, sent) == (1, [])


def test_a_job_that_no_child_has_begun_is_stopped_when_one_does(request_of, sent):
    request = request_of()
    request.terminate(Prefork(1), signal="SIGUSR1")
    assert sent == []
    request.on_accepted(42, 0)
    assert sent == [(42, signal.SIGUSR1)]


def test_a_worker_stops_the_job_that_it_has_and_no_other(request_of, sent, monkeypatch):
    request = request_of()
    request.time_start = 1.0
    monkeypatch.setattr(worker_request.worker_state, "requests", {request.id: request})
    state = SimpleNamespace(consumer=SimpleNamespace(pool=Prefork(1)))
    for task_id in (str(uuid.uuid4()), request.id):
        Panel.data["livejobs_stop"](state, task_id=task_id)
    assert sent == [(42, signal.SIGUSR1)]


def test_a_worker_does_not_end_itself_over_a_memory_error(request_of, failed, replies):
    request = request_of()
    request.on_failure(failed(MemoryError()))
    assert [reply.error for reply in replies] == [OUT_OF_MEMORY]
    assert request.done == ["acknowledged"]


def test_a_hard_time_limit_is_the_end_and_no_new_attempt(request_of, failed, replies):
    request = request_of()
    request.on_failure(failed(TimeLimitExceeded(1)))
    request.on_timeout(soft=False, timeout=1)
    assert {(reply.state, reply.error) for reply in replies} == {("FAILURE", TOO_LONG)}
    assert set(request.done) == {"acknowledged"}


def test_a_lost_child_is_no_end(request_of, failed, replies):
    request = request_of()
    request.on_failure(failed(WorkerLostError("signal 9")))
    assert (replies, request.done) == ([], [("rejected", True)])


def test_a_job_always_replies_though_its_message_asks_the_projects_backend_for_nothing(request_of):
    request = request_of()
    assert (request.ignore_result, request.store_errors) == (False, True)
    assert request.request_dict["ignore_result"] is False


def test_an_attempt_knows_its_soft_limit(request_of, monkeypatch):
    assert request_of().request_dict["soft_limit"] is None
    monkeypatch.setattr(kinds()["count_primes"], "worker_soft_time_limit", 30)
    assert request_of().request_dict["soft_limit"] == 30
    monkeypatch.setattr(kinds()["count_primes"], "soft_time_limit", 20)
    assert request_of().request_dict["soft_limit"] == 20
    assert request_of(timelimit=[None, 10]).request_dict["soft_limit"] == 10


def test_a_job_of_a_kind_that_the_worker_does_not_know_fails(replies):
    task_id, ours = str(uuid.uuid4()), SimpleNamespace(properties={"reply_to": REPLY_QUEUE.name})
    consumer = SimpleNamespace(app=current_app)
    end_unknown(sender=consumer, message=ours, name="gone", id=task_id)
    end_unknown(sender=consumer, message=SimpleNamespace(properties={"reply_to": "x"}), name="gone", id=task_id)
    assert [(reply.task_id, reply.error) for reply in replies] == [(task_id, UNKNOWN_KIND)]
