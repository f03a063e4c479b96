"""How jobs with children stand, counted in the relay: a report of a child costs the same however many there are.

What is counted is read from the rows when the relay begins with a parent, and again after each change that no reply has
told. So an end that a relay has written before it died is counted by the next one.
"""

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, F, FloatField, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from livejobs import files
from livejobs.apply_reply import time_left
from livejobs.children import LAST, cancel_children
from livejobs.job_cache import OUTAGES
from livejobs.models import FINAL, Job, State
from livejobs.new_job import prepare
from livejobs.outcome import FAILED
from livejobs.refused import Refused
from livejobs.reply import DESCRIPTION

logger = logging.getLogger(__name__)

#: Seconds between two snapshots of a parent, between two writes of its row, and between two looks for parents.
SHOW_EVERY, SAVE_EVERY, LOOK_EVERY = 0.1, 1.0, 2.0
#: Children that have failed and are named.
NAMED = 5
SOME_FAILED = "{failed:,} of {total:,} parts failed: {names}."
DELETED = "one that was deleted"
CANCELLED = "{} was cancelled."


class Parent:
    """A job and what is counted of its children.

    Args:
        job: as its row says.
        newer: returns the relay's own copy of a child, which may know a newer percentage than its row.
    """

    def __init__(self, job: Job, newer: Callable[[Job], Job]) -> None:
        self.job = job
        told: dict[str, Any] = job.children or {}
        self.base: float = told["base"]
        self.weight: float = told["weight"]
        self.total: int = told["total"]
        self.ended = 0.0  # the shares of the children that have ended, as weight times percentage
        self.running: dict[uuid.UUID, tuple[float, bool]] = {}  # the share of each other one, and whether it runs
        self.last: Job | None = None
        self.next_show, self.next_save = 0.0, 0.0
        self.is_shown = False
        self._read(newer)

    def _read(self, newer: Callable[[Job], Job]) -> None:
        mine = Job.objects.filter(parent=self.job.pk)
        reached = Coalesce(F("reached"), Value(0.0), output_field=FloatField())
        ended = mine.filter(state__in=FINAL, position__gte=0).values("state")
        counts = {
            one["state"]: (one["count"], one["share"])
            for one in ended.annotate(count=Count("pk"), share=Sum(F("weight") * reached)).order_by()
        }
        self.succeeded: int = counts.get(State.SUCCESS, (0, 0.0))[0]
        self.ended = sum(share for _, share in counts.values())
        failed = mine.filter(state__in=[State.FAILURE, State.REVOKED], position__gte=0)
        self.failed: int = sum(count for state, (count, _) in counts.items() if state != State.SUCCESS)
        self.failures = list(failed.order_by("finished_at").values_list("title", flat=True)[:NAMED])
        for child in mine.exclude(state__in=FINAL).filter(attempt__gt=0, position__gte=0):
            self.note(newer(child))
        deleted = self.total - mine.filter(position__gte=0).count()
        self.failed += deleted
        self.failures = [*self.failures, *[DELETED] * deleted][:NAMED]
        self.last = mine.filter(position=LAST).first()

    def note(self, child: Job) -> None:
        """Count a child as it stands now; its end is counted once.

        Args:
            child: one of this job's, in a state that was not noted before.
        """
        self.is_shown = False
        if child.position == LAST:
            self.last = child
            return
        self.running.pop(child.pk, None)
        share = child.weight * (child.percent or 0)
        if not child.final:
            self.running[child.pk] = share, child.state in (State.STARTED, State.PROGRESS)
            return
        self.ended += share
        if child.state == State.SUCCESS:
            self.succeeded += 1
        else:
            self.failed += 1
            self.failures = [*self.failures, child.title][:NAMED]

    @property
    def reached(self) -> float:
        """The percentage of the whole job."""
        shares = self.ended + math.fsum(share for share, _ in self.running.values())
        if self.last:
            shares += self.last.weight * (self.last.percent or 0)
        return round(self.base + (100 - self.base) * min(shares / (100 * self.weight), 1), 2)

    def update(self) -> Job:
        """Move the job on to what is counted. Returns it."""
        job = self.job
        running = sum(runs for _, runs in self.running.values())
        job.children = {
            **(job.children or {}),
            "succeeded": self.succeeded,
            "failed": self.failed,
            "running": running,
            "failures": self.failures,
        }
        job.reached = max(job.reached or 0, self.reached)
        job.description = self.last.title[:DESCRIPTION] if self.last else ""
        job.current, job.total = self.succeeded + self.failed, self.total
        job.reported_at = timezone.now()
        job.left = time_left(job)
        job.seq += 1
        return job

    @property
    def is_complete(self) -> bool:
        """Whether all children have ended, but for the one that comes after them."""
        return self.succeeded + self.failed >= self.total

    def end(self) -> None:
        """End the job: it was cancelled, or all of its children have ended."""
        last = self.last
        if self.job.cancelled_at:
            self.job.end(State.REVOKED)
        elif self.failed:
            names = ", ".join(self.failures)
            more = ", …" if self.failed > len(self.failures) else ""
            self.job.end(
                State.FAILURE,
                error=SOME_FAILED.format(failed=self.failed, total=self.total, names=names + more)[:500],
            )
        elif last is None:
            self.job.end(State.SUCCESS)
        elif last.state == State.REVOKED:
            self.job.end(State.FAILURE, error=CANCELLED.format(last.title)[:500])
        else:
            if last.file:
                files.give(str(last.pk), str(self.job.pk))
            self.job.end(State(last.state), result=last.result, error=last.error, traceback=last.traceback)


