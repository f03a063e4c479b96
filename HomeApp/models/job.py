"""The job: one run that somebody asked for, and the only ways in which it may move."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Cast, Coalesce
from django.urls import reverse
from django.utils import timezone

from HomeApp.signals import job_finished

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

    def begin(self, task_id: str, most: int) -> int | None:
        """Begin another attempt of a job, in the worker. The row goes back openly to where the attempt begins.

        Args:
            task_id: the job's id.
            most: how many attempts there may be.

        Returns:
            The attempt's number, from 1; 0 where there have been enough; None where there is nothing to do: the job
            has ended, or has been cancelled, or is not there.
        """
        job = self.unfinished().filter(pk=task_id, cancelled_at=None)
        with transaction.atomic():
            if job.filter(attempt__lt=most).update(
                state=State.STARTED,
                attempt=F("attempt") + 1,
                seq=(Cast("attempt", models.BigIntegerField()) + 1) * SEQ_PER_ATTEMPT,
                current=None,
                total=None,
                description="",
                error="",
                started_at=Coalesce("started_at", timezone.now()),
                reported_at=timezone.now(),
            ):
                return job.values_list("attempt", flat=True).get()
            return 0 if job.exists() else None

    def save_percentages(self, jobs: Iterable["Job"]) -> None:
        """Write how far many jobs have come, in one go; a row that has ended or knows better stays as it is."""
        prepare = Job._meta.pk.get_db_prep_value
        rows = [
            (job.current, job.total, job.description, job.reported_at, job.seq, prepare(job.pk, connection), job.seq)
            for job in sorted(jobs, key=lambda job: job.pk)  # as all who write many rows, so that nobody deadlocks
        ]
        # The ORM would build and send each of these statements anew, which takes about ten times as long.
        with connection.cursor() as cursor:
            cursor.executemany(
                f'UPDATE "{Job._meta.db_table}" SET "current" = %s, "total" = %s, "description" = %s, '  # noqa: S608
                '"reported_at" = %s, "seq" = %s WHERE "id" = %s AND "seq" < %s AND "finished_at" IS NULL',
                rows,
            )

    def visible_to(self, owners: Sequence[str], recent: int) -> dict[str, list["Job"]]:
        """Return what owners are shown first: all unfinished jobs and the most recent others, oldest first.

        One query for all of them, which asks for each owner's most recent jobs apart, so that it reads no more than
        it returns, however long their histories are; planning takes the same short time however many they are.

        Args:
            owners: whose jobs.
            recent: how many finished jobs of each, at most.
        """
        table = f'"{Job._meta.db_table}"'
        columns = ", ".join(f'job."{field.column}"' for field in Job._meta.concrete_fields)
        # PostgreSQL uses an index for the one form only, and SQLite knows the other only.
        within = "= ANY (ARRAY(%s))" if connection.vendor == "postgresql" else "IN (%s)"
        newest = within % (
            f'SELECT "id" FROM {table} WHERE "owner" = asked."owner" AND "finished_at" IS NOT NULL'  # noqa: S608
            ' ORDER BY "created_at" DESC LIMIT %s'
        )
        query = (
            f'WITH asked("owner") AS (VALUES {", ".join(["(%s)"] * len(owners))})'  # noqa: S608
            f" SELECT {columns} FROM asked CROSS JOIN {table} job"
            ' WHERE job."owner" = asked."owner" AND job."finished_at" IS NULL'
            f' UNION ALL SELECT {columns} FROM asked CROSS JOIN {table} job WHERE job."id" {newest}'
        )
        visible: dict[str, list[Job]] = {owner: [] for owner in owners}
        for job in self.raw(query, [*owners, recent]):
            visible[job.owner].append(job)
        for mine in visible.values():
            mine.sort(key=lambda job: job.created_at)
        return visible


class Job(models.Model):
    """One run that somebody asked for. Its id is the Celery task id."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ref = models.UUIDField(default=uuid.uuid4, help_text="The page's own id of the start: one ref starts one job.")
    owner = models.CharField(max_length=64, help_text="user-<id>, or visitor-<hex> for an anonymous session.")
    kind = models.CharField(max_length=64, help_text="The task's short name.")
    title = models.CharField(max_length=255)
    params = models.JSONField(default=dict)

    state = models.CharField(max_length=16, choices=State, default=State.PENDING)
    current = models.FloatField(null=True, help_text="Steps done, in the task's own unit.")
    total = models.FloatField(null=True, help_text="Steps in all; empty while unknown.")
    description = models.CharField(max_length=200, blank=True)
    seq = models.BigIntegerField(default=0, help_text="Grows with every change; an older one never replaces a newer.")
    attempt = models.PositiveIntegerField(default=0, help_text="0 until a worker has begun the job.")
    result = models.JSONField(null=True)
    error = models.CharField(max_length=500, blank=True, help_text="What the visitor is told.")
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, help_text="The job that this one repeats.")
    traceback = models.TextField(blank=True, help_text="For the admin's eyes only.")
    file = models.CharField(max_length=200, blank=True, help_text="Name of the file it has made, while that is kept.")

    created_at = models.DateTimeField(default=timezone.now)
    sent = models.BooleanField(default=False, db_default=False, help_text="The broker has said that it has the task.")
    started_at = models.DateTimeField(null=True)
    reported_at = models.DateTimeField(null=True, help_text="When the task was last heard of.")
    cancelled_at = models.DateTimeField(null=True, help_text="When the owner asked for its end.")
    finished_at = models.DateTimeField(null=True)

    #: What there is of the result so far. Not stored: the next report brings all of it again.
    partial = ""
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
            models.Index(
                fields=["created_at"],
                condition=Q(finished_at=None) & (Q(sent=False) | Q(cancelled_at__isnull=False)),
                name="job_to_be_looked_after",
            ),
            models.Index(fields=["finished_at"], condition=~Q(file=""), name="job_file_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL

    @property
    def cancelling(self) -> bool:
        """Whether the owner has asked for an end that has not come yet."""
        return self.cancelled_at is not None and not self.final

    @property
    def percent(self) -> float | None:
        """How far the job has come, 0 to 100; None while unknown."""
        return percent_of(self.current, self.total)

    @property
    def url(self) -> str | None:
        """Where the file is that the job has made, while it is there."""
        return reverse("api_job_file", args=[self.pk]) if self.file else None

    def end(self, state: State, *, result: Any = None, error: str = "", traceback: str = "") -> None:
        """Move this copy of the job to a final state; `save_end` writes it.

        A success has come all the way; any other end keeps the percentage it reached.

        Args:
            state: one of `FINAL`.
            result: what the task returned, as JSON. An object's "file" is the name of a file it has made; see files.py.
            error: a sentence for the visitor.
            traceback: for the admin.
        """
        self.state, self.result, self.error, self.traceback = state, result, error, traceback
        self.finished_at = timezone.now()
        self.seq = max((self.attempt + 1) * SEQ_PER_ATTEMPT - 1, self.seq + 1)
        if state == State.SUCCESS:
            self.total = self.total or 1
            self.current = self.total
            self.file = str(result.get("file", ""))[:200] if isinstance(result, dict) else ""

    def save_end(self) -> bool:
        """Write this copy's end, unless the job has ended already: finished is final. Then tell `job_finished`.

        Returns:
            Whether it was written.
        """
        written = self._save_unless_final(
            "state",
            "attempt",  # where two run at once, as the broker thought that the first was lost: the one that has ended
            "result",
            "error",
            "traceback",
            "file",
            "started_at",
            "reported_at",
            "finished_at",
            "seq",
            "current",
            "total",
        )
        if written:
            transaction.on_commit(partial(job_finished.send_robust, sender=Job, job=self))
        return written

    def save_progress(self) -> bool:
        """Write how far this copy has come, unless the job has ended or the row knows better.

        Returns:
            Whether it was written.
        """
        return self._save_unless_final(
            "state", "current", "total", "description", "error", "seq", "started_at", "reported_at", seq__lt=self.seq
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
            "url": self.url,
            "created_at": _iso(self.created_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "reported_at": _iso(self.reported_at),
            "cancelling": self.cancelling,
            "retry_of": str(self.retry_of_id) if self.retry_of_id else None,
            "partial": None if self.final else self.partial or None,
        }


def percent_of(current: float | None, total: float | None) -> float | None:
    """Return how far `current` of `total` is, 0 to 100; None while unknown."""
    if current is None or not total:
        return None
    return round(min(max(100 * current / total, 0), 100), 2)


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
