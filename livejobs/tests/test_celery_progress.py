"""The names of celery-progress: the same calls report, and the same JSON is answered, from a job's row."""

import uuid
from datetime import timedelta

import pytest
from celery import current_app
from django.urls import include, path, reverse
from django.utils import timezone

from livejobs.contrib.celery_progress import ProgressRecorder, info_of
from livejobs.models import SEQ_PER_ATTEMPT, Job, State
from livejobs.task import JobTask

pytestmark = pytest.mark.urls(__name__)
urlpatterns = [
    path("celery-progress/", include("livejobs.contrib.celery_progress_urls")),
    path("job-progress/", include("livejobs.contrib.celery_progress_urls", namespace="job_progress")),
    path("", include("CeleryProgressbar.urls")),
]


def recorder(monkeypatch, base, method):
    """Return a recorder on a new task, and the list of calls that its reports become."""

    def body(task):
        """Do nothing."""

    calls = []
    task = current_app.task(base=base, bind=True, name=f"test-{uuid.uuid4()}")(body)
    monkeypatch.setattr(task, method, lambda *args, **kwargs: calls.append(args or kwargs))
    return ProgressRecorder(task), calls


def test_a_job_reports_at_its_own_rate(monkeypatch):
    progress, calls = recorder(monkeypatch, JobTask, "report")
    progress.set_progress(1, 4, "reading")
    progress.increment_progress(2)
    progress.increment_progress(description="writing")
    assert calls == [(1, 4, "reading"), (3, 4, ""), (4, 4, "writing")]
    assert (progress.current, progress.total, progress.description) == (4, 4, "writing")


def test_an_unknown_total_of_a_job_stays_unknown(monkeypatch):
    progress, calls = recorder(monkeypatch, JobTask, "report")
    progress.increment_progress()
    assert calls == [(1, None, "")]


def test_any_other_task_reports_each_time_to_the_projects_backend(monkeypatch):
    progress, calls = recorder(monkeypatch, current_app.Task, "update_state")
    state, meta = progress.set_progress(1, 3, "reading")
    progress.increment_progress()
    assert (state, meta) == ("PROGRESS", calls[0]["meta"])
    assert calls == [
        {"state": "PROGRESS", "meta": progress_of(1, 3, 33.33, "reading")},
        {"state": "PROGRESS", "meta": progress_of(2, 3, 66.67)},
    ]
    assert {type(call["state"]) for call in calls} == {str}


def progress_of(current, total, percent, description="", *, pending=False) -> dict:
    return {
        "pending": pending,
        "current": current,
        "total": total,
        "percent": percent,
        "description": description,
    }


def job_that(**fields) -> Job:
    return Job(**{"owner": "visitor-1", "kind": "test", "title": "A test", "current": 3, "total": 4} | fields)


def ended(state, **end) -> Job:
    job = job_that(reached=75)
    job.end(state, **end)
    return job


def going_on(state, progress):
    return {"state": state, "complete": False, "success": None, "progress": progress}


def complete(state, result, progress):
    return {"state": state, "complete": True, "success": state == "SUCCESS", "progress": progress, "result": result}


@pytest.mark.parametrize(
    ("job", "info"),
    [
        pytest.param(
            job_that(current=None, total=None), going_on("PENDING", progress_of(0, 100, 0, pending=True)), id="waits"
        ),
        pytest.param(
            job_that(state=State.STARTED, current=None, total=None),
            going_on("STARTED", progress_of(0, 100, 0)),
            id="has begun",
        ),
        pytest.param(
            job_that(state=State.PROGRESS, description="reading"),
            going_on("PROGRESS", progress_of(3, 4, 75, "reading")),
            id="reports",
        ),
        pytest.param(
            job_that(state=State.PROGRESS, current=7, total=None),
            going_on("PROGRESS", progress_of(7, 0, 0)),
            id="total unknown",
        ),
        pytest.param(
            job_that(state=State.PROGRESS, current=1, total=8, reached=75),
            going_on("PROGRESS", progress_of(1, 8, 75)),
            id="second loop",
        ),
        pytest.param(
            ended(State.SUCCESS, result={"rows": 2**60}),
            complete("SUCCESS", {"rows": str(2**60)}, progress_of(4, 4, 100)),
            id="success",
        ),
        pytest.param(
            ended(State.FAILURE, error="The file is empty.", traceback="secret"),
            complete("FAILURE", "The file is empty.", progress_of(3, 4, 75)),
            id="failure",
        ),
        pytest.param(ended(State.REVOKED), complete("REVOKED", "Task revoked", progress_of(3, 4, 75)), id="revoked"),
        pytest.param(
            job_that(state=State.RETRY, reason="The server is busy.", retry_at=timezone.now() - timedelta(hours=1)),
            complete("RETRY", {"next_retry_seconds": 0, "message": "The server is busy."}, progress_of(3, 4, 75)),
            id="retry that is due",
        ),
        pytest.param(
            job_that(state=State.RETRY, error="The worker was lost."),
            complete(
                "RETRY", {"next_retry_seconds": "Unknown", "message": "The worker was lost."}, progress_of(3, 4, 75)
            ),
            id="lost worker",
        ),
    ],
)
def test_the_json_is_that_of_celery_progress(job, info):
    assert info_of(job) == info


def test_a_retry_says_in_how_many_seconds():
    job = job_that(state=State.RETRY, retry_at=timezone.now() + timedelta(hours=1))
    assert 3000 < info_of(job)["result"]["next_retry_seconds"] <= 3600


def test_the_owner_of_a_job_reads_it_under_the_name_that_pages_know(owner):
    job = Job.objects.create(
        owner=owner.owner, kind="test", title="A test", state=State.PROGRESS, current=1, total=2, seq=SEQ_PER_ATTEMPT
    )
    answer = owner.get(reverse("celery_progress:task_status", args=[job.pk]))
    assert answer.json() == going_on("PROGRESS", progress_of(1, 2, 50))
    assert answer["Content-Type"] == "application/json"
    assert "no-store" in answer["Cache-Control"]


def test_the_address_may_have_a_namespace_of_its_own_beside_celery_progress():
    assert reverse("job_progress:task_status", args=[uuid.UUID(int=1)]).startswith("/job-progress/")
    assert reverse("celery_progress:task_status", args=[uuid.UUID(int=1)]).startswith("/celery-progress/")


def test_nobody_else_learns_of_a_job(owner, another_user, stranger):
    job = Job.objects.create(owner=owner.owner, kind="test", title="A test", description="secret")
    address = reverse("celery_progress:task_status", args=[job.pk])
    for client in (another_user, stranger):
        answer = client.get(address)
        assert (answer.status_code, b"secret" in answer.content) == (404, False)


@pytest.mark.parametrize("task_id", ["nightly", str(uuid.UUID(int=1)), "%00"])
def test_an_id_of_no_job_is_not_found(owner, task_id):
    assert owner.get(f"/celery-progress/{task_id}/").status_code == 404


def test_the_address_of_a_job_changes_nothing(owner):
    job = Job.objects.create(owner=owner.owner, kind="test", title="A test")
    assert owner.post(reverse("celery_progress:task_status", args=[job.pk])).status_code == 405
