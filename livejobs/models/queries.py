"""What is asked of the rows of many jobs, and the moves of a job that are one statement."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from livejobs.models.state import REASON, SEQ_PER_ATTEMPT, SHUT_DOWN, State
from livejobs.models.worker import Worker

if TYPE_CHECKING:
    from livejobs.models.job import Job

#: Time after which a task that no worker has begun may be sent again. A second delivery does no harm.
TAKEN_BY_NOW = timedelta(seconds=10)

#: Why an attempt is not the first; `{}` is the number of the attempt before it.
STOPPED = "Attempt {} was stopped by a cancel that was meant for another job."


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, by what one may ask of them."""

    #: Whether these rows are deleted for their age: no page is told of it.
    is_pruned = False

    def unfinished(self) -> "JobQuerySet":
        """Return the jobs that have not ended."""
        return self.filter(finished_at=None)

    def begin(self, task_id: str, worker: uuid.UUID | None) -> int | None:
        """Begin the next attempt of a job and take its lease, in one compare-and-set statement.

        The row openly returns to the state at which an attempt begins. A delivery is a duplicate if a worker holds the
        lease, unless that worker is gone. The sweep frees the lease of a lost worker, and counts the loss.

        Args:
            task_id: the job's id.
            worker: the id of the worker that runs the attempt; None outside a worker.

        Returns:
            The attempt's number, from 1. None if there is nothing to run: the delivery is a duplicate, the job's
            children go on, or the job has ended, was cancelled or was deleted.
        """
        statement = (
            f'UPDATE "{self.model._meta.db_table}" SET "state" = %s, "attempt" = "attempt" + 1,'  # noqa: S608
            ' "seq" = (CAST("attempt" AS bigint) + 1) * %s, "current" = NULL, "total" = NULL, "description" = \'\','
            ' "error" = \'\', "reached" = NULL, "stage_index" = 0, "stage_of" = NULL, "stage_name" = \'\','
            ' "reason" = CASE WHEN "lease_id" IS NULL THEN "reason" ELSE %s || "attempt" || %s END, "lease_id" = %s,'
            ' "resumed_from" = "checkpoint_percent",'
            ' "retry_at" = NULL, "started_at" = COALESCE("started_at", %s), "attempt_started_at" = %s,'
            ' "reported_at" = %s WHERE "id" = %s AND "finished_at" IS NULL AND "cancelled_at" IS NULL'
            ' AND "children" IS NULL'
            f' AND ("lease_id" IS NULL OR EXISTS (SELECT 1 FROM "{Worker._meta.db_table}"'
            ' WHERE "id" = "lease_id" AND "state" = %s)) RETURNING "attempt"'
        )
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        key = self.model._meta.pk.get_db_prep_value
        lease = key(worker, connection) if worker else None
        values = [State.STARTED.value, SEQ_PER_ATTEMPT, *SHUT_DOWN.split("{}"), lease, now, now, now]
        with connection.cursor() as cursor:
            cursor.execute(statement, [*values, key(task_id, connection), Worker.State.GONE.value])
            row = cursor.fetchone()
        return row[0] if row else None

    def put_off(self, task_id: str, attempt: int, retry_at: datetime, retries: int, reason: str) -> bool:
        """Give up the lease of an attempt that has asked for a retry, before the retry is sent.

        Args:
            task_id: the job's id.
            attempt: the attempt's number.
            retry_at: when the next attempt may begin.
            retries: how many retries the task will have asked for.
            reason: why, for the visitor.

        Returns:
            False if there is nothing to repeat: the job has ended, or another attempt is its current one.
        """
        current = self.unfinished().filter(pk=task_id, attempt=attempt)
        return bool(
            current.update(
                state=State.RETRY,
                lease=None,
                retry_at=retry_at,
                retries=retries,
                reason=reason[:REASON],
                error=reason[:REASON],  # shown until the attempt begins, also by a page that connects meanwhile
                sent=True,
                sent_at=timezone.now(),
            )
        )

    def hand_over(self, task_id: str, attempt: int, worker: uuid.UUID | None, **columns: Any) -> bool:
        """Give up the lease of an attempt whose job goes on as its children do.

        Args:
            task_id: the job's id.
            attempt: the attempt's number.
            worker: the id of the worker that runs the attempt; None outside a worker.
            **columns: how the job stands now.

        Returns:
            False if another attempt is the current one, or the job has ended.
        """
        current = self.unfinished().filter(pk=task_id, attempt=attempt, lease=worker)
        return bool(current.update(state=State.PROGRESS, lease=None, reported_at=timezone.now(), **columns))

    def parents(self) -> "JobQuerySet":
        """Return the jobs that wait for their children."""
        return self.unfinished().filter(children__isnull=False)

    def give_back(self, task_id: str, attempt: int) -> None:
        """Give up the lease of an attempt that was stopped by mistake: the next delivery begins the job again."""
        current = self.unfinished().filter(pk=task_id, attempt=attempt)
        reason = STOPPED.format(attempt)
        current.update(state=State.RETRY, lease=None, reason=reason, error=reason, sent=True, sent_at=timezone.now())

    def due(self, now: datetime) -> "JobQuerySet":
        """Return the jobs that have waited for a worker for longer than `TAKEN_BY_NOW`, the earliest first.

        Args:
            now: the present moment.
        """
        before = now - TAKEN_BY_NOW
        return self.waiting(before).filter(sent_at__lt=before).order_by("sent_at")

    def waiting(self, now: datetime) -> "JobQuerySet":
        """Return the jobs that wait for a worker, without those that wait for the moment of their retry.

        Args:
            now: the present moment.
        """
        waiting = self.unfinished().filter(lease=None, state__in=[State.PENDING, State.RETRY])
        return waiting.filter(Q(retry_at=None) | Q(retry_at__lt=now))

    def save_percentages(self, jobs: Iterable["Job"]) -> None:
        """Write how far many jobs have come, in one go; a row that has ended or knows better stays as it is."""
        prepare = self.model._meta.pk.get_db_prep_value
        rows = [
            (
                *(job.current, job.total, job.reached, job.description, job.reported_at, job.seq),
                *(job.stage_index, job.stage_of, job.stage_name),
                *(prepare(job.pk, connection), job.seq),
            )
            for job in sorted(jobs, key=lambda job: job.pk)  # one order for all that write many rows: no deadlock
        ]
        # The ORM would build and send each of these statements anew, which takes about ten times as long.
        with connection.cursor() as cursor:
            cursor.executemany(
                f'UPDATE "{self.model._meta.db_table}" SET "current" = %s, "total" = %s, "reached" = %s, '  # noqa: S608
                '"description" = %s, "reported_at" = %s, "seq" = %s,'
                ' "stage_index" = %s, "stage_of" = %s, "stage_name" = %s'
                ' WHERE "id" = %s AND "seq" < %s AND "finished_at" IS NULL',
                rows,
            )

    def visible_to(self, owners: Sequence[str], recent: int) -> dict[str, list["Job"]]:
        """Return what owners are shown first: all unfinished jobs and the most recent others, oldest first.

        Children are not among them: their parent shows them.

        One query for all of them, which asks for each owner's most recent jobs apart, so that it reads no more than
        it returns, however long their histories are; planning takes the same short time however many they are.

        Args:
            owners: whose jobs.
            recent: how many finished jobs of each, at most.
        """
        table = f'"{self.model._meta.db_table}"'
        columns = ", ".join(f'job."{field.column}"' for field in self.model._meta.concrete_fields)
        # PostgreSQL uses an index for the one form only, and SQLite knows the other only.
        within = "= ANY (ARRAY(%s))" if connection.vendor == "postgresql" else "IN (%s)"
        newest = within % (
            f'SELECT "id" FROM {table} WHERE "owner" = asked."owner" AND "finished_at" IS NOT NULL'  # noqa: S608
            ' AND "parent_id" IS NULL ORDER BY "created_at" DESC LIMIT %s'
        )
        query = (
            f'WITH asked("owner") AS (VALUES {", ".join(["(%s)"] * len(owners))})'  # noqa: S608
            f" SELECT {columns} FROM asked CROSS JOIN {table} job"
            ' WHERE job."owner" = asked."owner" AND job."finished_at" IS NULL AND job."parent_id" IS NULL'
            f' UNION ALL SELECT {columns} FROM asked CROSS JOIN {table} job WHERE job."id" {newest}'
        )
        visible: dict[str, list[Job]] = {owner: [] for owner in owners}
        for job in self.raw(query, [*owners, recent]):
            visible[job.owner].append(job)
        for mine in visible.values():
            mine.sort(key=lambda job: job.created_at)
        return visible
