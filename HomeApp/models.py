"""The job: one run that somebody asked for, and the only ways in which it may move."""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.db.models import F, Q
from django.utils import timezone

from HomeApp.users import User

__all__ = ["FINAL", "SEQ_PER_ATTEMPT", "Job", "State", "User"]

#: Reports of one attempt are numbered from `attempt * SEQ_PER_ATTEMPT`; whatever ends an attempt takes the last
#: number. So a later attempt outranks an earlier one, and an end outranks every report of its attempt.
SEQ_PER_ATTEMPT = 10**9


class State(models.TextChoices):
    """Celery's own states, each with what it means for the visitor."""

    PENDING = "PENDING"  #: no worker has begun it
    STARTED = "STARTED"  #: a worker has begun it and not yet reported a percentage
    PROGRESS = "PROGRESS"  #: running, with a percentage
    RETRY = "RETRY"  #: an attempt has failed, another one will be made
    SUCCESS = "SUCCESS"  #: ended with a result
    FAILURE = "FAILURE"  #: ended with an error
    REVOKED = "REVOKED"  #: ended by its owner


#: The states that a job never leaves.
FINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED})


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, by what one may ask of them."""

    def unfinished(self) -> "JobQuerySet":
        """Return the jobs that have not ended."""
        return self.filter(finished_at=None)

    def begin(self, task_id: str) -> int | None:
        """Begin another attempt of a job, in the worker.

        Args:
            task_id: the job's id.

        Returns:
            The attempt's number, from 1; None where there is nothing to do: the job has ended, or is not there.
        """
        job = self.filter(pk=task_id)
        with transaction.atomic():
            if not job.unfinished().update(attempt=F("attempt") + 1):
                return None
            return job.values_list("attempt", flat=True).get()

    def save_percentages(self, jobs: Iterable["Job"]) -> None:
        """Write how far many jobs have come, in one go; a row that has ended or knows better stays as it is."""
        prepare = Job._meta.pk.get_db_prep_value
        rows = [
            (job.current, job.total, job.description, job.seq, prepare(job.pk, connection), job.seq) for job in jobs
        ]
        # The ORM would build and send each of these statements anew, which takes about ten times as long.
        with connection.cursor() as cursor:
            cursor.executemany(
                f'UPDATE "{Job._meta.db_table}" SET "current" = %s, "total" = %s, "description" = %s, "seq" = %s '  # noqa: S608
                'WHERE "id" = %s AND "seq" < %s AND "finished_at" IS NULL',
                rows,
            )

    def visible_to(self, owner: str, recent: int) -> list["Job"]:
        """Return what an owner is shown first: all unfinished jobs and the most recent others, oldest first.

        Args:
            owner: whose jobs.
            recent: how many finished jobs, at most.
        """
        mine = self.filter(owner=owner)
        finished = mine.exclude(finished_at=None).order_by("-created_at")[:recent]
        return sorted([*mine.unfinished(), *finished], key=lambda job: job.created_at)


class Job(models.Model):
    """One run that somebody asked for. Its id is the Celery task id."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ref = models.UUIDField(default=uuid.uuid4, help_text="The page's own id of the start: one ref starts one job.")
    owner = models.CharField(max_length=64, help_text="user-<id>, or visitor-<hex> for an anonymous session.")
    kind = models.CharField(max_length=64, help_text="The task's short name.")
    title = models.CharField(max_length=200)
    params = models.JSONField(default=dict)

    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    current = models.FloatField(null=True, help_text="Steps done, in the task's own unit.")
    total = models.FloatField(null=True, help_text="Steps in all; empty while unknown.")
    description = models.CharField(max_length=200, blank=True)
    seq = models.BigIntegerField(default=0, help_text="Grows with every change; an older one never replaces a newer.")
    attempt = models.PositiveIntegerField(default=0, help_text="0 until a worker has begun the job.")
    result = models.JSONField(null=True)
    error = models.CharField(max_length=500, blank=True, help_text="What the visitor is told.")
    traceback = models.TextField(blank=True, help_text="For the admin's eyes only.")

    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    #: Whether a start has found this job there already, by its ref.
    repeated = False

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "ref"], name="one_job_per_owner_and_ref"),
            models.CheckConstraint(
                condition=Q(state__in=FINAL, finished_at__isnull=False)
                | (~Q(state__in=FINAL) & Q(finished_at__isnull=True)),
                name="finished_at_says_final",
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "-created_at"], name="job_owner_created"),
            models.Index(fields=["owner"], condition=Q(finished_at=None), name="job_owner_unfinished"),
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL

    @property
    def percent(self) -> float | None:
        """How far the job has come, 0 to 100; None while unknown."""
        if self.current is None or not self.total:
            return None
        return round(min(max(100 * self.current / self.total, 0), 100), 2)

    def end(self, state: State, *, result: Any = None, error: str = "", traceback: str = "") -> None:
        """Move this copy of the job to a final state; `save_end` writes it.

        A success has come all the way; any other end keeps the percentage it reached.

        Args:
            state: one of `FINAL`.
            result: what the task returned, as JSON.
            error: a sentence for the visitor.
            traceback: for the admin.
        """
        self.state, self.result, self.error, self.traceback = state, result, error, traceback
        self.finished_at = timezone.now()
        self.seq = max((self.attempt + 1) * SEQ_PER_ATTEMPT - 1, self.seq + 1)
        if state == State.SUCCESS:
            self.total = self.total or 1
            self.current = self.total

    def save_end(self) -> bool:
        """Write this copy's end, unless the job has ended already: finished is final.

        Returns:
            Whether it was written.
        """
        return self._save_unless_final(
            "state", "result", "error", "traceback", "finished_at", "seq", "current", "total"
        )

    def save_progress(self) -> bool:
        """Write how far this copy has come, unless the job has ended or the row knows better.

        Returns:
            Whether it was written.
        """
        return self._save_unless_final(
            "state", "current", "total", "description", "error", "seq", "started_at", seq__lt=self.seq
        )

    def _save_unless_final(self, *fields: str, **condition: Any) -> bool:
        row = Job.objects.unfinished().filter(pk=self.pk, **condition)
        return bool(row.update(**{field: getattr(self, field) for field in fields}))

    def snapshot(self) -> dict[str, Any]:
        """Return the dict that draws this job, the same shape from the row to the bar."""
        return {
            "type": "job",
            "task_id": str(self.id),
            "ref": str(self.ref),
            "kind": self.kind,
            "title": self.title,
            "state": str(self.state),
            "current": self.current,
            "total": self.total,
            "percent": self.percent,
            "description": self.description,
            "seq": self.seq,
            "attempt": self.attempt,
            "result": self.result,
            "error": self.error or None,
            "url": None,
            "created_at": _iso(self.created_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
        }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
