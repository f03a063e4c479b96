"""Starting, cancelling and repeating a job: the one way in, for sockets and pages alike."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import current_app
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Manager, QuerySet
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from livejobs import notice, stop, uploads
from livejobs.claims import Authority, owner_now
from livejobs.conf import conf
from livejobs.hub import hub
from livejobs.kinds import kinds, startable
from livejobs.models import Job, State, Worker
from livejobs.new_job import prepare
from livejobs.owner import owner_of_asker, owner_who_starts, stored_visitor
from livejobs.refused import NotSignedIn, Refused
from livejobs.signals import job_started
from livejobs.snapshot import Snapshot

__all__ = ["Refused", "kinds", "startable"]  # imported for other modules too
__all__ += ["adopt", "announce", "cancel", "job_of", "prepare", "retry", "send", "start"]

logger = logging.getLogger(__name__)

TOO_MANY = "You have {} unfinished jobs, the most there may be. Wait until one of them has ended."
#: One answer for both, so that no answer tells which ids there are.
NO_SUCH_JOB = "task_id: you have no such job."
HAS_ENDED = "task_id: this job has ended already, so there is nothing to cancel."
NOT_TO_BE_REPEATED = "task_id: only a job that has failed or was cancelled can be repeated. Start a new one."
UNREACHABLE = (
    "The job could not be handed to a worker: the message broker cannot be reached. Start it again in a moment."
)


def start(
    owner: Any,
    kind: Any,
    params: Any,
    ref: Any = None,
    *,
    retry_of: Job | None = None,
    by_site: bool = False,
    is_authorised: Callable[[], bool] | None = None,
) -> Job:
    """Start a job: check it, write its row, send its task. The same ref twice starts one job.

    Within a transaction, the task is sent after the commit. If the broker cannot be reached, then the job is returned
    all the same, as a FAILURE that says so.

    Args:
        owner: the owner of the job: a request, a user, or an owner from `livejobs.owner`.
        kind: the task's short name.
        params: a dict of what the kind's form asks for; what is missing takes the form's initial value.
        ref: the asker's own id of this start, a UUID or its text; a new one unless given.
        retry_of: the job that this one repeats, if it repeats one.
        by_site: whether the site itself asks, on the owner's behalf. The site may start kinds that are not startable,
            and its jobs do not count against the owner's limit.
        is_authorised: tells whether the asker still is the owner. It is called while no other start and no adoption of
            this owner's jobs is under way. For a request, the session is asked unless it is given.

    Returns:
        The job, new or already there.

    Raises:
        Refused: something is wrong with the request, and what to do about it.
        NotSignedIn: the asker is not the owner any more.
    """
    is_authorised = is_authorised or partial(_is_still, stored_visitor(owner))
    owner = owner_who_starts(owner)
    new = prepare(owner, kind, params, ref, retry_of=retry_of, by_site=by_site)
    with uploads.store(new) as undo, transaction.atomic():
        _one_start_at_a_time(owner)
        if not is_authorised():
            raise NotSignedIn
        job = Job.objects.filter(owner=owner, ref=new.ref).first()
        if job is not None:
            job.repeated = True
            return job
        mine = Job.objects.unfinished().filter(owner=owner, by_site=False, parent=None)
        if not by_site and mine.count() >= conf.UNFINISHED_PER_OWNER:
            raise Refused("too_many_jobs", TOO_MANY.format(conf.UNFINISHED_PER_OWNER))
        new.save(force_insert=True)
        if retry_of:  # children that have succeeded are not repeated
            Job.objects.filter(parent=retry_of, state=State.SUCCESS).update(parent=new)
        undo.pop_all()
    announce(new)
    transaction.on_commit(partial(job_started.send_robust, sender=Job, job=new))
    transaction.on_commit(partial(send, new))
    return new


def cancel(owner: Any, task_id: Any) -> Job:
    """Cancel a job: one that waits has ended then; one that runs is told to end, and ends within a second or so.

    The relay ends a job that waits for its children, as it alone knows the newest percentage; then it cancels these.

    Cancelling again what is about to end tells it again.

    Args:
        owner: see `start`.
        task_id: the job's id, a UUID or its text.

    Returns:
        The job, `REVOKED` or `cancelling`.

    Raises:
        Refused: `not_found`, for an unknown job as for a foreign one; `already_ended`.
    """
    with transaction.atomic():
        job = job_of(owner_of_asker(owner), task_id, Job.objects.select_for_update())
        if job.final:
            raise Refused("already_ended", HAS_ENDED, "task_id")
        job.cancelled_at = job.cancelled_at or timezone.now()
        job.save(update_fields=["cancelled_at"])
        is_leased = job.lease_id is not None and Worker.objects.alive().filter(pk=job.lease_id).exists()
        if not (is_leased or job.children):
            job.end(State.REVOKED)  # a later delivery of its task finds that it has ended
            job.save_end()
    announce(job)
    if not job.final:
        transaction.on_commit(partial(stop.tell_workers, job.pk))
    return job


def retry(owner: Any, task_id: Any, ref: Any = None, *, is_authorised: Callable[[], bool] | None = None) -> Job:
    """Repeat a job that has failed or was cancelled, as a new job with the same parameters.

    Args:
        owner: see `start`.
        task_id: the job to be repeated, a UUID or its text.
        ref: see `start`.
        is_authorised: see `start`.

    Returns:
        The new job, which names the one that it repeats.

    Raises:
        Refused: `not_found`, for an unknown job as for a foreign one; `not_to_be_repeated`; or what `start` refuses.
    """
    is_authorised = is_authorised or partial(_is_still, stored_visitor(owner))
    job = job_of(owner_of_asker(owner), task_id)
    if job.state not in (State.FAILURE, State.REVOKED):
        raise Refused("not_to_be_repeated", NOT_TO_BE_REPEATED, "task_id")
    return start(job.owner, job.kind, job.params, ref, retry_of=job, is_authorised=is_authorised)


def adopt(visitor: str, owner: str) -> None:
    """Give a visitor's jobs to the user that the visitor has turned out to be.

    Args:
        visitor: the owner until now.
        owner: the owner from now on.
    """
    with transaction.atomic():
        _one_start_at_a_time(visitor)
        if not Job.objects.filter(owner=visitor).update(owner=owner):
            return
    transaction.on_commit(lambda: hub.soon(hub.everywhere, "adopt", visitor, owner), robust=True)
    # A message between hubs may be dropped; the relay must not go on with the old owner.
    transaction.on_commit(lambda: notice.post("adopted", visitor=visitor, owner=owner), robust=True)


def job_of(owner: str | None, task_id: Any, among: Manager[Job] | QuerySet[Job] = Job.objects) -> Job:
    """Return a job of its owner.

    Args:
        owner: the owner; None has no jobs.
        task_id: the job's id, a UUID or its text, as it came from outside.
        among: the jobs to look among.

    Raises:
        Refused: `not_found`, the same for an unknown job as for a foreign one.
    """
    try:
        return among.get(owner=owner, pk=task_id)
    except (Job.DoesNotExist, ValidationError, TypeError, ValueError):
        raise Refused("not_found", NO_SUCH_JOB, "task_id") from None


def _is_still(visitor: tuple[str, str] | None) -> bool:
    """Tell whether a session still is its visitor's: a log-in in between has adopted the visitor's jobs."""
    return visitor is None or owner_now(Authority(session=visitor[0])) == visitor[1]


def _one_start_at_a_time(owner: str) -> None:
    """Hold back this owner's other starts until the transaction ends, so that the limit is exact.

    SQLite's IMMEDIATE transactions do so already; PostgreSQL has advisory locks for it.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [owner])