class Parents:
    """The parents whose children one relay counts.

    Args:
        newer: returns the relay's own copy of a job, which may know a newer percentage than its row.
        send: sends the task of a child that comes after all others.
    """

    def __init__(self, newer: Callable[[Job], Job], send: Callable[[Job], object]) -> None:
        self.newer, self.send = newer, send
        self.known: dict[uuid.UUID, Parent] = {}
        self.changed: dict[uuid.UUID, Parent] = {}
        self.next_look = 0.0

    def clear(self) -> None:
        """Forget all: another relay may go on with them. The shares of children are in their own rows."""
        self.known.clear()
        self.changed.clear()
        self.next_look = 0.0

    def read(self, pk: uuid.UUID) -> None:
        """Read anew how a job stands, as something has become of it or its children without a reply.

        Args:
            pk: its id; a job that waits for no children is ignored.
        """
        told = self.known.pop(pk, None)
        self.changed.pop(pk, None)
        job = Job.objects.parents().filter(pk=pk).first()
        if job and told:  # the row is a second behind
            job.seq, job.reached = max(job.seq, told.job.seq), max(job.reached or 0, told.job.reached or 0)
        if job:
            self.known[pk] = self.changed[pk] = Parent(job, self.newer)

    def note(self, child: Job) -> None:
        """Count what has become of a child; see `Parent.note`."""
        parent = self.known.get(child.parent_id) if child.parent_id else None
        if parent:
            parent.note(child)
            self.changed[parent.job.pk] = parent

    def adopt(self, visitor: str, owner: str) -> None:
        """Give a visitor's jobs to a user; called from any thread."""
        for parent in list(self.known.values()):
            if parent.job.owner == visitor:
                parent.job.owner = owner

    def news(self) -> Iterator[Job]:
        """Yield the jobs whose children have moved on, each at most so often; those that end are written first."""
        now = time.monotonic()
        if now >= self.next_look:
            self.next_look = now + LOOK_EVERY
            self._look()
        for pk, parent in list(self.changed.items()):
            try:
                yield from self._news(pk, parent, now)
            except OUTAGES:
                raise
            except Exception:
                logger.exception("The children of job %s cannot be counted", pk)
                self.changed.pop(pk, None)

    def _look(self) -> None:
        """Find the jobs that no notice has told of, and the children whose parent has ended before them."""
        rows = set(Job.objects.parents().values_list("pk", flat=True))
        for pk in self.known.keys() - rows:
            del self.known[pk]
            self.changed.pop(pk, None)
        for pk in rows - self.known.keys():
            try:
                self.read(pk)
            except OUTAGES:
                raise
            except Exception:
                logger.exception("The children of job %s cannot be read", pk)
        left = Job.objects.unfinished().filter(parent__finished_at__isnull=False, cancelled_at=None)
        for parent in left.values_list("parent", flat=True).distinct():
            cancel_children(parent)

    def _news(self, pk: uuid.UUID, parent: Parent, now: float) -> Iterator[Job]:
        job = parent.job
        if parent.is_complete and not (parent.failed or parent.last or job.cancelled_at) and job.then:
            parent.last = self._start_last(job)
        if job.cancelled_at or (parent.is_complete and (parent.failed or not job.then or _ended(parent.last))):
            yield from self._end(parent)
            return
        if now < parent.next_show:
            return
        parent.next_show = now + SHOW_EVERY
        if not parent.is_shown:
            parent.is_shown = True
            yield parent.update()
        if now >= parent.next_save:
            parent.next_save = now + SAVE_EVERY
            parent.job.save_as_parent()
            del self.changed[pk]

    def _end(self, parent: Parent) -> Iterator[Job]:
        job = parent.update()
        parent.end()
        written = job.save_end(lease=None)
        del self.known[job.pk], self.changed[job.pk]
        if written:
            Job.objects.filter(parent=job.pk, position=LAST).update(file="")  # the parent has its files
            yield job
        cancel_children(job.pk)

    def _start_last(self, job: Job) -> Job:
        """Start the child that comes after all others; its id is that of an earlier try, if there was one."""
        then: dict[str, Any] = job.then or {}
        try:
            last = prepare(job.owner, then["kind"], then["params"], by_site=True)
        except Refused as refused:
            logger.error("The last child of job %s is refused: %s", job.pk, refused.detail)
            last = Job(owner=job.owner, kind=then["kind"], params=then["params"], title=then["kind"])
            last.end(State.FAILURE, error=FAILED)
        last.parent, last.position, last.weight = job, LAST, then["weight"]
        try:
            with transaction.atomic():
                last.save(force_insert=True)
        except IntegrityError:
            return Job.objects.get(parent=job, position=LAST)
        if not last.final:
            self.send(last)
        return last


def _ended(child: Job | None) -> bool:
    return child is not None and child.final
