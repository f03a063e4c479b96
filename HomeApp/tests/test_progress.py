"""The worker's side, with the broker replaced by a list."""

import itertools
import json
import uuid

import pytest
from celery import current_app
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from kombu.utils.json import dumps

from HomeApp import progress
from HomeApp.jobs import kinds
from HomeApp.models import SEQ_PER_ATTEMPT, Job, State
from HomeApp.progress import MOST_ATTEMPTS, OLD_NEWS, REPORTS_PER_SECOND, JobError, JobTask, TryAgain
from HomeApp.reply import Reply
from HomeApp.reply_queue import REPLY_QUEUE, ReplyBackend

pytestmark = pytest.mark.django_db


@pytest.fixture
def replies(monkeypatch) -> list[tuple[str, dict]]:
    """All that tasks reply, as (state, result)."""
    said = []

    def store(backend, task_id, result, state, traceback=None, request=None, **kwargs):
        if state == State.PROGRESS:
            result = {**result, "expiration": kwargs.get("expiration")}
        said.append((str(state), result))

    monkeypatch.setattr("HomeApp.reply_queue.ReplyBackend.store_result", store)
    return said


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as a list of one: it stands still unless told otherwise."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def run(replies):
    """Runs a function as the task of a new job, as a worker does, and returns the job."""

    def run(function, job=None, retries=0, **options):
        job = job or Job.objects.create(owner="visitor-1", kind="test", title="A test")

        def body(task):
            return function(task)

        task = current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}", **options)(body)
        request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}, "retries": retries}
        build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)
        return job

    return run


def states(replies) -> list[str]:
    return [state for state, _ in replies]


@pytest.fixture
def resent(monkeypatch) -> list[dict]:
    """What tasks send to the broker, as the options they send it with."""
    sent = []
    monkeypatch.setattr("celery.app.task.Task.apply_async", lambda self, *args, **options: sent.append(options))
    return sent


def percentages(replies) -> list[float]:
    return [result["current"] for state, result in replies if state == "PROGRESS"]


def test_a_job_starts_reports_and_ends(run, replies):
    run(lambda task: sum(task.track([1, 2, 3])))
    assert [state for state, _ in replies] == ["STARTED", "PROGRESS", "PROGRESS", "SUCCESS"]
    assert replies[-1][1] == 6


def test_reports_are_numbered_within_their_attempt(run, replies):
    job = run(lambda task: list(task.track(range(3))))
    run(lambda task: None, job)
    numbers = [result["seq"] for state, result in replies if state != "SUCCESS"]
    assert numbers[:3] == [SEQ_PER_ATTEMPT + 1, SEQ_PER_ATTEMPT + 2, SEQ_PER_ATTEMPT + 3]
    assert numbers[3:] == [2 * SEQ_PER_ATTEMPT + 1]
    assert {result["attempt"] for state, result in replies if state == "PROGRESS"} == {1}


def test_update_state_is_numbered_too(run, replies):
    run(lambda task: task.update_state(state="PROGRESS", meta={"current": 1, "total": 2}))
    numbered = {"current": 1, "total": 2, "seq": SEQ_PER_ATTEMPT + 2, "attempt": 1, "expiration": None}
    assert replies[1] == ("PROGRESS", numbered)


def test_a_job_that_has_ended_is_passed_over(run, replies):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    job.end(State.REVOKED)
    job.save_end()
    ran = []
    run(lambda task: ran.append(1), job)
    assert ran == []
    assert states(replies) == ["REVOKED"]  # told, for whoever does not know yet


def test_a_task_without_a_job_is_passed_over(run, replies):
    run(lambda task: pytest.fail("it ran"), Job(id=uuid.uuid4()))
    assert states(replies) == ["REVOKED"]


def test_a_job_that_was_cancelled_while_no_worker_listened_does_not_begin(run, replies):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test", attempt=1, cancelled_at=timezone.now())
    run(lambda task: pytest.fail("it ran"), job)
    assert states(replies) == ["REVOKED"]


