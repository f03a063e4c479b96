"""Children: a job starts other jobs as its parts. The parent holds no worker while they run.

The task of the parent gives the list of its children, and returns. They are jobs of their own, in any queue. The relay
counts them for their parent's bar, and ends the parent after the last of them: see parents.py.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from celery.app.task import Context
from django.db.models import F
from django.utils import timezone

from livejobs import stop
from livejobs.models import SEQ_PER_ATTEMPT, Job, State
from livejobs.outage import with_database
from livejobs.track import TrackingTask

#: Children that are written and sent in one go.
BATCH = 200
#: The position of the child that comes after all others.
LAST = -1

NO_JOB = "children: this task runs without a job. Start it with livejobs.start; in a test, with run_job."
TWICE = "children: a job has one list of children. Call self.children once, with all of them."
EMPTY = "children: the list is empty. Return without a call of self.children."
NO_CHILD = "children: child {} is {}. Give (kind, params) or (kind, params, weight); a kind is a task or its name."
NO_WEIGHT = "children: the weight of child {} is {}. Give a number above 0."
NO_FILES = "children: child {} has a file among its parameters. Let it open that of its parent: self.parent.params."
CHANGED = "children: child {} is another one than in an earlier attempt. Give the same list in each attempt."


class Child(NamedTuple):
    """A job that is to be started as a part of another one."""

    kind: str
    params: dict[str, Any]
    weight: float = 1.0

    @classmethod
    def read(cls, given: Any, position: int) -> "Child":
        """Return a child as a task has given it.

        Args:
            given: a kind, or a sequence of a kind, params and a weight, of which the later ones may be missing.
            position: its place in the list.

        Raises:
            ValueError: it is none; the message names the remedy.
        """
        parts = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
        kind, params, weight = [*parts, *({}, 1.0)[len(parts) - 1 :]] if 1 <= len(parts) <= 3 else (None, None, None)
        kind = getattr(kind, "name", kind)
        if not isinstance(kind, str) or not isinstance(params, dict):
            raise ValueError(NO_CHILD.format(position, f"{given!r:.100}"))
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ValueError(NO_WEIGHT.format(position, f"{weight!r:.100}"))
        return cls(kind.rpartition(".")[2], params, float(weight))


class ParentTask(TrackingTask):
    """A task that may start children."""

    abstract = True

    def children(self, children: Iterable[Any], *, then: Any = None) -> None:
        """Start jobs that are parts of this one. This job goes on as they do, and ends after the last of them.

        Call it last, as the job's attempt is over when the task returns, and what the task returns is not shown. The
        rest of the bar is the children's, shared by their weights. If one fails, then the others go on, and the job
        fails after the last of them. A retry of the job repeats only the children that have not succeeded.

        In each attempt, the list must be the same: children that are there already are not started again.

        Args:
            children: of each `(kind, params)` or `(kind, params, weight)`. A kind is a task or its short name.
            then: such a child, which is started when all others have succeeded. Its result is this job's.

        Raises:
            ValueError: something is wrong with the list; the message names the remedy.
            livejobs.Refused: the form of a kind refuses a child's parameters.
        """
        request = self.reporting(None)
        if not request.attempt:
            raise ValueError(NO_JOB)
        if request.child_counts:
            raise ValueError(TWICE)
        parent = with_database(request.id, Job.objects.get, pk=request.id)
        prepared = [_prepared(parent, one, position) for position, one in enumerate(children)]
        if not prepared:
            raise ValueError(EMPTY)
        last = None if then is None else _prepared(parent, then, LAST)
        missing = with_database(request.id, _without_those_there, parent, prepared)
        request.child_counts = {
            "total": len(prepared),
            "succeeded": 0,
            "failed": 0,
            "running": 0,
            "failures": [],
            "base": request.reached or 0.0,
            "weight": sum(child.weight for child in [*prepared, last] if child),
        }
        request.then = last and {"kind": last.kind, "params": last.params, "weight": last.weight}
        for start in range(0, len(missing), BATCH):
            stop.heed(request)
            self._start(request, missing[start : start + BATCH])

    def results(self) -> Iterator[Any]:
        """Yield what the children have returned that came before this one, in the order of their list.

        It is for the task of the `then` of `self.children`.
        """
        if parent := self.parent:
            succeeded = Job.objects.filter(parent=parent, position__gte=0, state=State.SUCCESS).order_by("position")
            yield from with_database(self.request.id, list, succeeded.values_list("result", flat=True))

    @property
    def parent(self) -> Job | None:
        """The job that this one is a part of, as its row is now; None if there is none."""
        own = with_database(self.request.id, Job.objects.filter(pk=self.request.id).select_related("parent").first)
        return own.parent if own else None

    def _start(self, request: Context, batch: list[Job]) -> None:
        """Write the rows of children, and send their tasks. The sweep sends what cannot be sent now."""
        from livejobs import jobs

        now = timezone.now()
        for child in batch:
            child.sent_at = now  # they were prepared long ago, if there are many: the sweep would send them too
        # A stale attempt may write the same ones.
        with_database(request.id, Job.objects.bulk_create, batch, ignore_conflicts=True)
        if inline := request.get("inline"):
            for child in batch:
                inline.run_child(child)
            return
        sent = []
        for child in batch:
            if not jobs.publish(child):
                break
            sent.append(child.pk)
        with_database(request.id, Job.objects.filter(pk__in=sent).update, sent=True)


def cancel_children(parent: Any) -> None:
    """Cancel the unfinished children of a job that has ended.

    Those that wait end in one statement, however many they are; `job_finished` is not sent for them. Those that run are
    told to stop.

    Args:
        parent: the job's id.
    """
    now = timezone.now()
    children = Job.objects.unfinished().filter(parent=parent)
    children.filter(cancelled_at=None).update(cancelled_at=now)
    waiting = children.filter(lease=None, children__isnull=True)
    waiting.update(state=State.REVOKED, finished_at=now, seq=(F("attempt") + 1) * SEQ_PER_ATTEMPT - 1)
    for child in children.values_list("pk", flat=True):
        stop.tell_workers(child)


def _prepared(parent: Job, given: Any, position: int) -> Job:
    """Return the child that a task has given, which has no row yet."""
    from livejobs.new_job import prepare

    child = Child.read(given, position)
    job = prepare(parent.owner, child.kind, child.params, by_site=True)
    if job.uploads:
        raise ValueError(NO_FILES.format(position))
    job.parent, job.position, job.weight = parent, position, child.weight
    return job


def _without_those_there(parent: Job, prepared: list[Job]) -> list[Job]:
    """Return the children that have no row yet: an attempt or a job before this one may have written some.

    Raises:
        ValueError: a child differs from the one that an earlier attempt has written.
    """
    mine = Job.objects.filter(parent=parent, position__gte=0).order_by("position")
    there = {position: (kind, params) for position, kind, params in mine.values_list("position", "kind", "params")}
    listed = {child.position: (child.kind, child.params) for child in prepared}
    others = [position for position, child in there.items() if listed.get(position) != child]
    if others and parent.retry_of_id:  # the list has changed since the job that this one repeats
        mine.filter(position__in=others, state=State.SUCCESS).update(parent=parent.retry_of_id)
        others = list(mine.filter(position__in=others).values_list("position", flat=True))
    if others:
        raise ValueError(CHANGED.format(others[0]))
    return [child for child in prepared if there.get(child.position) != listed[child.position]]
