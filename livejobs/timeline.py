"""What has become of a job so far, moment by moment, and what it was started with: for its page."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django import forms
from django.forms.utils import pretty_name

from livejobs.conf import conf
from livejobs.kinds import kinds
from livejobs.models import Job, State
from livejobs.result import readable
from livejobs.uploads import Upload

#: What a field shows in place of a secret.
HIDDEN = "••••••"
ENDS = {State.SUCCESS: "Done", State.FAILURE: "Failed", State.REVOKED: "Cancelled"}


class Moment(NamedTuple):
    """A moment of a job."""

    at: datetime
    what: str
    why: str = ""
    since: timedelta | None = None  #: how long what came before has lasted


def timeline(job: Job) -> list[Moment]:
    """Return the moments of a job that its row knows, in their order. Of the attempts these are the first and the last.

    Args:
        job: which one.
    """
    return sorted(_moments(job))


def _moments(job: Job) -> Iterator[Moment]:
    yield Moment(job.created_at, "Asked for")
    if job.started_at:
        yield Moment(job.started_at, "Begun", since=job.started_at - job.created_at)
    if job.attempt > 1 and job.attempt_started_at:
        yield Moment(job.attempt_started_at, f"Attempt {job.attempt} begun", job.reason)
    if job.state == State.RETRY and job.retry_at:
        yield Moment(job.retry_at, "Begins again", job.error)
    if job.cancelled_at and job.state not in (State.SUCCESS, State.FAILURE):
        yield Moment(job.cancelled_at, "Cancel asked for")
    if job.finished_at:
        began = job.started_at or job.created_at
        yield Moment(job.finished_at, ENDS[State(job.state)], job.error, job.finished_at - began)


def files_kept_until(job: Job) -> datetime | None:
    """Return when the files of a job will be deleted; None if it has none."""
    return job.finished_at + timedelta(hours=conf.FILES_KEEP_HOURS) if job.finished_at and job.files else None


def shown_params(job: Job) -> list[tuple[str, str]]:
    """Return the parameters of a job as its form calls them, each with its value as a person reads it.

    Args:
        job: which one. What a password field has taken is not shown.
    """
    task = kinds().get(job.kind)
    fields: dict[str, forms.Field] = task.form.base_fields if task else {}
    return [
        (str((name in fields and fields[name].label) or pretty_name(name)), _shown(fields.get(name), value))
        for name, value in job.params.items()
        if value not in (None, "", [])
    ]


def _shown(field: forms.Field | None, value: Any) -> str:
    if field and getattr(field.widget, "input_type", "") == "password":
        return HIDDEN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_shown(field, one) for one in value)
    if isinstance(field, forms.FileField):
        return Upload(str(value)).name or ""
    choices = dict(getattr(field, "choices", ()) or ()) if isinstance(field, forms.ChoiceField) else {}
    return str(choices.get(value) or readable(str(value)))
