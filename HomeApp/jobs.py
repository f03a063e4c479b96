"""Starting a job: the one way in, for sockets and pages alike."""

import logging
import threading
import uuid
from functools import cache, partial
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import connection, transaction

from HomeApp.models import Job, State
from HomeApp.progress import JobTask

logger = logging.getLogger(__name__)

#: Celery's autodiscovery does its work for the first thread that asks, and lets a second one go on before it is done.
LOADING = threading.Lock()

TOO_MANY = "You have {} unfinished jobs, the most there may be. Wait until one of them has ended."
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


def start(owner: str, kind: Any, params: Any, ref: Any = None, *, by_site: bool = False) -> Job:
    """Start a job: check it, write its row, send its task. The same ref twice starts one job.

    Within a transaction, the task is sent once that is committed. Where the broker cannot be reached, the job is there
    all the same, as a FAILURE that says so.

    Args:
        owner: who asks, from `HomeApp.owner`.
        kind: the task's short name.
        params: a dict of what the kind's form asks for; what is missing takes the form's initial value.
        ref: the asker's own id of this start, a UUID or its text; a new one unless given.
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
    params = _params(task, params)
    with transaction.atomic():
        _one_start_at_a_time(owner)
        job = Job.objects.filter(owner=owner, ref=ref).first()
        if job is not None:
            job.repeated = True
            return job
        if Job.objects.unfinished().filter(owner=owner).count() >= settings.JOBS_UNFINISHED_PER_OWNER:
            raise Refused("too_many_jobs", TOO_MANY.format(settings.JOBS_UNFINISHED_PER_OWNER))
        title = task.title.format(**params) or kind
        job = Job.objects.create(owner=owner, ref=ref, kind=kind, params=params, title=title)
    transaction.on_commit(partial(_send, job, task))
    return job


def _ref(ref: Any) -> uuid.UUID:
    if ref is None:
        return uuid.uuid4()
    try:
        return uuid.UUID(str(ref))
    except ValueError:
        raise Refused("bad_ref", "ref: give a UUID as text, or leave it out.", "ref") from None


def _params(task: JobTask, params: Any) -> dict[str, Any]:
    fields = task.form.base_fields
    if not isinstance(params, dict):
        raise Refused("bad_params", "params: give an object, for example {}.", "params")
    unknown = sorted(params.keys() - fields.keys())
    if unknown:
        known = ", ".join(fields) or "none"
        raise Refused("bad_params", f"{unknown[0]}: there is no such parameter. Known: {known}.", unknown[0])
    form = task.form({**{name: field.initial for name, field in fields.items()}, **params})
    if not form.is_valid():
        field, problems = next(iter(form.errors.items()))
        raise Refused("bad_params", f"{field}: {problems[0]}", field)
    return form.cleaned_data


def _one_start_at_a_time(owner: str) -> None:
    """Hold back this owner's other starts until the transaction ends, so that the limit is exact.

    SQLite's IMMEDIATE transactions do so already; PostgreSQL has advisory locks for it.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [owner])


def _send(job: Job, task: JobTask) -> None:
    try:
        task.apply_async(kwargs=job.params, task_id=str(job.id), confirm_timeout=1)
    except Exception:
        # Whatever kept the task from being sent, its row must not wait for ever.
        logger.exception("Job %s could not be sent to the broker", job.id)
        job.end(State.FAILURE, error=UNREACHABLE)
        job.save_end()
