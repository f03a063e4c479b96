"""`manage.py job`: start, watch, cancel and list jobs from a shell."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.files import File
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connections
from django.utils import timezone

from livejobs import jobs
from livejobs.models import Job, RelayLease, State, Worker
from livejobs.owner import new_visitor, user_owner
from livejobs.terminal import Bar, printable

#: Seconds between two looks at the row.
LOOK_EVERY = 0.5
#: Seconds without a change after which the reason is looked for.
SILENCE = 10.0
#: The exit codes: the job has not succeeded; Ctrl-C was pressed.
FAILED, INTERRUPTED = 1, 130

NO_SUCH_JOB = "There is no job {}. `manage.py job list` lists them."
NO_RELAY = "No web process takes the replies of the workers. Start the site."
NO_WORKER = "No worker is running. Start one."
NO_NEWS = "There has been no news of the job for {:.0f} s."
NO_DATABASE = "The database cannot be reached. It is asked again and again."
CANCELLED = "The job was cancelled."
GOES_ON = "Job {0} goes on. Watch it: manage.py job watch {0}. Cancel it: manage.py job cancel {0}."


class Command(BaseCommand):
    """Starts, watches, cancels and lists jobs. The exit code of a job that is followed is that of its end."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the four actions, each with its arguments."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        start = actions.add_parser("start", help="Start a job, and print its id.")
        start.add_argument("kind", help="the task's short name")
        asked = "what the kind's form asks for; of a file, its path"
        start.add_argument("params", nargs="*", type=_param, metavar="name=value", help=asked)
        start.add_argument("--user", help="the name of the user who owns it; a visitor of its own unless given")
        start.add_argument("--follow", action="store_true", help="watch it to its end")
        watch = actions.add_parser("watch", help="Show how far a job has come, to its end; then print its result.")
        watch.add_argument("id", help="the job's id")
        cancel = actions.add_parser("cancel", help="Cancel a job.")
        cancel.add_argument("id", help="the job's id")
        listing = actions.add_parser("list", help="List jobs, the newest first.")
        listing.add_argument("--state", type=str.upper, choices=State.values, help="only those in this state")
        listing.add_argument("--kind", help="only those of this kind")
        listing.add_argument("--user", help="only those of this user")
        listing.add_argument("--limit", type=int, default=20, help="how many, at most; 20 unless given")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        """Do one of the actions."""
        getattr(self, f"_{action}")(**options)

    def _start(self, kind: str, params: list[tuple[str, str]], user: str | None, follow: bool, **options: Any) -> None:
        owner = _owner(user) if user else new_visitor()
        try:
            with ExitStack() as opened:
                job = jobs.start(owner, kind, _typed(kind, params, opened), by_site=True)
        except jobs.Refused as refused:
            raise CommandError(str(refused), returncode=FAILED) from None
        self.stdout.write(str(job.pk))
        if follow or job.final:
            self._watch(str(job.pk))
        else:
            self._say(f"{job}. Watch it: manage.py job watch {job.pk}")

    def _watch(self, id: str, **options: Any) -> None:  # noqa: A002  # the argument's name
        _row(id)
        try:
            job = self._follow(id)
        except KeyboardInterrupt:
            self._say(GOES_ON.format(id))
            sys.exit(INTERRUPTED)
        if job.state != State.SUCCESS:
            self._say(job.error or CANCELLED)
            sys.exit(FAILED)
        if job.result is not None:
            self.stdout.write(json.dumps(job.result, ensure_ascii=False))

    def _follow(self, task_id: str) -> Job:
        """Show a job until it has ended, and return it."""
        view = View(self.stderr.isatty(), self._say)
        try:
            while True:
                try:
                    job = _row(task_id)
                    view.show(job)
                    if job.final:
                        return job
                except (OperationalError, InterfaceError):
                    connections.close_all()
                    view.say(NO_DATABASE)
                time.sleep(LOOK_EVERY)
        finally:
            view.close()

    def _cancel(self, id: str, **options: Any) -> None:  # noqa: A002  # the argument's name
        try:
            job = jobs.cancel(_row(id).owner, id)
        except jobs.Refused as refused:
            raise CommandError(str(refused), returncode=FAILED) from None
        self.stdout.write("It has ended." if job.final else "It has been told to end.")

    def _list(self, state: str | None, kind: str | None, user: str | None, limit: int, **options: Any) -> None:
        if kind and kind not in jobs.kinds():
            raise CommandError(f"There is no kind of job {kind!r}. Known: {', '.join(sorted(jobs.kinds()))}.")
        wanted = {"state": state, "kind": kind, "owner": _owner(user) if user else None}
        found = Job.objects.filter(**{name: value for name, value in wanted.items() if value})
        for job in found.order_by("-created_at")[: max(limit, 0)]:
            percent = "" if job.percent is None else f"{job.percent:.0f}%"
            created = timezone.localtime(job.created_at) if timezone.is_aware(job.created_at) else job.created_at
            columns = f"{created:%Y-%m-%d %H:%M:%S}", f"{job.state:8}", f"{percent:>4}", job.owner, printable(job.title)
            self.stdout.write("  ".join((str(job.pk), *columns)))

    def _say(self, text: str) -> None:
        self.stderr.write(printable(text), str)


