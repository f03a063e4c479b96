"""What a task raises and returns, and what Celery and the visitor are given of it."""

import gc
import pickle
import sys
import threading
import uuid
import weakref

import pytest
from celery import current_app
from celery.app.trace import build_tracer
from celery.exceptions import Retry, WorkerLostError
from celery.worker import state as worker
from django.utils.translation import gettext_lazy

from livejobs import outcome
from livejobs.backend import REPLY_QUEUE
from livejobs.models import Job
from livejobs.outcome import (
    FAILED,
    LARGEST_EXCEPTION,
    JobError,
    TaskFailed,
    TryAgain,
    as_json,
    contained,
    process_ends,
    sentence,
)
from livejobs.reply import Reply
from livejobs.task import JobTask
from testkit import odd_tasks
from tests.test_odd_tasks import DEADLY, ENDS

IN_MEMORY = sorted((odd_tasks.RAISED.keys() | odd_tasks.EXCEPTIONS.keys() | odd_tasks.RETURNED.keys()) - {*DEADLY})


@pytest.fixture
def ends(monkeypatch) -> list[Reply]:
    """The replies that end a job or an attempt, as the relay reads them."""
    replies = []

    def publish(producer, body, **options):
        reply = Reply.of(outcome.json.loads(outcome.json.dumps(body)))
        if body["status"] in ("SUCCESS", "FAILURE", "REVOKED", "RETRY"):
            replies.append(reply)

    monkeypatch.setattr("kombu.messaging.Producer.publish", publish)
    return replies


def traced(task):
    """Run a task as a worker's child does. Returns the job, and what Celery makes of its end."""
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
    return job, build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", IN_MEMORY)
def test_celery_ends_one_job_whatever_its_task_raises_or_returns(ends, kind):
    job, traced_as = traced(current_app.tasks[f"testkit.odd_tasks.{kind}"])
    [reply] = ends
    assert (reply.task_id, reply.state, reply.error or reply.result) == (str(job.pk), *ENDS[kind])
    if reply.state == "FAILURE":
        assert "secret" not in reply.error
        problem = traced_as.retval.exception
        assert len(pickle.dumps(problem)) <= LARGEST_EXCEPTION
        assert isinstance(problem, Exception)
        assert not isinstance(problem, outcome.COMMANDS)


@pytest.mark.parametrize("kind", [TryAgain, type("Later", (TryAgain,), {})])
@pytest.mark.django_db
def test_a_subclass_of_try_again_is_tried_again(ends, monkeypatch, kind):
    sent = []
    monkeypatch.setattr("celery.app.task.Task.apply_async", lambda self, *args, **options: sent.append(options))

    def body(task):
        raise kind("The server is busy.")

    job, _ = traced(current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}")(body))
    assert [(reply.state, reply.error) for reply in ends] == [("RETRY", "The server is busy.")]
    assert [options["task_id"] for options in sent] == [str(job.pk)]


def test_an_ordinary_exception_stays_what_it_is():
    for problem in (ValueError("x"), KeyError(), JobError("x"), TryAgain("x"), OSError(2, "no file"), Retry()):
        assert contained(problem) is problem


def test_the_main_process_is_sent_the_sentence_of_a_job_error_whatever_its_class():
    for problem in (odd_tasks.Refunded(5, currency="EUR"), JobError(threading.Lock()), TryAgain(threading.Lock())):
        arrived = pickle.loads(pickle.dumps(problem))
        assert sentence(arrived) == sentence(problem)
        assert isinstance(arrived, TryAgain) == isinstance(problem, TryAgain)


def test_a_job_error_that_is_a_command_to_celery_too_keeps_its_sentence():
    kind = type("Full", (JobError, WorkerLostError), {})
    failed = contained(kind("The disk is full."))
    assert (type(failed), failed.sentence) == (TaskFailed, "The disk is full.")


@pytest.mark.parametrize(
    "args", [(), (None,), ("",), (odd_tasks.Unprintable(),)], ids=["none", "null", "empty", "unprintable"]
)
def test_a_job_error_without_words_says_no_more_than_any_failure(args):
    class Broken(JobError):
        def __str__(self):
            return super().__str__() if not args or not isinstance(args[0], Exception) else 1 / 0

    assert sentence(Broken(*args)) == FAILED


def test_what_took_the_memory_is_let_go():
    class Large:
        pass

    def task():
        held.append(weakref.ref(large := Large()))
        raise MemoryError(id(large))

    held = []
    try:
        task()
    except MemoryError as problem:
        contained(problem)
        gc.collect()
        assert held[0]() is None


def test_a_child_that_is_told_to_end_does_so_and_says_nothing_of_its_job(monkeypatch):
    assert not process_ends(SystemExit(0))
    assert not process_ends(ValueError())
    monkeypatch.setattr(outcome, "terminate_handler_fired", lambda: True)
    assert process_ends(SystemExit(0))
    assert process_ends(ValueError()), "raised as the task was being torn down"


def test_a_worker_that_ends_at_once_does_not_take_that_for_the_tasks_end(monkeypatch):
    monkeypatch.setattr(worker, "should_terminate", 1)
    assert process_ends(SystemExit(1))


def test_a_green_thread_that_is_killed_is_not_a_failure(monkeypatch):
    killed = type("GreenletExit", (BaseException,), {})
    monkeypatch.setitem(sys.modules, "greenlet", type("greenlet", (), {"GreenletExit": killed}))
    assert process_ends(killed())


def test_a_result_is_turned_into_plain_json():
    assert as_json((1, {2: gettext_lazy("two")})) == [1, {"2": "two"}]


def test_a_result_that_raises_when_it_is_looked_at_is_a_failure():
    class Odd(dict):
        def items(self):
            raise SystemError("secret")

    with pytest.raises(TaskFailed, match="not JSON"):
        as_json([Odd(a=1)])
