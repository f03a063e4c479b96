"""celery-progress' ProgressRecorder and its view, for jobs: a project that uses it changes its imports.

See docs/from-celery-progress.md.
"""

import math
from typing import Any

from celery import Task
from django.http import Http404, HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from livejobs.jobs import Refused, job_of
from livejobs.models import Job, State, percent_of
from livejobs.owner import owner_of_request
from livejobs.reply import number
from livejobs.report import ReportingTask


class ProgressRecorder:
    """Reports how far a task has come, with the names that celery-progress has for it.

    A job reports at the rate of `JobTask.report`. Any other Celery task reports each time, to the project's result
    backend, as with celery-progress.

    Args:
        task: the bound task that runs.
    """

    current: float = 0
    total: float = 0
    description: str = ""

    def __init__(self, task: Task) -> None:
        self.task = task

    def set_progress(self, current: float, total: float, description: str = "") -> tuple[str, dict[str, Any]]:
        """Report how far the task has come.

        Args:
            current: steps done.
            total: steps in all; 0 while unknown.
            description: what is being done, in words.

        Returns:
            The state and the `meta` of the report.

        Raises:
            ValueError: the task is a job's, and it does not run in this thread.
            celery.exceptions.SoftTimeLimitExceeded: the job has been told to stop, in another pool than prefork.
        """
        self.current, self.total = current, total
        self.description = description or self.description
        meta = _progress(current, total, percent_of(number(current), number(total)) or 0, description)
        if isinstance(self.task, ReportingTask):
            self.task.report(current, total or None, description)
        else:
            self.task.update_state(state=State.PROGRESS.value, meta=meta)
        return State.PROGRESS.value, meta

    def increment_progress(self, by: float = 1, description: str = "") -> None:
        """Report that more steps are done.

        Args:
            by: how many.
            description: what is being done, in words.

        Raises:
            ValueError: see `set_progress`.
            celery.exceptions.SoftTimeLimitExceeded: see `set_progress`.
        """
        self.set_progress(self.current + by, self.total, description)


@require_safe
@never_cache
def get_progress(request: HttpRequest, task_id: str) -> JsonResponse:
    """Answer the progress of a job to its owner, in the JSON that the script of celery-progress polls.

    Args:
        request: its user or its session is the owner.
        task_id: the job's id.

    Raises:
        Http404: the owner of the request has no such job.
    """
    try:
        job = job_of(owner_of_request(request), task_id)
    except Refused as refused:
        raise Http404(refused.detail) from None
    return JsonResponse(info_of(job))


def info_of(job: Job) -> dict[str, Any]:
    """Return what celery-progress' `Progress.get_info` returns of a task.

    It differs in one thing: a job that has failed, was cancelled or waits for a retry keeps the percentage it reached.

    Args:
        job: as its row is. A percentage in a row is up to a second old.
    """
    info: dict[str, Any] = {"state": str(job.state), "complete": False, "success": None}
    if job.state in (State.PENDING, State.STARTED):
        return {**info, "progress": {**_progress(0, 100, 0), "pending": job.state == State.PENDING}}
    info["progress"] = _progress(job.current or 0, job.total or 0, job.percent or 0, job.description)
    if job.state == State.PROGRESS:
        return info
    # A retry counts as complete there too: the script shows the message, and goes on polling.
    return {**info, "complete": True, "success": job.state == State.SUCCESS, "result": _result(job)}


def _result(job: Job) -> Any:
    if job.state == State.SUCCESS:
        return job.snapshot()["result"]
    if job.state == State.REVOKED:
        return "Task revoked"
    if job.state == State.FAILURE:
        return job.error
    wait = (job.retry_at - timezone.now()).total_seconds() if job.retry_at else None
    seconds = "Unknown" if wait is None else max(math.ceil(wait), 0)
    return {"next_retry_seconds": seconds, "message": job.error or job.reason}


def _progress(current: float, total: float, percent: float, description: str = "") -> dict[str, Any]:
    return {
        "pending": False,
        "current": current,
        "total": total,
        "percent": percent,
        "description": description,
    }
