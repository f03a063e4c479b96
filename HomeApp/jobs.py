"""Starting, cancelling and repeating a job: the one way in, for sockets and pages alike."""

import logging
import threading
import uuid
from functools import cache, partial
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils import timezone

from HomeApp.models import Job, State
from HomeApp.progress import JobTask

logger = logging.getLogger(__name__)

#: Celery's autodiscovery does its work for the first thread that asks, and lets a second one go on before it is done.
LOADING = threading.Lock()

TOO_MANY = "You have {} unfinished jobs, the most there may be. Wait until one of them has ended."
#: One answer for both, so that nobody learns which ids there are.
NO_SUCH_JOB = "task_id: you have no such job."
HAS_ENDED = "task_id: this job has ended already, so there is nothing to cancel."
NOT_TO_BE_REPEATED = "task_id: only a job that has failed or was cancelled can be repeated. Start a new one."
UNREACHABLE = (
    "The job could not be handed to a worker: the message broker cannot be reached. Start it again in a moment."
)


class Refused(Exception):
    """A request that starts nothing and loses nothing.

    Args:
        code: the reason as one word, for programs.
        detail: the reason and the remedy as a sentence, for people.
        field: the name of the field that is wrong, if it is one field.
    """

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail, self.field = code, detail, field


@cache
def kinds() -> dict[str, JobTask]:
    """Return every kind of job and the task it runs, from the `tasks.py` of every installed app."""
    with LOADING:
        current_app.loader.import_default_modules()
    return {name.rpartition(".")[2]: task for name, task in current_app.tasks.items() if isinstance(task, JobTask)}


def startable() -> list[str]:
    """Return the kinds that visitors may start themselves."""
    return sorted(kind for kind, task in kinds().items() if task.startable)


def start(
    owner: str, kind: Any, params: Any, ref: Any = None, *, retry_of: Job | None = None, by_site: bool = False
) -> Job:
    """Start a job: check it, write its row, send its task. The same ref twice starts one job.

    Within a transaction, the task is sent once that is committed. Where the broker cannot be reached, the job is there
    all the same, as a FAILURE that says so.

    Args:
        owner: who asks, from `HomeApp.owner`.
        kind: the task's short name.
        params: a dict of what the kind's form asks for; what is missing takes the form's initial value.
        ref: the asker's own id of this start, a UUID or its text; a new one unless given.
        retry_of: the job that this one repeats, if it repeats one.
        by_site: whether the site itself asks, on the owner's behalf: it may start what its visitors may not.

    Returns:
        The job, new or already there.

    Raises:
        Refused: something is wrong with the request, and what to do about it.
    """
    ref = _ref(ref)
    task = kinds().get(kind) if isinstance(kind, str) else None
    if task is None or not (task.startable or by_site):
        raise Refused("unknown_kind", f"kind: there is no such kind of job. Known: {', '.join(startable())}.", "kind")
    params = _params(owner, task, params)
    with transaction.atomic():
        _one_start_at_a_time(owner)
        job = Job.objects.filter(owner=owner, ref=ref).first()
        if job is not None:
            job.repeated = True
            return job
        if Job.objects.unfinished().filter(owner=owner).count() >= settings.JOBS_UNFINISHED_PER_OWNER:
            raise Refused("too_many_jobs", TOO_MANY.format(settings.JOBS_UNFINISHED_PER_OWNER))
        title = task.title.format(**params) or kind
        job = Job.objects.create(owner=owner, ref=ref, kind=kind, params=params, title=title, retry_of=retry_of)
    transaction.on_commit(partial(send, job))
    return job


def cancel(owner: str | None, task_id: Any) -> Job:
    """Cancel a job: one that waits has ended then; one that runs is told to end, and ends within a second or so.

    Cancelling again what is about to end tells it again.

    Args:
        owner: who asks, from `HomeApp.owner`.
        task_id: the job's id, a UUID or its text.

    Returns:
        The job, `REVOKED` or `cancelling`.

    Raises:
        Refused: `not_found`, for an unknown job as for a foreign one; `already_ended`.
    """
    with transaction.atomic():
        job = job_of(owner, task_id, Job.objects.select_for_update())
        if job.final:
            raise Refused("already_ended", HAS_ENDED, "task_id")
        job.cancelled_at = job.cancelled_at or timezone.now()
        job.save(update_fields=["cancelled_at"])
        if job.attempt == 0:  # whoever takes up its task from now on finds that it has ended
            job.end(State.REVOKED)
            job.save_end()
    if not job.final:
        stop(job)
    return job


