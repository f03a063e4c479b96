"""A job as it is told: made once, for all sockets."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from livejobs.models import Job

to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

#: The state and `seq` of a job that has been deleted, which outrank all others: a row holds no larger `seq`.
GONE, LAST_SEQ = "GONE", 2**63 - 1


class Snapshot(NamedTuple):
    """A job's snapshot, on its way to the watchers that may see it."""

    owner: str
    task_id: str
    state: str
    seq: int
    final: bool
    text: str  #: the JSON text frame, made once for all sockets

    @classmethod
    def of(cls, job: Job) -> "Snapshot":
        """Return the snapshot of a job as it is now.

        That of a child is not for all watchers of its owner, as its parent shows it: only for those of the child alone.
        """
        snapshot = job.snapshot()
        owner = "" if job.parent_id else job.owner
        return cls(owner, snapshot["task_id"], snapshot["state"], job.seq, job.final, to_json(snapshot))

    @classmethod
    def gone(cls, owner: str, task_id: str) -> "Snapshot":
        """Return what is told of a job whose row has been deleted: the last that is told of it."""
        return cls(owner, task_id, GONE, LAST_SEQ, True, to_json({"type": "gone", "task_id": task_id}))

    @classmethod
    def read(cls, fields: Iterable[Any]) -> "Snapshot":
        """Return the snapshot that another process has sent.

        Args:
            fields: of a snapshot, in order.

        Raises:
            TypeError: these are no fields of a snapshot.
        """
        snapshot = cls(*fields)
        if tuple(map(type, snapshot)) != TYPES:
            raise TypeError(f"not the fields of a snapshot: {fields!r:.200}")
        return snapshot


TYPES = tuple(Snapshot.__annotations__.values())
