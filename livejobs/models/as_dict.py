"""A job as the dict that is told of it: in frames, and by the API."""

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from livejobs.models.state import MOST_LOSSES
from livejobs.result import table

if TYPE_CHECKING:
    from livejobs.models.job import Job

#: The largest integer that a double holds exactly, and so does JavaScript.
EXACT = 2**53
#: What is told of a job's children: counts, and the titles of the first that have failed.
CHILDREN = ("total", "succeeded", "failed", "running", "failures")


def as_dict(job: "Job") -> dict[str, Any]:
    """Return the dict that draws a job, the same shape from the row to the bar."""
    return {
        "type": "job",
        "task_id": str(job.id),
        "ref": str(job.ref),
        "kind": job.kind,
        "title": job.title,
        "state": str(job.state),
        "current": job.current,
        "total": job.total,
        "percent": job.percent,
        "description": job.description,
        "stage": {"index": stage.number, "of": stage.of, "name": stage.name} if (stage := job.stage) else None,
        "seq": job.seq,
        "attempt": job.attempt,
        "attempts": _most_attempts(job),
        "attempt_started_at": _iso(job.attempt_started_at),
        "attempt_reason": job.reason or None,
        "resumed_from": job.resumed_from,
        "left": None if job.final else whole_seconds(job.left),
        "place": job.place,
        "workers": job.workers,
        "retry_at": _iso(job.retry_at),
        "result": _exact(job.result),
        "table": None if job.result is None else table(job.result),
        "files": None if job.result is None else job.files,
        "error": job.error or None,
        "url": job.url,
        "created_at": _iso(job.created_at),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
        "reported_at": _iso(job.reported_at),
        "cancelling": job.cancelling,
        "parent": str(job.parent_id) if job.parent_id else None,
        "children": {name: job.children[name] for name in CHILDREN} if job.children else None,
        "retry_of": str(job.retry_of_id) if job.retry_of_id else None,
        "partial": None if job.final else job.partial or None,
    }


def _most_attempts(job: "Job") -> int | None:
    """Return the most attempts that there may be, if no worker is shut down; None if there is no limit."""
    from livejobs.kinds import kinds

    if job.final:
        return job.attempt
    task = kinds().get(job.kind)
    if task and task.max_retries is None:
        return None
    retries = max(task.max_retries - job.retries, 0) if task else 0
    return max(job.attempt, 1) + retries + MOST_LOSSES - 1 - job.losses


def whole_seconds(left: tuple[float, float] | None) -> dict[str, int] | None:
    """Return the seconds until the end as they are told, low and high; None if they are not known."""
    return {"low": math.floor(left[0]), "high": math.ceil(left[1])} if left else None


def _exact(value: Any) -> Any:
    """Return a result with the integers as text that a browser would round: JSON numbers are doubles there."""
    if isinstance(value, int):
        return value if -EXACT <= value <= EXACT else str(value)
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return {name: _exact(one) for name, one in value.items()} if isinstance(value, dict) else value


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
