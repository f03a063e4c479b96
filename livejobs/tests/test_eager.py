"""Celery's eager mode: a job has ended in its row once it is started."""

from types import SimpleNamespace

import pytest
from celery import current_app, shared_task
from django.test import Client

from conftest import Socket
from livejobs import jobs, terminal
from livejobs import task as task_module
from livejobs.jobs import kinds
from livejobs.models import Job
from livejobs.outcome import FAILED
from livejobs.task import TryAgain
from testkit.screen import Screen


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Whatever is sent to a broker is an error."""
    monkeypatch.setattr("kombu.messaging.Producer.publish", lambda *args, **kwargs: pytest.fail("it was published"))


@pytest.fixture
def conf():
    """Celery's settings, which are put back."""
    names = ("task_always_eager", "task_store_eager_result")
    before = {name: current_app.conf[name] for name in names}
    yield current_app.conf
    current_app.conf.update(before)


@pytest.fixture
def eager(monkeypatch, conf):
    """What a project has in its tests: CELERY_TASK_ALWAYS_EAGER."""
    conf.task_always_eager = True
    monkeypatch.setattr(task_module.time, "sleep", lambda seconds: pytest.fail("it waits"))


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_job_has_ended_once_it_is_started(eager):
    job = jobs.start("visitor-1", "count_primes", {"below": 1000})
    assert (job.state, job.result) == ("SUCCESS", 168)
    row = Job.objects.get()
    assert (row.state, row.result, row.attempt, row.sent) == ("SUCCESS", 168, 1, True)
    assert kinds()["count_primes"].AsyncResult(str(job.pk)).state == "SUCCESS"


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_failure_ends_in_its_row_and_does_not_come_out(eager, new_kind):
    def fails(task):
        raise ValueError("secret")

    new_kind(fails)
    job = jobs.start("visitor-1", "fails", {})
    assert (job.state, job.error) == ("FAILURE", FAILED)


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_job_is_tried_again_at_once(eager, new_kind):
    def busy(task):
        if task.request.retries < 2:
            raise TryAgain("The server is busy.")
        return "done"

    new_kind(busy)
    job = jobs.start("visitor-1", "busy", {})
    assert (job.state, job.attempt, job.reason) == ("SUCCESS", 3, "The server is busy.")


@pytest.mark.django_db
def test_in_eager_mode_a_job_begins_on_commit(eager, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        job = jobs.start("visitor-1", "count_primes", {"below": 1000})
        assert Job.objects.get().state == "PENDING"
    assert job.state == Job.objects.get().state == "SUCCESS"


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_job_may_start_another(eager, new_kind):
    def starts(task):
        return jobs.start("visitor-1", "count_primes", {"below": 1000}).result

    new_kind(starts)
    assert jobs.start("visitor-1", "starts", {}).result == 168
    assert set(Job.objects.values_list("kind", "state")) == {("starts", "SUCCESS"), ("count_primes", "SUCCESS")}


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_nothing_is_sent_to_a_broker_for_a_change(eager):
    job = Job.objects.create(owner="visitor-1", kind="count_primes", title="Primes")
    assert jobs.cancel("visitor-1", job.pk).state == "REVOKED"
    job.delete()


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_task_without_a_job_is_refused_as_elsewhere(eager):
    with pytest.raises(ValueError, match="start it with"):
        kinds()["count_primes"].delay(below=1000)


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_other_tasks_are_celerys(eager):
    @shared_task(name="tests.plain")
    def plain():
        return 7

    assert plain.delay().get() == 7
    current_app.tasks.pop("tests.plain")


async def test_in_eager_mode_open_sockets_are_told(eager, socket, owner: Client):
    page: Socket = await socket(client=owner)
    await page.send(type="start", kind="count_primes", params={"below": 1000})
    assert (await page.until(state="SUCCESS"))["result"] == 168


@pytest.mark.django_db(transaction=True)
def test_in_eager_mode_a_job_is_drawn_in_the_terminal(eager, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    screen = Screen()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=screen))
    jobs.start("visitor-1", "count_primes", {"below": 1000})
    assert screen.drawn[-1].startswith("Primes below 1000: 100%|")
    assert screen.getvalue().count("\n") == 1


def test_apply_stores_nothing_whatever_the_project_stores_of_its_own_tasks(new_kind, conf):
    conf.task_store_eager_result = True

    def stored(task):
        return 1

    assert new_kind(stored).apply().get() == 1