def test_a_job_that_loses_its_worker_every_time_fails_in_the_end(run, replies):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test", attempt=MOST_ATTEMPTS)
    run(lambda task: pytest.fail("it ran"), job)
    state, problem = replies[-1]
    assert (state, str(problem)) == ("FAILURE", "The worker that ran this job was lost 3 times.")


def cancelled(task):
    """What the worker does to a task that is being cancelled. Source: billiard's handler of SIGUSR1."""
    raise SoftTimeLimitExceeded


def test_a_cancelled_task_says_so(run, replies):
    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        cancelled(task)

    run(body)
    assert states(replies) == ["STARTED", "REVOKED"]


def test_a_signal_meant_for_another_job_starts_this_one_again(run, replies, caplog):
    run(cancelled)
    assert "reject requeue=True" in caplog.text
    assert states(replies) == ["STARTED"]


def test_a_time_limit_is_a_failure(run, replies):
    run(cancelled, soft_time_limit=1)
    assert states(replies) == ["STARTED", "FAILURE"]


def test_a_job_waits_for_the_database(run, replies, monkeypatch):
    outages = iter([OperationalError("away"), InterfaceError("closed"), None])
    begin = Job.objects.begin

    def flaky(*arguments):
        if problem := next(outages):
            raise problem
        return begin(*arguments)

    monkeypatch.setattr(Job.objects, "begin", flaky)
    monkeypatch.setattr(progress, "RETRY_AFTER", 0)
    monkeypatch.setattr(progress.connections, "close_all", lambda: None)
    run(lambda task: 1)
    assert states(replies) == ["STARTED", "SUCCESS"]


def test_reports_come_at_most_so_often(run, replies, clock):
    def loop(task):
        for _ in task.track(range(1000)):
            clock[0] += 0.001

    run(loop)
    assert REPORTS_PER_SECOND - 5 <= len(percentages(replies)) <= REPORTS_PER_SECOND + 2


def test_the_last_value_is_always_told(run, replies, clock):
    run(lambda task: list(task.track(range(1000))))
    assert percentages(replies) == [0, 1000]


def test_a_failure_tells_the_percentage_it_reached(run, replies, clock):
    def loop(task):
        for number in task.track(range(100)):
            clock[0] += 0.02
            if number == 42:
                raise JobError("Forty-two is too much.")

    run(loop)
    assert replies[-1][0] == "FAILURE"
    assert percentages(replies)[-1] == 42


def test_a_slow_stretch_after_a_quick_one_is_not_silent(run, replies, clock):
    def loop(task):
        for number in task.track(itertools.chain(range(100_000)), total=100_040):
            clock[0] += 0.000_01 if number < 50_000 else 0.01

    run(loop)
    slow = [current for current in percentages(replies) if current > 50_000]
    assert len(slow) > 8_000
    assert max(b - a for a, b in itertools.pairwise(slow)) <= progress.MOST_UNLOOKED


def test_a_loop_in_a_loop_stays_within_the_rate(run, replies, clock):
    def loops(task):
        for _ in range(1000):
            list(task.track(range(3)))

    run(loops)
    assert len(percentages(replies)) == 2


def test_an_unknown_total_stays_unknown(run, replies):
    run(lambda task: list(task.track(iter("abc"))))
    assert {result["total"] for state, result in replies if state == "PROGRESS"} == {None}


def test_only_reports_that_others_follow_soon_may_be_dropped_by_the_broker(run, replies, clock):
    def loop(task):
        for number in task.track(range(6)):
            clock[0] += 1 if number < 3 else 0.1

    run(loop)
    told = [(result["current"], result["expiration"]) for state, result in replies if state == "PROGRESS"]
    assert told == [(0, None), (1, None), (2, None), (3, None), (4, OLD_NEWS), (5, OLD_NEWS), (6, OLD_NEWS), (6, None)]


