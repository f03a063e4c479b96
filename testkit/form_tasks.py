"""Kinds of jobs whose forms have more than a number: each tells in its answer what has arrived."""

from datetime import UTC, datetime
from typing import Any

from celery import shared_task
from django import forms
from django.core.files import File

from livejobs.task import JobError, JobTask, TryAgain


class UploadForm(forms.Form):
    """A file, a moment of two parts, and how many attempts fail."""

    document = forms.FileField(label="Your document")
    when = forms.SplitDateTimeField(label="When it counts", initial=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    failing = forms.IntegerField(min_value=0, initial=0)
    careful = forms.BooleanField(required=False, initial=True)


class WriteForm(forms.Form):
    """A text that may be longer than a frame."""

    text = forms.CharField(label="Your text", widget=forms.Textarea, max_length=100_000)


@shared_task(
    base=JobTask, bind=True, form=UploadForm, title="Read {document}", retry_backoff=False, default_retry_delay=0
)
def read_document(self: JobTask, document: File, when: datetime, failing: int, careful: bool) -> dict[str, Any]:
    """Read a file in each attempt; the last one succeeds, unless so many fail that there is none left."""
    text = document.read().decode()
    if failing > self.max_retries:
        raise JobError(f"{document.name} is never read to its end.")
    if self.request.attempt <= failing:
        raise TryAgain("Not yet.")
    return {"summary": f"{document.name}: {document.size} bytes, {text[:9]}, {when:%Y-%m-%d %H:%M:%S}, {careful}."}


@shared_task(base=JobTask, bind=True, form=WriteForm, title="Write {text}")
def write(self: JobTask, text: str) -> dict[str, Any]:
    """Count the letters of a text."""
    return {"summary": f"{len(text)} letters, from {text[0]} to {text[-1]}."}
