"""Kinds of jobs of the tests' own: they need no CPU, their answers are known, and each execution is written down.

An execution's lines go to the file that the variable EXECUTIONS names: task id, attempt, process id, and "began",
"done" or the name of the exception that ended it.
"""

import datetime
import decimal
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from celery import shared_task
from django import forms

from livejobs import files
from livejobs.models import State
from livejobs.task import JobTask


class StepsForm(forms.Form):
    """How many steps, and how many seconds for all of them."""

    count = forms.IntegerField(min_value=1, initial=10)
    seconds = forms.FloatField(min_value=0, initial=1)


class LoopsForm(forms.Form):
    """Two loops, one in the other or one after the other, and the seconds for both."""

    first = forms.IntegerField(min_value=1, initial=3)
    second = forms.IntegerField(min_value=1, initial=4)
    seconds = forms.FloatField(min_value=0, initial=1)
    nested = forms.BooleanField(required=False, initial=False)


class StagesForm(forms.Form):
    """The steps of two stages, and the seconds for both."""

    first = forms.IntegerField(min_value=1, initial=3)
    second = forms.IntegerField(min_value=1, initial=4)
    seconds = forms.FloatField(min_value=0, initial=1)


class ReportsForm(forms.Form):
    """How many reports, and how many a second."""

    count = forms.IntegerField(min_value=1, initial=50)
    rate = forms.FloatField(min_value=1, initial=50)


class PartsForm(forms.Form):
    """How many children, and the seconds of each."""

    count = forms.IntegerField(min_value=1, initial=3)
    seconds = forms.FloatField(min_value=0, initial=1)


#: What the kind `results` returns, by name.
RESULTS = {
    "large": 2**53 + 1,
    "moment": datetime.datetime(2026, 7, 2, 9, tzinfo=datetime.UTC),
    "bytes": b"\xff" * 12,
    "mapping": {
        "price": decimal.Decimal("1.50"),
        "day": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 7, 2, 9, tzinfo=datetime.UTC),
        "took": datetime.timedelta(seconds=90),
        "of": uuid.UUID(int=1),
        "<b>markup</b>": "<img src=x onerror=alert(1)>",
        "large": 2**53 + 1,
    },
    "many": [{"name": f"<b>{number}</b>", "size": number} for number in range(1000)],
    "object as summary": {"summary": {"rows": 2}},
}


class ResultsForm(forms.Form):
    """Which result."""

    which = forms.ChoiceField(choices=[(name, name) for name in RESULTS])


@contextmanager
def written_down(self: JobTask) -> Iterator[None]:
    """Write down when this execution begins and how it ends; a killed one never ends."""
    _write(self, "began")
    try:
        yield
    except BaseException as problem:
        _write(self, type(problem).__name__)
        raise
    _write(self, "done")


def _write(self: JobTask, what: str) -> None:
    with open(os.environ["EXECUTIONS"], "a") as file:  # one short line, which POSIX appends as a whole
        file.write(f"{self.request.id} {self.request.attempt} {os.getpid()} {what}\n")


@shared_task(base=JobTask, bind=True, form=StepsForm, title="{count} steps in {seconds} s")
def steps(self: JobTask, count: int, seconds: float) -> int:
    """Sleep in steps. The answer is how many there were."""
    with written_down(self):
        for _ in self.track(range(count)):
            time.sleep(seconds / count)
    return count


@shared_task(base=JobTask, bind=True, form=LoopsForm, title="{first} and {second} steps")
def loops(self: JobTask, first: int, second: int, seconds: float, nested: bool) -> int:
    """Sleep in two loops. The answer is how many steps there were."""
    done = 0
    with written_down(self):
        if nested:
            for _ in self.track(range(first)):
                for _ in self.track(range(second)):
                    time.sleep(seconds / first / second)
                    done += 1
        else:
            for number in (first, second):
                for _ in self.track(range(number)):
                    time.sleep(seconds / (first + second))
                    done += 1
    return done


@shared_task(
    base=JobTask,
    bind=True,
    form=StagesForm,
    title="Stages of {first} and {second} steps",
    stages=[("First", 1), ("Second", 3)],
)
def staged(self: JobTask, first: int, second: int, seconds: float) -> int:
    """Sleep in two stages. The answer is how many steps there were."""
    with written_down(self):
        for name, count in (("First", first), ("Second", second)):
            with self.stage(name):
                for _ in self.track(range(count)):
                    time.sleep(seconds / (first + second))
    return first + second


@shared_task(base=JobTask, bind=True, form=StepsForm, title="{count} effects in {seconds} s")
def effects(self: JobTask, count: int, seconds: float) -> int:
    """Write a line for each item, and resume at the checkpoint of the previous attempt. Return how many there are."""
    with written_down(self), open(os.environ["EXECUTIONS"] + ".effects", "a", buffering=1) as file:
        for number in self.track(range(count), resume=True):
            time.sleep(seconds / count)
            file.write(f"{self.request.id} {number}\n")
    return count


@shared_task(base=JobTask, bind=True, form=ReportsForm, title="{count} reports, {rate} a second")
def reports(self: JobTask, count: int, rate: float) -> int:
    """Report more often than `track` would. The answer is how many reports there were."""
    with written_down(self):
        began = time.monotonic()
        for number in range(1, count + 1):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            self.update_state(state=State.PROGRESS, meta={"current": number, "total": count})
    return count


@shared_task(base=JobTask, bind=True, form=PartsForm, title="{count} parts")
def parts(self: JobTask, count: int, seconds: float) -> None:
    """Have children that sleep in steps. The answer is the number of all their steps."""
    with written_down(self):
        self.children([(steps, {"count": 4, "seconds": seconds})] * count, then=total)


@shared_task(base=JobTask, bind=True, title="Total", startable=False)
def total(self: JobTask) -> int:
    """Add up what the other children have returned."""
    with written_down(self):
        return sum(self.results())


@shared_task(base=JobTask, bind=True, form=ResultsForm, title="Result: {which}")
def results(self: JobTask, which: str) -> object:
    """Return a result at once."""
    return RESULTS[which]


@shared_task(base=JobTask, bind=True, title="Several files")
def several_files(self: JobTask) -> dict[str, object]:
    """Make two files."""
    names = ["north.csv", "south.csv"]
    for name in names:
        with files.writing(self.request.id, name) as path:
            path.write_text(f"of {name}")
    return {"files": names, "rows": 2}