def send(job: Job, *, again: bool = False) -> bool:
    """Send a job's task to the broker.

    If the broker cannot be reached, then a job that was just started ends as a FAILURE that says so, unless a worker
    has begun it: then only the broker's confirmation was lost. A job that was accepted before stays due, and the sweep
    sends it later.

    Args:
        job: which job.
        again: whether the job was accepted before.

    Returns:
        Whether the broker has the task.
    """
    if not publish(job) and (again or _end_unsent(job)):
        return False
    Job.objects.filter(pk=job.pk).update(sent=True)
    if current_app.conf.task_always_eager:
        job.refresh_from_db()  # it has ended
    return True


def publish(job: Job) -> bool:
    """Give a job's task to the broker. Returns whether the broker has confirmed it.

    Args:
        job: which job. Its row is not changed.
    """
    try:
        task = kinds()[job.kind]
        task.apply_async(kwargs=job.params, task_id=str(job.pk), retries=job.retries, confirm_timeout=1)
    except Exception:
        logger.exception("Job %s could not be sent to the broker", job.pk)
        return False
    return True


def _end_unsent(job: Job) -> bool:
    """End a job whose task the broker has not confirmed, unless a worker has begun it. Returns whether it has ended.

    The broker may have the task all the same. A worker that receives it later finds that the job has ended.
    """
    job.end(State.FAILURE, error=UNREACHABLE)
    if job.save_end(attempt=0):
        announce(job)
    elif Job.objects.filter(pk=job.pk).exists():
        job.refresh_from_db()
    return job.final


def announce(job: Job) -> None:
    """Show a job's owner what has become of it, on commit, from any process.

    A web process shows it to its own sockets and to the other web processes. Any other process sends a notice to the
    relay. The relay alone tells of a cancelled job that still runs, as it knows the newest percentage.

    Args:
        job: as its row will be.
    """
    # Robust: should it fail, then what follows on commit, as the sending of the task, is done all the same.
    transaction.on_commit(lambda: _announce(job), robust=True)


def _announce(job: Job) -> None:
    shown = not job.cancelling and hub.soon(hub.publish, [Snapshot.of(job)])
    if not shown or job.parent_id:  # the relay counts children
        notice.post("changed", task_id=str(job.pk))


@receiver(post_delete, sender=Job)
def announce_deletion(instance: Job, origin: Any = None, **kwargs: Any) -> None:
    """Remove a deleted job from every page of its owner, on commit. The worker that runs it stops it by itself."""
    if getattr(origin, "is_pruned", False):
        return
    owner, task_id, parent = instance.owner, str(instance.pk), instance.parent_id

    def tell() -> None:
        if not hub.soon(hub.gone, owner, task_id):
            notice.post("gone", owner=owner, task_id=task_id)
        if parent:
            notice.post("changed", task_id=str(parent))

    transaction.on_commit(tell, robust=True)