def retry(owner: str | None, task_id: Any, ref: Any = None) -> Job:
    """Repeat a job that has failed or was cancelled, as a new job with the same parameters.

    Args:
        owner: who asks, from `HomeApp.owner`.
        task_id: the job to be repeated, a UUID or its text.
        ref: as of `start`.

    Returns:
        The new job, which names the one that it repeats.

    Raises:
        Refused: `not_found`, for an unknown job as for a foreign one; `not_to_be_repeated`; or as `start` does.
    """
    job = job_of(owner, task_id)
    if job.state not in (State.FAILURE, State.REVOKED):
        raise Refused("not_to_be_repeated", NOT_TO_BE_REPEATED, "task_id")
    return start(job.owner, job.kind, job.params, ref, retry_of=job, by_site=True)


def stop(job: Job) -> None:
    """Tell all workers to stop a job. Whichever runs it raises `SoftTimeLimitExceeded` in its task.

    Source: Celery, "Workers Guide", "revoke: Revoking tasks"; the signal is that of soft time limits.
    """
    try:
        current_app.control.revoke(str(job.id), terminate=True, signal="SIGUSR1")
    except Exception as problem:
        logger.warning("The workers cannot be told to stop job %s; they will be: %r", job.id, problem)


def job_of(owner: str | None, task_id: Any, among: Any = Job.objects) -> Job:
    """Return a job of its owner.

    Args:
        owner: who asks; nobody has any.
        task_id: the job's id, a UUID or its text, as it came from outside.
        among: the jobs to look among.

    Raises:
        Refused: `not_found`, the same for an unknown job as for a foreign one.
    """
    try:
        return among.get(owner=owner, pk=task_id)
    except (Job.DoesNotExist, ValidationError, TypeError, ValueError):
        raise Refused("not_found", NO_SUCH_JOB, "task_id") from None


def _ref(ref: Any) -> uuid.UUID:
    if ref is None:
        return uuid.uuid4()
    try:
        return uuid.UUID(str(ref))
    except ValueError:
        raise Refused("bad_ref", "ref: give a UUID as text, or leave it out.", "ref") from None


def _params(owner: str, task: JobTask, params: Any) -> dict[str, Any]:
    fields = task.form.base_fields
    if not isinstance(params, dict):
        raise Refused("bad_params", "params: give an object, for example {}.", "params")
    unknown = sorted(params.keys() - fields.keys())
    if unknown:
        known = ", ".join(fields) or "none"
        raise Refused("bad_params", f"{unknown[0]}: there is no such parameter. Known: {known}.", unknown[0])
    form = task.form({**{name: field.initial for name, field in fields.items()}, **params})
    form.owner = owner  # type: ignore[attr-defined]  # for forms whose answer depends on who asks
    if not form.is_valid():
        field, problems = next(iter(form.errors.items()))
        code = "forbidden" if form.has_error(field, "forbidden") else "bad_params"
        raise Refused(code, f"{field}: {problems[0]}", field)
    return form.cleaned_data


def _one_start_at_a_time(owner: str) -> None:
    """Hold back this owner's other starts until the transaction ends, so that the limit is exact.

    SQLite's IMMEDIATE transactions do so already; PostgreSQL has advisory locks for it.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [owner])


def send(job: Job) -> None:
    """Send a job's task to the broker; where that cannot be done, end the job as a FAILURE that says so."""
    try:
        kinds()[job.kind].apply_async(kwargs=job.params, task_id=str(job.id), confirm_timeout=1)
    except Exception:
        # Whatever kept the task from being sent, its row must not wait for ever.
        logger.exception("Job %s could not be sent to the broker", job.id)
        job.end(State.FAILURE, error=UNREACHABLE)
        job.save_end()
    else:
        Job.objects.filter(pk=job.pk).update(sent=True)
