"""The worker's side, with the broker replaced by a list."""

import itertools
import json
import math
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

import pytest
from celery import current_app
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_postrun
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.utils import timezone
from kombu.utils.json import dumps

from livejobs import report, stop, track
from livejobs import task as task_module
from livejobs.backend import REPLY_QUEUE, ReplyBackend
from livejobs.jobs import kinds
from livejobs.models import SEQ_PER_ATTEMPT, Job, State, Worker
from livejobs.outcome import ASKED, TOO_LONG, sentence
from livejobs.reply import Reply
from livejobs.report import OLD_NEWS, REPORTS_PER_SECOND
from livejobs.task import JobError, JobTask, TryAgain

pytestmark = pytest.mark.django_db


def repr_of_type(value) -> str:
    return type(value).__name__


@pytest.fixture
def replies(monkeypatch) -> list[tuple[str, dict]]:
    """All that tasks reply, as (state, result)."""
    said = []

    def store(backend, task_id, result, state, traceback=None, request=None, **kwargs):
        if state == State.PROGRESS:
            result = {**result, "expiration": kwargs.get("expiration")}
        said.append((str(state), result))

    monkeypatch.setattr("livejobs.backend.ReplyBackend.store_result", store)
    return said


@pytest.fixture
def published(monkeypatch) -> list[dict]:
    """The bodies of all replies, as the broker is given them."""
    bodies = []
    monkeypatch.setattr(
        "kombu.messaging.Producer.publish", lambda self, body, **options: bodies.append(json.loads(dumps(body)))
    )
    return bodies


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, as a list of one: it stands still unless told otherwise."""
    now = [1000.0]
    monkeypatch.setattr(task_module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def run():
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
    numbered = {
        "current": 1,
        "total": 2,
        "reached": 50,
        "stage": None,
        "seq": SEQ_PER_ATTEMPT + 2,
        "attempt": 1,
        "expiration": None,
    }
    assert replies[1] == ("PROGRESS", numbered)


def reported(replies) -> list[tuple]:
    wanted = ("current", "total", "description", "partial")
    return [tuple(result.get(name) for name in wanted) for state, result in replies if state == "PROGRESS"]


def test_a_state_of_the_tasks_own_is_the_description_unless_there_is_one(run, replies):
    def body(task):
        task.update_state(state="UPLOADING", meta={"current": 1, "total": 2})
        task.update_state(state="UPLOADING", meta={"description": "to the moon"})
        task.update_state(meta={"current": 2})

    run(body)
    assert reported(replies) == [
        (1, 2, "UPLOADING", None),
        (None, None, "to the moon", None),
        (2, None, None, None),
    ]


class Unreadable:
    def __str__(self):
        raise ValueError

    __repr__ = __float__ = __str__


@pytest.mark.parametrize(
    ("meta", "shown", "noted"),
    [
        (None, (None, None, None, None), ""),
        ("words", (None, None, "words", None), ""),
        (3, (None, None, None, None), "give a dict"),
        ([1, 2], (None, None, None, None), "give a dict"),
        (Unreadable(), (None, None, None, None), "give a dict"),
        ({"current": "3", "total": Decimal(4)}, (3, 4, None, None), ""),
        ({"current": "three", "total": 4}, (None, 4, None, None), "'three' is no finite number"),
        ({"current": math.nan, "total": math.inf}, (None, None, None, None), "nan is no finite number"),
        ({"current": -1, "total": 10**400}, (-1, None, None, None), "is no finite number"),
        ({"current": 2**64}, (float(2**64), None, None, None), ""),
        ({"current": Unreadable()}, (None, None, None, None), "is no finite number"),
        ({"description": 7, "partial": {"a": 1}}, (None, None, "7", "{'a': 1}"), ""),
        ({"description": Unreadable()}, (None, None, "", None), "has no text"),
        ({"description": "a\0b\ud800" + "c" * 900}, (None, None, "ab?" + "c" * 197, None), ""),
        ({"partial": "x" * 10**6}, (None, None, None, "x" * 4000), ""),
        ({"unknown": object(), ("odd",): 1}, (None, None, None, None), ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_report_of_any_shape_is_shown_or_refused_in_words(run, published, caplog, meta, shown, noted):
    def body(task):
        for _ in range(3):
            task.update_state(state="PROGRESS", meta=meta)

    run(body)
    told = [(body["status"], body["result"]) for body in published]
    assert reported(told) == [shown] * 3
    assert told[-1] == ("SUCCESS", None)
    assert [Reply.of(body).state for body in published] == ["STARTED", *["PROGRESS"] * 3, "SUCCESS"]
    assert noted in caplog.text
    assert caplog.text.count("finite number") <= 2, "once for each attempt"


@pytest.mark.parametrize("total", ["10", Decimal(10), math.nan, 10**400, Unreadable(), object()], ids=repr_of_type)
def test_a_total_of_any_kind_loses_no_job(run, published, total):
    run(lambda task: list(task.track(iter("abc"), total=total, description=Unreadable())))
    assert published[-1]["status"] == "SUCCESS"
    assert Reply.of(published[-1]).total in (None, 10)


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "RETRY", State.SUCCESS])
def test_a_final_state_in_the_midst_of_a_task_is_refused_with_the_remedy(run, replies, state):
    def body(task):
        with pytest.raises(ValueError, match="return the result, raise JobError to fail, raise TryAgain"):
            task.update_state(state=state, meta={"current": 1})
        return "done"

    run(body)
    assert replies[1:] == [("SUCCESS", "done")]


@pytest.mark.parametrize("task_id", ["part-1", uuid.uuid4(), 7, ["x"]], ids=repr_of_type)
def test_a_report_for_another_id_is_refused_with_the_remedy(run, replies, caplog, task_id):
    def body(task):
        for _ in range(3):
            with pytest.raises(ValueError, match="leave task_id out"):
                task.update_state(task_id=task_id, state="PROGRESS", meta={"current": 1})
        task.update_state(task_id=task.request.id, state="PROGRESS", meta={"current": 2})

    run(body)
    assert reported(replies) == [(2, None, None, None)]
    assert caplog.text.count("leave task_id out") == 1


def in_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_thread_of_the_task_reports_with_the_jobs_id(run, replies):
    def body(task):
        job = task.request.id
        for way in (lambda: task.update_state(meta={"current": 1}), lambda: list(task.track("abc"))):
            with pytest.raises(ValueError, match="call update_state with the task_id"):
                in_thread(way)
        in_thread(lambda: task.update_state(task_id=job, state="PROGRESS", meta={"current": 1}))
        task.update_state(state="PROGRESS", meta={"current": 2})
        late.append(lambda: task.update_state(task_id=job, meta={"current": 3}))

    late = []
    run(body)
    numbers = [result["seq"] for state, result in replies if state != "SUCCESS"]
    assert numbers == [SEQ_PER_ATTEMPT + 1, SEQ_PER_ATTEMPT + 2, SEQ_PER_ATTEMPT + 3]
    assert {result["attempt"] for state, result in replies if state == "PROGRESS"} == {1}
    with pytest.raises(ValueError, match="while the task runs"):
        in_thread(late[0])


@pytest.mark.parametrize("task_id", [None, "nightly"])
def test_a_task_without_a_job_is_not_sent(task_id):
    with pytest.raises(ValueError, match="start it with"):
        kinds()["count_primes"].apply_async(kwargs={"below": 1000}, task_id=task_id)
    with pytest.raises(ValueError, match="start it with"):
        kinds()["count_primes"].delay(below=1000)


def test_a_job_is_not_replaced_by_another_task(run, replies, caplog):
    def body(task):
        task.replace(task.si())

    run(body)
    assert states(replies) == ["STARTED", "FAILURE"]
    assert "return a result, or start another job" in caplog.text


def test_a_job_that_has_ended_is_passed_over(run, replies):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    job.end(State.REVOKED)
    job.save_end()
    run(lambda task: pytest.fail("it ran"), job)
    assert states(replies) == []


def test_a_task_without_a_job_is_passed_over(run, replies):
    run(lambda task: pytest.fail("it ran"), Job(id=uuid.uuid4()))
    assert states(replies) == []


def test_a_job_that_was_cancelled_while_no_worker_listened_does_not_begin(run, replies):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test", attempt=1, cancelled_at=timezone.now())
    run(lambda task: pytest.fail("it ran"), job)
    assert states(replies) == []


def test_a_receiver_of_another_app_may_set_ignored_on_a_delivery_that_ran_nothing(run, replies):
    outcomes = []

    def receiver(task, state, **kwargs):
        try:
            outcomes.append((state, task.update_state(state="IGNORED", meta="a duplicate")))
        except Exception as problem:
            outcomes.append((state, problem))

    task_postrun.connect(receiver)
    try:
        run(lambda task: pytest.fail("it ran"), Job(id=uuid.uuid4()))
    finally:
        task_postrun.disconnect(receiver)
    assert outcomes == [("IGNORED", None)]
    assert states(replies) == []


@pytest.fixture
def worker(monkeypatch) -> Worker:
    """The worker that runs the tasks of these tests."""
    worker = Worker.objects.create(host="w1@test", pool="prefork", slots=2)
    monkeypatch.setattr(Worker, "current_id", worker.pk)
    return worker


def test_a_duplicate_delivery_is_passed_over_and_says_nothing(run, replies, worker):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    assert Job.objects.begin(job.pk, worker.pk) == 1
    run(lambda task: pytest.fail("it ran"), job)
    assert states(replies) == []
    assert Job.objects.get().attempt == 1


def test_a_retry_gives_up_the_lease_before_it_is_sent(run, replies, worker, monkeypatch):
    leases = []
    monkeypatch.setattr(
        "celery.app.task.Task.apply_async", lambda self, *args, **options: leases.append(Job.objects.get().lease_id)
    )
    run(not_yet)
    job = Job.objects.get()
    assert leases == [None]
    assert (job.state, job.retries, job.reason) == ("RETRY", 1, "The server is busy.")
    assert job.retry_at > job.created_at


def test_a_retry_that_cannot_be_sent_is_left_to_the_sweep(run, replies, worker, monkeypatch):
    def refuse(self, *args, **options):
        raise ConnectionRefusedError

    monkeypatch.setattr("celery.app.task.Task.apply_async", refuse)
    run(not_yet)
    job = Job.objects.get()
    assert states(replies) == ["STARTED", "RETRY"]
    assert (job.state, job.lease_id, job.sent) == ("RETRY", None, False)


def test_an_attempt_that_is_not_the_current_one_any_more_is_not_retried(run, replies, worker, resent):
    def body(task):
        Job.objects.update(attempt=2)
        not_yet(task)

    run(body)
    assert resent == []
    assert Job.objects.get().lease_id == worker.pk


def test_an_attempt_whose_lease_another_worker_has_ends_without_a_word(run, replies, worker):
    def body(task):
        Job.objects.update(lease=uuid.uuid4())
        cancelled(task)

    run(body)
    assert states(replies) == ["STARTED"]


def cancelled(task):
    """What the worker does to a task that is being cancelled, or has reached its soft time limit."""
    task.request.stops += 1
    stop.heed(task.request)


def test_a_cancelled_task_says_so(run, replies):
    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        cancelled(task)

    run(body)
    assert states(replies) == ["STARTED", "REVOKED"]


def test_an_attempt_whose_main_process_is_dead_stops_without_a_word(run, replies, worker, monkeypatch):
    seen = []

    def body(task):
        for number in task.track(range(10)):
            seen.append(number)
            monkeypatch.setattr(stop, "parent", -1)  # not the parent of this process any more

    run(body)
    assert seen == [0]
    assert states(replies)[0] == "STARTED"
    assert set(states(replies)[1:]) == {"PROGRESS"}
    assert Job.objects.get().lease_id == worker.pk, "the sweep judges"


def test_a_signal_meant_for_another_job_starts_this_one_again(run, replies, caplog):
    job = run(cancelled)
    job.refresh_from_db()
    assert (job.state, job.lease_id) == ("RETRY", None), "the next delivery may begin it"
    assert job.reason == "Attempt 1 was stopped by a cancel that was meant for another job."
    assert "reject requeue=True" in caplog.text
    assert states(replies) == ["STARTED"]


@pytest.fixture
def signals(monkeypatch, tmp_path):
    """Signals as a child of the prefork pool takes them."""
    monkeypatch.setattr(stop, "targets", tmp_path)
    before = signal.signal(signal.SIGUSR1, partial(stop._on_signal, JobTask))
    yield tmp_path
    signal.signal(signal.SIGUSR1, before)


def test_a_signal_stops_the_job_that_it_is_meant_for_and_no_other(run, replies, signals):
    passed = []

    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        stop.signal_child(os.getpid(), str(uuid.uuid4()))  # of the job that this child ran before
        passed.append("another job's")
        stop.signal_child(os.getpid(), task.request.id)
        passed.append("its own")

    run(body)
    assert passed == ["another job's"]
    assert states(replies) == ["STARTED", "REVOKED"]
    assert list(signals.iterdir()) == [], "a later signal of the pool is not taken for this one"


def test_a_signal_that_the_pool_sends_for_a_time_limit_stops_the_job_too(run, replies, signals, clock):
    def body(task):
        clock[0] += 5
        os.kill(os.getpid(), signal.SIGUSR1)
        pytest.fail("it goes on")

    run(body, soft_time_limit=1)
    assert states(replies) == ["STARTED", "FAILURE"]


def test_a_time_limit_is_a_failure(run, replies, clock):
    def body(task):
        clock[0] += 1
        cancelled(task)

    run(body, soft_time_limit=1)
    assert states(replies) == ["STARTED", "FAILURE"]


def test_a_cancelled_job_is_revoked_though_it_has_a_time_limit(run, replies, clock):
    def body(task):
        clock[0] += 10
        Job.objects.update(cancelled_at=timezone.now())
        cancelled(task)

    run(body, soft_time_limit=1)
    assert states(replies) == ["STARTED", "REVOKED"]


def test_a_task_may_say_itself_that_it_took_too_long(run, replies):
    def body(task):
        raise SoftTimeLimitExceeded

    run(body)
    assert sentence(replies[-1][1]) == TOO_LONG


def test_a_cancelled_job_is_revoked_whatever_its_task_makes_of_the_stop(run, replies, resent):
    for problem in (ValueError(), TryAgain("Later."), SystemExit()):

        def body(task, problem=problem):
            Job.objects.update(cancelled_at=timezone.now())
            try:
                cancelled(task)
            except stop.Stopped:
                raise problem from None

        run(body)
        assert replies[-1][0] == "REVOKED"


def test_a_task_has_the_last_word_on_its_time_limit(run, replies, clock):
    def body(task):
        clock[0] += 1
        try:
            cancelled(task)
        except SoftTimeLimitExceeded:
            raise JobError("Half of it is done.") from None

    run(body, soft_time_limit=1)
    assert sentence(replies[-1][1]) == "Half of it is done."


@pytest.mark.parametrize("change", ["ended", "deleted", "another attempt"])
def test_an_attempt_that_is_not_wanted_any_more_ends_without_a_word(run, replies, change):
    def body(task):
        jobs = Job.objects.filter(pk=task.request.id)
        if change == "ended":
            jobs.update(state=State.SUCCESS, finished_at=timezone.now())
        elif change == "deleted":
            jobs.delete()
        else:
            jobs.update(attempt=2)
        cancelled(task)

    run(body)
    assert states(replies) == ["STARTED"]


def test_a_stop_waits_for_the_database(run, replies, monkeypatch):
    outages = [OperationalError("away"), InterfaceError("closed")]
    first = QuerySet.first

    def flaky(query):
        if outages:
            raise outages.pop()
        return first(query)

    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        monkeypatch.setattr(QuerySet, "first", flaky)
        cancelled(task)

    monkeypatch.setattr("livejobs.outage.RETRY_AFTER", 0)
    monkeypatch.setattr("livejobs.outage.connections.close_all", lambda: None)
    run(body)
    assert (states(replies), outages) == (["STARTED", "REVOKED"], [])


def test_in_a_pool_without_signals_a_task_is_stopped_at_its_next_report(run, replies):
    for report_ in (lambda task: list(task.track("abc")), lambda task: task.update_state(state="PROGRESS")):

        def body(task, report_=report_):
            Job.objects.update(cancelled_at=timezone.now())
            assert stop.ask(task.request.id)
            report_(task)
            pytest.fail("it goes on")

        job = run(body)
        assert replies[-1][0] == "REVOKED"
        assert not stop.ask(str(job.pk)), "it has ended"
    assert stop.attempts == {}


def test_a_loop_that_swallows_the_stop_is_stopped_at_its_next_look(run, replies, clock):
    done = []

    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        for number in task.track(range(100)):
            clock[0] += 1
            done.append(number)
            try:
                cancelled(task)
            except Exception:
                continue

    run(body)
    assert (done, replies[-1][0]) == ([0], "REVOKED")


def test_a_stopped_task_may_report_while_it_cleans_up(run, replies):
    def body(task):
        Job.objects.update(cancelled_at=timezone.now())
        try:
            stop.ask(task.request.id)
            list(task.track("abc"))
        finally:
            list(task.track("de"))
            task.update_state(state="PROGRESS", meta={"description": "tidied"})

    run(body)
    assert [result.get("description") for state, result in replies if state == "PROGRESS"][-1] == "tidied"
    assert "REVOKED" in states(replies)


def test_a_job_waits_for_the_database(run, replies, monkeypatch):
    outages = iter([OperationalError("away"), InterfaceError("closed"), None])
    begin = Job.objects.begin

    def flaky(*arguments):
        if problem := next(outages):
            raise problem
        return begin(*arguments)

    monkeypatch.setattr(Job.objects, "begin", flaky)
    monkeypatch.setattr("livejobs.outage.RETRY_AFTER", 0)
    monkeypatch.setattr("livejobs.outage.connections.close_all", lambda: None)
    run(lambda task: 1)
    assert states(replies) == ["STARTED", "SUCCESS"]


def test_reports_come_at_most_so_often(run, replies, clock):
    def loop(task):
        for _ in task.track(range(1000)):
            clock[0] += 0.001

    run(loop)
    assert REPORTS_PER_SECOND - 5 <= len(percentages(replies)) <= REPORTS_PER_SECOND + 2


def test_reports_without_a_loop_come_at_most_so_often_and_the_last_is_always_told(run, replies, clock):
    def body(task):
        for number in range(1000):
            clock[0] += 0.001
            task.report(number, 999, "counting")

    run(body)
    assert REPORTS_PER_SECOND - 5 <= len(percentages(replies)) <= REPORTS_PER_SECOND + 2
    assert reported(replies)[-1] == (999, 999, "counting", None)


def test_a_new_description_is_told_at_once(run, replies, clock):
    def body(task):
        list(task.track(range(3), description="reading"))
        task.report(0, 2, "sorting")
        next(iter(task.track(range(3), description="writing")))
        assert [said for _, _, said, _ in reported(replies)] == ["reading", "sorting", "writing"]
        assert [one["expiration"] for state, one in replies if state == "PROGRESS"] == [None] * 3

    run(body)


def test_new_descriptions_in_quick_succession_stay_within_the_rate(run, replies, clock):
    def body(task):
        for number in range(10_000):
            clock[0] += 0.001
            task.report(number, 10_000, f"item {number}")

    run(body)
    assert len(percentages(replies)) <= 10 * REPORTS_PER_SECOND + report.EARLY_REPORTS + 2


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


@pytest.mark.parametrize(
    ("current", "total", "shown"), [("2", Decimal(4), (2, 4)), ("two", 0, (None, 0)), (3, None, (3, None))]
)
def test_reports_without_a_loop_are_cleaned(run, replies, caplog, current, total, shown):
    run(lambda task: task.report(current, total, "a\0b"))
    assert reported(replies)[0] == (*shown, "ab", None)
    assert ("is no finite number" in caplog.text) == (current == "two")


def test_a_slow_stretch_after_a_quick_one_is_not_silent(run, replies, clock):
    def loop(task):
        for number in task.track(itertools.chain(range(100_000)), total=100_040):
            clock[0] += 0.000_01 if number < 50_000 else 0.01

    run(loop)
    slow = [current for current in percentages(replies) if current > 50_000]
    assert len(slow) > 8_000
    assert max(b - a for a, b in itertools.pairwise(slow)) <= track.MOST_UNLOOKED


def test_a_loop_in_a_loop_stays_within_the_rate(run, replies, clock):
    def loops(task):
        for _ in range(1000):
            list(task.track(range(3)))

    run(loops)
    assert len(percentages(replies)) == 2


def test_a_second_loop_does_not_take_the_percentage_back(run, replies, clock):
    def loops(task):
        for total in (4, 10, 2):
            for _ in task.track(range(total)):
                clock[0] += 1
        task.update_state(state="PROGRESS", meta={"current": -5, "total": 10})

    run(loops)
    reached = [result["reached"] for state, result in replies if state == "PROGRESS"]
    assert reached == sorted(reached)
    assert (reached[0], reached[-1]) == (0, 100)


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
    kinds()["count_primes"].apply_async(kwargs={"below": 1000}, task_id=str(uuid.uuid4()))
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
    assert (replies[-1][0], sentence(replies[-1][1])) == ("RETRY", ASKED)
    assert resent[-1]["countdown"] == 60
    run(body, retries=1)
    assert replies[-1][0] == "FAILURE"


def test_a_reply_names_its_attempt(published, resent):
    job = Job.objects.create(owner="visitor-1", kind="test", title="A test", attempt=2)
    task = current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}")(not_yet)
    request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
    build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)
    assert [(body["status"], body["attempt"]) for body in published] == [("STARTED", 3), ("RETRY", 3)]
    reply = Reply.of(published[-1])
    assert (reply.state, reply.attempt, reply.error) == ("RETRY", 3, "The server is busy.")
    assert published[0]["result"]["seq"] < reply.seq < 4 * SEQ_PER_ATTEMPT - 1


@pytest.mark.parametrize("way", ["track", "update_state"])
def test_an_end_says_how_far_its_attempt_has_come(published, way, clock):
    def body(task):
        if way == "track":
            for number in task.track(range(8), description="counting"):
                clock[0] += 1
                if number == 3:
                    raise ValueError
        task.update_state(state="PROGRESS", meta={"current": 3, "total": 8, "description": "counting"})
        with pytest.raises(ValueError, match="leave task_id out"):
            task.update_state("another job's", "PROGRESS", {"current": 5})
        raise ValueError

    job = Job.objects.create(owner="visitor-1", kind="test", title="A test")
    task = current_app.task(base=JobTask, bind=True, name=f"test-{uuid.uuid4()}")(body)
    request = {"id": str(job.pk), "reply_to": REPLY_QUEUE.name, "delivery_info": {}}
    build_tracer(task.name, task, app=current_app._get_current_object())(str(job.pk), (), {}, request)
    assert published[-1]["status"] == "FAILURE"
    assert published[-1]["latest"] == {
        "current": 3,
        "total": 8,
        "reached": 37.5,
        "description": "counting",
        "stage": None,
    }


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
    assert len(tried) <= 400 * 0.1 / report.UNHEARD + 1, "each try may wait for the broker"
    assert percentages(replies)[-1] == 1000
    assert 500 < percentages(replies)[105] < 540
    assert replies[-1] == ("SUCCESS", "done")
