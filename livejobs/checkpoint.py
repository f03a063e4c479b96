"""What an attempt leaves for the next one: how far its loops have come, and a value of the task's own.

The checkpoint goes straight from the worker to the job's row, so that a job goes on where it was though the broker, the
worker or the machine has died. It is written after the work that it covers: what was done since is done again.
"""

import json
import logging
import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

from celery.app.task import Context
from django.db import InterfaceError, OperationalError, connections

from livejobs.leave import leaving, listen, now
from livejobs.models import Job
from livejobs.outage import with_database
from livejobs.outcome import as_json

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

#: No value at all: None is one.
NOTHING: Any = object()
#: Seconds between two writes of the row, at least.
EVERY = 1.0
#: Characters of JSON text that a checkpoint may have: it is written every second.
LARGEST = 64 * 1024
TOO_LARGE = (
    "The checkpoint has {} characters of JSON, and may have {}. Keep what is large in a file or in rows of your own."
)


class Checkpoint:
    """The checkpoint of a job, as one attempt knows it.

    Args:
        request: of the attempt.
    """

    def __init__(self, request: Context) -> None:
        self.request = request
        row = Job.objects.filter(pk=request.id).values_list("checkpoint", flat=True)
        kept = (with_database(request.id, row.first) if request.attempt > 1 else None) or {}
        self.value = self.resumed = kept.get("value")  # that of the attempt before
        self.position = self.start = kept.get("loop", 0), kept.get("done", 0)
        self.loops = 0  # how many have begun
        self.is_in_loop = False
        self.kept = NOTHING  # what was given to `keep` during the item in hand
        self.written_at = -math.inf
        self.due = False  # whether to look at the clock
        listen(self.look_soon)

    def look_soon(self) -> None:
        """Have the clock looked at after the item in hand."""
        self.due = True

    def keep(self, value: Any) -> None:
        """Keep a value of the task's own.

        Args:
            value: anything that a result may be.

        Raises:
            livejobs.outcome.TaskFailed: it is not JSON.
            ValueError: it is too large.
        """
        value = as_json(value)
        size = len(json.dumps(value, ensure_ascii=False))
        if size > LARGEST:
            raise ValueError(TOO_LARGE.format(size, LARGEST))
        if self.is_in_loop:  # it is of the item in hand, which is not done
            self.kept, self.due = value, True
        else:
            self.value = value
            self.write_if_due()

    def begin_loop(self) -> tuple[int, int | None]:
        """Begin the next loop. Returns its number, and how many items earlier attempts have done; None for all."""
        number, self.loops = self.loops, self.loops + 1
        loop, done = self.start
        return number, None if number < loop else done if number == loop else 0

    def go_through(self, number: int, done: int, loop: Generator[Item, None, None]) -> Generator[Item, None, None]:
        """Yield the items of a loop, and write how many are done: before the loop itself counts and reports them.

        Args:
            number: of the loop.
            done: how many of its items earlier attempts have done.
            loop: yields the others.
        """
        is_whole, self.is_in_loop = False, True
        try:
            for item in loop:
                yield item
                done += 1
                if self.due:
                    self._settle(number, done)
            is_whole = True
        finally:
            self.is_in_loop, self.kept = False, NOTHING
            loop.close()  # so that its percentage is known
            self.position = (number + 1, 0) if is_whole else (number, done)
            self.write()

    def _settle(self, number: int, done: int) -> None:
        """Take an item for done, with the value that was kept during it: the row has both or neither."""
        self.position = number, done
        if self.kept is not NOTHING:
            self.value, self.kept = self.kept, NOTHING
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write the row unless it was written a moment ago. If this process is to end, then write it and end."""
        self.due = False
        if leaving.asked:
            self.write()
            now()
        if time.monotonic() - self.written_at >= EVERY:
            self.write()

    def write(self) -> None:
        """Write the row, if this is still the job's current attempt. While the database is away, the work goes on."""
        loop, done = self.position
        kept = {"value": self.value, "loop": loop, "done": done}
        if (self.value, self.position) != (self.resumed, self.start):
            kept["attempt"] = self.request.attempt  # the sweep counts losses of attempts that have come no further
        request, self.written_at = self.request, time.monotonic()
        request.sending = True  # a signal waits for the end of the statement
        try:
            mine = Job.objects.unfinished().filter(pk=request.id, attempt=request.attempt)
            mine.update(checkpoint=kept, checkpoint_percent=request.reached)
        except (OperationalError, InterfaceError) as problem:
            logger.warning("The checkpoint of job %s cannot be written: %r", request.id, problem)
            connections.close_all()
        finally:
            request.sending = False


def checkpoint_of(request: Context) -> Checkpoint:
    """Return the checkpoint of an attempt; it is read from the row when it is first asked for."""
    if request.get("checkpoint") is None:
        request.checkpoint = Checkpoint(request)
    found: Checkpoint = request.checkpoint
    return found