def test_replies_go_to_the_one_queue(monkeypatch):
    sent = {}
    monkeypatch.setattr("celery.app.task.Task.apply_async", lambda self, *args, **options: sent.update(options))
    kinds()["count_primes"].delay(below=1000)
    assert sent["reply_to"] == REPLY_QUEUE.name


def not_yet(task):
    raise TryAgain("The server is busy.")


def test_a_task_that_says_try_again_is_sent_again_to_the_same_job_later_each_time(run, replies, resent):
    for retries in range(3):
        job = run(not_yet, retries=retries)
        assert replies[-1][0] == "RETRY"
        sent = resent.pop()
        assert (sent["task_id"], sent["reply_to"], sent["retries"]) == (str(job.pk), REPLY_QUEUE.name, retries + 1)
        assert 0 <= sent["countdown"] <= 5 * 2**retries


def test_when_no_retry_is_left_the_job_fails_with_the_same_sentence(run, replies, resent):
    run(not_yet, retries=3)
    state, problem = replies[-1]
    assert (state, problem.args, resent) == ("FAILURE", ("The server is busy.",), [])


def test_a_task_may_retry_in_celerys_own_words_too(run, replies, resent):
    def body(task):
        task.retry(countdown=60, max_retries=1)

    run(body)
    assert replies[-1][0] == "RETRY"
    assert resent[-1]["countdown"] == 60
    run(body, retries=1)
    assert replies[-1][0] == "FAILURE"


@pytest.fixture
def published(monkeypatch) -> list[dict]:
    """The bodies of all replies, as the broker is given them."""
    bodies = []
    monkeypatch.setattr(
        "kombu.messaging.Producer.publish", lambda self, body, **options: bodies.append(json.loads(dumps(body)))
    )
    return bodies


def test_a_reply_names_its_attempt(published, resent):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test", attempt=2)
    task = current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}")(not_yet)
    request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
    build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)
    assert [(body["status"], body["attempt"]) for body in published] == [("STARTED", 3), ("RETRY", 3)]
    reply = Reply.of(published[-1])
    assert (reply.state, reply.attempt, reply.error) == ("RETRY", 3, "The server is busy.")
    assert published[0]["result"]["seq"] < reply.seq < 4 * SEQ_PER_ATTEMPT - 1


@pytest.mark.parametrize("report", ["track", "update_state"])
def test_an_end_says_how_far_its_attempt_has_come(published, report, clock):
    def body(task):
        if report == "track":
            for number in task.track(range(8), description="counting"):
                clock[0] += 1
                if number == 3:
                    raise ValueError
        task.update_state(state="PROGRESS", meta={"current": 3, "total": 8, "description": "counting"})
        task.update_state("another job's", "PROGRESS", {"current": 5})
        raise ValueError

    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    task = current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}")(body)
    request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
    build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)
    assert published[-1]["status"] == "FAILURE"
    assert published[-1]["latest"] == {"current": 3, "total": 8, "description": "counting"}


def test_a_job_works_on_while_the_broker_is_away_and_tells_where_it_is_afterwards(run, replies, clock, monkeypatch):
    store = ReplyBackend.store_result
    away, tried = [False], []

    def flaky(backend, task_id, result, state, *args, **kwargs):
        if away[0]:
            tried.append(state)
            raise ConnectionRefusedError
        return store(backend, task_id, result, state, *args, **kwargs)

    monkeypatch.setattr(ReplyBackend, "store_result", flaky)

    def loop(task):
        for number in task.track(range(1000)):
            clock[0] += 0.1
            away[0] = 100 <= number < 500
        return "done"

    run(loop)
    assert len(tried) <= 400 * 0.1 / progress.UNHEARD + 1, "each try may wait for the broker"
    assert percentages(replies)[-1] == 1000
    assert 500 < percentages(replies)[105] < 540
    assert replies[-1] == ("SUCCESS", "done")