class View:
    """What is shown of a job on standard error: a bar in a terminal; elsewhere a line for each tenth and each state.

    Args:
        is_terminal: whether standard error is a terminal.
        say_line: writes a line there.
    """

    def __init__(self, is_terminal: bool, say_line: Callable[[str], None]) -> None:
        self.say_line = say_line
        self.bar = Bar() if is_terminal else None
        self.shown: tuple[Any, ...] = ()
        self.said = ""
        self.seq, self.beats, self.changed_at, self.beaten_at = -1, -1, 0.0, 0.0

    def show(self, job: Job) -> None:
        """Show a job as its row is now.

        Args:
            job: the row.
        """
        if self.bar:
            seconds = (job.finished_at or timezone.now()) - (job.attempt_started_at or job.created_at)
            passed = max(seconds.total_seconds(), 0)
            self.bar.show(job.current or 0, job.total, _words(job), job.percent, seconds=passed, last=job.final)
        else:
            seen = job.state, job.attempt, job.percent is not None and job.percent // 10, job.cancelling
            if seen != self.shown:
                self.shown = seen
                self.say_line(f"{job.percent:3.0f}% {_words(job)}" if job.percent is not None else _words(job))
        if not job.final:
            self._explain(job)

    def _explain(self, job: Job) -> None:
        """Say why there is no news, if there is none."""
        now = time.monotonic()
        beats = sum(RelayLease.objects.values_list("beats", flat=True))
        if beats != self.beats:
            self.beats, self.beaten_at = beats, now
        if job.seq != self.seq:
            self.seq, self.changed_at, self.said = job.seq, now, ""
        if now - self.changed_at < SILENCE:
            return
        if now - self.beaten_at >= SILENCE:
            self.say(NO_RELAY)
        elif not Worker.objects.alive().exists():
            self.say(NO_WORKER)
        elif job.lease_id:
            self.say(NO_NEWS.format(now - self.changed_at))

    def say(self, text: str) -> None:
        """Say something beside the bar, once until there is news.

        Args:
            text: a sentence.
        """
        if not self.said:
            self.said = text
            self.close()
            self.say_line(text)
            self.bar = self.bar and Bar()

    def close(self) -> None:
        """Leave the bar's line."""
        if self.bar:
            self.bar.close()


def _words(job: Job) -> str:
    """Return in words what a job does at the moment."""
    state = "CANCELLING" if job.cancelling else job.state
    attempt = f" (attempt {job.attempt}: {job.reason})" if job.attempt > 1 and job.reason else ""
    about = job.error if job.state == State.RETRY else job.description
    return f"{state}{attempt} {job.title}{f', {about}' if about else ''}"


def _row(task_id: str) -> Job:
    try:
        return Job.objects.get(pk=task_id)
    except (ObjectDoesNotExist, ValidationError):
        raise CommandError(NO_SUCH_JOB.format(task_id), returncode=FAILED) from None


def _owner(user: str) -> str:
    try:
        return user_owner(get_user_model()._default_manager.get_by_natural_key(user))
    except ObjectDoesNotExist:
        raise CommandError(f"There is no user {user!r}. Leave --user out for a visitor of the job's own.") from None


def _param(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is no parameter: write name=value.")
    return name, value


def _file(name: str, path: str) -> "File[bytes]":
    try:
        return File(Path(path).open("rb"), name=Path(path).name)
    except OSError as problem:
        raise CommandError(f"{name}: {path!r} cannot be read: {problem.strerror}.") from None


def _typed(kind: str, params: list[tuple[str, str]], opened: ExitStack) -> dict[str, Any]:
    """Return parameters as the kind's form takes them: those of several values as lists, yes and no as such, files."""
    task = jobs.kinds().get(kind)
    fields = task.form.base_fields if task else {}
    typed: dict[str, Any] = {}
    for name, value in params:
        field = fields.get(name)
        if field and getattr(field.widget, "allow_multiple_selected", False):
            typed.setdefault(name, []).append(value)
        elif name in typed:
            raise CommandError(f"{name}: give it once.")
        elif isinstance(field, forms.FileField):
            typed[name] = opened.enter_context(_file(name, value))
        elif isinstance(field, forms.BooleanField) and value not in ("true", "false"):
            raise CommandError(f"{name}: write {name}=true or {name}=false.")
        else:
            typed[name] = value
    return typed
