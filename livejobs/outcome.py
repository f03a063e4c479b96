"""How a task ends: what it may return and raise, and what the visitor is told of it.

All of this is decided in the worker, because only there an exception is an object: its class, not the name of its
class, says whether its text is meant for the visitor.
"""

import json
import logging
import pickle
import sys
from traceback import clear_frames
from typing import Any

from billiard.common import terminate_handler_fired
from celery.exceptions import (
    Ignore,
    NotRegistered,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker import state as worker

from livejobs.result import MOST_FILES, ResultEncoder, files_of

logger = logging.getLogger(__name__)

#: Characters of JSON text that a result may have. The relay takes up to 1,000 replies at a time, and each page is sent
#: the results of its recent jobs, so this limits the memory of both. Larger results belong in a file; see files.py.
LARGEST_RESULT = 256 * 1024
#: Levels of lists and objects in a result: the parsers of Python and of SQLite stop at about 1,000.
DEEPEST_RESULT = 100
#: Bytes of a pickled exception that Celery may handle itself: it sends it to the main process, and logs all of it.
LARGEST_EXCEPTION = 64 * 1024
#: Characters of a sentence for the visitor, and of an exception's text in the log.
SENTENCE, TEXT = 500, 2000

FAILED = "Something went wrong in this job. It has been noted in the site's log."
ASKED = "This job asked to be run again."
TOO_LONG = "This job took longer than a job may."
LOST = "The worker that ran this job was lost."
OUT_OF_MEMORY = "This job needed more memory than it could have."
ENDED_ITSELF = "This job ended itself without a result."
UNKNOWN_KIND = "The worker that took this job does not know its kind."
UNSTORABLE = "The job came to an end, but its result cannot be stored."
TOO_LARGE = f"The job came to an end, but its result is larger than {LARGEST_RESULT // 1024} KiB and cannot be stored."
SUMMARY_IS_NO_TEXT = (
    'The job came to an end, but the "summary" of its result is not text. Let the task return text there, or give that '
    "part of the result another name."
)
TOO_MANY_FILES = (
    f"The job came to an end, but its result names more than {MOST_FILES} files. Let the task put them into an archive."
)

#: Exceptions by which Celery's main process does something else than end one job: it drops the message or sends it
#: again, takes the child for dead, or ends itself (celery.worker.request, `Request.on_failure`).
COMMANDS = (TaskPredicate, MemoryError, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError, Terminated)
REMEDY = " Raise JobError to end a job with a sentence, TryAgain to have it run again."


class JobError(Exception):
    """Raised by a task to end its job with a sentence that the visitor may read."""

    def __str__(self) -> str:
        return "" if not self.args or self.args[0] is None else str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # What the main process is sent: a subclass may take other arguments, or arguments that cannot be pickled.
        return JobError, (str(self),)


class TryAgain(JobError):
    """Raised by a task to have its job tried again, `max_retries` times at most, and later each time.

    When no retry is left, it ends the job, as any `JobError` does.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return TryAgain, (str(self),)


class TaskFailed(Exception):
    """Takes the place of an exception that Celery cannot handle.

    Args:
        text: the exception's class and text, for the log.
        sentence: what the visitor is told.
    """

    def __init__(self, text: str, sentence: str) -> None:
        super().__init__(text, sentence)
        self.text, self.sentence = text, sentence

    def __str__(self) -> str:
        return self.text


def sentence(problem: Any) -> str:
    """Return what the visitor may know of a failure: what the task meant for them, or nothing of its inside.

    Args:
        problem: the exception that ended an attempt; None if the task has called `self.retry()` without one.
    """
    if problem is None:
        return ASKED
    try:
        if isinstance(problem, JobError):
            return str(problem)[:SENTENCE] or FAILED
        if isinstance(problem, TaskFailed):
            return problem.sentence
    except Exception as fault:
        logger.warning("The text of %s cannot be read: %s", type(problem).__name__, type(fault).__name__)
        return FAILED
    for kinds, words in (
        ((SoftTimeLimitExceeded, TimeLimitExceeded), TOO_LONG),
        (WorkerLostError, LOST),
        (MemoryError, OUT_OF_MEMORY),
        ((Ignore, Reject, SystemExit), ENDED_ITSELF),
        (NotRegistered, UNKNOWN_KIND),
    ):
        if isinstance(problem, kinds):
            return words
    return FAILED


def contained(problem: BaseException) -> Exception:
    """Return the exception to raise to Celery in place of one that a task has raised.

    An ordinary exception is returned as it is, and so is `Retry`. All others become a `TaskFailed`: Celery would drop
    the job, end the worker, or send to its main process and log what is too large.

    Args:
        problem: what the task has raised.
    """
    if isinstance(problem, Retry) or (
        isinstance(problem, Exception) and not isinstance(problem, COMMANDS) and _ordinary(problem)
    ):
        return problem
    text = _described(problem)
    if isinstance(problem, TaskPredicate):
        text += REMEDY
    if isinstance(problem, WorkerLostError) and not isinstance(problem, JobError):
        return TaskFailed(text, FAILED)  # of another task, for which this one has waited: its own worker is here
    clear_frames(problem.__traceback__)  # they hold what took the memory
    return TaskFailed(text, sentence(problem))


def process_ends(problem: BaseException) -> bool:
    """Tell whether an exception ends the process that runs the task, rather than the task.

    Args:
        problem: what has come out of the task.
    """
    terminates = worker.should_terminate is not None and worker.should_terminate is not False
    if isinstance(problem, SystemExit) and terminates:
        return True
    killed = getattr(sys.modules.get("greenlet"), "GreenletExit", ())  # how the green pools end a task
    return terminate_handler_fired() or isinstance(problem, killed)


def as_result(result: Any) -> Any:
    """Return a task's result as a job's row holds it, as plain JSON.

    Args:
        result: what the task has returned.

    Raises:
        TaskFailed: it cannot be stored or shown, with the sentence that says so and names the remedy.
    """
    plain = as_json(result)
    if isinstance(plain, dict) and not isinstance(plain.get("summary"), str | None):
        raise TaskFailed('The "summary" of the result is not text.', SUMMARY_IS_NO_TEXT)
    if len(files_of(plain)) > MOST_FILES:
        raise TaskFailed(f"The result names more than {MOST_FILES} files.", TOO_MANY_FILES)
    return plain


def as_json(result: Any) -> Any:
    """Return a value as plain JSON; dates, decimals, durations, UUIDs, bytes and lazy texts become text.

    Args:
        result: what a task has returned, or gives to `checkpoint`.

    Raises:
        TaskFailed: a row cannot hold it, with the sentence that says so.
    """
    size, chunks = 0, []
    try:
        for chunk in ResultEncoder(allow_nan=False, ensure_ascii=False).iterencode(result):
            size += len(chunk)
            if size > LARGEST_RESULT:
                raise TaskFailed(f"The result is larger than {LARGEST_RESULT} characters of JSON.", TOO_LARGE)
            chunks.append(chunk)
        text = "".join(chunks)
        text.encode()  # half characters (lone surrogates) cannot be
        plain = json.loads(text)
    except TaskFailed:
        raise
    except Exception as problem:  # `default` and `__str__` of the result's own classes may raise anything
        raise TaskFailed(f"The result is not JSON: {_described(problem)}", UNSTORABLE) from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise TaskFailed("The result has a NUL character, which PostgreSQL cannot hold.", UNSTORABLE)
    if text.count("[") + text.count("{") > DEEPEST_RESULT and is_deeper(plain, DEEPEST_RESULT):
        raise TaskFailed(f"The result has more than {DEEPEST_RESULT} levels.", UNSTORABLE)
    return plain


def is_deeper(value: Any, levels: int) -> bool:
    """Tell whether JSON has more than so many levels."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(one, levels - 1) for one in inner)


def _ordinary(problem: Exception) -> bool:
    """Tell whether Celery can pickle, send and log an exception."""
    try:
        pickled = pickle.dumps(problem)
        if len(pickled) > LARGEST_EXCEPTION:
            return False
        pickle.loads(pickled)  # noqa: S301  # made in the line above
        return len(repr(problem)) + len(str(problem)) <= LARGEST_EXCEPTION
    except BaseException as fault:  # its own methods may raise anything, SystemExit too
        logger.info("%s is no exception that Celery can handle: %s", type(problem).__name__, type(fault).__name__)
        return False


def _described(problem: BaseException) -> str:
    kind = type(problem)
    name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        return f"{name}: {str(problem)[:TEXT]}"
    except BaseException as fault:
        return f"{name}, whose text cannot be read: {type(fault).__name__}"
