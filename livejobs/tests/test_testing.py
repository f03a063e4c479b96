"""The test kit: a job runs in the test, and its row, its snapshots and its end are those of production."""

import json
import threading

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django import forms

from livejobs import jobs
from livejobs import task as task_module
from livejobs.jobs import Refused
from livejobs.models import Job
from livejobs.outcome import FAILED, TOO_LONG, UNSTORABLE
from livejobs.task import JobError, TryAgain
from livejobs.testing import assert_truthful


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Whatever is sent to a broker is an error."""

    def refuse(*args, **kwargs):
        pytest.fail("something was sent to a broker")

    monkeypatch.setattr("kombu.messaging.Producer.publish", refuse)
    monkeypatch.setattr("kombu.Connection.ensure_connection", refuse)


def states(job) -> list[str]:
    return [one["state"] for one in job.snapshots]


def row(job) -> tuple:
    return Job.objects.values_list("state", "result", "error", "attempt").get(pk=job.pk)


def test_a_job_runs_to_its_end_and_its_row_says_so(run_job):
    job = run_job("count_primes", below=1000)
    assert row(job) == ("SUCCESS", 168, "", 1)
    assert (job.state, job.result, job.percent, job.title) == ("SUCCESS", 168, 100, "Primes below 1000")
    assert job.started_at <= job.finished_at
    assert job.exception is None


def test_every_snapshot_that_a_watcher_would_have_been_shown_is_kept(run_job):
    job = run_job("count_primes", below=1000)
    assert states(job) == ["PENDING", "STARTED", "PROGRESS", "PROGRESS", "SUCCESS"]
    assert [one["percent"] for one in job.snapshots] == [None, None, 0, 100, 100]
    assert job.snapshots[-1] == json.loads(json.dumps(job.snapshot()))
    assert_truthful(job.snapshots)


def test_the_form_checks_the_parameters(run_job):
    for params, field in (({"below": "many"}, "below"), ({"above": 1}, "above")):
        with pytest.raises(Refused) as refused:
            run_job("count_primes", **params)
        assert (refused.value.code, refused.value.field) == ("bad_params", field)
    assert Job.objects.count() == 0


def test_a_kind_is_known_though_only_the_site_starts_it(run_job):
    assert run_job("welcome_email", user_id=1).error == "The e-mail could not be sent: there is no such user any more."
    with pytest.raises(Refused, match=r"Known: .*welcome_email"):
        run_job("unknown")


def test_the_owner_is_a_visitor_of_the_test_unless_given(run_job):
    one, other = (run_job("count_primes", below=1000) for _ in range(2))
    assert one.owner.startswith("visitor-")
    assert one.owner != other.owner
    assert run_job("count_primes", owner="user-7", below=1000).owner == "user-7"


def test_an_exception_ends_the_job_with_the_visitors_sentence_and_is_there_for_the_test(run_job, new_kind):
    def fails(task):
        task.update_state(meta={"current": 4, "total": 10})
        raise ValueError("secret")

    new_kind(fails)
    job = run_job("fails")
    assert row(job) == ("FAILURE", None, FAILED, 1)
    assert isinstance(job.exception, ValueError)
    assert (str(job.exception), job.percent) == ("secret", 40)
    assert "secret" in job.traceback
    assert "secret" not in json.dumps(job.snapshots)
    assert_truthful(job.snapshots)


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (JobError("A sentence."), "A sentence."),
        (MemoryError(), "This job needed more memory than it could have."),
        (SystemExit(3), "This job ended itself without a result."),
        (SoftTimeLimitExceeded(), TOO_LONG),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exception_is_the_one_that_the_task_has_raised(run_job, new_kind, problem, error):
    def fails(task):
        raise problem

    new_kind(fails)
    job = run_job("fails")
    assert (job.state, job.error, job.exception) == ("FAILURE", error, problem)


def test_a_result_that_no_row_can_hold_is_a_failure(run_job, new_kind):
    def unstorable(task):
        return object()

    new_kind(unstorable)
    job = run_job("unstorable")
    assert (job.state, job.error) == ("FAILURE", UNSTORABLE)
    assert isinstance(job.exception, TypeError)


def test_ctrl_c_ends_the_test_and_not_only_the_job(run_job, new_kind):
    def interrupted(task):
        raise KeyboardInterrupt

    new_kind(interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job("interrupted")
    assert Job.objects.get().state == "FAILURE"


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(task_module.time, "sleep", lambda seconds: pytest.fail("it waits"))


def test_a_job_is_tried_again_without_waiting(run_job, new_kind, no_waiting):
    def busy(task):
        for _ in task.track("abc"):
            if task.request.retries < 2:
                raise TryAgain("The server is busy.")
        return "done"

    new_kind(busy)
    job = run_job("busy")
    assert row(job) == ("SUCCESS", "done", "", 3)
    assert (job.retries, job.exception) == (2, None)
    assert states(job).count("RETRY") == 2
    retry = next(one for one in job.snapshots if one["state"] == "RETRY")
    assert (retry["error"], retry["retry_at"] is not None) == ("The server is busy.", True)
    assert job.snapshots[-1]["attempt_reason"] == "The server is busy."
    assert_truthful(job.snapshots)


def test_the_last_failure_ends_a_job_that_is_tried_again(run_job, new_kind, no_waiting):
    def busy(task):
        raise TryAgain(f"Busy {task.request.retries}.")

    new_kind(busy)
    job = run_job("busy")
    assert row(job) == ("FAILURE", None, "Busy 3.", 4)
    assert isinstance(job.exception, TryAgain)
    assert_truthful(job.snapshots)


def test_a_retry_may_change_the_arguments(run_job, new_kind, no_waiting):
    def smaller(task, size=4):
        if size > 1:
            raise task.retry(kwargs={"size": size // 2}, countdown=60)
        return size

    new_kind(smaller)
    assert row(run_job("smaller")) == ("SUCCESS", 1, "", 3)


def test_a_task_gets_its_parameters_as_a_worker_would(run_job, new_kind):
    class Form(forms.Form):
        count = forms.IntegerField(initial=3)
        names = forms.MultipleChoiceField(choices=[("a", "A"), ("b", "B")])

    def shown(task, count, names):
        return {"count": count, "names": names, "id": task.request.id}

    new_kind(shown, form=Form, title="{count} names")
    job = run_job("shown", names=["a", "b"])
    assert job.result == {"count": 3, "names": ["a", "b"], "id": str(job.pk)}
    assert job.title == "3 names"


def test_a_thread_of_the_task_reports_too(run_job, new_kind):
    def threaded(task):
        job, problems = task.request.id, []

        def work():
            task.update_state(task_id=job, meta={"current": 1, "total": 2})
            try:
                list(task.track("abc"))
            except ValueError as problem:
                problems.append(str(problem))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return problems

    new_kind(threaded)
    job = run_job("threaded")
    assert "call update_state with the task_id" in job.result[0]
    assert [one["percent"] for one in job.snapshots] == [None, None, 50, 100]
    assert_truthful(job.snapshots)


def test_a_job_that_ended_while_it_ran_stays_so(run_job, new_kind):
    def cancels_itself(task):
        mine = Job.objects.get(pk=task.request.id)
        jobs.cancel(mine.owner, mine.pk)
        return "done"

    new_kind(cancels_itself)
    job = run_job("cancels_itself")
    assert row(job) == ("REVOKED", None, "", 1)
    assert job.exception is None


def test_a_job_may_call_another_task_as_a_function(run_job, new_kind):
    def inner(task, numbers):
        return sum(task.track(numbers))

    inner_task = new_kind(inner)

    def outer(task):
        return [inner_task.run([1, 2]) for _ in task.track("ab")]

    new_kind(outer)
    job = run_job("outer")
    assert job.result == [3, 3]
    assert_truthful(job.snapshots)


def test_a_task_that_calls_itself_goes_on_with_its_attempt(run_job, new_kind):
    def countdown(task, number=3):
        task.update_state(meta={"current": 3 - number, "total": 3})
        return [number, *task(number - 1)] if number else []

    new_kind(countdown)
    job = run_job("countdown")
    assert (job.result, job.attempt) == ([3, 2, 1], 1)
    assert_truthful(job.snapshots)


SNAPSHOT = {"task_id": "1", "state": "PROGRESS", "seq": 1, "attempt": 1, "percent": 10, "attempt_reason": None}
END = {"state": "SUCCESS", "seq": 9, "percent": 100}


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([{}, {"seq": 2, "percent": 20}, END], None),
        ([{}, {"seq": 2, "attempt": 2, "percent": None, "attempt_reason": "Busy."}, END | {"attempt": 2}], "Not told"),
        ([{}, {"seq": 1}, END], "seq does not grow"),
        ([{}, {"seq": 2, "percent": 9.9}, END], "The percentage falls"),
        ([{}, {"seq": 2, "percent": None}, END], "The percentage falls"),
        ([{"attempt": 2, "attempt_reason": "Busy."}, {"seq": 2}, END], "An earlier attempt"),
        ([END, {"seq": 10}], "after the end"),
        ([END, END | {"seq": 10}], "after the end"),
        ([{}, END | {"task_id": "2"}], "two jobs"),
        ([{}, END | {"percent": 99}], "not at 100 %"),
        ([{}], "There is no end: the last was PROGRESS at 10 %"),
        ([], "There is no end"),
    ],
    ids=[
        "truthful",
        "attempt without a reason",
        "same seq",
        "falling",
        "unknown again",
        "earlier attempt",
        "news after the end",
        "two ends",
        "two jobs",
        "success at 99 %",
        "no end",
        "nothing",
    ],
)
def test_a_history_is_held_against_the_rules(history, problem):
    snapshots = [SNAPSHOT | one for one in history]
    if problem is None:
        assert_truthful(snapshots)
    else:
        with pytest.raises(AssertionError, match=problem):
            assert_truthful(snapshots)


@pytest.mark.parametrize("nested", [False, True], ids=["a loop", "a loop within a loop"])
def test_a_quick_loop_that_an_exception_leaves_keeps_what_it_has_reached(run_job, new_kind, nested):
    """The clock had been looked at after the first item only: 10 %."""

    def body(task):
        for number in task.track(range(10)):
            for _ in task.track(range(2)) if nested else ():
                pass
            if number == 4:
                raise JobError("Four is too much.")

    new_kind(body)
    job = run_job("body")
    assert (job.state, job.percent) == ("FAILURE", 50 if nested else 40)
    assert job.snapshots[-1]["percent"] == job.percent


def test_a_loop_that_is_left_by_a_break_tells_where(run_job, new_kind):
    def body(task):
        for number in task.track(range(10)):
            if number == 4:
                break
        raise JobError("It was left.")

    new_kind(body)
    assert run_job("body").percent == 40
