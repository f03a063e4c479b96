"""The worker: one Celery worker process as the database knows it. It holds the leases of the jobs that it runs."""

import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.db import models
from django.db.models import F
from django.utils import timezone

#: How long the row of a worker is kept after the worker has stopped.
KEEP = timedelta(days=1)


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, by the questions that are asked about them."""

    def alive(self) -> "WorkerQuerySet":
        """Return the workers that are neither lost nor gone."""
        return self.filter(state=Worker.State.ALIVE)

    def beat(self, pk: uuid.UUID, jobs: list[str], queues: list[str] | None = None, **about: Any) -> None:
        """Advance the counter of a worker, and write which jobs it runs; insert its row if there is none.

        The rows of workers that stopped long ago are deleted when a new worker comes, so they do not add up.

        A worker that was judged as lost, and beats again, is alive again. The leases that the sweep took from it
        meanwhile stay taken.

        Args:
            pk: the worker's id.
            jobs: the ids of the jobs that it runs.
            queues: the names of the queues that it takes tasks from; None if they are unknown.
            **about: the other columns of the row.
        """
        changed = self.filter(pk=pk).update(
            beats=F("beats") + 1, jobs=jobs, queues=queues, state=Worker.State.ALIVE, left_at=None
        )
        if not changed:
            self.prune()
            self.create(pk=pk, jobs=jobs, queues=queues, **about)

    def leave(self, pk: uuid.UUID) -> None:
        """Mark a worker as gone, at the end of an orderly shutdown. This frees its jobs at once."""
        self.filter(pk=pk).update(state=Worker.State.GONE, left_at=timezone.now(), jobs=[])

    def lose(self, pk: uuid.UUID, beats: int) -> bool:
        """Mark a worker as lost, unless its counter has moved.

        Args:
            pk: the worker's id.
            beats: the counter that did not move.

        Returns:
            Whether it was marked.
        """
        silent = self.alive().filter(pk=pk, beats=beats)
        return bool(silent.update(state=Worker.State.LOST, left_at=timezone.now()))

    def prune(self) -> None:
        """Delete the rows of workers that stopped long ago. Their leases were given to others within seconds."""
        self.filter(left_at__lt=timezone.now() - KEEP).delete()


class Worker(models.Model):
    """One Celery worker process. Its counter proves that it lives: no clock is compared."""

    class State(models.TextChoices):
        """Whether the worker runs."""

        ALIVE = "ALIVE"
        GONE = "GONE"  #: it has shut down in order
        LOST = "LOST"  #: its counter stood still for too long

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=8, choices=State, default=State.ALIVE)
    host = models.CharField(max_length=255, help_text="The worker's node name, as Celery shows it.")
    pool = models.CharField(max_length=64, help_text="Celery's name of its pool: prefork, threads, solo, …")
    slots = models.PositiveIntegerField(help_text="How many tasks it runs at the same time.")
    queues = models.JSONField(null=True, help_text="The queues that it takes tasks from; empty while unknown.")
    jobs = models.JSONField(default=list, help_text="The ids of the jobs that it runs.")
    beats = models.PositiveBigIntegerField(default=0, help_text="Grows while the worker lives.")
    started_at = models.DateTimeField(default=timezone.now)
    left_at = models.DateTimeField(null=True, help_text="When it was marked as gone or lost.")

    #: The id of the worker that this process belongs to; None in every other process.
    current_id: ClassVar[uuid.UUID | None] = None

    objects = WorkerQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["state"], name="livejobs_worker_state")]

    def __str__(self) -> str:
        return f"{self.host} ({self.state})"
