"""A reply: what a worker says of a job, cleaned by the worker that writes it, and again by the relay that reads it."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from livejobs.models import EXACT, FINAL, SEQ_PER_ATTEMPT, State
from livejobs.outcome import FAILED, SENTENCE, TaskFailed, as_result
from livejobs.stages import NAME, Stage

logger = logging.getLogger(__name__)

#: Characters of a description, as the row has them.
DESCRIPTION = 200
#: Characters of a result that is not yet whole, at most: it is sent again with every report.
PARTIAL = 4000
#: Characters of a traceback: its last ones, which name the exception.
TRACEBACK = 64 * 1024
#: What the columns of the row hold, on every database.
MOST_ATTEMPT, MOST_SEQ, MOST_STAGES = 2**31 - 1, 2**63 - 1, 2**15 - 1

UNREADABLE = "The job came to an end, but its result cannot be read."


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker has said of a job, cleaned of all that a row cannot hold."""

    task_id: str
    state: State
    seq: int = 0
    attempt: int = 0
    current: float | None = None
    reached: float | None = None
    total: float | None = None
    description: str = ""
    stage: Stage | None = None
    partial: str = ""
    result: Any = None
    error: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, body: Any) -> "Reply":
        """Read the body of a reply, as `ReplyBackend` has written it.

        Args:
            body: a report has its numbers in `result`; an end has its `result` or its `error`, and the `attempt`
                and the `latest` report of it.

        Returns:
            The reply. An end of a job that cannot be read otherwise is a FAILURE that says so.

        Raises:
            ValueError: it is no reply of a `JobTask`.
        """
        try:
            task_id, state = str(UUID(body["task_id"])), State(body["status"])
            if state not in FINAL:
                return cls._on_the_way(task_id, state, body)
        except Exception as problem:  # a body may be anything, and so may each part of it
            raise ValueError(f"This is no reply of a job: {problem!r}") from problem
        try:
            return cls._end(task_id, state, body)
        except Exception:
            logger.exception("The end of job %s cannot be read", task_id)
            return cls(task_id, State.FAILURE, error=UNREADABLE)

    @classmethod
    def _on_the_way(cls, task_id: str, state: State, body: dict[str, Any]) -> "Reply":
        if state == State.RETRY:
            reply = cls._ended_attempt(task_id, state, body)
            seq = (reply.attempt + 1) * SEQ_PER_ATTEMPT - 2  # before its job's end, after all else of its attempt
            return replace(reply, seq=seq, error=_error(body))
        result = body["result"]
        return cls(
            task_id,
            state,
            seq=_count(result["seq"], MOST_SEQ),
            attempt=_count(result["attempt"], MOST_ATTEMPT),
            reached=_percent(result.get("reached")),
            stage=_stage(result.get("stage")),
            **cleaned(result),
        )

    @classmethod
    def _end(cls, task_id: str, state: State, body: dict[str, Any]) -> "Reply":
        reply = cls._ended_attempt(task_id, state, body)
        if state == State.REVOKED:
            return reply
        if state == State.FAILURE:
            return replace(reply, error=_error(body), traceback=text(body.get("traceback"), -TRACEBACK))
        try:
            return replace(reply, result=as_result(body["result"]))
        except TaskFailed as unstorable:
            return replace(reply, state=State.FAILURE, error=unstorable.sentence, traceback=str(unstorable))

    @classmethod
    def _ended_attempt(cls, task_id: str, state: State, body: dict[str, Any]) -> "Reply":
        latest = body.get("latest") or {}
        attempt = _count(body.get("attempt") or 0, MOST_ATTEMPT)
        return cls(
            task_id,
            state,
            attempt=attempt,
            current=number(latest.get("current")),
            total=number(latest.get("total")),
            reached=_percent(latest.get("reached")),
            stage=_stage(latest.get("stage")),
        )


def cleaned(meta: Mapping[Any, Any]) -> dict[str, Any]:
    """Return of a report what a row and a page can hold.

    Args:
        meta: `current`, `total`, `description` and `partial`, each of any type; what is missing stays so.
    """
    clean: dict[str, Any] = {name: number(meta[name]) for name in ("current", "total") if name in meta}
    for name, most in (("description", DESCRIPTION), ("partial", PARTIAL)):
        if name in meta:
            clean[name] = text(meta[name], most)
    return clean


def number(value: Any) -> float | None:
    """Return a number that every database and every browser can hold; None for all else.

    Args:
        value: a number, whatever its class, or its digits as text.
    """
    if value is None or isinstance(value, bool):
        return None
    try:
        fitting = value if type(value) is int and -EXACT <= value <= EXACT else float(value)
    except Exception:  # `__float__` of any class may raise anything
        return None
    return fitting if math.isfinite(fitting) else None


def _percent(value: Any) -> float | None:
    percent = number(value)
    return None if percent is None else min(max(percent, 0), 100)


def _stage(value: Any) -> Stage | None:
    """Return a stage that a row can hold; None for all else."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    index, of, name = value
    try:
        known = None if of is None else _count(of, MOST_STAGES)
        return Stage(_count(index, MOST_STAGES), known, text(name, NAME))
    except ValueError:
        return None


def text(value: Any, most: int) -> str:
    """Return text that every database and every browser can hold.

    Args:
        value: anything.
        most: how many characters; where it is negative, the last ones are kept.
    """
    try:
        whole = "" if value is None else str(value)
    except Exception as problem:
        logger.warning("A %s has no text: %s", type(value).__name__, type(problem).__name__)
        return ""
    # Cut twice: a part is quick to clean, and cleaning may change its length.
    clean = _part(whole, 2 * most).replace("\0", "").encode(errors="replace").decode()
    return _part(clean, most)


def _part(whole: str, most: int) -> str:
    return whole[:most] if most >= 0 else whole[most:]


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.100} is no number from 0 to {most}")
    return value


def _error(body: dict[str, Any]) -> str:
    return text(body.get("error"), SENTENCE) or FAILED
