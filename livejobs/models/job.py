"""The job: one run that somebody asked for, and the only ways in which it may move."""

import uuid
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from livejobs.addresses import address
from livejobs.models.as_dict import as_dict
from livejobs.models.queries import JobQuerySet
from livejobs.models.state import FINAL, MOST_LOSSES, REASON, SEQ_PER_ATTEMPT, SHUT_DOWN, State
from livejobs.models.worker import Worker
from livejobs.result import file_of, files_of
from livejobs.signals import job_finished
from livejobs.stages import NAME, Stage, percent_of
from livejobs.time_left import Pace

#: The columns of a stage.
STAGE = ("stage_index", "stage_of", "stage_name")

#: Why an attempt is not the first; `{}` is the number of the attempt before it.
LOST = "The worker that ran attempt {} was lost."
LOST_TOO_OFTEN = f"The worker that ran this job was lost {MOST_LOSSES} times. Start the job again."


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
    reached = models.FloatField(null=True, help_text="The highest percentage of this attempt; empty while unknown.")
    description = models.CharField(max_length=200, blank=True)
    stage_index = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="The present stage, from 1; 0 for a task without stages."
    )
    stage_of = models.PositiveSmallIntegerField(null=True, help_text="How many stages there are; empty while unknown.")
    stage_name = models.CharField(max_length=NAME, blank=True, db_default="")
    seq = models.BigIntegerField(default=0, help_text="Grows with every change; an older one never replaces a newer.")
    attempt = models.PositiveIntegerField(default=0, help_text="0 until a worker has begun the job.")
    lease = models.ForeignKey(
        Worker,
        models.DO_NOTHING,  # a lease of a worker without a row is free
        null=True,
        related_name="leases",
        db_constraint=False,  # a worker may begin a job before its own row is written
        db_index=False,  # the index below holds the unfinished jobs only
        help_text="The worker that runs the current attempt; empty while no attempt runs.",
    )
    losses = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How many attempts have lost their worker."
    )
    retries = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="How many retries the task has asked for."
    )
    retry_at = models.DateTimeField(null=True, help_text="When the next attempt may begin, if the task asked for one.")
    reason = models.CharField(
        max_length=REASON, blank=True, db_default="", help_text="Why the current attempt is not the first."
    )
    checkpoint = models.JSONField(null=True, help_text="What the next attempt goes on from: see checkpoint.py.")
    checkpoint_percent = models.FloatField(null=True, help_text="How far the job had come at the checkpoint.")
    resumed_from = models.FloatField(null=True, help_text="The percentage from which the current attempt goes on.")
    by_site = models.BooleanField(
        default=False, db_default=False, help_text="The site started it; it does not count against the owner's limit."
    )
    result = models.JSONField(null=True)
    error = models.CharField(max_length=REASON, blank=True, help_text="What the visitor is told.")
    parent = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        related_name="+",
        db_index=False,  # the constraint below has one
        help_text="The parent: the job that this job is a part of.",
    )
    position = models.IntegerField(null=True, help_text="Its place among its parent's children; -1 for the last one.")
    weight = models.FloatField(default=1, db_default=1, help_text="Its share of its parent's bar, beside the others'.")
    children = models.JSONField(null=True, help_text="How its children stand, once they alone go on: see parents.py.")
    then = models.JSONField(null=True, help_text="The kind and params of the child that comes after all others.")
    retry_of = models.ForeignKey("self", models.SET_NULL, null=True, help_text="The job that this one repeats.")
    traceback = models.TextField(blank=True, help_text="For the admin's eyes only.")
    file = models.CharField(max_length=200, blank=True, help_text="Name of the file it has made, while that is kept.")

    created_at = models.DateTimeField(default=timezone.now)
    sent = models.BooleanField(default=False, db_default=False, help_text="The broker has said that it has the task.")
    sent_at = models.DateTimeField(
        default=timezone.now, db_default=Now(), help_text="When it was last sent, or last due to be sent."
    )
    started_at = models.DateTimeField(null=True)
    attempt_started_at = models.DateTimeField(null=True, help_text="When the current attempt began.")
    reported_at = models.DateTimeField(null=True, help_text="When the task was last heard of.")
    cancelled_at = models.DateTimeField(null=True, help_text="When the owner asked for its end.")
    finished_at = models.DateTimeField(null=True)

    #: The files that it is to be started with, by their names in the storage. Not stored in the row: see uploads.py.
    uploads: dict[str, Any] = {}
    #: What there is of the result so far. Not stored: the next report brings all of it again.
    partial = ""
    #: The seconds until the end, low and high, and what they are made from: the pace of this attempt, and what earlier
    #: runs took. Not stored: see time_left.py and earlier_runs.py.
    left: tuple[float, float] | None = None
    pace: Pace | None = None
    took: list[float] | None = None
    #: Its place among the waiting jobs, and how many workers take such jobs. Not stored: see place.py.
    place: int | None = None
    workers: int | None = None
    #: Whether watchers have been told that its end was asked for.
    told_cancelling = False
    #: Whether a start has found this job there already, by its ref.
    repeated = False

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "ref"], name="livejobs_one_per_owner_and_ref"),
            models.CheckConstraint(
                condition=Q(state__in=FINAL, finished_at__isnull=False)
                | (~Q(state__in=FINAL) & Q(finished_at__isnull=True)),
                name="livejobs_finished_means_final",
            ),
            models.UniqueConstraint(
                fields=["parent", "position"], condition=Q(parent__isnull=False), name="livejobs_one_per_position"
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "-created_at"], condition=Q(parent=None), name="livejobs_owner_created"),
            models.Index(
                fields=["owner"], condition=Q(finished_at=None, parent=None), name="livejobs_owner_unfinished"
            ),
            models.Index(
                fields=["parent"],
                condition=Q(finished_at=None, parent__isnull=False),
                name="livejobs_unfinished_children",
            ),
            models.Index(fields=["id"], condition=Q(finished_at=None, children__isnull=False), name="livejobs_parents"),
            models.Index(fields=["sent_at"], condition=Q(finished_at=None, lease=None), name="livejobs_waiting"),
            models.Index(fields=["lease"], condition=Q(finished_at=None), name="livejobs_leased"),
            models.Index(fields=["finished_at"], condition=~Q(file=""), name="livejobs_file_finished"),
            models.Index(fields=["kind", "-finished_at"], condition=Q(state=State.SUCCESS), name="livejobs_succeeded"),
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
        """How far the job has come, 0 to 100; None while unknown. It never falls within an attempt."""
        return self.reached if self.stage_index or self.children else percent_of(self.current, self.total, self.reached)

    @property
    def stage(self) -> Stage | None:
        """The stage that the task is in, or was in last; None for a task without stages."""
        return Stage(self.stage_index, self.stage_of, self.stage_name) if self.stage_index else None

    @stage.setter
    def stage(self, stage: Stage | None) -> None:
        self.stage_index, self.stage_of, self.stage_name = stage or (0, None, "")

    @property
    def url(self) -> str | None:
        """The address of the job's first file; None if the job has no file, or the file has been deleted."""
        return address(("api_job_file", "livejobs:file"), self.pk) if self.file else None

    @property
    def files(self) -> list[dict[str, str]] | None:
        """The name and the address of each file; empty once they have been deleted, None if the job has made none."""
        first, several = file_of(self.result), files_of(self.result)
        if not (first or several):
            return None
        if not (url := self.url):
            return None if self.file else []
        one = [{"name": first, "url": url}] if first else []
        return one + [{"name": name, "url": f"{url}?{urlencode({'name': name})}"} for name in several]

    def end(self, state: State, *, result: Any = None, error: str = "", traceback: str = "") -> None:
        """Move this copy of the job to a final state; `save_end` writes it.

        A success has come all the way; any other end keeps the percentage it reached.

        Args:
            state: one of `FINAL`.
            result: what the task returned, as JSON. An object's "file" and "files" name the files that it has made; see
                files.py.
            error: a sentence for the visitor.
            traceback: for the admin.
        """
        self.state, self.result, self.error, self.traceback = state, result, error, traceback
        self.finished_at = timezone.now()
        self.lease, self.retry_at = None, None
        self.seq = max((self.attempt + 1) * SEQ_PER_ATTEMPT - 1, self.seq + 1)
        if state == State.SUCCESS:
            self.total = self.total or 1
            self.current, self.reached = self.total, 100
            self.file = (file_of(result) or next(iter(files_of(result)), ""))[:200]

    def save_end(self, **condition: Any) -> bool:
        """Write this copy's end, unless the job has ended already: finished is final. Then send `job_finished`.

        Args:
            **condition: what the row must have besides.

        Returns:
            Whether it was written.
        """
        written = self._save_unless_final(
            "state",
            "attempt",
            "lease",
            "losses",
            "retry_at",
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
            "reached",
            "children",
            *STAGE,
            **condition,
        )
        if written:
            transaction.on_commit(partial(job_finished.send_robust, sender=Job, job=self))
        return written

    def interrupt(self, *, lost: bool) -> None:
        """Move this copy on from an attempt that its worker will not finish; `save_interrupted` writes it.

        The job waits for its next attempt. It ends if it was cancelled, or has lost its worker too often: so many times
        since an attempt has written a checkpoint that goes beyond the one before.

        Args:
            lost: whether the worker was lost. If not, then it was shut down, which does not count as a loss.
        """
        advanced = (self.checkpoint or {}).get("attempt") == self.attempt
        self.losses = lost if advanced else self.losses + lost
        if self.cancelled_at:
            self.end(State.REVOKED)
        elif self.losses >= MOST_LOSSES:
            self.end(State.FAILURE, error=LOST_TOO_OFTEN)
        else:
            self.state, self.lease, self.sent, self.sent_at = State.RETRY, None, False, timezone.now()
            self.reason = self.error = (LOST if lost else SHUT_DOWN).format(self.attempt)
            self.seq = (self.attempt + 1) * SEQ_PER_ATTEMPT - 2  # above each report of its attempt, below the end

    def save_interrupted(self, lease: uuid.UUID) -> bool:
        """Write this copy after `interrupt`, if the row still has this attempt and this lease.

        Args:
            lease: the id of the worker that held the lease.

        Returns:
            Whether it was written.
        """
        if self.final:
            return self.save_end(attempt=self.attempt, lease=lease)
        return self._save_unless_final(
            *("state", "lease", "losses", "reason", "error", "sent", "sent_at", "seq", "current", "total", "reached"),
            *STAGE,
            attempt=self.attempt,
            lease=lease,
        )

    def save_progress(self) -> bool:
        """Write how far this copy has come, unless the job has ended or the row knows better.

        Returns:
            Whether it was written.
        """
        return self._save_unless_final(
            *("state", "current", "total", "reached", "description", "error", "seq", "started_at", "reported_at"),
            *STAGE,
            seq__lt=self.seq,
        )

    def save_as_parent(self) -> bool:
        """Write how this copy's children stand, unless the job has ended. Returns whether it was written."""
        fields = ("children", "description", "current", "total", "reached", "reported_at", "seq")
        return self._save_unless_final(*fields, seq__lt=self.seq)

    def _save_unless_final(self, *fields: str, **condition: Any) -> bool:
        row = Job.objects.unfinished().filter(pk=self.pk, **condition)
        return bool(row.update(**{field: getattr(self, field) for field in fields}))

    def snapshot(self) -> dict[str, Any]:
        """Return the dict that draws this job, the same shape from the row to the bar."""
        return as_dict(self)
