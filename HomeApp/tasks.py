"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from functools import partial
from typing import Any

from celery import shared_task
from django.utils import timezone

from HomeApp import exports, files, primes, workbook
from HomeApp.forms import CountPrimesForm, ExportJobsForm
from HomeApp.models import Job
from HomeApp.progress import JobError, JobTask


@shared_task(base=JobTask, bind=True, form=CountPrimesForm, title="Primes below {below}")
def count_primes(self: JobTask, below: int) -> int:
    """Count the primes below a number."""
    return primes.count_primes(below, self.track)


@shared_task(base=JobTask, bind=True, form=ExportJobsForm, title="Excel export")
def export_jobs(self: JobTask, everybody: bool) -> dict[str, Any]:
    """Write the owner's jobs, or everybody's, into a workbook."""
    owner = Job.objects.values_list("owner", flat=True).get(pk=self.request.id)
    if everybody and not exports.may_export_everybody(owner):
        raise JobError(exports.FORBIDDEN)
    total, rows = exports.rows(owner, everybody)
    with files.writing(self.request.id) as path:
        count = workbook.write(path, "Jobs", exports.COLUMNS, rows, partial(self.track, total=total + 1))
    return {"file": f"jobs-{timezone.now():%Y-%m-%d}.xlsx", "rows": count}


@shared_task(ignore_result=True)
def delete_old_files() -> None:
    """Delete the files of jobs that ended long ago; `celery beat` sends this, and no owner watches it."""
    files.delete_old(timezone.now())
