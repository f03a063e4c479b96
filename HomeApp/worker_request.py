"""How a worker's main process ends a cancelled job in one of its children."""

import contextlib
import os
import signal as signals
from typing import Any

from celery.concurrency.prefork import TaskPool
from celery.worker.request import Request


class JobRequest(Request):
    """Celery's request, for a child that outlives the job that is ended in it.

    Celery has the pool send the signal, which then holds the child for terminated, for good: were the child to die
    later, in another job, that one would count as cancelled (billiard 4.3, `Pool.terminate_job`).
    """

    def terminate(self, pool: Any, signal: str | int | None = None) -> None:
        """End the job.

        Args:
            pool: of the worker.
            signal: its name or number. A child outlives SIGUSR1, which raises `SoftTimeLimitExceeded` in the task.
        """
        outlived = signal in ("SIGUSR1", signals.SIGUSR1)
        if not (outlived and self.time_start and isinstance(pool, TaskPool)):
            super().terminate(pool, signal)
            return
        with contextlib.suppress(ProcessLookupError):  # the child is dead, and the job with it
            os.kill(self.worker_pid, signals.SIGUSR1)
        self._announce_revoked("terminated", True, signals.SIGUSR1, False)
