"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from functools import partial
from typing import Any

from celery import shared_task
from django.utils import timezone

from HomeApp import exports, files, primes, workbook
from HomeApp import welcome_email as welcome
from HomeApp.forms import CountPrimesForm, ExportJobsForm, SearchForm, WelcomeEmailForm
from HomeApp.models import Job, SearchResult, State, User
from HomeApp.progress import JobError, JobTask, TryAgain
from HomeApp.search import provider
from HomeApp.search.provider import SearchFailed


@shared_task(base=JobTask, bind=True, form=CountPrimesForm, title="Primes below {below}")
def count_primes(self: JobTask, below: int) -> int:
    """Count the primes below a number."""
    return primes.count_primes(below, self.track)


@shared_task(base=JobTask, bind=True, form=SearchForm, title="Search: {query}")
def search(self: JobTask, query: str) -> dict[str, Any]:
    """Search, and store what is found."""

    def tell(description: str, answer: str) -> None:
        self.update_state(state=State.PROGRESS, meta={"description": description, "partial": answer})

    try:
        found = provider().search(query, self.track, tell)
    except SearchFailed as failed:
        raise JobError(str(failed)) from None
    SearchResult.objects.replace(self.request.id, found.results)
    return found.as_json()


@shared_task(base=JobTask, bind=True, form=ExportJobsForm, title="Excel export")
def export_jobs(self: JobTask, everybody: bool) -> dict[str, Any]:
    """Write the owner's jobs, or everybody's, into a workbook."""
    owner = Job.objects.values_list("owner", flat=True).get(pk=self.request.id)
    if everybody and not exports.may_export_everybody(owner):
        raise JobError(exports.FORBIDDEN)
    total, rows = exports.rows(owner, everybody)
    with files.writing(self.request.id) as path:
        count = workbook.write(path, "Jobs", exports.COLUMNS, rows, partial(self.track, total=total + 1))
    name = f"jobs-{timezone.now():%Y-%m-%d}.xlsx"
    return {"file": name, "rows": count, "summary": f"Rows in the file: {count}."}


@shared_task(ignore_result=True)
def delete_old_files() -> None:
    """Delete the files of jobs that ended long ago; `celery beat` sends this, and no owner watches it."""
    files.delete_old(timezone.now())


@shared_task(base=JobTask, bind=True, form=WelcomeEmailForm, title="Welcome e-mail", startable=False)
def welcome_email(self: JobTask, user_id: int) -> None:
    """Send a new user the welcome e-mail."""
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise JobError("The e-mail could not be sent: there is no such user any more.")
    try:
        welcome.send(user.email, user.username)
    except welcome.Unsent as unsent:
        raise (TryAgain if unsent.temporary else JobError)(str(unsent)) from unsent
