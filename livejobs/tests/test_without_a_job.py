"""Tasks that run without a job: called as functions, or by Celery's `apply`."""

import threading

import pytest

from livejobs.jobs import kinds
from livejobs.models import Worker
from livejobs.task import TryAgain


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Whatever is sent to a broker is an error."""
    monkeypatch.setattr("kombu.messaging.Producer.publish", lambda *args, **kwargs: pytest.fail("it was published"))


#: Ways to run a task without a job.
CALLS = {
    "run": lambda task, *args: task.run(*args),
    "call": lambda task, *args: task(*args),
    "apply": lambda task, *args: task.apply(args).get(),
}


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def test_a_task_runs_without_a_job_and_its_reports_go_nowhere(call, new_kind):
    def doubles(task, numbers):
        task.update_state(state="PROGRESS", meta={"current": 1, "total": 2, "description": "first half"})
        task.update_state(task_id=task.request.id, meta={"current": 2})
        return [2 * number for number in task.track(numbers)]

    assert call(new_kind(doubles), [1, 2, 3]) == [2, 4, 6]


def test_the_sites_own_task_runs_without_a_job(call):
    assert call(kinds()["count_primes"], 1000) == 168


def test_a_report_that_a_worker_would_refuse_is_refused_without_a_job_too(call, new_kind):
    def ends_itself(task):
        task.update_state(state="SUCCESS")

    with pytest.raises(ValueError, match="return the result"):
        call(new_kind(ends_itself))


def test_an_exception_comes_out_as_it_is(call, new_kind):
    def fails(task):
        raise TryAgain("The server is busy.")

    with pytest.raises(TryAgain, match="The server is busy"):
        call(new_kind(fails))


def test_apply_tries_again_as_celery_does(new_kind):
    def busy(task):
        if task.request.retries < 2:
            raise TryAgain("The server is busy.")
        return task.request.retries

    result = new_kind(busy).apply()
    assert (result.state, result.get()) == ("SUCCESS", 2)


def test_in_a_worker_a_thread_without_a_job_is_told_so(new_kind, monkeypatch):
    monkeypatch.setattr(Worker, "current_id", "a worker")

    def tracks(task):
        return list(task.track("ab"))

    task, problems = new_kind(tracks), []

    def work():
        try:
            task.run()
        except ValueError as problem:
            problems.append(str(problem))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "There is no job to report for" in problems[0]
