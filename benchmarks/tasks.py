"""The measured task: reports on an open-loop schedule, each with the moment it was due."""

import time

from celery import shared_task
from django import forms

from livejobs.task import JobTask


class ReportForm(forms.Form):
    """How many reports, and how many a second."""

    count = forms.IntegerField(initial=100)
    rate = forms.FloatField(initial=10)


@shared_task(base=JobTask, bind=True, form=ReportForm, title="Report")
def report(self: JobTask, count: int, rate: float) -> None:
    """Report `count` times, `rate` times a second, whatever the time a report takes."""
    start = time.time()
    for number in range(1, count + 1):
        due = start + number / rate
        time.sleep(max(0.0, due - time.time()))
        meta = {"current": number, "total": count, "description": f"due={due:.6f}"}
        self.update_state(state="PROGRESS", meta=meta)
