"""Tasks that end in every odd way. A worker is told of them with `-I testkit.odd_tasks`."""

import ctypes
import datetime
import decimal
import json
import os
import sys
import threading
import time
import uuid

from celery import chain, chord, group, shared_task
from celery.exceptions import (
    Ignore,
    Reject,
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
    WorkerShutdown,
    WorkerTerminate,
)

from livejobs import jobs
from livejobs.task import JobError, JobTask, TryAgain

OWNER = "visitor-1"


class Unprintable(Exception):
    """Breaks whatever looks at it."""

    def __str__(self):
        raise SystemExit("str")

    __repr__ = __reduce__ = __str__


class Refunded(JobError):
    """A subclass with arguments of its own, which pickle cannot make again."""

    def __init__(self, amount, *, currency):
        super().__init__(f"{amount} {currency} have been refunded.")


class Shown(JobError):
    def __str__(self):
        return f"Shown: {self.args[0]}"


def error_of_another_module(text):
    """Return an exception whose class has the name of ours."""
    return type("JobError", (Exception,), {"__module__": "somewhere"})(text)


def recur():
    recur()


def eat_memory():
    raise MemoryError


#: What each task raises, by its kind.
RAISED = {
    "memory": eat_memory,
    "exit": lambda: sys.exit(3),
    "exit_well": lambda: sys.exit(),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "recursion": recur,
    "os_exit": lambda: os._exit(1),
    "segmentation_fault": lambda: ctypes.string_at(0),
}
EXCEPTIONS = {
    "generator_exit": GeneratorExit(),
    "base": BaseException("secret"),
    "ordinary": ValueError("secret"),
    "ignore": Ignore("secret"),
    "reject": Reject("secret"),
    "reject_requeue": Reject("secret", requeue=True),
    "soft": SoftTimeLimitExceeded(),
    "hard": TimeLimitExceeded(),
    "lost_elsewhere": WorkerLostError("of another task"),
    "terminated": Terminated(-9),
    "shutdown": WorkerShutdown(0),
    "terminate": WorkerTerminate(1),
    "unprintable": Unprintable("secret"),
    "unpicklable": ValueError(threading.Lock()),
    "huge": ValueError("x" * 50_000_000),
    "another_modules": error_of_another_module("secret"),
    "job_error": JobError("A sentence."),
    "subclass": Refunded(5, currency="EUR"),
    "own_text": Shown("a sentence."),
    "no_sentence": JobError(),
    "number": JobError(42),
    "nul": JobError("a\0b" + "c" * 900),
}
RETURNED = {
    "returns_dates": lambda: {
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "of": uuid.UUID(int=1),
    },
    "returns_bytes": lambda: b"\xff",
    "returns_a_summary_that_is_no_text": lambda: {"summary": {"rows": 2}},
    "returns_a_set": lambda: {1},
    "returns_an_object": object,
    "returns_nan": lambda: [float("nan")],
    "returns_too_much": lambda: ["x" * 1000] * 1000,
    "returns_depth": lambda: json.loads("[" * 500 + "]" * 500),
    "returns_a_large_number": lambda: 10**30,
}


def make(kind, body, **options):
    def run(self):
        return body(self)

    return shared_task(
        base=JobTask, bind=True, name=f"testkit.odd_tasks.{kind}", title=kind, startable=False, **options
    )(run)


def raiser(problem):
    def body(task):
        raise problem

    return body


for _kind, _call in RAISED.items() | RETURNED.items():
    make(_kind, lambda task, call=_call: call())
for _kind, _problem in EXCEPTIONS.items():
    make(_kind, raiser(_problem))


def slow(task):
    """Take 60 s, in steps that `track` sees."""
    for _ in task.track(range(6000)):
        time.sleep(0.01)


def asleep(task):
    """Take 60 s in one step."""
    time.sleep(60)


def stubborn(task):
    """Let nothing end a step, as many a loop that must go on."""
    for _ in task.track(range(6000)):
        try:
            time.sleep(0.01)
        except Exception:
            continue


def tidy(task):
    """Clean up when it is told to stop, and report that."""
    try:
        asleep(task)
    finally:
        for _ in task.track(range(3), description="cleaning up"):
            time.sleep(0.01)


def wrapping(task):
    """Make another exception of whatever happens, as many a library does."""
    try:
        asleep(task)
    except Exception as problem:
        raise TryAgain("The server is busy.") from problem


def custom(task):
    """Report in all the ways there are."""
    task.update_state(state="UPLOADING", meta={"current": 1, "total": 4})
    for meta in (None, "words", 3, [1], {"current": "2", "total": decimal.Decimal(4)}):
        task.update_state(state="PROGRESS", meta=meta)
    for state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY"):
        try:
            task.update_state(state=state)
        except ValueError:
            continue
        raise AssertionError(state)
    try:
        task.update_state(task_id="part-1", state="PROGRESS")
    except ValueError:
        return "done"
    raise AssertionError("part-1")


def threaded(task):
    """Report from a thread of its own."""
    job, said = task.request.id, []

    def work():
        try:
            task.update_state(state="PROGRESS", meta={"current": 1, "total": 2})
        except ValueError as refused:
            said.append(str(refused))
        task.update_state(task_id=job, state="PROGRESS", meta={"current": 1, "total": 2})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return said


def starts_another(task):
    """Start a job from inside a job."""
    return str(jobs.start(OWNER, "count_primes", {"below": 1000}, by_site=True).id)


def replaced(task):
    task.replace(add.s(1, 2))


def no_row(task):
    add_job.delay()


for _body in (slow, asleep, stubborn, tidy, wrapping, custom, threaded, starts_another, replaced):
    make(_body.__name__, _body)
add_job = make("no_row", no_row)
make("too_slow", asleep, soft_time_limit=1)
make("much_too_slow", asleep, time_limit=1)
make("too_slow_in_own_words", lambda task: in_own_words(task), soft_time_limit=1)
make("cancelled_with_a_limit", asleep, soft_time_limit=60)
make("ignores_its_result", lambda task: 5, ignore_result=True)


def in_own_words(task):
    try:
        asleep(task)
    except SoftTimeLimitExceeded:
        raise JobError("Only half of it could be done.") from None


@shared_task
def add(a, b):
    return a + b


@shared_task
def total(numbers):
    return sum(numbers)


def start(*kinds: str) -> dict:
    """Start a job of each kind, one of the site's own with little to do. Returns their ids by kind."""
    little = {"count_primes": {"below": 1_000_000}}
    return {kind: str(jobs.start(OWNER, kind, little.get(kind, {}), by_site=True).pk) for kind in kinds}


def plain() -> dict:
    """Run tasks that are no jobs' in every way that needs results."""
    one = add.delay(1, 2)
    return {
        "get": one.get(timeout=30),
        "state": one.state,
        "ready": one.ready(),
        "group": group(add.s(n, n) for n in range(3))().get(timeout=30),
        "chain": chain(add.s(1, 2), add.s(3))().get(timeout=30),
        "chord": chord([add.s(n, n) for n in range(3)])(total.s()).get(timeout=60),
    }


def asked(kind: str, task_id: str) -> list:
    """Return what Celery's own `AsyncResult` says of a job."""
    result = jobs.kinds()[kind].AsyncResult(task_id)
    return [result.state, repr(result.get(timeout=5, propagate=False))]


def cancel(task_id: str) -> str:
    """Cancel a job."""
    return jobs.cancel(OWNER, task_id).state
