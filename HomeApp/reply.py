"""A reply: what a worker has said of a job, read with care."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

from HomeApp.models import FINAL, SEQ_PER_ATTEMPT, State
from HomeApp.progress import JobError, TryAgain

#: Characters of a result that is not yet whole, at most: it is sent again with every report.
PARTIAL = 4000

FAILED = "Something went wrong in this job. It has been noted in the site's log."
UNSTORABLE = "The job came to an end, but its result cannot be stored."
SENTENCES = {
    "WorkerLostError": "The worker that ran this job was lost.",
    "TimeLimitExceeded": "This job took longer than a job may.",
    "SoftTimeLimitExceeded": "This job took longer than a job may.",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker has said of a job, cleaned of all that a row cannot hold."""

    task_id: str
    state: State
    seq: int = 0
    attempt: int = 0
    current: float | None = None
    total: float | None = None
    description: str = ""
    partial: str = ""
    result: Any = None
    error: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, body: dict[str, Any]) -> "Reply":
        """Read the body of an rpc reply.

        Args:
            body: `task_id`, `status`, `result` and `traceback`, as Celery's result backends write them, and the
                `attempt` and the `latest` report of it, as `ReplyBackend` adds them.

        Raises:
            ValueError, TypeError, KeyError: it is no reply of a `JobTask`.
        """
        state, result = State(body["status"]), body["result"]
        if state not in FINAL and state != State.RETRY:
            return cls(
                body["task_id"],
                state,
                seq=int(result["seq"]),
                attempt=int(result["attempt"]),
                current=_number(result.get("current")),
                total=_number(result.get("total")),
                description=_text(result.get("description"))[:200],
                partial=_text(result.get("partial"))[:PARTIAL],
            )
        latest = body.get("latest") or {}
        reply = cls(
            body["task_id"],
            state,
            attempt=int(body.get("attempt") or 0),
            current=_number(latest.get("current")),
            total=_number(latest.get("total")),
        )
        if state == State.SUCCESS and not _storable(result):
            return replace(reply, state=State.FAILURE, error=UNSTORABLE, traceback=_text(repr(result)))
        if state == State.SUCCESS:
            return replace(reply, result=result)
        if state == State.REVOKED:
            return reply
        if state == State.RETRY:
            seq = (reply.attempt + 1) * SEQ_PER_ATTEMPT - 2  # before its job's end, after all else of its attempt
            return replace(reply, seq=seq, error=_sentence(result))
        return replace(reply, error=_sentence(result), traceback=_text(body["traceback"]))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _text(value: Any) -> str:
    return str(value or "").replace("\0", "").encode(errors="replace").decode()


def _storable(result: Any) -> bool:
    """Tell whether every database and every browser can read a result: JSON without NaN, NUL or half characters."""
    try:
        return b"\\u0000" not in json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False


def _sentence(exception: Any) -> str:
    """Return what the visitor may know of an exception: what the task meant for them, or nothing of its inside."""
    if not isinstance(exception, dict):
        return FAILED
    kind, message = exception.get("exc_type"), exception.get("exc_message")
    if kind in (JobError.__name__, TryAgain.__name__) and message:
        return _text(message[0] if isinstance(message, list) else message)[:500]
    return SENTENCES.get(str(kind), FAILED)
