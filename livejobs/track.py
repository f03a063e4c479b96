"""Loops and stages that report by themselves, and go on where an earlier attempt was."""

import time
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from celery.app.task import Context

from livejobs import stop, terminal
from livejobs.checkpoint import checkpoint_of
from livejobs.outcome import as_json
from livejobs.reply import DESCRIPTION, cleaned, number, text
from livejobs.report import NO_NUMBER, REPORTS_PER_SECOND, ReportingTask, keep
from livejobs.stages import NAME

Item = TypeVar("Item")

#: `track` looks at the clock about this many times between two reports.
LOOKS_PER_REPORT = 4
#: Items that may pass without a look at the clock: when quick ones are followed by slow ones, the wait is short.
MOST_UNLOOKED = 100


class TrackingTask(ReportingTask):
    """A task whose loops and stages report."""

    abstract = True

    def track(
        self, items: Iterable[Item], total: float | None = None, description: str = "", *, resume: bool = False
    ) -> Iterator[Item]:
        """Yield the items, reporting how many are done, at most `REPORTS_PER_SECOND` times a second.

        The clock is looked at only every so many items, as often as the loop's own pace asks for: a quick loop
        pays a few hundredths of a microsecond an item.

        If the task runs without a job, then a progress bar is drawn in the terminal, if there is one.

        Args:
            items: what to go through.
            total: how many there are; `len(items)` unless given; unknown where that is not defined either.
            description: what is being done, in words.
            resume: whether a later attempt passes over the items that are done. They must come in the same order
                again, as must the loops that are resumed. What was done in the last second before a worker was killed
                is done again; an orderly shutdown repeats nothing, unless an item takes more than 5 s.

        Raises:
            ValueError: there is no job in this thread; the message names the remedy.
            celery.exceptions.SoftTimeLimitExceeded: the job has been told to stop.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        request = self.reporting(None)
        if not request.attempt:
            return terminal.track(items, number(total), text(description, DESCRIPTION))
        if resume:
            return self._resumed_loop(request, items, total, description)
        return self._new_loop(request, items, total, description)

    def _resumed_loop(
        self, request: Context, items: Iterable[Item], total: float | None, description: str
    ) -> Generator[Item, None, None]:
        checkpoint = checkpoint_of(request)
        loop, done = checkpoint.begin_loop()
        if done is None:
            yield from self._new_loop(request, (), total, description, int(total or 0))
            return
        rest = self._new_loop(request, islice(items, done, None), total, description, done)
        resumed = request.stages.resumed[loop] = checkpoint.go_through(loop, done, rest)
        yield from resumed

    def _new_loop(
        self, request: Context, items: Iterable[Item], total: float | None, description: str, done: int = 0
    ) -> Generator[Item, None, None]:
        number_of_loop = next(request.stages.numbers)
        loop = self._loop(request, number_of_loop, items, total, description, done)
        request.stages.loops[number_of_loop] = loop
        return loop

    def _loop(
        self, request: Context, loop: int, items: Iterable[Item], total: float | None, description: str, done: int
    ) -> Generator[Item, None, None]:
        stop.heed(request)
        told_to_stop = request.stops
        steps = {"total": number(total), **cleaned({"description": description})}
        if total is not None and steps["total"] is None:
            self.warn(request, NO_NUMBER, total)
        request.stages.begin_loop(loop)
        looked_at, next_look = done, done + 1
        looked = time.monotonic()
        self.report_if_due(request, done, steps, loop=loop)
        try:
            for item in items:
                yield item
                done += 1
                if done >= next_look:
                    now = time.monotonic()
                    stop.heed(request, told_to_stop)
                    self.report_if_due(request, done, steps, now, loop)
                    pace = (done - looked_at) / max(now - looked, 1e-9)
                    step = int(pace / REPORTS_PER_SECOND / LOOKS_PER_REPORT)
                    next_look = done + min(max(step, 1), MOST_UNLOOKED)
                    looked_at, looked = done, now
        except BaseException:  # the loop is left between two looks: GeneratorExit by a break, or by `leave_loops`
            request.unkept = done, steps, loop
            keep(request)
            raise
        self.report_if_due(request, done, steps, loop=loop)
        keep(request)

    @contextmanager
    def stage(self, name: str, weight: float | None = None) -> Iterator[None]:
        """Report a part of the work by its name.

        If the task has declared its stages, as `stages=[("Fetch", 1), ("Resize", 3)]`, then each has its share of the
        bar. If not, then the whole is unknown: the bar tells the name, and how far the stage has come.

        Args:
            name: of the stage.
            weight: of a declared stage, if it is known better by now.

        Raises:
            ValueError: the task has declared its stages, and this is none of them; or there is no job in this thread.
        """
        request = self.reporting(None)
        request.stages.enter(text(name, NAME), weight)
        self.report_if_due(request, None, {"total": None, "description": ""})
        yield
        request.stages.leave()
        self.report_if_due(
            request, request.latest.get("current"), {"total": request.latest.get("total"), "description": ""}
        )
        keep(request)

    def leave_loops(self) -> None:
        """Keep how far the loops have come that an exception has left: its traceback holds them until the job ends."""
        stages = self.request.stages
        for loop in [*reversed(list(stages.resumed.values())), *reversed(list(stages.loops.values()))]:
            loop.close()

    @property
    def resumed(self) -> Any:
        """What the attempt before has given to `checkpoint` last; None in the first attempt."""
        request = self.reporting(None)
        return checkpoint_of(request).resumed if request.attempt else None

    def checkpoint(self, value: Any) -> None:
        """Keep a value for the next attempt, which finds it in `self.resumed`. Call it after the work that it covers.

        The job's row is written at most once a second; an orderly shutdown waits for the next call, for 5 s at most.

        Args:
            value: anything that a result may be, up to 64 KiB of JSON.

        Raises:
            livejobs.outcome.TaskFailed: it is not JSON.
            ValueError: it is too large, or there is no job in this thread.
        """
        request = self.reporting(None)
        if request.attempt:
            checkpoint_of(request).keep(value)
        else:
            as_json(value)
