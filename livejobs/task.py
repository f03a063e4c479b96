"""The worker's side: the base of every task, which runs one attempt of a job, and sees to it that it ends once."""

import logging
import sys
import time
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from celery.app.task import Context
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django import forms
from django.utils import timezone

from livejobs import leave, notice, stop, uploads
from livejobs.backend import REPLY_QUEUE, ReplyBackend, reply_backend
from livejobs.children import ParentTask
from livejobs.models import STAGE, Job, State, Worker
from livejobs.outage import with_database
from livejobs.outcome import JobError, TryAgain, as_result, contained, process_ends, sentence
from livejobs.params import restored_params
from livejobs.report import begun, keep

__all__ = ["JobError", "JobTask", "TryAgain"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: How much sooner than its soft limit an attempt may have been stopped by it, in seconds: two processes look at two
#: clocks. A signal for the job that the child ran before comes within the first moments.
LIMIT_SLACK = 1.0
NO_ROW = "A job needs its row: start it with jobs.start(owner, {kind!r}, params)."
NO_REPLACEMENT = (
    "A job cannot be replaced by another task: return a result, or start another job with livejobs.jobs.start."
)


class JobTask(ParentTask):
    """The base of every task that a job can run: `@shared_task(base=JobTask, bind=True, form=..., title=...)`.

    It counts the attempts, numbers the reports, sends all replies to the one reply queue, and passes over a job
    that has ended before it began.
    """

    abstract = True
    Request = "livejobs.worker_request:JobRequest"

    #: What the engine needs of Celery, whatever the project's own defaults are. A message is acknowledged once its
    #: attempt has ended, however it has; if the child is lost, then the message is delivered again.
    serializer = "json"
    acks_late = True
    acks_on_failure_or_timeout = acks_on_failure = acks_on_timeout = True
    reject_on_worker_lost = True
    retry_on_worker_lost = False
    ignore_result = False
    track_started = False
    store_eager_result = False
    #: The worker's own `--soft-time-limit`, in its main process.
    worker_soft_time_limit: float | None = None

    #: Checks a job's `params`; the task is called with what the form has cleaned.
    form: type[forms.Form] = forms.Form
    #: What the job is called on the page: a format string over the cleaned `params`.
    title: str = ""
    #: Whether visitors may start it themselves, or only the site on their behalf.
    startable: bool = True

    #: Celery's own words for retries: up to 5, 10, 20 seconds later, at random, so that not all come back at once.
    autoretry_for = (TryAgain,)
    max_retries = 3
    retry_backoff = 5
    retry_jitter = True

    @property
    def backend(self) -> ReplyBackend:
        """The result backend of jobs; `CELERY_RESULT_BACKEND` is that of the project's other tasks."""
        return reply_backend(self.app)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the task of a job that has its row; `livejobs.jobs.start` writes that, and calls this.

        In eager mode nothing is sent: the job has ended when this returns.

        Args:
            args: of the task.
            kwargs: of the task.
            **options: as Celery has them. `task_id` is the job's id.

        Raises:
            ValueError: `task_id` is no job's id.
        """
        task_id = options.get("task_id")
        if not _is_job_id(task_id):
            raise ValueError(NO_ROW.format(kind=self.name.rpartition(".")[2]))
        options.setdefault("reply_to", REPLY_QUEUE.name)
        if task_id == self.request.id:  # the task sends itself again: so Celery retries
            return self._send_again(args, kwargs, options)
        if self.app.conf.task_always_eager:
            from livejobs import inline

            inline.run_eagerly(self, str(task_id), args, kwargs, options)
            return self.AsyncResult(str(task_id))
        return self._send_task(args, kwargs, options)

    def _send_task(self, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        # The project's result backend must not wait for a job's result. `JobRequest` has it sent all the same.
        options["ignore_result"] = True
        with self.app.producer_or_acquire(options.get("producer")) as producer:
            self.backend.on_task_call(producer, str(options["task_id"]))
            super().apply_async(args, kwargs, **{**options, "producer": producer})
        return self.AsyncResult(options["task_id"])

    def _send_again(self, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
        """Give up the lease of this attempt, then send the retry: otherwise its delivery is taken for a duplicate.

        If the broker cannot be reached, then the sweep sends the retry: the row says when it is due, and why.
        """
        job, attempt = Job.objects, self.request.attempt
        retry_at = options.get("eta") or timezone.now() + timedelta(seconds=options.get("countdown") or 0)
        reason, retries = sentence(sys.exception()), options.get("retries") or 0
        if not with_database(self.request.id, job.put_off, self.request.id, attempt, retry_at, retries, reason):
            return None  # the job has ended, or another attempt is its current one
        if inline := self.request.get("inline"):
            return inline.run_again(args, kwargs, retries)
        self.request.sending = True  # a signal waits for the end of the publication
        try:
            return self._send_task(args, kwargs, options)
        except Exception as problem:
            logger.warning("The retry of job %s cannot be sent; the sweep sends it: %r", self.request.id, problem)
            with_database(self.request.id, job.filter(pk=self.request.id).update, sent=False)
            return None
        finally:
            self.request.sending = False

    def start_strategy(self, app: Any, consumer: Any, **kwargs: Any) -> Any:
        """Note the worker's own time limit, before its main process takes up jobs of this kind.

        Args:
            app: Celery's application.
            consumer: the worker's.
            **kwargs: handed on to Celery.
        """
        self.worker_soft_time_limit = consumer.pool.options.get("soft_timeout")
        return super().start_strategy(app, consumer, **kwargs)

    def on_replace(self, sig: Any) -> None:
        """Refuse `self.replace`: the other task may be none of a job, and then the job would never end.

        Args:
            sig: the other task's signature.

        Raises:
            TypeError: always.
        """
        raise TypeError(NO_REPLACEMENT)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run one attempt of the job. Called as a function, or by Celery's own `apply`, the task runs without a job.

        A task that calls itself goes on with the attempt that it runs.

        Raises:
            celery.exceptions.Ignore: there is nothing to run, or nothing to reply: the delivery is a duplicate, or the
                job has ended, was cancelled, or was deleted.
            celery.exceptions.Reject: this attempt was stopped by mistake, and shall be made again.
        """
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)
        if self.request.is_eager or self.request.get("attempt"):
            return self.run(*args, **kwargs)
        self.request.update(entered=time.monotonic())
        stop.listen(JobTask)
        attempt = with_database(self.request.id, Job.objects.begin, self.request.id, Worker.current_id)
        if attempt is None:
            raise Ignore("a duplicate, or a job that has ended, was cancelled or was deleted")
        return self._attempt(attempt, *args, **kwargs)

    def _attempt(self, attempt: int, *args: Any, **kwargs: Any) -> Any:
        request, task_id = self.request, self.request.id
        request.update(begun(attempt, self.stages), stops=request.get("stops", 0))
        stop.attempts[task_id] = request
        try:
            self.send_report(request, State.STARTED, {})
            result = self._run(*args, **kwargs)
        finally:
            if stop.attempts.get(task_id) is request:
                del stop.attempts[task_id]
            leave.forget()
            keep(request)
            if not request.told:
                self.send_report(request, State.PROGRESS, request.latest)
        if request.child_counts:
            self._hand_over(request)
        return result

    def _hand_over(self, request: Context) -> None:
        """End an attempt that has started children: the relay goes on with the job.

        Raises:
            celery.exceptions.Ignore: always, as there is nothing to reply.
        """
        stands = {"children": request.child_counts, "then": request.then, "seq": request.seq + 1}
        stands |= {"reached": request.child_counts["base"], "current": 0, "total": request.child_counts["total"]}
        stands |= dict(zip(STAGE, request.stages.present or (0, None, ""), strict=True))
        hand_over = partial(Job.objects.hand_over, request.id, request.attempt, Worker.current_id, **stands)
        if with_database(request.id, hand_over) and not request.get("inline"):
            notice.post("changed", task_id=request.id)  # should it be lost, then the relay finds the row by itself
        raise Ignore("the job goes on as its children do")

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task itself. Whatever it returns or raises comes out as what ends one job, and that job alone."""
        request = self.request
        try:
            try:
                request.running = True  # from here on a signal raises
                stop.heed(request)
                params = restored_params(self.form, kwargs, request.id)
                try:
                    result = self.run(*args, **params)
                finally:
                    uploads.close(params)
            finally:
                request.running = False
            return as_result(result)
        except BaseException as problem:
            if process_ends(problem):
                if isinstance(problem, Exception):  # raised as the task was being torn down
                    raise SystemExit(1) from problem
                raise
            self.leave_loops()
            told = request.heeded or isinstance(problem, SoftTimeLimitExceeded)
            end = self._stopped(problem) if told else contained(problem)
            if end is problem:
                raise
            raise end.with_traceback(problem.__traceback__) from None

    def _stopped(self, problem: BaseException) -> Exception:
        """Return what ends this attempt, which was told to stop; the job's row says why.

        Args:
            problem: what the task has raised since.
        """
        request = self.request
        if stop.orphaned():
            return Ignore("the worker's main process is dead")
        job = with_database(request.id, Job.objects.filter(pk=request.id).first)
        if job is None or job.final:
            return Ignore("the job has ended, or has been deleted")
        if job.cancelled_at:
            self.backend.mark_as_revoked(request.id, request=request)
            return Ignore("the job was cancelled")
        if job.attempt != request.attempt or job.lease_id != Worker.current_id:
            return Ignore("another attempt of the job has begun")
        if isinstance(problem, stop.Stopped) and not self._has_reached_its_limit():
            # The signal was meant for the job that this process had run before.
            with_database(request.id, Job.objects.give_back, request.id, request.attempt)
            return Reject("not cancelled", requeue=True)
        return contained(problem)

    def _has_reached_its_limit(self) -> bool:
        limit = self.request.get("soft_limit") or self.soft_time_limit
        return bool(limit) and time.monotonic() - self.request.entered >= limit - min(LIMIT_SLACK, limit / 2)


def _is_job_id(task_id: Any) -> bool:
    try:
        return bool(UUID(str(task_id)))
    except ValueError:
        return False
