"""The tasks, one per kind of job. No logic of their own: each calls the work and lets it be tracked."""

from typing import Any

from celery import shared_task

from HomeApp import primes
from HomeApp.forms import CountPrimesForm, SearchForm
from HomeApp.models import SearchResult, State
from HomeApp.progress import JobError, JobTask
from HomeApp.search import provider
from HomeApp.search.provider import SearchFailed


@shared_task(base=JobTask, bind=True, form=CountPrimesForm, title="Primes below {below}")
def count_primes(self: JobTask, below: int) -> int:
    """Count the primes below a number."""
    return primes.count_primes(below, self.track)


@shared_task(base=JobTask, bind=True, form=SearchForm, title="Search: {query}")
def search(self: JobTask, query: str) -> dict[str, Any]:
    """Search, and store what is found."""

    def tell(description: str, partial: str) -> None:
        self.update_state(state=State.PROGRESS, meta={"description": description, "partial": partial})

    try:
        found = provider().search(query, self.track, tell)
    except SearchFailed as failed:
        raise JobError(str(failed)) from None
    SearchResult.objects.replace(self.request.id, found.results)
    return found.as_json()
