"""A job that is to be started: its kind, parameters and title are checked before it has a row."""

import uuid
from typing import Any

from livejobs import uploads
from livejobs.kinds import kinds, startable
from livejobs.models import Job
from livejobs.outcome import JobError
from livejobs.params import cleaned_params, stored_params, with_files
from livejobs.refused import Refused
from livejobs.task import JobTask


def prepare(
    owner: str, kind: Any, params: Any, ref: Any = None, *, retry_of: Job | None = None, by_site: bool = False
) -> Job:
    """Check what a job is to be started with, and return the job, which has no row yet.

    Args:
        owner: see `livejobs.start`, as the other arguments.
        kind: the task's short name.
        params: a dict of what the kind's form asks for.
        ref: the asker's own id of this start.
        retry_of: the job that this one repeats.
        by_site: whether the site itself asks.

    Raises:
        Refused: something is wrong with the request, and what to do about it.
    """
    ref = _ref(ref)
    task = kinds().get(kind) if isinstance(kind, str) else None
    if task is None or not (task.startable or by_site or retry_of):
        known = sorted(kinds()) if by_site else startable()
        raise Refused("unknown_kind", f"kind: there is no such kind of job. Known: {', '.join(known)}.", "kind")
    job = Job(owner=owner, ref=ref, kind=kind, retry_of=retry_of, by_site=by_site)
    if retry_of:
        params = _with_files(task, params, retry_of)
    cleaned = cleaned_params(owner, task.form, params)
    job.params = stored_params(task.form, uploads.name_files(job, cleaned))
    job.title = _title(task.title.format(**cleaned) or kind)
    return job


def _with_files(task: JobTask, params: dict[str, Any], job: Job) -> dict[str, Any]:
    """Return the parameters of a job that is to be repeated with its files, of which the new one gets copies."""
    try:
        return with_files(task.form, params, job.pk)
    except JobError as gone:
        raise Refused("bad_params", str(gone)) from None


def _title(title: str) -> str:
    """Return a title that every database can hold."""
    title, most = title.replace("\0", ""), 255
    return title if len(title) <= most else f"{title[: most - 1]}…"


def _ref(ref: Any) -> uuid.UUID:
    if ref is None:
        return uuid.uuid4()
    try:
        return uuid.UUID(str(ref))
    except ValueError:
        raise Refused("bad_ref", "ref: give a UUID as text, or leave it out.", "ref") from None
