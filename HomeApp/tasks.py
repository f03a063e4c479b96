"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from celery import shared_task

from HomeApp import primes
from HomeApp.forms import CountPrimesForm
from HomeApp.progress import JobTask


@shared_task(base=JobTask, bind=True, form=CountPrimesForm, title="Primes below {below}")
def count_primes(self: JobTask, below: int) -> int:
    """Count the primes below a number."""
    return primes.count_primes(below, self.track)
