"""A job as it is told: made once, for all sockets."""

import json
from typing import NamedTuple

from HomeApp.models import Job

to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Snapshot(NamedTuple):
    """A job's snapshot, on its way to those who may see it."""

    owner: str
    task_id: str
    state: str
    seq: int
    final: bool
    text: str  #: the JSON text frame, made once for all sockets

    @classmethod
    def of(cls, job: Job) -> "Snapshot":
        """Return the snapshot of a job as it is now."""
        snapshot = job.snapshot()
        return cls(job.owner, snapshot["task_id"], snapshot["state"], job.seq, job.final, to_json(snapshot))
