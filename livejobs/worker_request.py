"""How a worker's main process looks after the jobs that its pool runs."""

import contextlib
import signal as signals
import time
from typing import Any

from celery.concurrency.prefork import TaskPool
from celery.worker import state as worker_state
from celery.worker.control import control_command
from celery.worker.request import Request

from livejobs import stop
from livejobs.outcome import OUT_OF_MEMORY, TaskFailed

#: Seconds until a job that goes on is told to stop again: it may be cleaning up.
STOP_AGAIN = 10.0


class JobRequest(Request):
    """Celery's request, for a child that outlives the job that is stopped in it.

    Celery has the pool send the signal, which then holds the child for terminated, for good: were the child to die
    later, in another job, that one would count as cancelled (billiard 4.3, `Pool.terminate_job`). Celery also says at
    once that the job is revoked. Here the job's attempt says what has become of it, as it looks at the row.
    """

    #: Jobs always reply; see `JobTask.apply_async`.
    ignore_result = False
    store_errors = True
    stopped_at = -STOP_AGAIN
    #: The pool, if the job is to be stopped as soon as a child has begun it.
    stop_once_begun: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # For the attempt to know, in whichever process it runs: the worker's own limit is known here alone.
        self.request_dict["soft_limit"] = (
            self.time_limits[1] or self.task.soft_time_limit or self.task.worker_soft_time_limit
        )
        self.request_dict["ignore_result"] = False

    def terminate(self, pool: Any, signal: str | int | None = None) -> None:
        """Stop the job; from any thread.

        Args:
            pool: of the worker.
            signal: its name or number. A child of the prefork pool outlives SIGUSR1, which raises `Stopped` in the
                task. In the other pools no signal is sent: `Stopped` is raised at the task's next report.
        """
        if isinstance(pool, TaskPool) and signal not in ("SIGUSR1", signals.SIGUSR1):
            super().terminate(pool, signal)
        elif not self.time_start:
            self.stop_once_begun = pool
        elif time.monotonic() - self.stopped_at >= STOP_AGAIN and self._stop(pool):
            self.stopped_at = time.monotonic()

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Note which process has begun the job; stop the job if that was asked for before.

        Args:
            pid: of the process.
            time_accepted: when, by the monotonic clock.
        """
        super().on_accepted(pid, time_accepted)
        if self.stop_once_begun:
            self.terminate(self.stop_once_begun, "SIGUSR1")

    def _stop(self, pool: Any) -> bool:
        if not isinstance(pool, TaskPool):
            return stop.ask(self.id)
        with contextlib.suppress(ProcessLookupError):  # the child is dead, and the job with it
            stop.signal_child(self.worker_pid, self.id)
        return True

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Handle a failure. A MemoryError is handled like every other: Celery would end the worker.

        It comes from Celery's own code in the child, or from a hook of the task: what the task itself raises is
        contained there.

        Args:
            exc_info: the exception.
            send_failed_event: as Celery has it.
            return_ok: as Celery has it.
        """
        problem = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(problem, MemoryError):
            exc_info.exception = TaskFailed("MemoryError", OUT_OF_MEMORY)
        super().on_failure(exc_info, send_failed_event, return_ok)


@control_command(args=[("task_id", str)], signature="<job id>")
def livejobs_stop(state: Any, task_id: str, **kwargs: Any) -> None:
    """Stop a job if this worker has it. `jobs.stop` broadcasts this remote control command.

    Celery's `revoke` is not used: each worker that does not have the job stores REVOKED for it in the project's own
    result backend (celery.worker.control, `_revoke`). Source: Celery, "Workers Guide", "Writing your own remote control
    commands".

    Args:
        state: of the worker.
        task_id: the job's id.
        **kwargs: as Celery has them; not used.
    """
    if request := worker_state.requests.get(task_id):
        request.terminate(state.consumer.pool, "SIGUSR1")
