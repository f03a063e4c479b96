"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from functools import partial
from typing import Any

from celery import shared_task
from django.utils import timezone

from HomeApp import checksums as sums
from HomeApp import exports, primes, workbook
from HomeApp import welcome_email as welcome
from HomeApp.forms import (
    ChecksumsForm,
    CountPrimesForm,
    ExportJobsForm,
    PartOfChecksumsForm,
    SearchForm,
    WelcomeEmailForm,
)
from HomeApp.models import SearchResult, User
from HomeApp.search import provider
from HomeApp.search.provider import SearchFailed
from livejobs import files
from livejobs.models import Job, State
from livejobs.prune import prune
from livejobs.task import JobError, JobTask, TryAgain
from livejobs.uploads import Upload


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


@shared_task(
    base=JobTask, bind=True, form=ChecksumsForm, title="Checksums of {archive}", stages=[("Read", 1), ("Compute", 9)]
)
def checksums(self: JobTask, archive: Upload) -> None:
    """Divide an archive into parts, whose checksums are computed beside each other."""
    with self.stage("Read"):
        parts = sums.parts(archive, self.track)
    children = [
        (checksums_of_part, {"number": number, "first": first, "count": count}, size + 1)
        for number, (first, count, size) in enumerate(parts, 1)
    ]
    with self.stage("Compute"):
        self.children(children, then=checksums_file)


@shared_task(base=JobTask, bind=True, form=PartOfChecksumsForm, title="Part {number}", startable=False)
def checksums_of_part(self: JobTask, number: int, first: int, count: int) -> dict[str, str]:
    """Compute the checksums of some files of an archive. Another attempt goes on after the last one that is known."""
    found: dict[str, str] = self.resumed or {}
    if self.parent is None:
        raise JobError("The archive is not there any more.")
    with Upload(self.parent.params["archive"]) as archive:
        try:
            for name, digest in sums.checksums(archive, first, count, partial(self.track, resume=True)):
                found[name] = digest
                self.checkpoint(found)
        except sums.BadArchive as bad:
            raise JobError(str(bad)) from None
    return found


@shared_task(base=JobTask, bind=True, title="SHA256SUMS", startable=False)
def checksums_file(self: JobTask) -> dict[str, Any]:
    """Write the checksums of all parts into a file."""
    with files.writing(self.request.id) as path:
        count = sums.write(path, self.results())
    return {"file": "SHA256SUMS", "summary": f"Checksums in the file: {count}."}


@shared_task(ignore_result=True)
def delete_old_files() -> None:
    """Delete the files of jobs that ended long ago; `celery beat` sends this, and no owner watches it."""
    files.delete_old(timezone.now())


@shared_task(ignore_result=True)
def prune_jobs() -> None:
    """Delete what is stored of jobs that ended long ago; `celery beat` sends this."""
    prune(timezone.now())


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
